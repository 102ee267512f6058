//! What Larder's tests stand on: scripted upstreams that speak on real sockets, a raw client that sees how a
//! connection ended, an image builder, and a runner for the real `cache-node` binary.
//!
//! Nothing here knows the insides of the cache: a test scripts the upstream, starts a node, asks it, and looks
//! at what came back and at what the upstream was asked.
//!
//! ```
//! use larder_tests::prelude::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // An upstream that works like a registry, except where a rule says otherwise.
//! let up = FakeRegistry::builder().start().await;
//! let blob = up.add_blob("acme/app", random(3 << 20));
//! up.script(on_blob(&blob).times(1), Action::cut_fin(300_000));
//!
//! // In a test of the cache this would be `NodeProcess::start(&MirrorConfig::new().registry("up.test", up.url()))`.
//! let url = format!("{}/v2/acme/app/blobs/{blob}", up.url());
//! let cut = Call::get(&url).send().await;
//! assert_eq!((cut.status, cut.body.len(), cut.end), (200, 300_000, End::FinShort));
//! let rest = Call::get(&url).header("Range", "bytes=300000-").send().await;
//! assert_eq!((rest.status, rest.end), (206, End::Complete));
//! assert_eq!(sha256(&[cut.body, rest.body].concat()), blob);
//!
//! // Everything that was asked is on record, as it was on the wire.
//! assert_eq!(up.count(on_blob(&blob)), 2);
//! assert_eq!(up.count(on_blob(&blob).ranged()), 1);
//! assert_eq!(up.body_bytes_sent(&blob), 3 << 20);
//! # }
//! ```
//!
//! Rules are asked in the order in which they were added; the first that matches and is not used up acts. A
//! rule acts on the answer the host would have given (`Action::cut_fin`), or replaces it (`Action::status`);
//! actions are combined with [`Action::and`](scripted::Action::and).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "this crate is test code: a fixture that cannot work must fail the test at once and loudly"
)]

pub mod bench;
pub mod charts;
pub mod client;
pub mod cluster;
pub mod digest;
pub mod eviction;
pub mod fake_registry;
pub mod image;
pub mod installation;
pub mod larder_image;
pub mod node;
pub mod operator;
mod process;
pub mod program;
pub mod real;
pub mod relay;
pub mod scripted;
pub mod static_program;
pub mod token;
pub mod wait;

/// Everything a test usually needs, for one `use`.
pub mod prelude {
    pub use crate::client::{Answer, Call, Connection, End};
    pub use crate::digest::{random, seeded, sha256, sha512};
    pub use crate::fake_registry::{Auth, Cdn, FakeRegistry};
    pub use crate::image::{Image, ImageBuilder, Index, media_type};
    pub use crate::node::{
        Disk, Endpoint, FileSystem, InProcessNode, MirrorConfig, NodeBuilder, NodeProcess, Registry, secrets,
    };
    pub use crate::relay::Relay;
    pub use crate::scripted::{
        Action, CertificateAuthority, Content, Exchange, On, Outcome, Request, ScriptedHost, VirtualBlob,
        on_any, on_any_blob, on_any_manifest, on_blob, on_manifest, on_path, on_ping, on_referrers, on_tags,
    };
    pub use crate::token::{IssuedAt, TokenKeys, TokenRules, TokenServer, TokenSigner};
    pub use crate::wait::{SOON, until};
}
