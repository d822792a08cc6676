//! Pictures are the same for the same seed, on every machine, and can be drawn for every
//! combination of attributes.

use pgclip_scenes::{
    Age, Carrying, Colour, Domain, Facing, Gender, Lower, LowerPattern, Make, Naming, Pedestrian,
    Scene, SceneOptions, Sleeves, Subject, Upper, Vehicle, VehicleType, scene_at, write_set,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

fn scene(subject: Subject, seed: u64) -> Scene {
    let domain = if seed.is_multiple_of(2) { Domain::Web } else { Domain::Surveillance };
    Scene { seed, domain, subject, naming: Naming { colour: true, make: true, kind: true } }
}

#[test]
fn every_vehicle_can_be_drawn_at_any_size() {
    let mut seed = 0_u64;
    for &colour in Colour::ALL {
        for &kind in VehicleType::ALL {
            for make in Make::all().skip(seed as usize % 7).step_by(7) {
                seed += 1;
                let long_side = 16 + (seed as u32 * 37) % 150;
                let drawn =
                    scene(Subject::Vehicle(Vehicle { colour, kind, make }), seed).draw(long_side);
                assert_eq!(drawn.width().max(drawn.height()), long_side);
            }
        }
    }
}

#[test]
fn every_pedestrian_can_be_drawn() {
    let mut seed = 0_u64;
    for &gender in Gender::ALL {
        for &age in Age::ALL {
            for &facing in Facing::ALL {
                for &carrying in Carrying::ALL {
                    for &upper in Upper::ALL {
                        for &lower in Lower::ALL {
                            seed += 1;
                            let person = Pedestrian {
                                gender,
                                age,
                                facing,
                                carrying,
                                upper,
                                lower,
                                hat: seed.is_multiple_of(2),
                                glasses: seed.is_multiple_of(3),
                                sleeves: Sleeves::ALL[seed as usize % 2],
                                upper_colour: Colour::ALL[seed as usize % 11],
                                lower_colour: Colour::ALL[(seed as usize + 3) % 11],
                                lower_pattern: LowerPattern::ALL[seed as usize % 3],
                                long_coat: seed.is_multiple_of(5),
                                boots: seed.is_multiple_of(7),
                            };
                            let drawn =
                                scene(Subject::Pedestrian(person.consistent()), seed).draw(64);
                            assert_eq!(drawn.height(), 64);
                        }
                    }
                }
            }
        }
    }
}

/// Changing this digest invalidates every model trained before and every set's manifest.
#[test]
fn a_set_has_the_same_digest_everywhere() {
    let options = SceneOptions::default();
    let mut all = Sha256::new();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for index in 0..200 {
        let scene = scene_at(2026, index, &options);
        all.update(scene.label_line("x.jpg"));
        all.update(scene.training_caption(&mut rng));
        all.update(scene.draw(96).as_raw());
    }
    let digest: String = all.finalize().iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(digest, "9d360b146d161a83f788d4524fc1112605f60e80d7fba2c9d8f155c0956643ce");
}

#[test]
fn sets_are_reproducible_and_differ_by_seed() {
    let options = SceneOptions { long_side: (48, 64), ..SceneOptions::default() };
    let write = |seed| {
        let dir = tempfile::tempdir().unwrap();
        let manifest = write_set(dir.path(), 12, seed, &options).unwrap();
        let labels = std::fs::read_to_string(dir.path().join("labels.txt")).unwrap();
        assert_eq!(labels.lines().count(), 12);
        assert_eq!(std::fs::read_dir(dir.path().join("images")).unwrap().count(), 12);
        manifest
    };
    assert_eq!(write(1), write(1));
    assert_ne!(write(1).images_sha256, write(2).images_sha256);
}

/// Black, grey and white must stay apart in the picture's middle, in either domain.
#[test]
fn greys_are_ordered() {
    let mean = |colour, domain| {
        let mut sum = 0.0;
        for seed in 0..60 {
            let vehicle =
                Vehicle { colour, kind: VehicleType::Bus, make: Make::all().next().unwrap() };
            let picture = Scene { domain, ..scene(Subject::Vehicle(vehicle), seed) }.draw(64);
            let (w, h) = picture.dimensions();
            let middle: Vec<f64> = picture
                .enumerate_pixels()
                .filter(|(x, y, _)| x.abs_diff(w / 2) < w / 5 && y.abs_diff(h / 2) < h / 6)
                .map(|(_, _, p)| p.0.iter().map(|&c| f64::from(c)).sum::<f64>() / 3.0)
                .collect();
            sum += middle.iter().sum::<f64>() / middle.len() as f64;
        }
        sum / 60.0
    };
    for domain in [Domain::Web, Domain::Surveillance] {
        let [black, grey, white] =
            [Colour::Black, Colour::Grey, Colour::White].map(|c| mean(c, domain));
        assert!(black + 20.0 < grey && grey + 20.0 < white, "{black} {grey} {white} {domain:?}");
    }
}
