//! Captions are true of their scenes, keep the challenge's form, and use known words only.

use std::collections::BTreeSet;

use pgclip_scenes::{Query, Scene, SceneOptions, split, vocabulary};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

fn mixed() -> SceneOptions {
    SceneOptions::default()
}

fn means(scene: &Scene, caption: &str) -> bool {
    Query::parse(caption).is_some_and(|q| q.matches(scene))
}

proptest! {
    #[test]
    fn captions_parse_back_to_their_scene(seed: u64, wording: u64) {
        let scene = Scene::sample(seed, &mixed());
        let mut rng = ChaCha8Rng::seed_from_u64(wording);
        for caption in [scene.caption(), scene.training_caption(&mut rng)] {
            prop_assert!(means(&scene, &caption), "{caption:?} of {scene:?}");
        }
    }

    #[test]
    fn labels_have_the_form_of_the_challenge(seed: u64) {
        let scene = Scene::sample(seed, &mixed());
        let line = scene.label_line("000001.jpg");
        let fields: Vec<&str> = line.split('$').collect();
        prop_assert_eq!(fields.len(), 3);
        prop_assert_eq!(fields[0], "000001.jpg");
        let (attributes, caption) = (fields[1], fields[2]);
        if scene.vehicle().is_some() {
            let starts = ["A", "An", "This is a", "This is an"];
            prop_assert!(starts.iter().any(|s| format!("{s} {attributes}") == caption), "{}", line);
        } else {
            let flags: Vec<&str> = attributes.split(',').collect();
            prop_assert_eq!(flags.len(), 21);
            prop_assert!(flags.iter().all(|f| ["0", "1"].contains(f)));
            prop_assert!(caption.ends_with('.'));
        }
    }

    #[test]
    fn scenes_survive_json(seed: u64) {
        let scene = Scene::sample(seed, &mixed());
        let json = serde_json::to_string(&scene).unwrap();
        prop_assert_eq!(serde_json::from_str::<Scene>(&json).unwrap(), scene);
    }
}

#[test]
fn the_vocabulary_is_what_captions_use() {
    let known: BTreeSet<String> = vocabulary().into_iter().collect();
    let mut used = BTreeSet::new();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for seed in 0..60_000 {
        let scene = Scene::sample(seed, &mixed());
        for caption in [scene.caption(), scene.training_caption(&mut rng)] {
            used.extend(split(&caption).into_iter().map(str::to_lowercase));
        }
    }
    let unknown: Vec<&String> = used.difference(&known).collect();
    let unused: Vec<&String> = known.difference(&used).collect();
    assert!(unknown.is_empty() && unused.is_empty(), "unknown {unknown:?}, unused {unused:?}");
}

#[test]
fn a_quarter_of_vehicle_captions_speaks_of_surveillance_cameras() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let options = SceneOptions::vehicles();
    let captions = (0..4000).map(|seed| Scene::sample(seed, &options).training_caption(&mut rng));
    let suffixed = captions.filter(|c| c.ends_with(pgclip_scenes::SURVEILLANCE_SUFFIX)).count();
    assert!((900..1100).contains(&suffixed), "{suffixed} of 4000");
}

#[test]
fn queries_ask_for_what_they_say() {
    let (text, query) = Query::colours_and_types().into_iter().next().unwrap();
    assert_eq!(text, "a black bus");
    for (text, query) in Query::colours_and_types() {
        assert_eq!(Query::parse(&text), Some(query), "{text}");
    }
    let scenes: Vec<Scene> =
        (0..2000).map(|s| Scene::sample(s, &SceneOptions::vehicles())).collect();
    let hits = scenes.iter().filter(|s| query.matches(s)).count();
    assert!((10..60).contains(&hits), "{hits} black buses of 2000 vehicles");
    assert_eq!(Query::parse("a quiet afternoon"), None);
    let truck = Query::parse("A grey Balong Heavy Truck Minivan").unwrap();
    assert!(matches!(truck, Query::Vehicle(q) if q.kinds == [pgclip_scenes::VehicleType::Minivan]));
}
