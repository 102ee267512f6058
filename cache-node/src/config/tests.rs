mod refusals;

use proptest::prelude::*;

use super::*;

/// A document with these lines as its `spec`, indented by two.
fn document(spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: larder.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {{name: test}}\nspec:\n{spec}")
}

fn parse(spec: &str) -> Config {
    let text = document(spec);
    Config::parse(&text).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn errors(text: &str) -> Vec<String> {
    let errors = Config::parse(text).expect_err(text);
    assert_eq!(errors.to_string().lines().count(), errors.iter().count());
    errors.iter().map(ToString::to_string).collect()
}

/// Asserts that exactly one error is reported, and that it begins with `expected`.
#[track_caller]
fn assert_error(spec: &str, expected: &str) {
    let errors = errors(&document(spec));
    assert!(
        errors.len() == 1 && errors[0].starts_with(expected),
        "{expected}\n{errors:#?}"
    );
}

#[test]
fn the_embedded_configuration_serves_the_public_registries() {
    let config = Config::embedded();
    let urls: Vec<_> = config
        .registries
        .iter()
        .map(|r| (r.host.as_str(), r.endpoint.url.as_str()))
        .collect();
    assert_eq!(
        urls,
        [
            ("docker.io", "https://registry-1.docker.io/"),
            ("quay.io", "https://quay.io/"),
            ("gcr.io", "https://gcr.io/"),
            ("registry.k8s.io", "https://registry.k8s.io/"),
            ("ghcr.io", "https://ghcr.io/"),
        ]
    );
    assert_eq!(config.default_registry().unwrap().host, "docker.io");
    assert!(
        config
            .registries
            .iter()
            .all(|r| r.endpoint.credentials.is_empty())
    );
    assert_eq!(config.generation().len(), 16);
}

#[test]
fn defaults_are_filled_in() {
    let config = parse("registries: [{host: registry.test}]");
    let registry = config.registry("registry.test").unwrap();
    assert_eq!(registry.endpoint.url.as_str(), "https://registry.test/");
    assert_eq!(registry.tags.ttl, Duration::from_mins(5));
    assert_eq!(registry.tags.serve_stale_for, Duration::from_hours(24));
    assert!(registry.repositories.admits("any/thing") && registry.pins.is_empty());
    assert_eq!(config.verify_whole_up_to_bytes, 1 << 20);
    let limits = CacheLimits {
        capacity: None,
        min_free: Amount::Percent(20),
        pinned_max: Amount::Percent(50),
    };
    assert_eq!(config.cache_limits, limits);
    assert!(config.default_registry().is_none());
}

const FULL: &str = r#"
registries:
- host: Index.docker.io
  credentials: [{secretName: dockerhub, repositories: ["acme/*", "corp/**"]}]
  tls: {caBundle: {configMapName: corp-ca}, insecureSkipVerify: true}
  trust: {realms: [auth.test, "login.test:8443"], redirects: [10.0.0.0/8, "fd00::/8", "[::1]:5000"]}
  repositories: {allow: ["library/*", "acme/**"], deny: ["acme/secret/**"]}
  pins: [library/pause]
  tags: {ttl: 1h30m, serveStaleFor: 0s, immutable: ["v*"]}
- host: "[0:0::1]:5000"
  endpoints: [{url: "http://127.0.0.1:8080/a/b/", credentials: [{secretName: s, repositories: ["**"]}]}]
defaultRegistry: registry-1.docker.io
cache: {capacity: 40%, minFree: 10Gi, pinnedMax: 4294967296, verifyWholeUpTo: 512Ki}
"#;

#[test]
fn every_field_reaches_the_configuration() {
    let config = parse(FULL);
    let hub = config.default_registry().unwrap();
    assert_eq!(hub.host, "docker.io");
    let Endpoint {
        url,
        credentials,
        tls,
        trust,
    } = &hub.endpoint;
    assert_eq!(url.as_str(), "https://registry-1.docker.io/");
    assert_eq!(credentials[0].secret_name, "dockerhub");
    assert!(credentials[0].repositories.is_match("corp/a/b"));
    assert_eq!(
        *tls,
        Tls {
            ca_bundle: Some("corp-ca".to_owned()),
            insecure_skip_verify: true
        }
    );
    assert!(
        trust.realm("auth.test", 443) && trust.realm("LOGIN.test", 8443) && !trust.realm("login.test", 1)
    );
    assert_eq!(trust.redirects.len(), 3);
    assert_eq!(hub.repositories.allow.patterns(), ["library/*", "acme/**"]);
    assert_eq!(hub.repositories.deny.patterns(), ["acme/secret/**"]);
    assert_eq!(hub.pins.patterns(), ["library/pause"]);
    assert_eq!(hub.tags.ttl, Duration::from_mins(90));
    assert_eq!(hub.tags.serve_stale_for, Duration::ZERO);
    assert!(hub.tags.immutable.is_match("v1.2"));

    let local = config.registry("[::1]:5000").unwrap();
    assert_eq!(local.endpoint.url.as_str(), "http://127.0.0.1:8080/a/b");
    assert_eq!(
        local.endpoint.api_url("x/tags/list").as_str(),
        "http://127.0.0.1:8080/a/b/v2/x/tags/list"
    );
    assert_eq!(local.endpoint.host(), "127.0.0.1:8080");
    assert_eq!(local.endpoint.credentials.len(), 1);
    assert_eq!(config.verify_whole_up_to_bytes, 512 << 10);
    let limits = CacheLimits {
        capacity: Some(Amount::Percent(40)),
        min_free: Amount::Bytes(10 << 30),
        pinned_max: Amount::Bytes(4 << 30),
    };
    assert_eq!(config.cache_limits, limits);
}

#[test]
fn what_is_denied_is_not_allowed() {
    let served = |rules: &str, repository: &str| {
        let config = parse(&format!("registries: [{{host: a.test, repositories: {rules}}}]"));
        config.registries[0].repositories.admits(repository)
    };
    for (rules, admitted, refused) in [
        ("{}", "acme/app", ""),
        ("{allow: [], deny: []}", "acme/app", ""),
        ("{allow: [\"acme/*\"]}", "acme/app", "acme/team/app"),
        ("{deny: [\"acme/**\"]}", "evil/acme", "acme/team/app"),
        (
            "{allow: [\"acme/**\"], deny: [\"acme/secret\"]}",
            "acme/app",
            "acme/secret",
        ),
        ("{allow: [acme/app], deny: [\"**\"]}", "", "acme/app"),
    ] {
        assert!(admitted.is_empty() || served(rules, admitted), "{rules}");
        assert!(refused.is_empty() || !served(rules, refused), "{rules}");
    }
}

#[test]
fn the_effective_document_means_the_same_configuration() {
    for config in [parse(FULL), Config::embedded()] {
        let yaml = config.to_yaml();
        let again = Config::parse(&yaml).unwrap_or_else(|errors| panic!("{errors}\n{yaml}"));
        assert_eq!(
            Config {
                generation: config.generation.clone(),
                ..again.clone()
            },
            config
        );
        assert_eq!(again.to_yaml(), yaml);
    }
    assert!(
        Config::embedded()
            .to_yaml()
            .contains("url: https://registry-1.docker.io\n")
    );
}

#[test]
fn registries_are_found_in_any_spelling() {
    let config = Config::embedded();
    for alias in [
        "docker.io",
        "Docker.IO",
        "index.docker.io",
        "registry-1.docker.io",
    ] {
        assert_eq!(
            config.registry(alias).map(|r| r.host.as_str()),
            Some("docker.io"),
            "{alias}"
        );
    }
    for stranger in ["", "hub.docker.io", "docker.io:5000", "quay.io/x", "localhost"] {
        assert!(config.registry(stranger).is_none(), "{stranger}");
    }
    let hub = config.registry("docker.io").unwrap();
    assert_eq!(hub.endpoint.host(), "docker.io");
    assert_eq!(
        hub.endpoint.api_url("").as_str(),
        "https://registry-1.docker.io/v2/"
    );
    let upstream = |host: &str, name: &str| {
        config
            .registry(host)
            .unwrap()
            .upstream_repository(&name.parse().unwrap())
            .to_string()
    };
    assert_eq!(upstream("docker.io", "alpine"), "library/alpine");
    assert_eq!(upstream("docker.io", "acme/app"), "acme/app");
    assert_eq!(upstream("quay.io", "app"), "app");
}

#[test]
fn what_kubectl_prints_is_accepted() {
    let text = r#"
apiVersion: larder.dev/v1alpha1
kind: RegistryMirror
metadata:
  name: a.b
  annotations: {note: "{}"}
  labels: {a: b}
  uid: 1-2
  generation: 3
  managedFields:
  - {manager: kubectl, fieldsV1: {"f:spec": {}}}
spec:
  registries:
  - {host: quay.io, tls: null, endpoints: []}
  cache:
status: {conditions: [{type: Ready}]}
"#;
    assert_eq!(Config::parse(text).unwrap().name, "a.b");
    let json = r#"{"apiVersion":"larder.dev/v1alpha1","kind":"RegistryMirror","metadata":{"name":"x"},
        "spec":{"registries":[{"host":"quay.io"}],"cache":{"verifyWholeUpTo":4096}}}"#;
    assert_eq!(Config::parse(json).unwrap().verify_whole_up_to_bytes, 4096);
}

proptest! {
    #[test]
    fn never_panics(text: String, value in "[ -~]{0,20}", field in 0_usize..8) {
        let _ = Config::parse(&text);
        let value = serde_json::Value::from(value).to_string();
        let spec = [
            format!("registries: [{{host: {value}}}]"),
            format!("registries: [{{host: a.test, endpoints: [{{url: {value}}}]}}]"),
            format!("registries: [{{host: a.test, tags: {{ttl: {value}, immutable: [{value}]}}}}]"),
            format!("registries: [{{host: a.test, trust: {{realms: [{value}]}}}}]"),
            format!("registries: [{{host: a.test, repositories: {{allow: [{value}]}}, pins: [{value}]}}]"),
            format!("registries: [{{host: a.test}}]\ndefaultRegistry: {value}"),
            format!("registries: [{{host: a.test}}]\ncache: {{capacity: {value}, minFree: {value}}}"),
            format!("registries: [{{host: a.test}}]\n{value}: 1"),
        ];
        let _ = Config::parse(&document(&spec[field]));
        let _ = canonical_host(&text);
    }

    #[test]
    fn reads_what_it_writes(host in "[a-z]{1,9}\\.test(:[1-9][0-9]{0,3})?", path in "(/[a-z]{1,5}){0,2}", ms in 0_u64..1 << 38, bytes in 0_u64..1 << 30, percent in 0_u8..=100) {
        let config = parse(&format!("registries: [{{host: \"{host}\", endpoints: [{{url: \"http://{host}{path}\"}}], tags: {{ttl: {ms}ms}}}}]\ncache: {{capacity: {}, minFree: {percent}%, verifyWholeUpTo: {bytes}}}", bytes + 1));
        let again = Config::parse(&config.to_yaml()).unwrap();
        prop_assert_eq!(again.registries, config.registries);
        prop_assert_eq!(again.verify_whole_up_to_bytes, bytes);
        prop_assert_eq!(again.cache_limits, config.cache_limits);
        prop_assert_eq!(again.cache_limits.capacity, Some(Amount::Bytes(bytes + 1)));
        prop_assert_eq!(again.cache_limits.min_free, Amount::Percent(percent));
    }
}
