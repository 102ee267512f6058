//! Builds `RegistryMirror` documents, so that a test says only what it is about.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// A `RegistryMirror` document in the making.
#[derive(Clone, Debug)]
pub struct MirrorConfig(Value);

impl Default for MirrorConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl MirrorConfig {
    /// A mirror named `test` without registries. It keeps whatever fits on the disk, however full that is: what a test sees must
    /// not depend on the machine.
    pub fn new() -> Self {
        Self(json!({
            "apiVersion": "larder.dev/v1alpha1",
            "kind": "RegistryMirror",
            "metadata": {"name": "test"},
            "spec": {"registries": [], "cache": {"capacity": "100%", "minFree": "0%"}},
        }))
    }

    /// Makes it the object of a cluster: with this UID and generation.
    pub fn object(mut self, uid: &str, generation: i64) -> Self {
        self.0["metadata"]["uid"] = uid.into();
        self.0["metadata"]["generation"] = generation.into();
        self
    }

    /// Adds the registry `host` with one endpoint, trusting any loopback address with its redirects.
    pub fn registry(self, host: &str, url: impl Into<String>) -> Self {
        self.with(Registry::new(host).endpoint(Endpoint::new(url).trust_loopback()))
    }

    /// Adds a registry.
    pub fn with(mut self, registry: Registry) -> Self {
        let registries = &mut self.0["spec"]["registries"];
        registries
            .as_array_mut()
            .expect("a list from the start")
            .push(registry.0);
        self
    }

    /// Sets `spec.defaultRegistry`.
    pub fn default_registry(self, host: &str) -> Self {
        self.set("/defaultRegistry", host)
    }

    /// Sets `spec.cache.verifyWholeUpTo`, for example `1Mi`.
    pub fn verify_whole_up_to(self, quantity: &str) -> Self {
        self.set("/cache/verifyWholeUpTo", quantity)
    }

    /// Sets `spec.cache.capacity`, for example `64Mi`.
    pub fn capacity(self, amount: &str) -> Self {
        self.set("/cache/capacity", amount)
    }

    /// Sets `spec.cache.minFree`, for example `20%`.
    pub fn min_free(self, amount: &str) -> Self {
        self.set("/cache/minFree", amount)
    }

    /// Sets any field of `spec` by its JSON pointer; objects on the way are made.
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        set(&mut self.0["spec"], pointer, value.into());
        self
    }

    /// The document as block YAML.
    pub fn to_yaml(&self) -> String {
        let mut yaml = String::new();
        write_block(&mut yaml, &self.0, 0);
        yaml
    }
}

/// One entry of `spec.registries`.
#[derive(Clone, Debug)]
pub struct Registry(Value);

impl Registry {
    /// A registry without endpoints: the default ones, if it is well known.
    pub fn new(host: &str) -> Self {
        Self(json!({"host": host}))
    }

    /// Adds an endpoint.
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        push(&mut self.0, "/endpoints", endpoint.0);
        self
    }

    /// Sets `tags.ttl`, for example `5m`.
    pub fn ttl(self, duration: &str) -> Self {
        self.set("/tags/ttl", duration)
    }

    /// Sets `tags.serveStaleFor`.
    pub fn serve_stale_for(self, duration: &str) -> Self {
        self.set("/tags/serveStaleFor", duration)
    }

    /// Adds a pattern to `tags.immutable`.
    pub fn immutable(mut self, pattern: &str) -> Self {
        push(&mut self.0, "/tags/immutable", json!(pattern));
        self
    }

    /// Sets any field by its JSON pointer; objects on the way are made.
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        set(&mut self.0, pointer, value.into());
        self
    }
}

/// One entry of a registry's `endpoints`.
#[derive(Clone, Debug)]
pub struct Endpoint(Value);

impl Endpoint {
    /// An endpoint at this URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self(json!({"url": url.into()}))
    }

    /// Uses this Secret for these repositories.
    pub fn credential(mut self, secret_name: &str, repositories: &[&str]) -> Self {
        let credential = json!({"secretName": secret_name, "repositories": repositories});
        push(&mut self.0, "/credentials", credential);
        self
    }

    /// Trusts the CA in this ConfigMap.
    pub fn ca(self, config_map_name: &str) -> Self {
        self.set("/tls/caBundle/configMapName", config_map_name)
    }

    /// Does not verify certificates.
    pub fn insecure(self) -> Self {
        self.set("/tls/insecureSkipVerify", true)
    }

    /// Adds a host that may receive credentials.
    pub fn trust_realm(mut self, host: &str) -> Self {
        push(&mut self.0, "/trust/realms", json!(host));
        self
    }

    /// Adds a private address that redirects may lead to.
    pub fn trust_redirect(mut self, host: &str) -> Self {
        push(&mut self.0, "/trust/redirects", json!(host));
        self
    }

    /// Trusts every loopback address, for redirects only: where the fakes live.
    pub fn trust_loopback(self) -> Self {
        self.trust_redirect("127.0.0.0/8")
    }

    /// Sets any field by its JSON pointer; objects on the way are made.
    pub fn set(mut self, pointer: &str, value: impl Into<Value>) -> Self {
        set(&mut self.0, pointer, value.into());
        self
    }
}

fn slot<'a>(root: &'a mut Value, pointer: &str) -> &'a mut Value {
    pointer.split('/').skip(1).fold(root, |value, key| {
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        &mut value[key]
    })
}

fn set(root: &mut Value, pointer: &str, value: Value) {
    *slot(root, pointer) = value;
}

fn push(root: &mut Value, pointer: &str, value: Value) {
    let list = slot(root, pointer);
    if list.is_null() {
        *list = json!([]);
    }
    list.as_array_mut().expect("a list").push(value);
}

/// Writes a mapping or list as block YAML; scalars and empty ones as JSON, which is YAML too.
fn write_block(yaml: &mut String, value: &Value, indent: usize) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (format!("{key}:"), value))
            .collect(),
        Value::Array(list) => list.iter().map(|value| ("-".to_owned(), value)).collect(),
        scalar => vec![(String::new(), scalar)],
    };
    for (lead, value) in entries {
        let pad = " ".repeat(indent);
        let empty = value.as_object().is_none_or(Map::is_empty) && value.as_array().is_none_or(Vec::is_empty);
        if empty {
            writeln!(yaml, "{pad}{lead} {value}").expect("writing to a string cannot fail");
        } else {
            writeln!(yaml, "{pad}{lead}").expect("writing to a string cannot fail");
            write_block(yaml, value, indent + 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, MirrorConfig, Registry};

    #[test]
    fn a_document_is_block_yaml() {
        let endpoint = Endpoint::new("http://127.0.0.1:5000")
            .credential("acme", &["acme/*"])
            .trust_loopback();
        let config = MirrorConfig::new()
            .with(
                Registry::new("up.test")
                    .endpoint(endpoint)
                    .ttl("5m")
                    .immutable("v*"),
            )
            .default_registry("up.test")
            .verify_whole_up_to("1Mi");
        let yaml = config.to_yaml();
        assert!(yaml.contains("kind: \"RegistryMirror\"\n"), "{yaml}");
        let credential = "          credentials:\n            -\n              repositories:\n                - \"acme/*\"\n";
        assert!(yaml.contains(credential), "{yaml}");
        assert!(yaml.contains("    verifyWholeUpTo: \"1Mi\"\n"), "{yaml}");
    }
}
