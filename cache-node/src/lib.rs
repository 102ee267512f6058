//! A verified, streaming pull-through cache for OCI registries: the library behind the `cache-node` program.
//!
//! Imports point one way only: `http -> pull -> {fill, tags} -> {upstream, store} -> oci`; `config` and
//! `metrics` may be used by all of them and use none of them but `oci`.

pub mod config;
pub mod credentials;
pub mod oci;
pub mod upstream;
