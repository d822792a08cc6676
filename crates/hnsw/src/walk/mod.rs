//! Ways through the graph: [`descent`] over the upper layers to the base layer, and steps ([`step`]) over
//! that, with the [`pool`] of what is to be expanded and the elements [`visited`]. Search, insertion and
//! vacuum walk alike; what they look for is theirs.

pub(crate) mod descent;
pub(crate) mod pool;
mod step;
pub(crate) mod visited;

pub(crate) use step::{Stand, Walk, distance_of, visit};
