//! `WWW-Authenticate`, one header line per line: registries send anything, and none of it may panic or pile up.
#![no_main]

use cache_node::upstream::challenge::{Challenge, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let challenges = parse(text.lines());
    assert!(challenges.len() <= text.len());
    for challenge in challenges {
        let Challenge::Bearer {
            realm,
            service,
            scope,
        } = challenge
        else {
            continue;
        };
        assert!(!realm.is_empty());
        let bytes = [Some(realm), service, scope]
            .into_iter()
            .flatten()
            .map(|value| value.len())
            .sum::<usize>();
        assert!(bytes <= text.len(), "more than was sent");
    }
});
