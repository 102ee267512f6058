//! The `/v2/` surface that container runtimes speak to.
//!
//! The raw path is parsed once into a [`route::Route`]; nothing behind it sees a string from the wire, and
//! whatever fails leaves as an [`error::Error`].

pub mod conditional;
pub mod error;
pub mod multipart;
pub mod range;
pub mod route;
