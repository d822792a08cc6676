//! `sum` and `avg`, in double precision: a state of running sums that parallel workers exchange.
//!
//! The state is one block in the aggregate's memory context, updated in place, so that a row costs
//! no allocation and the server's accounting of hash aggregates sees it. As a message between
//! workers it is the count as int64 and the sums as float8s, all little-endian.

use std::ptr::NonNull;

use half::f16;
use pgrx::datum::Internal;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::{pg_extern, pg_sys};

use super::error::EmbeddingError;
use super::value::{Dims, Embedding};

/// The fixed part of a state; `dims` sums follow it.
#[repr(C)]
struct Header {
    /// How many embeddings were added, at least 1.
    count: i64,
    dims: u64,
}

const _: () = assert!(size_of::<Header>().is_multiple_of(align_of::<f64>()));

/// A state in an aggregate's memory.
#[derive(Clone, Copy)]
struct State(NonNull<Header>);

impl State {
    fn new(context: pg_sys::MemoryContext, dims: Dims) -> Self {
        let bytes = size_of::<Header>() + dims.get() * size_of::<f64>();
        // SAFETY: a live context; the memory is zeroed, of this size, and aligned for both parts.
        let block = unsafe { pg_sys::MemoryContextAllocZero(context, bytes) }.cast::<Header>();
        let mut header = NonNull::new(block).expect("an allocation is no null pointer");
        // SAFETY: the block was just made.
        unsafe { header.as_mut().dims = dims.get() as u64 };
        Self(header)
    }

    /// The state that an aggregate function got as its argument, if there is one yet.
    fn of(argument: Internal) -> Option<Self> {
        argument.unwrap().and_then(|datum| NonNull::new(datum.cast_mut_ptr())).map(Self)
    }

    fn into_internal(self) -> Internal {
        Internal::from(Some(pg_sys::Datum::from(self.0.as_ptr())))
    }

    fn parts(&mut self) -> (&mut i64, &mut [f64]) {
        // SAFETY: the block was made by `new`, and an aggregate's functions run one at a time.
        unsafe {
            let header = self.0.as_mut();
            let sums = self.0.as_ptr().add(1).cast();
            (&mut header.count, std::slice::from_raw_parts_mut(sums, header.dims as usize))
        }
    }

    fn dims(&mut self) -> Dims {
        Dims::new(self.parts().1.len()).expect("a state was made of an embedding's dimensions")
    }
}

/// The memory that outlives the rows of this aggregate.
fn aggregate_context(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::MemoryContext {
    let mut context = std::ptr::null_mut();
    // SAFETY: `fcinfo` is the live call information of an aggregate's function.
    if unsafe { pg_sys::AggCheckCallContext(fcinfo, &mut context) } == 0 {
        pgrx::error!("an aggregate's function was called outside of an aggregate");
    }
    context
}

/// Adds one row; NULL rows change nothing.
#[pg_extern(sql = false)]
fn embedding_accum(
    state: Internal,
    value: Option<Embedding>,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Internal, ErrorReport> {
    let state = State::of(state);
    let Some(value) = value else {
        return Ok(state.map_or_else(Internal::default, State::into_internal));
    };
    let mut state = state.unwrap_or_else(|| State::new(aggregate_context(fcinfo), value.dims()));
    if state.dims() != value.dims() {
        let (left, right) = (state.dims().get(), value.dims().get());
        return Err(EmbeddingError::DifferentDimensions { left, right }.into());
    }
    let (count, sums) = state.parts();
    *count += 1;
    add(value.as_slice(), sums);
    Ok(state.into_internal())
}

/// Adds `elements` to `sums`, widening a block at a time.
fn add(elements: &[f16], sums: &mut [f64]) {
    const BLOCK: usize = 64;
    let mut single = [0f32; BLOCK];
    for (elements, sums) in elements.chunks(BLOCK).zip(sums.chunks_mut(BLOCK)) {
        let single = &mut single[..elements.len()];
        pgclip_simd::widen(elements, single);
        for (sum, x) in sums.iter_mut().zip(single) {
            *sum += f64::from(*x);
        }
    }
}

/// Merges the states of two workers into the first.
#[pg_extern(sql = false)]
fn embedding_combine(
    state: Internal,
    other: Internal,
    fcinfo: pg_sys::FunctionCallInfo,
) -> Result<Internal, ErrorReport> {
    let state = State::of(state);
    let Some(mut other) = State::of(other) else {
        return Ok(state.map_or_else(Internal::default, State::into_internal));
    };
    // `other` may lie in memory that goes with this row: it is added, never kept.
    let mut state = state.unwrap_or_else(|| State::new(aggregate_context(fcinfo), other.dims()));
    if state.dims() != other.dims() {
        let (left, right) = (state.dims().get(), other.dims().get());
        return Err(EmbeddingError::DifferentDimensions { left, right }.into());
    }
    let (count, sums) = state.parts();
    let (other_count, other_sums) = other.parts();
    *count += *other_count;
    for (sum, other) in sums.iter_mut().zip(other_sums) {
        *sum += *other;
    }
    Ok(state.into_internal())
}

/// The state as a message to another process.
#[pg_extern(sql = false)]
fn embedding_serialize(state: Internal) -> Vec<u8> {
    let mut state = State::of(state).expect("a strict function sees no NULL");
    let (count, sums) = state.parts();
    let mut message = Vec::with_capacity(size_of::<i64>() + size_of_val(sums));
    message.extend_from_slice(&count.to_le_bytes());
    message.extend(sums.iter().flat_map(|sum| sum.to_le_bytes()));
    message
}

/// The state from such a message.
#[pg_extern(sql = false)]
fn embedding_deserialize(message: &[u8], _internal: Internal) -> Result<Internal, ErrorReport> {
    let (head, tail) = message.split_at_checked(size_of::<i64>()).unwrap_or_default();
    let dims = Dims::new(tail.len() / size_of::<f64>())?;
    // SAFETY: the current memory context is always live.
    let mut state = State::new(unsafe { pg_sys::CurrentMemoryContext }, dims);
    let (count, sums) = state.parts();
    *count = i64::from_le_bytes(head.try_into().unwrap_or_default());
    for (sum, bytes) in sums.iter_mut().zip(tail.chunks_exact(size_of::<f64>())) {
        *sum = f64::from_le_bytes(bytes.try_into().unwrap_or_default());
    }
    Ok(state.into_internal())
}

/// The sum of all rows; an element beyond fp16 is an error that names it.
#[pg_extern(sql = false)]
fn embedding_sum(state: Internal) -> Result<Embedding, ErrorReport> {
    let mut state = State::of(state).expect("a strict function sees no NULL");
    let (_, sums) = state.parts();
    Ok(Embedding::from_f64_slice(sums)?)
}

/// The mean of all rows.
#[pg_extern(sql = false)]
fn embedding_avg(state: Internal) -> Result<Embedding, ErrorReport> {
    let mut state = State::of(state).expect("a strict function sees no NULL");
    let (count, sums) = state.parts();
    let mean: Vec<f64> = sums.iter().map(|sum| sum / *count as f64).collect();
    Ok(Embedding::from_f64_slice(&mean)?)
}
