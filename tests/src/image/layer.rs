//! Layers, packed as a stream: neither a gigabyte of files nor the layer made of them is ever in memory.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::{SpooledData, SpooledTempFile};

use super::media_type;
use crate::digest::{Sha256Stream, sha256};
use crate::scripted::Content;

/// A layer of up to this size is kept in memory, a larger one in a temporary file without a name.
const IN_MEMORY_BYTES_MAX: usize = 1 << 20;

/// What a layer's tar is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// gzip, as nearly all layers are.
    Gzip,
    /// Nothing: digest and diff ID are the same.
    Tar,
}

/// A layer: a tar of files, compressed or not.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The layer as registries hold it.
    pub content: Content,
    /// Its digest.
    pub digest: String,
    /// Digest of the tar itself.
    pub diff_id: String,
    /// What the tar is wrapped in.
    pub packing: Packing,
}

/// A file to be packed; owned by root, of time 0.
pub(super) struct Entry<'a> {
    pub(super) path: &'a str,
    pub(super) mode: u32,
    pub(super) content: Content,
}

/// An empty tar as docker compresses it: 32 bytes that are in half of the world's images.
const EMPTY_GZIPPED_TAR: [u8; 32] = [
    31, 139, 8, 0, 0, 9, 110, 136, 0, 255, 98, 24, 5, 163, 96, 20, 140, 88, 0, 8, 0, 0, 255, 255, 46, 175,
    181, 239, 0, 4, 0, 0,
];

/// Length in bytes of a tar without files.
const EMPTY_TAR_BYTES: usize = 1024;

impl Layer {
    /// Docker's layer without files.
    pub fn empty() -> Self {
        let bytes = Bytes::from_static(&EMPTY_GZIPPED_TAR);
        Self {
            digest: sha256(&bytes),
            diff_id: sha256(&[0; EMPTY_TAR_BYTES]),
            content: bytes.into(),
            packing: Packing::Gzip,
        }
    }

    /// A gzipped layer with these files (path, content), all of mode 0644 and time 0.
    pub fn of_files(files: &[(&str, &[u8])]) -> Self {
        Self::of_plain(Packing::Gzip, files)
    }

    pub(super) fn of_plain(packing: Packing, files: &[(&str, &[u8])]) -> Self {
        let entries = files.iter().map(|(path, content)| Entry {
            path,
            mode: 0o644,
            content: content.to_vec().into(),
        });
        Self::pack(packing, entries)
    }

    pub(super) fn pack<'a>(packing: Packing, entries: impl IntoIterator<Item = Entry<'a>>) -> Self {
        let sink = Hashed::new(SpooledTempFile::new(IN_MEMORY_BYTES_MAX));
        let (sink, diff_id) = match packing {
            Packing::Gzip => {
                let (gzip, diff_id) = write_tar(GzEncoder::new(sink, Compression::fast()), entries);
                (gzip.finish().expect("end a layer"), Some(diff_id))
            }
            Packing::Tar => (write_tar(sink, entries).0, None),
        };
        let (file, digest) = sink.finish();
        let content = match file.into_inner() {
            SpooledData::InMemory(bytes) => bytes.into_inner().into(),
            SpooledData::OnDisk(file) => Content::of_file(file).expect("a temporary file has a length"),
        };
        Self {
            content,
            diff_id: diff_id.unwrap_or_else(|| digest.clone()),
            digest,
            packing,
        }
    }

    /// A gzipped layer of this tar.
    pub(super) fn of_tar(tar: &[u8]) -> Self {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(tar).expect("compress in memory");
        let content = Bytes::from(gzip.finish().expect("compress in memory"));
        Self {
            digest: sha256(&content),
            diff_id: sha256(tar),
            content: content.into(),
            packing: Packing::Gzip,
        }
    }

    /// The layer's media type in an image of Docker's or of OCI's types.
    pub(super) fn media_type(&self, docker: bool) -> &'static str {
        match (self.packing, docker) {
            (Packing::Gzip, false) => media_type::OCI_LAYER,
            (Packing::Gzip, true) => media_type::DOCKER_LAYER,
            (Packing::Tar, false) => media_type::OCI_LAYER_TAR,
            (Packing::Tar, true) => media_type::DOCKER_LAYER_TAR,
        }
    }
}

/// Writes a tar of `entries` to `sink`; returns it and the tar's digest.
fn write_tar<'a, W: Write>(sink: W, entries: impl IntoIterator<Item = Entry<'a>>) -> (W, String) {
    let mut tar = tar::Builder::new(Hashed::new(sink));
    for Entry { path, mode, content } in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len());
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, path, content.reader())
            .expect("append to a layer");
    }
    tar.into_inner().expect("end a layer").finish()
}

/// Passes on what is written and hashes it.
struct Hashed<W> {
    sink: W,
    hash: Sha256Stream,
}

impl<W> Hashed<W> {
    fn new(sink: W) -> Self {
        Self {
            sink,
            hash: Sha256Stream::default(),
        }
    }

    /// The sink, and the digest of all that was written to it.
    fn finish(self) -> (W, String) {
        (self.sink, self.hash.finish())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.sink.write(bytes)?;
        self.hash.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
