//! What happens when a mirror is deleted: its nodes are made as they were found, before the mirror goes.
//!
//! The DaemonSet's template is replaced by one that only restores. When a Ready pod of it is on every existing Ready node,
//! or after five minutes with an Event that names the others, the DaemonSet is deleted and the finalizer removed. Where the
//! namespace goes, or the DaemonSet has gone already, there is nothing to wait for: each pod restores its node at its end.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{ListParams, ObjectMeta};
use kube::runtime::controller::Action;
use kube::{Api, Resource as _, ResourceExt as _};
use larder_crds::names::{CONFIG_KEY, MIRROR_LABEL};
use larder_crds::{Document, RegistryMirror};

use super::apply::Refused;
use super::build::{self, Purpose, object_name};
use super::dereference::is_owned;
use super::validate::{Validated, validate};
use super::{Context, Error, Guarded, apply, bare, has_finalizer, set_finalizer, update_status};
use crate::assess::Notice;
use crate::nodes::Survey;

/// How long nodes are waited for.
const WAIT_MAX: SignedDuration = SignedDuration::from_secs(300);
/// How often it is looked where nobody tells.
const LOOK_EVERY: std::time::Duration = std::time::Duration::from_secs(5);
/// On the DaemonSet: since when it withdraws, so that no restart of the operator begins anew.
const SINCE_ANNOTATION: &str = "larder.dev/withdrawing-since";
/// In which the DaemonSet's controller counts its templates; pods bear the number as a label.
const TEMPLATE_ANNOTATION: &str = "deprecated.daemonset.template.generation";
/// How many nodes are asked after at once, and how many at most in one look.
const NODES_AT_ONCE: usize = 16;
const NODES_ASKED_MAX: usize = 500;
/// How many nodes an Event names.
const NODES_NAMED_MAX: usize = 20;
/// Where there is nothing to make the restoring template from.
const UNKNOWN: &str = "neither the mirror nor its ConfigMap says how the nodes were configured";
/// How many pods are listed in one answer.
const PODS_PAGE: u32 = 500;

/// Goes on with the withdrawal of a mirror that is being deleted.
///
/// # Errors
/// When the API server does not answer.
pub async fn withdraw(guarded: &Guarded, context: &Context, now: Timestamp) -> Result<Action, Error> {
    let metadata = guarded.meta();
    if !has_finalizer(metadata) {
        return Ok(Action::await_change());
    }
    let live = own_daemon_set(guarded, context).await?;
    let Some(live) = live.filter(|live| live.metadata.deletion_timestamp.is_none()) else {
        return finish(metadata, None, context).await;
    };
    let since = since(&live).unwrap_or(now);
    let is_late = now.duration_since(since) >= WAIT_MAX;
    let applied = match restorer(guarded, context).await? {
        Some(validated) => apply_restorer(&validated, since, context).await?,
        None => Err(Refused::Because(UNKNOWN.to_owned())),
    };
    let late_by_deletion = metadata
        .deletion_timestamp
        .as_ref()
        .is_some_and(|deleted| now.duration_since(deleted.0) >= WAIT_MAX);
    let daemon_set = match applied {
        Err(Refused::NamespaceTerminating) => return finish(metadata, Some(&live), context).await,
        Ok(daemon_set) => daemon_set,
        Err(refusal) if late_by_deletion => {
            return let_go(guarded, &live, &refusal.to_string(), context).await;
        }
        Err(refusal) => {
            tracing::warn!(mirror = guarded.name_any(), %refusal, "cannot withdraw");
            return Ok(Action::requeue(LOOK_EVERY));
        }
    };
    match unacknowledged(guarded, &daemon_set, context).await? {
        None => finish(metadata, Some(&live), context).await,
        Some(rest) if is_late => let_go(guarded, &live, &rest.not_acknowledged(), context).await,
        Some(rest) => {
            let rest = rest.to_text();
            tracing::debug!(mirror = guarded.name_any(), rest, "withdrawing");
            if let Ok(mirror) = &guarded.0 {
                update_status::update(mirror, Some(&daemon_set), None, context).await?;
            }
            Ok(Action::requeue(LOOK_EVERY))
        }
    }
}

/// Nodes of which it is not known that they are as they were found.
#[derive(Debug, PartialEq, Eq)]
struct Rest {
    named: BTreeSet<String>,
    /// How many there are besides, of which no pod was seen.
    unnamed: usize,
}

impl Rest {
    fn not_acknowledged(&self) -> String {
        format!("not acknowledged by {}", self.to_text())
    }

    fn to_text(&self) -> String {
        let named: Vec<&str> = self
            .named
            .iter()
            .take(NODES_NAMED_MAX)
            .map(String::as_str)
            .collect();
        match self.unnamed + self.named.len() - named.len() {
            0 => named.join(", "),
            1 if named.is_empty() => "1 node".to_owned(),
            more if named.is_empty() => format!("{more} nodes"),
            1 => format!("{} and 1 more node", named.join(", ")),
            more => format!("{} and {more} more nodes", named.join(", ")),
        }
    }
}

async fn own_daemon_set(guarded: &Guarded, context: &Context) -> Result<Option<DaemonSet>, Error> {
    let api = Api::<DaemonSet>::namespaced(context.client.clone(), &context.options.namespace);
    let found = api.get_opt(&object_name(&guarded.name_any())).await;
    let uid = guarded.uid().unwrap_or_default();
    Ok(found
        .map_err(Error::Dereference)?
        .filter(|found| is_owned(&found.metadata, &uid)))
}

/// What the nodes were last configured by: the document that they have, or else the mirror as it is now.
async fn restorer(guarded: &Guarded, context: &Context) -> Result<Option<Validated>, Error> {
    let config_maps = Api::<ConfigMap>::namespaced(context.client.clone(), &context.options.namespace);
    let name = object_name(&guarded.name_any());
    let config_map = config_maps.get_opt(&name).await.map_err(Error::Dereference)?;
    let known = config_map
        .and_then(|config_map| config_map.data?.remove(CONFIG_KEY))
        .and_then(|text| serde_saphyr::from_str::<Document>(&text).ok())
        .filter(|document| document.metadata.uid == guarded.uid());
    let known = known.map(|document| {
        let mut mirror = bare(guarded.meta());
        mirror.metadata.generation = document.metadata.generation;
        mirror.spec = document.spec;
        mirror
    });
    let candidates = known.iter().chain(&guarded.0);
    let mut validated = candidates.filter_map(|mirror| validate(mirror, &context.options).ok());
    Ok(validated.next())
}

async fn apply_restorer(
    validated: &Validated,
    since: Timestamp,
    context: &Context,
) -> Result<Result<DaemonSet, Refused>, Error> {
    let mut prepared = build::build(validated, Purpose::Withdraw, &context.options)?;
    prepared
        .daemon_set
        .metadata
        .annotations
        .get_or_insert_default()
        .insert(SINCE_ANNOTATION.to_owned(), since.to_string());
    let applied = apply::apply(prepared, context).await?;
    Ok(applied.map(|applied| applied.daemon_set))
}

fn since(daemon_set: &DaemonSet) -> Option<Timestamp> {
    let annotation = daemon_set.metadata.annotations.as_ref()?.get(SINCE_ANNOTATION)?;
    annotation.parse().ok()
}

/// Which nodes are not known to be as they were found; `None` when all are.
async fn unacknowledged(
    guarded: &Guarded,
    daemon_set: &DaemonSet,
    context: &Context,
) -> Result<Option<Rest>, Error> {
    let survey = context.nodes.of(&bare(guarded.meta()));
    let Some(mut rest) = behind(daemon_set, &survey) else {
        return Ok(None);
    };
    if rest.unnamed > 0 {
        let hosts = hosts(&guarded.name_any(), context).await?;
        let covered: BTreeSet<_> = survey.nodes.iter().map(|node| node.node.as_str()).collect();
        rest.named
            .extend(hosts.into_iter().filter(|node| !covered.contains(node.as_str())));
        rest.unnamed = desired(daemon_set).saturating_sub(covered.len() + rest.named.len());
    }
    if rest.named.len() > NODES_ASKED_MAX {
        return Ok(Some(rest));
    }
    let nodes = Api::<Node>::all(context.client.clone());
    let asked = stream::iter(std::mem::take(&mut rest.named)).map(|name| {
        let nodes = nodes.clone();
        async move {
            nodes
                .get_opt(&name)
                .await
                .map(|node| (name, node.is_some_and(|node| is_ready(&node))))
        }
    });
    let mut asked = asked.buffer_unordered(NODES_AT_ONCE);
    while let Some(answer) = asked.next().await {
        let (name, counts) = answer.map_err(Error::Dereference)?;
        if counts {
            rest.named.insert(name);
        }
    }
    let is_known = daemon_set_is_observed(daemon_set);
    Ok((!is_known || rest.unnamed > 0 || !rest.named.is_empty()).then_some(rest))
}

/// Which nodes the DaemonSet should be on have no Ready pod of its current template; `None` when all have one.
fn behind(daemon_set: &DaemonSet, survey: &Survey) -> Option<Rest> {
    let annotations = daemon_set.metadata.annotations.as_ref();
    let template = annotations
        .and_then(|annotations| annotations.get(TEMPLATE_ANNOTATION))
        .and_then(|number| number.parse::<i64>().ok());
    let is_done = |node: &&crate::nodes::NodeState| {
        node.is_ready && template.is_some() && node.template_generation == template
    };
    let named: BTreeSet<_> = survey
        .nodes
        .iter()
        .filter(|node| !is_done(node))
        .map(|node| node.node.clone())
        .collect();
    let unnamed = desired(daemon_set).saturating_sub(survey.nodes.len());
    let is_known = daemon_set_is_observed(daemon_set);
    (!is_known || unnamed > 0 || !named.is_empty()).then_some(Rest { named, unnamed })
}

/// Whether the DaemonSet's controller has counted the nodes since the template changed.
fn daemon_set_is_observed(daemon_set: &DaemonSet) -> bool {
    let observed = daemon_set
        .status
        .as_ref()
        .and_then(|status| status.observed_generation);
    observed.is_some() && observed >= daemon_set.metadata.generation
}

fn desired(daemon_set: &DaemonSet) -> usize {
    let status = daemon_set.status.as_ref();
    status
        .and_then(|status| usize::try_from(status.desired_number_scheduled).ok())
        .unwrap_or_default()
}

/// Nodes that have a pod, also one that the watch does not show, or that is on its way out: on a node that is down it
/// stays so.
async fn hosts(mirror: &str, context: &Context) -> Result<Vec<String>, Error> {
    let pods = Api::<Pod>::namespaced(context.client.clone(), &context.options.namespace);
    let mut parameters = ListParams::default()
        .labels(&format!("{MIRROR_LABEL}={mirror}"))
        .limit(PODS_PAGE);
    let mut hosts = Vec::new();
    loop {
        let page = pods.list(&parameters).await.map_err(Error::Dereference)?;
        let next = page.metadata.continue_.filter(|next| !next.is_empty());
        hosts.extend(page.items.into_iter().filter_map(|pod| pod.spec?.node_name));
        let Some(next) = next else {
            return Ok(hosts);
        };
        parameters = parameters.continue_token(&next);
    }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Lets the mirror go at a deadline that is not its own.
///
/// # Errors
/// When the API server does not answer.
pub(crate) async fn give_up(guarded: &Guarded, context: &Context) -> Result<(), Error> {
    let live = own_daemon_set(guarded, context).await?;
    let Some(live) = live else {
        finish(guarded.meta(), None, context).await?;
        return Ok(());
    };
    let rest = unacknowledged(guarded, &live, context).await?;
    let why = rest.map_or_else(|| "the time is up".to_owned(), |rest| rest.not_acknowledged());
    let_go(guarded, &live, &why, context).await?;
    Ok(())
}

/// Lets the mirror go although it is not known whether all nodes are as they were found.
async fn let_go(guarded: &Guarded, live: &DaemonSet, why: &str, context: &Context) -> Result<Action, Error> {
    let message = format!(
        "The mirror is let go although its nodes may not be as they were found: {why}. \
         Pods that still run restore their node when they end."
    );
    tracing::warn!(mirror = guarded.name_any(), message, "withdrawal incomplete");
    let mirror: RegistryMirror = bare(guarded.meta());
    let notice = Notice {
        is_warning: true,
        reason: "WithdrawalIncomplete".to_owned(),
        message,
    };
    update_status::publish(&mirror, notice, context).await;
    finish(guarded.meta(), Some(live), context).await
}

/// Deletes the DaemonSet, its pods first, and removes the finalizer; the garbage collector removes the rest.
async fn finish(metadata: &ObjectMeta, live: Option<&DaemonSet>, context: &Context) -> Result<Action, Error> {
    if let Some(live) = live {
        let api = Api::<DaemonSet>::namespaced(context.client.clone(), &context.options.namespace);
        apply::remove(&api, &live.metadata).await?;
    }
    set_finalizer(metadata, false, context).await?;
    tracing::info!(mirror = metadata.name, "withdrawn");
    Ok(Action::await_change())
}
