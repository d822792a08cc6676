//! Schedule, measures, loss, tables and batches, on values worked out by hand.

mod common;

use pgclip_train::batch::Sampler;
use pgclip_train::loss::contrastive;
use pgclip_train::metrics::{average_precision, ranking, recalled};
use pgclip_train::optim::decays;
use pgclip_train::schedule::cosine;
use pgclip_train::tokens::{END_OF_TEXT, Noise, START_OF_TEXT, to_rows, token_rows, tokenize};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

#[test]
fn the_rate_rises_then_falls_as_open_clips() {
    let rate = |step| cosine(step, 2.0, 10, 110);
    assert!((rate(0) - 0.2).abs() < 1e-12);
    assert!((rate(9) - 2.0).abs() < 1e-12);
    assert!((rate(10) - 2.0).abs() < 1e-12);
    assert!((rate(60) - 1.0).abs() < 1e-12);
    assert!(rate(109) > 0.0 && rate(109) < 1e-3);
    assert_eq!(cosine(0, 1.0, 0, 1), 1.0);
}

#[test]
fn average_precision_divides_by_what_was_possible() {
    let order = ranking(&[0.1, 0.9, 0.5, 0.7]);
    assert_eq!(order, [1, 3, 2, 0]);
    // Hits at places 1 and 3: (1/1 + 2/3) / 2
    let positive = [false, true, true, false];
    assert!((average_precision(&order, &positive, 10) - 5.0 / 6.0).abs() < 1e-12);
    // Only the first two places count, and only two of three could be there.
    let positive = [true, true, true, false];
    assert!((average_precision(&order, &positive, 2) - 0.5).abs() < 1e-12);
    assert_eq!(average_precision(&order, &[false; 4], 10), 0.0);
    assert!(recalled(&order, &[false, false, false, true], 2));
    assert!(!recalled(&order, &[true, false, false, false], 3));
}

#[test]
fn one_match_each_gives_clips_loss() {
    tch::manual_seed(5);
    let (a, b) = (Tensor::randn([6, 4], CPU), Tensor::randn([6, 4], CPU));
    let scale = Tensor::from(7.0f32);
    let logits = a.matmul(&b.transpose(0, 1)) * &scale;
    let labels = Tensor::arange(6, (Kind::Int64, Device::Cpu));
    let there = logits.cross_entropy_for_logits(&labels);
    let back = logits.transpose(0, 1).cross_entropy_for_logits(&labels);
    let clip = f64::try_from((there + back) / 2.0).unwrap();
    let ours = f64::try_from(contrastive(&a, &b, &Tensor::eye(6, CPU), &scale)).unwrap();
    assert!((ours - clip).abs() < 1e-5, "{ours} {clip}");
}

#[test]
fn equal_captions_are_no_negatives_of_each_other() {
    // Pictures 0 and 1 share caption 0. All embeddings apart from that are orthogonal.
    let pictures = Tensor::from_slice(&[1f32, 0.0, 1.0, 0.0, 0.0, 1.0]).view([3, 2]);
    let captions = Tensor::eye(2, CPU);
    let matches = Tensor::from_slice(&[1f32, 0.0, 1.0, 0.0, 0.0, 1.0]).view([3, 2]);
    let loss = contrastive(&pictures, &captions, &matches, &Tensor::from(50.0f32));
    // By picture 0; by caption: ln 2 / 2 for the two that share one, halved.
    let wanted = 0.5 * (0.0 + std::f64::consts::LN_2 / 2.0);
    assert!((f64::try_from(loss).unwrap() - wanted).abs() < 1e-4);
}

#[test]
fn gains_biases_and_the_scale_do_not_decay() {
    let (matrix, vector) = (Tensor::zeros([2, 2], CPU), Tensor::zeros([2], CPU));
    assert!(decays("visual.proj", &matrix));
    assert!(decays("token_embedding.weight", &matrix));
    assert!(!decays("transformer.resblocks.0.ln_1.weight", &vector));
    assert!(!decays("transformer.resblocks.0.attn.in_proj_bias", &vector));
    assert!(!decays("visual.class_embedding", &vector));
    assert!(!decays("logit_scale", &Tensor::zeros([], CPU)));
}

#[test]
fn unknown_tokens_share_row_0() {
    let known = tokenize("a red sedan", 77);
    assert_eq!((known[0], known[4]), (START_OF_TEXT, END_OF_TEXT));
    let table = token_rows(std::slice::from_ref(&known), 49_408);
    assert_eq!(table.iter().filter(|&&row| row != 0).count(), 5);
    let rows = to_rows(&tokenize("a zebra sedan", 77), Some(&table));
    assert_eq!(rows.len(), 5);
    assert_eq!(rows.iter().filter(|&&row| row == 0).count(), 1);
    assert_eq!(to_rows(&known, None), known);
}

#[test]
fn noise_keeps_both_ends_and_the_context_length() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let noise = Noise { probability: 1.0 };
    for _ in 0..100 {
        let mut rows = vec![7, 1, 2, 9];
        noise.apply(&mut rows, 6, &mut rng);
        assert!((5..=6).contains(&rows.len()), "{rows:?}");
        assert_eq!((rows[0], rows[rows.len() - 1]), (7, 9));
        rows.retain(|&row| row != 0);
        assert_eq!(rows, [7, 1, 2, 9]);
    }
}

#[test]
fn an_epoch_shows_each_picture_once_in_an_order_of_its_own() {
    let mut sampler = Sampler::new(12, 4, 3);
    assert_eq!(sampler.steps_per_epoch(), 3);
    let epoch = |sampler: &mut Sampler, first: u64| -> Vec<u32> {
        (first..first + 3).flat_map(|step| sampler.samples(step).to_vec()).collect()
    };
    let (first, second) = (epoch(&mut sampler, 0), epoch(&mut sampler, 3));
    assert_ne!(first, second);
    for mut order in [first.clone(), second] {
        order.sort_unstable();
        assert_eq!(order, (0..12).collect::<Vec<u32>>());
    }
    // A sampler that starts in the middle sees the same.
    assert_eq!(Sampler::new(12, 4, 3).samples(1), &first[4..8]);
}

#[test]
fn another_torch_is_refused_by_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("lib/libtorch_cpu.so");
    let says = |version: &str| {
        std::fs::write(folder.path().join("version.py"), format!("__version__ = '{version}'\n"))
            .unwrap();
        pgclip_train::torch::check_version(&library).map_err(|error| error.to_string())
    };
    assert_eq!(says("2.11.0+cu130"), Ok(()));
    let error = says("2.13.0").unwrap_err();
    assert!(error.contains("torch 2.13.0") && error.contains("exactly 2.11.0"), "{error}");
}
