//! Names, tags and digests: what parses is shown as it was written, and cannot climb out of a store's directory.
#![no_main]

use cache_node::oci::{Digest, Reference, RepoName, Tag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let shown = [
        text.parse::<RepoName>().ok().map(|name| name.to_string()),
        text.parse::<Tag>().ok().map(|tag| tag.to_string()),
        text.parse::<Digest>().ok().map(|digest| digest.to_string()),
        text.parse::<Reference>()
            .ok()
            .map(|reference| reference.to_string()),
    ];
    for shown in shown.into_iter().flatten() {
        assert_eq!(shown, text);
        assert!(
            !shown.split('/').any(|step| matches!(step, "" | "." | "..")),
            "{shown}"
        );
    }
});
