//! The protocol as real registries and clients were captured speaking it, one test for each row A1 to A41.
//!
//! The captures stand in `data/seeds/` (answers, with placeholders for addresses and tokens) and in `data/vectors/`
//! (content whose digest proves it). A34 and A35 are about how offsets are counted, which both our requests and our
//! answers must get right. What A41 says of containerd's `hosts.toml` belongs to the program that writes that file.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail the test at once and loudly"
)]

mod seeds {
    mod blobs;
    mod capture;
    mod hosts;
    mod manifests;
    mod ping;
    mod push;
    mod replay;
    mod resume;
    mod support;
    mod tokens;
    mod vectors;
}
