//! Builds Larder's images as OCI archives in the directory that its one argument names, and says how to load them.
//! `make images` runs it.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use larder_tests::larder_image::LarderImage;

fn main() -> Result<()> {
    let dir = std::env::args_os().nth(1).map(PathBuf::from);
    let dir = dir.context("usage: larder-images DIR")?;
    for image in [LarderImage::cache_node(), LarderImage::operator()] {
        let archive = image.build(&dir)?;
        let archive = archive.display();
        writeln!(
            std::io::stdout(),
            "== {archive}\n   load it as {} by one of these:\n     ctr -n k8s.io images import {archive}\n     \
             podman load -i {archive}\n     docker load -i {archive}",
            image.reference(),
        )?;
    }
    Ok(())
}
