//! What the extension and the encoder process say to each other, free of I/O: requests and answers
//! over the socket ([`protocol`]), the notices and the log of an encoder to its supervisor
//! ([`notice`]), and what is made of an encoder's end ([`lethal`]).

pub mod lethal;
pub mod notice;
pub mod protocol;
