//! `encode_image(s)`, `encode_text(s)`, `clip_query` and `clip_status`: the SQL functions that ask
//! the encoder. Each call site keeps what it knows about its model for as long as its statement sees
//! the same; `clip_query` keeps its last result too, because STABLE alone caches nothing.

use pgclip_clip::protocol::Status;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Array, PgMemoryContexts, name, pg_extern, pg_sys};

use super::failure::Failure;
use super::models::{self, Model};
use super::requests;
use crate::embedding::Embedding;
use crate::extension::Extension;
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

/// The model called `name`, looked up once a statement.
fn model<'a>(
    site: &'a mut Option<(String, Moment, Model)>,
    fcinfo: pg_sys::FunctionCallInfo,
    name: Option<&str>,
) -> Result<&'a Model, Failure> {
    let name = name.map_or_else(models::default_name, str::to_owned);
    let now = Moment::now();
    if !site.as_ref().is_some_and(|(known, seen, _)| *known == name && *seen == now) {
        let found = models::resolve(&Extension::of_call(fcinfo), Some(&name))?;
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
    let model = model(&mut site.model, fcinfo, model_name)?;
    Ok(requests::images(model, std::iter::once(Some(image)))?.pop().flatten())
}

#[pg_extern(sql = false)]
fn encode_images(
    images: Option<Array<'_, &[u8]>>,
    model_name: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Vec<Option<Embedding>>>, ErrorReport> {
    let Some(images) = images else { return Ok(None) };
    // SAFETY: as above.
    let site = unsafe { site(fcinfo) };
    let model = model(&mut site.model, fcinfo, model_name)?;
    Ok(Some(requests::images(model, images.iter())?))
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
    let model = model(&mut site.model, fcinfo, model_name)?;
    Ok(requests::texts(model, &[text])?.pop())
}

#[pg_extern(sql = false)]
fn encode_texts(
    texts: Option<Array<'_, &str>>,
    model_name: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Vec<Option<Embedding>>>, ErrorReport> {
    let Some(texts) = texts else { return Ok(None) };
    // SAFETY: as above.
    let site = unsafe { site(fcinfo) };
    let model = model(&mut site.model, fcinfo, model_name)?;
    let given: Vec<&str> = texts.iter().flatten().collect();
    let mut embeddings = requests::texts(model, &given)?.into_iter();
    Ok(Some(texts.iter().map(|text| text.and_then(|_| embeddings.next())).collect()))
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
    let model = model(&mut site.model, fcinfo, model_name)?;
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

/// One row about the encoder process.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_status() -> Result<
    TableIterator<
        'static,
        (
            name!(pid, i32),
            name!(version, String),
            name!(uptime_seconds, f64),
            name!(device, String),
            name!(runtime, String),
            name!(models, Vec<String>),
            name!(connections, i32),
            name!(queued_images, i64),
            name!(queued_texts, i64),
            name!(images, i64),
            name!(texts, i64),
            name!(errors, i64),
            name!(overloaded, i64),
            name!(cancelled, i64),
            name!(batches, i64),
            name!(batch_fill, f64),
            name!(cache_hits, i64),
            name!(images_per_second, f64),
            name!(latency_p50_ms, f64),
            name!(latency_p99_ms, f64),
            name!(restarts, i32),
            name!(refused, Vec<String>),
            name!(confinement, String),
        ),
    >,
    ErrorReport,
> {
    let Status {
        pid,
        version,
        uptime_seconds,
        device,
        runtime_version,
        runtime_error,
        models,
        connections,
        queued_images,
        queued_texts,
        overloaded,
        cancelled,
        images,
        texts,
        item_errors,
        image_batches,
        text_batches,
        image_batch_fill,
        cache_hits,
        images_per_second,
        latency_p50_ms,
        latency_p99_ms,
        restarts,
        refused,
        confinement,
        ..
    } = requests::status()?;
    let runtime = if runtime_error.is_empty() { runtime_version } else { runtime_error };
    Ok(TableIterator::once((
        pid as i32,
        version,
        uptime_seconds,
        device,
        runtime,
        models.into_iter().map(|model| format!("{} on {}", model.name, model.device)).collect(),
        connections as i32,
        queued_images as i64,
        queued_texts as i64,
        images as i64,
        texts as i64,
        item_errors as i64,
        overloaded as i64,
        cancelled as i64,
        (image_batches + text_batches) as i64,
        image_batch_fill,
        cache_hits as i64,
        images_per_second,
        latency_p50_ms,
        latency_p99_ms,
        restarts as i32,
        refused,
        confinement,
    )))
}
