//! What the columns of an index are: first the vector, by whose operator class the metric is told,
//! then filter columns. Its own file because building, inserting, scanning and validating all ask.

use pgclip_hnsw::Metric;
use pgrx::pg_sys::errcodes::PgSqlErrorCode as Code;
use pgrx::{PgRelation, pg_guard, pg_sys};

use super::error::name;
use super::filter::{Column, Kind};
use crate::error::Failure;

/// The strategy numbers of the distance operators; 1 to 5 are the B-tree's.
pub const DISTANCES: [(i16, Metric); 3] =
    [(6, Metric::Cosine), (7, Metric::L2), (8, Metric::InnerProduct)];

/// The columns of an index.
#[derive(Debug)]
pub struct Columns {
    pub metric: Metric,
    pub filters: Vec<Column>,
    /// The vectors' dimensions, where the column's type declares them.
    pub dims: Option<usize>,
}

/// The metric of an operator family for a type; none where it is no family of distances.
pub fn metric(family: pg_sys::Oid, input: pg_sys::Oid) -> Option<Metric> {
    let member = |strategy| {
        // SAFETY: a catalog lookup.
        unsafe { pg_sys::get_opfamily_member(family, input, input, strategy) }
    };
    let found = DISTANCES.iter().find(|(strategy, _)| member(*strategy) != pg_sys::InvalidOid);
    found.map(|(_, metric)| *metric)
}

impl Columns {
    /// Of an open index.
    pub fn of(index: pg_sys::Relation) -> Result<Self, Failure> {
        // SAFETY: the index is open, and its arrays have an entry for each key column.
        let (relation, families, inputs, collations) = unsafe {
            let relation = PgRelation::from_pg(index);
            let count = (*index).rd_att.as_ref().map_or(0, |columns| columns.natts as usize);
            (
                relation,
                std::slice::from_raw_parts((*index).rd_opfamily, count),
                std::slice::from_raw_parts((*index).rd_opcintype, count),
                std::slice::from_raw_parts((*index).rd_indcollation, count),
            )
        };
        let columns = relation.tuple_desc();
        let unsupported = |message: String, hint: &str| {
            Failure::new(Code::ERRCODE_FEATURE_NOT_SUPPORTED, message).hint(hint)
        };
        let Some(metric) = metric(families[0], inputs[0]) else {
            return Err(unsupported(
                format!("the first column of index \"{}\" is no embedding", name(index)),
                "Put the embedding column first; filter columns follow it.",
            ));
        };
        let mut filters = Vec::new();
        for at in 1..families.len() {
            let Some(kind) = Kind::of_type(inputs[at]) else {
                let column = columns.get(at).map_or_else(String::new, |c| c.name().to_owned());
                let message = match self::metric(families[at], inputs[at]) {
                    Some(_) => format!("column \"{column}\" is a second embedding"),
                    None => {
                        format!("column \"{column}\" has a type that clip_hnsw does not filter by")
                    }
                };
                return Err(unsupported(
                    message,
                    "An index has one embedding, then filter columns of the types that clip_hnsw has operator classes for.",
                ));
            };
            filters.push(Column { kind, type_oid: inputs[at], collation: collations[at] });
        }
        let typmod = columns.get(0).map_or(-1, |column| column.atttypmod);
        Ok(Self { metric, filters, dims: usize::try_from(typmod).ok().filter(|dims| *dims > 0) })
    }
}

/// Checks an operator class: one of distances, or one of a type that can be filtered by.
#[pg_guard]
pub unsafe extern "C-unwind" fn validate(class: pg_sys::Oid) -> bool {
    // SAFETY: a catalog lookup; the row is released.
    let found = unsafe {
        let key = pg_sys::SysCacheIdentifier::CLAOID as i32;
        let row = pg_sys::SearchSysCache1(key, class.into());
        if row.is_null() {
            pgrx::error!("cache lookup failed for operator class {class}");
        }
        let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_opclass>(row);
        let found = ((*form).opcfamily, (*form).opcintype, (*form).opckeytype);
        pg_sys::ReleaseSysCache(row);
        found
    };
    let (family, input, key) = found;
    let distances = metric(family, input).is_some();
    let fits = key == pg_sys::InvalidOid && (distances != Kind::of_type(input).is_some());
    if !fits {
        pgrx::info!(
            "operator class {class} is neither of distances between embeddings nor of a type that clip_hnsw filters by"
        );
    }
    fits
}
