//! Searching: the prompts of a query ([`prompt`]), what is searched ([`source`]), the search itself
//! ([`run`]), and zero-shot classification.

pub mod prompt;
mod run;
mod source;
mod zero_shot;
