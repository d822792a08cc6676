//! libtorch at run time: its version, CUDA's half of it, threads and devices.
//!
//! The binary is linked against `libtorch_cpu` and `libc10` alone, so that one build
//! runs with the small CPU set and with all of CUDA: `libtorch_cuda.so` is opened here
//! when it lies beside them.

use std::any::Any;
use std::ffi::{CStr, CString};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Once;

use anyhow::{Result, bail, ensure};
use tch::{Cuda, Device};

/// The only libtorch whose symbols tch 0.24 knows.
pub const TORCH_VERSION: &str = "2.11.0";

/// Checks the library, loads CUDA's half if it is there, and takes `threads` threads (0: all cores).
///
/// The threads are rayon's: see [`crate::parallel`]. libtorch itself uses one in each.
pub fn prepare(threads: usize) -> Result<()> {
    if let Some(library) = loaded_library() {
        check_version(&library)?;
        load_cuda(&library)?;
    }
    tch::set_num_threads(1);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    // SAFETY: mallopt only sets numbers of the allocator. Tensors of some megabytes are then
    // reused from step to step instead of being returned to the system each time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
    Ok(())
}

/// Runs `work`, and makes an error of a panic that tells of memory that was not to be had.
///
/// tch panics where libtorch throws. Any other panic goes on.
pub fn catching<T>(work: impl FnOnce() -> T) -> Result<T> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if memory_message(info.payload()).is_none() {
                before(info);
            }
        }));
    });
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => Ok(value),
        Err(payload) => match memory_message(&*payload) {
            Some(message) => bail!("{message}"),
            None => std::panic::resume_unwind(payload),
        },
    }
}

/// What libtorch said of memory, if that is what the panic is about.
fn memory_message(payload: &(dyn Any + Send)) -> Option<String> {
    let text = match payload.downcast_ref::<String>() {
        Some(text) => text.as_str(),
        None => payload.downcast_ref::<&str>()?,
    };
    let lines = text.split("\\n").flat_map(str::lines);
    let line = lines
        .into_iter()
        .find(|line| line.contains("out of memory") || line.contains("can't allocate memory"))?;
    Some(format!(
        "{}; what needs less: --grad-checkpointing, --accum-freq N with a smaller --batch-size, \
         --force-patch-dropout, --lock-image or --lock-text",
        line.trim()
    ))
}

/// The device named on the command line: `auto`, `cpu` or `cuda[:N]`.
pub fn device(name: &str) -> Result<Device> {
    match name {
        "auto" => Ok(Device::cuda_if_available()),
        "cpu" => Ok(Device::Cpu),
        _ => {
            let index = match name.strip_prefix("cuda") {
                Some("") => 0,
                Some(rest) => match rest.strip_prefix(':').and_then(|n| n.parse().ok()) {
                    Some(index) => index,
                    None => bail!("device {name:?}: expected auto, cpu, cuda or cuda:N"),
                },
                None => bail!("device {name:?}: expected auto, cpu, cuda or cuda:N"),
            };
            ensure!(
                Cuda::is_available(),
                "device {name:?}: CUDA is not available (`make trainer CUDA=1` fetches its library)"
            );
            let count = Cuda::device_count() as usize;
            ensure!(index < count, "device {name:?}: this machine has {count} CUDA device(s)");
            Ok(Device::Cuda(index))
        }
    }
}

/// The path of the `libtorch_cpu.so` this process runs with, from its own memory map.
fn loaded_library() -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines()
        .filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])))
        .find(|path| path.file_name().is_some_and(|name| name == "libtorch_cpu.so"))
        .map(Path::to_path_buf)
}

/// Reads the wheel's `version.py` (or libtorch's `build-version`) beside the library.
pub fn check_version(library: &Path) -> Result<()> {
    let Some(root) = library.parent().and_then(Path::parent) else {
        return Ok(());
    };
    let python = std::fs::read_to_string(root.join("version.py")).ok().and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("__version__ = ").map(str::to_owned))
    });
    let Some(text) = python.or_else(|| std::fs::read_to_string(root.join("build-version")).ok())
    else {
        return Ok(()); // a system package says nothing; the linker has the last word
    };
    let version = text.trim().trim_matches(['\'', '"']);
    ensure!(
        version.split('+').next() == Some(TORCH_VERSION),
        "{} is torch {version}; pgclip-train runs with exactly {TORCH_VERSION} (`make trainer` fetches it)",
        library.display()
    );
    Ok(())
}

/// Opens `libtorch_cuda.so` so that it registers its kernels; its absence is fine.
///
/// The small CPU set comes with the file but without CUDA's own libraries: then the
/// loader refuses it, and training goes on on the CPU.
fn load_cuda(library: &Path) -> Result<()> {
    let path = library.with_file_name("libtorch_cuda.so");
    if !path.exists() || !Path::new("/dev/nvidiactl").exists() {
        return Ok(());
    }
    let name = CString::new(path.as_os_str().as_encoded_bytes())?;
    // SAFETY: `name` is a C string; the library's initialisers are torch's own and are meant
    // to run in a process that has loaded libtorch_cpu. It is never closed.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        // SAFETY: dlerror returns the message of the failed call above, or null.
        let message = unsafe { libc::dlerror() };
        let why = if message.is_null() {
            "unknown reason".into()
        } else {
            // SAFETY: a non-null dlerror is a C string valid until the next dl call.
            unsafe { CStr::from_ptr(message) }.to_string_lossy()
        };
        eprintln!("no CUDA: {} was not loaded: {why}", path.display());
    }
    Ok(())
}
