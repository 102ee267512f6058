//! A node's cache directory on a small disk of its own, which can be full. Without one it lies on a file system of memory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use super::Node;
use super::machine::Machine;
use crate::process::run;
use crate::wait::until_some;

/// The cache's directory on nodes.
pub const CACHE_DIR: &str = "/var/lib/larder";
/// Directory on the cache disk of all that only fills it.
const FILLING: &str = "filling";

impl Node {
    /// Puts [`CACHE_DIR`] on an ext4 filesystem of its own of this size. It is there again when the node has been
    /// switched off and on. Pods that were running before do not see it.
    ///
    /// # Errors
    /// Where there is such a disk already, or its filesystem cannot be made; where the node is off.
    pub async fn mount_cache_disk(&self, bytes: u64) -> Result<()> {
        let disk = self.cache_disk();
        File::create_new(&disk)
            .and_then(|file| file.set_len(bytes))
            .with_context(|| format!("cannot make {}", disk.display()))?;
        let mut make = Command::new("mkfs.ext4");
        make.args(["-q", "-m", "0"]).arg(&disk);
        run(make).await?;
        attach(&self.power().await?.machine, &disk).await
    }

    /// Takes all of the cache disk but at most `bytes_left`.
    ///
    /// # Errors
    /// Where it has no cache disk of its own, or that cannot be written; where the node is off.
    pub async fn fill_disk(&self, bytes_left: u64) -> Result<()> {
        let cache = self.cache_dir().await?;
        let filling = cache.join(FILLING);
        std::fs::create_dir_all(&filling)?;
        let ballast = File::options()
            .create(true)
            .append(true)
            .open(filling.join("ballast"))?;
        // The ballast's own metadata needs a few blocks more.
        loop {
            let free = free_bytes(&cache)?;
            if free <= bytes_left {
                return Ok(());
            }
            match fallocate(
                &ballast,
                FallocateFlags::empty(),
                ballast.metadata()?.len(),
                free - bytes_left,
            ) {
                // It still takes what there is; only the metadata did not fit.
                Err(Errno::NOSPC) => return Ok(()),
                done => done?,
            }
        }
    }

    /// Takes all inodes of the cache disk, so that no more files can be made on it.
    ///
    /// # Errors
    /// Where it has no cache disk of its own, or that cannot be written; where the node is off.
    pub async fn fill_inodes(&self) -> Result<()> {
        let filling = self.cache_dir().await?.join(FILLING);
        std::fs::create_dir_all(&filling)?;
        for number in 0_u64.. {
            let made = File::create(filling.join(number.to_string()));
            match made.map_err(|error| Errno::from_io_error(&error)) {
                Err(Some(Errno::NOSPC)) => break,
                Err(error) => anyhow::bail!("cannot make files: {error:?}"),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Gives back what [`Self::fill_disk`] and [`Self::fill_inodes`] took.
    ///
    /// # Errors
    /// Where it has no cache disk of its own; where nothing was filled; where the node is off.
    pub async fn free_disk(&self) -> Result<()> {
        let filling = self.cache_dir().await?.join(FILLING);
        std::fs::remove_dir_all(&filling).with_context(|| filling.display().to_string())
    }

    /// The file that stands for the disk, whether it is there or not.
    pub(super) fn cache_disk(&self) -> PathBuf {
        self.dir().join("cache-disk")
    }

    /// The cache disk's directory as this process can open it.
    async fn cache_dir(&self) -> Result<PathBuf> {
        // Never fill the machine's own disk.
        let own = self.cache_disk().try_exists()?;
        ensure!(own, "{} has no cache disk", self.name());
        self.inside(CACHE_DIR).await
    }
}

/// Mounts a cache disk on a machine, whose end also detaches it.
pub(super) async fn attach(machine: &Machine, disk: &Path) -> Result<()> {
    let disk_text = disk.to_str().context("a path that is no text")?;
    // The kernel detaches a dead machine's disk a moment after its last process.
    let detached = until_some(async || {
        let mut list = Command::new("losetup");
        list.arg("--associated").arg(disk);
        Ok(run(list).await?.text().is_empty().then_some(()))
    });
    detached
        .await
        .with_context(|| format!("{disk_text} is still attached"))?;
    machine
        .run("mount", &["-o", "loop", disk_text, CACHE_DIR])
        .await?;
    Ok(())
}

fn free_bytes(dir: &Path) -> Result<u64> {
    let status = statvfs(dir)?;
    Ok(status.f_bavail * status.f_frsize)
}
