//! From the raw document to a valid configuration, with every mistake on the way reported.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use larder_crds as raw;
use reqwest::Url;

use super::error::{Collector, quote};
use super::host::{DOCKER_HUB, DOCKER_HUB_SERVER, HostPattern, canonical_host};
use super::{Config, CredentialRule, Endpoint, Globs, Registry, TagPolicy, Tls, Trust, globs, units};

const REGISTRIES_MAX: usize = 64;
const CREDENTIALS_MAX: usize = 64;
const PATTERNS_MAX: usize = 256;
const PATTERN_BYTES_MAX: usize = 256;
const URL_BYTES_MAX: usize = 2048;
/// RFC 1123, section 2.1, as Kubernetes applies it to names of objects.
const SUBDOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
/// A blob that is verified whole delays the head of its answer, which clients await for 30 s at most.
const VERIFY_WHOLE_BYTES_MAX: u64 = 1 << 30;

const TTL_DEFAULT: Duration = Duration::from_mins(5);
const SERVE_STALE_FOR_DEFAULT: Duration = Duration::from_hours(24);
const VERIFY_WHOLE_BYTES_DEFAULT: u64 = 1 << 20;

/// Whether `name` is a DNS-1123 subdomain: then it is also safe as the name of a directory.
pub(crate) fn is_dns_subdomain(name: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= SUBDOMAIN_BYTES_MAX
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= LABEL_BYTES_MAX
                && label.bytes().all(|b| is_alphanumeric(b) || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// The configuration; `None` if something that it cannot be built without was reported.
pub(super) fn validate(
    document: &raw::RegistryMirror,
    generation: String,
    errors: &mut Collector,
) -> Option<Config> {
    let raw::RegistryMirror {
        api_version,
        kind,
        metadata,
        spec,
    } = document;
    expect_constant("apiVersion", api_version, raw::API_VERSION, errors);
    expect_constant("kind", kind, raw::KIND, errors);
    let name = object_name("metadata.name", &metadata.name, errors);
    let registries = registries(&spec.registries, errors);
    let default_registry = default_registry(spec, errors);
    let raw::Cache { verify_whole_up_to } = &spec.cache;
    let verify_whole_up_to_bytes = match verify_whole_up_to {
        None => Some(VERIFY_WHOLE_BYTES_DEFAULT),
        Some(size) => errors.check("spec.cache.verifyWholeUpTo", verify_whole_bytes(&size.0)),
    };
    Some(Config {
        name: name?,
        registries: registries?,
        verify_whole_up_to_bytes: verify_whole_up_to_bytes?,
        default_registry,
        generation,
    })
}

fn expect_constant(path: &str, value: &str, expected: &str, errors: &mut Collector) {
    if value.is_empty() {
        errors.add(path, format!("required; write {expected}"));
    } else if value != expected {
        errors.add(path, format!("must be {expected}, not {}", quote(value)));
    }
}

fn verify_whole_bytes(size: &str) -> Result<u64, String> {
    let bytes = units::parse_size(size)?;
    if bytes > VERIFY_WHOLE_BYTES_MAX {
        let most = units::format_size(VERIFY_WHOLE_BYTES_MAX);
        return Err(format!(
            "{} is too large; at most {most} is possible",
            quote(size)
        ));
    }
    Ok(bytes)
}

fn object_name(path: &str, name: &str, errors: &mut Collector) -> Option<String> {
    if name.is_empty() {
        errors.add(path, "required");
        None
    } else if !is_dns_subdomain(name) {
        let hint = "use lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit";
        errors.add(
            path,
            format!("{} is not a name of a Kubernetes object; {hint}", quote(name)),
        );
        None
    } else {
        Some(name.to_owned())
    }
}

fn is_within(path: &str, count: usize, max: usize, errors: &mut Collector) -> bool {
    if count > max {
        errors.add(path, format!("has {count} items; at most {max} are possible"));
    }
    count <= max
}

fn registries(list: &[raw::Registry], errors: &mut Collector) -> Option<Vec<Arc<Registry>>> {
    const PATH: &str = "spec.registries";
    if list.is_empty() {
        errors.add(
            PATH,
            "required; name at least one registry, such as `- host: docker.io`",
        );
        return None;
    }
    if !is_within(PATH, list.len(), REGISTRIES_MAX, errors) {
        return None;
    }
    let mut first_index: HashMap<String, usize> = HashMap::new();
    let mut registries = Vec::with_capacity(list.len());
    for (index, raw) in list.iter().enumerate() {
        let path = format!("{PATH}[{index}]");
        let host = registry_host(&path, &raw.host, errors);
        if let Some(host) = &host {
            let first = *first_index.entry(host.clone()).or_insert(index);
            if first != index {
                let message = format!("is the same registry as {PATH}[{first}] ({host}); merge the two");
                errors.add(format!("{path}.host"), message);
            }
        }
        registries.push(registry(&path, host, raw, errors).map(Arc::new));
    }
    registries.into_iter().collect()
}

fn registry_host(path: &str, host: &str, errors: &mut Collector) -> Option<String> {
    let path = format!("{path}.host");
    if host.is_empty() {
        errors.add(path, "required; the host of image references, such as docker.io");
        return None;
    }
    let host = errors.check(&path, canonical_host(host))?;
    // The rule of every client for telling a host from the first segment of a repository.
    if !host.contains(['.', ':']) && host != "localhost" {
        let message = "image references cannot name a host without a dot or a port; write host:port";
        errors.add(path, format!("{}: {message}", quote(&host)));
        return None;
    }
    Some(host)
}

fn default_registry(spec: &raw::Spec, errors: &mut Collector) -> Option<usize> {
    const PATH: &str = "spec.defaultRegistry";
    let host = errors.check(PATH, canonical_host(spec.default_registry.as_ref()?))?;
    let index = spec
        .registries
        .iter()
        .position(|r| canonical_host(&r.host).is_ok_and(|h| h == host));
    if index.is_none() {
        errors.add(
            PATH,
            format!("{} is not the host of any of spec.registries", quote(&host)),
        );
    }
    index
}

fn registry(
    path: &str,
    host: Option<String>,
    raw: &raw::Registry,
    errors: &mut Collector,
) -> Option<Registry> {
    let raw::Registry {
        host: _,
        endpoints,
        credentials,
        tls,
        trust,
        tags,
    } = raw;
    let own = raw::Endpoint {
        url: host.as_deref().map(default_url).unwrap_or_default(),
        credentials: credentials.clone(),
        tls: tls.clone(),
        trust: trust.clone(),
    };
    let tags = tag_policy(&format!("{path}.tags"), tags, errors);
    let endpoint = match endpoints.as_slice() {
        [] => {
            // Its settings are written at the registry itself.
            let url = host
                .is_some()
                .then(|| errors.check(format!("{path}.host"), base_url(&own.url)))
                .flatten();
            endpoint(path, url, &own, errors)
        }
        [explicit, rest @ ..] => {
            if !rest.is_empty() {
                let message = "only one endpoint is supported by this version; remove the others";
                errors.add(format!("{path}.endpoints"), message);
            }
            explicit_endpoint(path, explicit, own, errors)
        }
    };
    Some(Registry {
        host: host?,
        endpoint: endpoint?,
        tags: tags?,
    })
}

/// An endpoint that is written out. If it is the registry's own default one, settings of the registry apply to it.
fn explicit_endpoint(
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

fn endpoint(path: &str, url: Option<Url>, raw: &raw::Endpoint, errors: &mut Collector) -> Option<Endpoint> {
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
fn default_url(host: &str) -> String {
    let server = if host == DOCKER_HUB {
        DOCKER_HUB_SERVER
    } else {
        host
    };
    format!("https://{server}")
}

/// The messages do not repeat the URL: it may hold a password by mistake.
fn base_url(text: &str) -> Result<Url, String> {
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

fn tag_policy(path: &str, raw: &raw::Tags, errors: &mut Collector) -> Option<TagPolicy> {
    let raw::Tags {
        ttl,
        serve_stale_for,
        immutable,
    } = raw;
    let mut duration = |field: &str, text: &Option<String>, default: Duration| match text {
        None => Some(default),
        Some(text) => errors.check(format!("{path}.{field}"), units::parse_duration(text)),
    };
    let ttl = duration("ttl", ttl, TTL_DEFAULT);
    let serve_stale_for = duration("serveStaleFor", serve_stale_for, SERVE_STALE_FOR_DEFAULT);
    let immutable = glob_set(&format!("{path}.immutable"), immutable, errors);
    Some(TagPolicy {
        ttl: ttl?,
        serve_stale_for: serve_stale_for?,
        immutable: immutable?,
    })
}

fn glob_set(path: &str, patterns: &[String], errors: &mut Collector) -> Option<Globs> {
    if !is_within(path, patterns.len(), PATTERNS_MAX, errors) {
        return None;
    }
    let check = |pattern: &str| match pattern.len() {
        0 => Err("the pattern is empty".to_owned()),
        1..=PATTERN_BYTES_MAX => globs::compile(pattern)
            .map(drop)
            .map_err(|error| format!("{} is not a glob pattern: {error}", quote(pattern))),
        _ => Err(format!("the pattern is longer than {PATTERN_BYTES_MAX} bytes")),
    };
    let mut is_valid = true;
    for (index, pattern) in patterns.iter().enumerate() {
        is_valid &= errors.check(format!("{path}[{index}]"), check(pattern)).is_some();
    }
    if !is_valid {
        return None;
    }
    errors.check(path, Globs::new(patterns).map_err(|(_, message)| message))
}
