//! Each decision, with times given.

use super::*;

const NAME: &str = "pod-1";

fn facts(name: &str) -> PodFacts {
    PodFacts {
        name: name.to_owned(),
        mirror: "simple".to_owned(),
        node: format!("node-of-{name}"),
        created: None,
        is_ready: true,
        is_leaving: false,
        template_generation: None,
        trouble: None,
        restarts: 0,
        address: Some(address()),
    }
}

fn address() -> SocketAddr {
    "10.0.0.1:5119".parse().unwrap()
}

fn report() -> Option<Report> {
    Some(Report {
        mirror: "uid-1".to_owned(),
        ..Report::default()
    })
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A board with these pods, listed.
fn board(pods: &[PodFacts], now: Instant) -> Board {
    let mut board = Board::default();
    board.list();
    for facts in pods {
        board.apply(facts.clone(), now);
    }
    board.listed();
    board
}

fn answer(board: &Board) -> Answer {
    board.survey("simple", "uid-1").nodes[0].answer.clone()
}

/// Asks everybody who is due, with this answer.
fn ask(board: &mut Board, report: Option<&Report>, now: Instant) -> usize {
    let mut asked = 0;
    while let Some((name, address)) = board.next(now) {
        board.answered(&name, address, report.cloned(), now);
        asked += 1;
    }
    asked
}

#[test]
fn a_node_that_does_not_answer_twice_is_unreachable_and_one_answer_brings_it_back() {
    let now = Instant::now();
    let mut board = board(&[facts(NAME)], now);
    assert_eq!(ask(&mut board, None, now), 1);
    assert_eq!(answer(&board), Answer::Unasked);
    assert_eq!(board.wake(), Some(now + RETRY_AFTER));
    assert_eq!(ask(&mut board, None, now + RETRY_AFTER), 1);
    assert_eq!(answer(&board), Answer::Unreachable("10.0.0.1:5119".to_owned()));
    assert_eq!(ask(&mut board, report().as_ref(), now + seconds(30)), 1);
    assert!(matches!(answer(&board), Answer::Report(_)));
    // One lost answer changes nothing.
    board.take_changed();
    assert_eq!(ask(&mut board, None, now + seconds(60)), 1);
    assert!(matches!(answer(&board), Answer::Report(_)));
    assert!(board.take_changed().is_empty());
}

#[test]
fn a_pod_is_asked_at_once_when_it_becomes_ready_or_restarts_and_not_for_other_changes() {
    let now = Instant::now();
    let mut unready = facts(NAME);
    unready.is_ready = false;
    let mut board = board(std::slice::from_ref(&unready), now);
    ask(&mut board, report().as_ref(), now);
    let mut other = unready;
    other.trouble = Some(super::super::Trouble {
        reason: "X".to_owned(),
        message: String::new(),
    });
    board.apply(other, now);
    assert_eq!(ask(&mut board, report().as_ref(), now), 0);
    board.apply(facts(NAME), now);
    assert_eq!(ask(&mut board, report().as_ref(), now), 1);
    let mut restarted = facts(NAME);
    restarted.restarts = 1;
    board.apply(restarted, now);
    assert_eq!(ask(&mut board, report().as_ref(), now), 1);
}

#[test]
fn a_pod_that_changes_while_it_is_asked_is_asked_again() {
    let now = Instant::now();
    let mut board = board(&[facts(NAME)], now);
    let (name, address) = board.next(now).unwrap();
    let mut restarted = facts(NAME);
    restarted.restarts = 1;
    board.apply(restarted, now);
    assert_eq!(board.next(now), None, "not twice at once");
    board.answered(&name, address, report(), now);
    assert_eq!(ask(&mut board, report().as_ref(), now), 1);
}

#[test]
fn no_more_are_asked_at_once_than_allowed_and_those_that_go_make_room() {
    let now = Instant::now();
    let pods: Vec<_> = (0..100).map(|i| facts(&format!("pod-{i:03}"))).collect();
    let mut board = board(&pods, now);
    let asked: Vec<_> = std::iter::from_fn(|| board.next(now)).collect();
    assert_eq!(asked.len(), QUESTIONS_MAX);
    assert_eq!(board.wake(), None, "an answer must come first");
    board.remove(&asked[0].0);
    assert!(board.next(now).is_some());
    // Its answer comes all the same, and counts for nothing.
    board.answered(&asked[0].0, asked[0].1, report(), now);
    assert_eq!(board.next(now), None);
}

#[test]
fn sweeps_of_large_clusters_are_spread_over_their_time() {
    let now = Instant::now();
    let pods: Vec<_> = (0..5_000).map(|i| facts(&format!("pod-{i}"))).collect();
    let mut board = board(&pods, now);
    assert_eq!(ask(&mut board, report().as_ref(), now), 5_000);
    let mut most = 0;
    let mut all = 0;
    for second in 1..=25 {
        let asked = ask(&mut board, report().as_ref(), now + seconds(second));
        most = most.max(asked);
        all += asked;
    }
    assert_eq!(all, 5_000);
    assert!(most <= 300, "{most}");
}

#[test]
fn the_first_round_ends_when_everybody_has_answered_or_is_lost() {
    let now = Instant::now();
    let mut mute = facts("mute");
    mute.address = None;
    let mut board = board(&[facts("a"), facts("b"), facts("c"), mute], now);
    let is_complete = |board: &Board| board.survey("simple", "uid-1").is_complete;
    let asked: Vec<_> = std::iter::from_fn(|| board.next(now)).collect();
    let [(a, at), (b, _), (c, _)] = asked.as_slice() else {
        panic!("{asked:?}")
    };
    board.answered(a, *at, report(), now);
    board.answered(b, *at, None, now);
    assert!(!is_complete(&board));
    board.remove(c);
    assert!(!is_complete(&board));
    board.take_changed();
    assert_eq!(ask(&mut board, None, now + RETRY_AFTER), 1);
    assert!(is_complete(&board));
    assert_eq!(board.take_changed(), BTreeSet::from(["simple".to_owned()]));
    // Newcomers do not begin it anew.
    board.apply(facts("d"), now);
    assert!(is_complete(&board));
    assert!(
        !is_complete(&Board::default()),
        "nothing is known before the pods are listed"
    );
}

#[test]
fn a_pod_that_does_not_get_on_is_lost_after_a_while_and_its_first_answer_brings_it_back() {
    let now = Instant::now();
    let mut starting = facts(NAME);
    (starting.is_ready, starting.address) = (false, None);
    let mut board = board(std::slice::from_ref(&starting), now);
    assert_eq!(board.wake(), Some(now + START_MAX));
    board.take_changed();
    assert_eq!(board.next(now + START_MAX - seconds(1)), None);
    assert_eq!(answer(&board), Answer::Unasked);
    assert_eq!(board.next(now + START_MAX), None);
    assert_eq!(answer(&board), Answer::Unreachable(String::new()));
    assert_eq!(board.take_changed(), BTreeSet::from(["simple".to_owned()]));
    assert_eq!(board.wake(), None);
    board.apply(facts(NAME), now + START_MAX);
    assert_eq!(ask(&mut board, report().as_ref(), now + START_MAX), 1);
    assert!(matches!(answer(&board), Answer::Report(_)));
}

#[test]
fn a_new_listing_forgets_what_it_does_not_show() {
    let now = Instant::now();
    let mut board = board(&[facts("a"), facts("b")], now);
    ask(&mut board, report().as_ref(), now);
    board.take_changed();
    board.list();
    board.apply(facts("b"), now);
    assert_eq!(
        board.survey("simple", "uid-1").nodes.len(),
        2,
        "not before it is complete"
    );
    board.listed();
    let survey = board.survey("simple", "uid-1");
    assert_eq!(survey.nodes.len(), 1);
    assert!(
        matches!(survey.nodes[0].answer, Answer::Report(_)),
        "what is known is kept"
    );
    assert_eq!(board.take_changed(), BTreeSet::from(["simple".to_owned()]));
}

#[test]
fn of_two_pods_on_a_node_the_ready_one_counts_and_one_that_leaves_does_not() {
    let now = Instant::now();
    let on_node = |name: &str, is_ready, created: &str| PodFacts {
        node: "node".to_owned(),
        is_ready,
        created: Some(created.parse().unwrap()),
        ..facts(name)
    };
    let old = on_node("z-old", true, "2026-11-21T10:00:00Z");
    let new = on_node("a-new", false, "2026-11-21T11:00:00Z");
    let pods = |board: &Board| -> Vec<_> {
        let nodes = board.survey("simple", "uid-1").nodes;
        nodes.into_iter().map(|node| node.pod).collect()
    };
    let mut board = board(&[old.clone(), new.clone()], now);
    assert_eq!(pods(&board), ["z-old"]);
    board.apply(
        PodFacts {
            is_ready: true,
            ..new
        },
        now,
    );
    assert_eq!(pods(&board), ["a-new"]);
    board.remove("a-new");
    assert_eq!(pods(&board), ["z-old"]);
    board.apply(
        PodFacts {
            is_leaving: true,
            address: None,
            ..old
        },
        now,
    );
    assert_eq!(pods(&board), [""; 0]);
    assert_eq!(board.next(now + seconds(60)), None);
}
