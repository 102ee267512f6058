//! From a tar of an OCI image layout to the store. Objects are listed as they are proved; names follow when all that
//! they lead to has been looked at. An import that fails leaves nothing of its own.

use std::collections::HashSet;
use std::io::Read;

use serde::Deserialize;

use super::catalog::full_name;
use super::image_layout::{self, Image, ImageName};
use super::member::{INDEX_FILE, LAYOUT_FILE, Member};
use super::tar_reader::{ArchiveError, Entry, TarReader};
use super::{Error, Event, INDEX_DEPTH_MAX, Output, Tools, repository};
use crate::oci::{Digest, MediaType, descriptors, sniff_media_type};
use crate::store::{MANIFEST_BYTES_MAX, Manifest, Removal};
use crate::tags::{self, Key, Name};

/// The most files of an archive.
const MEMBERS_MAX: usize = 200_000;
/// The largest `index.json` and `oci-layout`.
const DOCUMENT_BYTES_MAX: u64 = 8 << 20;

/// What has come out of an archive so far.
#[derive(Default)]
struct Unpacked {
    seen: HashSet<Member>,
    /// Objects that were not here before.
    added: Vec<Digest>,
    layout: Option<Vec<u8>>,
    index: Option<Vec<u8>>,
}

/// An image whose whole content is here and holds together.
struct Proved {
    image: Image,
    /// What a manifest names comes before it.
    manifests: Vec<Manifest>,
    content: HashSet<Digest>,
}

impl Tools {
    pub(super) fn import(&self, input: &mut dyn Read, output: &mut dyn Output) -> Result<(), Error> {
        let mut unpacked = Unpacked::default();
        let proved = self.unpack_and_prove(input, &mut unpacked);
        let named: HashSet<_> = proved.iter().flatten().flat_map(|image| &image.content).collect();
        for digest in &unpacked.added {
            if !named.contains(digest) {
                self.store.remove(digest, Removal::Purged);
            } else if let Some(bytes) = self.store.length(digest) {
                let digest = digest.to_string();
                output.event(Event::Added { digest, bytes })?;
            }
        }
        proved?.iter().try_for_each(|image| self.record(image, output))
    }

    fn unpack_and_prove(&self, input: &mut dyn Read, unpacked: &mut Unpacked) -> Result<Vec<Proved>, Error> {
        self.unpack(input, unpacked)?;
        let missing = |file| Error::Layout(format!("it has no {file}"));
        let layout = unpacked.layout.as_deref().ok_or_else(|| missing(LAYOUT_FILE))?;
        image_layout::check_layout(layout).map_err(Error::Layout)?;
        let index = unpacked.index.as_deref().ok_or_else(|| missing(INDEX_FILE))?;
        let images = image_layout::parse(index).map_err(Error::Layout)?;
        if let Some(nameless) = images.iter().find(|image| image.name.is_none()) {
            let what = "has no name, so that nobody could ever have it: write its whole one, such as \
                        docker.io/library/alpine:3.20, into its annotation org.opencontainers.image.ref.name";
            return Err(Error::Layout(format!("{} {what}", nameless.digest)));
        }
        let images = images.into_iter();
        images
            .map(|image| self.prove(image, &unpacked.seen).map_err(Error::Layout))
            .collect()
    }

    fn unpack(&self, input: &mut dyn Read, unpacked: &mut Unpacked) -> Result<(), Error> {
        let mut room_bytes = self.store.usage().space.available_bytes;
        let mut tar = TarReader::new(input);
        while let Some(entry) = tar.next()? {
            let refuse = |what: &str| ArchiveError::member(&entry.path, what);
            let member = Member::parse(&entry.path).map_err(refuse)?;
            if !entry.is_file || member == Member::Other {
                continue;
            }
            if !unpacked.seen.insert(member) {
                return Err(refuse("the archive has it twice").into());
            }
            if unpacked.seen.len() > MEMBERS_MAX {
                return Err(refuse("the archive has too many files").into());
            }
            match member {
                Member::Layout => unpacked.layout = Some(document(&mut tar, &entry)?),
                Member::Index => unpacked.index = Some(document(&mut tar, &entry)?),
                Member::Blob(digest) if !self.store.contains(&digest) => {
                    let Some(rest) = room_bytes.checked_sub(entry.size) else {
                        let what = format!("its {} bytes do not fit: {room_bytes} are free", entry.size);
                        return Err(refuse(&what).into());
                    };
                    room_bytes = rest;
                    self.store.take_in(&digest, entry.size, &mut tar)?;
                    unpacked.added.push(digest);
                }
                Member::Blob(_) | Member::Other => {}
            }
        }
        Ok(())
    }

    /// The error says what does not hold together.
    fn prove(&self, image: Image, archive: &HashSet<Member>) -> Result<Proved, String> {
        let mut proof = Proof {
            tools: self,
            archive,
            manifests: Vec::new(),
            content: HashSet::new(),
        };
        let name = image.name.as_ref();
        let name = name.map_or_else(|| image.digest.to_string(), ImageName::to_string);
        proof
            .add(&image.digest, image.size, Some(&image.media_type), 0)
            .map_err(|error| format!("{name}: {error}"))?;
        Ok(Proved {
            manifests: proof.manifests,
            content: proof.content,
            image,
        })
    }

    /// The manifest, if it is one and agrees with what was said of it.
    fn read_manifest(
        &self,
        digest: &Digest,
        size: u64,
        media_type: Option<&MediaType>,
    ) -> Result<Manifest, String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Document {
            schema_version: u32,
            media_type: Option<String>,
        }
        let blob = self
            .store
            .blob(digest)
            .ok_or_else(|| format!("{digest} is missing"))?;
        if blob.length != size {
            return Err(format!("{digest} has {} bytes instead of {size}", blob.length));
        }
        if size > MANIFEST_BYTES_MAX {
            return Err(format!("{digest} is too long for a manifest"));
        }
        let mut body = vec![0; usize::try_from(size).unwrap_or_default()];
        let read = std::os::unix::fs::FileExt::read_exact_at(&*blob.file, &mut body, 0);
        read.map_err(|error| format!("{digest} cannot be read: {error}"))?;
        let document = serde_json::from_slice::<Document>(&body);
        let document = document.map_err(|error| format!("{digest} is no manifest: {error}"))?;
        let own = document
            .media_type
            .and_then(|text| text.parse::<MediaType>().ok());
        let media_type = match (own, media_type) {
            (Some(own), Some(said)) if own != *said => {
                return Err(format!(
                    "{digest} is of the type {own}, but index.json says {said}"
                ));
            }
            (own, said) => own.or_else(|| said.cloned()).or_else(|| sniff_media_type(&body)),
        };
        match media_type.filter(|media_type| media_type.is_manifest() && document.schema_version == 2) {
            Some(media_type) => Ok(Manifest {
                digest: *digest,
                media_type,
                body: body.into(),
            }),
            None => Err(format!("{digest} is not of a type of image manifests or indexes")),
        }
    }

    fn record(&self, proved: &Proved, output: &mut dyn Output) -> Result<(), Error> {
        for manifest in &proved.manifests {
            self.store.put_manifest(manifest)?;
        }
        let image = &proved.image;
        let digest = image.digest.to_string();
        let Some(name) = &image.name else {
            return Ok(());
        };
        for content in &proved.content {
            let repository = repository(&name.registry, &name.repository);
            self.rights.vouch(content, &repository, image.is_public);
        }
        if let Some(tag) = &name.tag {
            let key = Key {
                registry: name.registry.clone(),
                repository: name.repository.clone(),
                name: Name::Tag(tag.clone()),
            };
            let checked_at = image.believed_checked_at();
            if let Some(known) = self.ledger.get(&key)
                && known.checked_at > checked_at
                && self.store.contains(&known.digest)
            {
                let name = full_name(&key);
                return Ok(output.event(Event::KeptNewer { name, digest })?);
            }
            let entry = tags::Entry {
                digest: image.digest,
                checked_at,
                jitter_percent: tags::jitter_percent(),
                filters_applied: None,
            };
            self.ledger.record(key, entry)?;
        }
        let name = name.to_string();
        Ok(output.event(Event::Imported { name, digest })?)
    }
}

/// What is known so far of an image's content.
struct Proof<'a> {
    tools: &'a Tools,
    /// What the archive has.
    archive: &'a HashSet<Member>,
    manifests: Vec<Manifest>,
    content: HashSet<Digest>,
}

impl Proof<'_> {
    /// Adds a manifest with all that it names. Of an index those manifests are enough that the archive has, one at least.
    fn add(
        &mut self,
        digest: &Digest,
        size: u64,
        media_type: Option<&MediaType>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > INDEX_DEPTH_MAX {
            return Err(format!("{digest}: its index lies too deep in others"));
        }
        if !self.content.insert(*digest) {
            return Ok(());
        }
        let manifest = self.tools.read_manifest(digest, size, media_type)?;
        let (mut is_index, mut is_empty) = (false, true);
        for named in descriptors(&manifest.body) {
            if named.is_manifest {
                is_index = true;
                if self.archive.contains(&Member::Blob(named.digest)) {
                    is_empty = false;
                    self.add(&named.digest, named.size_bytes, None, depth + 1)?;
                }
                continue;
            }
            match self.tools.store.length(&named.digest) {
                Some(length) if length == named.size_bytes => self.content.insert(named.digest),
                Some(length) => {
                    let size = named.size_bytes;
                    return Err(format!(
                        "{} has {length} bytes, but {digest} says {size}",
                        named.digest
                    ));
                }
                None => return Err(format!("{} is missing, which {digest} names", named.digest)),
            };
        }
        if is_index && is_empty {
            return Err(format!(
                "{digest} names manifests, none of which is in the archive"
            ));
        }
        self.manifests.push(manifest);
        Ok(())
    }
}

/// A small file of the layout.
fn document(tar: &mut TarReader<&mut dyn Read>, entry: &Entry) -> Result<Vec<u8>, Error> {
    if entry.size > DOCUMENT_BYTES_MAX {
        return Err(ArchiveError::member(&entry.path, "it is too long").into());
    }
    let mut content = Vec::new();
    tar.take(entry.size)
        .read_to_end(&mut content)
        .map_err(ArchiveError::Read)?;
    if content.len() as u64 == entry.size {
        Ok(content)
    } else {
        let after = entry.path.clone();
        Err(ArchiveError::Truncated { after }.into())
    }
}
