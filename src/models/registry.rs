//! The models that are registered: looked up by name, with the rights of the extension's owner,
//! since directories on the server are nobody else's business.

use std::borrow::Cow;

use pgclip_wire::protocol::ModelRef;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;

use crate::catalog::extension::Extension;
use crate::catalog::read;
use crate::error::Failure;
use crate::limits::{self, shown};
use crate::place;
use crate::settings;

/// The model that comes with the extension.
pub const BUILTIN: &str = "pgclip-traffic-tiny";

/// A registered model.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    pub name: String,
    /// What the encoder is asked for.
    pub reference: ModelRef,
    pub dimensions: usize,
    /// Multiplier of cosine similarities in zero-shot probabilities.
    pub logit_scale: f32,
    /// What is added to that, in models whose probabilities are of each label by itself.
    pub logit_bias: Option<f32>,
    pub builtin: bool,
}

impl Model {
    /// The model for texts in a language, where one is named. Whether it has that language the encoder
    /// knows.
    pub fn in_language(&self, language: Option<&str>) -> Result<Cow<'_, Self>, Failure> {
        limits::option("language", language)?;
        let Some(language) = language else { return Ok(Cow::Borrowed(self)) };
        let mut model = self.clone();
        model.reference.language = Some(language.to_owned());
        Ok(Cow::Owned(model))
    }

    /// The digest in hexadecimal, as bindings carry it.
    pub fn digest(&self) -> String {
        self.reference.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// Name of the model that is meant where none is given.
pub fn default_name() -> String {
    settings::text(&settings::MODEL).unwrap_or_else(|| BUILTIN.to_owned())
}

/// The model called `name`, or the default one.
pub fn resolve(extension: &Extension, name: Option<&str>) -> Result<Model, Failure> {
    limits::option("the name of a model", name)?;
    let name = name.map_or_else(default_name, str::to_owned);
    find(extension, &name)?.ok_or_else(|| unknown(&name))
}

/// The model called `name`, if there is one.
pub fn find(extension: &Extension, name: &str) -> Result<Option<Model>, Failure> {
    let query = format!(
        "SELECT directory, dimensions, logit_scale, digest, builtin, logit_bias FROM {} \
         WHERE name OPERATOR(pg_catalog.=) $1",
        extension.relation("clip_model")
    );
    let _owner = extension.as_owner();
    // Each statement looks its model up, and planning took longer than everything else about a text
    // out of the cache.
    read::kept(&query, &[name.into()], |row| {
        let digest: Option<Vec<u8>> = row.get(4)?;
        let builtin = row.get(5)?.unwrap_or_default();
        let directory = match builtin {
            true => place::builtin_model(name).to_string_lossy().into_owned(),
            false => row.get::<String>(1)?.unwrap_or_default(),
        };
        let digest = digest.and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
        Ok(Model {
            name: name.to_owned(),
            reference: ModelRef { directory, digest, language: None },
            dimensions: row.get::<i32>(2)?.unwrap_or_default() as usize,
            logit_scale: row.get(3)?.unwrap_or_default(),
            logit_bias: row.get(6)?,
            builtin,
        })
    })
}

fn unknown(name: &str) -> Failure {
    let failure = Failure::new(
        Code::ERRCODE_UNDEFINED_OBJECT,
        format!("there is no model \"{}\"", shown(name)),
    );
    match name == BUILTIN {
        true => failure.hint("Register one with clip_register_model and name it in pgclip.model."),
        false => {
            failure.hint("The view clip_models lists the models; clip_register_model adds one.")
        }
    }
}
