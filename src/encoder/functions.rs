//! `encode_image(s)`, `encode_text(s)` and `clip_status`: the SQL functions that ask the encoder.

use pgclip_wire::protocol::LoadedModel;
use pgrx::iter::TableIterator;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{Array, name, pg_extern, pg_sys};

use super::{requests, site};
use crate::catalog::extension::Extension;
use crate::catalog::rights::Encoding;
use crate::embedding::{Embedding, Embeddings};
use crate::error::Failure;
use crate::limits;
use crate::models::roots;

#[pg_extern(sql = false)]
fn encode_image(
    image: Option<&[u8]>,
    model_name: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embedding>, ErrorReport> {
    let Some(image) = image else { return Ok(None) };
    // SAFETY: our own call; nothing else of this function uses `fn_extra`.
    let known = unsafe { site::of_call(fcinfo) };
    let model = site::model(known, fcinfo, model_name, Encoding::Images)?;
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
    let known = unsafe { site::of_call(fcinfo) };
    let model = site::model(known, fcinfo, model_name, Encoding::Images)?;
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
    let known = unsafe { site::of_call(fcinfo) };
    let model = site::model(known, fcinfo, model_name, Encoding::Images)?;
    Ok(Some(Embeddings(requests::images(model, images.len(), images.iter())?)))
}

#[pg_extern(sql = false)]
fn encode_text(
    text: Option<&str>,
    model_name: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embedding>, ErrorReport> {
    text_in(text, model_name, None, fcinfo)
}

/// `encode_text` with three arguments: a function of its own, since rights are given to the one with two.
#[pg_extern(sql = false)]
fn encode_text_in(
    text: Option<&str>,
    model_name: Option<&str>,
    language: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embedding>, ErrorReport> {
    text_in(text, model_name, language, fcinfo)
}

fn text_in(
    text: Option<&str>,
    model_name: Option<&str>,
    language: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embedding>, ErrorReport> {
    let Some(text) = text else { return Ok(None) };
    // SAFETY: as above.
    let known = unsafe { site::of_call(fcinfo) };
    let model = site::model(known, fcinfo, model_name, Encoding::Texts)?.in_language(language)?;
    Ok(requests::texts(&model, &[text])?.pop())
}

#[pg_extern(sql = false)]
fn encode_texts(
    texts: Option<Array<'_, &str>>,
    model_name: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embeddings>, ErrorReport> {
    texts_in(texts, model_name, None, fcinfo)
}

/// `encode_texts` with three arguments.
#[pg_extern(sql = false)]
fn encode_texts_in(
    texts: Option<Array<'_, &str>>,
    model_name: Option<&str>,
    language: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embeddings>, ErrorReport> {
    texts_in(texts, model_name, language, fcinfo)
}

fn texts_in(
    texts: Option<Array<'_, &str>>,
    model_name: Option<&str>,
    language: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embeddings>, ErrorReport> {
    let Some(texts) = texts else { return Ok(None) };
    limits::check("elements to encode", texts.len(), limits::ITEMS)?;
    // SAFETY: as above.
    let known = unsafe { site::of_call(fcinfo) };
    let model = site::model(known, fcinfo, model_name, Encoding::Texts)?.in_language(language)?;
    let given: Vec<&str> = texts.iter().flatten().collect();
    let mut embeddings = requests::texts(&model, &given)?.into_iter();
    let all = texts.iter().map(|text| text.and_then(|_| embeddings.next()));
    Ok(Some(Embeddings(all.collect())))
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
    let model = |model: &LoadedModel| {
        let LoadedModel { name, device, bytes, idle_seconds, .. } = model;
        // Nothing of it is loaded before its first image or text.
        let state = match device.is_empty() {
            true => "not loaded".to_owned(),
            false => format!("on {device}"),
        };
        let size = bytes.div_ceil(1 << 20);
        format!("{name} {state}, {size} MB, last used {idle_seconds:.0} s ago")
    };
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
