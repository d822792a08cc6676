//! Searching: the prompts of a query ([`prompt`]), what is searched ([`source`]) and which rows of
//! it ([`filter`]), what the query says about [`attributes`], what a person said about earlier hits
//! ([`feedback`]), the search itself ([`statement`], [`run`]), its order ([`rerank`]), how well
//! searches do ([`evaluate`]), and zero-shot classification.

mod arguments;
mod attributes;
mod evaluate;
mod feedback;
mod filter;
pub mod prompt;
mod rerank;
mod run;
mod source;
mod statement;
mod zero_shot;
