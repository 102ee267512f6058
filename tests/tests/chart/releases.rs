//! A release's life: installed by an older chart, upgraded, rolled back, uninstalled, installed again.

use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, ResourceExt as _};
use larder_tests::charts;
use larder_tests::cluster::Cluster;
use larder_tests::real::Helm;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::notes::first_mirror;
use crate::{NAMESPACE, RELEASE, larder};

const OLDER_VERSION: &str = "0.0.1";
const DEFINITION: &str = "registrymirrors.larder.dev";
/// What the older chart's definition has, and ours has not.
const OLDER_SHORT_NAME: &str = "older";
/// Longer than helm takes to notice that a hook runs, and shorter than a hook that cannot start.
const HOOK_TIMEOUT: &str = "--timeout=3s";

/// helm, and the cluster that its release is in.
pub(crate) struct Releases<'a> {
    cluster: &'a Cluster,
    helm: &'a Helm,
    dir: TempDir,
}

/// What a chart makes that another version makes differently.
#[derive(Debug, PartialEq)]
struct Seen {
    version: String,
    image: String,
    short_names: Vec<String>,
}

impl<'a> Releases<'a> {
    pub(crate) fn new(cluster: &'a Cluster, helm: &'a Helm) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { cluster, helm, dir }
    }

    pub(crate) async fn an_upgrade_changes_what_the_older_chart_made(&self) {
        let older = self.older_chart().await;
        self.helm("install", &[older.to_str().unwrap()]).await;
        assert_eq!(self.seen().await, Self::older());
        self.upgrade().await;
    }

    pub(crate) async fn upgrade(&self) {
        self.helm("upgrade", &[larder().to_str().unwrap()]).await;
        assert_eq!(self.seen().await, Self::newer());
    }

    pub(crate) async fn a_rollback_restores_it(&self) {
        self.helm("rollback", &["1"]).await;
        assert_eq!(self.seen().await, Self::older());
    }

    /// There is no node that its Job could run on.
    pub(crate) async fn a_hook_that_cannot_end_removes_nothing(&self) {
        let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE, HOOK_TIMEOUT];
        let said = self.helm.run(&uninstall).await.unwrap_err().to_string();
        assert!(said.contains("larder-cleanup"), "{said}");
        assert_eq!(self.seen().await, Self::newer());
    }

    /// Runs `look` while the hook's Job waits for a node, then ends helm as Ctrl-C does.
    pub(crate) async fn while_a_hook_runs(&self, look: impl Future<Output = ()>) {
        let uninstall = ["uninstall", RELEASE, "--namespace", NAMESPACE];
        tokio::select! {
            ended = self.helm.run(&uninstall) => unreachable!("{ended:?}"),
            () = look => {}
        }
    }

    pub(crate) async fn the_mirror_of_the_notes_is_accepted(&self) {
        self.kubectl(&["apply", "--filename", &self.mirror().await]).await;
    }

    pub(crate) async fn an_uninstallation_keeps_definitions_and_mirrors(&self) {
        self.helm("uninstall", &["--no-hooks"]).await;
        let names = self.kubectl(&["get", "registrymirrors", "--output=name"]).await;
        assert_eq!(names, "registrymirror.larder.dev/default");
        // Namespaced and cluster-wide. What hooks made is no part of the release.
        let kinds = "deployments,services,roles,rolebindings,clusterroles,clusterrolebindings,\
                     validatingadmissionpolicies,validatingadmissionpolicybindings";
        let ours = format!("app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component=operator");
        let rest = [
            "get",
            kinds,
            "--all-namespaces",
            "--output=name",
            "--selector",
            &ours,
        ];
        assert_eq!(self.kubectl(&rest).await, "");
    }

    pub(crate) async fn it_installs_again(&self) {
        self.helm("install", &[larder().to_str().unwrap()]).await;
        assert_eq!(self.seen().await, Self::newer());
    }

    async fn helm(&self, command: &str, arguments: &[&str]) {
        let all = [&[command, RELEASE, "--namespace", NAMESPACE], arguments].concat();
        self.helm.run(&all).await.unwrap();
    }

    async fn kubectl(&self, arguments: &[&str]) -> String {
        self.cluster.kubectl(arguments).await.unwrap()
    }

    /// A package of this chart as an older version, with another definition.
    async fn older_chart(&self) -> PathBuf {
        let dir = self.dir.path().join("larder");
        copy(&larder(), &dir);
        let definition = dir.join("charts/larder-crds/manifests/registrymirrors.yaml");
        let text = std::fs::read_to_string(&definition).unwrap();
        let mut crd: Value = serde_saphyr::from_str(&text).unwrap();
        crd["spec"]["names"]["shortNames"] = json!([OLDER_SHORT_NAME]);
        std::fs::write(&definition, crd.to_string()).unwrap();
        let (chart, to) = (dir.to_str().unwrap(), self.dir.path().to_str().unwrap());
        let package = ["package", chart, "--destination", to];
        let versions = ["--version", OLDER_VERSION, "--app-version", OLDER_VERSION];
        self.helm.run(&[&package[..], &versions].concat()).await.unwrap();
        self.dir.path().join(format!("larder-{OLDER_VERSION}.tgz"))
    }

    /// The path of a manifest of the mirror that the chart's notes propose.
    async fn mirror(&self) -> String {
        let path = self.dir.path().join("mirror.yaml");
        std::fs::write(&path, first_mirror().await).unwrap();
        path.to_str().unwrap().to_owned()
    }

    async fn seen(&self) -> Seen {
        let client = self.cluster.client();
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
        let deployment = deployments.get("larder-operator").await.unwrap();
        let definitions: Api<CustomResourceDefinition> = Api::all(client);
        let definition = definitions.get(DEFINITION).await.unwrap();
        let containers = deployment.spec.as_ref().unwrap().template.spec.as_ref();
        Seen {
            version: deployment.labels()["app.kubernetes.io/version"].clone(),
            image: containers.unwrap().containers[0].image.clone().unwrap(),
            short_names: definition.spec.names.short_names.unwrap_or_default(),
        }
    }

    fn older() -> Seen {
        Seen {
            version: OLDER_VERSION.to_owned(),
            image: format!("ghcr.io/larder-dev/operator:{OLDER_VERSION}"),
            short_names: vec![OLDER_SHORT_NAME.to_owned()],
        }
    }

    fn newer() -> Seen {
        let version = env!("CARGO_PKG_VERSION");
        Seen {
            version: version.to_owned(),
            image: format!("ghcr.io/larder-dev/operator:{version}"),
            short_names: vec!["rmir".to_owned()],
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for path in charts::files_below(from).unwrap() {
        let copy = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
        std::fs::copy(path, copy).unwrap();
    }
}
