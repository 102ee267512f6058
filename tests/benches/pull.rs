//! How fast a blob comes through Larder, beside what else could stand in its place.
//!
//! Machines differ and so does their load: only figures of one run are compared. Therefore the contestants take
//! turns within each round, and what is quick is measured three times. `docs/benchmarks.md` says more.

#[path = "pull/client.rs"]
mod client;
#[path = "pull/contestant.rs"]
mod contestant;
#[path = "pull/table.rs"]
mod table;
#[path = "pull/upkeep.rs"]
mod upkeep;
#[path = "pull/upstream.rs"]
mod upstream;

use std::time::Instant;

use anyhow::{Context as _, Result};
use client::{Mode, Taken, get};
use contestant::{ALL, Contestant, Kind};
use futures_util::future::try_join_all;
use larder_tests::bench::{build_cache_node, show};
use table::{Row, Table};
use upstream::{Files, Timed};

const ROUNDS: u64 = 3;
const BLOB_BYTES: u64 = 512 << 20;
const HERD_BLOB_BYTES: u64 = 256 << 20;
const HERD_READERS: usize = 50;
const TIMED_BLOB_BYTES: usize = 8 << 20;
const FILLS: u64 = 20;
const FILL_BYTES: u64 = 32 << 20;
const READERS_PER_FILL: usize = 10;
const SLOW_READERS: usize = 500;
const SLOW_BYTES_PER_S: u64 = 256 << 10;
/// Four seconds' worth; then a slow reader leaves.
const SLOW_TAKEN_BYTES: u64 = 1 << 20;
/// Far more than the kernel buffers for a reader.
const SLOW_BLOB_BYTES: u64 = 64 << 20;
const GIB: f64 = (1u64 << 30) as f64;

const fn row(label: &'static str, unit: &'static str, decimals: usize, has_ratio: bool) -> Row {
    Row {
        label,
        unit,
        decimals,
        has_ratio,
    }
}

const COLD: Row = row("cold 512 MiB, client discards", "GiB/s", 2, true);
const COLD_HASH: Row = row("cold 512 MiB, client hashes", "GiB/s", 2, true);
const WARM: Row = row("warm 512 MiB, client discards", "GiB/s", 2, true);
const WARM_HASH: Row = row("warm 512 MiB, client hashes", "GiB/s", 2, true);
const WARM_CPU: Row = row("warm, server CPU", "s/GiB", 2, false);
const FIRST_BYTE: Row = row("first byte of a cold blob, later than upstream's", "ms", 1, false);
const HERD_BYTES: Row = row(
    "50 clients on a cold 256 MiB: upstream sent",
    "× the blob",
    2,
    false,
);
const HERD_TIME: Row = row("50 clients on a cold 256 MiB: all have it after", "s", 1, true);
const MEMORY: Row = row("peak memory, 200 readers on 20 cold fills", "MiB", 0, false);
const MEMORY_SLOW: Row = row("peak memory, 500 slow readers on a warm blob", "MiB", 0, false);

/// `cargo bench --bench pull -- upkeep` measures the cost of eviction and scrub alone.
const UPKEEP: &str = "upkeep";

#[tokio::main]
async fn main() -> Result<()> {
    build_cache_node()?;
    let started = Instant::now();
    let say = |what: &str| show(&format!("== {:>3} s: {what}", started.elapsed().as_secs()));
    let files = Files::start().await?;
    if std::env::args().all(|argument| argument != UPKEEP) {
        show(&format!("\n{}", pulls(&files, &say).await?.render()));
    }
    say("the cost of eviction and scrub");
    upkeep::run(&files).await?;
    say("done");
    Ok(())
}

async fn pulls(files: &Files, say: &impl Fn(&str)) -> Result<Table> {
    let mut table = Table::default();
    for round in 1..=ROUNDS {
        say(&format!("cold and warm pulls, round {round} of {ROUNDS}"));
        throughput(files, round, &mut table).await?;
    }
    say("first byte of a cold blob");
    for seed in 0..ROUNDS {
        for kind in ALL {
            first_byte(kind, 100 + seed, &mut table).await?;
        }
    }
    for kind in ALL {
        say(&format!("50 clients on a cold blob: {}", kind.label()));
        herd(kind, files, &mut table).await?;
    }
    for kind in ALL.into_iter().filter(|kind| *kind != Kind::Direct) {
        say(&format!("memory: {}", kind.label()));
        memory(kind, files, &mut table).await?;
        memory_slow(kind, files, &mut table).await?;
    }
    Ok(table)
}

async fn throughput(files: &Files, round: u64, table: &mut Table) -> Result<()> {
    let rate = |taken: Taken| BLOB_BYTES as f64 / GIB / taken.elapsed.as_secs_f64();
    // The same content in every round: each contestant starts empty.
    let (one, other) = (files.add(1, BLOB_BYTES)?, files.add(2, BLOB_BYTES)?);
    for step in 0..ALL.len() {
        // Nobody always comes first.
        let kind = ALL[(step + usize::try_from(round)?) % ALL.len()];
        let contestant = Contestant::start(kind, &files.nginx.url()).await?;
        let (one, other) = (contestant.url_of(&one), contestant.url_of(&other));
        table.add(COLD, kind, rate(get(&one, Mode::Discard).await?));
        table.add(COLD_HASH, kind, rate(get(&other, Mode::Hash).await?));
        if kind == Kind::Direct {
            continue;
        }
        let before = contestant.cpu_s()?;
        table.add(WARM, kind, rate(get(&one, Mode::Discard).await?));
        if let (Some(before), Some(after)) = (before, contestant.cpu_s()?) {
            table.add(WARM_CPU, kind, (after - before) / (BLOB_BYTES as f64 / GIB));
        }
        table.add(WARM_HASH, kind, rate(get(&other, Mode::Hash).await?));
    }
    Ok(())
}

async fn first_byte(kind: Kind, seed: u64, table: &mut Table) -> Result<()> {
    let upstream = Timed::start(seed, TIMED_BLOB_BYTES).await?;
    let contestant = Contestant::start(kind, &upstream.url()).await?;
    let taken = get(&contestant.url_of(&upstream.digest), Mode::Hash).await?;
    let later = taken.first_byte.duration_since(upstream.first_byte()?);
    table.add(FIRST_BYTE, kind, later.as_secs_f64() * 1000.0);
    Ok(())
}

async fn herd(kind: Kind, files: &Files, table: &mut Table) -> Result<()> {
    let digest = files.add(3, HERD_BLOB_BYTES)?;
    let before = files.sent(&digest)?;
    let contestant = Contestant::start(kind, &files.nginx.url()).await?;
    let url = contestant.url_of(&digest);
    let started = Instant::now();
    try_join_all((0..HERD_READERS).map(|_| get(&url, Mode::Discard))).await?;
    table.add(HERD_TIME, kind, started.elapsed().as_secs_f64());
    // Requests that the contestant breaks off or ends late are logged when it ends.
    drop(contestant);
    let seen = files
        .nginx
        .requests_until(|seen| seen.iter().any(|access| access.uri.contains(&digest)))
        .await;
    seen.context("the herd's requests")?;
    let sent = files.sent(&digest)? - before;
    table.add(HERD_BYTES, kind, sent as f64 / HERD_BLOB_BYTES as f64);
    Ok(())
}

async fn memory(kind: Kind, files: &Files, table: &mut Table) -> Result<()> {
    let digests = (0..FILLS)
        .map(|fill| files.add(1000 + fill, FILL_BYTES))
        .collect::<Result<Vec<_>>>()?;
    let contestant = Contestant::start(kind, &files.nginx.url()).await?;
    let urls: Vec<_> = digests.iter().map(|digest| contestant.url_of(digest)).collect();
    let readers = urls
        .iter()
        .flat_map(|url| (0..READERS_PER_FILL).map(move |_| get(url, Mode::Discard)));
    try_join_all(readers).await?;
    if let Some(mib) = contestant.peak_mib()? {
        table.add(MEMORY, kind, mib);
    }
    Ok(())
}

async fn memory_slow(kind: Kind, files: &Files, table: &mut Table) -> Result<()> {
    let digest = files.add(4, SLOW_BLOB_BYTES)?;
    let contestant = Contestant::start(kind, &files.nginx.url()).await?;
    let url = contestant.url_of(&digest);
    get(&url, Mode::Hash).await?;
    let slow = Mode::Slow {
        bytes_per_s: SLOW_BYTES_PER_S,
        bytes: SLOW_TAKEN_BYTES,
    };
    try_join_all((0..SLOW_READERS).map(|_| get(&url, slow))).await?;
    if let Some(mib) = contestant.peak_mib()? {
        table.add(MEMORY_SLOW, kind, mib);
    }
    Ok(())
}
