//! The definition that is checked in is the one that the types make.
#![cfg(feature = "k8s")]

use std::path::Path;

/// Set to any value, the test writes the file instead.
const REGENERATE: &str = "LARDER_REGENERATE";

#[test]
fn the_definition_is_the_types() {
    let definition = larder_crds::custom_resource_definition().unwrap();
    let yaml = format!(
        "# Generated from the types in crds/src; `make generate` writes it.\n{}",
        serde_saphyr::to_string(&definition).unwrap()
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("registrymirrors.yaml");
    if std::env::var_os(REGENERATE).is_some() {
        std::fs::write(&path, &yaml).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == yaml,
        "crds/registrymirrors.yaml is stale; `make generate` writes it anew"
    );
}
