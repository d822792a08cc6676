//! Every model configuration of open_clip (`open_clip/configurations.json`, by `../data/make.py`): whether
//! it is taken from weights, from graphs, or not at all and why. The table that comes out is the one in
//! docs/models.md; `PGCLIP_BLESS=1` writes it there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pgclip_export::{Architecture, check_describes_graphs};
use serde_json::Value;

/// A name, the test of a configuration, and fixtures.
type Family = (&'static str, fn(&Value) -> bool, &'static [&'static str]);

/// The families of configurations, by the first that fits, and the fixtures of `crates/encoder/tests/
/// published` and `crates/export/tests/golden` that are of such a model.
const FAMILIES: &[Family] = &[
    ("nllb texts", |c| text_of(c, "facebook/nllb"), &["nllb"]),
    ("XLM-R texts", |c| text_of(c, "xlm-roberta"), &["xlm_roberta"]),
    ("mT5 texts", |c| text_of(c, "google/mt5"), &[]),
    ("RoBERTa texts", |c| text_of(c, "roberta"), &[]),
    ("CoCa", |c| c["multimodal_cfg"].is_object(), &["coca"]),
    ("SigLIP 2", |c| tokens_of(c, "SigLIP2"), &["siglip_weights", "siglip2"]),
    ("SigLIP", |c| trunk(c, "siglip"), &["siglip", "siglip_transformers"]),
    ("MobileCLIP", |c| trunk(c, "fastvit"), &["mobileclip", "mobileclip2"]),
    ("MobileCLIP's ViT", |c| trunk(c, "vit_base_mci"), &[]),
    ("ConvNeXt", |c| trunk(c, "convnext"), &["convnext"]),
    ("EVA02", |c| trunk(c, "eva02"), &["eva02"]),
    ("EVA01", |c| trunk(c, "eva_giant"), &[]),
    ("PE-Core", |c| trunk(c, "vit_pe_core"), &["pe_core"]),
    ("ViTamin", |c| trunk(c, "vitamin"), &[]),
    ("other trunks of timm's", |c| trunk(c, ""), &[]),
    ("ResNet", |c| c["vision_cfg"]["layers"].is_array(), &["resnet"]),
    ("MetaCLIP 2", |c| c["text_cfg"]["pool_type"] == "eos", &["metaclip2"]),
    ("CLIPA", |c| tokens_of(c, "bert"), &["clipa"]),
    ("CLIP's ViT, QuickGELU", |c| c["quick_gelu"] == true, &["clip_quickgelu", "dfn", "open_clip"]),
    ("CLIP's ViT", |_| true, &["laion", "erf_gelu", "hugging_face"]),
];

fn text_of(config: &Value, name: &str) -> bool {
    config["text_cfg"]["hf_model_name"].as_str().is_some_and(|model| model.contains(name))
}

fn tokens_of(config: &Value, name: &str) -> bool {
    config["text_cfg"]["hf_tokenizer_name"].as_str().is_some_and(|model| model.contains(name))
}

fn trunk(config: &Value, name: &str) -> bool {
    config["vision_cfg"]["timm_model_name"].as_str().is_some_and(|model| model.contains(name))
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The field that a refusal names.
fn field(refusal: &str) -> &str {
    let message = refusal.rsplit_once(".json\": ").map_or(refusal, |(_, message)| message);
    message.split_once(" = ").map_or(message, |(field, _)| field)
}

#[test]
fn each_configuration_of_open_clips_is_taken_or_named() {
    let json = std::fs::read(root("crates/export/tests/open_clip/configurations.json")).unwrap();
    let configurations: BTreeMap<String, Value> = serde_json::from_slice(&json).unwrap();
    assert_eq!(configurations.len(), 144);
    let folder = tempfile::tempdir().unwrap();
    let (mut weights, mut graphs) = (0, 0);
    // Name, how it is taken, and what is tested: names.
    let mut rows: BTreeMap<(usize, String), Vec<&str>> = BTreeMap::new();
    for (name, config) in &configurations {
        let path = folder.path().join(format!("{name}.json"));
        std::fs::write(&path, config.to_string()).unwrap();
        let family = FAMILIES.iter().position(|(_, fits, _)| fits(config)).unwrap();
        let by_graphs = check_describes_graphs(&path);
        let taken = match (Architecture::check_known(&path), &by_graphs) {
            (Ok(()), Ok(())) => {
                weights += 1;
                "weights, graphs".to_owned()
            }
            (Ok(()), Err(refusal)) => panic!("{name}: {refusal}"),
            (Err(refusal), Ok(())) => {
                graphs += 1;
                format!("graphs (weights: `{}`)", field(&refusal.to_string()))
            }
            (Err(_), Err(refusal)) => format!("no: `{}`", field(&refusal.to_string())),
        };
        rows.entry((family, taken)).or_default().push(name);
    }
    let fixtures = |names: &[&str]| {
        for name in names {
            let places = ["crates/encoder/tests/published", "crates/export/tests/golden"];
            assert!(places.iter().any(|place| root(place).join(name).is_dir()), "no {name}");
        }
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let lines = rows.iter().map(|((family, taken), names)| {
        let (family, _, tested) = FAMILIES[*family];
        let (count, names, tested) = (names.len(), names.join(", "), fixtures(tested));
        format!("| {family} | {count} | {taken} | {tested} | {names} |\n")
    });
    let total = weights + graphs;
    let table = format!(
        "Of {} configurations {weights} are taken from weights and {graphs} more from graphs alone.\n\n\
         | family | of them | taken from | fixtures | configurations |\n\
         | --- | --- | --- | --- | --- |\n{}",
        configurations.len(),
        lines.collect::<String>()
    );
    assert!(total >= 137, "only {total} of 144 are taken:\n{table}");

    let path = root("docs/models.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (start, end) = ("<!-- configurations -->\n", "<!-- end of configurations -->");
    let (before, rest) = document.split_once(start).expect("the table's place");
    let (written, after) = rest.split_once(end).expect("the table's end");
    if std::env::var_os("PGCLIP_BLESS").is_some() {
        std::fs::write(&path, format!("{before}{start}{table}{end}{after}")).unwrap();
    } else {
        assert_eq!(written, table, "docs/models.md has another table; PGCLIP_BLESS=1 writes it");
    }
}
