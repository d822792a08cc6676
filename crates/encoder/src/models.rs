//! The models in memory: found by directory and digest, loaded from their directory at first use, the
//! least recently used given up beyond a bound. Its own file because it alone knows both
//! the model directory and the backend.

use crate::backend::{ExternalData, Runtime, Tower};
use crate::confine::Confinement;
use crate::encode;
use crate::failure::Failure;
use crate::process;
use crate::settings::EngineOptions;
use crate::stdio;
use crate::tokens::Tokens;
use pgclip_clip::model::{ClipConfig, ModelDir, Padding, Precision};
use pgclip_clip::preprocess::Preprocessor;
use pgclip_clip::tokens::FileTokenizer;
use pgclip_clip::towers::{Holds, Layout, TowerConfig};
use pgclip_wire::notice::{Load, Named, Notice, Refusal, Why};
use pgclip_wire::protocol::{ErrorKind, LoadedModel, ModelInfo, ModelRef};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A model, each tower of which is loaded when it is first needed: a backfill needs no
/// text tower.
#[derive(Debug)]
pub struct Model {
    directory: ModelDir,
    pub preprocessor: Preprocessor,
    runtime: Arc<Runtime>,
    image: OnceLock<Arc<Tower>>,
    text: OnceLock<Arc<Tower>>,
    tokens: OnceLock<Tokens>,
    /// Held while a tower is loaded, so that it is loaded once.
    loading: Mutex<()>,
    /// Bytes of the graphs and weights that are loaded.
    bytes: AtomicU64,
    used: Mutex<Instant>,
}

impl Model {
    fn new(directory: ModelDir, runtime: Arc<Runtime>) -> Self {
        let config = &directory.config;
        let preprocessor = Preprocessor::for_input(&config.image, config.image_tower().main());
        let (image, text, tokens, loading, bytes) = Default::default();
        let used = Mutex::new(Instant::now());
        Self { directory, preprocessor, runtime, image, text, tokens, loading, bytes, used }
    }

    /// Somebody uses it at this moment. Said when a use begins and when it ends, since the first one takes
    /// as long as loading does.
    pub fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    /// For how long nobody has used it.
    fn idle(&self) -> Duration {
        lock(&self.used).elapsed()
    }

    pub fn config(&self) -> &ClipConfig {
        &self.directory.config
    }

    fn name(&self) -> &str {
        &self.config().name
    }

    pub fn digest(&self) -> [u8; 32] {
        self.directory.digest
    }

    /// Whether it is the model of this directory and digest. The same model at two places is
    /// two here: one place may lose its files while the other serves.
    fn is(&self, directory: impl AsRef<Path>, digest: &[u8; 32]) -> bool {
        self.directory.digest == *digest && self.directory.path == directory.as_ref()
    }

    pub fn dimensions(&self) -> usize {
        self.config().dimensions as usize
    }

    /// Width and height of the image tower's input, in pixels.
    pub fn image_size(&self) -> usize {
        self.config().image.size as usize
    }

    /// Tokens of the text tower's input.
    pub fn context_length(&self) -> usize {
        self.config().text.context_length as usize
    }

    /// The image tower: [N, 3, S, S] or [N, S, S, 3] to [N, D].
    pub fn image(&self) -> Result<Arc<Tower>, Failure> {
        let config = self.config().image_tower();
        let size = i64::from(self.config().image.size);
        let item = match config.main().holds {
            Holds::Pixels { layout: Layout::Nhwc } => [size, size, 3],
            _ => [3, size, size],
        };
        self.tower(&self.image, config, &item)
    }

    /// The text tower: [N, L] to [N, D].
    pub fn text(&self) -> Result<Arc<Tower>, Failure> {
        let length = i64::from(self.config().text.context_length);
        self.tower(&self.text, self.config().text_tower(), &[length])
    }

    /// What makes token ids of texts.
    pub fn tokens(&self) -> Result<&Tokens, Failure> {
        if let Some(tokens) = self.tokens.get() {
            return Ok(tokens);
        }
        let _loading = lock(&self.loading);
        if let Some(tokens) = self.tokens.get() {
            return Ok(tokens);
        }
        let tokens = match &self.config().text.tokens {
            None => Tokens::Clip,
            Some(config) => {
                let json = self.directory.read(&config.file)?;
                let made = FileTokenizer::new(&json, config, self.context_length());
                let made = made.map_err(|error| {
                    Failure::new(ErrorKind::ModelInvalid, format!("not a tokenizer: {error}"))
                })?;
                Tokens::File(Box::new(made), config.clone())
            }
        };
        Ok(self.tokens.get_or_init(|| tokens))
    }

    fn tower(
        &self,
        slot: &OnceLock<Arc<Tower>>,
        config: TowerConfig,
        item: &[i64],
    ) -> Result<Arc<Tower>, Failure> {
        if let Some(tower) = slot.get() {
            return Ok(tower.clone());
        }
        let is_text = config.main().holds == Holds::Tokens;
        let tokens = is_text.then(|| self.tokens()).transpose()?;
        let _loading = lock(&self.loading);
        if let Some(tower) = slot.get() {
            return Ok(tower.clone());
        }
        let file = &config.file.clone()[..];
        let start = Instant::now();
        // The probe below is part of it: until then no inference has been seen to end.
        let model = Named { digest: self.digest(), name: self.name().into() };
        let _notice = Loading::begin(Load { model, file: file.into() });
        let onnx = self.directory.read(file)?;
        // A graph names the files that its weights are in; the other tower's are not read.
        let named = |name: &str| onnx.windows(name.len()).any(|part| part == name.as_bytes());
        let external = self
            .config()
            .files
            .keys()
            .filter(|name| *name != file && named(name))
            .map(|name| Ok((name.clone(), self.directory.read(name)?.into())))
            .collect::<Result<ExternalData, Failure>>()?;
        let bytes = onnx.len() + external.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let engine = self.runtime.load(file, &onnx, &external)?;
        drop((onnx, external));
        let mut tower = Tower::new(engine, config, item, self.dimensions())?;
        if let Some(tokens) = tokens {
            tower.any_length &= tokens.padding() == Padding::Longest
                || encode::ignores_padding(&tower, tokens, self.context_length());
        }
        let tower = Arc::new(tower);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        tracing::info!(
            "loaded {file} of {} onto {} in {:.1} s",
            self.config().name,
            tower.device,
            start.elapsed().as_secs_f64()
        );
        Ok(slot.get_or_init(|| tower).clone())
    }

    /// The device of the towers that are loaded, empty when none is.
    fn device(&self) -> String {
        let tower = self.image.get().or_else(|| self.text.get());
        tower.map_or(String::new(), |tower| tower.device.to_string())
    }

    /// What `clip_register_model` records.
    pub fn info(&self) -> ModelInfo {
        let config = self.config();
        ModelInfo {
            name: config.name.clone(),
            architecture: config.architecture.clone(),
            digest: self.digest(),
            dimensions: config.dimensions,
            image_size: config.image.size,
            context_length: config.text.context_length,
            logit_scale: config.logit_scale,
            precision: match config.precision {
                Precision::Fp32 => "fp32".into(),
                Precision::Fp16 => "fp16".into(),
                Precision::Quantized => "quantized".into(),
            },
            mean_text_embedding: config.mean_text_embedding.clone(),
            device: self.device(),
        }
    }
}

/// Says that a tower is being loaded, and, however it ends, that it no longer is.
struct Loading(Load);

impl Loading {
    fn begin(load: Load) -> Self {
        stdio::say(&Notice::Loading(load.clone()));
        Self(load)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        stdio::say(&Notice::Loaded(self.0.clone()));
    }
}

/// All models in memory, the last used first.
#[derive(Debug)]
pub struct Models {
    pub runtime: Arc<Runtime>,
    pub confinement: Confinement,
    /// Models that ended the encoder while they were loaded, and until when they are refused.
    refused: HashMap<[u8; 32], (Refusal, Instant)>,
    limit: usize,
    loaded: Mutex<Vec<Arc<Model>>>,
}

impl Models {
    pub fn new(options: &EngineOptions, confinement: Confinement) -> Self {
        let now = Instant::now();
        Self {
            confinement,
            runtime: Arc::new(Runtime::new(options)),
            refused: options
                .refuse
                .iter()
                .map(|refusal| (refusal.model.digest, (refusal.clone(), now + refusal.left)))
                .collect(),
            limit: options.max_models as usize,
            loaded: Mutex::default(),
        }
    }

    /// The model in this directory with this digest, from memory or else loaded.
    pub fn get(&self, model: &ModelRef) -> Result<Arc<Model>, Failure> {
        let mut loaded = lock(&self.loaded);
        if let Some(at) = loaded.iter().position(|m| m.is(&model.directory, &model.digest)) {
            loaded[..=at].rotate_right(1);
            loaded[0].touch();
            return Ok(loaded[0].clone());
        }
        drop(loaded);
        let directory = self.read(&model.directory)?;
        if directory.digest != model.digest {
            let message = format!("the model in \"{}\" is not the one registered", model.directory);
            return Err(Failure::new(ErrorKind::ModelDigestMismatch, message));
        }
        self.keep(directory)
    }

    /// The model in a directory, whichever it is.
    pub fn open(&self, directory: &str) -> Result<Arc<Model>, Failure> {
        self.keep(self.read(directory)?)
    }

    fn read(&self, directory: &str) -> Result<ModelDir, Failure> {
        if self.confinement.may_read(Path::new(directory)) {
            return Ok(ModelDir::open(directory)?);
        }
        let message = format!("\"{directory}\" lies in a directory of the server's own");
        Err(Failure::new(ErrorKind::ModelClosed, message))
    }

    fn keep(&self, directory: ModelDir) -> Result<Arc<Model>, Failure> {
        if let Some((why, left)) = self.is_refused(&directory.digest) {
            let model =
                format!("model \"{}\" in \"{}\"", directory.config.name, directory.path.display());
            let (kind, what) = match why {
                Why::Crash => (
                    ErrorKind::ModelRefused,
                    format!("{model} has ended the encoder too often while it was loaded"),
                ),
                Why::Memory => (
                    ErrorKind::OutOfMemory,
                    format!("memory ran out each time that {model} was loaded"),
                ),
            };
            return Err(Failure::new(kind, format!("{what}; it is tried again in {left} s")));
        }
        let mut loaded = lock(&self.loaded);
        if let Some(model) = loaded.iter().find(|m| m.is(&directory.path, &directory.digest)) {
            return Ok(model.clone());
        }
        let model = Arc::new(Model::new(directory, self.runtime.clone()));
        loaded.insert(0, model.clone());
        loaded.truncate(self.limit);
        Ok(model)
    }

    /// Gives up the models that nobody has used for so long, and their memory to the system.
    pub fn unload_idle(&self, timeout: Duration) {
        let mut loaded = lock(&self.loaded);
        // Whoever works with a model has it in his hands; what is counted here is the list's own.
        let is_idle =
            |model: &mut Arc<Model>| model.idle() >= timeout && Arc::strong_count(model) == 1;
        let idle: Vec<Arc<Model>> = loaded.extract_if(.., is_idle).collect();
        drop(loaded);
        for model in &idle {
            tracing::info!("unloading {}, unused for {} s", model.name(), model.idle().as_secs());
        }
        if !idle.is_empty() {
            drop(idle);
            process::return_memory();
        }
    }

    /// Whether a model is refused now: why, and for how many seconds.
    fn is_refused(&self, digest: &[u8; 32]) -> Option<(Why, u64)> {
        let (refusal, until) = self.refused.get(digest)?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| (refusal.why, left.as_secs() + 1))
    }

    /// For the status: the names of what is not loaded for now.
    pub fn refused(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .refused
            .iter()
            .filter_map(|(digest, (refusal, _))| {
                let (why, left) = self.is_refused(digest)?;
                let why = match why {
                    Why::Crash => "",
                    Why::Memory => "out of memory, ",
                };
                Some(format!("{} ({why}again in {left} s)", refusal.model.name))
            })
            .collect();
        names.sort();
        names
    }

    /// For the status: what is in memory.
    pub fn list(&self) -> Vec<LoadedModel> {
        let models = lock(&self.loaded).clone();
        models
            .iter()
            .map(|model| LoadedModel {
                name: model.config().name.clone(),
                directory: model.directory.path.display().to_string(),
                digest: model.digest(),
                dimensions: model.config().dimensions,
                device: model.device(),
                bytes: model.bytes.load(Ordering::Relaxed),
                idle_seconds: model.idle().as_secs_f64(),
            })
            .collect()
    }
}

/// What these locks guard is whole after a panic: each change of it is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
