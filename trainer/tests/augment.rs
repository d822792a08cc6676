//! `augment` on a set of scenes: the right line gets what the model finds, whatever the batch.

mod common;

use clap::Parser;
use common::Fixture;
use pgclip_query::enhance;
use pgclip_train::args::{Cli, Command};
use pgclip_train::caption::{Captions, in_template};
use pgclip_train::lexicon::Lexicon;
use pgclip_train::lines::{self, CsvForm, Line};
use pgclip_train::model::{Clip, Precision};
use pgclip_train::place::Place;
use pgclip_train::{augment, checkpoint, encode, images, tokens};
use tch::Device;

fn augment(fixture: &Fixture, out: &str, more: &[&str]) -> anyhow::Result<Vec<Line>> {
    let paths = ["run", "data/labels.txt", out].map(|name| fixture.path(name));
    let [run, labels, path] = [0, 1, 2].map(|at: usize| paths[at].to_str().unwrap());
    let words = ["pgclip-train", "augment", run, labels, "--out", path, "--device", "cpu"];
    match Cli::parse_from(words.iter().chain(more)).command {
        Command::Augment(args) => augment::run(&args)?,
        _ => unreachable!("the line says augment"),
    }
    lines::read(&paths[2], &CsvForm::default())
}

/// A trained model and a set of scenes; every third vehicle's caption says less.
fn fixture() -> (Fixture, Vec<Line>) {
    let fixture = Fixture::new(40);
    fixture.train("run", &["--steps", "8", "--save-every", "8"]).unwrap();
    let lines = lines::read(&fixture.path("data/labels.txt"), &CsvForm::default()).unwrap();
    (fixture, lines)
}

#[test]
fn every_line_gets_what_its_own_picture_shows_whatever_the_batch() {
    let (fixture, lines) = fixture();
    let augmented = augment(&fixture, "all.txt", &[]).unwrap();
    assert_eq!(augmented.len(), lines.len());
    for batch in ["1", "7"] {
        assert_eq!(augment(&fixture, "batch.txt", &["--batch-size", batch]).unwrap(), augmented);
    }

    // Again one by one, by the model itself.
    let folder = checkpoint::locate(&fixture.path("run")).unwrap();
    let (config, params) = checkpoint::load_model(&folder, Device::Cpu).unwrap();
    let model = Clip::new(&config, &params, Precision::Fp32);
    let (lexicon, domains) = (Lexicon::challenge(), enhance::builtin());
    let captions = Captions::new(&lexicon, &domains, false);
    let (mut persons, mut guessed) = (0, 0);
    for (line, result) in lines.iter().zip(&augmented) {
        assert_eq!((&line.image, &line.caption), (&result.image, &result.caption));
        let Some(vehicle) = captions.vehicle(line) else {
            assert!(line.is_person());
            assert_eq!(result.augmented.as_ref(), Some(&line.caption));
            persons += 1;
            continue;
        };
        let place = Place::File(fixture.path("data/images").join(&line.image));
        let picture = images::load_readable(&[place], &config).pictures;
        let picture = encode::pictures(&model, &picture, Device::Cpu).get(0);
        let mut best = (f64::MIN, String::new());
        for colour in
            lexicon.colours.iter().filter(|c| vehicle.colour.as_ref().is_none_or(|v| v == *c))
        {
            for kind in
                lexicon.types.iter().filter(|k| vehicle.kind.as_ref().is_none_or(|v| v == *k))
            {
                let make = vehicle.make.as_deref();
                let named = make.is_some_and(|make| lexicon.type_in_make(make).is_some());
                let words: Vec<&str> =
                    [Some(colour.as_str()), make, (!named).then_some(kind.as_str())]
                        .into_iter()
                        .flatten()
                        .collect();
                let prompt = in_template("A {}", &words.join(" "));
                let rows =
                    tokens::to_rows(&tokens::tokenize(&prompt, 77), params.token_rows.as_deref());
                let text = encode::texts(&model, &[rows], Device::Cpu).get(0);
                let score = f64::try_from(text.dot(&picture)).unwrap();
                if score > best.0 {
                    best = (score, captions.fill(&line.caption, &vehicle, colour, kind));
                }
            }
        }
        guessed += usize::from(vehicle.colour.is_none() || vehicle.kind.is_none());
        assert_eq!(result.augmented, Some(best.1));
    }
    assert!(persons > 3 && guessed > 3, "{persons} persons, {guessed} guessed");
}

#[test]
fn persons_can_be_left_out_and_prefixes_dropped() {
    let (fixture, lines) = fixture();
    let vehicles =
        augment(&fixture, "vehicles.txt", &["--vehicles-only", "--drop-prefix"]).unwrap();
    assert_eq!(vehicles.len(), lines.iter().filter(|line| !line.is_person()).count());
    for line in &vehicles {
        let text = line.augmented.as_ref().unwrap();
        assert!(!text.starts_with("A ") && !text.starts_with("This is"), "{text}");
    }
}

#[test]
fn broken_pictures_are_left_as_they_are_and_none_at_all_is_an_error() {
    let (fixture, lines) = fixture();
    let all = augment(&fixture, "all.txt", &[]).unwrap();
    let at = all.iter().position(|line| line.augmented.as_ref() != Some(&line.caption)).unwrap();
    let image = fixture.path("data/images").join(&lines[at].image);
    for bytes in [&b""[..], b"no picture"] {
        std::fs::write(&image, bytes).unwrap();
        let some = augment(&fixture, "some.txt", &[]).unwrap();
        assert_eq!(some[at].augmented.as_ref(), Some(&lines[at].caption));
        assert!(some.iter().zip(&all).enumerate().all(|(n, (a, b))| n == at || a == b));
    }
    let before = std::fs::read(fixture.path("some.txt")).unwrap();
    let error = augment(&fixture, "some.txt", &["--images", "/nowhere"]).unwrap_err();
    let text = format!("{error:#}");
    assert!(text.contains("none of") && text.contains("--images"), "{text}");
    assert!(std::fs::read(fixture.path("some.txt")).unwrap() == before);
}
