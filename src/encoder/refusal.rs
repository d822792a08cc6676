//! What the encoder refuses: each kind's SQLSTATE and hint. In one file, so that the same mistake
//! gets the same error from every function.

use pgclip_wire::protocol::{ErrorKind, MAX_TEXT_BYTES};
use pgrx::pg_sys;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use crate::catalog::rights;
use crate::error::Failure;

/// What the encoder said. Its hint, where it has one, is closer to the case than ours.
pub fn refusal(kind: ErrorKind, mut message: String, hint: String) -> Failure {
    // Where a model lies is not for everybody, nor for tables that everybody may read.
    let of_files = matches!(
        kind,
        ErrorKind::ModelNotFound
            | ErrorKind::ModelInvalid
            | ErrorKind::ModelClosed
            | ErrorKind::ModelDigestMismatch
            | ErrorKind::ModelRefused
    );
    // SAFETY: set when a worker begins.
    let is_worker = unsafe { !pg_sys::MyBgworkerEntry.is_null() };
    if of_files && (is_worker || !rights::may_read_files()) {
        message = "the model cannot be used as its files are".into();
    }
    let failure = Failure::new(code(kind), message.trim_end());
    match hint.is_empty() {
        false => failure.hint(hint),
        true => match own_hint(kind) {
            Some(hint) => failure.hint(hint),
            None => failure,
        },
    }
}

fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::BadImage => Code::ERRCODE_INVALID_BINARY_REPRESENTATION,
        ErrorKind::UnsupportedImage => Code::ERRCODE_FEATURE_NOT_SUPPORTED,
        ErrorKind::ImageTooLarge | ErrorKind::TextTooLong => Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        ErrorKind::Overloaded => Code::ERRCODE_INSUFFICIENT_RESOURCES,
        ErrorKind::OutOfMemory => Code::ERRCODE_OUT_OF_MEMORY,
        ErrorKind::ModelNotFound | ErrorKind::FileNotFound => Code::ERRCODE_UNDEFINED_FILE,
        ErrorKind::ModelClosed => Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
        ErrorKind::FileRefused => Code::ERRCODE_INVALID_PARAMETER_VALUE,
        ErrorKind::ModelDigestMismatch | ErrorKind::ModelRefused | ErrorKind::FileChanged => {
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
        }
        ErrorKind::ModelInvalid | ErrorKind::NoLanguage => Code::ERRCODE_INVALID_PARAMETER_VALUE,
        ErrorKind::RuntimeMissing | ErrorKind::DeviceMissing | ErrorKind::VersionMismatch => {
            Code::ERRCODE_SYSTEM_ERROR
        }
        ErrorKind::BadRequest | ErrorKind::Internal => Code::ERRCODE_INTERNAL_ERROR,
    }
}

fn own_hint(kind: ErrorKind) -> Option<String> {
    Some(match kind {
        ErrorKind::BadImage => {
            "The value must be the whole of a JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, JPEG XL or HEIC file.".into()
        }
        ErrorKind::UnsupportedImage => {
            "Convert the image, for instance to PNG with 8 bits a sample or to JPEG.".into()
        }
        ErrorKind::ImageTooLarge => {
            "Store the image smaller, or raise \"pgclip.max_megapixels\" or \
             \"pgclip.max_decode_memory\"."
                .into()
        }
        ErrorKind::TextTooLong => {
            format!("A text has at most {MAX_TEXT_BYTES} bytes; models read its beginning only.")
        }
        ErrorKind::Overloaded => {
            "Try again later, or raise \"pgclip.max_queue\" and \"pgclip.max_request_memory\"."
                .into()
        }
        ErrorKind::FileNotFound | ErrorKind::FileRefused => {
            "A path names a regular file beneath its root that the server's own user may read, with no link on the way."
                .into()
        }
        ErrorKind::FileChanged => "Write files under another name, then rename them.".into(),
        ErrorKind::ModelNotFound | ErrorKind::ModelInvalid => {
            "Check the directory with \"pgclip-encoder check\".".into()
        }
        ErrorKind::ModelDigestMismatch => {
            "The files have changed since the model was registered; register them under a new name."
                .into()
        }
        ErrorKind::ModelClosed => {
            "The encoder reads nothing in the data directory or a tablespace; move the model."
                .into()
        }
        ErrorKind::ModelRefused => {
            "Mend or drop the model; pg_reload_conf() lets it be tried again.".into()
        }
        ErrorKind::OutOfMemory => {
            "Lower \"pgclip.max_batch\" or \"pgclip.max_models\", or give the device more memory."
                .into()
        }
        ErrorKind::NoLanguage => {
            "A language is named as the model's tokenizer.json names it, such as deu_Latn.".into()
        }
        ErrorKind::RuntimeMissing => "Set \"pgclip.onnxruntime_path\".".into(),
        ErrorKind::DeviceMissing => "Set \"pgclip.device\" to auto or cpu.".into(),
        ErrorKind::VersionMismatch => {
            "Restart the server after an update, so that it and the encoder are of one version."
                .into()
        }
        ErrorKind::BadRequest | ErrorKind::Internal => "The server's log may tell more.".into(),
    })
}
