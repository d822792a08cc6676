//! What open_clip knows of the weights that it publishes and their model configurations do not say:
//! how pictures are prepared, and which activation the weights were trained with. By the tags of
//! `open_clip.list_pretrained()`, in a table that `data/make.py` writes.

use pgclip_clip::model::{Interpolation, ResizeMode};

use super::{Activation, Preprocessing};

const TABLE: &str = include_str!("../../data/open_clip_tags.tsv");

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tag {
    pub name: &'static str,
    pub activation: Activation,
    pub preprocessing: Preprocessing,
}

/// The tags of a model configuration, by its name: that of its file without `.json`.
pub(crate) fn of(model: &str) -> Vec<Tag> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.strip_prefix(model)?.strip_prefix('\t').and_then(tag)).collect()
}

fn tag(rest: &'static str) -> Option<Tag> {
    let fields: Vec<&'static str> = rest.split('\t').collect();
    let [name, activation, stats, interpolation, resize] = fields[..] else { return None };
    let stated = match stats {
        "openai" => Preprocessing::openai(),
        "imagenet" => Preprocessing::imagenet(),
        "inception" => Preprocessing::inception(),
        _ => Preprocessing::cropped([0.0; 3], [1.0; 3]),
    };
    let preprocessing = Preprocessing {
        resize: if resize == "squash" { ResizeMode::Squash } else { ResizeMode::Crop },
        interpolation: match interpolation {
            "bilinear" => Interpolation::Bilinear,
            _ => Interpolation::Bicubic,
        },
        ..stated
    };
    let quick = activation == "quick_gelu";
    let activation = if quick { Activation::QuickGelu } else { Activation::Gelu };
    Some(Tag { name, activation, preprocessing })
}

/// What all tags of a model say alike: then it does not matter which of them the weights are.
pub(crate) fn agreed<T: PartialEq>(tags: &[Tag], of: impl Fn(&Tag) -> T) -> Option<T> {
    let first = of(tags.first()?);
    tags.iter().all(|tag| of(tag) == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_open_clips() {
        let lines: Vec<&str> = TABLE.lines().skip(1).collect();
        assert_eq!(lines.len(), 196);
        for line in lines {
            let (model, rest) = line.split_once('\t').unwrap();
            let tag = tag(rest).unwrap();
            assert!(of(model).contains(&tag));
            for (field, known) in rest.split('\t').skip(1).zip([
                &["gelu", "quick_gelu"][..],
                &["openai", "imagenet", "inception", "none"],
                &["bicubic", "bilinear"],
                &["shortest", "squash"],
            ]) {
                assert!(known.contains(&field), "{line}");
            }
        }
    }

    #[test]
    fn tags_differ_where_it_matters() {
        let tags = of("ViT-B-32");
        assert_eq!(agreed(&tags, |tag| tag.activation), None);
        assert_eq!(agreed(&tags, |tag| tag.preprocessing.clone()), Some(Preprocessing::openai()));
        let dfn = of("ViT-H-14-378");
        assert_eq!(dfn.len(), 1);
        assert_eq!(dfn[0].preprocessing.resize, ResizeMode::Squash);
        assert_eq!(dfn[0].activation, Activation::QuickGelu);
        // A name is no beginning of another one.
        assert!(of("ViT-B").is_empty());
    }
}
