//! `encode_image(s)`, `encode_text(s)`, `clip_query` and `clip_status`: the SQL functions that ask
//! the encoder. Each call site keeps what it knows about its model for as long as its statement sees
//! the same; `clip_query` keeps its last result too, because STABLE alone caches nothing.

use pgclip_clip::protocol::LoadedModel;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Array, PgMemoryContexts, name, pg_extern, pg_sys};

use super::failure::Failure;
use super::models::{self, Model};
use super::requests;
use super::roots;
use crate::embedding::{Embedding, Embeddings};
use crate::extension::Extension;
use crate::limits;
use crate::rights::{Encoding, check_encoding};
use crate::search::prompt;

/// What a call site keeps between its calls. A call site may outlive its statement: in PL/pgSQL it
/// lives as long as the transaction.
#[derive(Default)]
struct Site {
    /// The model last asked for, by its name.
    model: Option<(String, Moment, Model)>,
    /// The last query and its embedding.
    query: Option<(Query, Vec<half::f16>)>,
}

/// What a statement sees of the database: equal moments see the same models and templates. Between
/// two snapshots that stand at the same next transaction, transactions can only have ended, which
/// makes the lists of those under way shorter. (The counter of completed transactions would be
/// simpler, but copies of a snapshot, which active ones are, have it at zero.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moment {
    /// The first transaction that had not begun.
    next: pg_sys::TransactionId,
    /// Transactions and subtransactions under way.
    running: (u32, i32),
    /// Commands of this transaction.
    command: pg_sys::CommandId,
}

impl Moment {
    fn now() -> Self {
        // SAFETY: a statement that calls functions has a snapshot.
        unsafe {
            let snapshot = &*pg_sys::GetActiveSnapshot();
            Self {
                next: snapshot.xmax,
                running: (snapshot.xcnt, snapshot.subxcnt),
                command: snapshot.curcid,
            }
        }
    }
}

/// All that the embedding of a query depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Query {
    text: String,
    digest: [u8; 32],
    domain: Option<String>,
    enhance: bool,
    moment: Moment,
}

/// The state of the call site, made at its first call.
///
/// # Safety
/// `fcinfo` must be the call's own, and the function's `fn_extra` nobody else's.
unsafe fn site<'a>(fcinfo: pg_sys::FunctionCallInfo) -> &'a mut Site {
    // SAFETY: the caller's promise; the state lives as long as the memory context that `flinfo`
    // lives in, and is dropped with it.
    unsafe {
        let flinfo = (*fcinfo).flinfo;
        if (*flinfo).fn_extra.is_null() {
            let mut context = PgMemoryContexts::For((*flinfo).fn_mcxt);
            (*flinfo).fn_extra = context.leak_and_drop_on_delete(Site::default()).cast();
        }
        &mut *(*flinfo).fn_extra.cast()
    }
}

/// The model called `name`, looked up once a statement, for who may have something encoded.
fn model<'a>(
    site: &'a mut Option<(String, Moment, Model)>,
    fcinfo: pg_sys::FunctionCallInfo,
    name: Option<&str>,
    what: Encoding,
) -> Result<&'a Model, Failure> {
    limits::option("the name of a model", name)?;
    let name = name.map_or_else(models::default_name, str::to_owned);
    let now = Moment::now();
    let extension = Extension::of_call(fcinfo);
    check_encoding(&extension, what)?;
    if !site.as_ref().is_some_and(|(known, seen, _)| *known == name && *seen == now) {
        let found = models::resolve(&extension, Some(&name))?;
        *site = Some((name, now, found));
    }
    let (_, _, model) = site.as_ref().expect("it was set above");
    Ok(model)
}

#[pg_extern(sql = false)]
fn encode_image(
    image: Option<&[u8]>,
    model_name: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embedding>, ErrorReport> {
    let Some(image) = image else { return Ok(None) };
    // SAFETY: our own call; nothing else of this function uses `fn_extra`.
    let site = unsafe { site(fcinfo) };
    let model = model(&mut site.model, fcinfo, model_name, Encoding::Images)?;
    Ok(requests::images(model, 1, std::iter::once(Some(image)))?.pop().flatten())
}

#[pg_extern(sql = false)]
fn encode_image_file(
    root: Option<&str>,
    path: Option<&str>,
    model_name: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embedding>, ErrorReport> {
    let (Some(root), Some(path)) = (root, path) else { return Ok(None) };
    let image = roots::resolve(&Extension::of_call(fcinfo), root)?.file(path);
    // SAFETY: as above.
    let site = unsafe { site(fcinfo) };
    let model = model(&mut site.model, fcinfo, model_name, Encoding::Images)?;
    Ok(Some(requests::image(model, image)?))
}

#[pg_extern(sql = false)]
fn encode_images(
    images: Option<Array<'_, &[u8]>>,
    model_name: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embeddings>, ErrorReport> {
    let Some(images) = images else { return Ok(None) };
    // SAFETY: as above.
    let site = unsafe { site(fcinfo) };
    let model = model(&mut site.model, fcinfo, model_name, Encoding::Images)?;
    Ok(Some(Embeddings(requests::images(model, images.len(), images.iter())?)))
}

#[pg_extern(sql = false)]
fn encode_text(
    text: Option<&str>,
    model_name: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embedding>, ErrorReport> {
    let Some(text) = text else { return Ok(None) };
    // SAFETY: as above.
    let site = unsafe { site(fcinfo) };
    let model = model(&mut site.model, fcinfo, model_name, Encoding::Texts)?;
    Ok(requests::texts(model, &[text])?.pop())
}

#[pg_extern(sql = false)]
fn encode_texts(
    texts: Option<Array<'_, &str>>,
    model_name: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embeddings>, ErrorReport> {
    let Some(texts) = texts else { return Ok(None) };
    limits::check("elements to encode", texts.len(), limits::ITEMS)?;
    // SAFETY: as above.
    let site = unsafe { site(fcinfo) };
    let model = model(&mut site.model, fcinfo, model_name, Encoding::Texts)?;
    let given: Vec<&str> = texts.iter().flatten().collect();
    let mut embeddings = requests::texts(model, &given)?.into_iter();
    let all = texts.iter().map(|text| text.and_then(|_| embeddings.next()));
    Ok(Some(Embeddings(all.collect())))
}

#[pg_extern(sql = false)]
fn clip_query(
    text: Option<&str>,
    model_name: Option<&str>,
    domain: Option<&str>,
    enhance: Option<bool>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embedding>, ErrorReport> {
    let Some(text) = text else { return Ok(None) };
    // SAFETY: as above.
    let site = unsafe { site(fcinfo) };
    let model = model(&mut site.model, fcinfo, model_name, Encoding::Texts)?;
    limits::text(text)?;
    limits::option("domain", domain)?;
    let query = Query {
        text: text.to_owned(),
        digest: model.reference.digest,
        domain: domain.map(str::to_owned),
        enhance: enhance.unwrap_or(true),
        moment: Moment::now(),
    };
    match &site.query {
        Some((known, elements)) if *known == query => Ok(Some(requests::to_embedding(elements)?)),
        _ => {
            let extension = Extension::of_call(fcinfo);
            let embedding = prompt::embed(&extension, model, text, domain, query.enhance)?;
            site.query = Some((query, embedding.as_slice().to_vec()));
            Ok(Some(embedding))
        }
    }
}

/// One row about the encoder process; where there is none to ask, why.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_status() -> TableIterator<
    'static,
    (
        name!(state, String),
        name!(pid, Option<i32>),
        name!(version, Option<String>),
        name!(uptime_seconds, Option<f64>),
        name!(device, Option<String>),
        name!(runtime, Option<String>),
        name!(models, Option<Vec<String>>),
        name!(connections, Option<i32>),
        name!(queued_images, Option<i64>),
        name!(queued_texts, Option<i64>),
        name!(images, Option<i64>),
        name!(texts, Option<i64>),
        name!(errors, Option<i64>),
        name!(overloaded, Option<i64>),
        name!(cancelled, Option<i64>),
        name!(batches, Option<i64>),
        name!(batch_fill, Option<f64>),
        name!(cache_hits, Option<i64>),
        name!(images_per_second, Option<f64>),
        name!(latency_p50_ms, Option<f64>),
        name!(latency_p99_ms, Option<f64>),
        name!(restarts, Option<i32>),
        name!(refused, Option<Vec<String>>),
        name!(confinement, Option<String>),
        name!(problem, Option<String>),
    ),
> {
    let (answer, problem) = match requests::status() {
        Ok(status) => (Some(status), None),
        Err(Failure { message, detail, .. }) => {
            let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
            (None, Some(message + &detail))
        }
    };
    let status = answer.as_ref();
    let state = if status.is_some() { "running" } else { "down" };
    let model = |model: &LoadedModel| format!("{} on {}", model.name, model.device);
    TableIterator::once((
        state.to_owned(),
        status.map(|s| s.pid as i32),
        status.map(|s| s.version.clone()),
        status.map(|s| s.uptime_seconds),
        status.map(|s| s.device.clone()),
        status.map(|s| match s.runtime_error.is_empty() {
            true => s.runtime_version.clone(),
            false => s.runtime_error.clone(),
        }),
        status.map(|s| s.models.iter().map(model).collect()),
        status.map(|s| s.connections as i32),
        status.map(|s| s.queued_images as i64),
        status.map(|s| s.queued_texts as i64),
        status.map(|s| s.images as i64),
        status.map(|s| s.texts as i64),
        status.map(|s| s.item_errors as i64),
        status.map(|s| s.overloaded as i64),
        status.map(|s| s.cancelled as i64),
        status.map(|s| (s.image_batches + s.text_batches) as i64),
        status.map(|s| s.image_batch_fill),
        status.map(|s| s.cache_hits as i64),
        status.map(|s| s.images_per_second),
        status.map(|s| s.latency_p50_ms),
        status.map(|s| s.latency_p99_ms),
        status.map(|s| s.restarts as i32),
        status.map(|s| s.refused.clone()),
        status.map(|s| s.confinement.clone()),
        problem,
    ))
}
