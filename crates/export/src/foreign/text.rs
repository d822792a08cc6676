//! The tokeniser of a published model: `tokenizer.json` and what `tokenizer_config.json` and
//! `special_tokens_map.json` beside it change of it, as transformers reads them.

use std::path::{Path, PathBuf};

use pgclip_clip::model::{Clean, Padding, TokensConfig};
use pgclip_clip::tokens::{FileTokenizer, MAX_FILE_BYTES, token_id};
use serde_json::{Value, json};

use crate::config;
use crate::error::ExportError;

/// Name of a tokeniser's file, published and in a model directory.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS: &str = "special_tokens_map.json";

/// The files of a tokeniser.
pub struct Published {
    folder: PathBuf,
    pub tokenizer: Value,
    pub config: Value,
    special: Value,
}

impl Published {
    /// Reads the tokeniser in a folder.
    pub fn read(folder: &Path) -> Result<Self, ExportError> {
        let path = folder.join(TOKENIZER_FILE);
        let length = std::fs::metadata(&path).map_err(ExportError::read(&path))?.len();
        if length > MAX_FILE_BYTES {
            return Err(ExportError::config(
                &path,
                format!("has {length} bytes; a tokenizer has at most {MAX_FILE_BYTES}"),
            ));
        }
        let json = |name: &str| -> Result<Value, ExportError> {
            let path = folder.join(name);
            let bytes = std::fs::read(&path).map_err(ExportError::read(&path))?;
            serde_json::from_slice(&bytes).map_err(|e| ExportError::config(&path, e.to_string()))
        };
        let optional = |name: &str| match folder.join(name).exists() {
            true => json(name),
            false => Ok(json!({})),
        };
        let mut published = Self {
            folder: folder.into(),
            tokenizer: json(TOKENIZER_FILE)?,
            config: optional(TOKENIZER_CONFIG)?,
            special: optional(SPECIAL_TOKENS)?,
        };
        if !published.tokenizer["model"].is_object() {
            return Err(published.bad(TOKENIZER_FILE, "is no tokenizer: model is missing"));
        }
        if let Some(side) = ["padding_side", "truncation_side"]
            .into_iter()
            .find(|side| published.config[*side].as_str().is_some_and(|side| side != "right"))
        {
            let message =
                format!("{side} = {} is not supported: only \"right\"", published.config[side]);
            return Err(published.bad(TOKENIZER_CONFIG, message));
        }
        published.apply_class();
        Ok(published)
    }

    fn bad(&self, file: &str, message: impl Into<String>) -> ExportError {
        ExportError::config(&self.folder.join(file), message)
    }

    /// The class that transformers makes of it, without "Fast".
    pub fn class(&self) -> &str {
        self.config["tokenizer_class"].as_str().unwrap_or_default().trim_end_matches("Fast")
    }

    /// What some classes of transformers' do to the tokeniser when they are made.
    fn apply_class(&mut self) {
        let config = &self.config;
        let flag = |key: &str, default: bool| config[key].as_bool().unwrap_or(default);
        match self.class() {
            // The template is made of these two, whatever the file has.
            "GemmaTokenizer" | "LlamaTokenizer" | "CodeLlamaTokenizer" => {
                let marks = [
                    flag("add_bos_token", true).then(|| self.token("bos_token")).flatten(),
                    flag("add_eos_token", false).then(|| self.token("eos_token")).flatten(),
                ];
                self.tokenizer["post_processor"] = template(&self.tokenizer, marks);
            }
            "BertTokenizer" if config["do_lower_case"].is_boolean() => {
                let lower = flag("do_lower_case", true);
                let normalizer = &mut self.tokenizer["normalizer"];
                if normalizer["type"] == "BertNormalizer" {
                    normalizer["lowercase"] = json!(lower);
                }
            }
            _ => {}
        }
    }

    /// A special token's text by its role, such as `pad_token`.
    fn token(&self, role: &str) -> Option<String> {
        [&self.config, &self.special].iter().find_map(|file| {
            let token = &file[role];
            token.as_str().or_else(|| token["content"].as_str()).map(str::to_owned)
        })
    }

    /// The id of a special token by its role.
    pub fn special_id(&self, role: &str) -> Option<u32> {
        token_id(&self.tokenizer, &self.token(role)?)
    }

    /// The id that texts are filled up with.
    pub fn pad(&self) -> Result<u32, ExportError> {
        let stated = self.token("pad_token");
        if let Some(token) = &stated {
            return token_id(&self.tokenizer, token).ok_or_else(|| {
                let message =
                    format!("pad_token is \"{token}\", which {TOKENIZER_FILE} does not have");
                self.bad(TOKENIZER_CONFIG, message)
            });
        }
        let own = self.tokenizer["padding"]["pad_id"].as_u64();
        own.and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| self.bad(TOKENIZER_CONFIG, "pad_token is missing"))
    }

    /// Whether it is CLIP's own of 49,408 tokens, whatever it is called.
    pub fn is_clips(&self) -> bool {
        let model = &self.tokenizer["model"];
        let known =
            [("<|startoftext|>", 49_406), ("<|endoftext|>", 49_407), ("!", 0), ("car</w>", 1615)];
        model["vocab"].as_object().is_some_and(|vocabulary| vocabulary.len() == 49_408)
            && model["merges"].as_array().is_some_and(|merges| merges.len() == 48_894)
            && known.iter().all(|(token, id)| token_id(&self.tokenizer, token) == Some(*id))
    }

    /// The most tokens of a text, if a number that was meant.
    pub fn most_tokens(&self) -> Option<u32> {
        let length = self.config["model_max_length"].as_u64()?;
        u32::try_from(length).ok().filter(|length| (2..1 << 20).contains(length))
    }

    /// How the tokeniser is used, `clean` and `padding` being known.
    pub fn describe(
        &self,
        clean: Vec<Clean>,
        padding: Padding,
    ) -> Result<TokensConfig, ExportError> {
        Ok(TokensConfig {
            file: TOKENIZER_FILE.into(),
            clean,
            prefix: String::new(),
            pad: self.pad()?,
            padding,
            zeroed: None,
            language: None,
        })
    }

    /// Writes it as it is used to a model directory.
    pub fn write(&self, dir: &Path) -> Result<(), ExportError> {
        let path = dir.join(TOKENIZER_FILE);
        let json = serde_json::to_vec(&self.tokenizer).map_err(std::io::Error::other);
        json.and_then(|json| std::fs::write(&path, json)).map_err(ExportError::write(&path))
    }
}

/// What transformers does to a text before the rules of `tokenizer.json`, by the tokeniser's class and
/// the kind of the model.
pub(crate) fn transformers_cleaning(tokenizer: &Published, kind: &str) -> Vec<Clean> {
    let lower = tokenizer.config["do_lower_case"].as_bool();
    match (tokenizer.class(), kind) {
        ("SiglipTokenizer", _) => {
            let lower = lower.unwrap_or(true).then_some(Clean::Lower);
            lower.into_iter().chain([Clean::Punctuation, Clean::Whitespace]).collect()
        }
        // SigLIP 2's texts were lower case in training; Gemma's tokeniser does not see to it.
        (_, "siglip2") => vec![Clean::Lower],
        ("GemmaTokenizer", "siglip") if lower != Some(false) => vec![Clean::Lower],
        _ => Vec::new(),
    }
}

/// open_clip's name for a way to clean texts.
pub(crate) fn cleaning(name: &str) -> Option<Vec<Clean>> {
    use Clean::{Lower, Punctuation, Repair, Underscores, Whitespace};
    Some(match name {
        "whitespace" => vec![Repair, Whitespace],
        "lower" => vec![Repair, Whitespace, Lower],
        "canonicalize" => vec![Repair, Underscores, Punctuation, Lower, Whitespace],
        _ => return None,
    })
}

/// What open_clip's description says of texts.
pub(super) struct Texts {
    pub context_length: u32,
    pub clean: Vec<Clean>,
    pub strip_separator: bool,
}

impl Texts {
    /// Reads the description at `path`; `masked`: the text tower takes a mask.
    pub fn read(model: &Value, path: &Path, masked: bool) -> Result<Self, ExportError> {
        let bad = |message: String| Err(ExportError::config(path, message));
        let text_cfg = &model["text_cfg"];
        if !text_cfg.is_object() {
            return bad("is no description of open_clip's: text_cfg is missing".into());
        }
        // What open_clip does to texts; M-CLIP, whose graph takes a mask, is transformers' alone.
        let kwargs = &text_cfg["tokenizer_kwargs"];
        let clean = match (&kwargs["clean"], masked) {
            (_, true) => Some(Vec::new()),
            (Value::String(clean), _) => cleaning(clean),
            _ if text_cfg["hf_tokenizer_name"].is_string() => cleaning("whitespace"),
            _ => cleaning("lower"),
        };
        let Some(clean) = clean else {
            let clean = &kwargs["clean"];
            return bad(format!("text_cfg.tokenizer_kwargs.clean = {clean} is not supported"));
        };
        for (key, value) in kwargs.as_object().into_iter().flatten() {
            if !matches!(key.as_str(), "clean" | "strip_sep_token") {
                return bad(format!(
                    "text_cfg.tokenizer_kwargs.{key} = {value} is not supported: nothing is known of it"
                ));
            }
        }
        let mode = &text_cfg["tokenizer_mode"];
        if mode.as_str().is_some_and(|mode| !mode.is_empty()) {
            return bad(format!("text_cfg.tokenizer_mode = {mode} is not supported"));
        }
        let length = text_cfg["context_length"].as_u64().unwrap_or(77);
        let Some(context_length) = u32::try_from(length).ok().filter(|n| (1..=4096).contains(n))
        else {
            return bad(format!("text_cfg.context_length is {length}; it is 1 to 4096"));
        };
        let strip_separator = kwargs["strip_sep_token"] == json!(true);
        Ok(Self { context_length, clean, strip_separator })
    }
}

/// Why graphs of the model that open_clip's description at `path` is of could not be taken, if they
/// could not, as far as the description tells it.
pub fn check_describes_graphs(path: &Path) -> Result<(), ExportError> {
    Texts::read(&config::read_json(path)?, path, false).map(|_| ())
}

/// A template with marks before and behind a text.
fn template(tokenizer: &Value, marks: [Option<String>; 2]) -> Value {
    let mut special = json!({});
    let mut mark = |token: &Option<String>| -> Option<Value> {
        let token = token.as_deref()?;
        let id = token_id(tokenizer, token)?;
        special[token] = json!({"id": token, "ids": [id], "tokens": [token]});
        Some(json!({"SpecialToken": {"id": token, "type_id": 0}}))
    };
    let (before, behind) = (mark(&marks[0]), mark(&marks[1]));
    let text = |which: &str| json!({"Sequence": {"id": which, "type_id": 0}});
    let around = |which: &str| {
        let parts = [before.clone(), Some(text(which)), behind.clone()];
        parts.into_iter().flatten().collect::<Vec<_>>()
    };
    json!({
        "type": "TemplateProcessing",
        "single": around("A"),
        "pair": ([around("A"), around("B")].concat()),
        "special_tokens": special,
    })
}

/// Reads the tokeniser as the encoder will, to see that it can.
pub fn read(
    published: &Published,
    tokens: &TokensConfig,
    context_length: usize,
) -> Result<FileTokenizer, ExportError> {
    let json = serde_json::to_vec(&published.tokenizer)
        .map_err(|e| published.bad(TOKENIZER_FILE, e.to_string()))?;
    FileTokenizer::new(&json, tokens, context_length)
        .map_err(|error| ExportError::config(&published.folder, error.to_string()))
}
