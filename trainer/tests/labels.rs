//! Label files: read, split, gathered into a lexicon, filled in. Words only, no model.

mod common;

use std::path::Path;

use clap::Parser;
use common::tar;
use pgclip_query::enhance;
use pgclip_train::args::{Cli, Command};
use pgclip_train::caption::{Captions, in_template};
use pgclip_train::data::Labels;
use pgclip_train::lexicon::Lexicon;
use pgclip_train::lines::{self, Captions as Which, CsvForm, Line};
use pgclip_train::place::read_shards;
use pgclip_train::prepare;

const PERSON: &str = "1,0,1,0,0,0,1,0,0,0,1,0,0,1,0,0,0,0,0,0,0";

fn prepare(words: &[&str]) -> anyhow::Result<()> {
    match Cli::parse_from(["pgclip-train", "prepare"].iter().chain(words)).command {
        Command::Prepare(args) => prepare::run(&args),
        _ => unreachable!("the line says prepare"),
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn message<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
    format!("{:#}", result.unwrap_err())
}

/// The caption filled in with a pink Truck wherever it leaves that open.
fn filled(caption: &str, drop_prefix: bool) -> Option<String> {
    let (lexicon, domains) = (Lexicon::challenge(), enhance::builtin());
    let captions = Captions::new(&lexicon, &domains, drop_prefix);
    let line = Line { caption: caption.to_owned(), ..Line::default() };
    let vehicle = captions.vehicle(&line)?;
    let colour = vehicle.colour.clone().unwrap_or("pink".into());
    let kind = vehicle.kind.clone().unwrap_or("Truck".into());
    Some(captions.fill(caption, &vehicle, &colour, &kind))
}

#[test]
fn missing_words_go_where_they_belong() {
    let cases = [
        // colour and make known
        ("This is a purple Iveco.", "This is a purple Iveco Truck.", "purple Iveco Truck."),
        ("This is an orange KINGLONG", "This is an orange KINGLONG Truck", "orange KINGLONG Truck"),
        // the article follows the new word
        ("An Audi Sedan.", "A pink Audi Sedan.", "pink Audi Sedan."),
        ("A Minivan", "A pink Minivan", "pink Minivan"),
        ("This is an SUV.", "This is a pink SUV.", "pink SUV."),
        // no prefix, and a prefix of another kind
        ("Bus", "pink Bus", "pink Bus"),
        ("yellow BMW", "yellow BMW Truck", "yellow BMW Truck"),
        (
            "There is a red Toyota on the road.",
            "There is a red Toyota Truck on the road.",
            "red Toyota Truck on the road.",
        ),
        // makes of several words stay whole; one that says the type needs none
        ("A pink Golden Dragon", "A pink Golden Dragon Truck", "pink Golden Dragon Truck"),
        (
            "This is a Golden Dragon Bus.",
            "This is a pink Golden Dragon Bus.",
            "pink Golden Dragon Bus.",
        ),
        ("A Balong Heavy Truck.", "A pink Balong Heavy Truck.", "pink Balong Heavy Truck."),
        ("A black MORRIS-GARAGE", "A black MORRIS-GARAGE Truck", "black MORRIS-GARAGE Truck"),
        ("A white China-Moto Microbus", "A white China-Moto Microbus", "white China-Moto Microbus"),
        // a "car" gives its place to the type
        ("A car.", "A pink Truck.", "pink Truck."),
        ("This is a Toyota car", "This is a pink Toyota Truck", "pink Toyota Truck"),
        // other spellings
        ("a gray suv, seen from above", "a gray suv, seen from above", "gray suv, seen from above"),
    ];
    for (caption, kept, dropped) in cases {
        assert_eq!(filled(caption, false).as_deref(), Some(kept));
        assert_eq!(filled(caption, true).as_deref(), Some(dropped));
    }
}

#[test]
fn persons_and_unknown_things_are_left_alone() {
    for caption in [
        "A female pedestrian who is an adult person aged 18-60. She is in a white shirt.",
        "A woman beside a white Toyota",
        "Something red",
        "A dog in the snow.",
    ] {
        assert_eq!(filled(caption, false), None, "{caption}");
    }
    let (lexicon, domains) = (Lexicon::challenge(), enhance::builtin());
    let captions = Captions::new(&lexicon, &domains, false);
    let line = Line { attributes: PERSON.into(), caption: "Truck".into(), ..Line::default() };
    assert!(captions.vehicle(&line).is_none());
}

#[test]
fn what_the_attributes_say_is_not_guessed() {
    let (lexicon, domains) = (Lexicon::challenge(), enhance::builtin());
    let captions = Captions::new(&lexicon, &domains, false);
    let line =
        Line { attributes: "red Audi".into(), caption: "An Audi.".into(), ..Line::default() };
    let vehicle = captions.vehicle(&line).unwrap();
    assert_eq!(vehicle.colour.as_deref(), Some("red"));
    assert_eq!(vehicle.kind, None);
    assert_eq!(captions.fill(&line.caption, &vehicle, "red", "SUV"), "A red Audi SUV.");
}

#[test]
fn a_prompts_article_agrees() {
    assert_eq!(in_template("A {}", "orange Bus"), "An orange Bus");
    assert_eq!(in_template("This is an {} at night.", "red SUV"), "This is a red SUV at night.");
    assert_eq!(in_template("{}", "orange Bus"), "orange Bus");
}

#[test]
fn a_lexicon_is_gathered_from_attribute_fields() {
    let fields = [
        "white Audi.",
        "red Golden Dragon",
        "dark blue Kia",
        "Sedan",
        "Hongyan",
        "Rickshaw",
        "Balong Heavy Truck",
        "green Tatra",
        "Tatra",
        "grey Golden Dragon Bus",
        "black Truck",
        "KINGLONG Rickshaw",
        "",
    ];
    let lexicon = Lexicon::gather(fields);
    assert_eq!(lexicon.colours, ["black", "dark blue", "green", "grey", "red", "white"]);
    assert_eq!(lexicon.types, ["Bus", "Rickshaw", "Sedan", "Truck"]);
    assert_eq!(
        lexicon.makes,
        ["Audi", "Balong Heavy Truck", "Golden Dragon", "Hongyan", "KINGLONG", "Kia", "Tatra"]
    );
    let json = serde_json::to_string(&lexicon).unwrap();
    assert!(json.starts_with(r#"{"Colors":["black","#) && json.contains(r#""Brands":["Audi""#));
}

#[test]
fn label_files_become_splits_a_lexicon_and_csvs() {
    let folder = tempfile::tempdir().unwrap();
    let labels = folder.path().join("train_label.txt");
    let vehicles =
        "a.jpg$red Audi$A red Audi.$A red Audi Sedan.\r\nb.jpg$Bus$This is a \"Bus\"\tor two\n";
    let persons = format!("0001.jpg${PERSON}$A man, with a hat.\n");
    std::fs::write(&labels, format!("\u{feff}{vehicles}\n{persons}")).unwrap();
    let out = folder.path().join("out");
    let run = |more: &[&str]| {
        let words = [labels.to_str().unwrap(), "--out", out.to_str().unwrap(), "--images", "pics"];
        prepare(&[&words, more].concat()).unwrap();
    };
    run(&[]);
    assert_eq!(text(&out.join("vehicle_labels.txt")), vehicles.replace('\r', ""));
    assert_eq!(text(&out.join("person_labels.txt")), persons);
    assert_eq!(
        text(&out.join("vehicle.csv")),
        "filepath\ttitle\npics/a.jpg\tA red Audi Sedan.\npics/b.jpg\t\"This is a \"\"Bus\"\"\tor two\"\n"
    );
    assert_eq!(text(&out.join("all.csv")).lines().count(), 4);
    assert_eq!(Lexicon::read(&out.join("car_attribute.json")).unwrap().makes, ["Audi"]);

    // What was written is read back as it was.
    let rows = lines::read(&out.join("vehicle.csv"), &CsvForm::default()).unwrap();
    assert_eq!(rows[1].caption, "This is a \"Bus\"\tor two");
    let read = lines::read(&out.join("vehicle_labels.txt"), &CsvForm::default()).unwrap();
    assert_eq!(read[0].augmented.as_deref(), Some("A red Audi Sedan."));

    run(&["--captions", "given"]);
    assert!(text(&out.join("vehicle.csv")).contains("pics/a.jpg\tA red Audi.\n"));
}

#[test]
fn bad_label_files_are_refused_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        message(lines::read(&path, &CsvForm::default()))
    };
    let long = format!("a.jpg$red$A car\n{}\n", "x".repeat(10_000));
    let found = read("a.txt", long.as_bytes());
    assert!(found.contains("a.txt, line 2: expected image$attributes$caption"), "{found}");
    assert!(found.len() < 500, "{found}");
    let found = read("b.txt", b"a.jpg$red$A car\nb.jpg$red$A \xff\n");
    assert!(found.contains("b.txt, line 2: not UTF-8"), "{found}");
    assert!(read("c.txt", b"\n\n").contains("c.txt names no picture"));
    assert!(read("d.txt", b"a$b$c$d$e\n").contains("line 1"));
    let found = read("e.csv", b"file,title\na.jpg,A car\n");
    assert!(
        found.contains("no column \"filepath\"") && found.contains("--csv-separator"),
        "{found}"
    );
    let found = read("f.tsv", b"filepath\ttitle\na.jpg\tA car\nb.jpg\t\n");
    assert!(found.contains("line 3") && found.contains("\"title\" is empty"), "{found}");
    let found = read("g.tsv", b"filepath\ttitle\na.jpg\n");
    assert!(found.contains("line: 2"), "{found}");
}

#[test]
fn a_caption_of_ten_thousand_characters_is_cut_by_the_tokenizer_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.txt");
    let caption = "a red car and ".repeat(800);
    std::fs::write(&path, format!("a.jpg$red${caption}\n")).unwrap();
    let labels = Labels::read(&path, None).unwrap();
    assert_eq!(labels.captions[0].text, caption.trim());
    let ids = pgclip_train::tokens::tokenize(&labels.captions[0].text, 77);
    assert_eq!((ids.len(), ids[76]), (77, pgclip_train::tokens::END_OF_TEXT));
}

#[test]
fn csvs_with_other_names_and_augmented_captions_are_read_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    std::fs::write(&path, "text,id,img\n\"A red car, parked\",7,a.jpg\n").unwrap();
    let csv = CsvForm { separator: b',', image: "img".into(), caption: "text".into() };
    let labels = Labels::read_as(&path, None, Which::Augmented, &csv).unwrap();
    assert_eq!(labels.captions[0].text, "A red car, parked");
    assert_eq!(labels.samples[0].place.to_string(), folder.path().join("a.jpg").to_str().unwrap());

    let path = folder.path().join("a.txt");
    std::fs::write(&path, "a.jpg$red$A car$A red Bus\nb.jpg$red$A bus\n").unwrap();
    for (which, wanted) in [(Which::Augmented, "A red Bus"), (Which::Given, "A car")] {
        let labels = Labels::read_as(&path, None, which, &CsvForm::default()).unwrap();
        assert_eq!(labels.captions[0].text, wanted);
        assert_eq!(labels.captions[1].text, "A bus");
    }
}

#[test]
fn shards_are_read_member_by_member() {
    let folder = tempfile::tempdir().unwrap();
    let shard = |name: &str| folder.path().join(name);
    tar(
        &shard("a-08.tar"),
        &[
            ("x/1.txt", b" A red car\n"),
            ("x/1.jpg", b"first"),
            ("x/2.v1.png", b"no caption"),
            ("x/3.jpg", b""),
            ("x/3.txt", b"A bus"),
            ("x/3.json", b"{}"),
        ],
    );
    tar(&shard("a-09.tar"), &[("1.jpg", b"second"), ("1.txt", b"A red car")]);
    tar(&shard("a-10.tar"), &[("1.jpg", b"third"), ("1.txt", b"A van")]);
    let samples = read_shards(&shard("a-{08..10}.tar")).unwrap();
    let captions: Vec<&str> = samples.iter().map(|(_, caption)| caption.as_str()).collect();
    assert_eq!(captions, ["A red car", "A bus", "A red car", "A van"]);
    let bytes: Vec<Vec<u8>> = samples.iter().map(|(place, _)| place.read().unwrap()).collect();
    assert_eq!(bytes, [&b"first"[..], b"", b"second", b"third"]);
    assert!(samples[1].0.to_string().ends_with("a-08.tar:x/3.jpg"));
    assert_eq!(read_shards(&shard("a-{09,10}.tar")).unwrap().len(), 2);

    // Equal names in two shards are two pictures, and equal captions one caption.
    let labels = Labels::read(&shard("a-{08..10}.tar"), None).unwrap();
    assert_eq!((labels.samples.len(), labels.captions.len()), (4, 3));

    let whole = std::fs::read(shard("a-09.tar")).unwrap();
    std::fs::write(shard("cut.tar"), &whole[..514]).unwrap();
    let error = message(read_shards(&shard("cut.tar")));
    assert!(error.contains("cut.tar"), "{error}");
    assert!(message(read_shards(&shard("a-{11..12}.tar"))).contains("a-11.tar"));
    assert!(message(read_shards(&shard("a-{08.tar"))).contains("lacks a }"));
    tar(&shard("empty.tar"), &[]);
    assert!(message(read_shards(&shard("empty.tar"))).contains("no picture with a caption"));
}
