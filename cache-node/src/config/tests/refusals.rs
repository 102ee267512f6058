//! Every kind of mistake, by the path of its field.

use super::*;

#[test]
fn text_that_is_no_document_is_refused() {
    let all = |text: &str| errors(text).join("\n");
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
    assert_eq!(
        head("{name: test}", "{name: test, uid: ../x}"),
        ["metadata.uid: is none that Kubernetes gives: leave it out"]
    );
    assert_eq!(errors("{}").len(), 4);
}

#[test]
fn every_unknown_field_is_reported() {
    let text = document(
        "registries:\n- {host: quay.io, hots: x, lookAhead: All, endpoints: [{url: https://quay.io, proxy: x}]}\ncache: {capcity: 1Gi, verifyWholeUpto: 1}",
    ) + "x-extra: 1\n";
    let planned = "not supported by this version; remove it";
    let unknown = "unknown field; correct its name or remove it";
    let mut found = errors(&text);
    found.sort();
    assert_eq!(
        found,
        [
            format!("spec.cache.capcity: {unknown}"),
            format!("spec.cache.verifyWholeUpto: {unknown}"),
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
        "",
        "https://quay.io",
        "quay.io/x",
        "quay.io:0",
        "quay.io:x",
        "quay.io:",
        "a..b",
        "-a.b",
        "é.test",
        "::1",
        "quay",
        "[::1",
        "*.io",
        "quay.io:+1",
        "256.1.1.1",
    ] {
        assert_error(
            &format!("registries: [{{host: {host:?}}}]"),
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
fn amounts_are_checked() {
    let refused = |field: &str, amount: &str, reason: &str| {
        let spec = format!("registries: [{{host: quay.io}}]\ncache: {{{field}: {amount}}}");
        assert_error(&spec, &format!("spec.cache.{field}: {reason}"));
    };
    for field in ["capacity", "minFree", "pinnedMax"] {
        refused(
            field,
            "101%",
            "\"101%\" is not a percentage; write a whole number up to 100%",
        );
        refused(field, "2.5%", "\"2.5%\" is not a percentage");
        refused(field, "50GB", "\"50GB\" is not a size");
        refused(field, "-1", "\"-1\" is not a size");
        refused(field, "99999999Ti", "\"99999999Ti\" is too large");
        refused(
            field,
            "0.5",
            "invalid type: floating point `0.5`, expected a size",
        );
    }
    for field in ["capacity", "pinnedMax"] {
        for nothing in ["0", "0Gi", "0%"] {
            let reason = format!("\"{nothing}\" is nothing; write bytes such as 50Gi, or 1% to 100%");
            refused(field, nothing, &reason);
        }
    }
    for nothing in ["0", "0%"] {
        parse(&format!(
            "registries: [{{host: quay.io}}]\ncache: {{minFree: {nothing}}}"
        ));
    }
}

#[test]
fn patterns_of_repositories_are_checked() {
    for (fields, path) in [
        ("repositories: {allow: [ok, GLOB]}", "repositories.allow[1]"),
        ("repositories: {deny: [GLOB]}", "repositories.deny[0]"),
        ("pins: [ok, GLOB]", "pins[1]"),
    ] {
        let spec = |host: &str, glob: &str| {
            format!("registries: [{{host: {host}, {}}}]", fields.replace("GLOB", glob))
        };
        for glob in ["\"[a\"", "\"\""] {
            assert_error(&spec("quay.io", glob), &format!("spec.registries[0].{path}: "));
        }
        // It would match nothing there, and so allow, deny or pin nothing.
        let hub = spec("index.docker.io", "alp*").replace("ok", "a/ok");
        assert_error(
            &hub,
            &format!(
                "spec.registries[0].{path}: \"alp*\" matches none: repositories of Docker Hub have two segments; \
                 write library/alpine"
            ),
        );
        parse(&spec("docker.io", "\"**\"").replace("ok", "a/ok"));
        parse(&spec("quay.io", "alp*"));
    }
    let many = "a/b,".repeat(257);
    assert_error(
        &format!("registries: [{{host: quay.io, pins: [{many}]}}]"),
        "spec.registries[0].pins: has 257 items; at most 256 are possible",
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
