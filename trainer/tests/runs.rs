//! Whole runs: they learn, stop and go on, and fail with a clear word.

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Fixture, contents};
use pgclip_train::checkpoint;

fn message(result: anyhow::Result<()>) -> String {
    format!("{:#}", result.expect_err("this run must fail"))
}

#[test]
fn a_small_set_is_learnt_by_heart() {
    let fixture = Fixture::new(32);
    fixture.train("run", &["--steps", "120", "--save-every", "120"]).unwrap();
    let losses = fixture.losses("run");
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..5]), mean(&losses[losses.len() - 5..]));
    assert!(last < 0.6 * first, "the loss went from {first} to {last}");
}

#[test]
fn a_resumed_run_ends_with_the_same_bits() {
    let fixture = Fixture::new(48);
    let common = ["--steps", "14", "--save-every", "5"];
    fixture.train("whole", &common).unwrap();
    fixture.train("parts", &[&common[..], &["--stop-after", "7"]].concat()).unwrap();
    fixture.train("parts", &[&common[..], &["--resume"]].concat()).unwrap();
    assert!(checkpoint::locate(&fixture.path("whole")).unwrap().ends_with("step_00000014"));
    fixture.same_bits("whole", "parts");
}

/// The same with everything that keeps a state of its own or draws at random.
#[test]
fn a_run_with_all_options_is_resumed_with_the_same_bits() {
    let fixture = Fixture::new(64);
    let common = [
        "--steps",
        "6",
        "--save-every",
        "2",
        "--batch-size",
        "8",
        "--accum-freq",
        "2",
        "--grad-checkpointing",
        "--force-patch-dropout",
        "0.5",
        "--layer-decay",
        "0.7",
        "--unique-captions",
        "--lock-text",
        "--lock-text-unlocked-layers",
        "2",
        "--precision",
        "amp_bf16",
        "--image-resize-mode",
        "shortest",
        "--aug-scale",
        "0.4,1",
    ];
    fixture.train("whole", &common).unwrap();
    fixture.train("parts", &[&common[..], &["--stop-after", "3"]].concat()).unwrap();
    fixture.train("parts", &[&common[..], &["--resume"]].concat()).unwrap();
    fixture.same_bits("whole", "parts");
    let last = checkpoint::locate(&fixture.path("whole")).unwrap();
    let config = std::fs::read_to_string(last.join("open_clip_config.json")).unwrap();
    assert!(config.contains("shortest"), "{config}");
}

/// Ctrl-C, and the SIGTERM of a batch system: the run says how to go on, its status tells the
/// signal, so that `train && export` does not export half a model, and it ends with the same bits.
#[test]
fn an_interrupted_run_is_saved_and_resumed() {
    let fixture = Fixture::new(48);
    let common = ["--steps", "60", "--save-every", "100"];
    fixture.train("whole", &common).unwrap();
    for (signal, status, run) in [(libc::SIGINT, 130, "int"), (libc::SIGTERM, 143, "term")] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgclip-train"))
            .args(fixture.line(run, &common))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.next().unwrap().ends_with("from step 0"));
        // SAFETY: kill() takes numbers; the child has not been waited for, so its number is its own.
        assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
        let last = lines.last().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status));

        let words = last.strip_prefix("stopped after step ").expect(&last);
        let (step, rest) = words.split_once(' ').unwrap();
        assert_eq!(rest, "of 60, which is saved; the same command with --resume goes on");
        let step: u64 = step.parse().unwrap();
        assert!(step < 60);
        let saved = checkpoint::locate(&fixture.path(run)).unwrap();
        assert!(saved.ends_with(format!("step_{step:08}")), "{}", saved.display());

        fixture.train(run, &[&common[..], &["--resume"]].concat()).unwrap();
        fixture.same_bits("whole", run);
    }
}

#[test]
fn checkpoints_of_epochs_are_kept() {
    let fixture = Fixture::new(48); // three batches of 16
    let more = ["--epochs", "4", "--save-frequency", "2", "--save-every", "4", "--keep", "1"];
    fixture.train("run", &more).unwrap();
    let mut left = names(&fixture.path("run/checkpoints"));
    left.sort();
    assert_eq!(left, ["step_00000006", "step_00000012"]);
}

#[test]
fn an_existing_run_is_neither_overwritten_nor_resumed_otherwise() {
    let fixture = Fixture::new(32);
    let common = ["--steps", "4", "--save-every", "2"];
    fixture.train("run", &common).unwrap();
    assert!(message(fixture.train("run", &common)).contains("--resume goes on from it"));
    let other = [&common[..], &["--resume", "--wd", "0.5"]].concat();
    assert!(message(fixture.train("run", &other)).contains("wd was 0.1, and is 0.5 now"));
    let other = [&common[..], &["--resume", "--aug-scale", "0.5,1"]].concat();
    let refused = message(fixture.train("run", &other));
    assert!(refused.contains("aug_scale was absent, and is 0.5,1 now"), "{refused}");
    fixture.train("cut", &[&common[..], &["--aug-scale", "0.5,1"]].concat()).unwrap();
    let refused = message(fixture.train("cut", &[&common[..], &["--resume"]].concat()));
    assert!(refused.contains("aug_scale was 0.5,1, and is absent now"), "{refused}");
    assert_ne!(fixture.losses("run"), fixture.losses("cut"));
}

#[test]
fn a_corrupted_checkpoint_is_named() {
    let fixture = Fixture::new(32);
    let common = ["--steps", "4", "--save-every", "2"];
    fixture.train("run", &[&common[..], &["--stop-after", "2"]].concat()).unwrap();
    let weights = fixture.path("run/checkpoints/step_00000002/model.safetensors");
    let good = std::fs::read(&weights).unwrap();
    let resume = || message(fixture.train("run", &[&common[..], &["--resume"]].concat()));

    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    std::fs::write(&weights, flipped).unwrap();
    let text = resume();
    assert!(text.contains("model.safetensors is corrupted"), "{text}");

    std::fs::write(&weights, &good[..good.len() / 2]).unwrap();
    let text = resume();
    assert!(text.contains("model.safetensors is corrupted"), "{text}");
}

#[test]
fn a_loss_that_is_no_number_stops_the_run() {
    let fixture = Fixture::new(32);
    let more = ["--steps", "40", "--save-every", "1", "--lr", "1e30", "--grad-clip-norm", "0"];
    let text = message(fixture.train("run", &more));
    assert!(text.contains("step ") && text.contains("the last checkpoint is kept"), "{text}");
    assert!(text.contains("Its batch of 16: ") && text.contains(".jpg, "), "{text}");
    checkpoint::locate(&fixture.path("run")).unwrap();
}

#[test]
fn missing_pictures_and_bad_lines_are_named() {
    let fixture = Fixture::new(20);
    std::fs::remove_file(fixture.path("data/images/000003.jpg")).unwrap();
    let text = message(fixture.train("run", &["--steps", "1"]));
    assert!(text.contains("1 of 20 pictures are missing") && text.contains("000003.jpg"), "{text}");

    std::fs::write(fixture.path("data/captions.txt"), "a.jpg$red$A red car\na line\n").unwrap();
    let text = message(fixture.train("run", &["--steps", "1"]));
    assert!(text.contains("line 2") && text.contains("image$attributes$caption"), "{text}");
}

#[test]
fn a_full_disk_leaves_the_last_checkpoint() {
    let fixture = Fixture::new(32);
    let common = ["--steps", "4", "--save-every", "2"];
    fixture.train("run", &[&common[..], &["--stop-after", "2"]].concat()).unwrap();
    let before = contents(&fixture.path("run/checkpoints/step_00000002"));

    // The shell lets files grow to 4 kB only; a write beyond fails as on a full disk.
    let output = Command::new("bash")
        .args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$@\"", "bash"])
        .arg(env!("CARGO_BIN_EXE_pgclip-train"))
        .args(fixture.line("run", &[&common[..], &["--resume"]].concat()))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("the checkpoint of step 4 could not be written"), "{text}");

    let left: Vec<String> = names(&fixture.path("run/checkpoints"));
    assert_eq!(left, ["step_00000002"]);
    assert!(contents(&fixture.path("run/checkpoints/step_00000002")) == before);
    fixture.train("run", &[&common[..], &["--resume"]].concat()).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
