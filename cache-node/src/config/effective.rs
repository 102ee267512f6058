//! The document that a configuration amounts to, for people to look at and for programs to read again.

use larder_crds as raw;

use super::{
    Amount, CacheLimits, Config, CredentialRule, Endpoint, HostPattern, Registry, RepositoryRules, TagPolicy,
    Tls, Trust, units,
};

/// The document with all defaults written out.
pub(super) fn to_yaml(config: &Config) -> String {
    // Strings, lists and mappings of them can always be written.
    serde_saphyr::to_string(&document(config)).unwrap_or_default()
}

fn document(config: &Config) -> raw::Document {
    raw::Document {
        api_version: raw::API_VERSION.to_owned(),
        kind: raw::KIND.to_owned(),
        metadata: raw::Metadata {
            name: config.name.clone(),
            uid: config.uid.clone(),
            generation: config.object_generation,
        },
        spec: raw::Spec {
            registries: config
                .registries
                .iter()
                .map(|registry| registry_document(registry))
                .collect(),
            default_registry: config.default_registry().map(|registry| registry.host.clone()),
            cache: cache_document(config),
            node: config.node.clone(),
        },
    }
}

fn cache_document(config: &Config) -> raw::Cache {
    let CacheLimits {
        capacity,
        min_free,
        pinned_max,
    } = config.cache_limits;
    let amount = |amount: Amount| raw::Quantity(units::format_amount(amount));
    raw::Cache {
        path: config.cache_path.clone(),
        deletion_policy: config.deletion_policy,
        capacity: capacity.map(amount),
        min_free: Some(amount(min_free)),
        pinned_max: Some(amount(pinned_max)),
        verify_whole_up_to: Some(raw::Quantity(units::format_size(config.verify_whole_up_to_bytes))),
    }
}

fn registry_document(registry: &Registry) -> raw::Registry {
    let Registry {
        host,
        endpoint,
        repositories: RepositoryRules { allow, deny },
        pins,
        tags,
        mode,
        fallback,
    } = registry;
    let TagPolicy {
        ttl,
        serve_stale_for,
        immutable,
    } = tags;
    raw::Registry {
        host: host.clone(),
        endpoints: vec![endpoint_document(endpoint)],
        repositories: raw::Repositories {
            allow: allow.patterns().to_vec(),
            deny: deny.patterns().to_vec(),
        },
        pins: pins.patterns().to_vec(),
        tags: raw::Tags {
            ttl: Some(units::format_duration(*ttl)),
            serve_stale_for: Some(units::format_duration(*serve_stale_for)),
            immutable: immutable.patterns().to_vec(),
        },
        mode: *mode,
        fallback: *fallback,
        ..raw::Registry::default()
    }
}

fn endpoint_document(endpoint: &Endpoint) -> raw::Endpoint {
    let Endpoint {
        url,
        credentials,
        tls: Tls {
            ca_bundle,
            insecure_skip_verify,
        },
        trust,
    } = endpoint;
    let Trust { realms, redirects } = trust;
    let texts = |patterns: &[HostPattern]| patterns.iter().map(ToString::to_string).collect();
    raw::Endpoint {
        url: url.as_str().trim_end_matches('/').to_owned(),
        credentials: credentials
            .iter()
            .map(
                |CredentialRule {
                     secret_name,
                     repositories,
                 }| raw::Credential {
                    secret_name: secret_name.clone(),
                    repositories: repositories.patterns().to_vec(),
                },
            )
            .collect(),
        tls: raw::Tls {
            ca_bundle: ca_bundle
                .clone()
                .map(|config_map_name| raw::CaBundle { config_map_name }),
            insecure_skip_verify: *insecure_skip_verify,
        },
        trust: raw::Trust {
            realms: texts(realms),
            redirects: texts(redirects),
        },
    }
}
