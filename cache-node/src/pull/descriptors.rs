//! What verified manifests say of blobs that are not here yet: their length, and whether they are layers.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::fill::Expectation;
use crate::oci::{Digest, descriptors};
use crate::store::Manifest;

/// The most blobs remembered. When it is reached all are forgotten: manifests that are asked for teach them anew.
const EXPECTATIONS_MAX: usize = 200_000;

/// Expectations by blob.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    expectations: HashMap<Digest, Expectation>,
    learned: HashSet<Digest>,
}

impl Descriptors {
    /// Remembers what `manifest` names.
    pub(super) fn learn(&self, manifest: &Manifest) {
        if self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .learned
            .contains(&manifest.digest)
        {
            return;
        }
        let named = descriptors(&manifest.body);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.expectations.len() + named.len() > EXPECTATIONS_MAX
            || state.learned.len() >= EXPECTATIONS_MAX
        {
            *state = State::default();
        }
        state.learned.insert(manifest.digest);
        for descriptor in named.into_iter().filter(|descriptor| !descriptor.is_manifest) {
            let named = Expectation {
                length: Some(descriptor.size_bytes),
                is_layer: descriptor.is_layer,
            };
            let known = state.expectations.entry(descriptor.digest).or_insert(named);
            if known.length != named.length {
                // One of them is wrong. Anybody can write a manifest, and it must not keep others from what they have.
                known.length = None;
            }
            known.is_layer &= named.is_layer;
        }
    }

    /// What is known of the blob `digest`.
    pub(super) fn expectation(&self, digest: &Digest) -> Expectation {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.expectations.get(digest).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::{Algorithm, MediaType};

    fn manifest(layer: &Digest, size: u64) -> Manifest {
        let body = format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{layer}","size":{size}}}]}}"#);
        Manifest {
            digest: Digest::of(Algorithm::Sha256, body.as_bytes()),
            media_type: MediaType::oci_index(),
            body: body.into(),
        }
    }

    #[test]
    fn manifests_that_contradict_each_other_say_nothing() {
        let descriptors = Descriptors::default();
        let layer = Digest::of(Algorithm::Sha256, b"layer");
        for (size, length) in [(5, Some(5)), (5, Some(5)), (6, None), (5, None)] {
            descriptors.learn(&manifest(&layer, size));
            assert_eq!(descriptors.expectation(&layer).length, length);
        }
    }
}
