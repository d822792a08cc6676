//! The parameters of a CLIP model: names, shapes, first values, reading and writing.
//!
//! Names are open_clip's, so that ours load there; weights are read through the exporter's
//! [`Checkpoint`], which knows the files and namings that open_clip and Hugging Face write.
//! `token_rows` is the one addition: an i32 table from CLIP's token ids to the rows of a
//! smaller `token_embedding.weight`; row 0 stands for every token that has no row.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use pgclip_export::{Checkpoint, Dtype, ExportError, Naming};
use tch::{Device, Kind, Tensor, no_grad};

use crate::config::ModelConfig;

/// Name of the token table among the tensors.
pub const TOKEN_ROWS: &str = "token_rows";

/// First values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Init {
    Zeros,
    Ones,
    /// Normal with this standard deviation.
    Normal(f64),
    Constant(f64),
}

/// All parameters by name, in the order of their names.
#[derive(Debug)]
pub struct Params {
    pub tensors: BTreeMap<String, Tensor>,
    /// For each token id its row in `token_embedding.weight`; `None`: the id itself.
    pub token_rows: Option<Vec<i32>>,
}

/// Name, shape and first values of every parameter of `config`.
///
/// The scales are those of OpenAI's CLIP (`initialize_parameters`), for both towers.
fn layout(config: &ModelConfig, rows: i64) -> Vec<(String, Vec<i64>, Init)> {
    use Init::{Constant, Normal, Ones, Zeros};
    let (v, t, d) = (&config.vision_cfg, &config.text_cfg, config.embed_dim);
    let grid = v.image_size / v.patch_size;
    let scale = (v.width as f64).powf(-0.5);
    let patch = (3 * v.patch_size * v.patch_size) as f64;
    let mut all = vec![
        // ln(1 / 0.07)
        ("logit_scale".into(), vec![], Constant((1.0f64 / 0.07).ln())),
        ("positional_embedding".into(), vec![t.context_length, t.width], Normal(0.01)),
        ("token_embedding.weight".into(), vec![rows, t.width], Normal(0.02)),
        ("ln_final.weight".into(), vec![t.width], Ones),
        ("ln_final.bias".into(), vec![t.width], Zeros),
        ("text_projection".into(), vec![t.width, d], Normal((t.width as f64).powf(-0.5))),
        ("visual.class_embedding".into(), vec![v.width], Normal(scale)),
        ("visual.positional_embedding".into(), vec![grid * grid + 1, v.width], Normal(scale)),
        (
            "visual.conv1.weight".into(),
            vec![v.width, 3, v.patch_size, v.patch_size],
            Normal(patch.powf(-0.5)),
        ),
        ("visual.ln_post.weight".into(), vec![v.width], Ones),
        ("visual.ln_post.bias".into(), vec![v.width], Zeros),
        ("visual.proj".into(), vec![v.width, d], Normal(scale)),
    ];
    if !v.no_ln_pre {
        all.push(("visual.ln_pre.weight".into(), vec![v.width], Ones));
        all.push(("visual.ln_pre.bias".into(), vec![v.width], Zeros));
    }
    for layer in 0..v.layers {
        let prefix = format!("visual.transformer.resblocks.{layer}");
        block_layout(&mut all, &prefix, v.width, v.mlp_width(), v.layers);
    }
    for layer in 0..t.layers {
        let prefix = format!("transformer.resblocks.{layer}");
        block_layout(&mut all, &prefix, t.width, t.mlp_width(), t.layers);
    }
    all
}

fn block_layout(
    all: &mut Vec<(String, Vec<i64>, Init)>,
    prefix: &str,
    width: i64,
    mlp: i64,
    layers: i64,
) {
    use Init::{Normal, Ones, Zeros};
    let attention = (width as f64).powf(-0.5);
    let residual = attention * (2.0 * layers as f64).powf(-0.5);
    let hidden = (2.0 * width as f64).powf(-0.5);
    for (name, shape, init) in [
        ("ln_1.weight", vec![width], Ones),
        ("ln_1.bias", vec![width], Zeros),
        ("attn.in_proj_weight", vec![3 * width, width], Normal(attention)),
        ("attn.in_proj_bias", vec![3 * width], Zeros),
        ("attn.out_proj.weight", vec![width, width], Normal(residual)),
        ("attn.out_proj.bias", vec![width], Zeros),
        ("ln_2.weight", vec![width], Ones),
        ("ln_2.bias", vec![width], Zeros),
        ("mlp.c_fc.weight", vec![mlp, width], Normal(hidden)),
        ("mlp.c_fc.bias", vec![mlp], Zeros),
        ("mlp.c_proj.weight", vec![width, mlp], Normal(residual)),
        ("mlp.c_proj.bias", vec![width], Zeros),
    ] {
        all.push((format!("{prefix}.{name}"), shape, init));
    }
}

/// Rows that `token_rows` needs in the embedding table.
fn row_count(config: &ModelConfig, token_rows: Option<&[i32]>) -> i64 {
    match token_rows {
        Some(rows) => i64::from(rows.iter().copied().max().unwrap_or(0)) + 1,
        None => config.text_cfg.vocab_size,
    }
}

impl Params {
    /// Fresh parameters, the same for the same seed on every machine's CPU generator.
    pub fn init(
        config: &ModelConfig,
        token_rows: Option<Vec<i32>>,
        seed: u64,
        device: Device,
    ) -> Result<Self> {
        check_token_rows(config, token_rows.as_deref())?;
        // The generator is the process's: nobody else may draw before all is drawn.
        static DRAWING: Mutex<()> = Mutex::new(());
        let _drawing = DRAWING.lock().unwrap_or_else(PoisonError::into_inner);
        tch::manual_seed(seed as i64);
        let rows = row_count(config, token_rows.as_deref());
        let cpu = (Kind::Float, Device::Cpu);
        let tensors = layout(config, rows)
            .into_iter()
            .map(|(name, shape, init)| {
                let value = match init {
                    Init::Zeros => Tensor::zeros(&shape, cpu),
                    Init::Ones => Tensor::ones(&shape, cpu),
                    Init::Normal(std) => Tensor::randn(&shape, cpu) * std,
                    Init::Constant(value) => Tensor::full(&shape, value, cpu),
                };
                (name, value.to_device(device).set_requires_grad(true))
            })
            .collect();
        Ok(Params { tensors, token_rows })
    }

    /// Reads the weights at `path`: safetensors or an archive of `torch.save`, in open_clip's or
    /// Hugging Face's naming. The files are mapped and tensors are made one after the other, so
    /// that no second copy of the model is held. All that is missing, unknown or of another shape
    /// is reported at once.
    pub fn load(path: &Path, config: &ModelConfig, device: Device) -> Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let spelled = checkpoint.naming.spell(TOKEN_ROWS);
        let token_rows = checkpoint
            .tensor(&spelled)
            .map(|rows| rows.ints().into_iter().map(i32::try_from).collect::<Result<Vec<_>, _>>())
            .transpose()
            .with_context(|| format!("{TOKEN_ROWS} in {}", path.display()))?;
        check_token_rows(config, token_rows.as_deref())
            .with_context(|| format!("in {}", path.display()))?;
        let mut loader = Loader {
            checkpoint: &checkpoint,
            device,
            seen: BTreeSet::from([spelled]),
            problems: Vec::new(),
        };
        let mut tensors = BTreeMap::new();
        for (name, shape, _) in layout(config, row_count(config, token_rows.as_deref())) {
            if let Some(tensor) = loader.parameter(&name, &shape) {
                let finite = bool::try_from(tensor.isfinite().all())?;
                ensure!(finite, "{}: {name} holds NaN or infinity", path.display());
                tensors.insert(name, tensor.set_requires_grad(true));
            }
        }
        loader.finish().with_context(|| format!("cannot use the weights {}", path.display()))?;
        Ok(Params { tensors, token_rows })
    }

    /// Writes all tensors (and `token_rows`) to a safetensors file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut named: Vec<(String, Tensor)> = no_grad(|| {
            self.tensors
                .iter()
                .map(|(name, tensor)| {
                    let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
                    (name.clone(), tensor)
                })
                .collect()
        });
        if let Some(rows) = &self.token_rows {
            named.push((TOKEN_ROWS.into(), Tensor::from_slice(rows)));
        }
        Tensor::write_safetensors(&named, path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The tensor of that name; all names come from [`layout`].
    pub fn get(&self, name: &str) -> Tensor {
        match self.tensors.get(name) {
            Some(tensor) => tensor.shallow_clone(),
            None => panic!("this is a bug: the parameter {name} is in no layout"),
        }
    }

    /// The parameters that are not locked, in the order of their names.
    pub fn trained(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let all = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        all.filter(|(_, tensor)| tensor.requires_grad())
    }

    /// Number of values.
    pub fn count(&self) -> usize {
        self.tensors.values().map(Tensor::numel).sum()
    }
}

/// Makes parameters of a checkpoint's tensors, and collects what does not fit.
struct Loader<'a> {
    checkpoint: &'a Checkpoint,
    device: Device,
    seen: BTreeSet<String>,
    problems: Vec<String>,
}

impl Loader<'_> {
    /// The parameter that open_clip calls `name`, in fp32 on the device.
    fn parameter(&mut self, name: &str, shape: &[i64]) -> Option<Tensor> {
        let naming = self.checkpoint.naming;
        if let Some((at, kind)) = name.split_once(".attn.in_proj_")
            && naming.attention_is_split()
        {
            let mut third = shape.to_vec();
            third[0] /= 3;
            let parts: Vec<Option<Tensor>> = ["q_proj", "k_proj", "v_proj"]
                .iter()
                .map(|part| self.tensor(&format!("{at}.attn.{part}.{kind}"), &third))
                .collect();
            let parts: Vec<Tensor> = parts.into_iter().collect::<Option<_>>()?;
            return Some(Tensor::cat(&parts, 0));
        }
        let projection = matches!(name, "visual.proj" | "text_projection");
        if projection && naming.projections_are_linear() {
            let turned: Vec<i64> = shape.iter().rev().copied().collect();
            return Some(self.tensor(name, &turned)?.transpose(0, 1).contiguous());
        }
        self.tensor(name, shape)
    }

    fn tensor(&mut self, name: &str, shape: &[i64]) -> Option<Tensor> {
        let name = self.checkpoint.naming.spell(name);
        self.seen.insert(name.clone());
        let Some(found) = self.checkpoint.tensor(&name) else {
            self.problems.push(format!("missing: {name} {shape:?}"));
            return None;
        };
        let has: Vec<i64> = found.shape.iter().map(|&size| size as i64).collect();
        // A scalar may be saved as one element in a row.
        if has != shape && !(shape.is_empty() && has == [1]) {
            self.problems.push(format!("wrong shape: {name} is {has:?}, expected {shape:?}"));
            return None;
        }
        let kind = match found.dtype {
            Dtype::F32 => Kind::Float,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F64 => Kind::Double,
            other => {
                self.problems.push(format!("wrong type: {name} is {other}, expected F32"));
                return None;
            }
        };
        let tensor = Tensor::from_data_size(found.data, shape, kind);
        Some(tensor.to_kind(Kind::Float).to_device(self.device))
    }

    fn finish(mut self) -> Result<(), ExportError> {
        for name in self.checkpoint.names() {
            if !self.seen.contains(name) && !Naming::is_buffer(name) {
                self.problems.push(format!("unknown: {name}"));
            }
        }
        if self.problems.is_empty() { Ok(()) } else { Err(ExportError::Tensors(self.problems)) }
    }
}

/// `token_rows` has one non-negative entry per token id.
fn check_token_rows(config: &ModelConfig, token_rows: Option<&[i32]>) -> Result<()> {
    if let Some(rows) = token_rows {
        ensure!(
            rows.len() as i64 == config.text_cfg.vocab_size,
            "{TOKEN_ROWS} has {} entries; the vocabulary has {} tokens",
            rows.len(),
            config.text_cfg.vocab_size
        );
        let bound = config.text_cfg.vocab_size as i32;
        if let Some(row) = rows.iter().find(|row| !(0..bound).contains(*row)) {
            bail!("{TOKEN_ROWS} holds the row {row}, out of range");
        }
    }
    Ok(())
}
