//! The lines of the file of access rights: short, because there are as many as blobs. A repository is written once and
//! named by its number afterwards.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::facts::Event;
use crate::oci::Digest;
use crate::upstream::{CredentialKey, Repository, Salt};

/// One line. Which fields are there says what it is about.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    salt: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    registry: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    repository: Option<Cow<'a, str>>,
    /// The repository's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    n: Option<u32>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    digest: Option<Cow<'a, str>>,
    /// Repositories that have it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    has: Vec<u32>,
    /// Repositories in which a manifest names it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    named: Vec<u32>,
    #[serde(default, skip_serializing_if = "is_false")]
    public: bool,
    /// The repository that does not have it any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost: Option<u32>,
    #[serde(default, skip_serializing_if = "is_false")]
    gone: bool,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    secret: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proved_at: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a line says.
pub(super) enum Said {
    /// The salt of all fingerprints.
    Salt(Salt),
    /// Something about content, repositories or access.
    Event(Event),
}

/// Reads a line; None if it is torn or makes no sense.
pub(super) fn parse(line: &[u8]) -> Option<Said> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    if let Some(salt) = line.salt {
        return Some(Said::Salt(salt.parse().ok()?));
    }
    let event = if let Some(digest) = line.digest {
        let digest: Digest = digest.parse().ok()?;
        match (line.gone, line.lost) {
            (true, _) => Event::Gone(digest),
            (false, Some(repository)) => Event::Lost { digest, repository },
            (false, None) => Event::Content {
                digest,
                has: line.has,
                named: line.named,
                is_public: line.public,
            },
        }
    } else if let (Some(registry), Some(name)) = (line.registry, line.repository) {
        let repository = Repository {
            registry: registry.into(),
            name: name.parse().ok()?,
        };
        Event::Repository(line.n?, repository)
    } else {
        let secret = |name: Cow<'_, str>| CredentialKey::Secret(name.into());
        Event::Access {
            repository: line.n?,
            credential: line.secret.map_or(CredentialKey::Anonymous, secret),
            fingerprint: line.fingerprint,
            proved_at: line.proved_at?,
        }
    };
    Some(Said::Event(event))
}

/// Writes the line of the salt behind `text`.
pub(super) fn write_salt(text: &mut Vec<u8>, salt: &Salt) {
    write(
        text,
        &Line {
            salt: Some(salt.to_string().into()),
            ..Line::default()
        },
    );
}

/// Writes the line of an event behind `text`.
pub(super) fn write_event(text: &mut Vec<u8>, event: &Event) {
    let line = match event {
        Event::Repository(number, repository) => Line {
            n: Some(*number),
            registry: Some((&*repository.registry).into()),
            repository: Some(repository.name.as_str().into()),
            ..Line::default()
        },
        Event::Content {
            digest,
            has,
            named,
            is_public,
        } => Line {
            digest: Some(digest.to_string().into()),
            has: has.clone(),
            named: named.clone(),
            public: *is_public,
            ..Line::default()
        },
        Event::Lost { digest, repository } => Line {
            digest: Some(digest.to_string().into()),
            lost: Some(*repository),
            ..Line::default()
        },
        Event::Gone(digest) => Line {
            digest: Some(digest.to_string().into()),
            gone: true,
            ..Line::default()
        },
        Event::Access {
            repository,
            credential,
            fingerprint,
            proved_at,
        } => Line {
            n: Some(*repository),
            secret: match credential {
                CredentialKey::Anonymous => None,
                CredentialKey::Secret(name) => Some((&**name).into()),
            },
            fingerprint: *fingerprint,
            proved_at: Some(*proved_at),
            ..Line::default()
        },
    };
    write(text, &line);
}

fn write(text: &mut Vec<u8>, line: &Line<'_>) {
    // Neither a Vec nor a Line can fail to be written to or read from.
    let _ = serde_json::to_writer(&mut *text, line);
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;
    use proptest::prelude::*;

    fn events() -> impl Strategy<Value = Event> {
        let digest = any::<[u8; 4]>().prop_map(|seed| Digest::of(Algorithm::Sha256, &seed));
        let numbers = || proptest::collection::vec(any::<u32>(), 0..4);
        let credential = prop_oneof![
            Just(CredentialKey::Anonymous),
            "[a-z]{1,8}".prop_map(|name| CredentialKey::Secret(name.into())),
        ];
        prop_oneof![
            (any::<u32>(), "[a-z]{1,8}\\.test", "[a-z]{1,8}/[a-z]{1,8}").prop_map(|(n, registry, name)| {
                let name = name.parse().unwrap();
                let registry = registry.into();
                Event::Repository(n, Repository { registry, name })
            }),
            (digest.clone(), numbers(), numbers(), any::<bool>()).prop_map(
                |(digest, has, named, is_public)| {
                    Event::Content {
                        digest,
                        has,
                        named,
                        is_public,
                    }
                }
            ),
            (digest.clone(), any::<u32>())
                .prop_map(|(digest, repository)| Event::Lost { digest, repository }),
            digest.prop_map(Event::Gone),
            (any::<u32>(), credential, any::<Option<u32>>(), any::<u64>()).prop_map(
                |(repository, credential, fingerprint, proved_at)| Event::Access {
                    repository,
                    credential,
                    fingerprint,
                    proved_at,
                }
            ),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(event in events()) {
            let mut text = Vec::new();
            write_event(&mut text, &event);
            prop_assert_eq!(text.pop(), Some(b'\n'));
            match parse(&text) {
                Some(Said::Event(read)) => prop_assert_eq!(read, event),
                _ => prop_assert!(false, "{}", String::from_utf8_lossy(&text)),
            }
        }

        #[test]
        fn anything_can_be_tried(line: Vec<u8>) {
            let _ = parse(&line);
        }

        #[test]
        fn a_torn_line_says_nothing(event in events(), cut in any::<prop::sample::Index>()) {
            let mut text = Vec::new();
            write_event(&mut text, &event);
            text.truncate(cut.index(text.len() - 1));
            prop_assert!(parse(&text).is_none());
        }
    }

    #[test]
    fn a_salt_is_read_as_it_was_written() {
        let salt = Salt::random().unwrap();
        let mut text = Vec::new();
        write_salt(&mut text, &salt);
        assert!(matches!(parse(text.trim_ascii_end()), Some(Said::Salt(read)) if read == salt));
    }
}
