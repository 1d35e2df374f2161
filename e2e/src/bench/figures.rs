//! Figures: what a run measured, and the medians of several runs as JSON lines.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// One figure of one run: a name, and numbers with their units in their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What was measured.
    pub name: &'static str,
    /// The numbers.
    pub numbers: Vec<(&'static str, f64)>,
}

/// Figures of several runs of one setting.
#[derive(Debug, Default)]
pub struct Summary {
    runs: Vec<Vec<Figure>>,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, run: Vec<Figure>) {
        self.runs.push(run);
    }

    /// One JSON object per figure: its inputs, the median of each number, and with several runs its least and greatest.
    pub fn lines(&self, inputs: &Map<String, Value>) -> Vec<Value> {
        let Some(first) = self.runs.first() else { return Vec::new() };
        first.iter().enumerate().map(|(index, figure)| self.line(index, figure, inputs)).collect()
    }

    fn line(&self, index: usize, figure: &Figure, inputs: &Map<String, Value>) -> Value {
        let mut line = Map::new();
        line.insert("figure".into(), figure.name.into());
        line.extend(inputs.clone());
        line.insert("runs".into(), self.runs.len().into());
        for (place, (name, _)) in figure.numbers.iter().enumerate() {
            let numbers = self.runs.iter().filter_map(|run| Some(run.get(index)?.numbers.get(place)?.1));
            let mut numbers: Vec<f64> = numbers.collect();
            numbers.sort_by(f64::total_cmp);
            let (Some(least), Some(greatest)) = (numbers.first(), numbers.last()) else { continue };
            line.insert((*name).into(), json!(short(quantile(&numbers, 0.5))));
            if self.runs.len() > 1 {
                line.insert(format!("{name}_range"), json!([short(*least), short(*greatest)]));
            }
        }
        Value::Object(line)
    }
}

/// A quantile of sorted numbers: the smallest that at least that share does not exceed.
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    // Counts are small, so nothing is lost.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// Milliseconds.
pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Mebibytes.
#[allow(clippy::cast_precision_loss)] // memory of a machine
pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn short(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_numbers() {
        let numbers = [1.0, 2.0, 3.0, 4.0];
        for (share, expected) in [(0.0, 1.0), (0.5, 2.0), (0.75, 3.0), (0.99, 4.0), (1.0, 4.0)] {
            // One of the numbers itself, not a mean of two.
            assert!((quantile(&numbers, share) - expected).abs() < f64::EPSILON, "{share}");
        }
    }

    #[test]
    fn a_line_has_the_inputs_the_median_and_the_range() {
        let mut summary = Summary::default();
        for number in [3.0, 1.0, 2.000_44] {
            summary.add(vec![Figure { name: "speed", numbers: vec![("ms", number)] }]);
        }
        let inputs = Map::from_iter([("routes".to_owned(), 10.into())]);
        let expected = json!({"figure": "speed", "routes": 10, "runs": 3, "ms": 2.0, "ms_range": [1.0, 3.0]});
        assert_eq!(summary.lines(&inputs), [expected]);
    }
}
