//! Searching: the prompts of a query, the searches themselves, and zero-shot classification.

pub mod prompt;
