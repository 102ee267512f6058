//! What the DaemonSet's controller says when it cannot create pods, freed of the names of pods that were never made.

use super::complaints::Telling;

/// The reason, as the DaemonSet's Events have it.
const FAILED_CREATE: &str = "FailedCreate";

/// What is to be said, with what to do about the two usual causes.
pub(super) fn telling(message: &str, namespace: &str) -> Telling {
    let cause = without_pod_name(message.trim_start_matches("Error creating: "));
    let advice = if cause.contains("PodSecurity") {
        format!(
            "; allow it with: kubectl label --overwrite namespace {namespace} \
             pod-security.kubernetes.io/enforce=privileged"
        )
    } else if cause.contains("quota") {
        format!("; give namespace {namespace} a ResourceQuota that allows these pods")
    } else {
        String::new()
    };
    Telling {
        reason: FAILED_CREATE.to_owned(),
        message: super::bounded(format!("pods cannot be created: {cause}{advice}")),
    }
}

/// Each attempt has a new name: `pods "larder-mirror-simple-x7k2p" is forbidden: …`.
fn without_pod_name(message: &str) -> &str {
    let rest = message
        .strip_prefix("pods \"")
        .and_then(|rest| rest.split_once('"'));
    rest.map_or(message, |(_, rest)| {
        rest.trim_start_matches(" is forbidden: ").trim_start()
    })
}
