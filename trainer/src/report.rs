//! The page that `eval --html` writes: measures, curves, the ranks' histogram, hits and misses.
//!
//! One file with everything in it, so that it can be kept and sent. The template is
//! `report.html` beside this file; plots are SVG.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use image::codecs::jpeg::JpegEncoder;
use minijinja::{Environment, Value, context};
use plotters::prelude::*;

use crate::data::Labels;
use crate::eval::Evaluation;
use crate::images::Reader;
use crate::ranks::{Measures, Ranked, recall};

/// Queries in each gallery, and pictures for each.
const QUERIES: usize = 12;
const PICTURES: usize = 6;
/// Size of a plot, pixels.
const SIZE: (u32, u32) = (560, 320);
const COLOURS: [RGBColor; 3] =
    [RGBColor(31, 119, 180), RGBColor(214, 94, 32), RGBColor(44, 140, 70)];

/// The page for an evaluation; `checkpoint` names it, and its run's log gives the loss.
pub fn page(
    checkpoint: &Path,
    evaluation: &Evaluation,
    labels: &Labels,
    reader: &Reader,
) -> Result<String> {
    let report = &evaluation.report;
    let sets: Vec<(&str, &[Ranked], &Measures)> = [
        ("captions → pictures", &evaluation.captions[..], &report.captions),
        ("pictures → captions", &evaluation.pictures[..], &report.pictures_to_captions),
        ("colour and type → pictures", &evaluation.colour_type[..], &report.colour_type),
    ]
    .into_iter()
    .filter(|(_, ranked, _)| !ranked.is_empty())
    .collect();
    let mut plots = vec![recall_curve(&sets)?];
    for (name, ranked, _) in &sets {
        plots.push(histogram(name, ranked)?);
    }
    if let Some(losses) = losses(checkpoint) {
        plots.push(curves("loss by step", "step", &[("loss", losses)])?);
    }
    let texts: Vec<&str> = labels.captions.iter().map(|caption| caption.text.as_str()).collect();
    let pairs: Vec<&str> = evaluation.colour_type_texts.iter().map(String::as_str).collect();
    let gallery = Gallery { labels, reader };
    let mut galleries = Vec::new();
    for (name, texts, ranked) in [
        ("Captions", &texts, &evaluation.captions),
        ("Colour and type", &pairs, &evaluation.colour_type),
    ] {
        for (title, chosen) in [("hits", hits(ranked)), ("misses", misses(ranked))] {
            if !chosen.is_empty() {
                galleries.push(context! {
                    title => format!("{name}: {title}"),
                    queries => gallery.queries(texts, ranked, &chosen)?,
                });
            }
        }
    }
    let rows: Vec<Value> = sets
        .iter()
        .map(|&(name, _, measures)| context! { name, figures => figures(measures) })
        .collect();
    let mut templates = Environment::new();
    templates.add_template("report.html", include_str!("report.html"))?;
    let page = templates.get_template("report.html")?.render(context! {
        checkpoint => checkpoint.display().to_string(),
        pictures => report.pictures,
        rows, plots, galleries,
    })?;
    Ok(page)
}

/// A row of the table.
fn figures(measures: &Measures) -> Vec<String> {
    let shares =
        [measures.recall_at_1, measures.recall_at_5, measures.recall_at_10, measures.map_at_10];
    std::iter::once(measures.queries.to_string())
        .chain(shares.map(|share| format!("{share:.3}")))
        .chain([format!("{:.2}", measures.mean_rank), measures.median_rank.to_string()])
        .collect()
}

/// Queries whose first picture is right, evenly picked.
fn hits(ranked: &[Ranked]) -> Vec<usize> {
    let all: Vec<usize> = (0..ranked.len()).filter(|&query| ranked[query].rank == 1).collect();
    let every = all.len().div_ceil(QUERIES).max(1);
    all.into_iter().step_by(every).collect()
}

/// The queries whose right picture comes last, the worst first.
fn misses(ranked: &[Ranked]) -> Vec<usize> {
    let mut all: Vec<usize> = (0..ranked.len()).filter(|&query| ranked[query].rank > 1).collect();
    all.sort_by_key(|&query| std::cmp::Reverse(ranked[query].rank));
    all.truncate(QUERIES);
    all
}

struct Gallery<'a> {
    labels: &'a Labels,
    reader: &'a Reader,
}

impl Gallery<'_> {
    /// The chosen queries with their first pictures, and the right one where it is not among them.
    fn queries(&self, texts: &[&str], ranked: &[Ranked], chosen: &[usize]) -> Result<Vec<Value>> {
        chosen
            .iter()
            .map(|&query| {
                let found = &ranked[query];
                let mut shown = Vec::new();
                for &(picture, score, right) in found.first.iter().take(PICTURES) {
                    shown.push(self.picture(picture, &format!("{score:.3}"), right)?);
                }
                if found.rank > PICTURES {
                    shown.push(self.picture(found.best, &format!("rank {}", found.rank), true)?);
                }
                Ok(context! { text => texts[query], rank => found.rank, pictures => shown })
            })
            .collect()
    }

    fn picture(&self, index: usize, note: &str, right: bool) -> Result<Value> {
        let sample = &self.labels.samples[index];
        let caption = &self.labels.captions[sample.captions[0] as usize].text;
        let size = self.reader.size as u32;
        let pixels = self.reader.read(&sample.place)?;
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, 85).encode(
            &pixels,
            size,
            size,
            image::ExtendedColorType::Rgb8,
        )?;
        Ok(context! {
            data => BASE64.encode(jpeg),
            title => format!("{}: {caption}", sample.place),
            note, right,
        })
    }
}

/// Share of queries with a positive among the first k, for k up to 50.
fn recall_curve(sets: &[(&str, &[Ranked], &Measures)]) -> Result<String> {
    let series: Vec<(&str, Vec<(f64, f64)>)> = sets
        .iter()
        .map(|(name, ranked, _)| {
            let ranks: Vec<usize> = ranked.iter().map(|query| query.rank).collect();
            (*name, (1..=50).map(|k| (k as f64, recall(&ranks, k))).collect())
        })
        .collect();
    curves("recall at k", "k", &series)
}

/// The losses that a run's out.log tells, by step; `None` where there is no such log.
fn losses(checkpoint: &Path) -> Option<Vec<(f64, f64)>> {
    let log = checkpoint
        .ancestors()
        .take(3)
        .find_map(|folder| fs::read_to_string(folder.join("out.log")).ok())?;
    let points: Vec<(f64, f64)> = log
        .lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("step ")?.split(' ');
            let step = words.next()?.parse().ok()?;
            let loss = words.skip_while(|&word| word != "loss").nth(1)?.parse().ok()?;
            Some((step, loss))
        })
        .collect();
    (points.len() > 1).then_some(points)
}

fn curves(title: &str, x: &str, series: &[(&str, Vec<(f64, f64)>)]) -> Result<String> {
    let points = || series.iter().flat_map(|(_, points)| points);
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        points().map(of).fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)))
    };
    let ((left, right), (_, top)) = (bounds(|p| p.0), bounds(|p| p.1));
    let mut svg = String::new();
    draw(&mut svg, title, |area| {
        let mut chart = chart(area, title)
            .build_cartesian_2d(left..right.max(left + 1.0), 0.0..(1.05 * top).max(1e-9))?;
        chart.configure_mesh().x_desc(x).light_line_style(WHITE).draw()?;
        for ((name, points), colour) in series.iter().zip(COLOURS.iter().cycle()) {
            let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2));
            let colour = *colour;
            chart
                .draw_series(line)?
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).draw()?;
        Ok(())
    })?;
    Ok(svg)
}

/// How many queries have their first positive at which places.
fn histogram(name: &str, ranked: &[Ranked]) -> Result<String> {
    const BINS: [usize; 8] = [1, 2, 5, 10, 20, 50, 100, usize::MAX];
    const NAMES: [&str; 8] = ["1", "2", "3–5", "6–10", "11–20", "21–50", "51–100", "over 100"];
    let mut counts = [0usize; BINS.len()];
    for query in ranked {
        counts[BINS.partition_point(|&end| end < query.rank)] += 1;
    }
    let top = counts.iter().copied().max().unwrap_or(0).max(1);
    let title = format!("{name}: rank of the first right one");
    let mut svg = String::new();
    draw(&mut svg, &title, |area| {
        let mut chart = chart(area, &title)
            .build_cartesian_2d((0..BINS.len() - 1).into_segmented(), 0..top + top / 20 + 1)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .x_labels(BINS.len())
            .x_label_formatter(&|at| match at {
                SegmentValue::Exact(at) | SegmentValue::CenterOf(at) => {
                    NAMES.get(*at).copied().unwrap_or("").into()
                }
                SegmentValue::Last => String::new(),
            })
            .draw()?;
        let bars = counts.iter().enumerate().map(|(at, &count)| (at, count));
        chart.draw_series(
            Histogram::vertical(&chart).style(COLOURS[0].filled()).margin(6).data(bars),
        )?;
        Ok(())
    })?;
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;

fn draw(svg: &mut String, title: &str, content: impl FnOnce(&Area) -> Drawn) -> Result<()> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let drawn = area.fill(&WHITE).map_err(Into::into).and_then(|()| content(&area));
    let drawn = drawn.and_then(|()| area.present().map_err(Into::into));
    drawn
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("cannot plot {title}"))
}

fn chart<'a, 'b>(area: &'a Area<'b>, title: &str) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut chart = ChartBuilder::on(area);
    chart.caption(title, ("sans-serif", 16)).margin(10);
    chart.x_label_area_size(36).y_label_area_size(48);
    chart
}
