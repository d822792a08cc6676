//! The settings (`pgclip.*`). One file, so that their names, bounds and who may change them can be
//! read at one place.
//!
//! What concerns the encoder process belongs to the whole cluster and comes from the server's
//! configuration alone; what names programs and libraries is shown to superusers only.

use std::ffi::CString;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum, pg_sys};

/// Where inference runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum Device {
    #[name = c"auto"]
    Auto,
    #[name = c"cpu"]
    Cpu,
    #[name = c"cuda"]
    Cuda,
    #[name = c"tensorrt"]
    TensorRt,
}

impl Device {
    /// As the encoder's command line wants it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::TensorRt => "tensorrt",
        }
    }
}

/// What a scan of an index does after its first rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum IterativeScan {
    #[name = c"strict"]
    Strict,
    #[name = c"relaxed"]
    Relaxed,
    #[name = c"off"]
    Off,
}

/// What searches find of the ten nearest where nobody asks for more or less.
pub const DEFAULT_RECALL: f64 = 0.98;
pub static SEARCH_SLACK: GucSetting<f64> = GucSetting::<f64>::new(0.0);
pub static TARGET_RECALL: GucSetting<f64> = GucSetting::<f64>::new(DEFAULT_RECALL);
pub static EF_SEARCH: GucSetting<i32> = GucSetting::<i32>::new(1000);
pub static ITERATIVE_SCAN: GucSetting<IterativeScan> =
    GucSetting::<IterativeScan>::new(IterativeScan::Strict);
pub static MAX_SCAN_TUPLES: GucSetting<i32> = GucSetting::<i32>::new(20_000);
pub static SCAN_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(64 << 10);
pub static MODEL: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(Some(c""));
pub static ENCODER_PATH: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
pub static ONNXRUNTIME_PATH: GucSetting<Option<CString>> =
    GucSetting::<Option<CString>>::new(Some(c""));
pub static DEVICE: GucSetting<Device> = GucSetting::<Device>::new(Device::Auto);
pub static ENCODER_THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
pub static MAX_BATCH: GucSetting<i32> = GucSetting::<i32>::new(0);
pub static MAX_WAIT_US: GucSetting<i32> = GucSetting::<i32>::new(500);
pub static MAX_TEXT_WAIT_US: GucSetting<i32> = GucSetting::<i32>::new(0);
pub static MAX_QUEUE: GucSetting<i32> = GucSetting::<i32>::new(4096);
pub static MAX_REQUEST_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(1024);
pub static MAX_DECODE_MEMORY: GucSetting<i32> = GucSetting::<i32>::new(2048);
pub static ENCODER_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(300);
pub static GPU_MEMORY_LIMIT: GucSetting<i32> = GucSetting::<i32>::new(0);
pub static MAX_MODELS: GucSetting<i32> = GucSetting::<i32>::new(4);
pub static MODEL_IDLE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(0);
pub static MAX_MEGAPIXELS: GucSetting<i32> = GucSetting::<i32>::new(100);
pub static EXIF_ORIENTATION: GucSetting<bool> = GucSetting::<bool>::new(false);
pub static SCALED_DECODE: GucSetting<bool> = GucSetting::<bool>::new(false);

/// A setting of text; `None` where it is empty.
pub fn text(setting: &GucSetting<Option<CString>>) -> Option<String> {
    let value = setting.get()?.to_string_lossy().into_owned();
    (!value.is_empty()).then_some(value)
}

/// Tells the server about all settings and keeps their prefix.
pub fn init() {
    GucRegistry::define_string_guc(
        c"pgclip.model",
        c"Model of encode_text, encode_image and of columns that are bound to none.",
        c"Empty: the built-in model.",
        &MODEL,
        GucContext::Userset,
        GucFlags::IS_NAME,
    );
    GucRegistry::define_enum_guc(
        c"pgclip.device",
        c"Where the encoder runs models.",
        c"auto takes CUDA where it works, else the CPU; a device that is named must be there.",
        &DEVICE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    path(
        c"pgclip.encoder_path",
        c"Program of the encoder process.",
        c"Empty: pgclip-encoder beside the server's own programs.",
        &ENCODER_PATH,
    );
    path(
        c"pgclip.onnxruntime_path",
        c"ONNX Runtime's shared library, which the encoder process loads.",
        c"Empty: pgclip/libonnxruntime.so below the server's library directory.",
        &ONNXRUNTIME_PATH,
    );
    encoder_int(
        c"pgclip.encoder_threads",
        c"Threads of the encoder for decoding, and for inference on the CPU.",
        c"0: one a core.",
        &ENCODER_THREADS,
        0..=1024,
        GucFlags::default(),
    );
    encoder_int(
        c"pgclip.max_batch",
        c"Images or texts in one inference.",
        c"0: as suits the device.",
        &MAX_BATCH,
        0..=1024,
        GucFlags::default(),
    );
    encoder_int(
        c"pgclip.max_wait_us",
        c"Microseconds that a batch of images waits to be filled while nothing else is to be done.",
        c"",
        &MAX_WAIT_US,
        0..=1_000_000,
        GucFlags::default(),
    );
    encoder_int(
        c"pgclip.max_text_wait_us",
        c"Microseconds that a batch of texts waits to be filled while nothing else is to be done.",
        c"What arrives during an inference is the next batch in any case.",
        &MAX_TEXT_WAIT_US,
        0..=1_000_000,
        GucFlags::default(),
    );
    encoder_int(
        c"pgclip.max_queue",
        c"Images that may wait for the encoder; requests over it are refused.",
        c"",
        &MAX_QUEUE,
        1..=i32::MAX,
        GucFlags::default(),
    );
    encoder_int(
        c"pgclip.max_request_memory",
        c"Memory for requests that wait for the encoder; requests over it are refused.",
        c"",
        &MAX_REQUEST_MEMORY,
        256..=1_048_576,
        GucFlags::UNIT_MB,
    );
    encoder_int(
        c"pgclip.max_decode_memory",
        c"Memory for all images together that the encoder is decoding.",
        c"Large images wait for it; one that needs more than is kept for them, at least three quarters, is refused.",
        &MAX_DECODE_MEMORY,
        64..=1_048_576,
        GucFlags::UNIT_MB,
    );
    encoder_int(
        c"pgclip.encoder_timeout",
        c"Time after which an encoder counts as hung that has not finished a batch, and is killed.",
        c"Loading a model may take four times as long. 0: never; else at least 3 seconds.",
        &ENCODER_TIMEOUT,
        0..=86_400,
        GucFlags::UNIT_S,
    );
    encoder_int(
        c"pgclip.gpu_memory_limit",
        c"Memory of the GPU that a tower of a model may take.",
        c"0: as much as it needs.",
        &GPU_MEMORY_LIMIT,
        0..=1_048_576,
        GucFlags::UNIT_MB,
    );
    encoder_int(
        c"pgclip.max_models",
        c"Models that the encoder keeps in memory.",
        c"",
        &MAX_MODELS,
        1..=64,
        GucFlags::default(),
    );
    encoder_int(
        c"pgclip.model_idle_timeout",
        c"Time after which the encoder unloads a model that nobody uses.",
        c"Its memory goes back to the system, and its next use loads it again. 0: never.",
        &MODEL_IDLE_TIMEOUT,
        0..=2_147_483,
        GucFlags::UNIT_S,
    );
    encoder_int(
        c"pgclip.max_megapixels",
        c"Megapixels of the largest image that is decoded.",
        c"",
        &MAX_MEGAPIXELS,
        1..=1000,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"pgclip.exif_orientation",
        c"Heed the orientation that a camera noted in a JPEG.",
        c"open_clip does not, so models are used to pictures as they are stored.",
        &EXIF_ORIENTATION,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_bool_guc(
        c"pgclip.scaled_decode",
        c"Decode large JPEG at a half, a quarter or an eighth of their size.",
        c"Faster; embeddings differ a little from those of open_clip's pixels.",
        &SCALED_DECODE,
        GucContext::Sighup,
        GucFlags::default(),
    );
    search();
    // SAFETY: a plain call with a constant string, made once at load.
    unsafe {
        #[cfg(feature = "pg14")]
        pg_sys::EmitWarningsOnPlaceholders(c"pgclip".as_ptr());
        #[cfg(not(feature = "pg14"))]
        pg_sys::MarkGUCPrefixReserved(c"pgclip".as_ptr());
    }
}

/// What a search of an index goes by; anybody may set it.
fn search() {
    GucRegistry::define_float_guc(
        c"pgclip.search_slack",
        c"How much farther than the k-th best row a search of an index looks; 0: as pgclip.target_recall asks.",
        c"More finds more, and takes longer. 0.1 to 0.3 is usual.",
        &SEARCH_SLACK,
        0.0,
        100.0,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_float_guc(
        c"pgclip.target_recall",
        c"Share of the nearest rows that a search of an index is to find.",
        c"CREATE INDEX and VACUUM measure with rows of the index itself what that takes.",
        &TARGET_RECALL,
        0.0,
        1.0,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pgclip.ef_search",
        c"The most rows of a scan where pgclip.iterative_scan is off.",
        c"Otherwise it does nothing: pgclip.search_slack says when a search ends.",
        &EF_SEARCH,
        1,
        1_000_000,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"pgclip.iterative_scan",
        c"Whether an index is searched on when more rows are wanted, and what happens to rows found late.",
        c"strict leaves late rows out, so that rows come in order; relaxed returns them out of order; off ends after pgclip.ef_search rows.",
        &ITERATIVE_SCAN,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pgclip.max_scan_tuples",
        c"The most records of an index that one scan looks at.",
        c"A scan that ends here says so in a warning when more rows were wanted.",
        &MAX_SCAN_TUPLES,
        1,
        i32::MAX,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pgclip.scan_memory",
        c"Memory for the candidates and the rows held back of one scan of an index.",
        c"",
        &SCAN_MEMORY,
        64,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_KB,
    );
}

fn path(
    name: &'static std::ffi::CStr,
    short: &'static std::ffi::CStr,
    long: &'static std::ffi::CStr,
    setting: &'static GucSetting<Option<CString>>,
) {
    let flags = GucFlags::SUPERUSER_ONLY;
    GucRegistry::define_string_guc(name, short, long, setting, GucContext::Sighup, flags);
}

fn encoder_int(
    name: &'static std::ffi::CStr,
    short: &'static std::ffi::CStr,
    long: &'static std::ffi::CStr,
    setting: &'static GucSetting<i32>,
    bounds: std::ops::RangeInclusive<i32>,
    flags: GucFlags,
) {
    let (min, max) = bounds.into_inner();
    GucRegistry::define_int_guc(name, short, long, setting, min, max, GucContext::Sighup, flags);
}
