//! What pods and programs of service accounts asked of the API server, from its audit log: so a test can say which of their
//! rights are used.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Cluster;
use super::control_plane::CONFIG_DIR;

/// The policy: all requests of service accounts, but not those of Kubernetes' own controllers.
pub(super) const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ['system:serviceaccounts:kube-system']}
- {level: Metadata, userGroups: ['system:serviceaccounts']}
";
/// The log's name, beside the policy.
pub(super) const LOG: &str = "audit.log";

/// One request. That of a watch may be there twice: when it began, and when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// For example `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// As roles name it.
    pub verb: String,
    /// The resource's group; empty for the core.
    pub group: String,
    /// With its subresource: `registrymirrors/status`.
    pub resource: String,
    /// Empty where the resource has none, or all were asked for.
    pub namespace: String,
    /// The status of the answer.
    pub code: u64,
    /// Whether no role allows it; others refuse with the same status.
    pub is_forbidden: bool,
}

impl Audited {
    /// Requests for other things than resources, such as `/version`, are `None`.
    fn parse(event: &Value) -> Option<Self> {
        let text = |pointer| {
            let text = event.pointer(pointer).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let object = event.get("objectRef")?;
        let mut resource = text("/objectRef/resource");
        if let Some(subresource) = object.get("subresource").and_then(Value::as_str) {
            resource = format!("{resource}/{subresource}");
        }
        Some(Self {
            user: text("/user/username"),
            verb: text("/verb"),
            group: text("/objectRef/apiGroup"),
            resource,
            namespace: text("/objectRef/namespace"),
            code: event.pointer("/responseStatus/code").and_then(Value::as_u64)?,
            is_forbidden: text("/annotations/authorization.k8s.io~1decision") == "forbid",
        })
    }
}

impl Cluster {
    /// All requests for resources that service accounts have made so far.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn audited(&self) -> Result<Vec<Audited>> {
        let machine = &self.site.control_plane.machine;
        let log = std::fs::read_to_string(machine.own(CONFIG_DIR).join(LOG))?;
        let complete = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let events = complete.lines().map(serde_json::from_str::<Value>);
        let events: Vec<_> = events.collect::<Result<_, _>>()?;
        Ok(events.iter().filter_map(Audited::parse).collect())
    }

    /// A kubeconfig file with a token of this service account, as its pods get one.
    ///
    /// # Errors
    /// With what `kubectl` said.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let create = ["create", "token", account, "--namespace", namespace];
        let token = self.kubectl(&create).await?;
        let mut config: Value = serde_json::from_slice(&std::fs::read(self.kubeconfig())?)?;
        let user = config
            .pointer_mut("/users/0/user")
            .context("a kubeconfig without a user")?;
        *user = json!({ "token": token });
        let path = self.dir().join(format!("kubeconfig-{account}"));
        std::fs::write(&path, config.to_string())?;
        Ok(path)
    }
}
