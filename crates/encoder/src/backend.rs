//! ONNX Runtime: loading its library, choosing the device, and running one tower on one
//! batch. Its own file because it is the only one that sees ort.

mod bound;

use crate::failure::Failure;
use crate::settings::{Device, EngineOptions, IoBinding};
use bound::Bound;
use half::f16;
use ort::LoadDynamicError;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep::{ArenaExtendStrategy, CUDA, ExecutionProviderDispatch, TensorRT};
use ort::memory::Allocator;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{Outlet, PrimitiveTensorElementType, Tensor, TensorElementType, TensorRef};
use pgclip_clip::towers::{BatchSize, ElementType, Holds, Input, TowerConfig};
use pgclip_wire::protocol::ErrorKind;
use std::borrow::Cow;
use std::error::Error;
use std::ffi::CStr;
use std::fmt::Debug;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// ONNX Runtime, loaded at first use. As long as the library can't be loaded each use
/// tries again, so that installing it mends a running server.
#[derive(Debug)]
pub struct Runtime {
    library: PathBuf,
    device: Device,
    threads: usize,
    /// Bytes of a GPU's memory that a session may take; 0: as many as it needs.
    gpu_memory: usize,
    io_binding: IoBinding,
    /// Once loaded, with the version that the library says it has.
    environment: Mutex<Option<(Environment, String)>>,
    /// Whether it was logged that there is no CUDA.
    fell_back: AtomicBool,
}

/// External data of a model: name and contents, which were verified.
pub type ExternalData = Vec<(String, Arc<[u8]>)>;

impl Runtime {
    pub fn new(options: &EngineOptions) -> Self {
        Self {
            library: options.onnxruntime.clone(),
            device: options.device,
            threads: options.threads(),
            gpu_memory: options.gpu_memory as usize * 1024 * 1024,
            io_binding: options.io_binding,
            environment: Mutex::new(None),
            fell_back: AtomicBool::new(false),
        }
    }

    /// Version of ONNX Runtime, or why it could not be loaded.
    pub fn version(&self) -> Result<String, Failure> {
        self.loaded().map(|(_, version)| version)
    }

    fn loaded(&self) -> Result<(Environment, String), Failure> {
        let mut environment = self.environment.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = &*environment {
            return Ok(loaded.clone());
        }
        let missing = |message: String| Failure::new(ErrorKind::RuntimeMissing, message);
        let builder = ort::init_from(&self.library).map_err(|error| {
            let reason = match &error {
                LoadDynamicError::Dlopen { error, .. } => error.source().map(ToString::to_string),
                _ => None,
            };
            let reason = reason.unwrap_or_else(|| error.to_string());
            missing(format!("could not load ONNX Runtime: {reason}"))
        })?;
        // Waiting threads sleep instead of spinning: the cores are PostgreSQL's as well.
        let pool = GlobalThreadPoolOptions::default()
            .with_intra_threads(self.threads)
            .and_then(|pool| pool.with_inter_threads(1))
            .and_then(|pool| pool.with_spin_control(false));
        let builder = builder.with_name("pgclip").with_telemetry(false);
        let loaded = pool.and_then(|pool| builder.with_global_thread_pool(pool).build());
        let loaded = loaded.map_err(|e| missing(format!("could not start ONNX Runtime: {e}")))?;
        Ok(environment.insert((loaded, library_version().unwrap_or_default())).clone())
    }

    /// Makes a session of the bytes of an ONNX file. `auto` falls back to the CPU with a
    /// warning; a device that was asked for by name is there or the load fails.
    pub fn load(
        &self,
        name: &str,
        onnx: &[u8],
        external: &ExternalData,
    ) -> Result<Engine, Failure> {
        let (session, device) = self.session(name, onnx, external)?;
        let bound = match self.io_binding {
            IoBinding::Off => None,
            IoBinding::Auto if device == Device::Cpu => None,
            _ => match Bound::new(&session, device) {
                Ok(bound) => Some(bound),
                Err(error) => {
                    tracing::warn!("no page-locked memory for {name}: {}", error.message());
                    None
                }
            },
        };
        Ok(Engine { session, bound, device })
    }

    fn session(
        &self,
        name: &str,
        onnx: &[u8],
        external: &ExternalData,
    ) -> Result<(Session, Device), Failure> {
        let (environment, _) = self.loaded()?;
        let commit = |device| {
            let mut builder = configure(&environment, device, self.gpu_memory, external)?;
            builder.commit_from_memory(onnx)
        };
        let cpu = || {
            commit(Device::Cpu).map_err(|e| {
                let message = format!("ONNX Runtime refuses {name}: {}", e.message());
                Failure::new(ErrorKind::ModelInvalid, message)
            })
        };
        let wanted = if self.device == Device::Auto { Device::Cuda } else { self.device };
        if wanted == Device::Cpu {
            return Ok((cpu()?, Device::Cpu));
        }
        match (commit(wanted), self.device) {
            (Ok(session), _) => Ok((session, wanted)),
            (Err(error), Device::Auto) => {
                if !self.fell_back.swap(true, Ordering::Relaxed) {
                    tracing::warn!("no CUDA, using the CPU: {}", error.message());
                }
                Ok((cpu()?, Device::Cpu))
            }
            (Err(error), _) => {
                // A model that no device can run is the model's fault.
                cpu()?;
                let message = format!("could not use the device {wanted}: {}", error.message());
                Err(Failure::new(ErrorKind::DeviceMissing, message))
            }
        }
    }
}

/// The version that the loaded library says it has, such as 1.32.0: ort does not tell.
fn library_version() -> Option<String> {
    type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    let api: *const ort::sys::OrtApi = ort::api();
    // SAFETY: `api` lies in the library, which is never unloaded. The file that dladdr finds
    // is that library, and opening it again gives the same handle; the symbol has the type
    // that ONNX Runtime's header gives it, and the version is a static string.
    unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        if libc::dladdr(api.cast(), &mut info) == 0 {
            return None;
        }
        let library = libc::dlopen(info.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD);
        if library.is_null() {
            return None;
        }
        let symbol = libc::dlsym(library, c"OrtGetApiBase".as_ptr());
        let base = std::mem::transmute::<*mut libc::c_void, Option<GetApiBase>>(symbol)?();
        let version = CStr::from_ptr(((*base).GetVersionString)());
        Some(version.to_string_lossy().into_owned())
    }
}

/// A folder that does not exist. External data comes from memory, verified; a model that
/// names a file beyond that must not find one.
const NO_FOLDER: &str = "/nonexistent/pgclip";

fn configure(
    environment: &Environment,
    device: Device,
    gpu_memory: usize,
    external: &ExternalData,
) -> ort::Result<SessionBuilder> {
    let provider: Option<ExecutionProviderDispatch> = match device {
        Device::Cpu | Device::Auto => None,
        Device::Cuda => {
            let cuda = match gpu_memory {
                0 => CUDA::default(),
                // Grown as needed: the default doubles, and overshoots the limit.
                limit => CUDA::default()
                    .with_memory_limit(limit)
                    .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested),
            };
            Some(cuda.build().error_on_failure())
        }
        Device::Tensorrt => {
            let tensorrt = match gpu_memory {
                0 => TensorRT::default(),
                limit => TensorRT::default().with_max_workspace_size(limit),
            };
            Some(tensorrt.build().error_on_failure())
        }
    };
    let mut builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_config_entry("session.model_external_initializers_file_folder_path", NO_FOLDER)?
        .with_execution_providers(provider.as_slice())?;
    for (name, bytes) in external {
        builder = builder.with_external_initializer_file_in_memory(name, bytes.clone())?;
    }
    Ok(builder)
}

/// A session, and how batches get to its device.
#[derive(Debug)]
pub struct Engine {
    session: Session,
    bound: Option<Bound>,
    device: Device,
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

/// A batch as a tower's inputs are made of it. The first number of a shape counts the items.
#[derive(Clone, Debug)]
pub enum Feed<'a> {
    /// [N, 3, S, S] or [N, S, S, 3], as the preprocessor was told.
    Pixels { shape: Vec<i64>, pixels: Cow<'a, [f32]> },
    /// [N, L]: ids, and 1 for each that belongs to the text.
    Tokens { shape: Vec<i64>, ids: Cow<'a, [i64]>, mask: Cow<'a, [i64]> },
}

impl Feed<'_> {
    fn items(&self) -> usize {
        let (Self::Pixels { shape, .. } | Self::Tokens { shape, .. }) = self;
        shape[0] as usize
    }

    /// Some of its items.
    fn part(&self, range: Range<usize>) -> Feed<'_> {
        let cut = |shape: &[i64]| {
            let stride: i64 = shape[1..].iter().product();
            let bytes = range.start * stride as usize..range.end * stride as usize;
            ([&[range.len() as i64], &shape[1..]].concat(), bytes)
        };
        match self {
            Self::Pixels { shape, pixels } => {
                let (shape, part) = cut(shape);
                Feed::Pixels { shape, pixels: pixels[part].into() }
            }
            Self::Tokens { shape, ids, mask } => {
                let (shape, part) = cut(shape);
                Feed::Tokens { shape, ids: ids[part.clone()].into(), mask: mask[part].into() }
            }
        }
    }

    /// What one input is fed with.
    fn value(&self, input: &Input) -> ort::Result<SessionInputValue<'_>> {
        let (Self::Pixels { shape, .. } | Self::Tokens { shape, .. }) = self;
        match (&input.holds, self) {
            (Holds::Constant { shape: wanted, value }, _) => {
                let batch = |&side: &i64| if side < 0 { shape[0] } else { side };
                let shape: Vec<i64> = wanted.iter().map(batch).collect();
                let elements = shape.iter().product::<i64>() as usize;
                owned(input.element, shape, &vec![*value; elements])
            }
            (Holds::Pixels { .. }, Self::Pixels { pixels, .. }) => match input.element {
                ElementType::F32 => borrowed(shape, pixels),
                element => owned(element, shape.clone(), pixels),
            },
            (Holds::Tokens, Self::Tokens { ids, .. }) => whole(input.element, shape, ids),
            (Holds::Mask, Self::Tokens { mask, .. }) => whole(input.element, shape, mask),
            (_, Self::Tokens { ids, .. }) => {
                owned(input.element, shape.clone(), &vec![0.0; ids.len()])
            }
            (_, Self::Pixels { pixels, .. }) => {
                owned(input.element, shape.clone(), &vec![0.0; pixels.len()])
            }
        }
    }
}

fn borrowed<'v, T>(shape: &'v [i64], data: &'v [T]) -> ort::Result<SessionInputValue<'v>>
where
    T: PrimitiveTensorElementType + Debug + Copy + 'static,
{
    Ok(TensorRef::from_array_view((shape, data))?.into())
}

/// Whole numbers in the type that an input has.
fn whole<'v>(
    element: ElementType,
    shape: &'v [i64],
    values: &'v [i64],
) -> ort::Result<SessionInputValue<'v>> {
    if element == ElementType::I64 {
        return borrowed(shape, values);
    }
    // Ids are below 2^24, which f32 holds exactly.
    let floats: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    owned(element, shape.to_vec(), &floats)
}

fn owned(
    element: ElementType,
    shape: Vec<i64>,
    values: &[f32],
) -> ort::Result<SessionInputValue<'static>> {
    fn tensor<T>(
        shape: Vec<i64>,
        values: &[f32],
        of: impl Fn(f32) -> T,
    ) -> ort::Result<SessionInputValue<'static>>
    where
        T: PrimitiveTensorElementType + Debug + Clone + Default + 'static,
    {
        let values: Vec<T> = values.iter().map(|&value| of(value)).collect();
        if values.is_empty() {
            return Ok(Tensor::<T>::new(&Allocator::default(), shape)?.into());
        }
        Ok(Tensor::from_array((shape, values))?.into())
    }
    match element {
        ElementType::F32 => tensor(shape, values, |value| value),
        ElementType::F16 => tensor(shape, values, f16::from_f32),
        ElementType::U8 => tensor(shape, values, |value| value as u8),
        ElementType::I32 => tensor(shape, values, |value| value as i32),
        ElementType::I64 => tensor(shape, values, |value| value as i64),
        ElementType::Bool => tensor(shape, values, |value| value != 0.0),
    }
}

fn type_of(element: ElementType) -> TensorElementType {
    match element {
        ElementType::F32 => TensorElementType::Float32,
        ElementType::F16 => TensorElementType::Float16,
        ElementType::U8 => TensorElementType::Uint8,
        ElementType::I32 => TensorElementType::Int32,
        ElementType::I64 => TensorElementType::Int64,
        ElementType::Bool => TensorElementType::Bool,
    }
}

/// Runs `items`, at most `most` of them at once, or, where there is no memory for that, each half on
/// its own, and so on.
fn in_halves(
    items: usize,
    most: usize,
    mut run: impl FnMut(Range<usize>) -> Result<Vec<f32>, Failure>,
) -> Result<Vec<f32>, Failure> {
    let mut values = Vec::new();
    let mut at = 0;
    let mut size = items.min(most);
    while at < items {
        let end = items.min(at + size);
        match run(at..end) {
            Ok(part) if values.is_empty() => values = part,
            Ok(part) => values.extend(part),
            Err(failure) if failure.kind == ErrorKind::OutOfMemory && end - at > 1 => {
                size = (end - at).div_ceil(2);
                tracing::warn!("no memory for {} items at once, trying {size}", end - at);
                continue;
            }
            Err(failure) => return Err(failure),
        }
        at = end;
    }
    Ok(values)
}

/// ONNX Runtime has no code for it: what its allocators, CUDA and the C++ library say.
fn is_out_of_memory(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["failed to allocate memory", "out of memory", "out_of_memory", "bad_alloc", "alloc_failed"]
        .iter()
        .any(|sign| message.contains(sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A device with room for three items at once, and none for item 12 at all if `cursed`.
    fn run(items: usize, cursed: bool) -> (Result<Vec<f32>, Failure>, Vec<usize>) {
        let mut sizes = Vec::new();
        let result = in_halves(items, usize::MAX, |range| {
            sizes.push(range.len());
            if range.len() > 3 || cursed && range.contains(&12) {
                let what = "Failed to allocate memory for requested buffer of size 1";
                assert!(is_out_of_memory(what));
                return Err(Failure::new(ErrorKind::OutOfMemory, what));
            }
            Ok(range.map(|n| n as f32).collect())
        });
        (result, sizes)
    }

    #[test]
    fn a_batch_without_memory_is_split_and_stays_in_order() {
        for items in [0, 1, 3, 4, 16, 17] {
            let (result, sizes) = run(items, false);
            assert_eq!(result.unwrap(), (0..items).map(|n| n as f32).collect::<Vec<_>>());
            // What was learnt of the room holds for the rest of the batch.
            assert!(sizes.iter().filter(|size| **size > 3).count() <= 3, "{sizes:?}");
        }
    }

    #[test]
    fn one_item_without_memory_fails_the_batch() {
        let (result, sizes) = run(16, true);
        assert_eq!(result.unwrap_err().kind, ErrorKind::OutOfMemory);
        assert_eq!(sizes.last(), Some(&1));
    }
}
