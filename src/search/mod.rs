//! Searching: the prompts of a query ([`prompt`]), what is searched ([`source`]) and which rows of
//! it ([`filter`]), what the query says about [`attributes`], what a person said about earlier hits
//! ([`feedback`]), the search itself ([`statement`], [`run`]), its order ([`rerank`]), and how well
//! searches do ([`evaluate`]); [`query`] gives a query's embedding alone.

mod arguments;
mod attributes;
mod evaluate;
mod feedback;
mod filter;
mod prompt;
mod query;
mod rerank;
mod run;
mod source;
mod statement;
