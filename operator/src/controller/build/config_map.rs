//! The ConfigMap: the document that the mirror's nodes load, and reload when it changes.

use k8s_openapi::api::core::v1::ConfigMap;
use larder_crds::names::CONFIG_KEY;

use super::{Validated, metadata};
use crate::cli::CacheOptions;

pub(super) fn build(
    mirror: &Validated,
    options: &CacheOptions,
) -> Result<ConfigMap, serde_saphyr::ser::Error> {
    let document = serde_saphyr::to_string(&mirror.document)?;
    Ok(ConfigMap {
        metadata: metadata(mirror, options),
        data: Some([(CONFIG_KEY.to_owned(), document)].into()),
        ..ConfigMap::default()
    })
}
