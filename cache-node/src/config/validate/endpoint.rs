//! Endpoints: their addresses, and the settings that may be written at them or at their registry.

use larder_crds as raw;
use reqwest::Url;

use super::super::error::Collector;
use super::super::host::{DOCKER_HUB, DOCKER_HUB_SERVER, HostPattern};
use super::super::{CredentialRule, Endpoint, Tls, Trust};
use super::{PATTERNS_MAX, glob_set, is_within, object_name};

const CREDENTIALS_MAX: usize = 64;
const URL_BYTES_MAX: usize = 2048;

/// An endpoint that is written out. If it is the registry's own default one, settings of the registry apply to it.
pub(super) fn explicit_endpoint(
    registry_path: &str,
    explicit: &raw::Endpoint,
    own: raw::Endpoint,
    errors: &mut Collector,
) -> Option<Endpoint> {
    let path = format!("{registry_path}.endpoints[0]");
    let url = if explicit.url.is_empty() {
        errors.add(
            format!("{path}.url"),
            "required; such as https://registry.corp:5000",
        );
        None
    } else {
        errors.check(format!("{path}.url"), base_url(&explicit.url))
    };
    let is_own = base_url(&own.url).is_ok_and(|own| url.as_ref() == Some(&own));
    let mut place = |field: &str, at_registry: bool, at_endpoint: bool| {
        let registry_field = format!("{registry_path}.{field}");
        if at_registry && at_endpoint {
            errors.add(
                registry_field,
                format!("also set at {path}.{field}; set it in one place"),
            );
        } else if at_registry && url.is_some() && !is_own {
            let message = format!("applies to the registry's own endpoint only; move it to {path}.{field}");
            errors.add(registry_field, message);
        }
        at_registry && !at_endpoint
    };
    let credentials_at_registry = place(
        "credentials",
        !own.credentials.is_empty(),
        !explicit.credentials.is_empty(),
    );
    let tls_at_registry = place(
        "tls",
        own.tls != raw::Tls::default(),
        explicit.tls != raw::Tls::default(),
    );
    let trust_at_registry = place(
        "trust",
        own.trust != raw::Trust::default(),
        explicit.trust != raw::Trust::default(),
    );

    let pick = |at_registry: bool| if at_registry { registry_path } else { path.as_str() };
    let credentials = if credentials_at_registry {
        &own.credentials
    } else {
        &explicit.credentials
    };
    let tls = if tls_at_registry { &own.tls } else { &explicit.tls };
    let trust = if trust_at_registry {
        &own.trust
    } else {
        &explicit.trust
    };
    let credentials = credential_rules(pick(credentials_at_registry), credentials, errors);
    let tls = tls_settings(pick(tls_at_registry), tls, errors);
    let trust = trust_settings(pick(trust_at_registry), trust, errors);
    Some(Endpoint {
        url: url?,
        credentials: credentials?,
        tls: tls?,
        trust: trust?,
    })
}

/// An endpoint with the address `url`, whose settings are written at `path`.
pub(super) fn endpoint(
    path: &str,
    url: Option<Url>,
    raw: &raw::Endpoint,
    errors: &mut Collector,
) -> Option<Endpoint> {
    let raw::Endpoint {
        url: _,
        credentials,
        tls,
        trust,
    } = raw;
    let credentials = credential_rules(path, credentials, errors);
    let tls = tls_settings(path, tls, errors);
    let trust = trust_settings(path, trust, errors);
    Some(Endpoint {
        url: url?,
        credentials: credentials?,
        tls: tls?,
        trust: trust?,
    })
}

/// Every registry but Docker Hub answers under its own name.
pub(super) fn default_url(host: &str) -> String {
    let server = if host == DOCKER_HUB {
        DOCKER_HUB_SERVER
    } else {
        host
    };
    format!("https://{server}")
}

/// The messages do not repeat the URL: it may hold a password by mistake.
pub(super) fn base_url(text: &str) -> Result<Url, String> {
    if text.len() > URL_BYTES_MAX {
        return Err(format!("the URL is longer than {URL_BYTES_MAX} bytes"));
    }
    let mut url = Url::parse(text)
        .map_err(|error| format!("not a URL ({error}); write it like https://registry.corp:5000"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the URL must begin with http:// or https://".to_owned());
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("the URL has no host".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the URL must not hold a user or password; put them into a Secret and name it in credentials"
                .to_owned(),
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the URL must not have a query or fragment".to_owned());
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if path.ends_with("/v2") {
        return Err("the URL must not end with /v2, which is added to it".to_owned());
    }
    url.set_path(&path);
    Ok(url)
}

fn credential_rules(
    path: &str,
    list: &[raw::Credential],
    errors: &mut Collector,
) -> Option<Vec<CredentialRule>> {
    let path = format!("{path}.credentials");
    if !is_within(&path, list.len(), CREDENTIALS_MAX, errors) {
        return None;
    }
    let rules: Vec<_> = list
        .iter()
        .enumerate()
        .map(
            |(
                index,
                raw::Credential {
                    secret_name,
                    repositories,
                },
            )| {
                let path = format!("{path}[{index}]");
                let secret_name = object_name(&format!("{path}.secretName"), secret_name, errors);
                let repositories_path = format!("{path}.repositories");
                if repositories.is_empty() {
                    let message =
                        "required; every pod on the node may pull these, so name them, such as [\"acme/*\"]";
                    errors.add(&repositories_path, message);
                }
                let repositories = glob_set(&repositories_path, repositories, errors);
                Some(CredentialRule {
                    secret_name: secret_name?,
                    repositories: repositories?,
                })
            },
        )
        .collect();
    rules.into_iter().collect()
}

fn tls_settings(path: &str, raw: &raw::Tls, errors: &mut Collector) -> Option<Tls> {
    let raw::Tls {
        ca_bundle,
        insecure_skip_verify,
    } = raw;
    let ca_bundle = match ca_bundle {
        None => None,
        Some(raw::CaBundle { config_map_name }) => {
            let path = format!("{path}.tls.caBundle.configMapName");
            Some(object_name(&path, config_map_name, errors)?)
        }
    };
    Some(Tls {
        ca_bundle,
        insecure_skip_verify: *insecure_skip_verify,
    })
}

fn trust_settings(path: &str, raw: &raw::Trust, errors: &mut Collector) -> Option<Trust> {
    let raw::Trust { realms, redirects } = raw;
    let realms = host_patterns(&format!("{path}.trust.realms"), realms, errors);
    let redirects = host_patterns(&format!("{path}.trust.redirects"), redirects, errors);
    Some(Trust {
        realms: realms?,
        redirects: redirects?,
    })
}

fn host_patterns(path: &str, list: &[String], errors: &mut Collector) -> Option<Vec<HostPattern>> {
    if !is_within(path, list.len(), PATTERNS_MAX, errors) {
        return None;
    }
    let patterns: Vec<_> = list
        .iter()
        .enumerate()
        .map(|(index, text)| errors.check(format!("{path}[{index}]"), text.parse()))
        .collect();
    patterns.into_iter().collect()
}
