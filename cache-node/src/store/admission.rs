//! Letting content in: room is reserved before the first byte is written, and made by evicting where it pays.

use std::sync::{Arc, MutexGuard, PoisonError};

use super::index::{IdlePartial, Index, ReservationId, Reserved};
use super::removal::Victim;
use super::room::{Shortage, Usage};
use super::{Budget, Error, Removal, Shared, Space};
use crate::oci::Digest;

/// The room that a running fill may take; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    shared: Arc<Shared>,
    id: ReservationId,
}

impl Reservation {
    /// Reserves `bytes` for a new file.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub(super) fn new(shared: Arc<Shared>, bytes: u64) -> Result<Self, Error> {
        let id = shared.index().reserve(Reserved::default());
        let reservation = Self { shared, id };
        reservation.add(bytes)?;
        Ok(reservation)
    }

    /// Reserves what the unfinished fill of `digest` has taken. It is not idle from here on, so that nobody evicts it, and
    /// never uncounted, so that nobody takes its room.
    pub(super) fn of_idle(shared: Arc<Shared>, digest: &Digest) -> (Self, Option<IdlePartial>) {
        let mut index = shared.index();
        let idle = index.partials.remove(digest);
        let id = index.reserve(Reserved {
            bytes: idle.map_or(0, |idle| idle.stored_bytes),
            unallocated: 0,
        });
        drop(index);
        (Self { shared, id }, idle)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.shared
            .index()
            .reservations
            .get(&self.id)
            .map_or(0, |reserved| reserved.bytes)
    }

    /// Makes it at least `bytes`.
    ///
    /// # Errors
    /// [`Error::NoRoom`]; it stays as it was.
    pub(super) fn grow_to(&self, bytes: u64) -> Result<(), Error> {
        match bytes.saturating_sub(self.bytes()) {
            0 => Ok(()),
            more => self.add(more),
        }
    }

    /// Makes it larger by `more` bytes, or makes sure with 0 that there can be a file.
    ///
    /// # Errors
    /// [`Error::NoRoom`]; it stays as it was.
    pub(super) fn add(&self, more: u64) -> Result<(), Error> {
        self.shared.make_room(Some(more), |index| {
            if let Some(reserved) = index.reservations.get_mut(&self.id) {
                reserved.bytes += more;
                reserved.unallocated += more;
            }
        })
    }

    /// The disk has taken so many bytes of it for good.
    pub(super) fn set_allocated(&self, allocated: u64) {
        if let Some(reserved) = self.shared.index().reservations.get_mut(&self.id) {
            reserved.unallocated = reserved.bytes.saturating_sub(allocated);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.shared.index().reservations.remove(&self.id);
    }
}

impl Shared {
    /// Makes room for a file of `wanted` bytes more, or with `None` for what is there, and settles it with `take` before
    /// anybody else can have it. What is in the way is removed only if that is enough.
    ///
    /// # Errors
    /// [`Error::NoRoom`]: nothing was taken.
    pub(super) fn make_room(&self, wanted: Option<u64>, take: impl FnOnce(&mut Index)) -> Result<(), Error> {
        let (budget, space) = self.look();
        let wanted = wanted.map(|bytes| space.stored_bytes(bytes));
        let no_room = Error::NoRoom {
            wanted: wanted.unwrap_or_default(),
        };
        if wanted.is_some_and(|bytes| budget.is_beyond(&space, bytes)) {
            self.tallies.refused("too_large");
            return Err(no_room);
        }
        let mut index = self.index();
        let mut shortage = shortage(&index, &budget, &space, wanted);
        if shortage.is_none() {
            take(&mut index);
            self.wait_for_removals(index);
            return Ok(());
        }
        drop(index);
        let needed = self.needed();
        let mut index = self.index();
        // Others may have come or gone meanwhile.
        shortage = self::shortage(&index, &budget, &space, wanted);
        let victims = index.pick(shortage, &needed, budget.pinned_bytes_max, wanted.is_none());
        let Some(victims) = victims else {
            self.tallies.refused("no_room");
            return Err(no_room);
        };
        take(&mut index);
        drop(index);
        let removal = self.cause(&budget, &space, shortage);
        self.remove_files(victims, removal);
        self.wait_for_removals(self.index());
        Ok(())
    }

    /// Waits until what counted as gone when room was taken is gone, whoever removes it: else the disk would hold both for a
    /// moment.
    fn wait_for_removals(&self, index: MutexGuard<'_, Index>) {
        let counted: Vec<Digest> = index.removing.keys().copied().collect();
        let waited = self.removed.wait_while(index, |index| {
            counted.iter().any(|digest| index.removing.contains_key(digest))
        });
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// The budget and the file system as they are now; as they were last while another directory lies in the place of ours,
    /// whose disk says nothing of what we hold.
    pub(super) fn look(&self) -> (Budget, Space) {
        let space = Space::of(self.layout.root())
            .ok()
            .filter(|_| self.is_still_there());
        let mut room = self.room();
        if let Some(space) = space {
            room.space = space;
        }
        (Budget::of(&room.limits, &room.space), room.space)
    }

    pub(super) fn cause(&self, budget: &Budget, space: &Space, shortage: Shortage) -> Removal {
        if shortage.objects > 0 {
            Removal::Inodes
        } else if space.available_bytes < budget.min_free_bytes.saturating_add(shortage.bytes) {
            Removal::FreeSpace
        } else {
            Removal::Capacity
        }
    }

    /// Removes files that nobody lists any more, and nobody reads.
    pub(super) fn remove_files(&self, victims: Vec<Victim>, removal: Removal) {
        for victim in victims {
            self.empty(&victim);
            self.unlink(&victim);
            self.tallies.removed(removal, &victim);
        }
    }
}

/// What is missing for a file of `wanted` bytes more, or with `None` for what is there.
pub(super) fn shortage(index: &Index, budget: &Budget, space: &Space, wanted: Option<u64>) -> Shortage {
    let usage = Usage {
        used_bytes: index.used_bytes(),
        unallocated_bytes: index.reserved().unallocated,
        objects: index.len() + index.partials.len() + index.reservations.len(),
    };
    // What is being removed is as good as free.
    let space = Space {
        available_bytes: space.available_bytes.saturating_add(index.vanishing_bytes()),
        ..*space
    };
    budget.shortage(&space, usage, wanted)
}
