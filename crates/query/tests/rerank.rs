//! Re-ranking: a permutation whatever comes in, the same each time, and what it is for: candidates
//! that look like the best ones move up. Beside the crate, since all of it is seen from outside.

use pgclip_query::rerank::{Adaption, Options, rerank};
use proptest::prelude::*;

const ADAPTIONS: [Adaption; 3] = [Adaption::Component, Adaption::WeightedMean, Adaption::Mean];

fn with(adaption: Adaption) -> Options {
    Options { adaption, ..Options::default() }
}

fn assert_permutation(order: &[usize], n: usize) {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    assert!(sorted.iter().copied().eq(0..n), "{order:?} is no permutation of {n}");
}

/// Any bits at all, special values often.
fn number() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -1.0_f32..1.0,
        2 => any::<u32>().prop_map(f32::from_bits),
        1 => Just(0.0),
        1 => Just(f32::MAX),
        1 => Just(-f32::MAX),
        1 => Just(f32::from_bits(1)),
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
        1 => Just(f32::NEG_INFINITY),
    ]
}

fn options() -> impl Strategy<Value = Options> {
    let adaption = prop::sample::select(ADAPTIONS.to_vec());
    let weight = || prop_oneof![0.0_f32..=1.0, number()];
    (adaption, 0_usize..40, 0_usize..40, weight(), weight()).prop_map(
        |(adaption, best, neighbours, shared, text)| Options {
            adaption,
            best,
            neighbours,
            shared,
            text,
        },
    )
}

/// Embeddings, dims and scores.
fn candidates() -> impl Strategy<Value = (Vec<f32>, usize, Vec<f32>)> {
    (0_usize..30, 0_usize..20).prop_flat_map(|(n, dims)| {
        (prop::collection::vec(number(), n * dims), Just(dims), prop::collection::vec(number(), n))
    })
}

proptest! {
    #[test]
    fn any_input_gives_the_same_permutation_each_time(
        (embeddings, dims, scores) in candidates(), options in options()
    ) {
        let order = rerank(&embeddings, dims, &scores, &options);
        assert_permutation(&order, scores.len());
        prop_assert_eq!(order, rerank(&embeddings, dims, &scores, &options));
    }

    /// Only directions count.
    #[test]
    fn lengths_do_not_matter(
        rows in prop::collection::vec(prop::collection::vec(-1.0_f32..1.0, 8), 2..30),
        exponents in prop::collection::vec(-20_i32..20, 30),
        options in options()
    ) {
        let scores: Vec<f32> = (0..rows.len()).map(|at| 0.3 - at as f32 / 100.0).collect();
        let scaled = rows.iter().zip(&exponents).flat_map(|(row, exponent)| {
            row.iter().map(|x| x * 2.0_f32.powi(*exponent))
        });
        let scaled: Vec<f32> = scaled.collect();
        prop_assert_eq!(
            rerank(&rows.concat(), 8, &scores, &options),
            rerank(&scaled, 8, &scores, &options)
        );
    }

    /// What is asked of the scores is their order and their proportions.
    #[test]
    fn the_scale_of_scores_does_not_matter(
        embeddings in prop::collection::vec(-1.0_f32..1.0, 160),
        scores in prop::collection::vec(-1.0_f32..1.0, 20),
        options in options()
    ) {
        let doubled: Vec<f32> = scores.iter().map(|score| score * 2.0).collect();
        prop_assert_eq!(
            rerank(&embeddings, 8, &scores, &options),
            rerank(&embeddings, 8, &doubled, &options)
        );
    }
}

#[test]
fn none_and_one() {
    for adaption in ADAPTIONS {
        assert!(rerank(&[], 4, &[], &with(adaption)).is_empty());
        assert_eq!(rerank(&[0.5, 0.5], 2, &[0.1], &with(adaption)), [0]);
        assert_eq!(rerank(&[], 0, &[0.1, 0.3, f32::NAN], &with(adaption)), [1, 0, 2]);
    }
}

/// Where candidates do not differ, their scores decide; where these do not, their order.
#[test]
fn identical_candidates_keep_the_order_of_their_scores() {
    // No more than count as each other's neighbours: all then share all of them.
    let embeddings = [0.6, 0.8].repeat(9);
    let mut scores = vec![0.5; 9];
    for adaption in ADAPTIONS {
        let kept: Vec<usize> = (0..9).collect();
        assert_eq!(rerank(&embeddings, 2, &scores, &with(adaption)), kept);
        assert_eq!(rerank(&embeddings, 2, &[0.0; 9], &with(adaption)), kept);
    }
    scores[7] = 0.9;
    for adaption in ADAPTIONS {
        let order = rerank(&embeddings, 2, &scores, &with(adaption));
        assert_eq!(order, [7, 0, 1, 2, 3, 4, 5, 6, 8]);
    }
}

#[test]
fn zeros_and_opposites_have_an_order() {
    for adaption in ADAPTIONS {
        for embeddings in [[0.0; 8], [1.0, 0.0, -1.0, 0.0, 1.0, 0.0, -1.0, 0.0]] {
            for scores in [[0.0; 4], [0.1, 0.4, 0.2, 0.3]] {
                assert_permutation(&rerank(&embeddings, 2, &scores, &with(adaption)), 4);
            }
        }
        let zeros = rerank(&[0.0; 8], 2, &[0.1, 0.4, 0.2, 0.3], &with(adaption));
        assert_eq!(zeros, [1, 3, 2, 0], "nothing but scores tells them apart");
    }
}

/// The sign of a principal component is arbitrary: with the wrong one, the best would come last.
#[test]
fn the_adapted_query_points_to_the_candidates() {
    let row = |angle: f32| [angle.cos(), angle.sin(), 0.0, 0.0];
    for turn in 0..32 {
        let start = turn as f32 * 0.2;
        let rows: Vec<[f32; 4]> = (0..20).map(|at| row(start + at as f32 * 0.15)).collect();
        let scores: Vec<f32> = (0..20).map(|at| 0.4 - at as f32 * 0.01).collect();
        for adaption in ADAPTIONS {
            let options = Options { shared: 0.0, text: 0.0, ..with(adaption) };
            let order = rerank(&rows.concat(), 4, &scores, &options);
            assert_eq!(order.last(), Some(&19), "{adaption:?} at {start}");
        }
    }
}

/// Two kinds of pictures, which the text hardly tells apart: most of the best are of one kind, and
/// re-ranking brings all of that kind before the other.
#[test]
fn a_kind_that_is_most_of_the_best_comes_first() {
    let dims = 64;
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    // The kind of each candidate, by falling score.
    let kinds = [0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1];
    let mut embeddings = Vec::new();
    for kind in kinds {
        for at in 0..dims {
            let centre = if at % 2 == kind { 1.0 } else { 0.0 };
            embeddings.push(centre + noise());
        }
    }
    let scores: Vec<f32> = (0..kinds.len()).map(|at| 0.35 - at as f32 * 1e-3).collect();
    let split = kinds.iter().filter(|&&kind| kind == 0).count();
    let right = |order: &[usize]| order[..split].iter().filter(|&&at| kinds[at] == 0).count();
    let before = right(&(0..kinds.len()).collect::<Vec<_>>());
    for adaption in ADAPTIONS {
        let pure = Options { text: 0.0, ..with(adaption) };
        let order = rerank(&embeddings, dims, &scores, &pure);
        assert_eq!(right(&order), split, "{adaption:?}: {order:?}");
        let order = rerank(&embeddings, dims, &scores, &with(adaption));
        assert!(right(&order) > before, "{adaption:?} with the text's scores: {order:?}");
        let text = Options { text: 1.0, ..with(adaption) };
        assert!(rerank(&embeddings, dims, &scores, &text).is_sorted(), "{adaption:?}");
    }
}

#[test]
fn adaptions_have_names() {
    for (name, adaption) in Adaption::NAMES {
        assert_eq!(Adaption::named(name), Some(adaption));
    }
    assert_eq!(Adaption::named("Adaption"), None);
    assert_eq!(Adaption::named(""), None);
}

#[test]
#[should_panic(expected = "3 candidates of 2 dimensions")]
fn rows_that_do_not_fit_are_refused() {
    rerank(&[0.0; 5], 2, &[0.0; 3], &Options::default());
}
