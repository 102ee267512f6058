//! The steps, each with what it must bring about by itself.

use std::os::unix::fs::FileExt as _;

use super::*;

/// How a fill ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Kept,
    Aside,
    Lost,
    Wrong,
}

impl World {
    pub(super) fn perform(&mut self, step: Step) -> Change {
        match step {
            Step::Fill(item) if item < MANIFESTS => return self.fill(item, End::Kept),
            Step::Fill(item) => return self.put(item),
            Step::FillHalf(item, is_lost) => {
                return self.fill(item, if is_lost { End::Lost } else { End::Aside });
            }
            Step::FillWrong(item) => return self.fill(item, End::Wrong),
            Step::Read(item) => return self.open_blob(item, false),
            Step::Hold(item) => return self.open_blob(item, true),
            Step::Release => drop(self.held.pop()),
            Step::Protect(roots, pins) => {
                (self.roots, self.pins) = (roots, pins);
                self.protect();
            }
            Step::Remove(item) => {
                let was_there = self.store().remove(&digest(item), Removal::Purged);
                assert_eq!(was_there, self.states[item] != State::Absent);
                return Change {
                    gone: vec![item],
                    ..Change::default()
                };
            }
            Step::Crash | Step::Restart => return self.restart(matches!(step, Step::Crash)),
            Step::Rot(item) | Step::Touch(item) => self.damage(item, matches!(step, Step::Rot(_))),
            Step::Verify(item) => return self.verify(&[item]),
            Step::Scrub => return self.verify(&std::array::from_fn::<_, { BLOCKS.len() }, _>(|item| item)),
            Step::SetFull(is_full) => self.switch.is_full.store(is_full, Ordering::Relaxed),
            Step::SetCapacity(blocks) => {
                self.capacity_bytes = blocks * BLOCK_BYTES;
                self.store().set_limits(limits(self.capacity_bytes));
            }
            Step::MakeHeadroom => {
                self.store().make_headroom();
                return Change {
                    is_headroom: true,
                    ..Change::default()
                };
            }
            Step::Maintain => {
                self.store().maintain();
                assert!(self.store().takes_content() || self.switch.is_full.load(Ordering::Relaxed));
                return Change {
                    is_upkeep: true,
                    ..Change::default()
                };
            }
        }
        Change::default()
    }

    fn fill(&mut self, item: usize, end: End) -> Change {
        let store = self.store().clone();
        let mut change = Change::default();
        if store.contains(&digest(item)) || !store.takes_content() {
            return change;
        }
        let length = body(item).len() as u64;
        // The journal is a file too.
        change.wanted_bytes = length + BLOCK_BYTES;
        let partial = match store.partial(&digest(item), Some(length)) {
            Ok(partial) => partial,
            Err(error) => return self.failed(&error, change),
        };
        match write(&store, &partial, item, end) {
            Ok(()) if end == End::Kept => {
                self.states[item] = State::Good;
                change.added = Some(item);
            }
            Ok(()) => {}
            Err(error) => {
                let _ = partial.discard();
                return self.failed(&error, change);
            }
        }
        change
    }

    fn put(&mut self, item: usize) -> Change {
        let store = self.store().clone();
        let mut change = Change::default();
        if !store.takes_content() {
            return change;
        }
        // With the record of its type.
        change.wanted_bytes = 2 * BLOCK_BYTES;
        let manifest = Manifest {
            digest: digest(item),
            media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
            body: body(item),
        };
        match store.put_manifest(&manifest) {
            Ok(()) => {
                self.states[item] = State::Good;
                change.added = Some(item);
                change
            }
            Err(error) => self.failed(&error, change),
        }
    }

    /// Only for want of room, or for a full disk.
    fn failed(&self, error: &Error, change: Change) -> Change {
        let is_refused = matches!(error, Error::NoRoom { .. });
        let is_full = self.switch.is_full.load(Ordering::Relaxed);
        assert!(is_refused || is_full, "{error:?}");
        assert!(self.store().note_failure(error, 0));
        assert_eq!(self.store().takes_content(), is_refused);
        Change { is_refused, ..change }
    }

    fn open_blob(&mut self, item: usize, is_held: bool) -> Change {
        let found = self.store().blob(&digest(item));
        match (self.states[item], found) {
            (State::Good, Some(blob)) => {
                assert_eq!(read(&blob), body(item));
                self.held.extend(is_held.then_some((item, blob)));
            }
            (State::Rotten, Some(_)) | (State::Absent | State::Touched, None) => {}
            (state, found) => panic!("{item} is {state:?}: {found:?}"),
        }
        self.gone_if(&[item], |state| state == State::Touched)
    }

    fn verify(&mut self, items: &[usize]) -> Change {
        for item in items {
            let verdict = self.store().verify(&digest(*item), |_| true);
            let expected = match self.states[*item] {
                State::Good => Verdict::Sound(body(*item).len() as u64),
                State::Rotten => Verdict::Condemned(Finding::Mismatch),
                State::Absent | State::Touched => Verdict::Unknown,
            };
            assert_eq!(verdict, expected, "{item}");
        }
        self.gone_if(items, |state| matches!(state, State::Rotten | State::Touched))
    }

    fn restart(&mut self, is_crash: bool) -> Change {
        if is_crash {
            self.switch.is_dead.store(true, Ordering::Relaxed);
        } else {
            self.store().record_uses();
        }
        self.held.clear();
        self.store = None;
        self.switch.is_dead.store(false, Ordering::Relaxed);
        self.open();
        let all: [usize; BLOCKS.len()] = std::array::from_fn(|item| item);
        let change = self.gone_if(&all, |state| state == State::Touched);
        // It also looks after the room.
        Change {
            is_upkeep: true,
            ..change
        }
    }

    fn gone_if(&self, items: &[usize], is_gone: impl Fn(State) -> bool) -> Change {
        let gone: Vec<_> = items
            .iter()
            .copied()
            .filter(|item| is_gone(self.states[*item]))
            .collect();
        for item in &gone {
            assert!(!self.store().contains(&digest(*item)));
        }
        Change {
            gone,
            ..Change::default()
        }
    }

    fn damage(&mut self, item: usize, is_hidden: bool) {
        if self.states[item] != State::Good {
            return;
        }
        let path = self.store().layout().blob(&digest(item));
        let times = fs::metadata(&path).unwrap().modified().unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"!", 0).unwrap();
        if is_hidden {
            file.set_modified(times).unwrap();
        }
        // Who reads it now reads that.
        self.held.retain(|(held, _)| *held != item);
        self.states[item] = if is_hidden { State::Rotten } else { State::Touched };
    }
}

fn write(store: &Store, partial: &Partial, item: usize, end: End) -> Result<(), Error> {
    let body = body(item);
    let mut there = vec![0; body.len()];
    for range in partial.found().1.iter() {
        let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
        partial
            .file()
            .read_exact_at(&mut there[range.clone()], range.start as u64)
            .unwrap();
        assert_eq!(there[range.clone()], body[range]);
    }
    partial.set_length(body.len() as u64)?;
    match end {
        End::Kept => {
            partial.write(0, &[body])?;
            store.commit(partial)?;
        }
        End::Aside | End::Lost => {
            partial.write(0, &[body.slice(..body.len() / 2)])?;
            if end == End::Aside {
                partial.set_aside()?;
            }
        }
        End::Wrong => {
            partial.write(0, &[Bytes::from(vec![0; body.len()])])?;
            partial.discard()?;
        }
    }
    Ok(())
}
