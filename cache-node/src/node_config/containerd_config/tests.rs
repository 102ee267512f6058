//! Both versions, imports and drop-ins, and everything that may be wrong with them.

use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;

const CERTS: &str = "/etc/containerd/certs.d";

fn v2(path: &str) -> String {
    format!("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"{path}\"\n")
}

fn v3(path: &str) -> String {
    format!("version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '{path}'\n")
}

fn judged(texts: &[&str]) -> Verdict {
    let files: Vec<_> = texts.iter().map(|text| parse(text).unwrap()).collect();
    judge(&files, CERTS)
}

#[test]
fn each_version_has_its_own_place() {
    let v1 = format!("[plugins.cri.registry]\nconfig_path = \"{CERTS}\"\n");
    for text in [v1, v2(CERTS), v3(CERTS), v3("/etc/containerd//certs.d/")] {
        assert_eq!(judged(&[&text]), Verdict::Reads, "{text}");
    }
    // 2.x takes version 2 in either place.
    let wrong = v2(CERTS).replace("version = 2", "version = 3");
    for text in ["", "version = 2\n", "version = 3\n", &wrong, &v2(""), &v3("")] {
        assert_eq!(judged(&[text]), Verdict::Unset, "{text}");
    }
    assert_eq!(judged(&[]), Verdict::Unset);
    assert_eq!(judged(&[&v3("/etc/docker/certs.d")]), Verdict::Elsewhere);
    assert_eq!(judged(&[&v3("certs.d")]), Verdict::Elsewhere);
}

#[test]
fn a_list_counts_as_none() {
    let list = format!("{CERTS}:/etc/docker/certs.d");
    assert_eq!(judged(&[&v2(&list)]), Verdict::Unset);
    assert_eq!(judged(&[&v3(&list)]), Verdict::Unset);
}

#[test]
fn a_later_file_has_the_last_word() {
    assert_eq!(judged(&[&v3("/a"), &v3(CERTS)]), Verdict::Reads);
    assert_eq!(judged(&[&v3(CERTS), &v3("/a")]), Verdict::Elsewhere);
    let other = "version = 3\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'native'\n";
    assert_eq!(judged(&[&v3(CERTS), other]), Verdict::Reads);
    // 1.x forgets the rest of the section, and nobody knows which it is.
    let other = "version = 2\n[plugins.'io.containerd.grpc.v1.cri']\nsandbox_image = 'pause'\n";
    assert_eq!(judged(&[&v2(CERTS), other]), Verdict::Unset);
    assert_eq!(
        judged(&[&v2(CERTS), "version = 2\noom_score = 1\n"]),
        Verdict::Reads
    );
}

#[test]
fn nonsense_is_not_judged() {
    for text in [
        "= ",
        "version = 'three'",
        "imports = 'x'",
        "imports = [1]",
        "plugins = 1",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    let text = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = ['a']\n";
    assert_eq!(parse(text).unwrap_err(), Malformed::WrongType);
}

/// A mount of `/etc/containerd`.
fn mounted(files: &[(&str, &str)]) -> (tempfile::TempDir, Files) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let files = Files {
        mount: dir.path().to_owned(),
        directory: "/etc/containerd".into(),
    };
    (dir, files)
}

#[test]
fn imports_are_followed_in_their_order() {
    let main = "version = 3\nimports = ['conf.d/*.toml', '/etc/containerd/../containerd/last.toml']\n";
    let (dir, files) = mounted(&[
        ("config.toml", main),
        ("conf.d/10-a.toml", &v3("/a")),
        ("conf.d/20-b.toml", &v3("/b")),
        ("conf.d/ignored.conf", &v3(CERTS)),
        ("last.toml", &v3(CERTS)),
    ]);
    assert_eq!(files.judge(CERTS).unwrap(), Verdict::Reads);
    fs::write(dir.path().join("last.toml"), "imports = ['config.toml']\n").unwrap();
    assert_eq!(files.judge("/b").unwrap(), Verdict::Reads);
    // A pattern may match nothing, a name may not.
    fs::remove_dir_all(dir.path().join("conf.d")).unwrap();
    assert_eq!(files.judge(CERTS).unwrap(), Verdict::Unset);
    fs::remove_file(dir.path().join("last.toml")).unwrap();
    assert!(matches!(files.judge(CERTS), Err(Unreadable::File { .. })));
}

#[test]
fn no_file_is_containerds_default_and_a_bad_one_is_said() {
    let (dir, files) = mounted(&[]);
    assert_eq!(files.judge(CERTS).unwrap(), Verdict::Unset);
    fs::write(dir.path().join("config.toml"), "password = \"hunter2\"\n= ").unwrap();
    let error = files.judge(CERTS).unwrap_err().to_string();
    assert_eq!(
        error,
        "cannot understand /etc/containerd/config.toml: it is not TOML"
    );
    fs::write(dir.path().join("config.toml"), "imports = ['/opt/more.toml']\n").unwrap();
    assert!(matches!(files.judge(CERTS), Err(Unreadable::Outside(_))));
    fs::remove_file(dir.path().join("config.toml")).unwrap();
    symlink("/etc/passwd", dir.path().join("config.toml")).unwrap();
    assert!(matches!(files.judge(CERTS), Err(Unreadable::File { .. })));
    fs::remove_file(dir.path().join("config.toml")).unwrap();
    symlink("real.toml", dir.path().join("config.toml")).unwrap();
    fs::write(dir.path().join("real.toml"), v3(CERTS)).unwrap();
    assert_eq!(files.judge(CERTS).unwrap(), Verdict::Reads);
    fs::create_dir(dir.path().join("sub")).unwrap();
    let gone = Files {
        mount: dir.path().join("gone"),
        ..files
    };
    assert!(gone.judge(CERTS).is_err());
}

proptest! {
    #[test]
    fn no_configuration_upsets_the_reader(
        text in "(version = [0-9]\n)?(imports = \\[\"\\PC{0,9}\"\\]\n)?(\\[plugins\\.[a-z.\"]{0,9}\\]\n)?\\PC{0,40}"
    ) {
        if let Ok(parsed) = parse(&text) {
            judge(&[parsed], CERTS);
        }
    }
}
