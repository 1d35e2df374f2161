//! What a benchmark found: one JSON line, and points for a plot.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::bench::figures::quantile;

/// One line.
#[derive(Debug, Clone)]
pub(super) struct Report {
    pub(super) name: &'static str,
    title: &'static str,
    inputs: Map<String, Value>,
    figures: Map<String, Value>,
    bars: Vec<Bar>,
    pub(super) plot: Option<Plot>,
}

/// What a figure must not exceed.
#[derive(Debug, Clone)]
struct Bar {
    what: String,
    most: f64,
    value: f64,
}

/// What is drawn of a benchmark.
#[derive(Debug, Clone, Default)]
pub(super) struct Plot {
    pub(super) x: &'static str,
    pub(super) y: &'static str,
    pub(super) series: Vec<Series>,
}

/// A line, or a cloud of points.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) cloud: bool,
    pub(super) points: Vec<(f64, f64)>,
}

impl Report {
    pub(super) fn new(name: &'static str, title: &'static str) -> Self {
        Self { name, title, inputs: Map::new(), figures: Map::new(), bars: Vec::new(), plot: None }
    }

    /// Notes an input.
    pub(super) fn input(&mut self, name: &str, value: impl Into<Value>) {
        self.inputs.insert(name.into(), value.into());
    }

    /// Notes a figure; its unit is in its name.
    pub(super) fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.into(), json!(short(value)));
    }

    /// Notes something that is no number.
    pub(super) fn note(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.into(), value.into());
    }

    /// Notes the median and the 99th percentile of times in milliseconds.
    pub(super) fn times(&mut self, name: &str, times: &[f64]) -> (f64, f64) {
        let sorted = sorted(times);
        let (p50, p99) = (quantile(&sorted, 0.5), quantile(&sorted, 0.99));
        self.figure(&format!("{name}_p50_ms"), p50);
        self.figure(&format!("{name}_p99_ms"), p99);
        (p50, p99)
    }

    /// A figure, and the most that it may be. Whether it is met is reported, never hidden.
    pub(super) fn bar(&mut self, what: impl Into<String>, most: f64, value: f64) {
        self.bars.push(Bar { what: what.into(), most, value });
    }

    /// Some of its figures, by name.
    pub(super) fn summary(&self, names: &[&str]) -> Value {
        let figures = self.figures.iter().filter(|(name, _)| names.contains(&name.as_str()));
        Value::Object(figures.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    /// A figure by name.
    pub(super) fn get(&self, name: &str) -> Option<f64> {
        self.figures.get(name)?.as_f64()
    }

    /// As it is printed; `floor` is B0 of the same run.
    pub(super) fn line(&self, floor: &Value) -> Value {
        let bars = self.bars.iter().map(|bar| {
            // Of the value itself: 1.0004 is printed as 1.
            let met = bar.value <= bar.most;
            json!({"what": bar.what, "bar": short(bar.most), "value": short(bar.value), "met": met})
        });
        json!({
            "bench": self.name,
            "title": self.title,
            "inputs": self.inputs,
            "figures": self.figures,
            "floor": floor,
            "bars": bars.collect::<Vec<_>>(),
        })
    }
}

impl Series {
    /// Points that are joined.
    pub(super) fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), cloud: false, points }
    }

    /// Points that are not.
    pub(super) fn cloud(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), cloud: true, points }
    }
}

/// Sorted numbers.
pub(super) fn sorted(numbers: &[f64]) -> Vec<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Milliseconds from one event to another; negative where the other came first.
pub(super) fn between(from: Instant, to: Instant) -> f64 {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    to.checked_duration_since(from).map_or_else(|| -ms(from.duration_since(to)), ms)
}

/// The slope of the line that fits points best (least squares).
pub(super) fn slope(points: &[(f64, f64)]) -> f64 {
    let count = count(points.len());
    let (mean_x, mean_y) =
        points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0 / count, y + point.1 / count));
    let (with, of) = points.iter().fold((0.0, 0.0), |(with, of), (x, y)| {
        (with + (x - mean_x) * (y - mean_y), of + (x - mean_x).powi(2))
    });
    with / of
}

/// A count as a number to calculate with.
#[allow(clippy::cast_precision_loss)] // far below 2^52
pub(super) fn count(count: usize) -> f64 {
    count as f64
}

fn short(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_a_line() {
        let points = [(1.0, 3.0), (2.0, 5.0), (3.0, 7.0)];
        assert!((slope(&points) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_missed_bar_is_in_the_line() {
        let mut report = Report::new("b", "A title");
        report.bar("ms", 5.0, 5.0);
        report.bar("ms", 5.0, 5.01);
        report.bar("ms", 5.0, 5.000_01);
        let line = report.line(&Value::Null);
        assert_eq!(line["bars"][0]["met"], true);
        assert_eq!(line["bars"][1]["met"], false);
        assert_eq!((&line["bars"][2]["value"], &line["bars"][2]["met"]), (&json!(5.0), &json!(false)));
    }

    #[test]
    fn time_runs_in_both_directions() {
        let now = Instant::now();
        let later = now + Duration::from_millis(2);
        assert!((between(now, later) - 2.0).abs() < 1e-9);
        assert!((between(later, now) + 2.0).abs() < 1e-9);
    }
}
