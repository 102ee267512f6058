//! From the store to a tar of an OCI image layout: complete images only, hashed once more on their way out.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;

use super::catalog::full_name;
use super::image_layout::{self, Image, ImageName};
use super::member::Member;
use super::selection::Filter;
use super::{Error, Event, INDEX_DEPTH_MAX, Output, Tools};
use crate::oci::{Digest, DigestHasher, descriptors};
use crate::store::{Blob, Finding, Store};
use crate::tags::{Entry, Key, Name};

/// Of every file in a tar.
const FILE_MODE: u32 = 0o644;

/// All that is exported, before any of it is.
#[derive(Default)]
struct Plan {
    images: Vec<Image>,
    /// In the order in which they are written.
    objects: Vec<Digest>,
    planned: HashSet<Digest>,
}

impl Tools {
    pub(super) fn export(&self, filter: &Filter, output: &mut dyn Output) -> Result<(), Error> {
        let catalog = self.catalog();
        let mut plan = Plan::default();
        for (key, entry) in catalog.select_names(filter) {
            if let Name::Tag(tag) = &key.name {
                let name = ImageName {
                    registry: key.registry.clone(),
                    repository: key.repository.clone(),
                    tag: Some(tag.clone()),
                };
                self.plan(&mut plan, name, key, entry, output)?;
            }
        }
        if plan.images.is_empty() {
            return Err(Error::Selection(
                "no image that is here as a whole is selected".to_owned(),
            ));
        }
        let mut tar = tar::Builder::new(Bytes {
            output,
            is_cut: false,
        });
        let index = image_layout::render(&plan.images).map_err(io::Error::from)?;
        append(
            &mut tar,
            Member::Layout,
            image_layout::LAYOUT.len() as u64,
            image_layout::LAYOUT,
        )?;
        append(&mut tar, Member::Index, index.len() as u64, &index[..])?;
        for digest in &plan.objects {
            let written = self.write_out(&mut tar, digest);
            // Dropped, the builder would end the archive as if it were whole.
            tar.get_mut().is_cut = written.is_err();
            written?;
        }
        tar.into_inner()?;
        Ok(())
    }

    /// Plans an image, or as much of an index as is here.
    fn plan(
        &self,
        plan: &mut Plan,
        name: ImageName,
        key: &Key,
        entry: &Entry,
        output: &mut dyn Output,
    ) -> Result<(), Error> {
        let mut search = Search {
            store: &self.store,
            seen: HashSet::new(),
            missing: Vec::new(),
        };
        let objects = search.complete(&entry.digest, 0);
        let missing = search.missing.iter().map(Digest::to_string).collect();
        let (Some(objects), Some(manifest)) = (objects, self.store.peek_manifest(&entry.digest)) else {
            let name = full_name(key);
            return Ok(output.event(Event::LeftOut { name, missing })?);
        };
        output.event(Event::Exported {
            name: full_name(key),
            digest: entry.digest.to_string(),
            missing,
        })?;
        plan.images.push(Image {
            media_type: manifest.media_type,
            digest: entry.digest,
            size: manifest.body.len() as u64,
            is_public: self.rights.is_public(&entry.digest),
            name: Some(name),
            checked_at: Some(entry.checked_at),
        });
        for digest in objects {
            if plan.planned.insert(digest) {
                plan.objects.push(digest);
            }
        }
        Ok(())
    }

    fn write_out(&self, tar: &mut tar::Builder<Bytes<'_>>, digest: &Digest) -> Result<(), Error> {
        let Some(blob) = self.store.blob(digest) else {
            return Err(Error::Gone(*digest));
        };
        let mut content = Hashed::new(&blob, digest);
        let appended = append(tar, Member::Blob(*digest), blob.length, &mut content);
        if content.has_failed || (appended.is_ok() && content.hasher.finish() != *digest) {
            let finding = if content.has_failed {
                Finding::Unreadable
            } else {
                Finding::Mismatch
            };
            self.store.condemn(digest, &blob.lease, finding);
            return Err(Error::Condemned(*digest));
        }
        appended
    }
}

/// Finds what an image needs.
struct Search<'a> {
    store: &'a Store,
    seen: HashSet<Digest>,
    missing: Vec<Digest>,
}

impl Search<'_> {
    /// `root` and all that it needs, none of which is missing. Of an index those manifests are enough that are here as
    /// a whole, one at least.
    fn complete(&mut self, root: &Digest, depth: usize) -> Option<Vec<Digest>> {
        if !self.seen.insert(*root) || depth > INDEX_DEPTH_MAX {
            return None;
        }
        let Some(manifest) = self.store.peek_manifest(root) else {
            self.missing.push(*root);
            return None;
        };
        let named = descriptors(&manifest.body);
        let is_index = named.iter().any(|named| named.is_manifest);
        let (mut objects, mut is_whole) = (vec![*root], true);
        for named in &named {
            if named.is_manifest {
                let child = self.complete(&named.digest, depth + 1);
                objects.extend(child.into_iter().flatten());
            } else if self.store.contains(&named.digest) {
                objects.push(named.digest);
            } else {
                self.missing.push(named.digest);
                is_whole = false;
            }
        }
        is_whole &= !is_index || objects.len() > 1;
        (is_whole && manifest.media_type.is_manifest()).then_some(objects)
    }
}

fn append(
    tar: &mut tar::Builder<Bytes<'_>>,
    member: Member,
    length: u64,
    content: impl Read,
) -> Result<(), Error> {
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_mode(FILE_MODE);
    header.set_mtime(0);
    let path = member.path().unwrap_or_default();
    Ok(tar.append_data(&mut header, path, content)?)
}

/// The bytes of a tar on their way to whoever listens.
struct Bytes<'a> {
    output: &'a mut dyn Output,
    /// Nothing more is passed on.
    is_cut: bool,
}

impl Write for Bytes<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_cut {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.output.bytes(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A blob that is hashed as it is read.
struct Hashed<'a> {
    blob: &'a Blob,
    offset: u64,
    hasher: DigestHasher,
    has_failed: bool,
}

impl<'a> Hashed<'a> {
    fn new(blob: &'a Blob, digest: &Digest) -> Self {
        Self {
            blob,
            offset: 0,
            hasher: DigestHasher::new(digest.algorithm()),
            has_failed: false,
        }
    }
}

impl Read for Hashed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.blob.length - self.offset).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let read = self.blob.file.read_at(&mut buffer[..wanted], self.offset);
        self.has_failed |= read.is_err();
        let read = read?;
        self.hasher.update(&buffer[..read]);
        self.offset += read as u64;
        Ok(read)
    }
}
