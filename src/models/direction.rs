//! Where a model's texts lie. The index turns its space by it, so that searches by text look at fewer
//! records.

use crate::catalog::extension::Extension;
use crate::catalog::read;
use crate::error::Failure;

/// The direction in which a registered model's texts lie: the mean of many of their embeddings, as its
/// directory tells it or as it was computed when the model was registered. `None` for models that were
/// registered before that was done.
pub fn texts_direction(extension: &Extension, name: &str) -> Result<Option<Vec<f32>>, Failure> {
    let query = format!(
        "SELECT mean_text_embedding FROM {} WHERE name OPERATOR(pg_catalog.=) $1",
        extension.relation("clip_model")
    );
    let _owner = extension.as_owner();
    let found = read::kept(&query, &[name.into()], |row| row.get::<Vec<f32>>(1))?;
    Ok(found.flatten())
}
