//! A backend's way to the encoder process, and the functions that encode.
//!
//! [`launch`] has the process started where there is none, [`client`] talks to it over its
//! [`socket`], [`requests`] turns images and texts into requests and embeddings, [`refusal`] turns
//! what it says no to into errors; [`functions`] are the SQL functions, each with what its call
//! [`site`] keeps, and [`register`] registers models, which the encoder describes. ONNX Runtime is in
//! none of these: it lives in the encoder alone.

mod client;
mod functions;
pub mod launch;
mod refusal;
mod register;
pub mod requests;
pub mod site;
pub mod socket;
