//! What pictures show, in words: the values of attributes ([`lexicon`]) and their directions
//! ([`labels`]), how a user lists attributes ([`parse`]), the columns that hold them ([`columns`]) and
//! what is written there ([`filling`]), and zero-shot classification in SQL ([`zero_shot`]).

pub mod columns;
pub mod filling;
mod labels;
pub mod lexicon;
pub mod parse;
mod zero_shot;
