//! What the API server is asked to judge.

use serde_json::{Value, json};

/// A specification that is refused, with a part of the reason.
pub(crate) type Refused = (Value, &'static str);

/// One that breaks each rule, at least.
pub(crate) fn refused() -> Vec<Refused> {
    [
        refused_hosts(),
        refused_registries(),
        refused_repositories(),
        refused_caches_and_nodes(),
    ]
    .concat()
}

fn refused_hosts() -> Vec<Refused> {
    vec![
        (json!({}), "spec.registries: Required"),
        (json!({"registries": []}), "should have at least 1 items"),
        (json!({"registries": [{}]}), "host: Required"),
        (
            json!({"registries": [{"host": "quay.io"}, {"host": "quay.io"}]}),
            "Duplicate value",
        ),
        (
            json!({"registries": [{"host": "quay.io"}], "defaultRegistry": "docker.io"}),
            "defaultRegistry must be the host",
        ),
        (
            json!({"registries": [{"host": "registry-1.docker.io"}]}),
            "write docker.io",
        ),
        (
            json!({"registries": [{"host": "registry"}]}),
            "cannot name a host without a dot or a port",
        ),
        (json!({"registries": [{"host": "Quay.io"}]}), "should match"),
        (json!({"registries": [{"host": "../etc"}]}), "should match"),
        (
            json!({"registries": [{"host": "quay.io:123456"}]}),
            "should match",
        ),
    ]
}

fn refused_registries() -> Vec<Refused> {
    let registry = |fields: Value| {
        let mut registry = json!({"host": "quay.io"});
        registry
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"registries": [registry]})
    };
    let endpoint = |url: &str| registry(json!({"endpoints": [{"url": url}]}));
    let credential = |fields: Value| registry(json!({"credentials": [fields]}));
    vec![
        (registry(json!({"mode": "Cache"})), "Unsupported value"),
        (registry(json!({"fallback": "Never"})), "Unsupported value"),
        (registry(json!({"tags": {"ttl": "5 minutes"}})), "should match"),
        (registry(json!({"tags": {"serveStaleFor": "1d"}})), "should match"),
        (endpoint("ftp://quay.io"), "should match"),
        (endpoint("https://user:secret@quay.io"), "should match"),
        (endpoint("https://quay.io?a=b"), "should match"),
        (endpoint("https://quay.io/v2/"), "must not end with /v2"),
        (
            registry(json!({"endpoints": [{"url": "https://a.example"}, {"url": "https://b.example"}]})),
            "must have at most 1 item",
        ),
        (
            registry(json!({
                "endpoints": [{"url": "https://a.example"}],
                "tls": {"insecureSkipVerify": true},
            })),
            "write credentials, tls and trust at the endpoint",
        ),
        (credential(json!({"secretName": "hub"})), "repositories: Required"),
        (
            credential(json!({"secretName": "hub", "repositories": []})),
            "should have at least 1 items",
        ),
        (
            credential(json!({"secretName": "../hub", "repositories": ["**"]})),
            "should match",
        ),
        (
            registry(json!({"tls": {"caBundle": {}}})),
            "configMapName: Required",
        ),
    ]
}

fn refused_repositories() -> Vec<Refused> {
    let registry = |host: &str, fields: Value| {
        let mut registry = json!({"host": host});
        let fields = fields.as_object().unwrap().clone();
        registry.as_object_mut().unwrap().extend(fields);
        json!({"registries": [registry]})
    };
    let of_hub = "repositories of Docker Hub have two segments";
    vec![
        (
            registry("quay.io", json!({"pins": [""]})),
            "should be at least 1 chars long",
        ),
        (
            registry("quay.io", json!({"repositories": {"allow": vec!["a"; 257]}})),
            "must have at most 256 items",
        ),
        (
            registry("quay.io", json!({"repositories": {"deny": ["a".repeat(257)]}})),
            "Too long",
        ),
        (
            registry("docker.io", json!({"repositories": {"allow": ["a/b", "alpine"]}})),
            of_hub,
        ),
        (
            registry("docker.io", json!({"repositories": {"deny": ["alp*"]}})),
            of_hub,
        ),
        (registry("docker.io", json!({"pins": ["*"]})), of_hub),
    ]
}

fn refused_caches_and_nodes() -> Vec<Refused> {
    let node = |fields: Value| json!({"registries": [{"host": "quay.io"}], "node": fields});
    let cache = |fields: Value| json!({"registries": [{"host": "quay.io"}], "cache": fields});
    vec![
        (cache(json!({"path": "var/lib/larder"})), "should match"),
        (cache(json!({"path": "/"})), "should be at least 2 chars long"),
        (cache(json!({"path": "/var/lib/../larder"})), "must not hold"),
        (
            cache(json!({"verifyWholeUpTo": "much"})),
            "write a whole number of bytes",
        ),
        (
            cache(json!({"verifyWholeUpTo": -1})),
            "write a whole number of bytes",
        ),
        (
            cache(json!({"verifyWholeUpTo": "2Gi"})),
            "at most 1Gi is possible",
        ),
        (cache(json!({"capacity": 0})), "or 1% to 100%"),
        (cache(json!({"capacity": "0.0Gi"})), "or 1% to 100%"),
        (cache(json!({"capacity": "101%"})), "or 1% to 100%"),
        (cache(json!({"capacity": "50GB"})), "or 1% to 100%"),
        (cache(json!({"minFree": -1})), "or 0% to 100%"),
        (cache(json!({"minFree": "2.5%"})), "or 0% to 100%"),
        (cache(json!({"pinnedMax": "0%"})), "or 1% to 100%"),
        (cache(json!({"pinnedMax": "half"})), "or 1% to 100%"),
        (cache(json!({"deletionPolicy": "Keep"})), "Unsupported value"),
        (node(json!({"port": 5118})), "must differ"),
        (node(json!({"port": 0})), "should be greater than or equal to 1"),
        (
            node(json!({"metricsPort": 70000})),
            "should be less than or equal to 65535",
        ),
        (
            node(json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}})),
            "maxSurge is not possible",
        ),
        (
            node(json!({"containerd": {"configPath": "/etc/./containerd"}})),
            "must not hold",
        ),
        (
            node(json!({"containerd": {"existing": "Replace"}})),
            "Unsupported value",
        ),
        (
            node(json!({"tolerations": [{"key": 1}]})),
            "must be of type string",
        ),
        (
            node(
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}),
            ),
            "nodeSelectorTerms: Required",
        ),
    ]
}

/// Specifications that are accepted.
pub(crate) fn accepted() -> Vec<Value> {
    vec![
        json!({"registries": [{"host": "docker.io"}, {"host": "localhost"}, {"host": "registry:5000"}, {"host": "10.0.0.1:5000"}, {"host": "[fd00::1]:5000"}]}),
        json!({"registries": [{"host": "quay.io"}], "defaultRegistry": "quay.io"}),
        json!({"registries": [{"host": "quay.io", "endpoints": [{"url": "https://a.example/quay", "tls": {"insecureSkipVerify": true}}]}]}),
        json!({"registries": [{"host": "quay.io", "tags": {"ttl": "1h30m", "serveStaleFor": "0s", "immutable": ["v*"]}}]}),
        json!({"registries": [{"host": "quay.io"}], "cache": {"verifyWholeUpTo": 0}}),
        json!({"registries": [{"host": "quay.io"}], "cache": {"verifyWholeUpTo": "1.5Mi", "path": "/a"}}),
        json!({"registries": [{"host": "quay.io"}], "cache": {"capacity": "50Gi", "minFree": "0%", "pinnedMax": "100%"}}),
        json!({"registries": [{"host": "quay.io"}], "cache": {"capacity": "1%", "minFree": 0, "pinnedMax": 1}}),
        json!({"registries": [{"host": "quay.io"}], "cache": {"capacity": 1_000_000, "minFree": "1.5Gi", "pinnedMax": "07%"}}),
        json!({"registries": [
            {"host": "docker.io", "repositories": {"allow": ["library/*", "**"], "deny": []}, "pins": ["library/pause"]},
            {"host": "quay.io", "repositories": {"deny": ["app"]}, "pins": ["*"]},
        ]}),
        json!({"registries": [{"host": "quay.io"}], "node": {
            "port": 1, "adminPort": 2, "metricsPort": 3,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
            "tolerations": [{"operator": "Exists"}],
        }}),
    ]
}
