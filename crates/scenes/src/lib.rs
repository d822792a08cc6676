//! Labelled synthetic traffic scenes: vehicles and pedestrians drawn from a seed, with captions in
//! the grammar of the traffic text-to-image challenge, for the demo, the tests and the trainer.
//!
//! A [`Scene`] is plain data. Its picture, its captions and the [`Query`]s that it answers are
//! functions of that data and of its seed. Draws come from ChaCha8; lengths and angles use IEEE
//! 754's exact operations and `libm`'s portable sine; polygons are filled by tiny-skia's portable
//! (scalar) path; no clock, no thread count and no file goes in. So pictures, labels and digests of
//! a set are the same on every machine, and a test pins one.
//!
//! ```
//! use pgclip_scenes::{Query, Scene, SceneOptions};
//!
//! let scene = Scene::sample(7, &SceneOptions::vehicles());
//! let picture = scene.draw(128);
//! assert_eq!(picture.width().max(picture.height()), 128);
//! println!("{}", scene.label_line("000007.jpg")); // image$attributes$caption
//! assert!(Query::parse(&scene.caption()).unwrap().matches(&scene));
//! ```
//!
//! `cargo run --release -p pgclip-scenes --example contact_sheet sheet.png` shows what the scenes
//! look like.

mod attributes;
pub mod benchmark;
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
