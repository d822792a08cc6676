//! Why a request as a whole fails: the kind for the SQLSTATE, a message, and a hint for
//! whoever has to mend it. Its own file because models, backend and server all make them.

use pgclip_clip::model::ModelError;
use pgclip_wire::protocol::{ErrorKind, Response};
use std::fmt;
use std::io;

/// An error that a client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub kind: ErrorKind,
    pub message: String,
    pub hint: String,
}

impl Failure {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let hint = match kind {
            ErrorKind::Overloaded => "Try again later, or raise the bounds of the encoder.",
            ErrorKind::ModelNotFound => "Restore the model directory, or register the model anew.",
            ErrorKind::ModelDigestMismatch => {
                "The files have changed since the model was registered. Restore them, or register \
                 the directory under another name and encode anew."
            }
            ErrorKind::ModelInvalid => "pgclip-encoder check DIRECTORY tells more.",
            ErrorKind::RuntimeMissing => {
                "Set pgclip.onnxruntime_path to the library of ONNX Runtime 1.23 or later."
            }
            ErrorKind::DeviceMissing => "Set pgclip.device to auto or cpu, or mend the device.",
            ErrorKind::OutOfMemory => {
                "Lower pgclip.max_batch or pgclip.max_models, or give the device more memory."
            }
            ErrorKind::ModelClosed => {
                "The encoder reads nothing in the data directory or a tablespace. Move the model."
            }
            ErrorKind::ModelRefused => {
                "Mend or drop the model; a reload of the server's configuration lets it be tried \
                 at once."
            }
            ErrorKind::NoLanguage => {
                "A language is named as the model's tokenizer.json names it, such as deu_Latn."
            }
            ErrorKind::VersionMismatch => {
                "Install extension and encoder of one release, and restart the server."
            }
            _ => "",
        };
        Self { kind, message: message.into(), hint: hint.into() }
    }

    pub fn into_response(self, id: u64) -> Response {
        Response::Failed { id, kind: self.kind, message: self.message, hint: self.hint }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        let kind = match &error {
            ModelError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::ModelNotFound
            }
            ModelError::Digest { .. } => ErrorKind::ModelDigestMismatch,
            _ => ErrorKind::ModelInvalid,
        };
        Failure::new(kind, error.to_string())
    }
}
