//! The report for the operator: whose it is, what stands, and what `node-config` adds to it.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::*;

const NOWHERE: &str = "http://127.0.0.1:1";

fn write_state(directory: &Path, state: &serde_json::Value) {
    let new = directory.join("new");
    fs::write(&new, state.to_string()).unwrap();
    fs::rename(new, directory.join("node-config.json")).unwrap();
}

#[tokio::test]
async fn the_report_is_of_its_mirror_and_holds_what_node_config_says() {
    let config = MirrorConfig::new()
        .object("3f1c-uid", 7)
        .registry("up.test", NOWHERE);
    let node = attentive_node(&config).await;
    let stale = ("NodeConfigStale".to_owned(), String::new(), String::new());
    assert!(standing(&node).await.contains(&stale));

    let foreign =
        json!({"reason": "ForeignHosts", "registry": "up.test", "count": 1, "since": "2026-01-01T00:00:00Z"});
    let now = jiff::Timestamp::now();
    write_state(
        &node.state_dir(),
        &json!({"updated": format!("{now:.3}"), "generation": 6, "settled": true, "conditions": [foreign]}),
    );
    let report = node.conditions().await;
    assert_eq!(
        (
            &report["mirror"],
            &report["generation"],
            &report["nodeConfigGeneration"]
        ),
        (&json!("3f1c-uid"), &json!(7), &json!(6))
    );
    assert!(
        report["conditions"].as_array().unwrap().contains(&foreign),
        "{report}"
    );
    assert!(!standing(&node).await.contains(&stale));

    let old = now - jiff::SignedDuration::from_secs(11);
    write_state(
        &node.state_dir(),
        &json!({"updated": format!("{old:.3}"), "generation": 6}),
    );
    let report = node.conditions().await;
    assert_eq!(report["nodeConfigGeneration"], json!(null));
    assert!(standing(&node).await.contains(&stale), "{report}");
}

#[tokio::test]
async fn a_standalone_node_reports_no_mirror_and_misses_no_node_config() {
    let node = NodeProcess::start(&MirrorConfig::new().registry("up.test", NOWHERE)).await;
    let report = Call::get(&format!("{}/conditions", node.metrics_url()))
        .send()
        .await;
    assert_eq!(report.json(), json!({"mirror": "", "conditions": []}));
}

/// Each by its name, gone as soon as it is there, and nobody pulls meanwhile.
#[tokio::test]
async fn what_is_missing_is_named() {
    let endpoint = Endpoint::new(NOWHERE)
        .credential("one", &["a/*"])
        .credential("two", &["b/*"])
        .ca("authorities");
    let config = MirrorConfig::new().with(Registry::new("up.test").endpoint(endpoint));
    let node = attentive_node(&config).await;
    let (one, two) = (
        ("CredentialsMissing", "up.test", "one"),
        ("CredentialsMissing", "up.test", "two"),
    );
    let authorities = ("CaBundleMissing", "up.test", "authorities");
    until_standing(&node, &[one, two, authorities]).await;
    secrets::write_basic(&node.credentials_dir(), "one", "user", "password");
    until_standing(&node, &[two, authorities]).await;
    secrets::write_ca(&node.credentials_dir(), "authorities", "no certificate\n");
    secrets::write_basic(&node.credentials_dir(), "two", "user", "password");
    until_standing(&node, &[authorities]).await;
    secrets::write_ca(
        &node.credentials_dir(),
        "authorities",
        &CertificateAuthority::new().pem(),
    );
    until_standing(&node, &[]).await;
}

#[tokio::test]
async fn a_refused_document_stands_until_it_is_mended() {
    let config = MirrorConfig::new().registry("up.test", NOWHERE);
    let node = attentive_node(&config).await;
    fs::write(node.config_path(), "kind: Nonsense").unwrap();
    until_standing(&node, &[("ConfigInvalid", "", "")]).await;
    fs::write(node.config_path(), config.to_yaml()).unwrap();
    until_standing(&node, &[]).await;
}

/// What a registry has left behind does not outlive its place in the document.
#[tokio::test]
async fn a_registry_that_goes_takes_its_conditions_along() {
    let with = |secret: &str| {
        let endpoint = Endpoint::new(NOWHERE).credential(secret, &["**"]);
        MirrorConfig::new().with(Registry::new("up.test").endpoint(endpoint))
    };
    let node = attentive_node(&with("one")).await;
    until_standing(&node, &[("CredentialsMissing", "up.test", "one")]).await;
    fs::write(node.config_path(), with("two").to_yaml()).unwrap();
    until_standing(&node, &[("CredentialsMissing", "up.test", "two")]).await;
    let other = MirrorConfig::new().registry("other.test", NOWHERE);
    fs::write(node.config_path(), other.to_yaml()).unwrap();
    until_standing(&node, &[]).await;
}
