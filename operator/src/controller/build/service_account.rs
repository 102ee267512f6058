//! The ServiceAccount: a name for policies and for a cloud's own token service; it is bound to no role, and no token of it
//! is mounted.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{Validated, metadata};
use crate::cli::CacheOptions;

pub(super) fn build(mirror: &Validated, options: &CacheOptions) -> ServiceAccount {
    let annotations = &mirror.document.spec.node.service_account_annotations;
    let mut metadata = metadata(mirror, options);
    metadata.annotations = (!annotations.is_empty()).then(|| annotations.clone());
    ServiceAccount {
        metadata,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
