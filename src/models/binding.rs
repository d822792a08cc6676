//! Which model an embedding column belongs to. The binding of an attached column *is* its trigger
//! `clip_ingest`: the trigger's columns are the image and the embedding (`UPDATE OF image,
//! embedding`), those of attributes, and with mode async the primary key, its arguments the model's
//! name and digest, then options (`mode=async`, `on_error=null`, `root=archive`,
//! `attributes=vehicle:colour`). So it follows renames, is cloned to partitions, goes with the table,
//! and is part of every dump, with nothing to keep in step.

use std::ffi::CStr;

use pgrx::iter::TableIterator;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{PgRelation, name, pg_extern, pg_sys};

use super::{Model, resolve};
use crate::catalog::extension::{Extension, quoted};
use crate::error::Failure;

/// AFTER INSERT OR UPDATE FOR EACH ROW; the view `clip_binding` knows it too.
const OUR_TYPE: u32 =
    pg_sys::TRIGGER_TYPE_ROW | pg_sys::TRIGGER_TYPE_INSERT | pg_sys::TRIGGER_TYPE_UPDATE;

/// A column's attachment, as its trigger has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub trigger: pg_sys::Oid,
    pub trigger_name: String,
    /// Whether it came from a partitioned table above.
    pub inherited: bool,
    pub image: i16,
    pub embedding: i16,
    pub model: String,
    /// SHA-256 of the model's description, in hexadecimal.
    pub digest: String,
    pub mode: Mode,
    pub on_error: OnError,
    /// The root that the image column has paths beneath.
    pub root: Option<String>,
    /// What is filled beside the embedding.
    pub attributes: Option<Attributes>,
}

/// When rows are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By the statement that writes them.
    #[default]
    Sync,
    /// After their transaction, by the worker.
    Async,
}

/// What an image that cannot be encoded does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// It fails the statement.
    #[default]
    Stop,
    /// Its embedding stays NULL, and `clip_errors` says why.
    Null,
}

/// What a trigger's arguments say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    model: String,
    digest: String,
    mode: Mode,
    on_error: OnError,
    root: Option<String>,
    attributes: Option<Listed>,
}

/// Attributes of a domain, whose columns stand elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    domain: String,
    names: Vec<String>,
}

impl Options {
    /// The only place that knows how arguments are written, beside [`Attributes::argument`] and
    /// `clip_attach`; none where they are not written so.
    fn read(arguments: &[impl AsRef<str>]) -> Option<Self> {
        let [model, digest, options @ ..] = arguments else { return None };
        let mut read = Self {
            model: model.as_ref().to_owned(),
            digest: digest.as_ref().to_owned(),
            mode: Mode::default(),
            on_error: OnError::default(),
            root: None,
            attributes: None,
        };
        for option in options {
            match option.as_ref().split_once('=')? {
                ("mode", "async") => read.mode = Mode::Async,
                ("on_error", "null") => read.on_error = OnError::Null,
                ("root", name) => read.root = Some(name.to_owned()),
                ("attributes", list) => read.attributes = Some(Listed::read(list)?),
                _ => return None,
            }
        }
        (read.mode == Mode::Sync || read.on_error == OnError::Null).then_some(read)
    }
}

impl Listed {
    fn read(list: &str) -> Option<Self> {
        let (domain, list) = list.split_once(':')?;
        let names: Vec<String> = list.split(',').map(str::to_owned).collect();
        names.iter().all(|name| is_name(name)).then(|| Self { domain: domain.to_owned(), names })
    }

    /// With the columns behind the image and the embedding; none where there are too few.
    fn with_columns(self, columns: &[i16]) -> Option<Attributes> {
        let Self { domain, names } = self;
        (columns.len() >= names.len()).then(|| Attributes {
            domain,
            columns: names.into_iter().zip(columns.iter().copied()).collect(),
        })
    }
}

/// What the arguments of a trigger mean, which lie in `pg_trigger.tgargs` each ended by a zero byte:
/// for the view of all attached columns. No row where `clip_attach` has not written them.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_binding_options(
    arguments: &[u8],
) -> TableIterator<
    'static,
    (
        name!(model, String),
        name!(digest, String),
        name!(mode, &'static str),
        name!(on_error, &'static str),
        name!(root, Option<String>),
        name!(domain, Option<String>),
        name!(attributes, Option<Vec<String>>),
    ),
> {
    let arguments = arguments.strip_suffix(&[0]).unwrap_or(arguments);
    let arguments: Vec<_> =
        arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let rows = Options::read(&arguments).map(|read| {
        let (domain, names) = read.attributes.map(|listed| (listed.domain, listed.names)).unzip();
        let mode = match read.mode {
            Mode::Sync => "sync",
            Mode::Async => "async",
        };
        let on_error = match read.on_error {
            OnError::Stop => "stop",
            OnError::Null => "null",
        };
        (read.model, read.digest, mode, on_error, read.root, domain, names)
    });
    TableIterator::new(rows)
}

impl Binding {
    /// Reads a trigger of ours.
    ///
    /// # Safety
    /// `trigger` must point to a live trigger description.
    pub unsafe fn of_trigger(trigger: *const pg_sys::Trigger) -> Result<Self, Failure> {
        // SAFETY: the caller's promise; the arrays have the lengths that stand beside them.
        unsafe {
            let trigger = &*trigger;
            let name = CStr::from_ptr(trigger.tgname).to_string_lossy().into_owned();
            let foreign = || {
                Failure::new(
                    Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                    format!("trigger \"{name}\" was not made by clip_attach"),
                )
                .hint("Drop the trigger and call clip_attach.")
            };
            if trigger.tgnattr < 2
                || trigger.tgdeferrable
                || trigger.tgtype as u32 != OUR_TYPE
                || !trigger.tgqual.is_null()
            {
                return Err(foreign());
            }
            let arguments: Vec<String> = (0..trigger.tgnargs as usize)
                .map(|at| CStr::from_ptr(*trigger.tgargs.add(at)).to_string_lossy().into_owned())
                .collect();
            let options = Options::read(&arguments).ok_or_else(foreign)?;
            let columns = std::slice::from_raw_parts(trigger.tgattr, trigger.tgnattr as usize);
            let attributes = match options.attributes {
                Some(listed) => Some(listed.with_columns(&columns[2..]).ok_or_else(foreign)?),
                None => None,
            };
            Ok(Self {
                trigger: trigger.tgoid,
                trigger_name: name,
                inherited: trigger.tgisclone,
                image: columns[0],
                embedding: columns[1],
                model: options.model,
                digest: options.digest,
                mode: options.mode,
                on_error: options.on_error,
                root: options.root,
                attributes,
            })
        }
    }

    /// All attachments of a relation.
    pub fn all(extension: &Extension, relation: &PgRelation) -> Result<Vec<Self>, Failure> {
        // SAFETY: the relation is open, so its trigger descriptions stay in place.
        unsafe {
            triggers(relation.as_ptr(), function(extension, c"clip_ingest"))
                .map(|trigger| Self::of_trigger(trigger))
                .collect()
        }
    }

    /// The model, if it is still the one that the column was attached with.
    pub fn resolve(&self, extension: &Extension) -> Result<Model, Failure> {
        let model = resolve(extension, Some(&self.model))?;
        if model.digest() != self.digest {
            return Err(Failure::new(
                Code::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("model \"{}\" is not the one that the column was attached with", self.model),
            )
            .detail(format!("It has digest {}, the column {}.", model.digest(), self.digest))
            .hint("Register the former model again, or attach the column anew and encode its rows again."));
        }
        Ok(model)
    }
}

/// The triggers of a relation that call a function.
///
/// # Safety
/// The relation must stay open as long as the result is in use.
pub unsafe fn triggers<'a>(
    relation: pg_sys::Relation,
    function: pg_sys::Oid,
) -> impl Iterator<Item = &'a pg_sys::Trigger> {
    // SAFETY: the caller's promise.
    unsafe { all(relation) }.iter().filter(move |trigger| trigger.tgfoid == function)
}

/// The names of a relation's triggers, whatever they call.
pub fn trigger_names(relation: &PgRelation) -> Vec<String> {
    // SAFETY: the relation is open; a name is copied.
    unsafe {
        let name = |trigger: &pg_sys::Trigger| {
            CStr::from_ptr(trigger.tgname).to_string_lossy().into_owned()
        };
        all(relation.as_ptr()).iter().map(name).collect()
    }
}

/// # Safety
/// The relation must stay open as long as the result is in use.
unsafe fn all<'a>(relation: pg_sys::Relation) -> &'a [pg_sys::Trigger] {
    // SAFETY: the caller's promise; the count stands beside the array.
    unsafe {
        match (*relation).trigdesc {
            none if none.is_null() => &[],
            some => {
                let count = usize::try_from((*some).numtriggers).unwrap_or_default();
                std::slice::from_raw_parts((*some).triggers, count)
            }
        }
    }
}

/// OID of one of the extension's trigger functions.
pub fn function(extension: &Extension, name: &CStr) -> pg_sys::Oid {
    // SAFETY: catalog lookups; the vector of no argument types lives in the current context.
    unsafe {
        pg_sys::GetSysCacheOid(
            pg_sys::SysCacheIdentifier::PROCNAMEARGSNSP as i32,
            pg_sys::Anum_pg_proc_oid as i16,
            name.as_ptr().into(),
            pg_sys::buildoidvector(std::ptr::null(), 0).into(),
            extension.schema.into(),
            pg_sys::Datum::null(),
        )
    }
}

/// The attribute columns of an attached embedding. A trigger names the attributes in an argument
/// (`attributes=vehicle:colour,type`) and their columns behind the image and the embedding (`UPDATE OF
/// image, embedding, colour, kind`), so that these follow renames as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes {
    pub domain: String,
    /// Each attribute with the number of its column.
    pub columns: Vec<(String, i16)>,
}

impl Attributes {
    /// The trigger's argument.
    pub fn argument(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        format!("attributes={}:{}", self.domain, names.join(","))
    }

    /// As the option of `clip_attach` would have it, by the columns' names.
    pub fn option(&self, name_of: impl Fn(i16) -> String) -> String {
        let listed: Vec<String> = self
            .columns
            .iter()
            .map(|(attribute, column)| format!("{attribute}={}", quoted(name_of(*column))))
            .collect();
        format!("{}:{}", self.domain, listed.join(","))
    }
}

/// What `clip_attributes` takes as the name of a domain or an attribute.
pub fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}
