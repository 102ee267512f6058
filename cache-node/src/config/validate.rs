//! From the raw document to a valid configuration, with every mistake on the way reported.

mod endpoint;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use larder_crds as raw;

use super::error::{Collector, quote};
use super::host::{DOCKER_HUB, canonical_host};
use super::{Amount, CacheLimits, Config, Globs, Registry, RepositoryRules, TagPolicy, globs, units};
use endpoint::{base_url, default_url, endpoint, explicit_endpoint};

const REGISTRIES_MAX: usize = 64;
const PATTERNS_MAX: usize = 256;
const PATTERN_BYTES_MAX: usize = 256;
const PATH_BYTES_MAX: usize = 1024;
/// RFC 1123, section 2.1, as Kubernetes applies it to names of objects.
const SUBDOMAIN_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
const UID_BYTES_MAX: usize = 128;
/// A blob that is verified whole delays the head of its answer, which clients await for 30 s at most.
const VERIFY_WHOLE_BYTES_MAX: u64 = 1 << 30;

const TTL_DEFAULT: Duration = Duration::from_mins(5);
const SERVE_STALE_FOR_DEFAULT: Duration = Duration::from_hours(24);
const VERIFY_WHOLE_BYTES_DEFAULT: u64 = 1 << 20;
/// kubelet collects images at 85 % used, and evicts pods at 15 % free: the cache stays clear of both.
const MIN_FREE_DEFAULT: Amount = Amount::Percent(20);
const PINNED_MAX_DEFAULT: Amount = Amount::Percent(50);

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
    document: &raw::Document,
    generation: String,
    errors: &mut Collector,
) -> Option<Config> {
    let raw::Document {
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
    absolute_path("spec.cache.path", &spec.cache.path, errors);
    absolute_path(
        "spec.node.containerd.configPath",
        &spec.node.containerd.config_path,
        errors,
    );
    absolute_path(
        "spec.node.containerd.configDir",
        &spec.node.containerd.config_dir,
        errors,
    );
    let cache_limits = cache_limits(&spec.cache, errors);
    let verify_whole_up_to_bytes = match &spec.cache.verify_whole_up_to {
        None => Some(VERIFY_WHOLE_BYTES_DEFAULT),
        Some(size) => errors.check("spec.cache.verifyWholeUpTo", verify_whole_bytes(&size.0)),
    };
    if let Some(uid) = &metadata.uid
        && !is_uid(uid)
    {
        errors.add("metadata.uid", "is none that Kubernetes gives: leave it out");
    }
    Some(Config {
        name: name?,
        uid: metadata.uid.clone(),
        object_generation: metadata.generation,
        cache_path: spec.cache.path.clone(),
        deletion_policy: spec.cache.deletion_policy,
        node: spec.node.clone(),
        cache_limits: cache_limits?,
        registries: registries?,
        verify_whole_up_to_bytes: verify_whole_up_to_bytes?,
        default_registry,
        generation,
    })
}

/// Files on the node and reports carry it, so it is short and plain.
fn is_uid(uid: &str) -> bool {
    (1..=UID_BYTES_MAX).contains(&uid.len()) && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn expect_constant(path: &str, value: &str, expected: &str, errors: &mut Collector) {
    if value.is_empty() {
        errors.add(path, format!("required; write {expected}"));
    } else if value != expected {
        errors.add(path, format!("must be {expected}, not {}", quote(value)));
    }
}

/// On a node; mounted elsewhere, so it is not looked at here.
fn absolute_path(path: &str, directory: &str, errors: &mut Collector) {
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    if directory.len() > PATH_BYTES_MAX {
        errors.add(path, format!("is longer than {PATH_BYTES_MAX} bytes"));
    } else if !directory
        .strip_prefix('/')
        .is_some_and(|parts| parts.split('/').all(is_plain))
    {
        let hint =
            "write an absolute path without `.`, `..`, `//` or a slash at its end, such as /var/lib/larder";
        errors.add(path, format!("{} is not such a path; {hint}", quote(directory)));
    }
}

fn cache_limits(cache: &raw::Cache, errors: &mut Collector) -> Option<CacheLimits> {
    let raw::Cache {
        path: _,
        deletion_policy: _,
        capacity,
        min_free,
        pinned_max,
        verify_whole_up_to: _,
    } = cache;
    let mut amount = |field: &str, text: &Option<raw::Quantity>, may_be_zero: bool| match text {
        None => Some(None),
        Some(raw::Quantity(text)) => {
            let amount = units::parse_amount(text).and_then(|amount| match amount {
                Amount::Bytes(0) | Amount::Percent(0) if !may_be_zero => Err(format!(
                    "{} is nothing; write bytes such as 50Gi, or 1% to 100%",
                    quote(text)
                )),
                amount => Ok(amount),
            });
            errors.check(format!("spec.cache.{field}"), amount).map(Some)
        }
    };
    let capacity = amount("capacity", capacity, false);
    let min_free = amount("minFree", min_free, true);
    let pinned_max = amount("pinnedMax", pinned_max, false);
    Some(CacheLimits {
        capacity: capacity?,
        min_free: min_free?.unwrap_or(MIN_FREE_DEFAULT),
        pinned_max: pinned_max?.unwrap_or(PINNED_MAX_DEFAULT),
    })
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
        repositories,
        pins,
        tags,
        mode,
        fallback,
    } = raw;
    let own = raw::Endpoint {
        url: host.as_deref().map(default_url).unwrap_or_default(),
        credentials: credentials.clone(),
        tls: tls.clone(),
        trust: trust.clone(),
    };
    let mut repository_globs = |field: &str, patterns| {
        repository_globs(&format!("{path}.{field}"), host.as_deref(), patterns, errors)
    };
    let allow = repository_globs("repositories.allow", &repositories.allow);
    let deny = repository_globs("repositories.deny", &repositories.deny);
    let pins = repository_globs("pins", pins);
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
        repositories: RepositoryRules {
            allow: allow?,
            deny: deny?,
        },
        pins: pins?,
        tags: tags?,
        mode: *mode,
        fallback: *fallback,
    })
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

/// Globs of repositories as the endpoint of `host` names them. On Docker Hub one segment alone never matches, and a
/// `deny` that denies nothing must not go unnoticed.
fn repository_globs(
    path: &str,
    host: Option<&str>,
    patterns: &[String],
    errors: &mut Collector,
) -> Option<Globs> {
    let globs = glob_set(path, patterns, errors)?;
    let mut is_valid = true;
    for (index, pattern) in patterns.iter().enumerate() {
        if host == Some(DOCKER_HUB) && !pattern.contains('/') && pattern != "**" {
            let message = "repositories of Docker Hub have two segments; write library/alpine";
            errors.add(
                format!("{path}[{index}]"),
                format!("{} matches none: {message}", quote(pattern)),
            );
            is_valid = false;
        }
    }
    is_valid.then_some(globs)
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
