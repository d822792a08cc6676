//! The texts' direction of a model: the mean of the embeddings of a fixed list of captions. Texts of a
//! CLIP lie close together and apart from its images, and an index that knows where estimates
//! distances to them far better. Its own file because both `convert` and the description of a model
//! that is being registered compute it.

use crate::encode;
use crate::failure::Failure;
use crate::models::Model;
use half::f16;

/// Captions of many kinds, one a line.
const CAPTIONS: &str = include_str!("../data/captions.txt");
/// Captions in one inference.
const BATCH: usize = 64;

/// The mean of the captions' embeddings, which are of unit length; the mean is shorter.
pub fn texts_direction(model: &Model) -> Result<Vec<f32>, Failure> {
    let captions: Vec<String> = CAPTIONS.lines().map(str::to_owned).collect();
    let mut sum = vec![0f64; model.dimensions()];
    for batch in captions.chunks(BATCH) {
        for embedding in encode::texts(model, None, batch)? {
            let bytes = embedding.map_err(|error| Failure::new(error.kind, error.message))?;
            for (sum, half) in sum.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *sum += f16::from_le_bytes(*half).to_f64();
            }
        }
    }
    Ok(sum.into_iter().map(|sum| (sum / captions.len() as f64) as f32).collect())
}
