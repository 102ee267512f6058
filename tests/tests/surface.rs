//! What a client sees of the cache, whatever its upstream does: rows 00–68 of the measured matrix of clients
//! against mirrors (B.0), the distribution specification's pull side (C.1, C.3), and the fill engine's promises.
//!
//! A row of B.0 says what breaks clients when a mirror answers so. Its test lets the *upstream* answer so, and
//! proves that the cache does not. Rows that a mirror cannot get wrong have no test:
//! - 05: a client that is configured to give its credentials to any host. Ours is to never ask (03–08) and never
//!   to pass them on (`client_credentials_go_nowhere`).
//! - 46: the mirror is down. Nobody answers, and clients fall back.

#[path = "surface/allow_deny.rs"]
mod allow_deny;
#[path = "surface/blobs.rs"]
mod blobs;
#[path = "surface/endpoints.rs"]
mod endpoints;
#[path = "surface/faults.rs"]
mod faults;
#[path = "surface/fills.rs"]
mod fills;
#[path = "surface/headers.rs"]
mod headers;
#[path = "surface/listings.rs"]
mod listings;
#[path = "surface/manifests.rs"]
mod manifests;
#[path = "surface/parallel.rs"]
mod parallel;
#[path = "surface/ranges.rs"]
mod ranges;
#[path = "surface/refusals.rs"]
mod refusals;
#[path = "surface/sharing.rs"]
mod sharing;
#[path = "surface/support.rs"]
mod support;
