//! How much of what a node pulls its cache has, by the policy that says what goes when room is needed.
//!
//! Nothing here depends on the machine: the trace follows from its seed. `docs/benchmarks.md` says more.

use cache_node::store::eviction::Queue;
use larder_tests::bench::show;
use larder_tests::eviction::{HitRatio, Lru, Policy, Replay, Shape, Sieve, Trace, hit_ratio};

const DAYS: usize = 60;
/// Of what is ever asked for.
const CACHE_PERCENT: [u64; 4] = [5, 10, 20, 40];
/// About once a week.
const RESTART_AFTER: usize = 7000;
const RANGES: usize = 2;

fn main() {
    let all = Shape {
        seed: 1,
        days: DAYS,
        has_scans: true,
        has_models: true,
    };
    let no_scans = Shape {
        has_scans: false,
        ..all
    };
    let no_models = Shape {
        has_models: false,
        ..all
    };
    let ranges = Replay {
        hits_per_use: RANGES,
        ..Replay::default()
    };
    let restarts = Replay {
        restart_after: RESTART_AFTER,
        ..Replay::default()
    };
    table("everything", all, Replay::default());
    table("without scans", no_scans, Replay::default());
    table("without big models", no_models, Replay::default());
    table("everything; each use is heard of twice", all, ranges);
    table("everything; the cache restarts every week", all, restarts);
}

fn table(name: &str, shape: Shape, replay: Replay) {
    let trace = Trace::new(shape);
    let footprint = trace.footprint();
    let columns = CACHE_PERCENT.map(|percent| format!(" {percent} % |")).concat();
    show(&format!(
        "\nhit ratio of objects / of bytes in percent: {name} ({} requests, {} GiB)\n\n| cache |{columns}\n|---|{}",
        trace.requests.len(),
        footprint >> 30,
        "---|".repeat(CACHE_PERCENT.len()),
    ));
    row::<Lru>("LRU", &trace, replay);
    row::<Sieve>("SIEVE", &trace, replay);
    row::<Queue>("Larder: S3-FIFO", &trace, replay);
}

fn row<P: Policy>(name: &str, trace: &Trace, replay: Replay) {
    let footprint = trace.footprint();
    let cells = CACHE_PERCENT.map(|percent| {
        let HitRatio { objects, bytes } = hit_ratio::<P>(trace, footprint * percent / 100, replay);
        format!(" {objects:.1} / {bytes:.1} |")
    });
    show(&format!("| {name} |{}", cells.concat()));
}
