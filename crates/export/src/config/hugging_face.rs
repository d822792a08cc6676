//! Hugging Face's `config.json` of a `CLIPModel`. Defaults are those of transformers'
//! `CLIPVisionConfig` and `CLIPTextConfig`, which newer versions leave out of the files.
//!
//! What is not known is refused by name: a graph that ignores an option would give embeddings that
//! look right and are wrong.

use serde_json::{Value, json};

use super::section::Section;
use super::{Activation, Shape, Tower};

/// What every configuration of transformers may have beside what it computes: how weights begin,
/// what is returned, how text is generated.
const HARMLESS: &[&str] = &[
    "_attn_implementation_autoset",
    "_commit_hash",
    "_name_or_path",
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cls_token_id",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "logit_scale_init_value",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// The shape that `config` describes.
pub(super) fn parse(config: Value) -> Result<Shape, String> {
    let mut model = Section::new("", config)?;
    model.only("model_type", &[json!("clip")])?;
    let mut vision = tower_section(&mut model, "vision_config", "clip_vision_model")?;
    let mut text = tower_section(&mut model, "text_config", "clip_text_model")?;
    let dimensions = model.whole("projection_dim", 512)?;
    finish(model)?;

    vision.only("num_channels", &[json!(3)])?;
    let image_size = side(&mut vision, "image_size", 224)?;
    let patch_size = side(&mut vision, "patch_size", 32)?;
    let vision_tower = tower(&mut vision, 768, 3072, 12)?;
    finish(vision)?;

    // 2 is what OpenAI's first files say: the highest id is taken, which is the end of text. With
    // any other the embedding is taken at another token.
    text.only("eos_token_id", &[json!(2), json!(49_407), json!([49_407])])?;
    let vocab_size = text.whole("vocab_size", 49_408)?;
    let context_length = text.whole("max_position_embeddings", 77)?;
    let text_tower = tower(&mut text, 512, 2048, 8)?;
    finish(text)?;
    Ok(Shape {
        dimensions,
        image_size,
        patch_size,
        ln_pre: true,
        vision: vision_tower,
        text: text_tower,
        context_length,
        vocab_size,
    })
}

/// A tower's section. Older files have a second one, which counts where it is there.
fn tower_section(model: &mut Section, key: &str, kind: &str) -> Result<Section, String> {
    let first = model.section(key)?;
    let second = model.section(&format!("{key}_dict"))?;
    let mut found = match second.or(first) {
        Some(section) => section,
        None => Section::new(format!("{key}."), json!({}))?,
    };
    found.only("model_type", &[json!(kind)])?;
    // Of a tower by itself; the projection here is the whole model's.
    found.ignore(&["projection_dim"]);
    Ok(found)
}

pub(crate) fn finish(mut section: Section) -> Result<(), String> {
    if let Some(heads) = section.take("pruned_heads").filter(|heads| *heads != json!({})) {
        return Err(section.refusal("pruned_heads", &heads, "only none"));
    }
    section.ignore(HARMLESS);
    section.finish()
}

/// One side, or two that are the same.
fn side(section: &mut Section, key: &str, default: usize) -> Result<usize, String> {
    super::square(section, key).map(|side| side.unwrap_or(default))
}

fn tower(
    section: &mut Section,
    width: usize,
    mlp_width: usize,
    heads: usize,
) -> Result<Tower, String> {
    let activation = match section.text("hidden_act")?.as_deref() {
        None | Some("quick_gelu") => Activation::QuickGelu,
        Some("gelu") => Activation::Gelu,
        Some(other) => {
            let why = "only \"quick_gelu\" and \"gelu\"";
            return Err(section.refusal("hidden_act", &json!(other), why));
        }
    };
    Ok(Tower {
        width: section.whole("hidden_size", width)?,
        layers: section.whole("num_hidden_layers", 12)?,
        heads: section.whole("num_attention_heads", heads)?,
        mlp_width: section.whole("intermediate_size", mlp_width)?,
        activation,
        epsilon: section.number("layer_norm_eps", 1e-5)? as f32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_file_leaves_out_is_transformers_default() {
        let shape = parse(json!({"vision_config": {}, "text_config": {}})).unwrap();
        assert_eq!((shape.vision.width, shape.patch_size, shape.image_size), (768, 32, 224));
        assert_eq!((shape.text.heads, shape.vision.heads), (8, 12));
    }

    #[test]
    fn the_second_section_of_older_files_counts() {
        let config = json!({
            "text_config": {"hidden_act": "quick_gelu", "hidden_size": 512},
            "text_config_dict": {"hidden_act": "gelu", "hidden_size": 768},
            "vision_config": {"hidden_act": "gelu"}, "vision_config_dict": null,
        });
        let shape = parse(config).unwrap();
        assert_eq!((shape.text.width, shape.text.activation), (768, Activation::Gelu));
        assert_eq!(shape.vision.activation, Activation::Gelu);
    }

    #[test]
    fn what_would_change_the_arithmetic_is_refused_by_name() {
        for (section, key, value) in [
            ("", "model_type", json!("siglip")),
            ("", "quantization_config", json!({"bits": 4})),
            ("", "auto_map", json!({"AutoModel": "code.py"})),
            ("", "logit_bias_init_value", json!(-10)),
            ("vision_config", "model_type", json!("siglip_vision_model")),
            ("vision_config", "num_channels", json!(4)),
            ("vision_config", "image_size", json!([224, 196])),
            ("vision_config", "hidden_act", json!("gelu_pytorch_tanh")),
            ("vision_config", "pruned_heads", json!({"3": [1]})),
            ("vision_config", "vision_use_head", json!(true)),
            ("vision_config", "num_hidden_layers", json!("many")),
            ("text_config", "eos_token_id", json!(1)),
            ("text_config", "hidden_act", json!("silu")),
            ("text_config", "is_causal", json!(false)),
            ("text_config", "layer_norm_eps", json!("small")),
        ] {
            let mut config = json!({"vision_config": {}, "text_config": {}});
            let (at, name) = match section {
                "" => (&mut config, key.to_owned()),
                _ => (&mut config[section], format!("{section}.{key}")),
            };
            at[key] = value;
            let error = parse(config).unwrap_err();
            assert!(error.starts_with(&format!("{name} = ")), "{error}");
        }
    }
}
