//! Labelled synthetic traffic scenes: vehicles and pedestrians drawn from a seed, with captions in
//! the grammar of the traffic text-to-image challenge, for the demo, the tests and the trainer.
//!
//! A [`Scene`] is plain data. Its picture, its captions and the [`Query`] that it answers are
//! functions of that data and of its seed: the pixels use no sine, power or logarithm of the
//! platform, no SIMD approximations and no clock, so that a digest of a set is the same everywhere.

mod attributes;
mod caption;
mod dice;
mod draw;
mod phrasing;
mod query;
mod scene;
pub mod set;
mod vocabulary;

pub use attributes::*;
pub use phrasing::SURVEILLANCE_SUFFIX;
pub use query::{PedestrianQuery, Query, VehicleQuery};
pub use scene::{Domain, Naming, Scene, SceneOptions, Subject};
pub use set::{Manifest, SetError, image_name, scene_at, scene_seed, write_set};
pub use vocabulary::{split, vocabulary};
