//! Every kind of thing that may be found, under both policies.

use super::super::hosts::HostsToml;
use super::*;
use crate::config::Config;

const THEIRS: &str = "server = \"https://theirs.test\"\n";
const MTIME: Mtime = Mtime {
    seconds: 7,
    nanoseconds: 0,
};

fn owner(text: &str) -> Owner {
    text.parse().unwrap()
}

fn registry(fallback: &str) -> std::sync::Arc<Registry> {
    let yaml = format!(
        "apiVersion: larder.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {{name: m}}\n\
         spec: {{registries: [{{host: 'a.test:5000', fallback: {fallback}}}]}}\n"
    );
    std::sync::Arc::clone(&Config::parse(&yaml).unwrap().registries[0])
}

fn found(hosts: Hosts) -> Place {
    Place::Directory(Found {
        hosts,
        original: Hosts::Absent,
        certificates: Vec::new(),
        mtime: MTIME,
    })
}

fn foreign() -> Hosts {
    Hosts::Foreign(THEIRS.to_owned())
}

fn marked(by: &str, directory: Directory) -> Hosts {
    let owner = owner(by);
    Hosts::Marked {
        marker: Marker { owner, directory },
        is_intact: true,
        text: String::new(),
    }
}

/// What becomes of it, for the two directories of a host with a port, and the default one.
fn decide(
    existing: ExistingHosts,
    is_serving: bool,
    fallback: &str,
    places: [Place; 2],
    default: &Place,
) -> Decision {
    let renderer = HostsToml {
        cache: "http://127.0.0.1:5117".to_owned(),
    };
    let judge = Judge {
        owner: &owner("us"),
        existing,
        is_serving,
        renderer: &renderer,
    };
    judge.decide(&registry(fallback), &places, default, false)
}

fn serve(existing: ExistingHosts, places: [Place; 2], default: &Place) -> Decision {
    decide(existing, true, "Registry", places, default)
}

fn reason(decision: Decision) -> (Reason, String) {
    match decision {
        Decision::Leave(obstacle) => (obstacle.reason, obstacle.object),
        other => panic!("{other:?}"),
    }
}

fn body(decision: Decision) -> (usize, String) {
    match decision {
        Decision::Write { index, body } => (index, body),
        other => panic!("{other:?}"),
    }
}

use ExistingHosts::{Leave, Prepend};
use Place::Absent;

#[test]
fn where_there_is_nothing_the_name_is_made_that_hides_no_other() {
    let (index, text) = body(serve(Leave, [Absent, Absent], &Absent));
    assert_eq!(index, 1);
    assert!(text.contains("https://a.test:5000"));
    // An empty directory counts as it is, and so does an empty file.
    for hosts in [Hosts::Absent, Hosts::Foreign(String::new())] {
        let (index, again) = body(serve(Leave, [found(hosts), Absent], &found(foreign())));
        assert_eq!((index, again), (0, text.clone()));
    }
}

#[test]
fn what_is_foreign_is_left_or_prepended_to() {
    let in_first = || [found(foreign()), Absent];
    assert_eq!(reason(serve(Leave, in_first(), &Absent)).0, Reason::ForeignHosts);
    let (index, text) = body(serve(Prepend, in_first(), &Absent));
    assert!(index == 0 && text.contains(THEIRS) && text.contains("5117"));
    // The first directory counts, even when ours is in the second.
    let ours = found(marked("us", Directory::Made(MTIME)));
    let appeared = [found(foreign()), ours];
    assert_eq!(
        reason(serve(Leave, appeared.clone(), &Absent)).0,
        Reason::ForeignHosts
    );
    assert_eq!(body(serve(Prepend, appeared, &Absent)).0, 0);
    let certificate = Place::Directory(Found {
        hosts: Hosts::Absent,
        original: Hosts::Absent,
        certificates: vec!["ca.crt".to_owned()],
        mtime: MTIME,
    });
    let with_certificate = [Absent, certificate];
    assert_eq!(
        reason(serve(Leave, with_certificate.clone(), &Absent)).0,
        Reason::ForeignHosts
    );
    assert!(
        body(serve(Prepend, with_certificate, &Absent))
            .1
            .contains("ca = [\"ca.crt\"]")
    );
}

#[test]
fn what_cannot_be_merged_or_read_is_left_even_so() {
    let broken = Hosts::Foreign("server = ".to_owned());
    for hosts in [broken, Hosts::Opaque("it is a symbolic link")] {
        let places = [found(hosts), Absent];
        assert_eq!(reason(serve(Prepend, places, &Absent)).0, Reason::ForeignHosts);
    }
    let link = [Place::Opaque("it is a symbolic link"), Absent];
    assert_eq!(reason(serve(Prepend, link, &Absent)).0, Reason::ForeignHosts);
}

#[test]
fn the_default_directory_counts_where_there_is_no_other() {
    let default = found(foreign());
    for places in [
        [Absent, Absent],
        [Absent, found(marked("us", Directory::Made(MTIME)))],
    ] {
        assert_eq!(
            reason(serve(Leave, places.clone(), &default)).0,
            Reason::ForeignHosts
        );
        let (index, text) = body(serve(Prepend, places, &default));
        assert!(index == 1 && text.contains(THEIRS), "{text}");
    }
    // The directory was there before us, so it hid the default one before us.
    let places = [Absent, found(marked("us", Directory::Found(MTIME)))];
    assert_eq!(body(serve(Leave, places, &default)).0, 1);
}

#[test]
fn whoever_holds_a_file_keeps_it() {
    let theirs = || [found(marked("them", Directory::Made(MTIME))), Absent];
    for existing in [Leave, Prepend] {
        assert_eq!(
            reason(serve(existing, theirs(), &Absent)),
            (Reason::HostOwned, "them".to_owned())
        );
    }
    assert_eq!(theirs()[0].held_by(&owner("us")), None);
    assert!(theirs()[0].held_by(&owner("them")).is_some());
}

#[test]
fn an_original_aside_is_still_foreign() {
    let held = Place::Directory(Found {
        hosts: marked("us", Directory::Found(MTIME)),
        original: foreign(),
        certificates: Vec::new(),
        mtime: MTIME,
    });
    assert_eq!(
        reason(serve(Leave, [held.clone(), Absent], &Absent)).0,
        Reason::ForeignHosts
    );
    assert!(body(serve(Prepend, [held, Absent], &Absent)).1.contains(THEIRS));
}

#[test]
fn a_cache_that_is_not_well_is_bypassed_unless_there_is_no_other_way() {
    let nothing = || [Absent, Absent];
    assert_eq!(
        decide(Leave, false, "Registry", nothing(), &Absent),
        Decision::Withdraw
    );
    let (_, text) = body(decide(Leave, false, "None", nothing(), &Absent));
    assert!(
        text.contains("http://127.0.0.1:0") && !text.contains("5117"),
        "{text}"
    );
    let theirs = [found(foreign()), Absent];
    assert_eq!(
        decide(Prepend, false, "None", theirs, &Absent),
        Decision::Withdraw
    );
}

#[test]
fn three_foreign_writes_in_ten_minutes_are_a_contest_for_an_hour() {
    let (mut contest, start) = (Contest::default(), Instant::now());
    for write in 0..5 {
        contest.note(start + CONTEST_WINDOW / 2 * write);
        assert!(
            !contest.is_contested(start),
            "two within ten minutes are no contest"
        );
    }
    let now = start + CONTEST_WINDOW * 10;
    for write in 0..3 {
        assert!(!contest.is_contested(now));
        contest.note(now + Duration::from_secs(write));
    }
    assert!(contest.is_contested(now + Duration::from_mins(59)));
    assert!(!contest.is_contested(now + Duration::from_mins(61)));
}
