//! The names of a CLIP's tensors: open_clip's, which are ours, and Hugging Face's.

/// How a checkpoint names its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `visual.…`, `transformer.…`
    OpenClip,
    /// open_clip with `custom_text`: `visual.…`, `text.transformer.…`
    OpenClipCustomText,
    /// transformers' `CLIPModel`: `vision_model.…`, `text_model.…`
    HuggingFace,
}

/// Names outside the transformer blocks.
const OUTER: [(&str, &str); 14] = [
    ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"), // sic
    ("visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"),
    ("visual.ln_post.weight", "vision_model.post_layernorm.weight"),
    ("visual.ln_post.bias", "vision_model.post_layernorm.bias"),
    ("visual.proj", "visual_projection.weight"),
    ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
    ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
    ("ln_final.weight", "text_model.final_layer_norm.weight"),
    ("ln_final.bias", "text_model.final_layer_norm.bias"),
    ("text_projection", "text_projection.weight"),
    ("logit_scale", "logit_scale"),
];

/// Names of the parts of a transformer block.
const BLOCK: [(&str, &str); 5] = [
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("attn.", "self_attn."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
];

impl Naming {
    /// Tells the naming from the names; `None` if it is neither.
    pub fn of<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<Self> {
        names.find_map(|name| match name {
            "text_model.embeddings.token_embedding.weight" => Some(Self::HuggingFace),
            "text.token_embedding.weight" => Some(Self::OpenClipCustomText),
            "token_embedding.weight" => Some(Self::OpenClip),
            _ => None,
        })
    }

    /// How the checkpoint spells open_clip's `name`.
    pub fn spell(self, name: &str) -> String {
        match self {
            Self::OpenClip => name.to_owned(),
            Self::OpenClipCustomText if name == "logit_scale" || name.starts_with("visual.") => {
                name.to_owned()
            }
            Self::OpenClipCustomText => format!("text.{name}"),
            Self::HuggingFace => hugging_face(name),
        }
    }

    /// Whether the projections are torch's `Linear` (`[out, in]`) rather than plain matrices.
    pub fn projections_are_linear(self) -> bool {
        self == Self::HuggingFace
    }

    /// Whether queries, keys and values have matrices of their own.
    pub fn attention_is_split(self) -> bool {
        self == Self::HuggingFace
    }

    /// Buffers that hold nothing learnt: positions counted up, the causal mask, and sizes, which
    /// OpenAI's files have.
    pub fn is_buffer(name: &str) -> bool {
        name.ends_with(".position_ids")
            || name == "attn_mask"
            || name.ends_with(".attn_mask")
            || matches!(name, "input_resolution" | "context_length" | "vocab_size")
    }
}

fn hugging_face(name: &str) -> String {
    if let Some((_, theirs)) = OUTER.iter().find(|(ours, _)| *ours == name) {
        return (*theirs).to_owned();
    }
    let (tower, rest) = match name.strip_prefix("visual.") {
        Some(rest) => ("vision_model", rest),
        None => ("text_model", name),
    };
    let Some((layer, part)) =
        rest.strip_prefix("transformer.resblocks.").and_then(|rest| rest.split_once('.'))
    else {
        return name.to_owned();
    };
    let part = BLOCK
        .iter()
        .find_map(|(ours, theirs)| part.strip_prefix(ours).map(|rest| format!("{theirs}{rest}")))
        .unwrap_or_else(|| part.to_owned());
    format!("{tower}.encoder.layers.{layer}.{part}")
}

#[cfg(test)]
mod tests {
    use super::Naming::*;

    #[test]
    fn names_are_spelled_as_each_library_has_them() {
        let block = "visual.transformer.resblocks.11.mlp.c_fc.bias";
        assert_eq!(OpenClipCustomText.spell(block), block);
        assert_eq!(HuggingFace.spell(block), "vision_model.encoder.layers.11.mlp.fc1.bias");
        let block = "transformer.resblocks.0.attn.q_proj.weight";
        assert_eq!(OpenClipCustomText.spell(block), format!("text.{block}"));
        assert_eq!(HuggingFace.spell(block), "text_model.encoder.layers.0.self_attn.q_proj.weight");
        assert_eq!(HuggingFace.spell("visual.ln_pre.bias"), "vision_model.pre_layrnorm.bias");
        assert_eq!(OpenClipCustomText.spell("logit_scale"), "logit_scale");
        assert_eq!(OpenClip.spell("text_projection"), "text_projection");
    }
}
