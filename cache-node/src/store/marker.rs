//! What a cache directory says of itself: in which layout its files are, and which directory it is.
//!
//! `layout.json` holds `{"layout": 2, "id": "<16 hex>"}`. The id tells whether the directory at the path still is the one
//! that was opened: a mount that went away leaves another one behind.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Error, Layout};

/// The layout that this version writes. 1 had no marker; its files lie where those of 2 do, so it needs nothing but one.
pub const LAYOUT: u32 = 2;
/// A marker is some tens of bytes.
const MARKER_BYTES_MAX: u64 = 4096;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    layout: u32,
    id: String,
}

impl Marker {
    fn new() -> Self {
        Self {
            layout: LAYOUT,
            id: format!("{:016x}", fastrand::u64(..)),
        }
    }
}

/// Makes sure that the directory is of this layout. `None` where it has no marker and the disk takes none.
///
/// # Errors
/// [`Error::NewerLayout`], or the marker cannot be read or written.
pub(super) fn adopt(layout: &Layout) -> Result<Option<Marker>, Error> {
    match read(layout)? {
        Some(marker) if marker.layout > LAYOUT => Err(Error::NewerLayout {
            path: layout.root().display().to_string(),
            found: marker.layout,
        }),
        Some(marker) if marker.layout == LAYOUT => Ok(Some(marker)),
        found => {
            if found.is_none() && layout.has_blobs() {
                tracing::info!(path = %layout.root().display(), "content of the first layout is taken over");
            }
            let marker = Marker::new();
            match write(layout, &marker) {
                Ok(()) => Ok(Some(marker)),
                Err(error) if error.is_disk_trouble() => Ok(None),
                Err(error) => Err(error),
            }
        }
    }
}

/// Whether the directory at the path still is the one of `marker`.
pub(super) fn is_there(layout: &Layout, marker: &Marker) -> bool {
    matches!(read(layout), Ok(Some(found)) if found == *marker)
}

/// A marker that makes no sense counts as none: blobs are sealed and partials have journals, so that what lies there is
/// judged by itself.
fn read(layout: &Layout) -> Result<Option<Marker>, Error> {
    let path = path(layout);
    let is_too_long = |metadata: fs::Metadata| metadata.len() > MARKER_BYTES_MAX;
    if fs::metadata(&path).is_ok_and(is_too_long) {
        return Ok(None);
    }
    match fs::read(&path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", &path)(error)),
    }
}

fn write(layout: &Layout, marker: &Marker) -> Result<(), Error> {
    let path = path(layout);
    let text = serde_json::to_vec(marker)
        .map_err(io::Error::other)
        .map_err(Error::io("write", &path))?;
    layout.write_atomically(&path, &text).map(drop)
}

fn path(layout: &Layout) -> PathBuf {
    layout.root().join("layout.json")
}
