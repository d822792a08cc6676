//! The SQL functions that look into an index: `clip_index_check` and `clip_index_stats`. Both read
//! every page, and are for the index's owner.

use pgclip_hnsw::check::{Fault, check};
use pgclip_hnsw::format::overflow::Overflow;
use pgclip_hnsw::format::record::{Kind, edges_tuple};
use pgclip_hnsw::{Element, Id, Metric, Placement};
use pgrx::iter::TableIterator;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{PgRelation, name, pg_extern, pg_sys};

use super::error::{corrupt, name as relation_name, or_raise};
use super::locked::Lock;
use super::meta::{FIRST_BLOCK, FORMAT_VERSION, Meta};
use super::open;
use super::page::{self, PAGE};
use super::store::{IndexStore, Writing};
use crate::error::Failure;

/// Opens an index of ours that the caller owns.
pub fn open_owned(index: pg_sys::Oid, lock: u32) -> Result<PgRelation, Failure> {
    // SAFETY: catalog lookups; opening raises an error where there is no such relation.
    unsafe {
        // Before a lock is asked for that writers would have to wait for.
        let kind = pg_sys::get_rel_relkind(index);
        if kind == 0 {
            return Err(Failure::new(
                Code::ERRCODE_UNDEFINED_OBJECT,
                format!("index with OID {} does not exist", index.to_u32()),
            )
            .hint("Name an index made with USING clip_hnsw."));
        }
        let user = pg_sys::GetUserId();
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let owned = pg_sys::pg_class_ownercheck(index, user);
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let owned = pg_sys::object_ownercheck(pg_sys::RelationRelationId, index, user);
        if !owned {
            return Err(Failure::new(
                Code::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("must be owner of index {}", rel_name(index)),
            )
            .hint("Ask the owner of the table."));
        }
        let relation = PgRelation::with_lock(index, lock as i32);
        let name = relation_name(relation.as_ptr());
        let row = &*(*relation.as_ptr()).rd_rel;
        let ours = pg_sys::get_index_am_oid(c"clip_hnsw".as_ptr(), true);
        let is_index = row.relkind == pg_sys::RELKIND_INDEX as std::ffi::c_char;
        if !is_index || row.relam != ours {
            return Err(Failure::new(
                Code::ERRCODE_WRONG_OBJECT_TYPE,
                format!("\"{name}\" is not a clip_hnsw index"),
            )
            .hint(
                "Name an index made with USING clip_hnsw; of a partitioned one, a partition's.",
            ));
        }
        let temporary = row.relpersistence == pg_sys::RELPERSISTENCE_TEMP as std::ffi::c_char;
        if temporary && !(*relation.as_ptr()).rd_islocaltemp {
            return Err(Failure::new(
                Code::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("index \"{name}\" belongs to a temporary table of another session"),
            )
            .hint("Only that session can look into it."));
        }
        Ok(relation)
    }
}

/// The name of a relation that may not be open.
fn rel_name(relation: pg_sys::Oid) -> String {
    // SAFETY: a catalog lookup; the name is a copy, or null where the relation is gone.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        match name.is_null() {
            true => relation.to_u32().to_string(),
            false => std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned(),
        }
    }
}

/// The places of all records of a kind.
fn places(store: &IndexStore, wanted: Kind) -> Vec<Id> {
    let mut found = Vec::new();
    for block in FIRST_BLOCK..store.blocks() {
        pgrx::check_for_interrupts!();
        let Some(locked) = store.records(block, Lock::Share) else { continue };
        for item in 1..=page::items(locked.page()) {
            if let Ok(Some(range)) = page::item(locked.page(), item)
                && Kind::of(&locked.page()[range]) == Ok(wanted)
            {
                found.push(Id { block, item });
            }
        }
    }
    found
}

fn words(fault: Fault) -> String {
    let at = |id: Id| format!("block {}, item {}", id.block, id.item);
    match fault {
        Fault::Damaged(what) => format!("damaged: {what}"),
        Fault::Dangling(id) => format!("dangling edge to {}", at(id)),
        Fault::Doubled(id) => format!("edge to itself, or twice the same, to {}", at(id)),
        Fault::WrongCode(id) => format!("wrong code of the edge to {}", at(id)),
        Fault::Orphan(id) => format!("its parent does not keep it: {}", at(id)),
        Fault::Unreachable => "unreachable over the base layer".to_owned(),
        Fault::Entry => "the entry point is not there, or of another level".to_owned(),
    }
}

/// What is wrong with an index.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_index_check(
    index: pg_sys::Oid,
) -> Result<
    TableIterator<'static, (name!(block, i64), name!(item, i32), name!(fault, String))>,
    ErrorReport,
> {
    // Nothing may change meanwhile; on a standby such a lock is not to be had.
    // SAFETY: asks for the server's state.
    let standby = unsafe { pg_sys::RecoveryInProgress() };
    let lock = if standby { pg_sys::AccessShareLock } else { pg_sys::ShareLock };
    let relation = open_owned(index, lock)?;
    let store = IndexStore::new(relation.as_ptr(), Writing::Logged);
    let meta = store.meta();
    let Some(space) = open::space(&store, &meta) else { return Ok(TableIterator::empty()) };
    let elements = places(&store, Kind::Element);
    let report = or_raise(store.index(), check(&store, &space, elements.into_iter()));
    let faults = report
        .faults
        .into_iter()
        .map(|(id, fault)| (i64::from(id.block), i32::from(id.item), words(fault)));
    Ok(TableIterator::new(faults))
}

/// What was counted.
#[derive(Debug, Default)]
struct Counts {
    free_bytes: i64,
    elements: i64,
    dead: i64,
    rows: i64,
    edges: i64,
    layers: Vec<i64>,
}

impl Counts {
    /// Counts a record.
    fn add(
        &mut self,
        meta: &pgclip_hnsw::Layout,
        bytes: &[u8],
    ) -> Result<(), pgclip_hnsw::Corrupt> {
        match Kind::of(bytes)? {
            Kind::Element => {
                let element = Element::new(meta, bytes)?;
                if element.is_free() {
                    return Ok(());
                }
                self.elements += 1;
                self.dead += i64::from(element.is_dead());
                self.rows += i64::from(element.tid().is_some());
                self.edges += element.edges().map_or(0, |edges| edges.count() as i64);
                let layers = usize::from(element.level()) + 1;
                self.layers.resize(self.layers.len().max(layers), 0);
                self.layers[..layers].iter_mut().for_each(|layer| *layer += 1);
            }
            Kind::Edges => self.edges += edges_tuple(meta, bytes)?.count() as i64,
            Kind::Overflow => self.rows += Overflow::new(meta, bytes)?.rows().count() as i64,
            Kind::Upper => (),
        }
        Ok(())
    }
}

/// What an index is made of.
#[pg_extern(sql = false)]
#[allow(clippy::type_complexity)]
fn clip_index_stats(
    index: pg_sys::Oid,
) -> Result<
    TableIterator<
        'static,
        (
            name!(format_version, i32),
            name!(metric, String),
            name!(dimensions, Option<i32>),
            name!(m, i32),
            name!(layout, Option<String>),
            name!(filter_columns, i32),
            name!(text_direction, bool),
            name!(pages, i64),
            name!(bytes, i64),
            name!(free_bytes, i64),
            name!(elements, i64),
            name!(dead, i64),
            name!(rows, i64),
            name!(edges, i64),
            name!(layers, Vec<i64>),
        ),
    >,
    ErrorReport,
> {
    let relation = open_owned(index, pg_sys::AccessShareLock)?;
    let store = IndexStore::new(relation.as_ptr(), Writing::Logged);
    let meta: Meta = store.meta();
    let layout = meta.layout().ok().flatten();
    let mut counts = Counts::default();
    for block in FIRST_BLOCK..store.blocks() {
        pgrx::check_for_interrupts!();
        let Some(locked) = store.records(block, Lock::Share) else {
            counts.free_bytes += PAGE as i64;
            continue;
        };
        let mut damage = None;
        for item in 1..=page::items(locked.page()) {
            if let (Some(layout), Ok(Some(range))) = (&layout, page::item(locked.page(), item)) {
                damage = counts.add(layout, &locked.page()[range]).err().or(damage);
            }
        }
        counts.free_bytes += page::room(locked.page()) as i64;
        drop(locked);
        if let Some(what) = damage {
            corrupt(store.index(), block, what.0);
        }
    }
    let metric = match meta.metric {
        Metric::L2 => "l2",
        Metric::InnerProduct => "inner product",
        Metric::Cosine => "cosine",
    };
    let placement = layout.as_ref().map(|layout| match layout.placement {
        Placement::Inline => "inline",
        Placement::Split => "split",
        Placement::Plain => "plain",
    });
    let pages = i64::from(store.blocks());
    Ok(TableIterator::once((
        i32::from(FORMAT_VERSION),
        metric.to_owned(),
        meta.dims.map(|dims| dims as i32),
        meta.m as i32,
        placement.map(str::to_owned),
        meta.columns as i32,
        meta.text != 0,
        pages,
        pages * PAGE as i64,
        counts.free_bytes,
        counts.elements,
        counts.dead,
        counts.rows,
        counts.edges,
        counts.layers,
    )))
}
