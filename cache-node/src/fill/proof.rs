//! Proving the digest beside the transfer: the hash follows the written bytes on a thread of its own and never
//! stands between a byte and its reader.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::Error;
use super::state::Fill;
use crate::oci::{Digest, DigestHasher};
use crate::store;

/// How much is hashed before looking again whether the fill is still wanted.
const STEP_BYTES_MAX: u64 = 8 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// Hashes the blob as it arrives and returns the digest of the whole of it.
pub(super) async fn hash_as_it_arrives(fill: &Fill) -> Result<Digest, Error> {
    let mut hasher = DigestHasher::new(fill.digest.algorithm());
    let mut hashed = 0;
    loop {
        let next = fill
            .wait_for(|shared| {
                let end = shared.plan.present().end_of_run(hashed);
                let is_whole = shared.plan.length() == Some(hashed);
                (is_whole || end > hashed).then_some((is_whole, end))
            })
            .await;
        let (is_whole, end) = next;
        if is_whole {
            return Ok(hasher.finish());
        }
        let (file, step) = fill.file_at(hashed..end.min(hashed + STEP_BYTES_MAX));
        let file = Arc::clone(file);
        hashed = step.end;
        let stepped = tokio::task::spawn_blocking(move || hash_range(hasher, &file, step)).await;
        hasher = stepped
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| store::Error::Io {
                action: "hash",
                path: format!("the partial of {}", fill.digest),
                source,
            })?;
        fill.shared().hashed = hashed;
        if fill.window().is_some() {
            fill.wake();
        }
    }
}

fn hash_range(
    mut hasher: DigestHasher,
    file: &File,
    range: std::ops::Range<u64>,
) -> io::Result<DigestHasher> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        let count = usize::try_from(range.end - offset)
            .unwrap_or(usize::MAX)
            .min(BUFFER_BYTES);
        let buffer = &mut buffer[..count];
        file.read_exact_at(buffer, offset)?;
        hasher.update(buffer);
        offset += count as u64;
    }
    Ok(hasher)
}
