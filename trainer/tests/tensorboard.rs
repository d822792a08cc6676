//! TensorBoard's event files, read back record by record with other crates than wrote them.
//!
//! ```text
//! length u64, masked CRC-32C of it u32, event (protobuf), masked CRC-32C of that u32
//! ```

mod common;

use std::collections::BTreeMap;

use common::Fixture;
use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(oneof = "What", tags = "3, 5")]
    what: Option<What>,
}

#[derive(Clone, PartialEq, Oneof)]
enum What {
    #[prost(string, tag = "3")]
    FileVersion(String),
    #[prost(message, tag = "5")]
    Summary(Summary),
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

fn events(mut bytes: &[u8]) -> Vec<Event> {
    let masked = |bytes| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8);
    let mut checked = |length: usize| {
        let (part, rest) = bytes.split_at(length);
        let (sum, rest) = rest.split_at(4);
        assert_eq!(masked(part).to_le_bytes(), sum);
        bytes = rest;
        (part, rest.is_empty())
    };
    let mut events = Vec::new();
    loop {
        let length = u64::from_le_bytes(checked(8).0.try_into().unwrap());
        let (event, last) = checked(length as usize);
        events.push(Event::decode(event).unwrap());
        if last {
            return events;
        }
    }
}

#[test]
fn a_run_reports_what_its_log_says() {
    let fixture = Fixture::new(32);
    // The held-out set as a CSV of another form than the default.
    let labels = std::fs::read_to_string(fixture.path("data/labels.txt")).unwrap();
    let rows = labels.lines().take(20).map(|line| {
        let mut fields = line.split('$');
        let (image, caption) = (fields.next().unwrap(), fields.nth(1).unwrap());
        format!("\"{caption}\";{image}\n")
    });
    let csv = std::iter::once("text;img\n".to_owned()).chain(rows).collect::<String>();
    std::fs::write(fixture.path("held-out.csv"), csv).unwrap();
    let path = |name: &str| fixture.path(name).to_str().unwrap().to_owned();
    let (csv, images) = (path("held-out.csv"), path("data/images"));
    let mut line = vec!["--steps", "4", "--save-every", "2", "--report-to", "tensorboard"];
    line.extend(["--val-data", &csv, "--val-images", &images, "--csv-separator", ";"]);
    line.extend(["--csv-img-key", "img", "--csv-caption-key", "text"]);
    fixture.train("run", &[&line[..], &["--stop-after", "2"]].concat()).unwrap();
    fixture.train("run", &[&line[..], &["--resume"]].concat()).unwrap();

    // (tag, step) to value, over the files of both calls.
    let mut found = BTreeMap::new();
    let files: Vec<_> = std::fs::read_dir(fixture.path("run/tensorboard")).unwrap().collect();
    assert_eq!(files.len(), 2);
    for file in files {
        let path = file.unwrap().path();
        assert!(path.to_str().unwrap().contains("tfevents"), "{}", path.display());
        let events = events(&std::fs::read(path).unwrap());
        assert_eq!(events[0].what, Some(What::FileVersion("brain.Event:2".into())));
        for Event { wall_time, step, what } in events.into_iter().skip(1) {
            assert!(wall_time > 1.7e9, "{wall_time}");
            let Some(What::Summary(Summary { value })) = what else { panic!("no summary") };
            for Value { tag, simple_value } in value {
                assert_eq!(found.insert((tag, step), simple_value), None);
            }
        }
    }
    let of = |tag: &str| -> Vec<(i64, f32)> {
        let of_tag = found.iter().filter(|((name, _), _)| name == tag);
        of_tag.map(|((_, step), value)| (*step, *value)).collect()
    };
    let losses = of("train/loss");
    assert_eq!(losses.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [1, 2, 3, 4]);
    for ((_, found), logged) in losses.iter().zip(fixture.losses("run")) {
        assert!((f64::from(*found) - logged).abs() < 1e-4, "{found} {logged}");
    }
    for tag in ["lr", "scale", "norm", "samples_per_second"] {
        let values = of(&format!("train/{tag}"));
        assert!(values.len() == 4 && values.iter().all(|(_, value)| *value > 0.0), "{values:?}");
    }
    let log = fixture.log("run");
    let held_out = log.lines().filter(|line| line.contains("held out"));
    let logged: Vec<f32> = held_out
        .map(|line| line.split("captions R@1 ").nth(1).unwrap()[..5].parse().unwrap())
        .collect();
    let recalls = of("val/text_to_image_R@1");
    assert_eq!(recalls.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 4]);
    for ((_, found), logged) in recalls.iter().zip(logged) {
        assert!((found - logged).abs() < 1e-3, "{found} {logged}");
    }
    assert_eq!(of("val/image_to_text_mean_rank").len(), 2);
    assert!(of("val/colour_type_R@1").is_empty(), "a CSV describes no scenes");
}
