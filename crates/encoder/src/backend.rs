//! ONNX Runtime: loading its library, choosing the device, and running one tower on one
//! batch. Its own file because it is the only one that sees ort.

mod bound;

use crate::failure::Failure;
use crate::settings::{Device, EngineOptions, IoBinding};
use bound::Bound;
use ort::LoadDynamicError;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep::{ArenaExtendStrategy, CUDA, ExecutionProviderDispatch, TensorRT};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue};
use ort::value::{PrimitiveTensorElementType, TensorElementType, TensorRef};
use pgclip_clip::protocol::ErrorKind;
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
    output: String,
    dimensions: usize,
    pub device: Device,
    /// Of a text tower: whether it takes texts of fewer tokens than its context length.
    pub any_length: bool,
}

impl Tower {
    /// Takes a session whose one input is of type `input` and shape [N, `shape`…], and one
    /// of whose outputs is f32 [N, `dimensions`].
    pub fn new(
        engine: Engine,
        name: &str,
        input: TensorElementType,
        shape: &[i64],
        dimensions: usize,
    ) -> Result<Self, Failure> {
        let invalid =
            |what: String| Failure::new(ErrorKind::ModelInvalid, format!("{name} {what}"));
        let inputs = engine.session.inputs();
        let [only] = inputs else {
            return Err(invalid(format!("has {} inputs instead of one", inputs.len())));
        };
        let fits = |found: &[i64], wanted: &[i64]| {
            found.len() == wanted.len() + 1
                && found[0] <= 0
                && found[1..].iter().zip(wanted).all(|(&f, w)| f < 0 || f == *w)
        };
        let found = only.dtype().tensor_shape();
        if only.dtype().tensor_type() != Some(input) || !found.is_some_and(|s| fits(s, shape)) {
            return Err(invalid(format!(
                "has the input {}, which is not {input} [N, {shape:?}]",
                only.dtype()
            )));
        }
        let any_length = found.is_some_and(|s| s.len() == 2 && s[1] < 0);
        let good = |outlet: &&ort::value::Outlet| {
            outlet.dtype().tensor_type() == Some(TensorElementType::Float32)
                && outlet.dtype().tensor_shape().is_some_and(|s| fits(s, &[dimensions as i64]))
        };
        let outputs = engine.session.outputs();
        let output = outputs
            .iter()
            .filter(|outlet| outlet.name() == "embedding")
            .chain(outputs)
            .find(good)
            .ok_or_else(|| invalid(format!("has no output f32 [N, {dimensions}]")))?
            .name()
            .to_owned();
        let device = engine.device;
        Ok(Self { engine: Mutex::new(engine), output, dimensions, device, any_length })
    }

    /// Runs a batch: `data` has shape `shape`, whose first number counts the items. Returns
    /// `dimensions` numbers an item, each item of unit length or, if it can't be, all NaN. A
    /// batch that there is no memory for is run in halves.
    pub fn run<T>(&self, shape: &[i64], data: &[T]) -> Result<Vec<f32>, Failure>
    where
        T: PrimitiveTensorElementType + Debug + Copy + 'static,
    {
        let items = shape[0] as usize;
        let stride = data.len() / items.max(1);
        in_halves(items, |range| {
            let mut part = shape.to_vec();
            part[0] = range.len() as i64;
            self.run_once(&part, &data[range.start * stride..range.end * stride])
        })
    }

    fn run_once<T>(&self, shape: &[i64], data: &[T]) -> Result<Vec<f32>, Failure>
    where
        T: PrimitiveTensorElementType + Debug + Copy + 'static,
    {
        // After a panic the session is still whole: its state is ONNX Runtime's own.
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let Engine { session, bound, .. } = &mut *engine;
        let values = match bound {
            Some(bound) => bound.run(session, shape, data, &self.output, self.dimensions),
            None => run_plainly(session, shape, data, &self.output),
        };
        let mut values = values.map_err(|e| {
            let kind = match is_out_of_memory(e.message()) {
                true => ErrorKind::OutOfMemory,
                false => ErrorKind::Internal,
            };
            Failure::new(kind, format!("inference failed: {}", e.message()))
        })?;
        if values.len() != shape[0] as usize * self.dimensions {
            let what = format!("inference gave {} numbers", values.len());
            return Err(Failure::new(ErrorKind::Internal, what));
        }
        for embedding in values.chunks_exact_mut(self.dimensions) {
            let norm = embedding.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            let scale = if norm > 0.0 && norm.is_finite() { 1.0 / norm } else { f64::NAN };
            embedding.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
        }
        Ok(values)
    }
}

/// Runs a batch from and to memory of our own.
fn run_plainly<T>(
    session: &mut Session,
    shape: &[i64],
    data: &[T],
    output: &str,
) -> ort::Result<Vec<f32>>
where
    T: PrimitiveTensorElementType + Debug + Copy + 'static,
{
    let input = TensorRef::from_array_view((shape, data))?;
    let outputs = session.run([SessionInputValue::from(input)])?;
    Ok(outputs[output].try_extract_tensor::<f32>()?.1.to_vec())
}

/// Runs `items` at once, or, where there is no memory for that, each half on its own, and so on.
fn in_halves(
    items: usize,
    mut run: impl FnMut(Range<usize>) -> Result<Vec<f32>, Failure>,
) -> Result<Vec<f32>, Failure> {
    let mut values = Vec::new();
    let mut at = 0;
    let mut size = items;
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
        let result = in_halves(items, |range| {
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
