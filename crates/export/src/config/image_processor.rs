//! Hugging Face's description of preprocessing: `preprocessor_config.json`, as transformers wrote it
//! up to version 4, or the section `image_processor` of `processor_config.json`, where version 5 has
//! it. Defaults are those of transformers' `CLIPImageProcessor`.
//!
//! Understood is what it does with these: the shortest side to the tower's size, bicubic, the centre
//! of it, 1/255, mean and deviation. Everything else is refused by name.

use pgclip_clip::model::ResizeMode;
use serde_json::{Value, json};

use super::section::Section;
use super::{OPENAI_MEAN, OPENAI_STD, Preprocessing};

/// What changes neither pixels nor their order of colours: names, and how tensors are handed over.
/// Images that are not RGB cannot be encoded without `do_convert_rgb`, and nothing is done to others.
const HARMLESS: &[&str] = &[
    "_valid_processor_keys",
    "data_format",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "image_seq_length",
    "input_data_format",
    "processor_class",
    "return_tensors",
    "transformers_version",
];
const PROCESSORS: [&str; 3] =
    ["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"];
/// Sides of `CLIPImageProcessor`, unless it is told others.
const DEFAULT_SIDE: usize = 224;

/// The preprocessing for a tower of `image_size` pixels, of a section with these keys.
pub(super) fn parse(mut config: Section, image_size: usize) -> Result<Preprocessing, String> {
    config.only("image_processor_type", &PROCESSORS.map(Value::from))?;
    config.only("feature_extractor_type", &[json!("CLIPFeatureExtractor")])?;
    for key in ["do_resize", "do_center_crop", "do_rescale"] {
        config.only(key, &[json!(true)])?;
    }
    for key in ["do_pad", "use_square_size"] {
        config.only(key, &[json!(false)])?;
    }
    config.only("resample", &[json!(3), json!("bicubic")])?;
    let square = config.flag("default_to_square", false)?;
    if let Some(size) = config.take("size") {
        let side = match &size {
            Value::Number(side) if !square => side.as_u64(),
            Value::Object(sides) if sides.len() == 1 => {
                sides.get("shortest_edge").and_then(Value::as_u64)
            }
            _ => None,
        };
        if side != Some(image_size as u64) {
            let why = format!("only the shortest edge, to the image tower's {image_size} pixels");
            return Err(config.refusal("size", &size, why));
        }
    } else if image_size != DEFAULT_SIDE {
        return Err(absent("size", image_size));
    }
    if let Some(size) = config.take("crop_size") {
        let sides = match &size {
            Value::Object(sides) if sides.len() == 2 => {
                ["height", "width"].map(|side| sides.get(side).and_then(Value::as_u64))
            }
            side => [side.as_u64(); 2],
        };
        if sides != [Some(image_size as u64); 2] {
            let why = format!("the image tower takes {image_size} by {image_size} pixels");
            return Err(config.refusal("crop_size", &size, why));
        }
    } else if image_size != DEFAULT_SIDE {
        return Err(absent("crop_size", image_size));
    }
    if let Some(factor) = config.get::<f64>("rescale_factor", "a number")?
        && (factor * 255.0 - 1.0).abs() > 1e-6
    {
        return Err(config.refusal("rescale_factor", &json!(factor), "only 1/255"));
    }
    let mean = config.channels("image_mean")?.unwrap_or(OPENAI_MEAN);
    let std = config.channels("image_std")?.unwrap_or(OPENAI_STD);
    let (mean, std) =
        if config.flag("do_normalize", true)? { (mean, std) } else { ([0.0; 3], [1.0; 3]) };
    config.ignore(HARMLESS);
    config.finish()?;
    Ok(Preprocessing { mean, std, resize: ResizeMode::Crop })
}

fn absent(key: &str, image_size: usize) -> String {
    format!("{key} is not said, which means {DEFAULT_SIDE}, but image_size is {image_size}")
}

/// The section of `processor_config.json` that describes images, where it has one.
pub(super) fn section(config: Value) -> Result<Option<Section>, String> {
    let mut config = Section::new("", config)?;
    let images = config.section("image_processor")?;
    // The tokeniser is CLIP's, which the vocabulary's size is held to; a template of chats says
    // nothing of it.
    config.ignore(&["chat_template", "processor_class", "tokenizer", "transformers_version"]);
    config.finish()?;
    Ok(images)
}

/// What two descriptions of the same images say differently.
pub(super) fn difference(one: &Preprocessing, other: &Preprocessing) -> Option<String> {
    let differs = |key: &str, one: [f32; 3], other: [f32; 3]| {
        (one != other).then(|| format!("{key} is {one:?} in the one and {other:?} in the other"))
    };
    differs("image_mean", one.mean, other.mean).or_else(|| differs("image_std", one.std, other.std))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(config: Value, image_size: usize) -> Result<Preprocessing, String> {
        parse(Section::new("", config).unwrap(), image_size)
    }

    /// As transformers 4.30 and 4.57 write `CLIPImageProcessor` and its fast twin.
    fn version_4() -> Value {
        json!({
            "crop_size": {"height": 224, "width": 224}, "do_center_crop": true,
            "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_processor_type": "CLIPImageProcessor",
            "image_std": [0.26862954, 0.26130258, 0.27577711],
            "resample": 3, "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 224},
        })
    }

    fn fast() -> Value {
        let mut config = version_4();
        for (key, value) in [
            ("image_processor_type", json!("CLIPImageProcessorFast")),
            ("data_format", json!("channels_first")),
            ("default_to_square", json!(false)),
            ("device", json!(null)),
            ("disable_grouping", json!(null)),
            ("do_pad", json!(null)),
            ("input_data_format", json!(null)),
            ("pad_size", json!(null)),
            ("return_tensors", json!(null)),
        ] {
            config[key] = value;
        }
        config
    }

    #[test]
    fn what_transformers_writes_is_understood() {
        let openai = Preprocessing::openai();
        // As OpenAI's own repository has it, from the days of feature extractors.
        let oldest = json!({
            "crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true,
            "feature_extractor_type": "CLIPFeatureExtractor",
            "image_mean": [0.48145466, 0.4578275, 0.40821073],
            "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224,
        });
        for config in [version_4(), fast(), oldest, json!({})] {
            assert_eq!(parsed(config, 224), Ok(openai.clone()));
        }
        let mut odd = version_4();
        odd["image_mean"] = json!([0.1, 0.2, 0.3]);
        odd["image_std"] = json!(0.25);
        let odd = parsed(odd, 224).unwrap();
        assert_eq!((odd.mean, odd.std), ([0.1, 0.2, 0.3], [0.25; 3]));
        let mut plain = version_4();
        plain["do_normalize"] = json!(false);
        let plain = parsed(plain, 224).unwrap();
        assert_eq!((plain.mean, plain.std), ([0.0; 3], [1.0; 3]));
    }

    /// All of these were once taken without a word.
    #[test]
    fn whatever_else_changes_pixels_is_refused_by_name() {
        for (key, value) in [
            ("do_resize", json!(false)),
            ("do_center_crop", json!(false)),
            ("do_rescale", json!(false)),
            ("rescale_factor", json!(1.0 / 127.5)),
            ("do_pad", json!(true)),
            ("pad_size", json!({"height": 224, "width": 224})),
            ("size", json!({"height": 224, "width": 224})),
            ("size", json!({"shortest_edge": 256})),
            ("size", json!({"longest_edge": 224})),
            ("size", json!({"shortest_edge": 224, "longest_edge": 400})),
            ("crop_size", json!({"height": 224, "width": 200})),
            ("crop_size", json!(256)),
            ("resample", json!(0)),
            ("resample", json!(1)),
            ("resample", json!(2)),
            ("resample", json!(4)),
            ("resample", json!(5)),
            ("resample", json!("bilinear")),
            ("image_mean", json!([0.5, 0.5])),
            ("image_std", json!("imagenet")),
            ("image_processor_type", json!("ViTImageProcessor")),
            ("feature_extractor_type", json!("ViTFeatureExtractor")),
            ("use_square_size", json!(true)),
            ("size_divisor", json!(32)),
            ("auto_map", json!({"AutoImageProcessor": "code.py"})),
            ("crop_pct", json!(0.9)),
            ("do_grayscale", json!(true)),
        ] {
            let mut config = fast();
            config[key] = value;
            let error = parsed(config, 224).unwrap_err();
            assert!(error.starts_with(&format!("{key} = ")), "{error}");
        }
        let mut squashed = version_4();
        squashed["default_to_square"] = json!(true);
        squashed["size"] = json!(224);
        assert!(parsed(squashed, 224).unwrap_err().starts_with("size = 224"));
        // What is not said is CLIPImageProcessor's default, not what fits the tower.
        assert!(parsed(json!({}), 336).unwrap_err().starts_with("size is not said"));
        let error = parsed(json!({"size": {"shortest_edge": 336}}), 336).unwrap_err();
        assert!(error.starts_with("crop_size is not said"), "{error}");
    }
}
