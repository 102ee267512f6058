//! What all scenarios find, and the measure of them all: how long a pod takes to start without Larder.

use std::ops::Deref;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use larder_tests::cluster::{Node, NodeOptions};
use larder_tests::installation::Installation;
use larder_tests::prelude::*;

use crate::report::Report;

/// Changed documents and Secrets reach nodes within seconds, so that scenarios need not wait a minute each.
const SYNC_FREQUENCY_S: u16 = 3;
/// How much longer than without Larder a pod may take to start, whatever has become of the cache.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Scene {
    installation: Installation,
    pub(crate) report: Report,
    /// How long a pod takes to start without Larder.
    without: OnceLock<Duration>,
}

impl Deref for Scene {
    type Target = Installation;

    fn deref(&self) -> &Installation {
        &self.installation
    }
}

impl Scene {
    pub(crate) async fn set() -> Self {
        let options = NodeOptions {
            sync_frequency_s: Some(SYNC_FREQUENCY_S),
            ..NodeOptions::default()
        };
        Self {
            installation: Installation::prepare(&[options; 3]).await,
            report: Report::default(),
            without: OnceLock::new(),
        }
    }

    /// Runs one scenario and notes how long it took and what it asked of the registry.
    pub(crate) fn step<T>(&self, name: &str, scenario: impl Future<Output = T>) -> impl Future<Output = T> {
        let scenario = Box::pin(scenario);
        async move {
            let (started, before) = (Instant::now(), self.asked());
            let outcome = scenario.await;
            let after = self.asked();
            self.report
                .add(name, started.elapsed(), after.0 - before.0, after.1 - before.1);
            outcome
        }
    }

    /// Notes how long a pod takes to start without Larder.
    pub(crate) async fn measure_without(&self) {
        let image = self.publish("library/without", "1");
        let node = self.cluster.node(1);
        let took = self.start("without", "library/without:1", node, &image).await;
        self.without.set(took).unwrap();
        self.stop("without").await;
    }

    /// Starts a pod of a new image, and checks that it does not take much longer than without Larder.
    pub(crate) async fn start_in_time(&self, name: &str, node: &Node) {
        let image = self.publish(&format!("library/{name}"), "1");
        let took = self.start(name, &format!("library/{name}:1"), node, &image).await;
        let without = *self.without.get().unwrap();
        assert!(
            took <= without + DELAY_MAX,
            "{name}: {took:?}, without Larder {without:?}"
        );
        self.stop(name).await;
    }

    /// Waits until the node's runtime is no longer pointed at the cache.
    pub(crate) async fn withdrawn(&self, node: &Node) {
        until("the runtime is no longer pointed at the cache", async || {
            !self.is_pointed_at_cache(node)
        })
        .await;
    }
}
