//! containerd's configuration: whatever is in the file, it is judged or refused, and a list is never read.
#![no_main]

use cache_node::node_config::containerd_config::{Verdict, judge, parse};
use libfuzzer_sys::fuzz_target;

const CERTS_DIR: &str = "/etc/containerd/certs.d";

fuzz_target!(|text: &str| {
    if let Ok(parsed) = parse(text) {
        let is_list = judge(std::slice::from_ref(&parsed), "/a:/b");
        assert_ne!(is_list, Verdict::Reads, "{text}");
        judge(&[parsed.clone(), parsed], CERTS_DIR);
    }
});
