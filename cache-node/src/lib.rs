//! A verified, streaming pull-through cache for OCI registries: the library behind the `cache-node` program.
//!
//! Imports point one way only: `http -> pull -> {fill, tags, rights} -> {upstream, store} -> oci`; `config` and
//! `metrics` may be used by all of them and use none of them but `oci`.

pub mod admin;
pub mod app;
pub mod cache_dir;
pub mod cli;
pub mod conditions;
pub mod config;
pub mod credentials;
pub mod fill;
pub mod http;
pub mod identity;
pub mod metrics;
pub mod node_config;
pub mod oci;
pub mod pull;
pub mod rights;
pub mod store;
pub mod store_tools;
pub mod tags;
pub mod upstream;
