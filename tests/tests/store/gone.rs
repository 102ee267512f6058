//! The disk turns read-only, goes away, is replaced by another, or fails under the running cache.

use super::*;

const DISK_BYTES: u64 = larder_tests::node::XFS_BYTES_MIN;
const LAYERS: [usize; 2] = [6 << 20, 300 << 10];
const FILE_SYSTEMS: [FileSystem; 3] = [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Tmpfs];

/// A node on a disk of its own, which keeps `v1`; `v2` is still to be pulled.
struct Scene {
    up: FakeRegistry,
    disk: Disk,
    node: NodeProcess,
    kept: Image,
    other: Image,
}

impl Scene {
    async fn new(file_system: FileSystem) -> Self {
        let up = FakeRegistry::builder().start().await;
        let (kept, other) = (publish(&up, "v1", &LAYERS), publish(&up, "v2", &LAYERS));
        let disk = Disk::new(file_system, DISK_BYTES);
        let node = NodeProcess::builder()
            .config(&mirror(&up))
            .on(&disk)
            .start()
            .await;
        pull(&node.url(), "v1", &kept).await;
        until_kept(&disk.path(), &kept).await;
        // The journal goes after the blob has its name.
        until_counted(&node, &disk.path()).await;
        Self {
            up,
            disk,
            node,
            kept,
            other,
        }
    }

    /// Pulls all of `v1`; returns how many of its blobs the registry was asked for.
    async fn pull_kept(&self) -> usize {
        let asked = self.up.count(on_any_blob());
        pull(&self.node.url(), "v1", &self.kept).await;
        self.up.count(on_any_blob()) - asked
    }

    /// What the disk lost of the file of access rights is proved anew, with no byte of content.
    async fn prove_rights(&self) {
        let sent = || -> u64 {
            let digests = self.kept.contents().map(|(digest, _)| digest);
            digests.map(|digest| self.up.body_bytes_sent(&digest)).sum()
        };
        let before = sent();
        self.pull_kept().await;
        assert!(
            sent() - before <= self.kept.contents().count() as u64,
            "fetched again"
        );
    }

    /// Pulls what is not in the store; it is not kept.
    async fn pull_other(&self) {
        for _ in 0..2 {
            let asked = self.up.count(on_any_blob());
            pull(&self.node.url(), "v2", &self.other).await;
            assert_eq!(
                self.up.count(on_any_blob()) - asked,
                self.other.contents().count()
            );
        }
    }

    /// Pulls what was not in the store; it is kept.
    async fn keeps_again(&self) {
        until_degraded(&self.node, false).await;
        assert_eq!(self.pull_kept().await, 0);
        pull(&self.node.url(), "v2", &self.other).await;
        until_kept(&self.disk.path(), &self.other).await;
        until_counted(&self.node, &self.disk.path()).await;
    }

    fn times_said(&self) -> usize {
        self.node.output().matches("the disk takes no content").count()
    }
}

#[tokio::test]
async fn a_disk_that_turns_read_only_serves_what_is_on_it() {
    for file_system in FILE_SYSTEMS {
        let scene = Scene::new(file_system).await;
        // The kernel turns no mount that a file is open for writing on: the ledger is.
        scene
            .disk
            .shell("mount --bind $0 $0; mount -o remount,bind,ro $0");
        assert_eq!(scene.pull_kept().await, 0);
        scene.pull_other().await;
        until_degraded(&scene.node, true).await;
        assert_eq!(scene.pull_kept().await, 0);
        assert_eq!(scene.times_said(), 1, "{}", scene.node.output());

        scene.disk.shell("umount $0");
        scene.keeps_again().await;
    }
}

/// An error on the disk turns ext4 read-only, as distributions mount it, and only mounting it anew turns it back.
#[tokio::test]
async fn a_file_system_that_turns_itself_read_only_serves_what_is_on_it() {
    let mut scene = Scene::new(FileSystem::Ext4).await;
    scene.disk.shell("mount -o remount,errors=remount-ro $0");
    scene.disk.shell(
        "echo 1 >/sys/fs/ext4/$(basename $(findmnt --noheadings --output=SOURCE $0))/trigger_fs_error",
    );
    assert_eq!(scene.pull_kept().await, 0);
    scene.pull_other().await;
    until_degraded(&scene.node, true).await;
    assert_eq!(scene.pull_kept().await, 0);
    assert_eq!(scene.times_said(), 1, "{}", scene.node.output());

    scene.node.terminate().await;
    scene.disk.remount();
    scene.node.launch().await;
    scene.prove_rights().await;
    scene.keeps_again().await;
}

#[tokio::test]
async fn a_start_on_a_read_only_disk_serves_what_is_on_it() {
    for file_system in FILE_SYSTEMS {
        let mut scene = Scene::new(file_system).await;
        scene.node.terminate().await;
        scene.disk.shell("mount -o remount,ro $0");
        scene.node.launch().await;
        until_degraded(&scene.node, true).await;
        assert_eq!(scene.pull_kept().await, 0);
        scene.pull_other().await;

        scene.disk.shell("mount -o remount,rw $0");
        scene.keeps_again().await;
    }
}

/// What the mount hid must not be filled instead.
#[tokio::test]
async fn a_mount_that_goes_away_is_missed_and_used_again() {
    for file_system in FILE_SYSTEMS {
        let scene = Scene::new(file_system).await;
        scene
            .disk
            .shell("mkdir $0.kept; mount --bind $0 $0.kept; umount --lazy $0");
        // The first pulls may find out about it, and the others know.
        until_degraded(&scene.node, true).await;
        assert_eq!(scene.pull_kept().await, scene.kept.contents().count());
        scene.pull_other().await;
        let hidden = std::fs::read_dir(scene.disk.mount_point()).unwrap().count();
        assert_eq!(hidden, 0, "something was written below the mount point");
        assert_eq!(scene.times_said(), 1, "{}", scene.node.output());

        scene.disk.shell("mount --bind $0.kept $0");
        scene.keeps_again().await;
    }
}

#[tokio::test]
async fn another_directory_in_its_place_is_not_filled() {
    let scene = Scene::new(FileSystem::Ext4).await;
    scene.disk.shell("mount -t tmpfs other $0");
    until_degraded(&scene.node, true).await;
    assert_eq!(scene.pull_kept().await, scene.kept.contents().count());
    scene.pull_other().await;
    assert_eq!(
        disk_usage_bytes(&scene.disk.path()),
        0,
        "the other one was filled"
    );

    scene.disk.shell("umount $0");
    scene.keeps_again().await;
}

/// Every operation fails from one moment on, as after a journal that could not be written.
#[tokio::test]
async fn a_file_system_that_shuts_down_costs_no_wrong_byte() {
    for file_system in [FileSystem::Ext4, FileSystem::Xfs] {
        let mut scene = Scene::new(file_system).await;
        scene.disk.shell("xfs_io -F -x -c 'shutdown -f' $0");
        let blobs: Vec<_> = scene.kept.contents().collect();
        for (digest, content) in &blobs {
            // Found unreadable on the way, it ends short, and goes on from the registry.
            let first = blob(&scene.node.url(), digest).send().await;
            assert!(content.bytes().starts_with(&first.body[..]));
            if first.end != End::Complete {
                blob(&scene.node.url(), digest).send().await.assert_whole(digest);
            }
        }
        scene.pull_other().await;
        until_degraded(&scene.node, true).await;
        scene.pull_other().await;
        assert_eq!(scene.times_said(), 1, "{}", scene.node.output());

        scene.node.kill9().await;
        scene.disk.remount();
        scene.node.launch().await;
        scene.prove_rights().await;
        scene.keeps_again().await;
    }
}
