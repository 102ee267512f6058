//! The volumes: the document, the node's directories, and all Secrets and certificate authorities that the mirror names.
//!
//! The operator only names Secrets; kubelet brings them. All are optional, so that a missing one keeps no pod from
//! starting and takes effect once it is there.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, EmptyDirVolumeSource, HostPathVolumeSource, KeyToPath,
    ProjectedVolumeSource, SecretProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use larder_crds::names::{
    CA_KEY, CA_MOUNT, CACHE_MOUNT, CERTS_MOUNT, CONFIG_KEY, CONFIG_MOUNT, CONTAINERD_MOUNT,
    CREDENTIALS_MOUNT, STATE_MOUNT,
};
use larder_crds::{Credential, DeletionPolicy, Spec, Tls};

use super::{Purpose, Validated, object_name};
use crate::cli::CacheOptions;

/// The keys of Secrets that caches read.
const SECRET_KEYS: [&str; 4] = [".dockerconfigjson", "username", "password", "token"];
/// Readable for the cache, through the pod's group.
const CREDENTIALS_MODE: i32 = 0o440;
/// A key and a state file of a few KiB.
const STATE_SIZE: &str = "1Mi";

const CA: &str = "ca";
const CACHE: &str = "cache";
const CERTS: &str = "certs-d";
const CONFIG: &str = "config";
const CONTAINERD: &str = "containerd";
const CREDENTIALS: &str = "credentials";
const STATE: &str = "state";

pub(super) fn all(mirror: &Validated, purpose: Purpose, options: &CacheOptions) -> Vec<Volume> {
    let spec = &mirror.document.spec;
    let containerd = &spec.node.containerd;
    let serves = purpose == Purpose::Serve;
    let mut volumes = vec![
        config(mirror),
        state(),
        host_path(CERTS, &containerd.config_path),
        host_path(CONTAINERD, &containerd.config_dir),
    ];
    if serves || spec.cache.deletion_policy == DeletionPolicy::Delete {
        volumes.push(host_path(CACHE, &spec.cache.path));
    }
    if serves {
        volumes.extend(credentials(spec));
        volumes.extend(options.ca_bundle_config_map.as_deref().map(ca_bundle));
    }
    volumes
}

/// Where the container that serves pulls sees them.
pub(super) fn cache_mounts(mirror: &Validated, options: &CacheOptions) -> Vec<VolumeMount> {
    let mut mounts = vec![
        read_only(CONFIG, CONFIG_MOUNT),
        mount(STATE, STATE_MOUNT),
        mount(CACHE, CACHE_MOUNT),
    ];
    if credentials(&mirror.document.spec).is_some() {
        mounts.push(read_only(CREDENTIALS, CREDENTIALS_MOUNT));
    }
    if options.ca_bundle_config_map.is_some() {
        mounts.push(read_only(CA, CA_MOUNT));
    }
    mounts
}

/// Where the container that writes the runtime's configuration sees them; no other sees that.
pub(super) fn node_config_mounts() -> Vec<VolumeMount> {
    vec![
        read_only(CONFIG, CONFIG_MOUNT),
        mount(STATE, STATE_MOUNT),
        mount(CERTS, CERTS_MOUNT),
        read_only(CONTAINERD, CONTAINERD_MOUNT),
    ]
}

/// For those that only care for the cache directory.
pub(super) fn cache_dir_mount() -> Vec<VolumeMount> {
    vec![mount(CACHE, CACHE_MOUNT)]
}

fn config(mirror: &Validated) -> Volume {
    let source = ConfigMapVolumeSource {
        name: object_name(&mirror.document.metadata.name),
        items: Some(vec![item(CONFIG_KEY, CONFIG_KEY.to_owned())]),
        ..ConfigMapVolumeSource::default()
    };
    Volume {
        name: CONFIG.to_owned(),
        config_map: Some(source),
        ..Volume::default()
    }
}

/// In memory, since it holds a key.
fn state() -> Volume {
    let source = EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        size_limit: Some(Quantity(STATE_SIZE.to_owned())),
    };
    Volume {
        name: STATE.to_owned(),
        empty_dir: Some(source),
        ..Volume::default()
    }
}

fn host_path(name: &str, path: &str) -> Volume {
    let source = HostPathVolumeSource {
        path: path.to_owned(),
        type_: Some("DirectoryOrCreate".to_owned()),
    };
    Volume {
        name: name.to_owned(),
        host_path: Some(source),
        ..Volume::default()
    }
}

fn ca_bundle(config_map: &str) -> Volume {
    let source = ConfigMapVolumeSource {
        name: config_map.to_owned(),
        items: Some(vec![item(CA_KEY, CA_KEY.to_owned())]),
        optional: Some(true),
        ..ConfigMapVolumeSource::default()
    };
    Volume {
        name: CA.to_owned(),
        config_map: Some(source),
        ..Volume::default()
    }
}

/// One volume for all, in an order that depends on nothing but the names.
fn credentials(spec: &Spec) -> Option<Volume> {
    let mut secrets = BTreeSet::new();
    let mut config_maps = BTreeSet::new();
    let mut note = |credentials: &[Credential], tls: &Tls| {
        secrets.extend(
            credentials
                .iter()
                .map(|credential| credential.secret_name.clone()),
        );
        config_maps.extend(tls.ca_bundle.iter().map(|bundle| bundle.config_map_name.clone()));
    };
    for registry in &spec.registries {
        note(&registry.credentials, &registry.tls);
        for endpoint in &registry.endpoints {
            note(&endpoint.credentials, &endpoint.tls);
        }
    }
    let sources: Vec<_> = secrets
        .into_iter()
        .map(secret)
        .chain(config_maps.into_iter().map(config_map))
        .collect();
    let source = ProjectedVolumeSource {
        default_mode: Some(CREDENTIALS_MODE),
        sources: Some(sources),
    };
    let is_needed = source.sources.as_ref().is_some_and(|sources| !sources.is_empty());
    is_needed.then(|| Volume {
        name: CREDENTIALS.to_owned(),
        projected: Some(source),
        ..Volume::default()
    })
}

fn secret(name: String) -> VolumeProjection {
    let items = SECRET_KEYS.map(|key| item(key, format!("{name}/{key}")));
    let secret = SecretProjection {
        name,
        items: Some(items.to_vec()),
        optional: Some(true),
    };
    VolumeProjection {
        secret: Some(secret),
        ..VolumeProjection::default()
    }
}

fn config_map(name: String) -> VolumeProjection {
    let items = vec![item(CA_KEY, format!("{name}/{CA_KEY}"))];
    let config_map = ConfigMapProjection {
        name,
        items: Some(items),
        optional: Some(true),
    };
    VolumeProjection {
        config_map: Some(config_map),
        ..VolumeProjection::default()
    }
}

fn item(key: &str, path: String) -> KeyToPath {
    KeyToPath {
        key: key.to_owned(),
        path,
        mode: None,
    }
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        ..VolumeMount::default()
    }
}

fn read_only(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        read_only: Some(true),
        ..mount(name, path)
    }
}
