//! The options of the command line, checked once, and handed down as plain values. Its
//! own file because `serve`, `check` and `bench` share them: a bench that ran with other
//! settings than the server would measure something else.

use crate::large::Budget;
use clap::{Args, ValueEnum};
use pgclip_wire::notice::Refusal;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where inference runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// CUDA where it works, else the CPU.
    Auto,
    Cpu,
    Cuda,
    Tensorrt,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Device::Auto => "auto",
            Device::Cpu => "cpu",
            Device::Cuda => "cuda",
            Device::Tensorrt => "tensorrt",
        })
    }
}

/// Whether batches go to the device by page-locked memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IoBinding {
    /// On a GPU.
    Auto,
    On,
    Off,
}

/// What inference needs, whoever asks for it.
#[derive(Args, Clone, Debug)]
pub struct EngineOptions {
    /// ONNX Runtime's shared library, version 1.23 or later [default: the system's]
    #[arg(
        long,
        value_name = "PATH",
        default_value = "libonnxruntime.so",
        hide_default_value = true
    )]
    pub onnxruntime: PathBuf,

    /// Where inference runs
    #[arg(long, value_enum, default_value_t = Device::Auto)]
    pub device: Device,

    /// Threads for decoding, and for inference on the CPU (0: one a core)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,

    /// Images or texts in one inference (0: as suits the device)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1024))]
    pub max_batch: u32,

    /// Models kept in memory
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub max_models: u32,

    /// Megapixels of the largest image that is decoded
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_megapixels: u32,

    /// Turn every image as its camera noted, also for models that do not say so
    #[arg(long)]
    pub exif_orientation: bool,

    /// Decode large JPEG at a half, quarter or eighth of their size: faster, not to the pixel
    #[arg(long)]
    pub scaled_decode: bool,

    /// Megabytes of the GPU's memory that are used (0: as many as are needed)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub gpu_memory: u32,

    /// Whether batches go to the device by page-locked memory: for comparing
    #[arg(long, value_enum, default_value_t = IoBinding::Auto)]
    pub io_binding: IoBinding,

    /// A model that is not loaded for some time, since it has ended the encoder:
    /// SECONDS,WHY,DIGEST=NAME
    #[arg(long, value_name = "MODEL", hide = true, value_parser = refused)]
    pub refuse: Vec<Refusal>,
}

fn refused(text: &str) -> Result<Refusal, String> {
    Refusal::parse(text).ok_or_else(|| format!("\"{text}\" is not SECONDS,WHY,DIGEST=NAME"))
}

impl EngineOptions {
    /// What a command needs that runs a model once or twice, on the CPU.
    pub fn on_cpu(onnxruntime: PathBuf) -> Self {
        Self {
            onnxruntime,
            device: Device::Cpu,
            threads: 0,
            max_batch: 0,
            max_models: 1,
            max_megapixels: 1,
            exif_orientation: false,
            scaled_decode: false,
            gpu_memory: 0,
            io_binding: IoBinding::Off,
            refuse: Vec::new(),
        }
    }

    /// Threads to use, at least one.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        }
    }

    /// Items in one inference. A GPU needs many to be busy; a CPU is busy with a few, and
    /// small batches keep the pixels of a batch in its cache and the wait of others short.
    pub fn max_batch(&self) -> usize {
        match (self.max_batch, self.device) {
            (0, Device::Cpu) => 16,
            (0, _) => 32,
            (n, _) => n as usize,
        }
    }
}

/// What the server needs beside the engine.
#[derive(Args, Clone, Debug)]
pub struct ServeOptions {
    /// The Unix socket to listen on; a lock file lies beside it
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,

    /// Microseconds that a batch of images waits to be filled while nothing else is to be done
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_wait_us: u32,

    /// The same for texts. What arrives during an inference is the next batch in any case
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_text_wait_us: u32,

    /// Images that may wait; requests over it are refused as overload
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_queue: u32,

    /// Megabytes of requests that are held in memory; requests over it are refused
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(256..=1_048_576))]
    pub max_memory: u32,

    /// Megabytes that decoding takes at most, of all images together; a larger one is refused
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(64..=1_048_576))]
    pub max_decode_memory: u32,

    /// Open connections; those over it are refused
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_connections: u32,

    /// Seconds after which a model that nobody uses is unloaded (0: never)
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=2_147_483))]
    pub model_idle_timeout: u32,

    /// Notices on the standard output, and a log without times: for a supervisor
    #[arg(long, hide = true)]
    pub supervised: bool,

    /// The server's data directory: closed to the encoder, as tablespaces and shared memory are,
    /// where the kernel can do that
    #[arg(long, value_name = "PATH", hide = true)]
    pub data_directory: Option<PathBuf>,

    /// Encoders that the supervisor ran before this one
    #[arg(long, value_name = "N", hide = true, default_value_t = 0)]
    pub restarts: u32,

    #[command(flatten)]
    pub engine: EngineOptions,
}

impl ServeOptions {
    pub fn max_wait(&self) -> Duration {
        Duration::from_micros(self.max_wait_us.into())
    }

    pub fn max_text_wait(&self) -> Duration {
        Duration::from_micros(self.max_text_wait_us.into())
    }

    /// After how long a model that nobody uses is unloaded, if it is.
    pub fn model_idle_timeout(&self) -> Option<Duration> {
        let seconds = Duration::from_secs(self.model_idle_timeout.into());
        (!seconds.is_zero()).then_some(seconds)
    }

    /// What decoding may take.
    pub fn budget(&self) -> Budget {
        Budget::new(u64::from(self.max_decode_memory) << 20, self.engine.threads())
    }

    /// Bytes of requests that are held at most.
    pub fn max_memory(&self) -> usize {
        self.max_memory as usize * 1024 * 1024
    }
}
