//! Weights that know nothing, in the shape of a CLIP, for measuring and trying things with nothing
//! downloaded. The same values each time, of open_clip's own spread at the start of a training, so
//! that no layer overflows fp16.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use half::f16;
use serde_json::{Map, Value, json};

/// A tower: width, layers, heads, width of the perceptron.
#[derive(Clone, Copy, Debug)]
struct Tower(usize, usize, usize, usize);

/// The shape of a CLIP with a vision transformer.
#[derive(Clone, Debug)]
pub struct RandomClip {
    dimensions: usize,
    image: usize,
    patch: usize,
    vision: Tower,
    text: Tower,
}

const CONTEXT: usize = 77;
const VOCABULARY: usize = 49_408;

/// A tensor: name, shape, and the deviation of its values; `None`: all of them are one.
type Tensor = (String, Vec<usize>, Option<f64>);

impl RandomClip {
    /// The shape of a published model: ViT-B-32, ViT-L-14 or ViT-bigG-14.
    pub fn published(name: &str) -> Option<Self> {
        let (patch, vision, text) = match name {
            "ViT-B-32" => (32, Tower(768, 12, 12, 3072), Tower(512, 12, 8, 2048)),
            "ViT-L-14" => (14, Tower(1024, 24, 16, 4096), Tower(768, 12, 12, 3072)),
            "ViT-bigG-14" => (14, Tower(1664, 48, 16, 8192), Tower(1280, 32, 20, 5120)),
            _ => return None,
        };
        Some(Self { dimensions: text.0, image: 224, patch, vision, text })
    }

    /// As small as goes, with embeddings of `dimensions`.
    pub fn smallest(dimensions: usize) -> Self {
        let tower = Tower(32, 1, 1, 128);
        Self { dimensions, image: 32, patch: 32, vision: tower, text: tower }
    }

    /// Towers of one layer of this width: most of it is the table of tokens.
    pub fn shallow(width: usize) -> Self {
        let tower = Tower(width, 1, 8, 4 * width);
        Self { dimensions: width, image: 32, patch: 32, vision: tower, text: tower }
    }

    /// Writes what `pgclip-encoder convert` takes: open_clip's configuration and safetensors.
    ///
    /// # Errors
    /// Where `folder` cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("open_clip_config.json"), self.config().to_string())?;
        let tensors = self.tensors();
        let (mut header, mut at) = (Map::new(), 0);
        for (name, shape, _) in &tensors {
            let end = at + 2 * shape.iter().product::<usize>();
            header.insert(
                name.clone(),
                json!({"dtype": "F16", "shape": shape, "data_offsets": [at, end]}),
            );
            at = end;
        }
        // safetensors: the header's length, the header padded to eight bytes, the values.
        let mut header = Value::Object(header).to_string();
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
        let mut file = BufWriter::new(File::create(folder.join("open_clip_model.safetensors"))?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for (_, shape, deviation) in &tensors {
            // A uniform value of deviation one reaches to the root of three.
            let scale = deviation.map(|deviation| (deviation * 12f64.sqrt()) as f32);
            for _ in 0..shape.iter().product::<usize>() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let uniform = (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5;
                let value = scale.map_or(1.0, |scale| scale * uniform);
                file.write_all(&f16::from_f32(value).to_le_bytes())?;
            }
        }
        file.flush()
    }

    fn tensors(&self) -> Vec<Tensor> {
        let Self { dimensions, image, patch, vision, text } = self;
        let wide = vision.0 as f64;
        let positions = 1 + (image / patch).pow(2);
        let mut all: Vec<Tensor> = vec![
            ("visual.conv1.weight".into(), vec![vision.0, 3, *patch, *patch], Some(0.02)),
            ("visual.class_embedding".into(), vec![vision.0], Some(wide.powf(-0.5))),
            (
                "visual.positional_embedding".into(),
                vec![positions, vision.0],
                Some(wide.powf(-0.5)),
            ),
            ("visual.proj".into(), vec![vision.0, *dimensions], Some(wide.powf(-0.5))),
            ("token_embedding.weight".into(), vec![VOCABULARY, text.0], Some(0.02)),
            ("positional_embedding".into(), vec![CONTEXT, text.0], Some(0.01)),
            ("text_projection".into(), vec![text.0, *dimensions], Some((text.0 as f64).powf(-0.5))),
            ("logit_scale".into(), vec![], None),
        ];
        let norm = |at: String, width| {
            [
                (format!("{at}.weight"), vec![width], None),
                (format!("{at}.bias"), vec![width], Some(0.0)),
            ]
        };
        all.extend(norm("visual.ln_pre".into(), vision.0));
        all.extend(norm("visual.ln_post".into(), vision.0));
        all.extend(norm("ln_final".into(), text.0));
        for (prefix, Tower(width, layers, _, mlp)) in [("visual.", vision), ("", text)] {
            let (inner, outer) = (
                (*width as f64).powf(-0.5),
                (*width as f64).powf(-0.5) * (2.0 * *layers as f64).powf(-0.5),
            );
            for layer in 0..*layers {
                let at = format!("{prefix}transformer.resblocks.{layer}");
                all.extend(norm(format!("{at}.ln_1"), *width));
                all.extend(norm(format!("{at}.ln_2"), *width));
                for (name, outputs, inputs, deviation) in [
                    ("attn.in_proj_", 3 * width, *width, inner),
                    ("attn.out_proj.", *width, *width, outer),
                    ("mlp.c_fc.", *mlp, *width, (2.0 * *width as f64).powf(-0.5)),
                    ("mlp.c_proj.", *width, *mlp, outer),
                ] {
                    all.push((
                        format!("{at}.{name}weight"),
                        vec![outputs, inputs],
                        Some(deviation),
                    ));
                    all.push((format!("{at}.{name}bias"), vec![outputs], Some(0.0)));
                }
            }
        }
        all
    }

    fn config(&self) -> Value {
        let Tower(width, layers, heads, mlp) = self.vision;
        json!({
            "model_cfg": {
                "embed_dim": self.dimensions,
                "vision_cfg": {
                    "image_size": self.image, "layers": layers, "width": width,
                    "head_width": width / heads, "mlp_ratio": mlp as f64 / width as f64,
                    "patch_size": self.patch,
                },
                "text_cfg": {
                    "context_length": CONTEXT, "vocab_size": VOCABULARY, "width": self.text.0,
                    "heads": self.text.2, "layers": self.text.1,
                },
            },
            "preprocess_cfg": {
                "mean": [0.48145466, 0.4578275, 0.40821073],
                "std": [0.26862954, 0.26130258, 0.27577711],
                "interpolation": "bicubic", "resize_mode": "shortest",
            },
        })
    }
}
