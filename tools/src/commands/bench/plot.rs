//! Line charts side by side, as SVG.

use std::io::Write;
use std::path::Path;

use gpt2::AtomicFile;
use plotters::prelude::*;

use crate::failure::Failure;

/// Points joined by a line.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A chart of milliseconds; both axes are logarithmic, since sizes double from test to test.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) across: &'static str,
    pub(super) lines: Vec<Line>,
}

/// Width and height of one chart.
const SIZE: (u32, u32) = (560, 420);
/// Colours that people with any colour vision tell apart (Okabe and Ito).
const COLORS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// Draws the charts into a file, which appears whole or not at all.
pub(super) fn draw(path: &Path, force: bool, charts: &[Chart]) -> Result<(), Failure> {
    // Before the drawing, so that an existing file is refused.
    let mut file = AtomicFile::create(path, force)?;
    let svg = svg(charts).map_err(|error| Failure::Work(format!("drawing failed: {error}")))?;
    file.write_all(svg.as_bytes())
        .map_err(|error| gpt2::Error::io(path, error))?;
    Ok(file.finish()?)
}

fn svg(charts: &[Chart]) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::new();
    {
        let size = (SIZE.0 * charts.len() as u32, SIZE.1);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (area, chart) in root.split_evenly((1, charts.len())).iter().zip(charts) {
            draw_chart(area, chart)?;
        }
        root.present()?;
    }
    Ok(text)
}

fn draw_chart(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    chart: &Chart,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || chart.lines.iter().flat_map(|line| &line.points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (least, most) = points()
            .map(of)
            .fold((f64::MAX, f64::MIN), |(least, most), x| {
                (least.min(x), most.max(x))
            });
        // Room around the lines, and a range even for a single point.
        (least / 1.15..most * 1.15).log_scale()
    };
    let mut context = ChartBuilder::on(area)
        .caption(&chart.title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(62)
        .build_cartesian_2d(range(|point| point.0), range(|point| point.1))?;
    context
        .configure_mesh()
        .x_desc(chart.across)
        .y_desc("milliseconds")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .light_line_style(WHITE)
        .draw()?;
    for (line, color) in chart.lines.iter().zip(COLORS.iter().cycle()) {
        let style = color.stroke_width(2);
        context
            .draw_series(LineSeries::new(line.points.iter().copied(), style))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        context.draw_series(
            line.points
                .iter()
                .map(|&point| Circle::new(point, 3, color.filled())),
        )?;
    }
    context
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_drawn_and_named() {
        let line = |name: &str, slope: f64| Line {
            name: name.to_owned(),
            points: [1.0, 2.0, 4.0].map(|x| (x, slope * x)).to_vec(),
        };
        let chart = || Chart {
            title: "512 tokens a sequence".to_owned(),
            across: "sequences",
            lines: vec![line("plain", 3.0), line("flash & more", 2.0)],
        };
        let text = svg(&[chart(), chart()]).unwrap();
        assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"));
        assert_eq!(text.matches("512 tokens a sequence").count(), 2);
        assert_eq!(text.matches("flash &amp; more").count(), 2);
        assert_eq!(text.matches("<circle").count(), 2 * 2 * 3);
    }
}
