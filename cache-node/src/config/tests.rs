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
    assert_eq!(config.verify_whole_up_to_bytes, 1 << 20);
    assert!(config.default_registry().is_none());
}

const FULL: &str = r#"
registries:
- host: Index.docker.io
  credentials: [{secretName: dockerhub, repositories: ["acme/*", "corp/**"]}]
  tls: {caBundle: {configMapName: corp-ca}, insecureSkipVerify: true}
  trust: {realms: [auth.test, "login.test:8443"], redirects: [10.0.0.0/8, "fd00::/8", "[::1]:5000"]}
  tags: {ttl: 1h30m, serveStaleFor: 0s, immutable: ["v*"]}
- host: "[0:0::1]:5000"
  endpoints: [{url: "http://127.0.0.1:8080/a/b/", credentials: [{secretName: s, repositories: ["**"]}]}]
defaultRegistry: registry-1.docker.io
cache: {verifyWholeUpTo: 512Ki}
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
    let text =
        "apiVersion: larder.dev/v1alpha1\nkind: RegistryMirror\nmetadata:\n  name: a.b\n  labels: {a: b}\n  \
        annotations: {x: |\n    text}\n"
            .replace("{x: |\n    text}", "{x: '{}'}")
            + "  uid: 1-2\n  generation: 3\n  managedFields:\n  - {manager: kubectl, fieldsV1: {\"f:spec\": {}}}\n\
        spec:\n  registries:\n  - {host: quay.io, tls: null, endpoints: []}\n  cache:\nstatus: {conditions: [{type: Ready}]}\n";
    assert_eq!(Config::parse(&text).unwrap().name, "a.b");
    let json = r#"{"apiVersion":"larder.dev/v1alpha1","kind":"RegistryMirror","metadata":{"name":"x"},
        "spec":{"registries":[{"host":"quay.io"}],"cache":{"verifyWholeUpTo":4096}}}"#;
    assert_eq!(Config::parse(json).unwrap().verify_whole_up_to_bytes, 4096);
}

#[test]
fn text_that_is_no_document_is_refused() {
    let all = |text: &str| errors(text).join("\n");
    assert_eq!(all("a: [1\nb: 2"), all("a: [1\nb: 2"));
    let syntax = all("kind: RegistryMirror\nspec:\n  registries: [a, b\n  x: y\n");
    assert!(
        syntax.starts_with("not valid YAML: ") && syntax.contains("line ") && syntax.contains("column "),
        "{syntax}"
    );
    assert!(
        all("kind: a\nkind: b\n").contains("line 2"),
        "{}",
        all("kind: a\nkind: b\n")
    );
    for text in ["", "# only a comment", "---\n", "[]", "text", "5"] {
        assert!(
            all(text).contains("must be a YAML mapping"),
            "{text:?}: {}",
            all(text)
        );
    }
    let two = format!(
        "{}---\n{}",
        document("registries: [{host: a.test}]"),
        document("registries: []")
    );
    assert_eq!(
        all(&two),
        "the file holds several YAML documents; it must hold one RegistryMirror"
    );
    let large = document("registries: [{host: a.test}]") + &"#".repeat(DOCUMENT_BYTES_MAX);
    assert_eq!(all(&large), "the document is larger than 1048576 bytes");
    let bomb = format!("a: &a [{}]\n", "x,".repeat(99))
        + &('b'..='l')
            .map(|c| {
                format!(
                    "{c}: &{c} [{}]\n",
                    format!("*{},", (c as u8 - 1) as char).repeat(99)
                )
            })
            .collect::<String>();
    assert!(all(&bomb).starts_with("not valid YAML"), "{}", all(&bomb));
}

#[test]
fn the_head_of_the_document_is_checked() {
    let text = document("registries: [{host: quay.io}]");
    let head = |from: &str, to: &str| errors(&text.replace(from, to));
    assert_eq!(
        head("larder.dev/v1alpha1", "v1"),
        ["apiVersion: must be larder.dev/v1alpha1, not \"v1\""]
    );
    assert_eq!(
        head("kind: RegistryMirror\n", ""),
        ["kind: required; write RegistryMirror"]
    );
    assert_eq!(head("{name: test}", "{}"), ["metadata.name: required"]);
    assert!(head("{name: test}", "{name: A_b}")[0].starts_with("metadata.name: \"A_b\" is not a name"));
    assert_eq!(errors("{}").len(), 4);
}

#[test]
fn every_unknown_field_is_reported() {
    let text = document(
        "registries:\n- {host: quay.io, hots: x, lookAhead: All, endpoints: [{url: https://quay.io, proxy: x}]}\nnode: {port: 1}\ncache: {capacity: 1Gi, verifyWholeUpto: 1}",
    ) + "x-extra: 1\n";
    let planned = "not supported by this version; remove it";
    let unknown = "unknown field; correct its name or remove it";
    let mut found = errors(&text);
    found.sort();
    assert_eq!(
        found,
        [
            format!("spec.cache.capacity: {planned}"),
            format!("spec.cache.verifyWholeUpto: {unknown}"),
            format!("spec.node: {planned}"),
            format!("spec.registries[0].endpoints[0].proxy: {planned}"),
            format!("spec.registries[0].hots: {unknown}"),
            format!("spec.registries[0].lookAhead: {planned}"),
            format!("x-extra: {unknown}"),
        ]
    );
    let many: String = (0..100).map(|n| format!("a{n}: 1\n")).collect();
    let found = errors(&document(&format!("registries: [{{host: quay.io}}]\n{many}")));
    assert_eq!(
        (found.len(), found.last().unwrap().as_str()),
        (65, "36 more errors are not shown")
    );
    assert_eq!(
        errors(&(document("registries: [{host: quay.io}]") + "\"a\\nb\": 1\n")),
        [format!("a\\nb: {unknown}")]
    );
}

#[test]
fn every_wrong_type_is_reported() {
    let text = document(
        "registries:\n- 5\n- {host: [a], tags: {ttl: 5, immutable: [1.10, ok, {a: b}]}}\n- [quay.io]\n- {host: x.test, tls: {insecureSkipVerify: \"no\"}, credentials: dockerhub, unknown: 1}\ncache: {verifyWholeUpTo: 1.5}",
    );
    let found = errors(&text);
    let mut paths: Vec<_> = found.iter().map(|e| e.split(": ").next().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        [
            "spec.cache.verifyWholeUpTo",
            "spec.registries[0]",
            "spec.registries[1].host",
            "spec.registries[1].tags.immutable[0]",
            "spec.registries[1].tags.immutable[2]",
            "spec.registries[1].tags.ttl",
            "spec.registries[2]",
            "spec.registries[3].credentials",
            "spec.registries[3].tls.insecureSkipVerify",
            "spec.registries[3].unknown",
        ],
        "{found:#?}"
    );
    assert!(
        found.contains(
            &"spec.registries[1].tags.ttl: invalid type: integer `5`, expected a string; put it in quotes"
                .to_owned()
        )
    );
    assert_error("5", "spec: invalid type: integer `5`");
}

#[test]
fn every_bad_value_is_reported_at_once() {
    let found = errors(&document(
        "registries:\n- {host: quay.io, tags: {ttl: soon}}\n- {host: \"a b\"}\n- {host: quay.io}\ndefaultRegistry: gcr.io\ncache: {verifyWholeUpTo: big}",
    ));
    let paths: Vec<_> = found.iter().map(|e| e.split(": ").next().unwrap()).collect();
    assert_eq!(
        paths,
        [
            "spec.registries[0].tags.ttl",
            "spec.registries[1].host",
            "spec.registries[2].host",
            "spec.defaultRegistry",
            "spec.cache.verifyWholeUpTo",
        ],
        "{found:#?}"
    );
}

#[test]
fn hosts_are_checked() {
    for host in [
        "\"\"",
        "https://quay.io",
        "quay.io/x",
        "quay.io:0",
        "quay.io:x",
        "quay.io:",
        "a..b",
        "-a.b",
        "é.test",
        "\"::1\"",
        "quay",
        "\"[::1\"",
        "\"*.io\"",
        "quay.io:+1",
        "256.1.1.1",
    ] {
        assert_error(
            &format!("registries: [{{host: {host}}}]"),
            "spec.registries[0].host: ",
        );
    }
    assert_error(
        "registries: [{host: docker.io}, {host: quay.io}, {host: registry-1.docker.io}]",
        "spec.registries[2].host: is the same registry as spec.registries[0] (docker.io); merge the two",
    );
    assert_error("registries: []", "spec.registries: required");
    let many: String = (0..65).map(|n| format!("- host: r{n}.test\n")).collect();
    assert_error(
        &format!("registries:\n{many}"),
        "spec.registries: has 65 items; at most 64 are possible",
    );
    for host in [
        "localhost",
        "localhost:5000",
        "registry:5000",
        "127.0.0.1:5000",
        "\"[::1]\"",
    ] {
        parse(&format!("registries: [{{host: {host}}}]"));
    }
}

#[test]
fn urls_are_checked_and_passwords_in_them_not_repeated() {
    for url in [
        "quay.io",
        "ftp://quay.io",
        "https://",
        "https://u:hunter2@quay.io",
        "https://u@quay.io",
        "https://quay.io?x=1",
        "https://quay.io#x",
        "https://quay.io/v2/",
        "https://quay.io:99999",
        "\"\"",
    ] {
        let spec = format!("registries: [{{host: a.test}}, {{host: b.test, endpoints: [{{url: {url:?}}}]}}]")
            .replace("\"\\\"\\\"\"", "\"\"");
        assert_error(&spec, "spec.registries[1].endpoints[0].url: ");
        assert!(!errors(&document(&spec)).concat().contains("hunter2"));
    }
    let long = "x".repeat(2048);
    assert_error(
        &format!("registries: [{{host: b.test, endpoints: [{{url: \"https://q/{long}\"}}]}}]"),
        "spec.registries[0].endpoints[0].url: the URL is longer than 2048 bytes",
    );
    assert_error(
        "registries: [{host: a.test, endpoints: [{url: https://b.test}, {url: https://c.test}]}]",
        "spec.registries[0].endpoints: only one endpoint is supported by this version",
    );
}

#[test]
fn settings_of_a_registry_belong_to_its_own_endpoint() {
    let with = |url: &str, at_registry: &str, at_endpoint: &str| {
        format!("registries: [{{host: docker.io, {at_registry}endpoints: [{{url: {url}{at_endpoint}}}]}}]")
    };
    let hub = parse(&with(
        "https://registry-1.docker.io/",
        "tls: {insecureSkipVerify: true}, ",
        "",
    ));
    assert!(hub.registries[0].endpoint.tls.insecure_skip_verify);
    for (field, value) in [
        ("credentials", "[{secretName: s, repositories: [a]}]"),
        ("tls", "{insecureSkipVerify: true}"),
        ("trust", "{realms: [a.test]}"),
    ] {
        assert_error(
            &with("https://harbor.test/hub", &format!("{field}: {value}, "), ""),
            &format!(
                "spec.registries[0].{field}: applies to the registry's own endpoint only; move it to spec.registries[0].endpoints[0].{field}"
            ),
        );
        assert_error(
            &with(
                "https://registry-1.docker.io",
                &format!("{field}: {value}, "),
                &format!(", {field}: {value}"),
            ),
            &format!(
                "spec.registries[0].{field}: also set at spec.registries[0].endpoints[0].{field}; set it in one place"
            ),
        );
    }
    // Errors in them are reported where they are written.
    assert_error(
        &with("https://registry-1.docker.io", "trust: {realms: [\"a b\"]}, ", ""),
        "spec.registries[0].trust.realms[0]: ",
    );
    assert_error(
        &with("https://harbor.test", "", ", trust: {realms: [\"a b\"]}"),
        "spec.registries[0].endpoints[0].trust.realms[0]: ",
    );
}

#[test]
fn names_globs_and_patterns_are_checked() {
    let registry = |fields: &str| format!("registries: [{{host: quay.io, {fields}}}]");
    for name in ["..", "a/b", "a..b", "A", "-a", "a_b", "é", "."] {
        assert_error(
            &registry(&format!(
                "credentials: [{{secretName: {name:?}, repositories: [a]}}]"
            )),
            "spec.registries[0].credentials[0].secretName: ",
        );
        assert_error(
            &registry(&format!("tls: {{caBundle: {{configMapName: {name:?}}}}}")),
            "spec.registries[0].tls.caBundle.configMapName: ",
        );
    }
    assert_error(
        &registry("tls: {caBundle: {}}"),
        "spec.registries[0].tls.caBundle.configMapName: required",
    );
    assert_error(
        &registry("credentials: [{secretName: s}]"),
        "spec.registries[0].credentials[0].repositories: required",
    );
    for glob in ["[a", "{a", "", "a\\"] {
        assert_error(
            &registry(&format!(
                "credentials: [{{secretName: s, repositories: [ok, {glob:?}]}}]"
            )),
            "spec.registries[0].credentials[0].repositories[1]: ",
        );
        assert_error(
            &registry(&format!("tags: {{immutable: [{glob:?}]}}")),
            "spec.registries[0].tags.immutable[0]: ",
        );
    }
    for pattern in [
        "https://a.test",
        "a b",
        "10.0.0.0/33",
        "10.1.0.0/8",
        "a.test/8",
        "10.0.0.0/+8",
        "",
    ] {
        assert_error(
            &registry(&format!("trust: {{redirects: [a.test, {pattern:?}]}}")),
            "spec.registries[0].trust.redirects[1]: ",
        );
    }
    assert_error(
        &registry("tags: {ttl: 5 minutes}"),
        "spec.registries[0].tags.ttl: \"5 minutes\" is not a duration",
    );
    assert_error(
        &registry("tags: {serveStaleFor: \"1\"}"),
        "spec.registries[0].tags.serveStaleFor: ",
    );
    for size in ["1.5", "-1", "2Gi", "1KiB"] {
        assert_error(
            &format!("registries: [{{host: quay.io}}]\ncache: {{verifyWholeUpTo: \"{size}\"}}"),
            "spec.cache.verifyWholeUpTo: ",
        );
    }
}

proptest! {
    #[test]
    fn never_panics(text: String, value in "[ -~]{0,20}", field in 0_usize..6) {
        let _ = Config::parse(&text);
        let value = serde_json::Value::from(value).to_string();
        let spec = [
            format!("registries: [{{host: {value}}}]"),
            format!("registries: [{{host: a.test, endpoints: [{{url: {value}}}]}}]"),
            format!("registries: [{{host: a.test, tags: {{ttl: {value}, immutable: [{value}]}}}}]"),
            format!("registries: [{{host: a.test, trust: {{realms: [{value}]}}}}]"),
            format!("registries: [{{host: a.test}}]\ndefaultRegistry: {value}"),
            format!("registries: [{{host: a.test}}]\n{value}: 1"),
        ];
        let _ = Config::parse(&document(&spec[field]));
        let _ = canonical_host(&text);
    }

    #[test]
    fn reads_what_it_writes(host in "[a-z]{1,9}\\.test(:[1-9][0-9]{0,3})?", path in "(/[a-z]{1,5}){0,2}", ms in 0_u64..1 << 38, bytes in 0_u64..1 << 30) {
        let config = parse(&format!("registries: [{{host: \"{host}\", endpoints: [{{url: \"http://{host}{path}\"}}], tags: {{ttl: {ms}ms}}}}]\ncache: {{verifyWholeUpTo: {bytes}}}"));
        let again = Config::parse(&config.to_yaml()).unwrap();
        prop_assert_eq!(again.registries, config.registries);
        prop_assert_eq!(again.verify_whole_up_to_bytes, bytes);
    }
}
