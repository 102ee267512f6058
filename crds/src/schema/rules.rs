//! What the types cannot say of a field: bounds, patterns, rules. They are cache-node's own, as far as a schema can
//! state them, so that `kubectl apply` refuses what a node would.

use serde_json::{Value, json};

use super::cel;
use crate::names::MIRROR_NAME_BYTES_MAX;

const REGISTRIES_MAX: usize = 64;
const ENDPOINTS_MAX: usize = 1;
const CREDENTIALS_MAX: usize = 64;
const PATTERNS_MAX: usize = 256;
const PATTERN_BYTES_MAX: usize = 256;
/// Of a host: 253 bytes of name, a colon and five digits.
const HOST_BYTES_MAX: usize = 259;
const OBJECT_NAME_BYTES_MAX: usize = 253;
const URL_BYTES_MAX: usize = 2048;
const PATH_BYTES_MAX: usize = 1024;
const DURATION_BYTES_MAX: usize = 32;
const LABELS_MAX: usize = 64;
const TOLERATIONS_MAX: usize = 64;

const HOST: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$";
const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const MIRROR_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const DURATION: &str = r"^([0-9]+(h|m|s|ms))+$";
const ABSOLUTE_PATH: &str = r"^(/[^/]+)+$";
const URL: &str = r"^https?://[^/?#@]+(/[^?#]*)?$";

/// Where each addition to the schema belongs, and what it is.
pub(super) fn additions() -> Vec<(&'static str, Value)> {
    let mut all = of_the_object();
    all.extend(of_registries());
    all.extend(of_repositories());
    all.extend(of_endpoints("spec.registries[]"));
    all.extend(of_endpoints("spec.registries[].endpoints[]"));
    all.extend(of_the_cache());
    all.extend(of_nodes());
    all
}

fn of_the_object() -> Vec<(&'static str, Value)> {
    let name = format!(
        "self.metadata.name.size() <= {MIRROR_NAME_BYTES_MAX} && self.metadata.name.matches('{MIRROR_NAME}')"
    );
    let of_name = format!(
        "the name must be a DNS label of at most {MIRROR_NAME_BYTES_MAX} characters: objects and labels are named after it"
    );
    let default = "!has(self.defaultRegistry) || self.registries.exists(registry, registry.host == self.defaultRegistry)";
    vec![
        ("", json!({"x-kubernetes-validations": [cel(&name, &of_name)]})),
        (
            "spec",
            json!({
                "required": ["registries"],
                "x-kubernetes-validations": [cel(default, "defaultRegistry must be the host of one of registries")],
            }),
        ),
        (
            "spec.defaultRegistry",
            json!({"minLength": 1, "maxLength": HOST_BYTES_MAX}),
        ),
    ]
}

fn of_registries() -> Vec<(&'static str, Value)> {
    let alias = "!(self in ['registry-1.docker.io', 'index.docker.io', 'registry-1.docker.io:443', 'index.docker.io:443'])";
    let is_host = "self.contains('.') || self.contains(':') || self == 'localhost'";
    // A credential, a CA bundle or trust of a registry is that of its own endpoint; where another one is written out,
    // it would silently not apply.
    let placed = "!has(self.endpoints) || self.endpoints.size() == 0 || !(has(self.credentials) || has(self.tls) || has(self.trust))";
    let of_hub = hub_patterns();
    vec![
        (
            "spec.registries",
            json!({
                "minItems": 1,
                "maxItems": REGISTRIES_MAX,
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["host"],
            }),
        ),
        (
            "spec.registries[]",
            json!({
                "required": ["host"],
                "x-kubernetes-validations": [
                    cel(placed, "with endpoints, write credentials, tls and trust at the endpoint that they are for"),
                    cel(&of_hub, "repositories of Docker Hub have two segments: write library/alpine"),
                ],
            }),
        ),
        (
            "spec.registries[].host",
            json!({
                "minLength": 1,
                "maxLength": HOST_BYTES_MAX,
                "pattern": HOST,
                "x-kubernetes-validations": [
                    cel(alias, "write docker.io: image references name Docker Hub so"),
                    cel(is_host, "image references cannot name a host without a dot or a port; write host:port"),
                ],
            }),
        ),
        ("spec.registries[].endpoints", json!({"maxItems": ENDPOINTS_MAX})),
        ("spec.registries[].endpoints[]", json!({"required": ["url"]})),
        (
            "spec.registries[].endpoints[].url",
            json!({"minLength": 1, "maxLength": URL_BYTES_MAX, "pattern": URL, "x-kubernetes-validations": [
                cel("!self.endsWith('/v2') && !self.endsWith('/v2/')", "the URL must not end with /v2, which is added to it"),
            ]}),
        ),
        ("spec.registries[].tags.ttl", duration()),
        ("spec.registries[].tags.serveStaleFor", duration()),
        (
            "spec.registries[].tags.immutable",
            json!({"maxItems": PATTERNS_MAX}),
        ),
        ("spec.registries[].tags.immutable[]", pattern()),
    ]
}

/// On Docker Hub a pattern of one segment, unless that is `**`, matches nothing, so a `deny` of it would deny nothing.
fn hub_patterns() -> String {
    let fits = |list: &str| format!("{list}.all(pattern, pattern.contains('/') || pattern == '**')");
    let within = |field: &str| {
        format!(
            "(!has(self.repositories.{field}) || {})",
            fits(&format!("self.repositories.{field}"))
        )
    };
    format!(
        "self.host != 'docker.io' || (!has(self.pins) || {}) && (!has(self.repositories) || {} && {})",
        fits("self.pins"),
        within("allow"),
        within("deny")
    )
}

fn of_repositories() -> Vec<(&'static str, Value)> {
    let patterns = || json!({"maxItems": PATTERNS_MAX});
    vec![
        ("spec.registries[].repositories.allow", patterns()),
        ("spec.registries[].repositories.allow[]", pattern()),
        ("spec.registries[].repositories.deny", patterns()),
        ("spec.registries[].repositories.deny[]", pattern()),
        ("spec.registries[].pins", patterns()),
        ("spec.registries[].pins[]", pattern()),
    ]
}

fn of_endpoints(holder: &'static str) -> Vec<(&'static str, Value)> {
    // Leaked once per process and field: paths are few, and everything else here is static.
    let at = |field: &str| -> &'static str { format!("{holder}.{field}").leak() };
    let name = json!({"minLength": 1, "maxLength": OBJECT_NAME_BYTES_MAX, "pattern": OBJECT_NAME});
    let hosts = json!({"maxItems": PATTERNS_MAX});
    vec![
        (at("credentials"), json!({"maxItems": CREDENTIALS_MAX})),
        (
            at("credentials[]"),
            json!({"required": ["secretName", "repositories"]}),
        ),
        (at("credentials[].secretName"), name.clone()),
        (
            at("credentials[].repositories"),
            json!({"minItems": 1, "maxItems": PATTERNS_MAX}),
        ),
        (at("credentials[].repositories[]"), pattern()),
        (at("tls.caBundle"), json!({"required": ["configMapName"]})),
        (at("tls.caBundle.configMapName"), name),
        (at("trust.realms"), hosts.clone()),
        (
            at("trust.realms[]"),
            json!({"minLength": 1, "maxLength": HOST_BYTES_MAX}),
        ),
        (at("trust.redirects"), hosts),
        (
            at("trust.redirects[]"),
            json!({"minLength": 1, "maxLength": HOST_BYTES_MAX}),
        ),
    ]
}

fn of_the_cache() -> Vec<(&'static str, Value)> {
    // What cache-node reads: Kubernetes would also take 100m and 1e3.
    let parses =
        r"type(self) == int ? self >= 0 : self.matches('^[0-9]+([.][0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$')";
    let at_most = "type(self) == int ? self <= 1073741824 : !isQuantity(self) || !quantity(self).isGreaterThan(quantity('1Gi'))";
    vec![
        ("spec.cache", json!({"default": {}})),
        ("spec.cache.path", absolute_path()),
        ("spec.cache.capacity", amount(1)),
        ("spec.cache.minFree", amount(0)),
        ("spec.cache.pinnedMax", amount(1)),
        (
            "spec.cache.verifyWholeUpTo",
            json!({"x-kubernetes-validations": [
                cel(parses, "write a whole number of bytes, alone or with a suffix, such as 1Mi"),
                cel(at_most, "at most 1Gi is possible"),
            ]}),
        ),
    ]
}

fn of_nodes() -> Vec<(&'static str, Value)> {
    let ports =
        "self.port != self.adminPort && self.port != self.metricsPort && self.adminPort != self.metricsPort";
    let surge = "!has(self.rollingUpdate) || !has(self.rollingUpdate.maxSurge)";
    let port = |default: i32| json!({"minimum": 1, "maximum": 65535, "default": default});
    let labels = json!({"maxProperties": LABELS_MAX});
    vec![
        (
            "spec.node",
            json!({
                // Its rule judges the default too, before those of its fields are filled in.
                "default": {"port": 5117, "adminPort": 5118, "metricsPort": 5119},
                "x-kubernetes-validations": [cel(ports, "port, adminPort and metricsPort must differ")],
            }),
        ),
        ("spec.node.port", port(5117)),
        ("spec.node.adminPort", port(5118)),
        ("spec.node.metricsPort", port(5119)),
        ("spec.node.nodeSelector", labels.clone()),
        ("spec.node.tolerations", json!({"maxItems": TOLERATIONS_MAX})),
        (
            "spec.node.updateStrategy",
            json!({"x-kubernetes-validations": [
                cel(surge, "maxSurge is not possible: two pods cannot have the same port of a node"),
            ]}),
        ),
        ("spec.node.podLabels", labels.clone()),
        ("spec.node.podAnnotations", labels.clone()),
        ("spec.node.serviceAccountAnnotations", labels),
        ("spec.node.containerd", json!({"default": {}})),
        ("spec.node.containerd.configPath", absolute_path()),
        ("spec.node.containerd.configDir", absolute_path()),
    ]
}

/// Bytes or a percentage, of `least` at least: 0 or 1.
fn amount(least: u8) -> Value {
    let parses = format!(
        "type(self) == int ? self >= {least} : \
         self.matches('^([0-9]+([.][0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?|0*(100|[1-9]?[0-9])%)$'){}",
        if least > 0 {
            " && self.matches('[1-9]')"
        } else {
            ""
        }
    );
    let message = format!("write bytes such as 50Gi, or {least}% to 100%");
    json!({"x-kubernetes-validations": [cel(&parses, &message)]})
}

fn duration() -> Value {
    json!({"minLength": 2, "maxLength": DURATION_BYTES_MAX, "pattern": DURATION})
}

fn pattern() -> Value {
    json!({"minLength": 1, "maxLength": PATTERN_BYTES_MAX})
}

fn absolute_path() -> Value {
    let is_plain = "!self.split('/').exists(part, part in ['.', '..'])";
    json!({
        "minLength": 2,
        "maxLength": PATH_BYTES_MAX,
        "pattern": ABSOLUTE_PATH,
        "x-kubernetes-validations": [cel(is_plain, "the path must not hold `.` or `..`")],
    })
}
