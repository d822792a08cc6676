//! Hugging Face's description of preprocessing: `preprocessor_config.json`, as transformers wrote it
//! up to version 4, or the section `image_processor` of `processor_config.json`, where version 5 has
//! it. Defaults are those of transformers' `CLIPImageProcessor`.
//!
//! Understood is what it does with these: the shortest side to the tower's size and the centre of it,
//! or both sides to the tower's size; bicubic or bilinear; 1/255, mean and deviation. Everything else
//! is refused by name.

use pgclip_clip::model::{Interpolation, ResizeMode};
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
/// Of transformers' CLIP: shortest side and centre, unless told otherwise.
const CLIP: [&str; 3] = ["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil"];
/// Of transformers' SigLIP: both sides to size.
const SIGLIP: [&str; 3] =
    ["SiglipImageProcessor", "SiglipImageProcessorFast", "SiglipImageProcessorPil"];
/// jina-clip's, which speaks open_clip's language.
const JINA: &str = "JinaCLIPImageProcessor";
/// Sides of both, unless they are told others.
const DEFAULT_SIDE: usize = 224;

/// Width and height of the images that a description is for, where it says so.
pub(crate) fn side(config: &Value) -> Option<u64> {
    let of = |key: &str| match &config[key] {
        Value::Object(sides) => {
            sides.get("height").or_else(|| sides.get("shortest_edge")).and_then(Value::as_u64)
        }
        Value::Array(sides) => sides.first().and_then(Value::as_u64),
        side => side.as_u64(),
    };
    of("crop_size").or_else(|| of("size"))
}

/// The preprocessing for a tower of `image_size` pixels, of a section with these keys.
pub(crate) fn parse(mut config: Section, image_size: usize) -> Result<Preprocessing, String> {
    let kind = config.text("image_processor_type")?;
    if kind.as_deref() == Some(JINA) {
        config.ignore(HARMLESS);
        config.ignore(&["auto_map"]);
        return super::open_clip::preprocessing(config, image_size);
    }
    let known = CLIP.iter().chain(&SIGLIP);
    if let Some(kind) = kind.as_deref().filter(|kind| !known.clone().any(|known| known == kind)) {
        let known: Vec<String> = known.map(|known| format!("\"{known}\"")).collect();
        let why = format!("only {}", known.join(" and "));
        return Err(config.refusal("image_processor_type", &json!(kind), why));
    }
    let siglip = kind.is_some_and(|kind| SIGLIP.contains(&&kind[..]));
    config.only("feature_extractor_type", &[json!("CLIPFeatureExtractor")])?;
    for key in ["do_resize", "do_rescale"] {
        config.only(key, &[json!(true)])?;
    }
    for key in ["do_pad", "use_square_size"] {
        config.only(key, &[json!(false)])?;
    }
    let interpolation = match config.take("resample") {
        None => Interpolation::Bicubic,
        Some(value) if value == json!(3) || value == json!("bicubic") => Interpolation::Bicubic,
        Some(value) if value == json!(2) || value == json!("bilinear") => Interpolation::Bilinear,
        Some(value) => {
            return Err(config.refusal("resample", &value, "only 3 (bicubic) and 2 (bilinear)"));
        }
    };
    let square = config.flag("default_to_square", siglip)?;
    let crops = config.flag("do_center_crop", !siglip)?;
    let mut resize = if siglip { ResizeMode::Squash } else { ResizeMode::Crop };
    if let Some(size) = config.take("size") {
        let sides = |keys: &[&str]| match &size {
            Value::Object(sides) if sides.len() == keys.len() => {
                keys.iter().all(|key| sides.get(*key) == Some(&json!(image_size)))
            }
            _ => false,
        };
        resize = if sides(&["shortest_edge"]) || !square && size == json!(image_size) {
            ResizeMode::Crop
        } else if sides(&["height", "width"]) || square && size == json!(image_size) {
            ResizeMode::Squash
        } else {
            let why = format!("only sides of the image tower's {image_size} pixels");
            return Err(config.refusal("size", &size, why));
        };
    } else if image_size != DEFAULT_SIDE {
        return Err(absent("size", image_size));
    }
    if let Some(size) = config.take("crop_size").filter(|_| crops) {
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
    } else if crops && !siglip && image_size != DEFAULT_SIDE {
        return Err(absent("crop_size", image_size));
    }
    if !crops && resize == ResizeMode::Crop {
        let why = "the shortest side to size leaves an image that is no square";
        return Err(config.refusal("do_center_crop", &json!(false), why));
    }
    if let Some(factor) = config.get::<f64>("rescale_factor", "a number")?
        && (factor * 255.0 - 1.0).abs() > 1e-6
    {
        return Err(config.refusal("rescale_factor", &json!(factor), "only 1/255"));
    }
    let default = if siglip { ([0.5; 3], [0.5; 3]) } else { (OPENAI_MEAN, OPENAI_STD) };
    let mean = config.channels("image_mean")?.unwrap_or(default.0);
    let std = config.channels("image_std")?.unwrap_or(default.1);
    let (mean, std) =
        if config.flag("do_normalize", true)? { (mean, std) } else { ([0.0; 3], [1.0; 3]) };
    config.ignore(HARMLESS);
    config.finish()?;
    Ok(Preprocessing { mean, std, resize, interpolation })
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
    differs("image_mean", one.mean, other.mean)
        .or_else(|| differs("image_std", one.std, other.std))
        .or_else(|| (one.resize != other.resize).then(|| "size".to_owned()))
        .or_else(|| (one.interpolation != other.interpolation).then(|| "resample".to_owned()))
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

    /// SigLIP's images are squashed, SigLIP 2's by bilinear interpolation; a square of CLIP's own
    /// processor is as well, whatever is cut out of it afterwards.
    #[test]
    fn both_sides_to_size_is_squash() {
        let siglip = json!({
            "do_convert_rgb": null, "do_normalize": true, "do_rescale": true, "do_resize": true,
            "image_mean": [0.5, 0.5, 0.5], "image_processor_type": "SiglipImageProcessor",
            "image_std": [0.5, 0.5, 0.5], "processor_class": "SiglipProcessor", "resample": 2,
            "rescale_factor": 0.00392156862745098, "size": {"height": 256, "width": 256},
        });
        let (resize, interpolation) = (ResizeMode::Squash, Interpolation::Bilinear);
        let expected = Preprocessing { resize, interpolation, ..Preprocessing::inception() };
        assert_eq!(parsed(siglip.clone(), 256), Ok(expected));
        assert!(parsed(siglip, 224).unwrap_err().starts_with("size = {"));
        let bare = json!({"image_processor_type": "SiglipImageProcessor"});
        assert_eq!(parsed(bare, 224).unwrap().resize, ResizeMode::Squash);
        let mut squashed = version_4();
        squashed["default_to_square"] = json!(true);
        squashed["size"] = json!(224);
        assert_eq!(parsed(squashed, 224).unwrap().resize, ResizeMode::Squash);
        let jina = json!({
            "auto_map": {"AutoImageProcessor": "processing_clip.JinaCLIPImageProcessor"},
            "fill_color": 0, "image_processor_type": "JinaCLIPImageProcessor",
            "interpolation": "bicubic", "mean": [0.48145466, 0.4578275, 0.40821073],
            "processor_class": "JinaCLIPProcessor", "resize_mode": "shortest", "size": 512,
            "std": [0.26862954, 0.26130258, 0.27577711],
        });
        assert_eq!(side(&jina), Some(512));
        assert_eq!(parsed(jina, 512), Ok(Preprocessing::openai()));
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
            ("size", json!({"shortest_edge": 256})),
            ("size", json!({"longest_edge": 224})),
            ("size", json!({"shortest_edge": 224, "longest_edge": 400})),
            ("crop_size", json!({"height": 224, "width": 200})),
            ("crop_size", json!(256)),
            ("resample", json!(0)),
            ("resample", json!(1)),
            ("resample", json!(4)),
            ("resample", json!(5)),
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
        let mut stretched = version_4();
        stretched["size"] = json!({"height": 224, "width": 256});
        assert!(parsed(stretched, 224).unwrap_err().starts_with("size = {"));
        // What is not said is CLIPImageProcessor's default, not what fits the tower.
        assert!(parsed(json!({}), 336).unwrap_err().starts_with("size is not said"));
        let error = parsed(json!({"size": {"shortest_edge": 336}}), 336).unwrap_err();
        assert!(error.starts_with("crop_size is not said"), "{error}");
    }
}
