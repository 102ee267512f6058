use proptest::prelude::*;
use tar::{Builder, Header};

use super::*;

fn append(tar: &mut Builder<Vec<u8>>, path: &str, kind: EntryType, content: &[u8]) {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    if matches!(kind, EntryType::Symlink | EntryType::Link) {
        header.set_link_name("/etc/passwd").unwrap();
    }
    tar.append_data(&mut header, path, content).unwrap();
}

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Builder::new(Vec::new());
    for (path, content) in members {
        append(&mut tar, path, EntryType::Regular, content);
    }
    tar.into_inner().unwrap()
}

fn read_all(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ArchiveError> {
    let (mut tar, mut found) = (TarReader::new(bytes), Vec::new());
    while let Some(entry) = tar.next()? {
        let mut content = Vec::new();
        tar.read_to_end(&mut content).unwrap();
        if content.len() as u64 != entry.size {
            return Err(tar.truncated());
        }
        found.push((entry.path, content));
    }
    Ok(found)
}

fn error(bytes: &[u8]) -> String {
    larder_program::chain(&read_all(bytes).unwrap_err())
}

#[test]
fn other_things_than_tars_are_told_apart() {
    assert!(error(&[0x1f, 0x8b].repeat(600)).contains("no tar"), "gzip");
    assert!(error(b"").contains("truncated"));
    let whole = tar(&[("a", b"x"), ("b", &[7; 3000])]);
    assert!(error(&whole[..1536 + 700]).contains("truncated"), "in a member");
    assert!(error(&whole[..1024]).contains("behind a"), "between members");
    let mut damaged = whole;
    damaged[1024] ^= 1;
    assert!(error(&damaged).contains("damaged"));
}

#[test]
fn only_files_and_directories_are_taken() {
    for (kind, word) in [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "neither"),
        (EntryType::Fifo, "neither"),
        (EntryType::GNUSparse, "sparse"),
    ] {
        let mut tar = Builder::new(Vec::new());
        append(&mut tar, "index.json", kind, b"");
        let text = error(&tar.into_inner().unwrap());
        assert!(text.contains("index.json") && text.contains(word), "{text}");
    }
}

#[test]
fn attributes_are_bounded_and_heeded() {
    let mut big = Header::new_ustar();
    big.set_entry_type(EntryType::XHeader);
    big.set_size(1 << 40);
    big.set_cksum();
    assert!(error(big.as_bytes()).contains("longer than 65536 bytes"));

    let path = format!("blobs/sha512/{}", "ab".repeat(64));
    let mut tar = Builder::new(Vec::new());
    tar.append_pax_extensions([("path", path.as_bytes()), ("mtime", b"1.5")])
        .unwrap();
    append(&mut tar, "short", EntryType::Regular, b"content");
    assert_eq!(
        read_all(&tar.into_inner().unwrap()).unwrap(),
        [(path, b"content".to_vec())]
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read(members in prop::collection::vec(("[a-z]{1,120}/[a-z]{1,120}", any::<Vec<u8>>()), 0..5)) {
        let borrowed: Vec<_> = members.iter().map(|(path, content)| (&path[..], &content[..])).collect();
        prop_assert_eq!(read_all(&tar(&borrowed)).unwrap(), members);
    }

    #[test]
    fn a_changed_byte_never_makes_it_panic(at in 0usize..2048, byte: u8) {
        let mut bytes = tar(&[("a", b"x"), ("index.json", b"{}")]);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = read_all(&bytes);
    }
}
