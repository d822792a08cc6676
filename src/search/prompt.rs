//! Prompt enhancement in SQL: the domains as `clip_templates` has them at this moment, what
//! `enhance_prompt` shows, and the embedding of a query. The rules are `pgclip_query`'s.

use pgclip_query::attributes::{self, Named};
use pgclip_query::enhance::{self, Domain, Enhanced, Lexicon};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{JsonB, name, pg_extern, pg_sys};

use crate::attributes::lexicon;
use crate::catalog::extension::Extension;
use crate::catalog::read;
use crate::catalog::rights::{Encoding, check_encoding};
use crate::embedding::{Dims, Embedding};
use crate::encoder::requests;
use crate::error::Failure;
use crate::limits::{self, shown};
use crate::models::Model;

/// The domains in their order of precedence: the user's own before the built-in ones. A user's
/// row stands in for the built-in row of the same domain.
fn domains(extension: &Extension) -> Result<Vec<Domain>, Failure> {
    let query = format!(
        "SELECT t.domain, t.words, t.templates, t.strip_full_stop FROM {table} AS t \
         WHERE t.enabled AND NOT (t.builtin AND EXISTS (SELECT FROM {table} AS u \
         WHERE u.domain OPERATOR(pg_catalog.=) t.domain AND NOT u.builtin)) \
         ORDER BY t.builtin, t.domain COLLATE pg_catalog.\"C\"",
        table = extension.relation("clip_templates")
    );
    let domains = read::all(&query, &[], |row| {
        Ok(Domain {
            name: row.get(1)?.unwrap_or_default(),
            words: row.get(2)?.unwrap_or_default(),
            templates: row.get(3)?.unwrap_or_default(),
            strip_full_stop: row.get(4)?.unwrap_or_default(),
        })
    })?;
    let words = domains.iter().map(|domain| domain.words.len()).sum();
    limits::check("words in clip_templates", words, limits::WORDS)?;
    Ok(domains)
}

/// What a query says, by the domains of `clip_templates` and the values of `clip_attributes`.
#[derive(Debug)]
pub struct Said {
    pub enhanced: Enhanced,
    /// About attributes of its domain; empty where that was not asked for.
    pub named: Vec<Named>,
}

/// Reads a query: domains and values are fetched, and the sentence is taken apart, once for all that a
/// search asks about it.
pub fn read(
    extension: &Extension,
    text: &str,
    domain: Option<&str>,
    with_attributes: bool,
) -> Result<Said, Failure> {
    limits::text(text)?;
    limits::option("domain", domain)?;
    let domains = domains(extension)?;
    for Domain { name, templates, .. } in &domains {
        let sizes = templates.iter().map(|template| limits::prompt_bytes(template, text.len()));
        let bytes = sizes.fold(0, usize::saturating_add);
        let of = |what: &str| format!("{what} of domain \"{}\" in clip_templates", shown(name));
        limits::check(&of("templates"), templates.len(), limits::PROMPTS)?;
        limits::check(&of("bytes of the prompts"), bytes, limits::PROMPT_BYTES)?;
    }
    let lexicon = Lexicon::new(&domains);
    let query = lexicon.read(text);
    let enhanced = query.enhance(domain).map_err(|error| {
        let known: Vec<&str> = domains.iter().map(|domain| domain.name.as_str()).collect();
        Failure::new(Code::ERRCODE_UNDEFINED_OBJECT, shown(&error.to_string()))
            .hint(format!("clip_templates has: {}.", shown(&known.join(", "))))
    })?;
    let named = match &enhanced.domain {
        Some(domain) if with_attributes => {
            attributes::named(&query, &lexicon::values(extension, domain)?, domain)
        }
        _ => Vec::new(),
    };
    Ok(Said { enhanced, named })
}

/// The embedding of a query of which nothing else is asked.
pub fn embed(
    extension: &Extension,
    model: &Model,
    text: &str,
    domain: Option<&str>,
    enhanced: bool,
) -> Result<Embedding, Failure> {
    check_encoding(extension, Encoding::Texts)?;
    limits::text(text)?;
    match enhanced {
        true => embed_prompts(model, &read(extension, text, domain, false)?.enhanced.prompts),
        false => embed_prompts(model, &[text]),
    }
}

/// The embedding of a prompt, or the normalised mean over several. Whether the caller may have them
/// encoded is his to ask.
pub fn embed_prompts(model: &Model, prompts: &[impl AsRef<str>]) -> Result<Embedding, Failure> {
    let prompts: Vec<&str> = prompts.iter().map(AsRef::as_ref).collect();
    let mut embeddings = requests::texts(model, &prompts)?;
    match embeddings.len() {
        1 => Ok(embeddings.remove(0)),
        _ => mean(&embeddings),
    }
}

/// The mean direction of unit-length embeddings.
fn mean(embeddings: &[Embedding]) -> Result<Embedding, Failure> {
    let dims = embeddings.first().map_or(0, |first| first.dims().get());
    let mut sum = vec![0.0_f32; dims];
    for embedding in embeddings {
        for (sum, element) in sum.iter_mut().zip(embedding.as_slice()) {
            *sum += element.to_f32();
        }
    }
    let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
    sum.iter_mut().for_each(|x| *x /= norm.max(f32::MIN_POSITIVE));
    Dims::new(dims).and_then(|_| Embedding::from_f32_slice(&sum)).map_err(|error| {
        Failure::new(Code::ERRCODE_DATA_EXCEPTION, "the prompts have no mean")
            .detail(error.to_string())
    })
}

#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn enhance_prompt(
    query: Option<&str>,
    domain: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<
    TableIterator<
        'static,
        (
            name!(domain, Option<String>),
            name!(matched, Vec<String>),
            name!(prompts, Vec<String>),
            name!(reason, String),
            name!(attributes, JsonB),
        ),
    >,
    ErrorReport,
> {
    let Some(query) = query else { return Ok(TableIterator::empty()) };
    let extension = Extension::of_call(fcinfo);
    let Said { enhanced, named } = read(&extension, query, domain, true)?;
    let Enhanced { domain, matched, reason, prompts } = enhanced;
    let named: serde_json::Map<_, _> = named
        .into_iter()
        .map(|Named { attribute, values, .. }| (attribute, values.into()))
        .collect();
    Ok(TableIterator::once((domain, matched, prompts, reason.to_string(), JsonB(named.into()))))
}

/// The rows that the install script puts into `clip_templates`.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_builtin_templates() -> TableIterator<
    'static,
    (
        name!(domain, String),
        name!(words, Vec<String>),
        name!(templates, Vec<String>),
        name!(strip_full_stop, bool),
    ),
> {
    TableIterator::new(
        enhance::builtin()
            .into_iter()
            .map(|domain| (domain.name, domain.words, domain.templates, domain.strip_full_stop)),
    )
}
