//! The rights of one cache directory: what is learned, decided, kept, and lost.

use std::fs::{self, OpenOptions};
use std::io::Write as _;

use proptest::prelude::*;

use super::*;
use crate::oci::{Algorithm, MediaType};

const STALE: Duration = Duration::from_hours(1);

struct Scene {
    folder: tempfile::TempDir,
    store: Arc<Store>,
    rights: Rights,
}

fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(folder.path()).unwrap());
    let rights = Rights::open(Arc::clone(&store), PROOF_TTL).unwrap();
    Scene {
        folder,
        store,
        rights,
    }
}

impl Scene {
    fn restart(self) -> Self {
        self.rights.flush();
        let Self {
            folder,
            store,
            rights,
        } = self;
        drop((rights, store));
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let rights = Rights::open(Arc::clone(&store), PROOF_TTL).unwrap();
        Self {
            folder,
            store,
            rights,
        }
    }

    /// Content that the store has.
    fn stored(&self, content: &str) -> Manifest {
        let body = bytes::Bytes::copy_from_slice(content.as_bytes());
        let manifest = Manifest {
            digest: digest(content),
            media_type: MediaType::oci_index(),
            body,
        };
        self.store.put_manifest(&manifest).unwrap();
        manifest
    }

    fn decide(&self, digest: &Digest, scope: &Scope) -> Decision {
        self.rights.decide(digest, scope, STALE)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.store.layout().rights()).unwrap()
    }
}

fn digest(content: &str) -> Digest {
    Digest::of(Algorithm::Sha256, content.as_bytes())
}

fn repository(name: &str) -> Repository {
    Repository {
        registry: "up.test".into(),
        name: name.parse().unwrap(),
    }
}

fn anonymous(name: &str) -> Scope {
    Scope {
        repository: repository(name),
        credential: CredentialKey::Anonymous,
        fingerprint: None,
    }
}

fn secret(name: &str, fingerprint: u32) -> Scope {
    Scope {
        credential: CredentialKey::Secret("s".into()),
        fingerprint: Some(fingerprint),
        ..anonymous(name)
    }
}

const ASK: Decision = Decision::Prove { may_be_stale: false };

#[test]
fn what_is_private_is_for_who_proved_it() {
    let scene = scene();
    let content = scene.stored("private").digest;
    let owner = secret("a/app", 1);
    scene.rights.proved(&content, &owner);
    let scene = scene.restart();
    assert_eq!(scene.decide(&content, &owner), Decision::Serve);
    for stranger in [
        anonymous("a/app"),
        anonymous("b/app"),
        secret("b/app", 1),
        secret("a/app", 2),
    ] {
        assert_eq!(scene.decide(&content, &stranger), ASK, "{stranger:?}");
    }
    let mut elsewhere = owner.clone();
    elsewhere.repository.registry = "other.test".into();
    assert_eq!(scene.decide(&content, &elsewhere), ASK);
    let mut other_secret = owner;
    other_secret.credential = CredentialKey::Secret("t".into());
    assert_eq!(scene.decide(&content, &other_secret), ASK);
}

#[test]
fn what_is_public_is_for_every_repository_that_has_or_names_it() {
    let scene = scene();
    let layer = scene.stored("layer").digest;
    let text = format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{layer}","size":5}}]}}"#);
    let manifest = scene.stored(&text);
    scene.rights.proved(&layer, &anonymous("a/app"));
    let (owner, other) = (secret("b/app", 1), anonymous("c/app"));
    // A manifest counts where the repository is known to have it.
    scene.rights.names(&manifest, &owner.repository);
    assert_eq!(scene.decide(&layer, &owner), ASK);
    scene.rights.proved(&manifest.digest, &owner);
    scene.rights.names(&manifest, &owner.repository);
    let scene = scene.restart();
    assert_eq!(scene.decide(&layer, &owner), Decision::Serve);
    assert_eq!(scene.decide(&layer, &other), ASK);
    assert_eq!(scene.rights.members(&layer), [repository("a/app")]);
    assert!(scene.rights.is_public(&layer) && !scene.rights.is_public(&manifest.digest));
}

#[test]
fn a_manifest_opens_nothing_that_is_private() {
    let scene = scene();
    let layer = scene.stored("layer").digest;
    let text = format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{layer}","size":5}}]}}"#);
    let manifest = scene.stored(&text);
    scene.rights.proved(&layer, &secret("a/app", 1));
    let thief = anonymous("b/app");
    scene.rights.proved(&manifest.digest, &thief);
    scene.rights.names(&manifest, &thief.repository);
    assert_eq!(scene.decide(&layer, &thief), ASK);
    assert!(!scene.rights.is_member(&layer, &thief.repository));
    // From the moment when it is public, it is what the manifest says.
    scene.rights.proved(&layer, &anonymous("c/app"));
    assert_eq!(scene.decide(&layer, &thief), Decision::Serve);
}

#[test]
fn a_refusal_takes_away_what_it_is_about() {
    let scene = scene();
    let (one, two) = (scene.stored("one").digest, scene.stored("two").digest);
    let owner = secret("a/app", 1);
    for content in [&one, &two] {
        scene.rights.proved(content, &owner);
    }
    for harmless in [
        Kind::Timeout,
        Kind::Status(500),
        Kind::RateLimited { retry_after: None },
    ] {
        scene.rights.refused(Some(&one), &owner, harmless);
    }
    scene.rights.refused(None, &owner, Kind::NotFound);
    assert_eq!(scene.decide(&one, &owner), Decision::Serve);
    scene.rights.refused(Some(&one), &owner, Kind::NotFound);
    let scene = scene.restart();
    assert_eq!(scene.decide(&one, &owner), ASK);
    assert_eq!(scene.decide(&two, &owner), Decision::Serve);
    for kind in [Kind::Unauthorized, Kind::Denied] {
        // What happens to an old password is nothing to the new one.
        scene.rights.refused(Some(&two), &secret("a/app", 2), kind);
        assert_eq!(scene.decide(&two, &owner), Decision::Serve);
        scene.rights.refused(Some(&two), &owner, kind);
        assert_eq!(scene.decide(&two, &owner), ASK);
        scene.rights.has_access(&owner);
        assert_eq!(scene.decide(&two, &owner), Decision::Serve);
    }
}

#[test]
fn what_was_imported_is_as_public_as_it_was() {
    let scene = scene();
    let (open, closed) = (scene.stored("open").digest, scene.stored("closed").digest);
    let repository = repository("a/app");
    scene.rights.vouch(&open, &repository, true);
    scene.rights.vouch(&closed, &repository, false);
    let scene = scene.restart();
    assert_eq!(scene.decide(&open, &anonymous("a/app")), Decision::Serve);
    assert_eq!(scene.decide(&closed, &anonymous("a/app")), ASK);
    assert!(scene.rights.is_member(&closed, &repository));
    scene.rights.forget(&open);
    let scene = scene.restart();
    assert_eq!(scene.decide(&open, &anonymous("a/app")), ASK);
    assert!(scene.rights.members(&open).is_empty() && !scene.rights.is_public(&open));
}

#[test]
fn what_is_not_stored_any_more_is_forgotten() {
    let scene = scene();
    let (kept, gone) = (scene.stored("kept").digest, digest("gone"));
    for content in [&kept, &gone] {
        scene.rights.proved(content, &anonymous("a/app"));
    }
    let scene = scene.restart();
    assert!(scene.rights.is_public(&kept) && !scene.rights.is_public(&gone));
}

/// What is learned just before content is in the store must not be lost by the very write that it causes; what leaves the
/// store for good is forgotten without a restart.
#[test]
fn compaction_spares_what_is_on_its_way_once() {
    let scene = scene();
    let fleeting = digest("fleeting");
    scene.rights.proved(&fleeting, &anonymous("a/app"));
    scene.rights.flush();
    assert!(scene.rights.is_public(&fleeting));
    let kept = scene.stored("kept").digest;
    for round in 0..4_000 {
        scene.rights.proved(&kept, &secret("b/app", round));
        scene.rights.flush();
    }
    assert!(scene.rights.is_member(&kept, &repository("b/app")));
    assert!(!scene.rights.is_public(&fleeting) && !scene.text().contains(&fleeting.hex()));
}

#[test]
fn a_torn_file_is_believed_line_by_line_and_written_anew() {
    let scene = scene();
    let (first, second) = (scene.stored("first").digest, scene.stored("second").digest);
    scene.rights.proved(&first, &secret("a/app", 1));
    scene.rights.flush();
    let salt = scene.rights.salt().clone();
    let mut file = OpenOptions::new()
        .append(true)
        .open(scene.store.layout().rights())
        .unwrap();
    // A repository whose line is lost gives its number to nobody.
    write!(
        file,
        "{{\"n\":1,\"regi\n{{\"digest\":\"{second}\",\"has\":[1,7]}}\n{{\"dig"
    )
    .unwrap();
    let scene = scene.restart();
    assert_eq!(scene.rights.salt(), &salt);
    assert_eq!(scene.decide(&first, &secret("a/app", 1)), Decision::Serve);
    scene.rights.proved(&second, &anonymous("b/app"));
    let scene = scene.restart();
    assert_eq!(scene.rights.members(&second), [repository("b/app")]);
    assert!(
        scene
            .text()
            .lines()
            .all(|line| line::parse(line.as_bytes()).is_some())
    );
}

#[test]
fn a_missing_file_costs_proofs_and_nothing_else() {
    let scene = scene();
    let content = scene.stored("content").digest;
    scene.rights.proved(&content, &secret("a/app", 1));
    let path = scene.store.layout().rights();
    let mut scene = scene.restart();
    fs::remove_file(&path).unwrap();
    scene = scene.restart();
    assert_eq!(scene.decide(&content, &secret("a/app", 1)), ASK);
    scene.rights.proved(&content, &secret("a/app", 1));
    assert_eq!(
        scene.restart().decide(&content, &secret("a/app", 1)),
        Decision::Serve
    );
}

#[test]
fn history_is_compacted() {
    let scene = scene();
    let content = scene.stored("content").digest;
    for round in 0..4_000 {
        scene.rights.proved(&content, &secret("a/app", round));
        scene.rights.flush();
    }
    let lines = scene.text().lines().count();
    assert!(lines < 2_000, "{lines}");
    assert_eq!(
        scene.restart().decide(&content, &secret("a/app", 3_999)),
        Decision::Serve
    );
}

#[test]
fn nothing_in_the_file_tells_the_credential() {
    let scene = scene();
    scene
        .rights
        .proved(&scene.stored("content").digest, &secret("a/app", 7));
    scene.rights.flush();
    let mut keys: Vec<_> = scene.text().lines().map(str::to_owned).collect();
    keys.retain(|line| line.contains("secret"));
    assert_eq!(keys.len(), 1);
    assert!(
        keys[0].starts_with(r#"{"n":0,"secret":"s","fingerprint":7,"provedAt":"#),
        "{keys:?}"
    );
}

#[test]
fn a_manifest_cannot_use_up_all_room() {
    let scene = scene();
    let layers: Vec<_> = (0..NAMED_MAX + 10).map(|n| digest(&n.to_string())).collect();
    let named: Vec<_> = layers
        .iter()
        .map(|layer| format!(r#"{{"digest":"{layer}","size":5}}"#))
        .collect();
    let manifest = scene.stored(&format!(
        r#"{{"schemaVersion":2,"layers":[{}]}}"#,
        named.join(",")
    ));
    scene.rights.proved(&manifest.digest, &anonymous("a/app"));
    scene.rights.names(&manifest, &repository("a/app"));
    for layer in &layers {
        scene.rights.vouch(layer, &repository("b/app"), true);
    }
    let is_member = |layer: &&Digest| scene.rights.is_member(layer, &repository("a/app"));
    assert_eq!(layers.iter().filter(is_member).count(), NAMED_MAX);
}

/// What a test does to rights.
#[derive(Clone, Debug)]
enum Step {
    Prove(u8, u8, bool),
    Vouch(u8, u8, bool),
    Lose(u8, u8),
    Forget(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (content, name) = (0..4_u8, 0..3_u8);
    let step = prop_oneof![
        4 => (content.clone(), name.clone(), any::<bool>()).prop_map(|(c, n, p)| Step::Prove(c, n, p)),
        2 => (content.clone(), name.clone(), any::<bool>()).prop_map(|(c, n, p)| Step::Vouch(c, n, p)),
        2 => (content.clone(), name).prop_map(|(c, n)| Step::Lose(c, n)),
        1 => content.prop_map(Step::Forget),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// In any order of events and restarts, exactly what a plain model says is known.
    #[test]
    fn a_model_agrees(steps in steps()) {
        let mut scene = scene();
        let mut has = std::collections::HashSet::new();
        let mut public = std::collections::HashSet::new();
        let contents: Vec<_> = (0..4_u8).map(|n| scene.stored(&n.to_string()).digest).collect();
        let name = |n: u8| format!("r/{n}");
        for step in steps {
            match step {
                Step::Prove(c, n, is_public) | Step::Vouch(c, n, is_public) => {
                    let scope = if is_public { anonymous(&name(n)) } else { secret(&name(n), 1) };
                    match step {
                        Step::Prove(..) => scene.rights.proved(&contents[usize::from(c)], &scope),
                        _ => scene.rights.vouch(&contents[usize::from(c)], &scope.repository, is_public),
                    }
                    has.insert((c, n));
                    if is_public {
                        public.insert(c);
                    }
                }
                Step::Lose(c, n) => {
                    scene.rights.refused(Some(&contents[usize::from(c)]), &anonymous(&name(n)), Kind::NotFound);
                    has.remove(&(c, n));
                }
                Step::Forget(c) => {
                    scene.rights.forget(&contents[usize::from(c)]);
                    has.retain(|&(other, _)| other != c);
                    public.remove(&c);
                }
                Step::Restart => scene = scene.restart(),
            }
            for c in 0..4_u8 {
                let digest = &contents[usize::from(c)];
                prop_assert_eq!(scene.rights.is_public(digest), public.contains(&c));
                for n in 0..3_u8 {
                    prop_assert_eq!(scene.rights.is_member(digest, &repository(&name(n))), has.contains(&(c, n)));
                }
            }
        }
    }
}
