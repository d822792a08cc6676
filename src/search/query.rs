//! `clip_query`: the embedding of a query, for an index scan. Its call site keeps its last result,
//! because STABLE alone caches nothing.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use super::prompt;
use crate::catalog::extension::Extension;
use crate::catalog::rights::Encoding;
use crate::embedding::Embedding;
use crate::encoder::requests;
use crate::encoder::site::{self, Known, Moment};
use crate::limits;

/// What the call site keeps between its calls.
#[derive(Default)]
struct Site {
    model: Known,
    /// The last query and its embedding.
    query: Option<(Query, Vec<half::f16>)>,
}

/// All that the embedding of a query depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Query {
    text: String,
    digest: [u8; 32],
    domain: Option<String>,
    language: Option<String>,
    enhance: bool,
    moment: Moment,
}

#[pg_extern(sql = false)]
fn clip_query(
    text: Option<&str>,
    model_name: Option<&str>,
    domain: Option<&str>,
    enhance: Option<bool>,
    language: Option<&str>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Option<Embedding>, ErrorReport> {
    let Some(text) = text else { return Ok(None) };
    // SAFETY: our own call; nothing else of this function uses `fn_extra`.
    let own = unsafe { site::of_call::<Site>(fcinfo) };
    let model = site::model(&mut own.model, fcinfo, model_name, Encoding::Texts)?;
    let model = model.in_language(language)?;
    limits::text(text)?;
    limits::option("domain", domain)?;
    let query = Query {
        text: text.to_owned(),
        digest: model.reference.digest,
        domain: domain.map(str::to_owned),
        language: language.map(str::to_owned),
        enhance: enhance.unwrap_or(true),
        moment: Moment::now(),
    };
    match &own.query {
        Some((known, elements)) if *known == query => Ok(Some(requests::to_embedding(elements)?)),
        _ => {
            let extension = Extension::of_call(fcinfo);
            let embedding = prompt::embed(&extension, &model, text, domain, query.enhance)?;
            own.query = Some((query, embedding.as_slice().to_vec()));
            Ok(Some(embedding))
        }
    }
}
