//! Plots as SVG files: lines over one logarithmic or linear axis, and bars.

use std::path::Path;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::*;

const SIZE: (u32, u32) = (860, 480);
const FONT: &str = "sans-serif";
/// Told apart by most people, also in print (Okabe and Ito).
static COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
];

/// Names and units.
pub struct Labels<'a> {
    /// What is shown.
    pub title: &'a str,
    /// The axis to the right, with its unit.
    pub x: &'a str,
    /// The axis upwards, with its unit.
    pub y: &'a str,
}

/// A line with its name.
pub type Line = (String, Vec<(f64, f64)>);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// How the axis to the right is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly, from 0.
    Linear,
    /// By powers of ten, from the first point.
    Logarithmic,
}

/// Lines over an axis to the right; upwards from 0.
///
/// # Errors
/// When there is nothing to show or the file cannot be written.
pub fn lines(path: &Path, labels: &Labels<'_>, scale: Scale, lines: &[Line]) -> anyhow::Result<()> {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let low = points().map(|(x, _)| *x).reduce(f64::min).ok_or_else(|| anyhow!("nothing to plot"))?;
    let high = points().map(|(x, _)| *x).fold(low, f64::max).max(low * 1.01);
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max) * 1.08;
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    match scale {
        Scale::Linear => draw(&area, labels, lines, 0.0..high, top)?,
        Scale::Logarithmic => draw(&area, labels, lines, (low..high).log_scale(), top)?,
    }
    Ok(area.present()?)
}

fn draw<X>(area: &Area<'_>, labels: &Labels<'_>, lines: &[Line], x: X, top: f64) -> anyhow::Result<()>
where
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .caption(labels.title, (FONT, 20))
        .margin(16)
        .margin_right(28)
        .x_label_area_size(52)
        .y_label_area_size(84)
        .build_cartesian_2d(x, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(labels.x)
        .y_desc(labels.y)
        .x_labels(7)
        .x_label_formatter(&|x| short(*x))
        .y_label_formatter(&|y| short(*y))
        .label_style((FONT, 14))
        .axis_desc_style((FONT, 15))
        .light_line_style(WHITE)
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let key = move |(x, y)| PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(3));
        chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?.label(name.clone()).legend(key);
        if points.len() < 40 {
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        }
    }
    if lines.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.3))
            .label_font((FONT, 14))
            .draw()?;
    }
    Ok(())
}

/// A bar lying for each name, the value written behind it.
///
/// # Errors
/// When there is nothing to show or the file cannot be written.
pub fn bars(path: &Path, labels: &Labels<'_>, bars: &[(String, f64)]) -> anyhow::Result<()> {
    const ROW: i32 = 34;
    const LEFT: i32 = 280;
    const RIGHT: i32 = 730;
    const TOP: i32 = 64;
    let most =
        bars.iter().map(|(_, value)| *value).reduce(f64::max).filter(|most| *most > 0.0).ok_or_else(|| anyhow!("nothing to plot"))?;
    let height = TOP + ROW * i32::try_from(bars.len())? + 44;
    let area: Area<'_> = SVGBackend::new(path, (SIZE.0, height.unsigned_abs())).into_drawing_area();
    area.fill(&WHITE)?;
    area.draw(&Text::new(labels.title.to_owned(), (16, 18), (FONT, 20)))?;
    for ((row, (name, value)), colour) in (0..).zip(bars).zip(COLOURS.iter().cycle()) {
        let y = TOP + ROW * row;
        let end = LEFT + (f64::from(RIGHT - LEFT) * value / most) as i32;
        area.draw(&Text::new(name.clone(), (16, y + 4), (FONT, 15)))?;
        area.draw(&Rectangle::new([(LEFT, y), (end.max(LEFT + 1), y + ROW - 12)], colour.filled()))?;
        area.draw(&Text::new(short(*value), (end.max(LEFT + 1) + 8, y + 4), (FONT, 15)))?;
    }
    area.draw(&Text::new(labels.x.to_owned(), (LEFT, height - 32), (FONT, 15)))?;
    Ok(area.present()?)
}

/// A number as people read it: 1,234 · 12 k · 1.5 M.
fn short(value: f64) -> String {
    let trimmed = |text: String| text.trim_end_matches('0').trim_end_matches('.').to_owned();
    match value.abs() {
        above if above >= 1e6 => trimmed(format!("{:.2}", value / 1e6)) + " M",
        above if above >= 1e4 => format!("{:.0} k", value / 1e3),
        above if above >= 1e3 => format!("{:.0},{:03.0}", (value / 1e3).floor(), value.rem_euclid(1e3)),
        above if above >= 10.0 || above == 0.0 => format!("{value:.0}"),
        _ => trimmed(format!("{value:.2}")),
    }
}
