//! The Helm charts: what is generated is current, every value does what it says and no other is taken, and a real API server
//! takes, upgrades and holds to its bounds what they render.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[path = "chart/api_server.rs"]
mod api_server;
#[path = "chart/files.rs"]
mod files;
#[path = "chart/notes.rs"]
mod notes;
#[path = "chart/operator_flags.rs"]
mod operator_flags;
#[path = "chart/policy.rs"]
mod policy;
#[path = "chart/releases.rs"]
mod releases;
#[path = "chart/rights.rs"]
mod rights;
#[path = "chart/schema.rs"]
mod schema;
#[path = "chart/values.rs"]
mod values;

use std::path::PathBuf;

use larder_tests::charts;
use larder_tests::real::Helm;
use larder_tests::real::helm::Manifests;
use serde_json::{Map, Value, json};

/// The release of all tests, and its namespace.
const RELEASE: &str = "larder";
const NAMESPACE: &str = "larder-system";

/// The chart that users install.
fn larder() -> PathBuf {
    charts::chart("larder")
}

/// What the chart makes of these values.
async fn render(values: &Value) -> Manifests {
    let helm = Helm::offline().unwrap();
    helm.template(&larder(), RELEASE, NAMESPACE, values)
        .await
        .unwrap()
}

/// What helm says to values that it refuses.
async fn refusal(values: &Value) -> String {
    let helm = Helm::offline().unwrap();
    let rendered = helm.template(&larder(), RELEASE, NAMESPACE, values).await;
    rendered.unwrap_err().to_string()
}

/// Values with each of these at its path, for example `operator.replicas`.
fn at(values: &[(&str, Value)]) -> Value {
    let mut all = json!({});
    for (path, value) in values {
        let mut place = &mut all;
        for key in path.split('.') {
            let map = place.as_object_mut().unwrap();
            place = map.entry(key).or_insert_with(|| Map::new().into());
        }
        place.clone_from(value);
    }
    all
}

/// A file of the chart.
fn read(name: &str) -> String {
    std::fs::read_to_string(larder().join(name)).unwrap()
}
