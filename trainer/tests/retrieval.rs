//! Ranks, search, `eval`, `infer` and `soup`: on embeddings written by hand, and on a small model.

mod common;

use clap::Parser;
use common::Fixture;
use pgclip_train::args::{Cli, Command};
use pgclip_train::data::Labels;
use pgclip_train::ranks::{Measures, rank};
use pgclip_train::search::{Method, search};
use pgclip_train::{checkpoint, eval, images, infer, soup};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

fn run(line: &[&str]) -> anyhow::Result<()> {
    match Cli::parse_from(["pgclip-train"].iter().chain(line)).command {
        Command::Eval(args) => eval::run(&args),
        Command::Infer(args) => infer::run(&args),
        Command::Soup(args) => soup::run(&args),
        _ => unreachable!("the line says eval, infer or soup"),
    }
}

fn json(path: &std::path::Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Random rows of unit length.
fn unit(rows: i64, seed: i64) -> Tensor {
    tch::manual_seed(seed);
    let rows = Tensor::randn([rows, 24], CPU);
    &rows / rows.norm_scalaropt_dim(2, [-1i64], true)
}

#[test]
fn ranks_are_counted_from_the_first_positive() {
    let items = Tensor::eye(4, CPU);
    // Similarities as they stand; item 1 and 2 are equal for the first query.
    let queries = Tensor::from_slice(&[0.9f32, 0.5, 0.5, 0.1, 0.1, 0.2, 0.3, 0.4]).view([2, 4]);
    let fits = |query: usize, item: usize| match query {
        0 => item == 2 || item == 3,
        _ => item == 3,
    };
    let ranked = rank(&queries, &items, fits).unwrap();
    assert_eq!((ranked[0].rank, ranked[0].best), (3, 2));
    assert_eq!(ranked[0].first.iter().map(|hit| hit.0).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert!((ranked[0].precision - (1.0 / 3.0 + 2.0 / 4.0) / 2.0).abs() < 1e-12);
    assert_eq!((ranked[1].rank, ranked[1].precision), (1, 1.0));
    let measures = Measures::of(&ranked);
    assert_eq!((measures.recall_at_1, measures.recall_at_5), (0.5, 1.0));
    assert_eq!((measures.mean_rank, measures.median_rank), (2.0, 1));
    assert_eq!(Measures::of(&[]), Measures::default());
}

#[test]
fn many_items_are_ranked_as_a_full_sort_ranks_them() {
    let (queries, items) = (unit(40, 1), unit(500, 2));
    let fits = |query: usize, item: usize| item % 40 == query;
    let ranked = rank(&queries, &items, fits).unwrap();
    let order = queries.matmul(&items.transpose(0, 1)).argsort(1, true);
    for (query, found) in ranked.iter().enumerate() {
        let mut full = vec![0i64; 500];
        order.get(query as i64).copy_data(&mut full, 500);
        let first = full.iter().position(|&item| fits(query, item as usize)).unwrap();
        assert_eq!(found.rank, first + 1);
        let ten: Vec<i64> = found.first.iter().map(|hit| hit.0 as i64).collect();
        assert_eq!(ten, full[..10]);
    }
}

#[test]
fn the_graph_finds_nearly_all_that_asking_everybody_finds() {
    let (pictures, queries) = (unit(3000, 3), unit(50, 4));
    let exact = search(&pictures, &queries, 10, Method::Exact);
    let graph = search(&pictures, &queries, 10, Method::Hnsw);
    let mut found = 0;
    for (exact, graph) in exact.iter().zip(&graph) {
        assert!(exact.is_sorted_by(|a, b| a.1 >= b.1) && graph.is_sorted_by(|a, b| a.1 >= b.1));
        found += graph.iter().filter(|hit| exact.iter().any(|other| other.0 == hit.0)).count();
    }
    assert!(found >= 450, "{found} of 500");
    assert_eq!(search(&pictures, &queries, 10, Method::Auto), exact);
    assert_eq!(search(&unit(3, 5), &queries, 10, Method::Auto)[0].len(), 3);
}

#[test]
fn an_evaluation_is_written_as_json_and_as_a_page() {
    let fixture = Fixture::new(40);
    fixture.train("run", &["--steps", "60", "--save-every", "60"]).unwrap();
    std::fs::write(fixture.path("data/images/000002.jpg"), b"").unwrap();
    let paths = ["run", "data/labels.txt", "eval.json", "eval.html"].map(|name| fixture.path(name));
    let [model, data, numbers, page] = [0, 1, 2, 3].map(|at: usize| paths[at].to_str().unwrap());
    run(&["eval", model, "--data", data, "--json", numbers, "--html", page, "--device", "cpu"])
        .unwrap();
    let report = json(&paths[2]);
    assert_eq!(report["pictures"], 39); // one cannot be read
    for set in ["captions", "pictures_to_captions", "colour_type"] {
        let number = |name: &str| report[set][name].as_f64().unwrap();
        let (one, five, ten) =
            (number("recall_at_1"), number("recall_at_5"), number("recall_at_10"));
        assert!(one <= five && five <= ten && ten <= 1.0, "{set}: {one} {five} {ten}");
        assert!(number("mean_rank") >= 1.0 && number("median_rank") >= 1.0);
    }
    assert_eq!(report["pictures_to_captions"]["queries"], 39);

    let page = std::fs::read_to_string(&paths[3]).unwrap();
    assert!(page.matches("<svg").count() >= 5, "curves, histograms, and the run's losses");
    assert!(page.contains("loss by step") && page.contains("Captions: misses"));
    assert!(page.contains("data:image/jpeg;base64,/9j/"));
    // Nothing from outside, and captions are escaped.
    assert!(!page.contains("src=\"http") && !page.contains("<script"));
}

/// A model, its gallery of 30 scenes, and queries for both kinds.
fn gallery() -> Fixture {
    let fixture = Fixture::new(30);
    fixture.train("run", &["--steps", "8", "--save-every", "8"]).unwrap();
    std::fs::write(fixture.path("car.txt"), "A red Audi Sedan.\r\n\nA blue Bus.\n").unwrap();
    std::fs::write(fixture.path("person.txt"), "\u{feff}A man with a hat.\n").unwrap();
    fixture
}

fn submission(fixture: &Fixture, more: &[&str]) -> anyhow::Result<Value> {
    let paths = ["run", "data/images", "car.txt", "person.txt", "out.json"];
    let paths = paths.map(|name| fixture.path(name));
    let [model, images, cars, persons, out] =
        [0, 1, 2, 3, 4].map(|at: usize| paths[at].to_str().unwrap());
    let line = [
        "infer",
        model,
        "--images",
        images,
        "--vehicle-queries",
        cars,
        "--person-queries",
        persons,
        "--out",
        out,
        "--device",
        "cpu",
    ];
    run(&[&line, more].concat())?;
    Ok(json(&paths[4]))
}

fn names(value: &Value, query: usize) -> Vec<String> {
    let names = value["results"][query]["image_names"].as_array().unwrap();
    names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
}

#[test]
fn sentences_become_one_submission() {
    let fixture = gallery();
    let found = submission(&fixture, &["--top-k", "7"]).unwrap();
    let texts: Vec<&str> =
        (0..3).map(|at| found["results"][at]["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["A red Audi Sedan.", "A blue Bus.", "A man with a hat."]);
    for query in 0..3 {
        let names = names(&found, query);
        assert_eq!(names.len(), 7);
        assert!(names.iter().all(|name| fixture.path("data/images").join(name).is_file()));
    }
    // Whatever the batch; and a gallery smaller than k is given whole.
    assert_eq!(submission(&fixture, &["--top-k", "7", "--batch-size", "4"]).unwrap(), found);
    assert_eq!(names(&submission(&fixture, &["--top-k", "99"]).unwrap(), 0).len(), 30);
    // Enhancement asks another question.
    let plain = submission(&fixture, &["--top-k", "30", "--no-enhance"]).unwrap();
    let enhanced = submission(&fixture, &["--top-k", "30"]).unwrap();
    assert_ne!(names(&plain, 0), names(&enhanced, 0));
}

#[test]
fn reranking_orders_the_first_candidates_anew() {
    let fixture = gallery();
    let plain = submission(&fixture, &["--top-k", "12"]).unwrap();
    let more = ["--top-k", "12", "--rerank", "adaption", "--candidates", "12"];
    let reranked = submission(&fixture, &more).unwrap();
    for query in 0..3 {
        let (mut a, mut b) = (names(&plain, query), names(&reranked, query));
        a.sort();
        b.sort();
        assert_eq!(a, b, "the same candidates");
    }
    assert_ne!(plain, reranked);
}

#[test]
fn a_broken_picture_is_left_out_of_the_gallery() {
    let fixture = gallery();
    std::fs::write(fixture.path("data/images/000004.jpg"), b"").unwrap();
    let found = submission(&fixture, &["--top-k", "99"]).unwrap();
    assert_eq!(names(&found, 0).len(), 29);
    assert!(!names(&found, 0).contains(&"000004.jpg".to_owned()));
    std::fs::write(fixture.path("car.txt"), "\n").unwrap();
    let error = format!("{:#}", submission(&fixture, &[]).unwrap_err());
    assert!(error.contains("car.txt has no query"), "{error}");
}

#[test]
fn soups_are_weighted_means() {
    let fixture = Fixture::new(32);
    for (out, seed) in [("a", "1"), ("b", "2")] {
        fixture.train(out, &["--steps", "3", "--save-every", "3", "--seed", seed]).unwrap();
    }
    let path = |name: &str| fixture.path(name).to_str().unwrap().to_owned();
    let (a, b) = (path("a"), path("b"));
    let load = |name: &str| {
        let folder = checkpoint::locate(&fixture.path(name)).unwrap();
        checkpoint::load_model(&folder, Device::Cpu).unwrap().1
    };
    run(&["soup", &a, &b, "--out", &path("half")]).unwrap();
    run(&["soup", &b, "--base", &a, "--alpha", "0.25", "--out", &path("wise")]).unwrap();
    let (first, second) = (load("a"), load("b"));
    for (name, share) in [("half", 0.5), ("wise", 0.25)] {
        for (tensor, value) in load(name).tensors {
            let wanted = first.get(&tensor) * (1.0 - share) + second.get(&tensor) * share;
            let difference = f64::try_from((value - wanted).abs().max()).unwrap();
            assert!(difference < 1e-6, "{name} {tensor}: {difference}");
        }
    }
    // It is a checkpoint like others, and is not overwritten.
    let labels = path("data/labels.txt");
    run(&["eval", &path("half"), "--data", &labels, "--device", "cpu"]).unwrap();
    let error = format!("{:#}", run(&["soup", &a, &b, "--out", &path("half")]).unwrap_err());
    assert!(error.contains("half exists"), "{error}");
    let error = format!("{:#}", run(&["soup", &a, "--out", &path("one")]).unwrap_err());
    assert!(error.contains("a soup of one"), "{error}");
}

#[test]
fn pictures_that_leave_take_their_captions_along() {
    let fixture = Fixture::new(12);
    let mut labels = Labels::read(&fixture.path("data/captions.txt"), None).unwrap();
    let before = labels.clone();
    std::fs::write(fixture.path("data/images/000005.jpg"), b"no picture").unwrap();
    let folder = fixture.path("tiny.json");
    let config = pgclip_train::config::Config::read(&folder).unwrap();
    let pictures = images::load(&mut labels, &config).unwrap();
    assert_eq!((pictures.len(), labels.samples.len()), (11, 11));
    let texts = |labels: &Labels, at: usize| -> Vec<String> {
        let captions = labels.samples[at].captions.iter();
        captions.map(|&caption| labels.captions[caption as usize].text.clone()).collect()
    };
    for at in 0..11 {
        let was = if at < 5 { at } else { at + 1 };
        assert_eq!(labels.samples[at].place, before.samples[was].place);
        assert_eq!(texts(&labels, at), texts(&before, was));
    }
    let used: std::collections::BTreeSet<u32> =
        labels.samples.iter().flat_map(|sample| sample.captions.clone()).collect();
    assert_eq!(used.len(), labels.captions.len());
}
