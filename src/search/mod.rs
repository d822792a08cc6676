//! Searching: the prompts of a query ([`prompt`]), what is searched ([`source`]) and which rows of
//! it ([`filter`]), the search itself ([`run`]), and zero-shot classification.

mod filter;
pub mod prompt;
mod run;
mod source;
mod zero_shot;
