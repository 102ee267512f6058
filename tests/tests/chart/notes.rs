//! What helm prints after an installation.

use larder_tests::real::Helm;
use serde_json::{Value, json};

use crate::{NAMESPACE, RELEASE, at, larder};

async fn notes(values: &Value) -> String {
    let helm = Helm::offline().unwrap();
    let chart = larder();
    let install = [
        "install",
        RELEASE,
        chart.to_str().unwrap(),
        "--dry-run=client",
        "--namespace",
        NAMESPACE,
    ];
    let shown = helm.run_with(&install, values).await.unwrap();
    shown.split_once("\nNOTES:\n").unwrap().1.to_owned()
}

/// The manifest of the mirror that they propose, as somebody pastes it.
pub(crate) async fn first_mirror() -> String {
    let notes = notes(&json!({})).await;
    let (_, manifest) = notes.split_once("<<EOF\n").unwrap();
    let (manifest, _) = manifest.split_once("   EOF\n").unwrap();
    manifest.to_owned()
}

#[tokio::test]
async fn they_say_what_to_do_next_and_what_to_beware_of() {
    let notes = notes(&json!({})).await;
    for said in [
        "kubectl label namespace larder-system pod-security.kubernetes.io/enforce=privileged",
        r#"[plugins."io.containerd.cri.v1.images".registry]"#,
        r#"[plugins."io.containerd.grpc.v1.cri".registry]"#,
        r#"config_path = "/etc/containerd/certs.d""#,
        "kubectl apply -f - <<EOF\n",
        "Every pod on a node may pull what the Secrets of a mirror on that node can read",
        "`repositories.allow`",
    ] {
        assert!(notes.contains(said), "no {said} in:\n{notes}");
    }
    assert!(
        !notes.contains(" is off") && !notes.contains("larder-crds"),
        "{notes}"
    );
}

#[tokio::test]
async fn they_warn_of_what_was_turned_off() {
    for (value, said) in [
        ("crds.install", "install and upgrade the chart larder-crds"),
        ("admissionPolicy.enabled", "The admission policy is off"),
        ("cleanup.enabled", "Clean-up is off"),
    ] {
        let notes = notes(&at(&[(value, json!(false))])).await;
        assert!(notes.contains(said), "{value}:\n{notes}");
    }
}
