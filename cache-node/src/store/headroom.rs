//! Room that is free before somebody wants it, so that a pull need not wait for removals.

use super::admission::shortage;
use super::{Removal, Shared, Store};

/// How many objects go in one call, so that a process that is to end need not wait long.
const REMOVALS_MAX: usize = 256;

impl Store {
    /// Returns when content has been listed since it last did, or headroom was left to be made.
    pub async fn grown(&self) {
        self.shared.grown.notified().await;
    }

    /// Makes room for what may come, of what no fresh name needs, one object after the other: who has to wait for a removal
    /// meanwhile waits for no more than one. Blocks.
    pub fn make_headroom(&self) {
        let shared = &self.shared;
        if !self.takes_content() || shared.lack_of_headroom().is_none() {
            return;
        }
        let needed = shared.needed();
        for _ in 0..REMOVALS_MAX {
            let Some((removal, headroom_bytes)) = shared.lack_of_headroom() else {
                return;
            };
            // What is larger would leave the store emptier than it has to be.
            let victim = shared.index().pick_spare(&needed, headroom_bytes);
            match victim {
                Some(victim) => shared.remove_files(vec![victim], removal),
                None => return,
            }
        }
        shared.grown.notify_one();
    }
}

impl Shared {
    /// Why something should go, if something should, and the headroom that there is to be.
    fn lack_of_headroom(&self) -> Option<(Removal, u64)> {
        let (budget, space) = self.look();
        let headroom_bytes = budget.headroom_bytes();
        let shortage = shortage(&self.index(), &budget, &space, Some(headroom_bytes));
        (!shortage.is_none()).then(|| (self.cause(&budget, &space, shortage), headroom_bytes))
    }
}
