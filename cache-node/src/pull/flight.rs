//! One question to upstream however many clients ask: the work is a task of its own, so that it ends well also
//! when whoever asked first has gone.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Work that is under way, by what it is about.
pub(super) struct Flights<K, V> {
    running: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

/// The work was lost: its task panicked or the process is ending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lost;

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self {
            running: Arc::default(),
        }
    }
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// The result of the work on `key`: of `work`, unless some is under way already.
    ///
    /// The work starts at once and runs on when the returned future is dropped.
    pub(super) fn join<W, F>(
        &self,
        key: &K,
        work: W,
    ) -> impl Future<Output = Result<V, Lost>> + use<K, V, W, F>
    where
        W: FnOnce() -> F,
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = lock(&self.running);
        let mut result = match running.get(key) {
            Some(result) => result.clone(),
            None => {
                let (sender, result) = watch::channel(None);
                running.insert(key.clone(), result.clone());
                let landing = Landing {
                    key: key.clone(),
                    running: Arc::clone(&self.running),
                };
                let work = work();
                tokio::spawn(async move {
                    let value = work.await;
                    drop(landing);
                    sender.send_replace(Some(value));
                });
                result
            }
        };
        drop(running);
        async move {
            let value = result.wait_for(Option::is_some).await.map_err(|_| Lost)?;
            value.clone().ok_or(Lost)
        }
    }
}

/// Takes the flight off the list, whatever becomes of its task.
struct Landing<K: Eq + Hash, V> {
    key: K,
    running: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        lock(&self.running).remove(&self.key);
    }
}

fn lock<K, V>(
    running: &Mutex<HashMap<K, watch::Receiver<Option<V>>>>,
) -> MutexGuard<'_, HashMap<K, watch::Receiver<Option<V>>>> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn many_ask_one_works_also_when_the_first_leaves() {
        let flights = Flights::<u8, usize>::default();
        let worked = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(tokio::sync::Notify::new());
        let ask = || {
            let (worked, gate) = (Arc::clone(&worked), Arc::clone(&gate));
            flights.join(&1, || async move {
                gate.notified().await;
                worked.fetch_add(1, Ordering::SeqCst)
            })
        };
        drop(ask());
        let others: Vec<_> = (0..10).map(|_| ask()).collect();
        gate.notify_one();
        for other in others {
            assert_eq!(other.await.unwrap(), 0);
        }
        assert_eq!(worked.load(Ordering::SeqCst), 1);
        assert!(lock(&flights.running).is_empty());
    }

    #[tokio::test]
    async fn a_panic_is_a_loss_and_not_a_hang() {
        let flights = Flights::<u8, ()>::default();
        assert!(flights.join(&1, || async { panic!("on purpose") }).await.is_err());
        assert!(lock(&flights.running).is_empty());
    }
}
