//! Models as the catalog has them: which are registered ([`registry`]), which column belongs to which
//! ([`binding`]), where their texts lie ([`direction`]), and the directories that images may be read
//! from ([`roots`]). Nothing here asks the encoder.

pub mod binding;
mod direction;
mod registry;
pub mod roots;

pub use direction::texts_direction;
pub use registry::{BUILTIN, Model, default_name, find, resolve};
