//! What must hold of every store at rest, whatever it has been through.

use std::os::unix::fs::FileExt as _;

use super::*;

/// All that the blob has.
pub(super) fn read(blob: &Blob) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(blob.length).unwrap()];
    blob.file.read_exact_at(&mut content, 0).unwrap();
    content
}

/// Everything listed is what its digest says; and what is on the disk is what is counted: no more, no less.
pub(super) fn audit(root: &Path, store: &Store) {
    for object in store.objects() {
        let blob = store.blob(&object.digest).unwrap();
        assert_eq!(Digest::of(object.digest.algorithm(), &read(&blob)), object.digest);
    }
    audit_accounts(root, store);
}

/// What is on the disk is what is counted.
pub(super) fn audit_accounts(root: &Path, store: &Store) {
    let usage = store.usage();
    let listed: u64 = usage.counts.values().map(|count| count.stored_bytes).sum();
    let blobs = below(&root.join("blobs"));
    let records = below(&root.join("manifests"));
    let on_disk: u64 = blobs.iter().map(|(_, bytes)| bytes).sum();
    let record_bytes = records.len() as u64 * usage.space.block_bytes;
    assert_eq!(
        (blobs.len(), on_disk + record_bytes),
        (store.objects().len(), listed),
        "{blobs:?} {records:?}"
    );
    let partials = below(&root.join("partials"));
    let (data, journals): (Vec<_>, Vec<_>) = partials.iter().partition(|(path, _)| path.ends_with(".data"));
    assert_eq!(data.len(), journals.len(), "{partials:?}");
    let partial_bytes: u64 = partials.iter().map(|(_, bytes)| bytes).sum();
    let idle = usage.partials;
    assert_eq!(
        (idle.objects, idle.stored_bytes),
        (data.len() as u64, partial_bytes),
        "{partials:?}"
    );
    assert_eq!(below(&root.join("tmp")), []);
    assert_eq!(usage.reserved_bytes, 0);
}

/// Every file with what it takes.
fn below(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, metadata) = entry.map(|entry| (entry.path(), entry.metadata())).unwrap();
        let metadata = metadata.unwrap();
        if metadata.is_dir() {
            found.extend(below(&path));
        } else {
            found.push((path.display().to_string(), allocated_bytes(&metadata)));
        }
    }
    found
}
