//! The headless Service: by it Prometheus finds the nodes' metrics. Pulls never go through it.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use larder_crds::names::METRICS_PORT;

use super::{Validated, metadata, selector};
use crate::cli::CacheOptions;

pub(super) fn build(mirror: &Validated, options: &CacheOptions) -> Service {
    let port = ServicePort {
        name: Some(METRICS_PORT.to_owned()),
        port: mirror.document.spec.node.metrics_port,
        target_port: Some(IntOrString::String(METRICS_PORT.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        selector: Some(selector(mirror)),
        ports: Some(vec![port]),
        // What is not ready is worth looking at most.
        publish_not_ready_addresses: Some(true),
        ..ServiceSpec::default()
    };
    Service {
        metadata: metadata(mirror, options),
        spec: Some(spec),
        ..Service::default()
    }
}
