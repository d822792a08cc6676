//! What the tests share: a model made from the export crate's golden weights, the encoder
//! as a real process on a socket of its own, a client, and images.

#![allow(dead_code)] // each test binary uses its own part

use pgclip_wire::protocol::{
    ByteBuf, ErrorKind, FrameReader, Image, ModelRef, Request, Response, Status, VERSION,
    encode_frame,
};
use std::io::{Cursor, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long anything may take before a test counts as hung.
pub const HANG: Duration = Duration::from_secs(60);

/// ONNX Runtime's library: the one that `PGCLIP_ONNXRUNTIME` names, or that `make` fetched.
pub fn onnxruntime() -> PathBuf {
    if let Some(path) = std::env::var_os("PGCLIP_ONNXRUNTIME") {
        return path.into();
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/deps/onnxruntime/onnxruntime/capi");
    let found = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("libonnxruntime.so"));
    let found = found.unwrap_or_else(|| {
        panic!(
            "there is no ONNX Runtime in {}: run `make deps`, or set PGCLIP_ONNXRUNTIME to the \
             path of libonnxruntime.so",
            folder.display()
        )
    });
    found.path().canonicalize().unwrap()
}

/// A small model with random weights, made once for each test binary.
pub fn model() -> &'static ModelRef {
    static MODEL: OnceLock<ModelRef> = OnceLock::new();
    MODEL.get_or_init(|| make_model("model", pgclip_export::Options::default()))
}

/// Exports the golden weights to a directory of that name.
pub fn make_model(name: &str, options: pgclip_export::Options) -> ModelRef {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../export/tests/golden/open_clip");
    let directory = scratch(name);
    let options = pgclip_export::Options {
        name: options.name.or(Some("random".into())),
        overwrite: true,
        ..options
    };
    let config = golden.join("open_clip_config.json");
    let weights = golden.join("open_clip_model.safetensors");
    let made = pgclip_export::export(&weights, Some(&config), &options, &directory).unwrap();
    let directory = directory.display().to_string();
    ModelRef { directory, digest: made.digest.0, language: None }
}

/// A path of this process's own, with nothing there.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// The encoder's program, with ONNX Runtime and the CPU chosen where `command` has that.
pub fn program(command: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_pgclip-encoder"));
    program.arg(command);
    if command != "convert" {
        program.arg("--onnxruntime").arg(onnxruntime());
    }
    program
}

/// A serving encoder, killed at the end.
pub struct Encoder {
    pub child: Child,
    pub socket: PathBuf,
    folder: tempfile::TempDir,
}

impl Encoder {
    /// Starts one with these options beside the usual ones.
    pub fn start(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options)
    }

    /// Starts one whose socket is in this folder.
    pub fn start_in(folder: tempfile::TempDir, options: &[&str]) -> Self {
        let mut program = program("serve");
        if !options.contains(&"--device") {
            program.args(["--device", "cpu"]);
        }
        program.args(options);
        Self::spawn(program, folder)
    }

    /// Starts one with this library in place of ONNX Runtime.
    pub fn start_with_library(library: &str) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pgclip-encoder"));
        program.args(["serve", "--onnxruntime", library]);
        Self::spawn(program, tempfile::tempdir().unwrap())
    }

    fn spawn(mut program: Command, folder: tempfile::TempDir) -> Self {
        let socket = folder.path().join("encoder.sock");
        program.arg("--socket").arg(&socket).stderr(Stdio::piped());
        let child = program.spawn().unwrap();
        let mut encoder = Self { child, socket, folder };
        let start = Instant::now();
        while UnixStream::connect(&encoder.socket).is_err() {
            assert!(start.elapsed() < HANG, "the encoder does not listen");
            assert!(encoder.child.try_wait().unwrap().is_none(), "the encoder has ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        encoder
    }

    /// A connection that has said Hello.
    pub fn connect(&self) -> Client {
        let mut client = self.connect_raw();
        client.send(&Request::Hello { version: VERSION });
        assert_eq!(client.receive(), Some(Response::Hello { version: VERSION }));
        client
    }

    /// A connection that has said nothing.
    pub fn connect_raw(&self) -> Client {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(HANG)).unwrap();
        stream.set_write_timeout(Some(HANG)).unwrap();
        Client { stream, reader: FrameReader::new() }
    }

    /// Ends it as an administrator would, and returns what it wrote to its log.
    pub fn end(mut self, signal: libc::c_int) -> (std::process::ExitStatus, String) {
        // SAFETY: a signal to a child that has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap(), log)
    }

    /// Kills it, leaving its socket, and hands the folder on.
    pub fn crash(mut self) -> tempfile::TempDir {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct Client {
    pub stream: UnixStream,
    reader: FrameReader,
}

impl Client {
    pub fn send(&mut self, request: &Request) {
        self.stream.write_all(&encode_frame(request).unwrap()).unwrap();
    }

    /// The next answer; `None` when the encoder has closed the connection.
    pub fn receive(&mut self) -> Option<Response> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(response) = self.reader.next_message().unwrap() {
                return Some(response);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(n) => self.reader.push(&buffer[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no answer: {error}"),
            }
        }
    }

    pub fn ask(&mut self, request: &Request) -> Response {
        self.send(request);
        self.receive().expect("the encoder closed the connection")
    }

    /// Encodes images, each to its embedding or the kind of its error.
    pub fn images(&mut self, images: &[Vec<u8>]) -> Vec<Result<Vec<f32>, ErrorKind>> {
        items(self.ask(&images_request(1, images)))
    }

    /// Encodes texts, likewise.
    pub fn texts(&mut self, texts: &[&str]) -> Vec<Result<Vec<f32>, ErrorKind>> {
        items(self.ask(&texts_request(1, texts)))
    }

    pub fn status(&mut self) -> Status {
        match self.ask(&Request::Status { id: 1 }) {
            Response::Status { id: 1, status } => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for the status until it is as wanted.
    pub fn status_when(&mut self, wanted: impl Fn(&Status) -> bool) -> Status {
        let start = Instant::now();
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(start.elapsed() < HANG, "it stays {status:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

pub fn images_request(id: u64, images: &[Vec<u8>]) -> Request {
    let images = images.iter().cloned().map(Image::from).collect();
    Request::Images { id, model: model().clone(), images }
}

pub fn texts_request(id: u64, texts: &[&str]) -> Request {
    let texts = texts.iter().map(|&text| text.to_owned()).collect();
    Request::Texts { id, model: model().clone(), texts }
}

/// The kind of a request's failure.
pub fn failure(response: Response) -> ErrorKind {
    match response {
        Response::Failed { kind, message, .. } => {
            assert!(!message.is_empty());
            kind
        }
        other => panic!("{other:?}"),
    }
}

/// The items of an answer. Every embedding is of unit length and the stated dimensions.
pub fn items(response: Response) -> Vec<Result<Vec<f32>, ErrorKind>> {
    let Response::Embeddings { dimensions, items, .. } = response else { panic!("{response:?}") };
    let item = |item: Result<ByteBuf, _>| {
        let bytes = item.map_err(|error: pgclip_wire::protocol::ItemError| {
            assert!(!error.message.is_empty());
            error.kind
        })?;
        let halves = bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]));
        let values: Vec<f32> = halves.map(f32::from).collect();
        assert_eq!(values.len(), dimensions as usize);
        let norm = values.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 2e-3, "norm {norm}");
        Ok(values)
    };
    items.into_iter().map(item).collect()
}

pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// A JPEG whose look depends on `seed`.
pub fn jpeg(seed: u8) -> Vec<u8> {
    let image = image::RgbImage::from_fn(96, 80, |x, y| {
        let (x, y) = (x as u8, y as u8);
        image::Rgb([x.wrapping_mul(seed), y.wrapping_mul(seed / 2 + 1), x ^ y ^ seed])
    });
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Jpeg).unwrap();
    bytes.into_inner()
}

/// The beginning of a PNG of a million times a million pixels.
pub fn bomb() -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(1_000_000u32.to_be_bytes().repeat(2));
    header.extend([8, 2, 0, 0, 0]);
    let crc = header.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    });
    [b"\x89PNG\r\n\x1a\n\0\0\0\x0d".as_slice(), &header, &(!crc).to_be_bytes(), &[0; 100]].concat()
}
