//! Before an uninstallation: deletes all mirrors and waits until their nodes are as they were found.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use larder_crds::names::MIRROR_LABEL;
use larder_program::{chain, stop_on_signals};
use tokio::sync::watch;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use super::lead::Lead;
use super::{Error, client};
use crate::cli::CleanupOptions;
use crate::controller::{Guarded, withdraw};
use crate::metrics::Metrics;

/// How long nothing may move before this process does the work itself.
const STALLED_AFTER: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn cleanup(options: CleanupOptions) -> Result<(), Error> {
    let stop = stop_on_signals().map_err(Error::Start)?;
    let client = client().await?;
    let metrics = Arc::new(Metrics::new()?);
    let (waits, _) = watch::channel(None);
    let namespace = options.caches.namespace.clone();
    let lead = Lead::new(client.clone(), options.caches, metrics, waits);
    let context = Arc::clone(&lead.context);
    let mut idle = Some(lead);
    let stop_leading = CancellationToken::new();
    let _stops_leading = stop_leading.clone().drop_guard();
    let deadline = Instant::now() + options.timeout;
    let mut last = None;
    let mut moved = Instant::now();
    loop {
        let look = look(&client, &namespace).await;
        let left = match look {
            Ok((mirrors, _)) if mirrors.is_empty() => {
                tracing::info!("no mirror is left");
                return Ok(());
            }
            Ok((mirrors, state)) => {
                if last.as_ref() != Some(&state) {
                    (last, moved) = (Some(state), Instant::now());
                }
                Ok(mirrors)
            }
            Err(error) => {
                tracing::warn!(error = chain(&error), "cannot look at the mirrors");
                Err(error)
            }
        };
        if moved.elapsed() >= STALLED_AFTER
            && let Some(lead) = idle.take()
        {
            tracing::info!(
                "nothing has moved for {} s: withdrawing here",
                STALLED_AFTER.as_secs()
            );
            tokio::spawn(lead.run(stop_leading.clone()));
        }
        if Instant::now() >= deadline {
            for mirror in left.map_err(Error::Cleanup)? {
                if let Err(error) = withdraw::give_up(&mirror, &context).await {
                    tracing::warn!(error = chain(&error), "cannot let a mirror go");
                }
            }
            return Ok(());
        }
        if stop.run_until_cancelled(time::sleep(LOOK_EVERY)).await.is_none() {
            // Were this a success, the operator would be removed next.
            return Err(Error::Stopped);
        }
    }
}

/// Deletes mirrors that are not being deleted yet. Returns those that are left, and how far they are.
async fn look(client: &Client, namespace: &str) -> Result<(Vec<Guarded>, Vec<String>), kube::Error> {
    let mirrors = Api::<Guarded>::all(client.clone());
    let left = match mirrors.list(&ListParams::default()).await {
        Ok(left) => left.items,
        // There is no such resource, and so there are no mirrors.
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        Err(error) => return Err(error),
    };
    for mirror in left
        .iter()
        .filter(|mirror| mirror.meta().deletion_timestamp.is_none())
    {
        let name = mirror.name_any();
        match mirrors.delete(&name, &DeleteParams::default()).await {
            Ok(_) => tracing::info!(mirror = name, "deleted; waiting for its nodes"),
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let daemon_sets = Api::<DaemonSet>::namespaced(client.clone(), namespace);
    let daemon_sets = daemon_sets
        .list(&ListParams::default().labels(MIRROR_LABEL))
        .await?;
    let versions = |object: &kube::api::ObjectMeta| {
        format!(
            "{}@{}",
            object.uid.as_deref().unwrap_or_default(),
            object.resource_version.as_deref().unwrap_or_default()
        )
    };
    let mirrors = left.iter().map(|mirror| versions(mirror.meta()));
    let state = mirrors.chain(
        daemon_sets
            .iter()
            .map(|daemon_set| versions(&daemon_set.metadata)),
    );
    let state = state.collect();
    Ok((left, state))
}
