//! What is asked for and what comes back, as types: hints of the registry, and bytes that nobody has proved yet.

use std::fmt;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use reqwest::header::HeaderValue;

use super::Error;
use crate::oci::{Digest, MediaType};

/// The answer to a HEAD of a manifest.
#[derive(Clone, Debug)]
pub enum ManifestHead {
    /// The manifest is still the one that was named.
    NotModified,
    /// There is a manifest, and this is what the registry says of it.
    Found {
        /// `Docker-Content-Digest`, where it is a digest that we can verify.
        digest: Option<Digest>,
        /// `Content-Type`, unless it is one of the generic types that say nothing.
        media_type: Option<MediaType>,
        /// Length in bytes.
        length: Option<u64>,
        /// `Warning` headers, which clients should show (distribution-spec, "Warnings").
        warnings: Vec<String>,
    },
}

/// A manifest as the registry gave it: unproved.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// `Docker-Content-Digest`, where it is a digest that we can verify.
    pub digest_header: Option<Digest>,
    /// `Content-Type`, unless it is one of the generic types that say nothing: then see `oci::sniff_media_type`.
    pub media_type: Option<MediaType>,
    /// The exact bytes, at most [`super::MANIFEST_BYTES_MAX`].
    pub body: Bytes,
    /// `Warning` headers, which clients should show.
    pub warnings: Vec<String>,
}

/// A part of a blob to ask for.
#[derive(Clone, Debug)]
pub struct RangeRequest {
    /// The first byte.
    pub start: u64,
    /// The byte after the last one; `None` asks for the rest.
    pub end: Option<u64>,
    /// Ask for the part only if the object is still this one. Sent only to the origin that gave the validator.
    pub if_range: Option<Validator>,
}

/// What tells whether an object at one origin is still the same: a strong `ETag`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// The entity tag, quotes included.
    pub etag: HeaderValue,
    /// Scheme, host and port that it holds for.
    pub origin: String,
}

/// A blob's body on its way: unproved, and its first byte may not be the one asked for.
pub struct BlobBody {
    /// Where in the blob the body begins: the start that was asked for, or 0 where the range was ignored.
    pub offset: u64,
    /// The whole blob's length in bytes, when known.
    pub total: Option<u64>,
    /// Whether the body is labelled as a web page or as JSON, which no layer is.
    pub is_labelled_text: bool,
    /// For [`RangeRequest::if_range`] when this body is cut.
    pub validator: Option<Validator>,
    /// The bytes. Ends with an error when the body is cut or stalls; holds a slot of the registry until dropped.
    pub body: BoxStream<'static, Result<Bytes, Error>>,
}

impl fmt::Debug for BlobBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobBody")
            .field("offset", &self.offset)
            .field("total", &self.total)
            .field("validator", &self.validator)
            .finish_non_exhaustive()
    }
}

/// Which page of a tag list to ask for.
#[derive(Clone, Copy, Debug)]
pub enum Page<'a> {
    /// By the specification's parameters.
    Of {
        /// How many entries at most.
        n: Option<u64>,
        /// The entry after which to begin.
        last: Option<&'a str>,
    },
    /// By the raw query of an earlier [`Listing::next`].
    Query(&'a str),
}

/// One page of a listing.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The exact bytes, at most [`super::LISTING_BYTES_MAX`].
    pub body: Bytes,
    /// `Content-Type`, unless it is one of the generic types that say nothing.
    pub media_type: Option<MediaType>,
    /// The raw query of the next page, verbatim.
    pub next: Option<String>,
    /// `OCI-Filters-Applied`.
    pub filters_applied: Option<String>,
    /// `Warning` headers, which clients should show.
    pub warnings: Vec<String>,
}
