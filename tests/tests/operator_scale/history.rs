//! Every status that a mirror had.

use std::time::Duration;

use futures_util::{StreamExt as _, pin_mut};
use kube::Client;
use kube::runtime::{WatchStreamExt as _, watcher};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::fleet;

/// After which time nobody waits any more; how soon it must be is another question.
const TOLD_WITHIN_MAX: Duration = Duration::from_secs(90);

/// What was seen of a mirror's status, from the beginning of the watch on.
pub(crate) struct History(watch::Receiver<Seen>);

#[derive(Default)]
struct Seen {
    last: Value,
    writes: usize,
}

impl History {
    pub(crate) fn watch(client: Client, mirror: &str) -> Self {
        let (seen, history) = watch::channel(Seen::default());
        let config = watcher::Config::default().fields(&format!("metadata.name={mirror}"));
        tokio::spawn(async move {
            let objects = watcher(fleet::mirrors(client), config)
                .default_backoff()
                .applied_objects();
            pin_mut!(objects);
            while let Some(object) = objects.next().await {
                let Ok(object) = object else { continue };
                let status = object.data["status"].clone();
                seen.send_if_modified(|seen| {
                    let is_new = !status.is_null() && seen.last != status;
                    if is_new {
                        seen.last = status;
                        seen.writes += 1;
                    }
                    is_new
                });
            }
        });
        Self(history)
    }

    /// Waits for a status like this.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let mut seen = self.0.clone();
        let told = timeout(TOLD_WITHIN_MAX, seen.wait_for(|seen| is_so(&seen.last))).await;
        assert!(told.is_ok(), "not within {TOLD_WITHIN_MAX:?}: {what}");
    }

    /// How often the status has changed.
    pub(crate) fn writes(&self) -> usize {
        self.0.borrow().writes
    }

    /// There were no more writes in this time than one in `every`.
    pub(crate) fn assert_writes_apart(&self, every: Duration, time: Duration) {
        let writes = self.writes();
        eprintln!("status writes: {writes} in {:.0} s", time.as_secs_f64());
        assert!(
            writes as f64 <= time.as_secs_f64() / every.as_secs_f64() + 1.0,
            "{writes} in {time:?}"
        );
    }
}

/// The status of the condition `Ready`.
pub(crate) fn ready(status: &Value) -> &str {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let ready = conditions.find(|condition| condition["type"] == "Ready");
    ready
        .and_then(|ready| ready["status"].as_str())
        .unwrap_or_default()
}
