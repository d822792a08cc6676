//! open_clip's names for the members of its ViT family, and their shapes.
//!
//! A table of its own: these numbers are open_clip's model configurations, and change only when
//! a model is added there. A name with `-quickgelu` behind it has the first models' activation.

use crate::config::{Config, ModelConfig, PreprocessConfig, TextConfig, VisionConfig};

/// Name, embedding, picture and patch; the image tower's layers, width, head width and ratio;
/// the text tower's width and layers (its heads are 64 wide).
type Row = (&'static str, [i64; 3], (i64, i64, i64, f64), [i64; 2]);

const FAMILY: [Row; 11] = [
    ("ViT-B-32", [512, 224, 32], (12, 768, 64, 4.0), [512, 12]),
    ("ViT-B-32-256", [512, 256, 32], (12, 768, 64, 4.0), [512, 12]),
    ("ViT-B-16", [512, 224, 16], (12, 768, 64, 4.0), [512, 12]),
    ("ViT-B-16-plus-240", [640, 240, 16], (12, 896, 64, 4.0), [640, 12]),
    ("ViT-L-14", [768, 224, 14], (24, 1024, 64, 4.0), [768, 12]),
    ("ViT-L-14-280", [768, 280, 14], (24, 1024, 64, 4.0), [768, 12]),
    ("ViT-L-14-336", [768, 336, 14], (24, 1024, 64, 4.0), [768, 12]),
    ("ViT-H-14", [1024, 224, 14], (32, 1280, 80, 4.0), [1024, 24]),
    ("ViT-H-14-378", [1024, 378, 14], (32, 1280, 80, 4.0), [1024, 24]),
    ("ViT-g-14", [1024, 224, 14], (40, 1408, 88, 4.3637), [1024, 24]),
    ("ViT-bigG-14", [1280, 224, 14], (48, 1664, 104, 4.9231), [1280, 32]),
];

/// The architecture of that name.
pub fn named(name: &str) -> Option<Config> {
    if name == "pgclip-traffic-tiny" {
        return Some(Config::traffic_tiny());
    }
    let (plain, quick_gelu) = match name.strip_suffix("-quickgelu") {
        Some(plain) => (plain, true),
        None => (name, false),
    };
    let &(_, [embed_dim, image_size, patch_size], vision, [text_width, text_layers]) =
        FAMILY.iter().find(|row| row.0 == plain)?;
    let (layers, width, head_width, mlp_ratio) = vision;
    Some(Config {
        model_cfg: ModelConfig {
            embed_dim,
            quick_gelu,
            vision_cfg: VisionConfig {
                image_size,
                layers,
                width,
                head_width,
                mlp_ratio,
                patch_size,
                no_ln_pre: false,
                norm_kwargs: None,
            },
            text_cfg: TextConfig {
                context_length: 77,
                vocab_size: 49_408,
                width: text_width,
                heads: text_width / 64,
                layers: text_layers,
                mlp_ratio: 4.0,
                norm_kwargs: None,
            },
        },
        preprocess_cfg: PreprocessConfig::clip("shortest"),
    })
}

/// All names, for a message.
pub fn names() -> String {
    let family: Vec<&str> = FAMILY.iter().map(|row| row.0).collect();
    format!("pgclip-traffic-tiny, {} (and with -quickgelu)", family.join(", "))
}
