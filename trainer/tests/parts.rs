//! Schedule, measures, loss, tables and batches, on values worked out by hand.

mod common;

use clap::Parser;
use pgclip_train::args::{Cli, Command};
use pgclip_train::batch::Sampler;
use pgclip_train::config::Config;
use pgclip_train::data::Labels;
use pgclip_train::layers::{place, rate_factor};
use pgclip_train::loss::{clip, multi_positive};
use pgclip_train::metrics::{average_precision, ranking};
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
    let wanted = f64::try_from((there + back) / 2.0).unwrap();
    let ours = f64::try_from(multi_positive(&a, &b, &Tensor::eye(6, CPU), &scale)).unwrap();
    assert!((ours - wanted).abs() < 1e-5, "{ours} {wanted}");
    // The same with the captions in another order.
    let order = [3i64, 0, 5, 1, 4, 2];
    let mut own = [0i64; 6];
    for (place, &caption) in order.iter().enumerate() {
        own[caption as usize] = place as i64;
    }
    let b = b.index_select(0, &Tensor::from_slice(&order));
    let ours = f64::try_from(clip(&a, &b, &Tensor::from_slice(&own), &scale)).unwrap();
    assert!((ours - wanted).abs() < 1e-5, "{ours} {wanted}");
}

#[test]
fn equal_captions_are_no_negatives_of_each_other() {
    // Pictures 0 and 1 share caption 0. All embeddings apart from that are orthogonal.
    let pictures = Tensor::from_slice(&[1f32, 0.0, 1.0, 0.0, 0.0, 1.0]).view([3, 2]);
    let captions = Tensor::eye(2, CPU);
    let matches = Tensor::from_slice(&[1f32, 0.0, 1.0, 0.0, 0.0, 1.0]).view([3, 2]);
    let loss = multi_positive(&pictures, &captions, &matches, &Tensor::from(50.0f32));
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

#[test]
fn layers_are_counted_from_the_input() {
    let config = Config::traffic_tiny().model_cfg; // 4 and 3 blocks
    let depth = |name: &str| place(name, &config).map(|place| (place.visual, place.depth));
    assert_eq!(depth("logit_scale"), None);
    assert_eq!(depth("visual.conv1.weight"), Some((true, 0)));
    assert_eq!(depth("visual.ln_pre.bias"), Some((true, 0)));
    assert_eq!(depth("visual.transformer.resblocks.3.ln_1.bias"), Some((true, 4)));
    assert_eq!(depth("visual.ln_post.bias"), Some((true, 5)));
    assert_eq!(depth("visual.proj"), Some((true, 5)));
    assert_eq!(depth("token_embedding.weight"), Some((false, 0)));
    assert_eq!(depth("positional_embedding"), Some((false, 0)));
    assert_eq!(depth("transformer.resblocks.0.attn.out_proj.weight"), Some((false, 1)));
    assert_eq!(depth("text_projection"), Some((false, 4)));
    let factor = |name: &str| rate_factor(name, &config, 0.5);
    assert_eq!(factor("visual.proj"), 1.0);
    assert_eq!(factor("visual.transformer.resblocks.3.ln_1.bias"), 0.5);
    assert_eq!(factor("visual.conv1.weight"), 0.5f64.powi(5));
    assert_eq!(factor("ln_final.bias"), 1.0);
    assert_eq!(factor("logit_scale"), 1.0);
}

/// One picture in twelve has the same caption: without the option many batches hold it several
/// times.
#[test]
fn pictures_that_share_a_caption_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.txt");
    let line = |n: usize| match n % 12 {
        0 => format!("{n}.jpg$$the common caption\n"),
        _ => format!("{n}.jpg$$caption {n}\n"),
    };
    std::fs::write(&path, (0..96).map(line).collect::<String>()).unwrap();
    let labels = Labels::read(&path, None).unwrap();
    let most = |mut sampler: Sampler| {
        let common = |samples: &[u32]| {
            samples.iter().filter(|&&n| labels.samples[n as usize].captions == [0]).count()
        };
        let counts: Vec<usize> = (0..24).map(|step| common(sampler.samples(step))).collect();
        let mut seen: Vec<u32> = (0..12).flat_map(|step| sampler.samples(step).to_vec()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..96).collect::<Vec<u32>>(), "an epoch shows each picture once");
        counts.into_iter().max().unwrap()
    };
    assert!(most(Sampler::new(96, 8, 1)) > 1);
    // Twelve batches, eight pictures with that caption.
    assert_eq!(most(Sampler::new(96, 8, 1).with_unique_captions(&labels)), 1);
}

#[test]
fn memory_that_is_not_to_be_had_is_an_error() {
    let bytes = 1i64 << 50;
    let asks = || Tensor::zeros([bytes], (Kind::Uint8, Device::Cpu));
    let error = pgclip_train::torch::catching(asks).unwrap_err().to_string();
    assert!(error.contains("allocate") && error.contains("--grad-checkpointing"), "{error}");
    let other = std::panic::catch_unwind(|| pgclip_train::torch::catching(|| panic!("other")));
    assert!(other.is_err(), "any other panic goes on");
}

#[test]
fn what_no_step_can_work_with_is_refused() {
    for (option, value) in [
        ("--beta1", "1"),
        ("--eps", "-1"),
        ("--accum-freq", "0"),
        ("--force-patch-dropout", "1"),
        ("--layer-decay", "1.5"),
        ("--grad-clip-norm", "NaN"),
    ] {
        let line = format!("pgclip-train train --train-data a --out b {option}={value}");
        let Command::Train(args) = Cli::parse_from(line.split(' ')).command else {
            unreachable!("the line says train")
        };
        let error = args.learn.check().unwrap_err().to_string();
        assert!(error.contains(option), "{error}");
    }
}
