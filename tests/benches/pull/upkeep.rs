//! What a pull pays for the store's keeping house: eviction while it comes in, and the scrub beside it.
//!
//! Three nodes take turns: one whose cache has room for everything, one whose cache is full of small objects that must
//! go for what comes, and one that scrubs at its usual rate. The last two are held against the first. The others get rid of
//! as much at the same moment, but while no clock runs: memory and blocks that were in use before are cheaper than new ones.

use std::time::Duration;

use anyhow::{Result, ensure};
use cache_node::app::{Limits, ScrubLimits};
use larder_tests::bench::{Spread, show};
use larder_tests::prelude::*;
use larder_tests::program;
use tokio::process::Command;

use super::GIB;
use super::client::{Mode, get};
use super::upstream::{Files, path_of};

/// What fills the caches at first: each of the pulls that follow makes as many go as fit into it.
const SMALL: u64 = 4096;
const SMALL_BYTES: u64 = 256 << 10;
/// A little more than the small objects take.
const FULL_CAPACITY: &str = "1040Mi";
const AMPLE_CAPACITY: &str = "6Gi";
const BLOBS: u64 = 60;
const BLOB_BYTES: u64 = 16 << 20;
/// Most of what goes is small, and a large one makes room for another.
const OBJECTS_PER_BLOB_MIN: u64 = 32;
const WARM_READS: usize = 3;
const NEITHER: &str = "neither";
const EVICTING: &str = "evicting";
const SCRUBBING: &str = "scrubbing";
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
    /// What came last.
    last: Option<String>,
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
            last: None,
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

    /// Of one pull, in GiB/s.
    async fn rate(&self, digest: &str) -> Result<f64> {
        let pull = get(&self.url_of(digest), Mode::Hash).await?;
        Ok(BLOB_BYTES as f64 / GIB / pull.elapsed.as_secs_f64())
    }

    /// Pulls a blob for the first time, and again.
    async fn measure(&mut self, digest: &str) -> Result<()> {
        self.cold.add(self.rate(digest).await?);
        if self.name != EVICTING
            && let Some(last) = &self.last
        {
            let mut evict = Command::new(program::cache_node());
            evict.args(["store", "evict", "--digest", last, "--cache-dir"]);
            let said = evict.arg(self.node.cache_dir()).output().await?;
            ensure!(said.status.success(), "{said:?}");
        }
        for _ in 0..WARM_READS {
            self.warm.add(self.rate(digest).await?);
        }
        self.last = Some(digest.to_owned());
        Ok(())
    }

    async fn evicted(&self) -> u64 {
        let metrics = Call::get(&format!("{}/metrics", self.node.admin_url()))
            .send()
            .await
            .text();
        let counts = metrics
            .lines()
            .filter(|line| line.starts_with("larder_store_evictions_total{reason=\"capacity\"}"));
        counts
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }
}

/// Measures and prints its table.
pub(crate) async fn run(files: &Files) -> Result<()> {
    let usual = ScrubLimits::default();
    let mut all = [
        Contestant::start(NEITHER, AMPLE_CAPACITY, NO_SCRUB, files).await?,
        Contestant::start(EVICTING, FULL_CAPACITY, NO_SCRUB, files).await?,
        Contestant::start(SCRUBBING, AMPLE_CAPACITY, usual, files).await?,
    ];
    for blob in 0..BLOBS {
        let digest = files.add(20_000 + blob, BLOB_BYTES)?;
        // Nobody always comes first.
        all.rotate_left(1);
        for contestant in &mut all {
            contestant.measure(&digest).await?;
        }
    }
    all.sort_by_key(|contestant| {
        [NEITHER, EVICTING, SCRUBBING]
            .iter()
            .position(|name| *name == contestant.name)
    });
    let [neither, evicting, _] = &all;
    let evicted = evicting.evicted().await;
    ensure!(
        evicted > BLOBS * OBJECTS_PER_BLOB_MIN && neither.evicted().await == 0,
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
    show(&format!("\n{evicted} objects went for {} that came", BLOBS));
    Ok(())
}
