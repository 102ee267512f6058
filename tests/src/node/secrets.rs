//! Writes credentials and CA files into a `--credentials-dir`, plainly or the way kubelet mounts them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

/// Writes the keys of a Secret or ConfigMap as plain files in `<dir>/<name>/`.
pub fn write(dir: &Path, name: &str, keys: &[(&str, &str)]) {
    let target = dir.join(name);
    fs::create_dir_all(&target).expect("create a directory for a Secret");
    for (key, value) in keys {
        fs::write(target.join(key), value).expect("write a Secret's key");
    }
}

/// Writes the keys as kubelet does: into a new hidden directory, then `..data` is swapped to it in one step, and
/// each key is a symbolic link through `..data`. Called again, it updates; keys that are gone lose their link.
pub fn write_as_kubelet(dir: &Path, name: &str, keys: &[(&str, &str)]) {
    let target = dir.join(name);
    fs::create_dir_all(&target).expect("create a directory for a Secret");
    let version = format!("..2026_01_01_00_00_00.{}", fastrand::u32(..));
    write(&target, &version, keys);
    let old = fs::read_link(target.join("..data")).ok();
    symlink(&version, target.join("..data_tmp")).expect("link the new version");
    fs::rename(target.join("..data_tmp"), target.join("..data")).expect("swap to the new version");
    for (key, _) in keys {
        if fs::symlink_metadata(target.join(key)).is_err() {
            symlink(Path::new("..data").join(key), target.join(key)).expect("link a key");
        }
    }
    if let Some(old) = old {
        for entry in fs::read_dir(target.join(&old))
            .expect("list the old version")
            .flatten()
        {
            let gone = keys.iter().all(|(key, _)| entry.file_name() != *key);
            if gone {
                fs::remove_file(target.join(entry.file_name()))
                    .expect("remove the link of a key that is gone");
            }
        }
        fs::remove_dir_all(target.join(old)).expect("remove the old version");
    }
}

/// A Secret with `username` and `password`, as kubelet mounts it.
pub fn write_basic(dir: &Path, name: &str, username: &str, password: &str) {
    write_as_kubelet(dir, name, &[("username", username), ("password", password)]);
}

/// A Secret with `.dockerconfigjson` for one host, as kubelet mounts it.
pub fn write_docker_config(dir: &Path, name: &str, host: &str, username: &str, password: &str) {
    let auth = BASE64_STANDARD.encode(format!("{username}:{password}"));
    let config = json!({"auths": {host: {"auth": auth}}}).to_string();
    write_as_kubelet(dir, name, &[(".dockerconfigjson", &config)]);
}

/// A ConfigMap with a CA certificate as `ca.crt`, as kubelet mounts it.
pub fn write_ca(dir: &Path, name: &str, pem: &str) {
    write_as_kubelet(dir, name, &[("ca.crt", pem)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_swaps_all_keys_at_once() {
        let dir = tempfile::tempdir().unwrap();
        write_as_kubelet(dir.path(), "s", &[("username", "a"), ("password", "b")]);
        assert_eq!(fs::read_to_string(dir.path().join("s/username")).unwrap(), "a");
        write_as_kubelet(dir.path(), "s", &[("token", "c")]);
        assert_eq!(fs::read_to_string(dir.path().join("s/token")).unwrap(), "c");
        assert!(fs::symlink_metadata(dir.path().join("s/username")).is_err());
        assert_eq!(
            fs::read_link(dir.path().join("s/token")).unwrap(),
            Path::new("..data/token")
        );
    }
}
