//! Searching: the prompts of a query ([`prompt`]), what is searched ([`source`]) and which rows of
//! it ([`filter`]), what a person said about earlier hits ([`feedback`]), the search itself ([`run`]),
//! its order ([`rerank`]), how well searches do ([`evaluate`]), and zero-shot classification.

mod evaluate;
mod feedback;
mod filter;
pub mod prompt;
mod rerank;
mod run;
mod source;
mod zero_shot;
