//! helm, which installs the charts as users do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

use super::tool;
use crate::process::run;

/// helm with directories of its own.
#[derive(Debug)]
pub struct Helm {
    dir: TempDir,
    kubeconfig: PathBuf,
}

impl Helm {
    /// A helm that knows no cluster.
    ///
    /// # Errors
    /// Where its directory cannot be made.
    pub fn offline() -> Result<Self> {
        Self::new(Path::new("/dev/null"))
    }

    /// A helm that works with the cluster of this kubeconfig file.
    ///
    /// # Errors
    /// Where its directory cannot be made.
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        let dir = TempDir::with_prefix("larder-helm-")?;
        let kubeconfig = kubeconfig.to_owned();
        Ok(Self { dir, kubeconfig })
    }

    /// Runs helm; returns what it wrote.
    ///
    /// # Errors
    /// With what helm said.
    pub async fn run(&self, arguments: &[&str]) -> Result<String> {
        let dir = self.dir.path();
        let mut command = Command::new(tool("helm", "helm")?);
        command
            .env("HELM_CACHE_HOME", dir.join("cache"))
            .env("HELM_CONFIG_HOME", dir.join("config"))
            .env("HELM_DATA_HOME", dir.join("data"))
            .env("KUBECONFIG", &self.kubeconfig)
            .args(arguments);
        Ok(run(command).await?.text())
    }

    /// Runs helm with a file of these values; returns what it wrote.
    ///
    /// # Errors
    /// With what helm said.
    pub async fn run_with(&self, arguments: &[&str], values: &Value) -> Result<String> {
        let file = NamedTempFile::new_in(self.dir.path())?;
        serde_json::to_writer(&file, values)?;
        let path = file.path().to_str().context("a path that is no text")?;
        self.run(&[arguments, &["--values", path]].concat()).await
    }

    /// What a chart makes of these values for a release, without any cluster.
    ///
    /// # Errors
    /// With what helm said, or where that is no YAML.
    pub async fn template(
        &self,
        chart: &Path,
        release: &str,
        namespace: &str,
        values: &Value,
    ) -> Result<Manifests> {
        let chart = chart.to_str().context("a path that is no text")?;
        let template = ["template", release, chart, "--namespace", namespace];
        Manifests::parse(&self.run_with(&template, values).await?)
    }
}

/// Rendered objects by `Kind/name`.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifests(BTreeMap<String, Value>);

impl Manifests {
    fn parse(yaml: &str) -> Result<Self> {
        let mut named = BTreeMap::new();
        for object in serde_saphyr::from_multiple::<Value>(yaml)? {
            let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
            let (kind, name) = (text("/kind"), text("/metadata/name"));
            let name = format!("{}/{}", kind.context("no kind")?, name.context("no name")?);
            let twice = named.insert(name.clone(), object).is_some();
            ensure!(!twice, "{name} is there twice");
        }
        Ok(Self(named))
    }

    /// An object by `Kind/name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// All objects, by `Kind/name`.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, object)| (name.as_str(), object))
    }
}
