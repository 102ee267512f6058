//! What is rendered parses, says what it should, and keeps all that others said.

use std::sync::Arc;

use proptest::prelude::*;
use toml_edit::{DocumentMut, Item};

use super::*;
use crate::config::Config;

const CACHE: &str = "http://127.0.0.1:5117";

fn registry(host: &str, more: &str) -> Arc<Registry> {
    let yaml = format!(
        "apiVersion: larder.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {{name: m}}\n\
         spec: {{registries: [{{host: '{host}', endpoints: [{{url: 'https://up.test'}}]{more}}}]}}\n"
    );
    Arc::clone(&Config::parse(&yaml).unwrap().registries[0])
}

fn render(host: &str, more: &str, route: Route, basis: &Basis) -> Result<String, Unmergeable> {
    let cache = CACHE.to_owned();
    HostsToml { cache }.render(&registry(host, more), route, basis)
}

fn plain(host: &str) -> String {
    render(host, "", Route::Cache, &Basis::default()).unwrap()
}

fn text(text: &str, is_default: bool) -> Basis {
    Basis {
        text: text.to_owned(),
        certificates: Vec::new(),
        is_default,
    }
}

/// A repository that the cache does not serve is pulled as if there were no cache, so the registry stays in the file.
#[test]
fn rules_for_repositories_change_no_file() {
    let ruled = ", repositories: {allow: ['a/*'], deny: ['**']}, pins: ['b/*']";
    let file = render("quay.io", ruled, Route::Cache, &Basis::default()).unwrap();
    assert_eq!(file, plain("quay.io"));
}

#[test]
fn the_plain_file_names_the_real_registry_and_the_cache() {
    assert_eq!(
        plain("quay.io"),
        format!(
            "{NOTICE}server = \"https://quay.io\"\n\n[host.\"http://127.0.0.1:5117\"]\n\
             capabilities = [\"pull\", \"resolve\"]\ndial_timeout = \"1s\"\n"
        )
    );
    for (host, server) in [
        ("docker.io", "server = \"https://registry-1.docker.io\"\n"),
        ("registry.corp:5000", "server = \"https://registry.corp:5000\"\n"),
        ("[fd00::1]", "server = \"https://[fd00::1]\"\n"),
    ] {
        assert!(plain(host).contains(server), "{host}");
    }
    for host in [
        "localhost",
        "localhost:5000",
        "127.0.0.1:5000",
        "[::1]",
        "[::1]:5000",
    ] {
        assert!(!plain(host).contains("server"), "{host}");
    }
}

#[test]
fn without_fallback_the_cache_is_the_only_host() {
    let none = ", fallback: None";
    for (route, server) in [(Route::Cache, CACHE), (Route::Nowhere, "http://127.0.0.1:0")] {
        let file = render("quay.io", none, route, &Basis::default()).unwrap();
        let parsed: DocumentMut = file.parse().unwrap();
        assert_eq!(parsed["server"].as_str(), Some(server));
        assert!(parsed["host"].as_table().unwrap().is_empty());
    }
}

#[test]
fn directories_are_those_that_containerd_looks_into() {
    let renderer = HostsToml {
        cache: CACHE.to_owned(),
    };
    assert_eq!(renderer.places("quay.io"), ["quay.io"]);
    assert_eq!(renderer.places("a.test:5000"), ["a.test_5000_", "a.test:5000"]);
    assert_eq!(renderer.places("[::1]:5000"), ["[::1]_5000_", "[::1]:5000"]);
    // So does containerd, which cuts at the last colon.
    assert_eq!(renderer.places("[::1]"), ["[:_1]_", "[::1]"]);
}

/// Theirs, byte for byte, and ours before their first host.
#[test]
fn what_is_prepended_to_stays_as_it_is() {
    let theirs = "# Do not touch!\nserver = 'https://mirror.corp' # ours\nca = \"corp.crt\"\n\n  [host.\"https://one.corp\"]\n\
                  capabilities = ['pull']\n[host.\"https://one.corp\".header]\nx = \"[host]\"\n\n[host.\"https://two.corp\"]\n";
    let merged = render("quay.io", "", Route::Cache, &text(theirs, false)).unwrap();
    let ours = format!("[host.\"{CACHE}\"]\n{CAPABILITIES}{DIAL_TIMEOUT}\n");
    assert_eq!(merged.replacen(&ours, "", 1), format!("{NOTICE}{theirs}"));
    let (ours, one) = (merged.find(CACHE).unwrap(), merged.find("one.corp").unwrap());
    assert!(ours < one);
    // Their server stays whatever the mirror says, and where there is none it is containerd's own.
    let none = render("quay.io", ", fallback: None", Route::Cache, &text(theirs, false)).unwrap();
    assert_eq!(none, merged);
    let no_server = render(
        "quay.io",
        "",
        Route::Cache,
        &text("[host.\"https://one.corp\"]", false),
    )
    .unwrap();
    assert!(!no_server.contains("server"), "{no_server}");
    let only_server = render(
        "quay.io",
        "",
        Route::Cache,
        &text("server = 'https://a.corp'", false),
    )
    .unwrap();
    assert!(
        only_server.contains(&format!("'https://a.corp'\n[host.\"{CACHE}\"]")),
        "{only_server}"
    );
}

#[test]
fn what_leaves_no_room_is_left() {
    for theirs in [
        "server = \n",
        "host = {\"https://one.corp\" = {}}\n",
        "host.\"https://one.corp\".ca = \"x\"\n",
        "[host.\"http://127.0.0.1:5117\"]\n",
        "[[host]]\n",
    ] {
        let merged = render("quay.io", "", Route::Cache, &text(theirs, false));
        assert!(merged.is_err(), "{theirs}: {merged:?}");
    }
}

#[test]
fn paths_of_the_default_directory_keep_their_meaning() {
    let theirs = "ca = \"ca.crt\"\n[host.\"https://one.corp\"]\n\
                  client = [[\"a.cert\", \"/etc/a.key\"], \"b.pem\"] # pairs\nca = ['x.crt']\n";
    let merged: DocumentMut = render("quay.io", "", Route::Cache, &text(theirs, true))
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(merged["ca"].as_str(), Some("../_default/ca.crt"));
    let host = &merged["host"]["https://one.corp"];
    assert_eq!(host["ca"][0].as_str(), Some("../_default/x.crt"));
    assert_eq!(host["client"][0][0].as_str(), Some("../_default/a.cert"));
    assert_eq!(host["client"][0][1].as_str(), Some("/etc/a.key"));
    assert_eq!(host["client"][1].as_str(), Some("../_default/b.pem"));
}

#[test]
fn certificate_files_go_on_to_count_for_the_server() {
    let certificates = ["a.crt", "both.cert", "client.cert", "client.key"]
        .map(str::to_owned)
        .to_vec();
    let mut basis = Basis {
        certificates,
        ..Basis::default()
    };
    let merged = |basis: &Basis| -> DocumentMut {
        let merged = render("quay.io", "", Route::Cache, basis).unwrap();
        merged.parse().unwrap()
    };
    let file = merged(&basis);
    assert_eq!(file["server"].as_str(), Some("https://quay.io"));
    assert_eq!(file["ca"][0].as_str(), Some("a.crt"));
    assert_eq!(
        file["client"].to_string().trim(),
        r#"[["both.cert", "both.cert"], ["client.cert", "client.key"]]"#
    );
    assert!(file["host"][CACHE].get("ca").is_none());
    basis.is_default = true;
    assert_eq!(merged(&basis)["ca"][0].as_str(), Some("../_default/a.crt"));
}

fn hosts_of(document: &DocumentMut) -> Vec<String> {
    let hosts = document.get("host").and_then(Item::as_table);
    hosts
        .map(|hosts| hosts.iter().map(|(name, _)| name.to_owned()).collect())
        .unwrap_or_default()
}

proptest! {
    /// Whatever the configuration lets through as a host can be written and read again.
    #[test]
    fn every_host_is_written_so_that_it_can_be_read(host in "\\PC{0,20}|[a-z0-9.:\\[\\]\"\\\\'-]{1,24}") {
        // Image references cannot name a host without a dot or a port.
        if let Ok(host) = crate::config::canonical_host(&host)
            && host.contains(['.', ':'])
        {
            let parsed: DocumentMut = plain(&host).parse().unwrap();
            prop_assert_eq!(hosts_of(&parsed), [CACHE]);
            for name in (HostsToml { cache: CACHE.to_owned() }).places(&host) {
                prop_assert!(!name.contains('/') && !name.starts_with('.') && !name.is_empty());
            }
        }
    }

    /// Whatever somebody wrote: it is kept behind the cache, or it is left.
    #[test]
    fn a_merge_keeps_all_hosts_in_their_order(
        head in "(server = \"https://[a-z]{1,5}.corp\"\n|# [a-z\\[\\]]{0,9}\n|skip_verify = true\n){0,2}",
        hosts in proptest::collection::vec("[a-z]{1,4}", 0..4),
        tail in "(\n|# \\[host\\]\n|x = 1\n|\\[plain\\]\n){0,3}",
    ) {
        let tables: String = hosts.iter().map(|host| format!("[host.\"https://{host}\"]\n")).collect();
        let theirs = format!("{head}{tables}{tail}");
        let parsed = theirs.parse::<DocumentMut>();
        match render("quay.io", "", Route::Cache, &text(&theirs, false)) {
            Ok(merged) => {
                let merged: DocumentMut = merged.parse().unwrap();
                let mut expected = hosts_of(&parsed.unwrap());
                expected.insert(0, CACHE.to_owned());
                prop_assert_eq!(hosts_of(&merged), expected);
            }
            // Nothing at all is nothing to prepend to.
            Err(_) => prop_assert!(parsed.is_err(), "{}", theirs),
        }
    }
}
