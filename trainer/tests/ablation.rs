//! The ablation on a fiftieth of the benchmark: it makes every arm once, makes again only what is
//! missing, and refuses to mix results of different recipes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DOCUMENT: &str = "before\n<!-- written by `pgclip-train ablation`: begin -->\nto be replaced\n<!-- end -->\nafter\n";

fn ablation(folder: &Path, more: &[&str]) -> Output {
    let path = |name: &str| folder.join(name).display().to_string();
    Command::new(env!("CARGO_BIN_EXE_pgclip-train"))
        .args(["ablation", "--share", "0.02", "--out", &path("out"), "--work", &path("work")])
        .args(["--document", &path("ablation.md")])
        .args(more)
        .output()
        .unwrap()
}

fn succeeds(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn results(folder: &Path, seed: u64) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder.join(format!("out/seed-{seed}")))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    all.sort();
    all
}

#[test]
fn every_arm_is_made_once_and_goes_into_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fs::write(folder.join("ablation.md"), DOCUMENT).unwrap();
    succeeds(&ablation(folder, &["--seeds", "1,2"]));
    let arms = results(folder, 1);
    assert!(arms.len() >= 3 && results(folder, 2).len() == arms.len(), "{arms:?}");
    let contents = |seed| -> Vec<String> {
        results(folder, seed).iter().map(|path| fs::read_to_string(path).unwrap()).collect()
    };
    let (first, document) = (contents(1), fs::read_to_string(folder.join("ablation.md")).unwrap());
    assert!(document.starts_with("before\n") && document.ends_with("<!-- end -->\nafter\n"));
    assert!(
        !document.contains("to be replaced") && !document.contains("Not run yet"),
        "{document}"
    );
    let rows = document.lines().filter(|line| line.contains("| 1, 2 |")).count();
    assert_eq!(rows, 2 * arms.len(), "{document}");

    // Only what is missing is made, and on one machine it comes out as before.
    fs::remove_file(&arms[1]).unwrap();
    let before = fs::metadata(&arms[0]).unwrap().modified().unwrap();
    succeeds(&ablation(folder, &["--seeds", "1"]));
    assert_eq!(fs::metadata(&arms[0]).unwrap().modified().unwrap(), before);
    let numbers = |text: &str| {
        let result: serde_json::Value = serde_json::from_str(text).unwrap();
        result["found"].clone()
    };
    for (was, is) in first.iter().zip(contents(1)) {
        assert_eq!(numbers(was), numbers(&is));
    }

    // From seeds alone, with nothing but the results kept, one arm comes out the same.
    fs::remove_dir_all(folder.join("work")).unwrap();
    let lost = folder.join("out/seed-2/baseline.json");
    let was = fs::read_to_string(&lost).unwrap();
    fs::remove_file(&lost).unwrap();
    succeeds(&ablation(folder, &["--seeds", "2", "--arms", "baseline"]));
    assert_eq!(numbers(&was), numbers(&fs::read_to_string(&lost).unwrap()));

    // An arm that was not run is no row, and the text says so.
    for seed in [1, 2] {
        fs::remove_file(folder.join(format!("out/seed-{seed}/padding.json"))).unwrap();
    }
    succeeds(&ablation(folder, &["--table"]));
    let document = fs::read_to_string(folder.join("ablation.md")).unwrap();
    assert!(document.contains("Not run yet, and therefore absent: padding to a square"));
    assert!(!document.contains("| + padding"), "{document}");
}

#[test]
fn results_of_another_recipe_and_documents_without_a_place_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let says = |output: Output| {
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    fs::write(folder.join("ablation.md"), "no place\n").unwrap();
    let text = says(ablation(folder, &["--seeds", "1"]));
    assert!(text.contains("has no place for the table"), "{text}");
    assert!(!folder.join("work").exists(), "nothing was run");

    fs::write(folder.join("ablation.md"), DOCUMENT).unwrap();
    succeeds(&ablation(folder, &["--seeds", "1", "--arms", "pretrained"]));
    let path = folder.join("out/seed-1/pretrained.json");
    let result = fs::read_to_string(&path).unwrap();
    fs::write(&path, result.replace("--lr 1e-3", "--lr 2e-3")).unwrap();
    let text = says(ablation(folder, &["--seeds", "1"]));
    assert!(text.contains("pretrained.json was made by another recipe"), "{text}");

    let text = says(ablation(folder, &["--arms", "paddling"]));
    assert!(text.contains("no arm \"paddling\"; there are pretrained, baseline"), "{text}");
}
