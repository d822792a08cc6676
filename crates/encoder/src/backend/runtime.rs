//! ONNX Runtime's library, loaded at first use, and sessions on the device that was chosen.

use super::bound::Bound;
use super::tower::Engine;
use crate::failure::Failure;
use crate::settings::{Device, EngineOptions, IoBinding};
use ort::LoadDynamicError;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::ep::{ArenaExtendStrategy, CUDA, ExecutionProviderDispatch, TensorRT};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use pgclip_wire::protocol::ErrorKind;
use std::error::Error;
use std::ffi::CStr;
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
