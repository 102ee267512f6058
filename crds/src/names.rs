//! Names that several programs must agree on: of objects, labels, mount paths.

/// The API group of Larder's resources, and the prefix of its labels, annotations and finalizers.
pub const GROUP: &str = "larder.dev";

/// The field manager of everything that the operator applies, and the user agent of its requests.
pub const FIELD_MANAGER: &str = "larder-operator";
/// Keeps a mirror until its nodes are as they were found.
pub const FINALIZER: &str = "larder.dev/withdraw";
/// Label of everything that belongs to a mirror; its value is the mirror's name.
pub const MIRROR_LABEL: &str = "larder.dev/mirror";
/// Label of the programs' kind: `cache-node` or `operator`.
pub const COMPONENT_LABEL: &str = "app.kubernetes.io/component";
/// Value of [`COMPONENT_LABEL`] for pods of cache nodes.
pub const CACHE_NODE_COMPONENT: &str = "cache-node";
/// Prefix of the names of a mirror's ConfigMap, DaemonSet, ServiceAccount and Service.
pub const OBJECT_PREFIX: &str = "larder-mirror-";
/// The longest name of a mirror, so that every name made from it stays a DNS label and a label's value.
pub const MIRROR_NAME_BYTES_MAX: usize = 40;

/// The container that serves pulls.
pub const CACHE_CONTAINER: &str = "cache";
/// The container that writes the runtime's configuration.
pub const NODE_CONFIG_CONTAINER: &str = "node-config";
/// The init container that prepares the cache directory.
pub const PREPARE_CONTAINER: &str = "prepare";
/// The name of the port of [`CACHE_CONTAINER`] that answers metrics and `/conditions` on the node's own address.
pub const METRICS_PORT: &str = "metrics";
/// The user and group of the container that serves pulls, as in the image.
pub const CACHE_UID: i64 = 65532;

/// Where the mirror's ConfigMap is mounted.
pub const CONFIG_MOUNT: &str = "/etc/larder/mirror";
/// The key of the ConfigMap that holds the document.
pub const CONFIG_KEY: &str = "mirror.yaml";
/// Where Secrets and CA bundles are mounted: each is a directory with its keys as files.
pub const CREDENTIALS_MOUNT: &str = "/etc/larder/credentials";
/// Where the cache directory of the node is mounted.
pub const CACHE_MOUNT: &str = "/var/lib/larder";
/// The directory within it that holds the content. Larder makes and removes it, so that the one around it, which may be
/// there before and may hold other things, stays as it is.
pub const CACHE_DIR: &str = "/var/lib/larder/store";
/// Where the pod's own emptyDir is mounted: the identity key of `serve` and the state of `node-config`.
pub const STATE_MOUNT: &str = "/run/larder";
/// Where the node's `certs.d` is mounted.
pub const CERTS_MOUNT: &str = "/host/certs.d";
/// Where the node's containerd configuration is mounted, read-only.
pub const CONTAINERD_MOUNT: &str = "/host/containerd";
/// Where the ConfigMap with the cluster-wide certificate authorities is mounted.
pub const CA_MOUNT: &str = "/etc/larder/ca";
/// The key of certificate authorities in any ConfigMap.
pub const CA_KEY: &str = "ca.crt";
