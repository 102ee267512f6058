//! The program understands the flags that the chart gives it, and makes what the chart's other parts expect.

use clap::Parser as _;
use k8s_openapi::api::core::v1::SELinuxOptions;
use kube::Api;
use larder_crds::{CaBundle, Credential, RegistryMirror};
use larder_tests::cluster::Cluster;
use operator::cli::{Cli, Command, RunOptions};
use operator::controller::build::{Purpose, build};
use operator::controller::validate::validate;
use serde_json::{Value, json};

use crate::{NAMESPACE, render};

/// What the program makes of the flags in the container of an object.
async fn command(object: &str, values: &Value) -> Command {
    let manifests = render(values).await;
    let container = manifests.get(object).unwrap();
    let container = container.pointer("/spec/template/spec/containers/0").unwrap();
    let arguments = container["args"].as_array().unwrap().iter();
    // As kubelet puts the variable in.
    let arguments = arguments.map(|argument| argument.as_str().unwrap().replace("$(POD_NAME)", "pod-1"));
    let arguments = ["operator".to_owned()].into_iter().chain(arguments);
    Cli::try_parse_from(arguments).unwrap().command
}

async fn run_options(values: &Value) -> RunOptions {
    match command("Deployment/larder-operator", values).await {
        Command::Run(options) => options,
        other => panic!("{other:?}"),
    }
}

/// With the values that become flags. That they become the right ones is shown in `values.rs`.
#[tokio::test]
async fn the_program_understands_its_flags() {
    let values = json!({
        "imagePullSecrets": ["one", "two"],
        "allowedHostPaths": ["/opt/a", "/opt/b"],
        "caBundle": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "operator": {"listen": "[::]"},
        "cacheNode": {"seLinuxOptions": {"type": "spc_t"}, "priorityClassName": "high"},
        "cleanup": {"timeoutSeconds": 90},
    });
    let run = run_options(&values).await;
    assert_eq!((run.identity.as_str(), run.admin.port()), ("pod-1", 8080));
    assert!(run.admin.is_ipv6());
    let caches = &run.caches;
    assert_eq!(caches.namespace, NAMESPACE);
    assert_eq!(caches.image_pull_secret, ["one", "two"]);
    let paths: Vec<_> = caches
        .allowed_host_path
        .iter()
        .map(|path| path.to_str())
        .collect();
    assert_eq!(paths, [Some("/opt/a"), Some("/opt/b")]);
    assert_eq!(caches.ca_bundle_config_map.as_deref(), Some("larder-ca"));
    let se_linux = SELinuxOptions {
        type_: Some("spc_t".to_owned()),
        ..SELinuxOptions::default()
    };
    assert_eq!(caches.selinux_options, Some(se_linux));

    // The hook makes what the operator makes.
    let Command::Cleanup(cleanup) = command("Job/larder-cleanup", &values).await else {
        panic!("not the command that cleans up");
    };
    assert_eq!(cleanup.timeout.as_secs(), 90);
    assert_eq!(cleanup.caches, run.caches);
}

/// The chart's own monitors and Services find the pods of both.
#[tokio::test]
async fn monitors_select_the_pods_that_there_are() {
    let manifests = render(&json!({"podMonitor": {"enabled": true}})).await;
    let options = run_options(&json!({})).await.caches;
    let mut mirror = RegistryMirror::new("default", Default::default());
    mirror.metadata.uid = Some("0".to_owned());
    let validated = validate(&mirror, &options).unwrap();
    let built = build(&validated, Purpose::Serve, &options).unwrap();
    let caches = serde_json::to_value(built.daemon_set).unwrap();
    let operator = manifests.get("Deployment/larder-operator").unwrap();
    for (monitor, pods) in [
        ("PodMonitor/larder-cache-nodes", &caches),
        ("PodMonitor/larder-operator", operator),
    ] {
        let monitor = manifests.get(monitor).unwrap();
        let labels = pods.pointer("/spec/template/metadata/labels").unwrap();
        for (label, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
            assert_eq!(labels.get(label), Some(value), "{label}");
        }
        let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
        let ports = pods.pointer("/spec/template/spec/containers/0/ports").unwrap();
        let ports: Vec<_> = ports
            .as_array()
            .unwrap()
            .iter()
            .map(|port| &port["name"])
            .collect();
        assert!(ports.contains(&port), "{port} in {ports:?}");
    }
}

/// The DaemonSet that the operator makes of the mirror `default`, with the flags that the chart gives it.
pub(crate) async fn daemon_set(cluster: &Cluster, purpose: Purpose) -> Value {
    let options = run_options(&json!({})).await.caches;
    let mirrors: Api<RegistryMirror> = Api::all(cluster.client());
    let mut mirror = mirrors.get("default").await.unwrap();
    let registry = &mut mirror.spec.registries[0];
    registry.credentials = vec![Credential {
        secret_name: "hub".to_owned(),
        repositories: vec!["acme/*".to_owned()],
    }];
    registry.tls.ca_bundle = Some(CaBundle {
        config_map_name: "corp-ca".to_owned(),
    });
    let validated = validate(&mirror, &options).unwrap();
    let built = build(&validated, purpose, &options).unwrap();
    serde_json::to_value(built.daemon_set).unwrap()
}
