//! An exported model in ONNX Runtime against the trainer's own forward pass.
//!
//! Apart from the export because it alone needs ONNX Runtime, which is opened at run time: where
//! there is none, a model is exported unchecked, and told so.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use ort::session::{Session, builder::SessionBuilder};
use ort::value::{DynValue, Tensor as OrtTensor};
use pgclip_clip::model::{IMAGE_FILE, TEXT_FILE};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor, no_grad};

use crate::config::Config;
use crate::encode::{picture_tensor, rectangle};
use crate::model::{Clip, Precision};
use crate::params::Params;
use crate::tokens;

const TEXTS: [&str; 4] = [
    "a red sedan",
    "A person in a white shirt",
    "This is a black Golden Dragon bus, seen at night",
    "",
];

/// The ONNX Runtime to check with: `PGCLIP_ONNXRUNTIME`, or the one that `make deps` fetched below
/// the folder one is in.
pub fn library() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("PGCLIP_ONNXRUNTIME").filter(|path| !path.is_empty()) {
        return Some(path.into());
    }
    let files = std::fs::read_dir("target/deps/onnxruntime/onnxruntime/capi").ok()?;
    files
        .flatten()
        .map(|file| file.path())
        .find(|path| path.to_string_lossy().contains("libonnxruntime.so"))
}

/// The least cosines between both sides' embeddings of a few random pictures and of a few texts.
pub fn cosines(
    library: &Path,
    directory: &Path,
    config: &Config,
    params: &Params,
) -> Result<(f64, f64)> {
    let environment = ort::init_from(library)
        .with_context(|| format!("cannot open ONNX Runtime at {}", library.display()))?
        .build()?;
    let session = |name: &str| -> Result<Session> {
        let builder: SessionBuilder = Session::builder(&environment)?;
        Ok({ builder }.commit_from_file(directory.join(name))?)
    };
    let model = Clip::new(config, params, Precision::Fp32);
    let n = TEXTS.len();

    let size = config.model_cfg.vision_cfg.image_size as usize;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let bytes: Vec<u8> = (0..n * size * size * 3).map(|_| rng.random()).collect();
    let pictures = picture_tensor(&bytes, size, Device::Cpu);
    let colour = |v: [f32; 3]| Tensor::from_slice(&v).view([1, 3, 1, 1]);
    let pixels = pictures.permute([0, 3, 1, 2]).to_kind(Kind::Float) / 255.0;
    let preprocess = &config.preprocess_cfg;
    let pixels = ((pixels - colour(preprocess.mean)) / colour(preprocess.std)).contiguous();
    let mut values = vec![0f32; pixels.numel()];
    pixels.copy_data(&mut values, pixels.numel());
    let input = OrtTensor::from_array(([n, 3, size, size], values))?.into_dyn();
    let found = embeddings(session(IMAGE_FILE)?, "pixels", input)?;
    let image = least_cosine(&found, &no_grad(|| model.encode_bytes(&pictures)));

    let length = config.model_cfg.text_cfg.context_length as usize;
    let ids: Vec<Vec<i64>> = TEXTS.iter().map(|text| tokens::tokenize(text, length)).collect();
    let padded: Vec<i64> = ids
        .iter()
        .flat_map(|ids| ids.iter().copied().chain(std::iter::repeat_n(0, length - ids.len())))
        .collect();
    let input = OrtTensor::from_array(([n, length], padded))?.into_dyn();
    let found = embeddings(session(TEXT_FILE)?, "tokens", input)?;
    let table = params.token_rows.as_deref();
    let rows: Vec<Vec<i64>> = ids.iter().map(|ids| tokens::to_rows(ids, table)).collect();
    let (rows, ends) = rectangle(&rows, Device::Cpu);
    let text = least_cosine(&found, &no_grad(|| model.encode_rows(&rows, &ends)));
    Ok((image, text))
}

fn embeddings(mut session: Session, name: &str, input: DynValue) -> Result<Tensor> {
    let outputs = session.run(ort::inputs![name => input])?;
    let (shape, values) = outputs["embedding"].try_extract_tensor::<f32>()?;
    ensure!(shape.len() == 2, "the graph's embedding has the shape {shape:?}");
    Ok(Tensor::from_slice(values).view([shape[0], shape[1]]))
}

/// Rows are of unit length on both sides.
fn least_cosine(found: &Tensor, expected: &Tensor) -> f64 {
    (found * expected).sum_dim_intlist(&[1i64][..], false, Kind::Double).min().double_value(&[])
}
