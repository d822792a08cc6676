//! The generated sets: vectors of `pgclip_testkit::vectors`, as rows, queries and what is inserted later.

use pgclip_testkit::dice::Dice;
use pgclip_testkit::vectors::{self, World, take_out};

use super::model::Model;
use super::{Data, Vectors};
use crate::side::Metric;

const BASE: u64 = 2;
const LATER: u64 = 3;
const OWN_QUERIES: u64 = 4;
const TEXT_QUERIES: u64 = 5;
const MODEL_TEXTS: u64 = 6;

/// Texts that a model's mean direction is made of, none of them a query.
const OTHER_TEXTS: usize = 1000;

fn draw(
    dims: usize,
    count: usize,
    stream: u64,
    one: impl Fn(&mut Dice) -> Vec<half::f16> + Sync,
) -> Vectors {
    Vectors::new(dims, vectors::draw(count, stream, one).concat())
}

/// Clustered images, with queries of their own kind and text-like ones.
pub fn clustered(metric: Metric, dims: usize, rows: usize, queries: usize) -> Data {
    let world = World::new(dims, rows);
    let image = |dice: &mut Dice| world.image(dice);
    let text = |dice: &mut Dice| world.text(dice);
    Data {
        title: format!("{rows} generated vectors of {dims} dimensions, clustered"),
        metric,
        base: draw(dims, rows, BASE, image),
        later: draw(dims, later(rows), LATER, image),
        own: draw(dims, queries, OWN_QUERIES, image),
        text: Some(draw(dims, queries, TEXT_QUERIES, text)),
        frames: false,
        model: Some(Model::OfTexts(draw(dims, OTHER_TEXTS, MODEL_TEXTS, text))),
    }
}

/// Bursts of near-duplicate frames, burst after burst. A query is a frame taken out of one of them.
pub fn frames(metric: Metric, dims: usize, rows: usize, queries: usize) -> Data {
    let wanted = rows + later(rows) + queries;
    // Every n-th frame is taken out of its burst: first the queries, of what is left the later rows.
    let (own, all) = take_out(World::new(dims, rows).frames(wanted), queries);
    let (later, base) = take_out(all, later(rows));
    let [own, later, base] = [own, later, base].map(|set| Vectors::new(dims, set.concat()));
    let title = format!("{rows} generated frames of {dims} dimensions, in bursts");
    Data { title, metric, base, later, own, text: None, frames: true, model: None }
}

/// How many rows are kept for inserts.
pub fn later(rows: usize) -> usize {
    (rows / 50).min(2000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosines(queries: &Vectors, base: &Vectors) -> (f32, f32) {
        let (mut nearest, mut all) = (0.0, 0.0);
        for query in queries.iter() {
            let cosines: Vec<f32> = base.iter().map(|x| pgclip_simd::dot(x, query)).collect();
            nearest += cosines.iter().copied().fold(f32::MIN, f32::max);
            all += cosines.iter().sum::<f32>() / base.len() as f32;
        }
        (nearest / queries.len() as f32, all / queries.len() as f32)
    }

    #[test]
    fn the_same_on_every_machine() {
        let data = clustered(Metric::Cosine, 32, 500, 10);
        let again = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let again = again.install(|| clustered(Metric::Cosine, 32, 500, 10));
        assert_eq!(data.base, again.base);
        assert_eq!(data.text, again.text);
        assert_eq!((data.rows(), data.later.len(), data.own.len()), (500, 10, 10));
        let frames = frames(Metric::Cosine, 32, 500, 10);
        assert_eq!((frames.rows(), frames.later.len(), frames.own.len()), (500, 10, 10));
    }

    #[test]
    fn vectors_have_length_one() {
        let data = clustered(Metric::Cosine, 100, 50, 10);
        let texts = data.text.as_ref().unwrap();
        for vector in data.base.iter().chain(texts.iter()) {
            let norm = pgclip_simd::squared_norm(vector);
            assert!((norm - 1.0).abs() < 2e-3, "{norm}");
        }
    }

    #[test]
    fn texts_are_far_from_all_images() {
        let data = clustered(Metric::Cosine, 384, 4000, 20);
        let (nearest, average) = cosines(data.text.as_ref().unwrap(), &data.base);
        assert!((0.18..0.35).contains(&nearest), "{nearest}");
        assert!((-0.08..0.12).contains(&average), "{average}");
        let (nearest, average) = cosines(&data.own, &data.base);
        assert!((0.5..0.9).contains(&nearest), "{nearest}");
        assert!((0.1..0.4).contains(&average), "{average}");
    }

    #[test]
    fn frames_have_near_duplicates() {
        let data = frames(Metric::Cosine, 384, 4000, 20);
        let (nearest, average) = cosines(&data.own, &data.base);
        assert!(nearest > 0.98, "{nearest}");
        assert!(average < 0.5, "{average}");
    }
}
