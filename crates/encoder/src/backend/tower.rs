//! One tower on its device: whether its graph is what its description says, and a batch through it.

use super::bound::Bound;
use super::feed::{Feed, type_of};
use super::halves::{in_halves, is_out_of_memory};
use crate::failure::Failure;
use crate::settings::Device;
use half::f16;
use ort::session::Session;
use ort::value::Outlet;
use pgclip_clip::towers::{BatchSize, ElementType, Holds, Input, TowerConfig};
use pgclip_wire::protocol::ErrorKind;
use std::sync::{Mutex, PoisonError};

/// A session, and how batches get to its device.
#[derive(Debug)]
pub struct Engine {
    pub(super) session: Session,
    pub(super) bound: Option<Bound>,
    pub(super) device: Device,
}

/// One tower on its device: a batch in, unit-length embeddings out.
#[derive(Debug)]
pub struct Tower {
    engine: Mutex<Engine>,
    /// With the names that the graph has.
    config: TowerConfig,
    dimensions: usize,
    pub device: Device,
    /// Of a text tower: whether it takes texts of fewer tokens than its context length.
    pub any_length: bool,
}

impl Tower {
    /// Takes a session whose inputs and output are as `config` says; `item` is the shape of one item
    /// of the main input, and of an embedding `dimensions` numbers are taken.
    pub fn new(
        engine: Engine,
        mut config: TowerConfig,
        item: &[i64],
        dimensions: usize,
    ) -> Result<Self, Failure> {
        let file = config.file.clone();
        let invalid =
            |what: String| Failure::new(ErrorKind::ModelInvalid, format!("{file} {what}"));
        let outlets = engine.session.inputs();
        if config.inputs.len() != outlets.len() {
            let (found, wanted) = (outlets.len(), config.inputs.len());
            let names: Vec<&str> = outlets.iter().map(Outlet::name).collect();
            return Err(invalid(match wanted {
                1 => format!("has {found} inputs instead of one"),
                _ => format!("has the inputs {}; clip.json describes {wanted}", names.join(", ")),
            }));
        }
        let one = config.batch == BatchSize::One;
        let fits = |found: &[i64], wanted: &[i64]| {
            found.len() == wanted.len() + 1
                && (found[0] <= 0 || one && found[0] == 1)
                && found[1..].iter().zip(wanted).all(|(&f, w)| f < 0 || f == *w)
        };
        let mut any_length = false;
        for input in &mut config.inputs {
            if input.name.is_empty() {
                input.name = outlets[0].name().to_owned();
            }
            let outlet = outlets
                .iter()
                .find(|outlet| outlet.name() == input.name)
                .ok_or_else(|| invalid(format!("has no input \"{}\"", input.name)))?;
            let (found, element) = (outlet.dtype().tensor_shape(), type_of(input.element));
            let shape = match &input.holds {
                Holds::Constant { .. } => None,
                _ => Some(item),
            };
            if outlet.dtype().tensor_type() != Some(element)
                || !shape.is_none_or(|shape| found.is_some_and(|found| fits(found, shape)))
            {
                return Err(invalid(format!(
                    "has the input {}, which is not {element} [N, {item:?}]",
                    outlet.dtype()
                )));
            }
            if input.holds == Holds::Tokens {
                any_length = found.is_some_and(|shape| shape.len() == 2 && shape[1] < 0);
            }
        }
        let (width, element) = (i64::from(config.output.width), type_of(config.output.element));
        let good = |outlet: &&Outlet| {
            outlet.dtype().tensor_type() == Some(element)
                && outlet.dtype().tensor_shape().is_some_and(|s| fits(s, &[width]))
        };
        let outputs = engine.session.outputs();
        let named = outputs.iter().filter(|outlet| outlet.name() == config.output.name);
        // The graphs of the first format are known by their types alone.
        let others = outputs.iter().filter(|_| config.output.name == "embedding");
        let output = named.chain(others).find(good).ok_or_else(|| {
            invalid(format!("has no output {} [N, {width}]", config.output.element))
        })?;
        config.output.name = output.name().to_owned();
        let device = engine.device;
        Ok(Self { engine: Mutex::new(engine), config, dimensions, device, any_length })
    }

    /// Whether items go through one after the other.
    pub fn one_by_one(&self) -> bool {
        self.config.batch == BatchSize::One
    }

    /// Runs a batch. Returns `dimensions` numbers an item, each item of unit length or, if it can't
    /// be, all NaN. A batch that there is no memory for is run in halves.
    pub fn run(&self, batch: &Feed) -> Result<Vec<f32>, Failure> {
        let most = if self.one_by_one() { 1 } else { usize::MAX };
        in_halves(batch.items(), most, |range| self.run_once(&batch.part(range)))
    }

    fn run_once(&self, batch: &Feed) -> Result<Vec<f32>, Failure> {
        let items = batch.items();
        let (width, dimensions) = (self.config.output.width as usize, self.dimensions);
        // After a panic the session is still whole: its state is ONNX Runtime's own.
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let Engine { session, bound, .. } = &mut *engine;
        let values = match (bound, self.plain_input()) {
            (Some(bound), Some(input)) => {
                let output = &self.config.output.name;
                match (input.element, batch) {
                    (ElementType::F32, Feed::Pixels { shape, pixels }) => {
                        bound.run(session, shape, pixels, output, width)
                    }
                    (_, Feed::Tokens { shape, ids, .. }) => {
                        bound.run(session, shape, ids, output, width)
                    }
                    _ => self.run_plainly(session, batch),
                }
            }
            _ => self.run_plainly(session, batch),
        };
        let values = values.map_err(|e| {
            let kind = match is_out_of_memory(e.message()) {
                true => ErrorKind::OutOfMemory,
                false => ErrorKind::Internal,
            };
            Failure::new(kind, format!("inference failed: {}", e.message()))
        })?;
        if values.len() != items * width {
            let what = format!("inference gave {} numbers", values.len());
            return Err(Failure::new(ErrorKind::Internal, what));
        }
        let mut embeddings = Vec::with_capacity(items * dimensions);
        for whole in values.chunks_exact(width) {
            let embedding = &whole[..dimensions];
            let norm = embedding.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let scale = if norm > 0.0 && norm.is_finite() { 1.0 / norm } else { f64::NAN };
            embeddings.extend(embedding.iter().map(|x| (f64::from(*x) * scale) as f32));
        }
        Ok(embeddings)
    }

    /// The only input, where it and the output are of types that page-locked memory is used for.
    fn plain_input(&self) -> Option<&Input> {
        let [only] = &self.config.inputs[..] else { return None };
        let plain = matches!(only.element, ElementType::F32 | ElementType::I64);
        (plain && self.config.output.element == ElementType::F32).then_some(only)
    }

    /// Runs a batch from and to memory of our own.
    fn run_plainly(&self, session: &mut Session, batch: &Feed) -> ort::Result<Vec<f32>> {
        let mut inputs = Vec::with_capacity(self.config.inputs.len());
        for input in &self.config.inputs {
            inputs.push((input.name.as_str(), batch.value(input)?));
        }
        let outputs = session.run(inputs)?;
        let output = &outputs[self.config.output.name.as_str()];
        match self.config.output.element {
            ElementType::F16 => {
                let halves = output.try_extract_tensor::<f16>()?.1;
                Ok(halves.iter().map(|half| half.to_f32()).collect())
            }
            _ => Ok(output.try_extract_tensor::<f32>()?.1.to_vec()),
        }
    }
}
