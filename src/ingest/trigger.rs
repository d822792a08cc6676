//! The three trigger functions: `clip_outdate`, before a row gets another image, takes the old
//! embedding and attributes away; `clip_ingest`, once for each row that was written, decides whether its image is
//! to be encoded; `clip_flush`, once at a statement's end, has the rest encoded.

use std::collections::BTreeSet;
use std::ffi::c_void;

use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{PgTupleDesc, pg_guard, pg_sys};

use super::batch;
use super::image::{Kind, Raw};
use super::row::Row;
use crate::catalog::extension::{Extension, base_type, quoted};
use crate::error::Failure;
use crate::models::binding::{self, Binding, Mode};

/// What is to be done about a row.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Nothing,
    Encode,
    /// The image is gone, and the embedding goes with it.
    Clear,
}

impl Action {
    /// Encode what has an image and no embedding, and what has another image than before unless
    /// the statement wrote the embedding too.
    fn decide(image: Raw, embedding: Raw, old: Option<(Raw, Raw)>) -> Self {
        let differs = |a: Raw, b: Raw| a.bytes() != b.bytes();
        let stale = old.is_some_and(|(old_image, old_embedding)| {
            differs(image, old_image) && !differs(embedding, old_embedding)
        });
        match (image.is_null(), embedding.is_null()) {
            (true, false) if stale => Self::Clear,
            (false, false) if stale => Self::Encode,
            (false, true) => Self::Encode,
            _ => Self::Nothing,
        }
    }
}

/// `clip_ingest`: AFTER INSERT OR UPDATE OF image, embedding FOR EACH ROW.
fn ingest(fcinfo: pg_sys::FunctionCallInfo, data: &pg_sys::TriggerData) -> Result<(), Failure> {
    let after_row = pg_sys::TRIGGER_EVENT_ROW;
    let timing = pg_sys::TRIGGER_EVENT_TIMINGMASK | pg_sys::TRIGGER_EVENT_ROW;
    let event = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
    let update = event == pg_sys::TRIGGER_EVENT_UPDATE;
    if data.tg_event & timing != after_row || !(update || event == pg_sys::TRIGGER_EVENT_INSERT) {
        return Err(misplaced("clip_ingest"));
    }
    let extension = Extension::of_call(fcinfo);
    // SAFETY: a trigger's call has a live relation, trigger and rows of that relation.
    unsafe {
        let binding = Binding::of_trigger(data.tg_trigger)?;
        let columns = (*data.tg_relation).rd_att;
        let new = if update { data.tg_newtuple } else { data.tg_trigtuple };
        let both = |row| {
            let image = Raw::of(row, binding.image, columns)?;
            Ok::<_, Failure>((image, Raw::of(row, binding.embedding, columns)?))
        };
        let (image, embedding) = both(new)?;
        let old = if update { Some(both(data.tg_trigtuple)?) } else { None };
        let action = Action::decide(image, embedding, old);
        if action == Action::Nothing {
            let comes = old.is_none_or(|(before, _)| before.bytes() != image.bytes());
            return match comes && !image.is_null() {
                true => permit(fcinfo, &extension, data.tg_relation, &binding, image),
                false => Ok(()),
            };
        }
        let level = (&raw const *data).cast::<c_void>() as usize;
        let target = batch::target(level, &extension, data.tg_relation, binding)?;
        let tid = (*new).t_self;
        let Some(raw) = image.bytes().map(Into::into) else { return target.clear(tid) };
        // What clip_outdate saw has no embedding by now.
        let outdated = update && !embedding.is_null();
        let row = Row { target, tid, raw, outdated };
        // The worker has the owner's rights: those of who inserts are looked at now.
        if row.target.binding.mode == Mode::Async {
            return match row.target.check(image) {
                Ok(()) => batch::push_later(level, row),
                Err(failure) => refuse(&row, failure),
            };
        }
        match row.target.image(image) {
            Ok(image) => batch::push(level, row, image),
            Err(failure) => refuse(&row, failure),
        }
    }
}

/// Refuses an image that comes with its embedding from who has no right to it: encoded later, by the backfill
/// or with another model, it would be with the rights of the table's owner, and tell what it shows.
///
/// # Safety
/// The relation must be open, and the call its trigger's.
unsafe fn permit(
    fcinfo: pg_sys::FunctionCallInfo,
    extension: &Extension,
    relation: pg_sys::Relation,
    binding: &Binding,
    image: Raw,
) -> Result<(), Failure> {
    // SAFETY: the caller's promise. The call's data is the trigger's own, and lasts as its statement.
    unsafe {
        let columns = PgTupleDesc::from_pg_unchecked((*relation).rd_att);
        let at = usize::try_from(binding.image - 1).ok();
        let Some(column) = at.and_then(|at| columns.get(at)) else { return Ok(()) };
        let base = base_type(column.atttypid);
        if base == pg_sys::BYTEAOID {
            return Ok(());
        }
        let missing = |failure: Failure| {
            failure.detail(format!(
                "Column {} has images that lie elsewhere. Whoever writes one needs the right to it, also where its embedding is given.",
                quoted(column.name())
            ))
        };
        // A right to a root is asked for once a statement and user.
        let call = &mut *(*fcinfo).flinfo;
        let user = pg_sys::GetUserId();
        let known = call.fn_extra.cast::<pg_sys::Oid>();
        if binding.root.is_some() && !known.is_null() && *known == user {
            return Ok(());
        }
        let kind = Kind::of_column(extension, base, binding.root.as_deref()).map_err(missing)?;
        let Some(kind) = kind else { return Ok(()) };
        if binding.root.is_none() {
            return kind.check(image).map_err(missing);
        }
        if known.is_null() {
            let size = size_of::<pg_sys::Oid>();
            call.fn_extra = pg_sys::MemoryContextAlloc(call.fn_mcxt, size);
        }
        *call.fn_extra.cast() = user;
        Ok(())
    }
}

/// A row whose image is not to be had. Missing rights end the statement whatever `on_error` says:
/// noted, the row would be encoded later with the rights of the table's owner.
fn refuse(row: &Row, failure: Failure) -> Result<(), Failure> {
    match failure.code == Code::ERRCODE_INSUFFICIENT_PRIVILEGE {
        true => Err(row.explain(failure)),
        false => row.fail(failure),
    }
}

/// `clip_outdate`: BEFORE UPDATE OF image FOR EACH ROW. With another image the embedding and the
/// attributes become NULL, unless the statement changed them too. What `clip_ingest` sees of an update that moves a row
/// to another partition is an INSERT: it could not know that the embedding is another image's.
fn outdate(
    fcinfo: pg_sys::FunctionCallInfo,
    data: &pg_sys::TriggerData,
) -> Result<pg_sys::HeapTuple, Failure> {
    let timing = pg_sys::TRIGGER_EVENT_TIMINGMASK | pg_sys::TRIGGER_EVENT_ROW;
    let wanted = pg_sys::TRIGGER_EVENT_BEFORE | pg_sys::TRIGGER_EVENT_ROW;
    let event = data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
    if data.tg_event & timing != wanted || event != pg_sys::TRIGGER_EVENT_UPDATE {
        return Err(misplaced("clip_outdate"));
    }
    // SAFETY: a trigger's call has a live relation, trigger and rows of that relation.
    unsafe {
        let trigger = &*data.tg_trigger;
        if trigger.tgnattr != 1 {
            return Err(misplaced("clip_outdate"));
        }
        let (image, columns) = (*trigger.tgattr, (*data.tg_relation).rd_att);
        let (old, mut new) = (data.tg_trigtuple, data.tg_newtuple);
        let same = |column| {
            let (old, new) = (Raw::of(old, column, columns)?, Raw::of(new, column, columns)?);
            Ok::<_, Failure>(old.bytes() == new.bytes())
        };
        if same(image)? {
            return Ok(new);
        }
        let function = binding::function(&Extension::of_call(fcinfo), c"clip_ingest");
        let mut outdated = BTreeSet::new();
        for trigger in binding::triggers(data.tg_relation, function) {
            let bound = Binding::of_trigger(trigger)?;
            if bound.image != image {
                continue;
            }
            let attributes = bound.attributes.into_iter().flat_map(|a| a.columns);
            for column in attributes.map(|(_, column)| column).chain([bound.embedding]) {
                if same(column)? {
                    outdated.insert(i32::from(column));
                }
            }
        }
        let mut outdated: Vec<i32> = outdated.into_iter().collect();
        if !outdated.is_empty() {
            let mut nulls = vec![true; outdated.len()];
            let mut values = vec![pg_sys::Datum::null(); outdated.len()];
            let count = outdated.len() as i32;
            new = pg_sys::heap_modify_tuple_by_cols(
                new,
                columns,
                count,
                outdated.as_mut_ptr(),
                values.as_mut_ptr(),
                nulls.as_mut_ptr(),
            );
        }
        Ok(new)
    }
}

/// `clip_flush`: on the extension's own table, queued once a statement by [`queue`].
fn flush(data: &pg_sys::TriggerData) -> Result<(), Failure> {
    if data.tg_event & pg_sys::TRIGGER_EVENT_ROW != 0 {
        return Err(misplaced("clip_flush"));
    }
    batch::flush()
}

fn misplaced(function: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED,
        format!("function \"{function}\" is only called by triggers that pgclip makes"),
    )
    .hint("Use clip_attach.")
}

/// The trigger's data, where the function was called as a trigger.
unsafe fn trigger_data<'a>(
    fcinfo: pg_sys::FunctionCallInfo,
    function: &str,
) -> Result<&'a pg_sys::TriggerData, Failure> {
    // SAFETY: a call's `context` is NULL or a node; the tag says which.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return Err(misplaced(function));
        }
        Ok(&*context.cast())
    }
}

/// Version-1 calling convention, by hand: pgrx's trigger support copies whole rows.
static V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };

#[unsafe(no_mangle)]
extern "C" fn pg_finfo_clip_ingest() -> &'static pg_sys::Pg_finfo_record {
    &V1
}

#[unsafe(no_mangle)]
extern "C" fn pg_finfo_clip_outdate() -> &'static pg_sys::Pg_finfo_record {
    &V1
}

#[unsafe(no_mangle)]
extern "C" fn pg_finfo_clip_flush() -> &'static pg_sys::Pg_finfo_record {
    &V1
}

/// # Safety
/// Called by PostgreSQL only.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn clip_ingest(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: PostgreSQL's own call.
    unsafe { trigger_data(fcinfo, "clip_ingest") }
        .and_then(|data| ingest(fcinfo, data))
        .unwrap_or_else(|failure| failure.raise());
    pg_sys::Datum::null()
}

/// # Safety
/// Called by PostgreSQL only.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn clip_outdate(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: PostgreSQL's own call.
    unsafe { trigger_data(fcinfo, "clip_outdate") }
        .and_then(|data| outdate(fcinfo, data))
        .unwrap_or_else(|failure| failure.raise())
        .into()
}

/// # Safety
/// Called by PostgreSQL only.
#[pg_guard]
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn clip_flush(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: PostgreSQL's own call.
    unsafe { trigger_data(fcinfo, "clip_flush") }
        .and_then(flush)
        .unwrap_or_else(|failure| failure.raise());
    pg_sys::Datum::null()
}
