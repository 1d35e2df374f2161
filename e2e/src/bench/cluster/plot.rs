//! The plot of a benchmark, as SVG.

use std::path::Path;

use plotters::prelude::*;

use super::{
    BenchError,
    report::sorted,
    report::{Plot, Series},
};
use crate::bench::figures::quantile;

const SIZE: (u32, u32) = (760, 420);
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 94, 168), RGBColor(210, 94, 30), RGBColor(46, 125, 80), RGBColor(120, 70, 150)];
/// A cloud of more points is thinned: a plot is looked at, and committed.
const MOST_POINTS: usize = 600;

/// Draws it into a file.
pub(super) fn draw(plot: &Plot, title: &str, file: &Path) -> Result<(), BenchError> {
    let failed = |why: String| BenchError::Plot { file: file.display().to_string(), why };
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    drawn(plot, title, &root).map_err(|error| failed(error.to_string()))?;
    root.present().map_err(|error| failed(error.to_string()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn drawn(plot: &Plot, title: &str, root: &Area<'_>) -> Result<(), Box<dyn std::error::Error>> {
    root.fill(&WHITE)?;
    let (x, y) = (range(plot, |point| point.0, 1.0), range(plot, |point| point.1, 0.99));
    let mut chart = ChartBuilder::on(root)
        .caption(title, ("sans-serif", 17))
        .margin(12)
        .x_label_area_size(38)
        .y_label_area_size(58)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(plot.x)
        .y_desc(plot.y)
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(225, 225, 225))
        .draw()?;
    for (series, colour) in plot.series.iter().zip(COLOURS.iter().cycle()) {
        if series.cloud {
            let points = thinned(series).map(|point| Circle::new(point, 2, colour.mix(0.55).filled()));
            let drawn = chart.draw_series(points)?;
            drawn.label(&series.name).legend(|(x, y)| Circle::new((x + 8, y), 3, colour.filled()));
        } else {
            let drawn = chart.draw_series(LineSeries::new(series.points.clone(), colour.stroke_width(2)))?;
            drawn
                .label(&series.name)
                .legend(|(x, y)| PathElement::new(vec![(x, y), (x + 16, y)], colour.stroke_width(2)));
        }
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .draw()?;
    Ok(())
}

/// From zero, or from the least, to what this share of the points does not exceed.
fn range(plot: &Plot, of: impl Fn(&(f64, f64)) -> f64, share: f64) -> std::ops::Range<f64> {
    let all = plot.series.iter().flat_map(|series| &series.points).map(of).filter(|it| it.is_finite());
    let all = sorted(&all.collect::<Vec<_>>());
    let least = all.first().copied().unwrap_or_default().min(0.0);
    let most = quantile(&all, share);
    // Something to see where all is zero, or nothing is there.
    let most = if most > least { most } else { least + 1.0 };
    least..most * 1.08
}

fn thinned(series: &Series) -> impl Iterator<Item = (f64, f64)> {
    let step = series.points.len().div_ceil(MOST_POINTS).max(1);
    series.points.iter().copied().step_by(step)
}
