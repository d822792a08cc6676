//! `clip_register_model` and `clip_drop_model`, and the registration of the built-in model: what
//! changes the table of models. Who may do so is decided here; the table itself is the extension
//! owner's.

use std::path::Path;

use pgclip_clip::model::{ModelDir, ModelError, is_model_name};
use pgclip_wire::protocol::MAX_PATH_BYTES;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Spi, pg_extern, pg_sys};

use super::requests;
use crate::catalog::extension::Extension;
use crate::catalog::rights::check_reader;
use crate::error::Failure;
use crate::models::{self, BUILTIN};
use crate::place;

#[pg_extern(sql = false)]
fn clip_register_model(
    name: &str,
    directory: &str,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<(), ErrorReport> {
    check_reader("register a model")?;
    check_name(name)?;
    if !Path::new(directory).is_absolute() || directory.len() > MAX_PATH_BYTES {
        return Err(Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("\"{directory}\" is not an absolute path"),
        )
        .hint("Name a model directory on the server, written by pgclip-encoder convert or pgclip-train export.")
        .into());
    }
    let extension = Extension::of_call(fcinfo);
    if models::find(&extension, name)?.is_some() {
        return Err(Failure::new(
            Code::ERRCODE_DUPLICATE_OBJECT,
            format!("there is already a model \"{name}\""),
        )
        .hint("Choose another name, or drop that model with clip_drop_model first.")
        .into());
    }
    let bias = verify(directory)?.config.logit_bias;
    let found = requests::describe(directory)?;
    let table = extension.relation("clip_model");
    let _owner = extension.as_owner();
    run(
        &format!(
            "INSERT INTO {table} (name, directory, dimensions, logit_scale, architecture, \
             precision, digest, builtin, mean_text_embedding, logit_bias) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, false, $8, $9)"
        ),
        &[
            name.into(),
            directory.into(),
            (found.dimensions as i32).into(),
            found.logit_scale.into(),
            found.architecture.into(),
            found.precision.into(),
            found.digest.to_vec().into(),
            found.mean_text_embedding.into(),
            bias.into(),
        ],
    )?;
    Ok(())
}

#[pg_extern(sql = false)]
fn clip_drop_model(name: &str, fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    check_reader("drop a model")?;
    let extension = Extension::of_call(fcinfo);
    let model = models::resolve(&extension, Some(name))?;
    if model.builtin {
        return Err(Failure::new(
            Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("model \"{name}\" belongs to the extension"),
        )
        .hint("Name another default model in pgclip.model instead.")
        .into());
    }
    let _owner = extension.as_owner();
    let bindings = extension.relation("clip_binding");
    let bound = Spi::get_one_with_args::<String>(
        &format!(
            "SELECT pg_catalog.format('%s.%I', relation, embedding) FROM {bindings} \
             WHERE model OPERATOR(pg_catalog.=) $1 ORDER BY 1 LIMIT 1"
        ),
        &[name.into()],
    );
    match bound {
        Ok(Some(column)) => {
            return Err(Failure::new(
                Code::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                format!("cannot drop model \"{name}\" because column {column} is bound to it"),
            )
            .hint("Detach the column with clip_detach first.")
            .into());
        }
        Ok(None) | Err(pgrx::spi::Error::InvalidPosition) => {}
        Err(error) => return Err(broken(error).into()),
    }
    let table = extension.relation("clip_model");
    let delete = format!("DELETE FROM {table} WHERE name OPERATOR(pg_catalog.=) $1");
    run(&delete, &[name.into()])?;
    Ok(())
}

/// Records the built-in model as it lies in the share directory. Called by the install script.
#[pg_extern(sql = false)]
fn clip_register_builtin(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), ErrorReport> {
    let directory = place::builtin_model(BUILTIN);
    let model = match ModelDir::open(&directory) {
        Ok(model) => model,
        Err(error) => {
            ErrorReport::new(
                Code::ERRCODE_UNDEFINED_FILE,
                format!("the built-in model \"{BUILTIN}\" is not installed"),
                "clip_register_builtin",
            )
            .set_detail(format!("{error}."))
            .set_hint("Register a model with clip_register_model and name it in pgclip.model.")
            .report(pgrx::PgLogLevel::WARNING);
            return Ok(());
        }
    };
    let config = &model.config;
    let precision = serde_json::to_value(config.precision).ok();
    let precision = precision.as_ref().and_then(|value| value.as_str()).unwrap_or_default();
    let table = Extension::of_call(fcinfo).relation("clip_model");
    run(
        &format!(
            "INSERT INTO {table} (name, directory, dimensions, logit_scale, architecture, \
             precision, digest, builtin, mean_text_embedding, logit_bias) \
             VALUES ($1, '', $2, $3, $4, $5, $6, true, $7, $8) \
             ON CONFLICT (name) DO UPDATE SET dimensions = excluded.dimensions, \
             logit_scale = excluded.logit_scale, architecture = excluded.architecture, \
             precision = excluded.precision, digest = excluded.digest, \
             mean_text_embedding = excluded.mean_text_embedding, \
             logit_bias = excluded.logit_bias"
        ),
        &[
            BUILTIN.into(),
            (config.dimensions as i32).into(),
            config.logit_scale.into(),
            config.architecture.as_str().into(),
            precision.into(),
            model.digest.to_vec().into(),
            config.mean_text_embedding.clone().into(),
            config.logit_bias.into(),
        ],
    )?;
    Ok(())
}

/// Checks every file's digest here, since the encoder may have a model of that digest in memory and
/// take the directory's word for the rest.
fn verify(directory: &str) -> Result<ModelDir, Failure> {
    let checked = ModelDir::open(directory).and_then(|model| {
        model.verify(|_| {
            pgrx::check_for_interrupts!();
        })?;
        Ok(model)
    });
    checked.map_err(|error| {
        let (code, hint) = match &error {
            ModelError::Io { .. } => {
                (Code::ERRCODE_UNDEFINED_FILE, "The server's own user must be able to read the directory.")
            }
            ModelError::Digest { .. } => (
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                "The file is damaged or was changed after the model was written; write the directory again.",
            ),
            _ => (
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                "Check the directory with \"pgclip-encoder check\".",
            ),
        };
        Failure::new(code, error.to_string()).hint(hint)
    })
}

fn check_name(name: &str) -> Result<(), Failure> {
    if is_model_name(name) {
        return Ok(());
    }
    Err(Failure::new(Code::ERRCODE_INVALID_NAME, format!("invalid model name \"{name}\"")).hint(
        "A name has 1 to 63 ASCII letters, digits, hyphens, full stops and underscores, and begins with a letter or digit.",
    ))
}

fn run(query: &str, arguments: &[pgrx::datum::DatumWithOid]) -> Result<(), Failure> {
    Spi::run_with_args(query, arguments).map_err(broken)
}

fn broken(error: pgrx::spi::Error) -> Failure {
    Failure::new(Code::ERRCODE_INTERNAL_ERROR, "cannot change the registered models")
        .detail(error.to_string())
}
