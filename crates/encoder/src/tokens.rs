//! Texts to a text tower's batch, whichever tokeniser the model has: CLIP's own, or a file's. Its own
//! file because the tower's probe needs it as well as every batch of texts.

use crate::backend::{Feed, Tower};
use crate::failure::Failure;
use pgclip_clip::model::{Padding, TokensConfig};
use pgclip_clip::tokenize::{END_OF_TEXT, Tokenizer};
use pgclip_clip::tokens::FileTokenizer;
use pgclip_wire::protocol::{ErrorKind, ItemError};

/// A language's token, and the one in whose place it stands.
pub type Language = (u32, u32);

/// A model's tokeniser.
#[derive(Debug)]
pub enum Tokens {
    Clip,
    File(Box<FileTokenizer>, TokensConfig),
}

impl Tokens {
    /// The language of a request, for [`encode`](Self::encode); or why the model has none of that name.
    pub fn language(&self, name: Option<&str>) -> Result<Option<Language>, Failure> {
        let Some(name) = name else { return Ok(None) };
        let found = match self {
            Self::Clip => {
                Err(format!("the model has no languages, so that no text is in \"{name}\""))
            }
            Self::File(tokenizer, _) => tokenizer.language(name).map_err(|error| error.to_string()),
        };
        found.map(Some).map_err(|message| Failure::new(ErrorKind::NoLanguage, message))
    }

    /// The ids of a text, not filled up.
    pub fn encode(
        &self,
        text: &str,
        language: Option<Language>,
        context_length: usize,
    ) -> Result<Vec<i64>, ItemError> {
        match self {
            Self::Clip => {
                let mut ids = Tokenizer::clip().encode(text, context_length);
                let end = ids.iter().rposition(|&id| id == END_OF_TEXT);
                ids.truncate(end.map_or(context_length, |end| end + 1));
                Ok(ids)
            }
            Self::File(tokenizer, _) => {
                let encoded = tokenizer.encode_in(text, language);
                encoded.map_err(|error| ItemError {
                    kind: ErrorKind::TextTooLong,
                    message: error.to_string(),
                })
            }
        }
    }

    pub fn padding(&self) -> Padding {
        match self {
            Self::Clip => Padding::Context,
            Self::File(_, config) => config.padding,
        }
    }

    fn pad(&self) -> i64 {
        match self {
            Self::Clip => 0,
            Self::File(_, config) => i64::from(config.pad),
        }
    }

    /// The batch of these texts' ids for `tower`: filled up to the longest of them where the tower
    /// allows it, most of a search's 77 tokens being padding, else to the context length.
    pub fn batch(&self, tower: &Tower, texts: &[Vec<i64>], context_length: usize) -> Feed<'static> {
        let longest = texts.iter().map(Vec::len).max().unwrap_or(1).max(1);
        self.padded(texts, if tower.any_length { longest } else { context_length })
    }

    /// The same, filled up to `length`.
    pub fn padded(&self, texts: &[Vec<i64>], length: usize) -> Feed<'static> {
        let mut ids = Vec::with_capacity(texts.len() * length);
        let mut mask = Vec::with_capacity(texts.len() * length);
        for text in texts {
            let text = &text[..text.len().min(length)];
            let fill = length - text.len();
            ids.extend(text.iter().copied().chain(std::iter::repeat_n(self.pad(), fill)));
            mask.extend(std::iter::repeat_n(1, text.len()));
            mask.extend(std::iter::repeat_n(0, fill));
        }
        let shape = vec![texts.len() as i64, length as i64];
        Feed::Tokens { shape, ids: ids.into(), mask: mask.into() }
    }
}
