//! What fills the gaps of a description: a tag of open_clip's that was named, what all tags of the
//! configuration say alike, what the weights themselves show, and what the command states. Where
//! none of them tells it, it is asked for by the name of the file, the field and the option.

use std::path::Path;

use super::tags::{self, Tag};
use super::{Activation, Preprocessing, Stated, not_otherwise};
use crate::checkpoint::Checkpoint;
use crate::error::ExportError;

/// Numbers that OpenAI's files hold beside the weights.
const OPENAI_MARKS: [&str; 3] = ["input_resolution", "context_length", "vocab_size"];

/// What is known of certain weights from elsewhere than their description.
pub(crate) struct Known {
    /// All tags of the configuration, or the one that was named.
    tags: Vec<Tag>,
    named: bool,
    bare: bool,
}

impl Known {
    /// Looks up the description at `path`, if it is one of open_clip's model configurations.
    pub(crate) fn of(path: &Path, bare: bool, stated: &Stated) -> Result<Self, ExportError> {
        let model = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut tags = if bare { tags::of(&model) } else { Vec::new() };
        if let Some(wanted) = &stated.tag {
            let plain = wanted.to_lowercase().replace('-', "_");
            let list = tags.iter().map(|tag| tag.name).collect::<Vec<_>>().join(", ");
            tags.retain(|tag| tag.name == plain);
            if tags.is_empty() {
                let message = match (bare, &list[..]) {
                    (false, _) => {
                        format!("describes its weights itself; the tag \"{wanted}\" is not for it")
                    }
                    (true, "") => format!(
                        "is named like none of open_clip's model configurations that have tags, so \
                         nothing is known of \"{wanted}\""
                    ),
                    (true, list) => {
                        format!("has no weights that open_clip calls \"{wanted}\": {list}")
                    }
                };
                return Err(ExportError::config(path, message));
            }
        }
        Ok(Self { tags, named: stated.tag.is_some(), bare })
    }

    /// The activation, of which the description at `path` says `said`.
    pub(crate) fn activation(
        &self,
        path: &Path,
        said: Option<Activation>,
        weights: &Checkpoint,
        stated: Option<Activation>,
    ) -> Result<Activation, ExportError> {
        let tag = tags::agreed(&self.tags, |tag| tag.activation);
        let openai = OPENAI_MARKS.iter().all(|name| weights.tensor(name).is_some());
        let shown = openai.then_some(Activation::QuickGelu);
        let sources = [
            ("the description", said),
            ("open_clip's table of weights", tag.filter(|_| self.named)),
            ("the option --activation", stated),
            ("the weights, which are OpenAI's", shown),
        ];
        let mut told = sources.iter().filter_map(|(who, what)| Some((who, (*what)?)));
        if let Some((first, activation)) = told.next() {
            return match told.find(|(_, other)| *other != activation) {
                None => Ok(activation),
                Some((other, _)) => Err(ExportError::config(
                    path,
                    format!("quick_gelu: {first} and {other} do not say the same of it"),
                )),
            };
        }
        // Silence means GELU in a description of certain weights, unless they are called OpenAI's.
        let called = weights.path.to_string_lossy().to_lowercase().contains("openai");
        match tag {
            Some(activation) => Ok(activation),
            None if self.bare || called => Err(ExportError::NoActivation { path: path.into() }),
            None => Ok(Activation::Gelu),
        }
    }

    /// The preprocessing, of which the description at `path` says `told`.
    pub(crate) fn preprocessing(
        &self,
        path: &Path,
        told: Option<Preprocessing>,
        stated: Option<&Preprocessing>,
    ) -> Result<Preprocessing, ExportError> {
        let tag = tags::agreed(&self.tags, |tag| tag.preprocessing.clone());
        if let Some(told) = told.or(tag.clone().filter(|_| self.named)) {
            not_otherwise(&told, stated, path)?;
            return Ok(told);
        }
        stated.cloned().or(tag).ok_or_else(|| ExportError::NoPreprocessing { path: path.into() })
    }
}
