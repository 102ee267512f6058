//! Images that every node has without pulling them, made of the static `helper` program.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::runtime::SANDBOX_IMAGE;
use crate::image::{ImageBuilder, architecture};
use crate::static_program;

/// The image of helper pods: its entry point is `/helper`.
pub const HELPER_IMAGE: &str = "larder.test/helper:1";

/// Writes archives of all of them into `dir`.
pub(super) fn write(dir: &Path) -> Result<[PathBuf; 2]> {
    let image = |arguments: &[&str]| {
        ImageBuilder::new()
            .architecture(architecture())
            .program("helper", &static_program::helper())
            .entrypoint(&["/helper"])
            .cmd(arguments)
            .build()
    };
    let archives = [dir.join("sandbox.tar"), dir.join("helper.tar")];
    image(&["pause"]).write_archive(&archives[0], SANDBOX_IMAGE)?;
    image(&["wait"]).write_archive(&archives[1], HELPER_IMAGE)?;
    Ok(archives)
}
