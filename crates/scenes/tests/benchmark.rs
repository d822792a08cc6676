//! The benchmark is the same for the same seed, its parts are what they say, and its queries find
//! what they name among pictures that resemble it.

use std::collections::{BTreeSet, HashSet};
use std::fs;

use pgclip_scenes::benchmark::{self, Split, queries};
use pgclip_scenes::{Domain, Query, Scene, set};

fn scenes(split: Split, count: u64) -> Vec<Scene> {
    (0..count).map(|index| split.scene(1, index)).collect()
}

#[test]
fn the_benchmark_is_reproducible_and_its_files_are_as_its_manifest_says() {
    let write = |seed| {
        let dir = tempfile::tempdir().unwrap();
        (benchmark::write(dir.path(), seed, 0.01).unwrap(), dir)
    };
    let ((first, dir), (second, _other)) = (write(1), write(1));
    assert_eq!(first, second);
    let other = write(2).0;
    for split in Split::ALL {
        let (ours, theirs) = (&first.splits[split.name()], &other.splits[split.name()]);
        assert_ne!(ours.set.images_sha256, theirs.set.images_sha256);
        let folder = dir.path().join(split.name());
        let labels = fs::read_to_string(folder.join(set::LABELS)).unwrap();
        assert_eq!(labels.lines().count() as u64, ours.set.count);
        assert_eq!(ours.files_sha256.contains_key("queries_car.txt"), split.is_searched());
        for subject in ["car", "person"].iter().filter(|_| split.is_searched()) {
            let read = |name: String| fs::read_to_string(folder.join(name)).unwrap();
            let asked = read(format!("queries_{subject}.txt")).lines().count();
            let relevance = read(format!("relevance_{subject}.tsv"));
            let numbers: BTreeSet<usize> =
                relevance.lines().map(|l| l.split('\t').next().unwrap().parse().unwrap()).collect();
            // Every query has its answer.
            assert_eq!(numbers, (1..=asked).collect());
            for line in relevance.lines() {
                let image = line.split('\t').nth(1).unwrap();
                assert!(folder.join(set::IMAGES).join(image).is_file(), "{line}");
            }
        }
    }
}

/// Changing this digest changes the benchmark, and every figure measured on it.
#[test]
fn the_benchmark_has_the_same_digest_everywhere() {
    use sha2::{Digest, Sha256};
    let mut all = Sha256::new();
    for split in Split::ALL {
        for scene in scenes(split, 60) {
            all.update(scene.label_line("x.jpg"));
            all.update(scene.file(&split.options()));
        }
    }
    let digest: String = all.finalize().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, "1b8ab258c9b443413bb2a4c74d67b9616a901514baba0dd9ed0b879068779b95");
}

#[test]
fn training_pictures_are_of_the_web_and_searched_ones_of_cameras() {
    assert!(scenes(Split::Train, 200).iter().all(|s| s.domain == Domain::Photo));
    assert!(scenes(Split::Test, 200).iter().all(|s| s.domain == Domain::Crop));
    let crops = scenes(Split::Pretrain, 2000).iter().filter(|s| s.domain == Domain::Crop).count();
    assert!((150..250).contains(&crops), "{crops} of 2000");
    let seeds: HashSet<u64> =
        Split::ALL.iter().flat_map(|&split| scenes(split, 1000)).map(|s| s.seed).collect();
    assert_eq!(seeds.len(), 4000);
}

#[test]
fn many_labels_of_vehicles_lack_type_or_colour() {
    let vehicles: Vec<Scene> =
        scenes(Split::Train, 2000).into_iter().filter(|s| s.vehicle().is_some()).collect();
    let share = |lacks: fn(&Scene) -> bool| {
        vehicles.iter().filter(|s| lacks(s)).count() as f64 / vehicles.len() as f64
    };
    let (kind, colour) = (share(|s| !s.naming.kind), share(|s| !s.naming.colour));
    assert!((0.35..0.45).contains(&kind) && (0.1..0.2).contains(&colour), "{kind} {colour}");
}

/// Photos are tall and wide whatever they show; crops are as tall or wide as what they show, so that
/// a crop to a square, which cuts nothing from the subjects of photos, cuts much from theirs.
#[test]
fn photos_have_all_formats_and_crops_that_of_their_subject() {
    let aspects = |split: Split, vehicles: bool| -> Vec<f64> {
        scenes(split, 300)
            .iter()
            .filter(|s| s.vehicle().is_some() == vehicles)
            .map(|s| {
                let (w, h) = s.draw(64).dimensions();
                f64::from(w) / f64::from(h)
            })
            .collect()
    };
    let share = |aspects: &[f64], holds: fn(f64) -> bool| {
        aspects.iter().filter(|&&aspect| holds(aspect)).count() as f64 / aspects.len() as f64
    };
    for vehicles in [true, false] {
        let photos = aspects(Split::Train, vehicles);
        assert!(photos.iter().all(|a| (0.55..1.8).contains(a)), "{photos:?}");
        let (tall, wide) = (share(&photos, |a| a < 0.6), share(&photos, |a| a > 1.7));
        assert!(tall > 0.07 && wide > 0.07, "{tall} {wide} vehicles: {vehicles}");
    }
    let (cars, persons) = (aspects(Split::Test, true), aspects(Split::Test, false));
    assert!(persons.iter().all(|&a| a < 0.45), "{persons:?}");
    let wide = share(&cars, |a| a > 1.5);
    assert!(wide > 0.25, "{wide}");
}

#[test]
fn queries_find_what_they_name() {
    let scenes = scenes(Split::Test, 1600);
    for vehicles in [true, false] {
        let asked = queries(&scenes, vehicles);
        assert!((250..=400).contains(&asked.len()), "{} queries", asked.len());
        let mut meanings: Vec<Query> = Vec::new();
        for query in &asked {
            let meaning = Query::parse(&query.text).unwrap();
            assert!(!query.relevant.is_empty());
            for (index, scene) in (0..).zip(&scenes) {
                assert_eq!(meaning.matches(scene), query.relevant.contains(&index));
            }
            assert!(!meanings.contains(&meaning), "{:?} is asked twice", query.text);
            meanings.push(meaning);
        }
    }
}

#[test]
fn searched_vehicles_come_with_lookalikes() {
    let scenes = scenes(Split::Test, 1600);
    let (mut families, mut looks) = (0, HashSet::new());
    for family in scenes.chunks(4).filter(|family| family[0].vehicle().is_some()) {
        let [first, tinted, twin, badged] = [0, 1, 2, 3].map(|i| *family[i].vehicle().unwrap());
        families += 1;
        assert!(first.colour.neighbours().contains(&tinted.colour));
        assert_eq!(twin.kind, first.kind.twin());
        assert_ne!(badged.make, first.make);
        for other in [tinted, twin, badged] {
            let same =
                [other.colour == first.colour, other.kind == first.kind, other.make == first.make];
            assert_eq!(same.iter().filter(|&&same| same).count(), 2);
            looks.insert(other.make.word());
        }
    }
    assert!(families > 150 && looks.len() == 13, "{families} families, {} makes", looks.len());
}
