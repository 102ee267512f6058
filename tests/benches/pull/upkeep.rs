//! What a pull pays for the store's keeping house: eviction while it comes in, and the scrub beside it.
//!
//! Three nodes take turns: one whose cache has room for everything, one whose cache is full of small objects that must
//! go for what comes, and one that scrubs at its usual rate. The last two are held against the first.

use std::time::Duration;

use anyhow::{Result, ensure};
use cache_node::app::{Limits, ScrubLimits};
use larder_tests::bench::{Spread, show};
use larder_tests::prelude::*;

use super::GIB;
use super::client::{Mode, get};
use super::upstream::{Files, path_of};

const ROUNDS: u64 = 5;
/// What fills the caches at first: each of the pulls that follow makes as many go as fit into it.
const SMALL: u64 = 4096;
const SMALL_BYTES: u64 = 256 << 10;
/// A little more than the small objects take.
const FULL_CAPACITY: &str = "1040Mi";
const AMPLE_CAPACITY: &str = "6Gi";
const BLOBS: u64 = 12;
const BLOB_BYTES: u64 = 16 << 20;
const WARM_READS: usize = 3;
/// A node whose scrub never gets beyond its first step.
const NO_SCRUB: ScrubLimits = ScrubLimits {
    bytes_per_s: 1,
    round: Duration::from_hours(24),
};

struct Contestant {
    name: &'static str,
    node: InProcessNode,
    cold: Spread,
    warm: Spread,
}

impl Contestant {
    async fn start(name: &'static str, capacity: &str, scrub: ScrubLimits, files: &Files) -> Result<Self> {
        let config = MirrorConfig::new()
            .registry("up.test", files.nginx.url())
            .set("/cache/capacity", capacity)
            .set("/cache/minFree", "1%");
        let limits = Limits {
            scrub,
            ..Limits::default()
        };
        let contestant = Self {
            name,
            node: InProcessNode::start(&config, limits).await,
            cold: Spread::default(),
            warm: Spread::default(),
        };
        for seed in 0..SMALL {
            let digest = files.add(10_000 + seed, SMALL_BYTES)?;
            get(&contestant.url_of(&digest), Mode::Discard).await?;
        }
        Ok(contestant)
    }

    fn url_of(&self, digest: &str) -> String {
        format!("{}{}?ns=up.test", self.node.url(), path_of(digest))
    }

    /// Of these blobs, one after the other, in GiB/s.
    async fn rate(&self, digests: &[String]) -> Result<f64> {
        let mut seconds = 0.0;
        for digest in digests {
            seconds += get(&self.url_of(digest), Mode::Hash).await?.elapsed.as_secs_f64();
        }
        Ok((BLOB_BYTES * digests.len() as u64) as f64 / GIB / seconds)
    }

    async fn evicted(&self) -> u64 {
        let metrics = Call::get(&format!("{}/metrics", self.node.admin_url()))
            .send()
            .await
            .text();
        let counts = metrics
            .lines()
            .filter(|line| line.starts_with("larder_store_evictions_total{"));
        counts
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}

/// Measures and prints its table.
pub(crate) async fn run(files: &Files) -> Result<()> {
    let usual = ScrubLimits::default();
    let mut all = [
        Contestant::start("neither", AMPLE_CAPACITY, NO_SCRUB, files).await?,
        Contestant::start("evicting", FULL_CAPACITY, NO_SCRUB, files).await?,
        Contestant::start("scrubbing", AMPLE_CAPACITY, usual, files).await?,
    ];
    for round in 0..ROUNDS {
        let digests = (0..BLOBS)
            .map(|blob| files.add(20_000 + round * BLOBS + blob, BLOB_BYTES))
            .collect::<Result<Vec<_>>>()?;
        // Nobody always comes first.
        all.rotate_left(1);
        for contestant in &mut all {
            contestant.cold.add(contestant.rate(&digests).await?);
            for _ in 0..WARM_READS {
                contestant.warm.add(contestant.rate(&digests).await?);
            }
        }
    }
    all.sort_by_key(|contestant| {
        ["neither", "evicting", "scrubbing"]
            .iter()
            .position(|name| *name == contestant.name)
    });
    let [neither, evicting, _] = &all;
    let evicted = evicting.evicted().await;
    ensure!(
        evicted * SMALL_BYTES >= (ROUNDS - 1) * BLOBS * BLOB_BYTES && neither.evicted().await == 0,
        "{evicted} objects were evicted"
    );
    show("\n| | cold, GiB/s | of that without | warm, GiB/s | of that without |\n|---|---|---|---|---|");
    for contestant in &all {
        let (cold, warm) = (&contestant.cold, &contestant.warm);
        show(&format!(
            "| {} | {cold} | {:.2}× | {warm} | {:.2}× |",
            contestant.name,
            cold.median() / neither.cold.median(),
            warm.median() / neither.warm.median(),
        ));
    }
    show(&format!(
        "\n{evicted} objects went for {} that came",
        ROUNDS * BLOBS
    ));
    Ok(())
}
