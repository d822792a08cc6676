//! `text_search` and `image_search`: one query over the searched relation, planned anew each time
//! with the caller's rights, its rows going straight to the result.

use pgclip_wire::protocol::Image;
use pgrx::fcinfo::pg_getarg;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{IntoDatum, Spi, pg_guard, pg_sys};

use super::arguments;
use super::attributes::Attributes;
use super::feedback::Feedback;
use super::filter::Filter;
use super::prompt;
use super::rerank::Rerank;
use super::source::Source;
use super::statement::{Options, PARAMETERS, query, relaxed};
use crate::catalog::extension::Extension;
use crate::catalog::rights::{Encoding, check_encoding};
use crate::embedding::Embedding;
use crate::encoder::requests;
use crate::error::Failure;
use crate::limits;
use crate::models::roots;

unsafe extern "C-unwind" {
    fn CreateTuplestoreDestReceiver() -> *mut pg_sys::DestReceiver;
    fn SetTuplestoreDestReceiverParams(
        receiver: *mut pg_sys::DestReceiver,
        store: *mut pg_sys::Tuplestorestate,
        context: pg_sys::MemoryContext,
        detoast: bool,
        target: pg_sys::TupleDesc,
        message: *const std::ffi::c_char,
    );
}

/// Makes the store that a set-returning function hands back whole.
///
/// # Safety
/// `fcinfo` must be the call's own.
unsafe fn result_store(
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<*mut pg_sys::Tuplestorestate, Failure> {
    let unsupported = || {
        Failure::new(
            Code::ERRCODE_FEATURE_NOT_SUPPORTED,
            "a search returns a set of rows, which this place does not take",
        )
        .hint("Call it in FROM.")
    };
    // SAFETY: a set-returning call's `resultinfo` is a ReturnSetInfo; what is made for it lives in
    // the memory of the query.
    unsafe {
        let info = (*fcinfo).resultinfo.cast::<pg_sys::ReturnSetInfo>();
        let materialize = pg_sys::SetFunctionReturnMode::SFRM_Materialize;
        if info.is_null()
            || (*info).type_ != pg_sys::NodeTag::T_ReturnSetInfo
            || (*info).allowedModes & materialize as i32 == 0
        {
            return Err(unsupported());
        }
        let context = (*(*info).econtext).ecxt_per_query_memory;
        let before = pg_sys::MemoryContextSwitchTo(context);
        let mut columns = std::ptr::null_mut();
        let class = pg_sys::get_call_result_type(fcinfo, std::ptr::null_mut(), &mut columns);
        if class != pg_sys::TypeFuncClass::TYPEFUNC_COMPOSITE {
            pg_sys::MemoryContextSwitchTo(before);
            return Err(unsupported());
        }
        let random = pg_sys::SetFunctionReturnMode::SFRM_Materialize_Random as i32;
        let random = (*info).allowedModes & random != 0;
        let store = pg_sys::tuplestore_begin_heap(random, false, pg_sys::work_mem);
        (*info).returnMode = materialize;
        (*info).setResult = store;
        (*info).setDesc = pg_sys::CreateTupleDescCopy(columns);
        pg_sys::MemoryContextSwitchTo(before);
        Ok(store)
    }
}

/// A search that is ready to be run: its query, and types and values of the query's parameters.
#[derive(Debug)]
pub struct Search {
    pub query: String,
    pub parameters: Vec<(pg_sys::Oid, Option<pg_sys::Datum>)>,
}

impl Search {
    fn new(
        extension: &Extension,
        source: &Source,
        filter: Filter,
        options: &Options,
        wanted: Embedding,
    ) -> Self {
        let query = query(extension, source, &filter, options);
        let own: [_; PARAMETERS] = [
            (Embedding::type_oid(), wanted.into_datum()),
            (pg_sys::INT8OID, options.nearest().into_datum()),
            (pg_sys::FLOAT4OID, options.min_score.into_datum()),
        ];
        let of_filter = filter.parameters.into_iter().map(|(kind, value)| (kind, Some(value)));
        Self { query, parameters: own.into_iter().chain(of_filter).collect() }
    }

    /// By a sentence.
    pub fn by_text(
        extension: &Extension,
        source: &Source,
        sentence: &Sentence,
        mut filter: Filter,
        options: Options,
        feedback: Option<&Feedback>,
    ) -> Result<Self, Failure> {
        let Sentence { text, enhance, domain, attributes } = sentence;
        check_encoding(extension, Encoding::Texts)?;
        limits::text(text)?;
        let columns = attributes.map(|a| a.columns(extension, source)).transpose()?;
        let said = match *enhance || columns.is_some() {
            true => Some(prompt::read(extension, text, *domain, columns.is_some())?),
            false => None,
        };
        let agreement = match (attributes, &columns, &said) {
            (Some(attributes), Some(columns), Some(said)) => {
                attributes.apply(source, columns, said, &mut filter, PARAMETERS + 1)?
            }
            _ => None,
        };
        let options = Options { agreement, ..options };
        let wanted = match said {
            Some(said) if *enhance => prompt::embed_prompts(&source.model, &said.enhanced.prompts)?,
            _ => prompt::embed_prompts(&source.model, &[text])?,
        };
        let wanted = match feedback {
            Some(feedback) => feedback.apply(wanted)?,
            None => wanted,
        };
        Ok(Self::new(extension, source, filter, &options, wanted))
    }

    /// By an example.
    pub fn by_image(
        extension: &Extension,
        source: &Source,
        image: Image,
        filter: Filter,
        options: &Options,
        feedback: Option<&Feedback>,
    ) -> Result<Self, Failure> {
        check_encoding(extension, Encoding::Images)?;
        let wanted = requests::image(&source.model, image)?;
        let wanted = match feedback {
            Some(feedback) => feedback.apply(wanted)?,
            None => wanted,
        };
        Ok(Self::new(extension, source, filter, options, wanted))
    }
}

/// What a search by text is told of its query.
#[derive(Debug)]
pub struct Sentence<'a> {
    pub text: String,
    pub enhance: bool,
    pub domain: Option<&'a str>,
    pub attributes: Option<&'a Attributes>,
}

/// Runs the search and fills the result.
///
/// # Safety
/// `fcinfo` must be the call's own.
unsafe fn run(fcinfo: pg_sys::FunctionCallInfo, search: Search) -> Result<(), Failure> {
    let query = search.query + "\0";
    let parameters = search.parameters;
    let _relaxed = relaxed();
    // SAFETY: the list has room for the parameters; query and parameters outlive the execution, the
    // store lives in the memory of the caller's query, as does its receiver.
    let code = unsafe {
        let store = result_store(fcinfo)?;
        let list = pg_sys::makeParamList(parameters.len() as i32);
        for (at, (kind, value)) in parameters.into_iter().enumerate() {
            let slot = (*list).params.as_mut_ptr().add(at);
            (*slot).ptype = kind;
            (*slot).isnull = value.is_none();
            (*slot).value = value.unwrap_or(pg_sys::Datum::null());
            (*slot).pflags = pg_sys::PARAM_FLAG_CONST as u16;
        }
        let context = pg_sys::CurrentMemoryContext;
        Spi::connect(|_| {
            let receiver = pg_sys::ffi::pg_guard_ffi_boundary(|| {
                let receiver = CreateTuplestoreDestReceiver();
                let (none, unnamed) = (std::ptr::null_mut(), std::ptr::null());
                SetTuplestoreDestReceiverParams(receiver, store, context, false, none, unnamed);
                receiver
            });
            let execution = pg_sys::SPIExecuteOptions {
                params: list,
                read_only: true,
                dest: receiver,
                ..Default::default()
            };
            pg_sys::SPI_execute_extended(query.as_ptr().cast(), &execution)
        })
    };
    match code {
        code if code == pg_sys::SPI_OK_SELECT as i32 => Ok(()),
        code => Err(Failure::new(
            Code::ERRCODE_INTERNAL_ERROR,
            format!("the search failed (SPI code {code})"),
        )),
    }
}

/// `text_search(tbl, query, k, enhance, domain, embedding_column, model, min_score, with_image,
/// filter, rerank, candidates, liked, disliked, attributes, language)`
///
/// # Safety
/// `fcinfo` must be the call's own.
unsafe fn by_text(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Failure> {
    // SAFETY: the arguments are of the types in the function's SQL declaration.
    unsafe {
        let Some(text) = arguments::query(fcinfo, 1)? else {
            return result_store(fcinfo).map(|_| ());
        };
        let options = Options::new(
            pg_getarg(fcinfo, 2),
            arguments::text(fcinfo, 5, "embedding_column")?,
            arguments::text(fcinfo, 6, "model")?,
            pg_getarg(fcinfo, 7),
            pg_getarg(fcinfo, 8),
        )?;
        let options = Options { rerank: Rerank::of_call(fcinfo, 10)?, ..options };
        let enhance = pg_getarg(fcinfo, 3).unwrap_or(true);
        let domain = arguments::text(fcinfo, 4, "domain")?;
        let extension = Extension::of_call(fcinfo);
        let mut source = source(fcinfo, &extension, &options)?;
        let language = arguments::text(fcinfo, 15, "language")?;
        source.model = source.model.in_language(language.as_deref())?.into_owned();
        let filter = Filter::of_call(fcinfo, 9, &source, PARAMETERS + 1)?;
        let attributes = Attributes::of_call(fcinfo, 14, 11)?;
        let feedback = Feedback::of_call(fcinfo, 12, &source.model)?;
        let (domain, attributes) = (domain.as_deref(), attributes.as_ref());
        let sentence = Sentence { text, enhance, domain, attributes };
        let feedback = Some(&feedback);
        let search = Search::by_text(&extension, &source, &sentence, filter, options, feedback)?;
        run(fcinfo, search)
    }
}

/// `image_search(tbl, image, k, embedding_column, model, min_score, with_image, filter, rerank,
/// candidates, liked, disliked)`
///
/// # Safety
/// `fcinfo` must be the call's own.
unsafe fn by_image(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Failure> {
    // SAFETY: the arguments are of the types in the function's SQL declaration.
    unsafe {
        match arguments::image(fcinfo, 1)? {
            Some(image) => by_example(fcinfo, 2, |_| Ok(image.into())),
            None => result_store(fcinfo).map(|_| ()),
        }
    }
}

/// `image_search_file(tbl, root, path, k, …)`, further as `image_search`
///
/// # Safety
/// `fcinfo` must be the call's own.
unsafe fn by_file(fcinfo: pg_sys::FunctionCallInfo) -> Result<(), Failure> {
    // SAFETY: as above.
    unsafe {
        let (root, path) =
            (arguments::text(fcinfo, 1, "root")?, arguments::text(fcinfo, 2, "path")?);
        match (root, path) {
            (Some(root), Some(path)) => {
                by_example(fcinfo, 3, |extension| Ok(roots::resolve(extension, &root)?.file(&path)))
            }
            _ => result_store(fcinfo).map(|_| ()),
        }
    }
}

/// The arguments from `first` on are those of `image_search` from `k` on.
///
/// # Safety
/// `fcinfo` must be the call's own.
unsafe fn by_example(
    fcinfo: pg_sys::FunctionCallInfo,
    first: usize,
    image: impl FnOnce(&Extension) -> Result<Image, Failure>,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise.
    unsafe {
        let options = Options::new(
            pg_getarg(fcinfo, first),
            arguments::text(fcinfo, first + 1, "embedding_column")?,
            arguments::text(fcinfo, first + 2, "model")?,
            pg_getarg(fcinfo, first + 3),
            pg_getarg(fcinfo, first + 4),
        )?;
        let options = Options { rerank: Rerank::of_call(fcinfo, first + 6)?, ..options };
        let extension = Extension::of_call(fcinfo);
        let source = source(fcinfo, &extension, &options)?;
        let filter = Filter::of_call(fcinfo, first + 5, &source, PARAMETERS + 1)?;
        let feedback = Feedback::of_call(fcinfo, first + 8, &source.model)?;
        let (image, feedback) = (image(&extension)?, Some(&feedback));
        let search = Search::by_image(&extension, &source, image, filter, &options, feedback)?;
        run(fcinfo, search)
    }
}

/// # Safety
/// `fcinfo` must be the call's own.
unsafe fn source(
    fcinfo: pg_sys::FunctionCallInfo,
    extension: &Extension,
    options: &Options,
) -> Result<Source, Failure> {
    // SAFETY: the parser resolved the type of the polymorphic argument.
    let row_type = unsafe { pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, 0) };
    let (column, model) = (options.embedding_column.as_deref(), options.model.as_deref());
    Source::of_row_type(extension, row_type, column, model)
}

/// Version-1 calling convention, by hand: pgrx has no polymorphic sets of rows.
static V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };

#[unsafe(no_mangle)]
extern "C" fn pg_finfo_text_search() -> &'static pg_sys::Pg_finfo_record {
    &V1
}

#[unsafe(no_mangle)]
extern "C" fn pg_finfo_image_search() -> &'static pg_sys::Pg_finfo_record {
    &V1
}

/// # Safety
/// Called by PostgreSQL only.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn text_search(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: PostgreSQL's own call.
    unsafe { by_text(fcinfo) }.unwrap_or_else(|failure| failure.raise());
    pg_sys::Datum::null()
}

#[unsafe(no_mangle)]
extern "C" fn pg_finfo_image_search_file() -> &'static pg_sys::Pg_finfo_record {
    &V1
}

/// # Safety
/// Called by PostgreSQL only.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn image_search_file(
    fcinfo: pg_sys::FunctionCallInfo,
) -> pg_sys::Datum {
    // SAFETY: PostgreSQL's own call.
    unsafe { by_file(fcinfo) }.unwrap_or_else(|failure| failure.raise());
    pg_sys::Datum::null()
}

/// # Safety
/// Called by PostgreSQL only.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn image_search(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: PostgreSQL's own call.
    unsafe { by_image(fcinfo) }.unwrap_or_else(|failure| failure.raise());
    pg_sys::Datum::null()
}
