//! Where a parameter stands: in which tower, and how deep in it.
//!
//! A file of its own because three things count layers, and must agree: locking (open_clip's
//! `lock_image_tower` and `lock_text_tower`), the decay of learning rates, and recomputation.

use crate::config::ModelConfig;
use crate::params::Params;

/// The place of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In the image tower, else in the text tower.
    pub visual: bool,
    /// 0: what comes before the blocks; i + 1: block i; blocks + 1: what comes after them.
    pub depth: usize,
}

/// Where `name` stands; `None` for the logit scale, which is in neither tower.
pub fn place(name: &str, config: &ModelConfig) -> Option<Place> {
    if name == "logit_scale" {
        return None;
    }
    let (visual, rest) = match name.strip_prefix("visual.") {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let block = rest
        .strip_prefix("transformer.resblocks.")
        .and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    let depth = match block {
        Some(block) => block + 1,
        None if ["ln_post", "ln_final", "proj", "text_projection"]
            .iter()
            .any(|word| rest.starts_with(word)) =>
        {
            blocks(config, visual) + 1
        }
        None => 0,
    };
    Some(Place { visual, depth })
}

fn blocks(config: &ModelConfig, visual: bool) -> usize {
    (if visual { config.vision_cfg.layers } else { config.text_cfg.layers }) as usize
}

/// open_clip's groups of a tower's layers, counted from the end: 1 is the projection, 2 the last
/// block with the norm behind it, and so on; the last is what comes before the blocks.
fn group_from_end(name: &str, place: Place, config: &ModelConfig) -> usize {
    let last = blocks(config, place.visual);
    match place.depth {
        depth if depth > last => {
            if name.contains("ln_") {
                2
            } else {
                1
            }
        }
        depth => last + 2 - depth,
    }
}

/// Which towers are locked: each with the number of its last groups that are not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    pub image: Option<usize>,
    pub text: Option<usize>,
}

impl Locks {
    /// Locks what is to be locked: it gets no gradient, and no moments.
    pub fn apply(self, params: &mut Params, config: &ModelConfig) {
        for (visual, unlocked) in [(true, self.image), (false, self.text)] {
            if let Some(unlocked) = unlocked {
                lock(params, config, visual, unlocked);
            }
        }
    }
}

fn lock(params: &mut Params, config: &ModelConfig, visual: bool, unlocked: usize) {
    for (name, tensor) in &mut params.tensors {
        if let Some(place) = place(name, config)
            && place.visual == visual
        {
            let free = group_from_end(name, place, config) <= unlocked;
            let _ = tensor.requires_grad_(free);
        }
    }
}

/// The factor on a parameter's learning rate: `decay` for each layer between it and the end of
/// its tower (BEiT, arXiv 2106.08254).
pub fn rate_factor(name: &str, config: &ModelConfig, decay: f64) -> f64 {
    match place(name, config) {
        Some(place) => decay.powi((blocks(config, place.visual) + 1 - place.depth) as i32),
        None => 1.0,
    }
}
