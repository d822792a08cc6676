//! What CLIP needs around its two towers, shared by the encoder, the extension and the trainer:
//! the model directory, the tokeniser, and preprocessing.
//!
//! In the order data flows: [`model`] and [`towers`] say what a model wants; `decode` turns image bytes into
//! pixels and `preprocess` the pixels into the image tower's input; `tokenize` turns a text into
//! CLIP's token ids, `tokens` into those of a `tokenizer.json`. With no feature switched on only the light parts are built, which is what the
//! extension links; `image`,
//! `text` and `tokenizers` add the rest.

#[cfg(feature = "image")]
pub mod decode;
pub mod model;
mod model_check;
#[cfg(feature = "image")]
pub mod need;
#[cfg(feature = "image")]
pub mod preprocess;
#[cfg(feature = "image")]
mod resample;
#[cfg(feature = "text")]
pub mod tokenize;
#[cfg(feature = "tokenizers")]
pub mod tokens;
pub mod towers;
