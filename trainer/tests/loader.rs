//! Sets that are decoded batch by batch: the same training as from memory, whatever is broken, in
//! whatever form the set is.

mod common;

use std::path::Path;

use common::{Fixture, tar};
use pgclip_train::lines::{self, CsvForm};

/// Breaks the pictures of these numbers in one way or another.
fn spoil(fixture: &Fixture, numbers: &[usize]) {
    for number in numbers {
        let path = fixture.path(&format!("data/images/{number:06}.jpg"));
        let bytes = std::fs::read(&path).unwrap();
        let bytes = match number % 3 {
            0 => &b""[..],
            1 => b"no picture",
            _ => &bytes[..20],
        };
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn batches_from_files_are_those_from_memory() {
    let fixture = Fixture::new(48);
    let common = ["--steps", "8", "--save-every", "4"]; // 3 steps are an epoch
    let files = [&common[..], &["--in-memory", "0", "--workers", "3"]].concat();
    fixture.train("memory", &common).unwrap();
    fixture.train("files", &files).unwrap();
    assert_eq!(fixture.losses("files"), fixture.losses("memory"));
    fixture.same_bits("memory", "files");
    assert!(fixture.log("memory").starts_with("48 pictures in memory, "));
    assert!(fixture.log("files").starts_with("48 pictures, decoded batch by batch, "));
}

/// From memory all broken pictures are known at the first step, from files they turn up one by
/// one, and after a resume anew. The stand-ins must not depend on that.
#[test]
fn broken_pictures_have_the_same_stand_ins_however_they_turn_up() {
    let fixture = Fixture::new(48);
    spoil(&fixture, &[0, 1, 2, 3, 4, 5, 20, 21, 22, 40, 46, 47]);
    let common = ["--steps", "8", "--save-every", "4", "--unique-captions"];
    let files = [&common[..], &["--in-memory", "0"]].concat();
    let resume = [&files[..], &["--resume"]].concat();
    fixture.train("memory", &common).unwrap();
    fixture.train("files", &files).unwrap();
    fixture.same_bits("memory", "files");

    fixture.train("first in memory", &[&common[..], &["--stop-after", "5"]].concat()).unwrap();
    fixture.train("first in memory", &resume).unwrap();
    fixture.same_bits("memory", "first in memory");
    fixture.train("first from files", &[&files[..], &["--stop-after", "5"]].concat()).unwrap();
    fixture.train("first from files", &resume).unwrap();
    fixture.same_bits("memory", "first from files");

    let log = fixture.log("files");
    let named = log.lines().filter(|line| line.starts_with("another picture stands in for "));
    assert_eq!(named.count(), 10);
    assert!(log.contains("more pictures cannot be read"), "{log}");
    assert!(log.ends_with("12 pictures could not be read\n"), "{log}");
}

#[test]
fn csv_and_shards_train_as_the_label_file_does() {
    let fixture = Fixture::new(40);
    let labels = lines::read(&fixture.path("data/labels.txt"), &CsvForm::default()).unwrap();
    let mut csv = String::from("filepath\ttitle\n");
    let mut members = Vec::new();
    for line in &labels {
        let caption = &line.caption;
        csv += &format!("{}\t{caption}\n", line.image);
        let key = line.image.trim_end_matches(".jpg");
        let picture = std::fs::read(fixture.path("data/images").join(&line.image)).unwrap();
        members.push((format!("{key}.txt"), caption.clone().into_bytes()));
        members.push((line.image.clone(), picture));
    }
    // Away from the description of the scenes, so that all forms say the same.
    std::fs::create_dir(fixture.path("plain")).unwrap();
    std::fs::write(fixture.path("plain/set.csv"), csv).unwrap();
    let members: Vec<(&str, &[u8])> =
        members.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    for (number, part) in members.chunks(members.len() / 2).enumerate() {
        tar(&fixture.path(&format!("part-{number}.tar")), part);
    }
    let path = |name: &str| fixture.path(name).to_str().unwrap().to_owned();
    let losses = |out: &str, data: &str, memory: &str| {
        let (data, images) = (path(data), path("data/images"));
        let more = ["--steps", "5", "--train-data", &data, "--images", &images];
        fixture.train(out, &[&more[..], &["--in-memory", memory]].concat()).unwrap();
        fixture.losses(out)
    };
    let expected = losses("csv", "plain/set.csv", "99");
    assert_eq!(expected.len(), 5);
    assert_eq!(losses("csv files", "plain/set.csv", "0"), expected);
    assert_eq!(losses("tar", "part-{0..1}.tar", "99"), expected);
    assert_eq!(losses("tar files", "part-{0..1}.tar", "0"), expected);
}

#[test]
fn too_few_readable_pictures_are_an_error() {
    let fixture = Fixture::new(20);
    spoil(&fixture, &[1, 2, 3, 4, 5]);
    let message = |out: &str, more: &[&str]| {
        let line = [&["--steps", "2"], more].concat();
        format!("{:#}", fixture.train(out, &line).unwrap_err())
    };
    for (out, memory) in [("memory", "999"), ("files", "0")] {
        let error = message(out, &["--in-memory", memory]);
        assert!(error.contains("5 of 20 pictures cannot be read"), "{error}");
        assert!(error.contains("the others are fewer than a batch of 16"), "{error}");
    }
    spoil(&fixture, &(0..20).collect::<Vec<_>>());
    let error = message("none in memory", &[]);
    assert!(error.contains("none of 20 pictures could be read, the first: "), "{error}");
    let error = message("none from files", &["--in-memory", "0"]);
    assert!(error.contains("16 of 20 pictures cannot be read, /"), "{error}");
    assert!(!Path::new(&fixture.path("files/checkpoints")).exists());
}
