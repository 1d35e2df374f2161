//! A store and the registry as the streams share them: behind a lock, with a notification of changes.
//!
//! Locks are held for pure work only, never across an await.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    sync::watch,
    task::block_in_place,
};

use super::registry::Registry;
use crate::store::{Edit, Seq, Store};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind the lock stays consistent when a reader panics, and every edit is taken up by seq.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a runtime's thread waits for a lock before it leaves its other tasks to another thread. A thread that takes over has a memory
/// arena of its own, which buffers of its connections then fill: 6 KiB of a stream's 61 were that (B7), for waits that are shorter.
const SHORT: Duration = Duration::from_millis(1);

/// The same, where the writer may be at it for long: ten thousand routes are lowered in one edit. Other tasks of a runtime's thread do
/// not wait with this one.
fn lock_patiently<T: Send>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    if let Some(held) = lock_at_once(mutex) {
        return held;
    }
    let shares_its_thread =
        Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread);
    if !shares_its_thread {
        return lock(mutex);
    }
    let until = Instant::now() + SHORT;
    while Instant::now() < until {
        std::thread::yield_now();
        if let Some(held) = lock_at_once(mutex) {
            return held;
        }
    }
    block_in_place(|| lock(mutex))
}

fn lock_at_once<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(held) => Some(held),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// The store of one Gateway, and a notification when it changes.
#[derive(Debug)]
pub struct SharedStore {
    store: Mutex<Store>,
    changed: watch::Sender<StoreState>,
}

/// What streams are notified of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreState {
    /// The last edit.
    pub seq: Seq,
    /// Whether the Gateway is gone: its streams end.
    pub closed: bool,
}

impl Default for SharedStore {
    fn default() -> Self {
        Self::new(Store::default())
    }
}

impl SharedStore {
    /// Shares a store.
    pub fn new(store: Store) -> Self {
        let state = StoreState { seq: store.seq(), closed: false };
        Self { store: Mutex::new(store), changed: watch::Sender::new(state) }
    }

    /// Makes one edit, now, and tells the streams.
    pub fn edit<T>(&self, change: impl FnOnce(&mut Edit<'_>) -> T) -> T {
        self.update(|store| change(&mut store.edit(Instant::now())))
    }

    /// Changes the store, and tells the streams if an edit came of it. Keep it short: streams wait for it.
    pub fn update<T>(&self, change: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = lock(&self.store);
        let result = change(&mut store);
        let seq = store.seq();
        drop(store);
        self.changed.send_if_modified(|state| {
            let newer = seq > state.seq;
            state.seq = state.seq.max(seq);
            newer
        });
        result
    }

    /// Reads the store. Keep it short: the writer waits for it.
    pub fn read<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(&lock_patiently(&self.store))
    }

    /// Ends every stream of this store, because the Gateway is gone.
    pub fn close(&self) {
        self.changed.send_modify(|state| state.closed = true);
    }

    /// Follows the changes.
    pub fn subscribe(&self) -> watch::Receiver<StoreState> {
        self.changed.subscribe()
    }
}

/// The registry, as the server writes it and others read it.
#[derive(Debug, Default)]
pub struct SharedRegistry(Mutex<Registry>);

impl SharedRegistry {
    /// Reads the registry. Keep it short: streams wait for it.
    pub fn read<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&lock(&self.0))
    }

    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        change(&mut lock(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::store::{Resource, ResourceType};

    #[test]
    fn followers_are_told_of_edits_that_change_something() {
        let shared = SharedStore::default();
        let mut follower = shared.subscribe();
        let put = || {
            shared.edit(|edit| edit.upsert(ResourceType::Cluster, Resource::new("a", "1".into(), Vec::new())))
        };
        assert!(put());
        assert!(follower.has_changed().unwrap());
        assert_eq!(follower.borrow_and_update().seq, Seq(1));
        assert!(!put());
        assert!(!follower.has_changed().unwrap());
        shared.close();
        assert!(follower.borrow_and_update().closed);
    }

    /// As the operator serves proxies: on one thread.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_store_that_is_held_holds_up_those_who_read_it_and_nobody_else() {
        let (held, other) = (Arc::new(SharedStore::default()), SharedStore::default());
        let (holding, held_now) = oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn({
            let held = Arc::clone(&held);
            move || {
                held.update(|_| {
                    holding.send(()).unwrap();
                    released.recv_timeout(Duration::from_secs(20)).unwrap();
                });
            }
        });
        held_now.await.unwrap();
        let waiting = tokio::spawn(async move { held.read(Store::seq) });
        let others = tokio::spawn(async move { other.read(Store::seq) });
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), others).await.unwrap().unwrap(), Seq(0));
        assert!(!waiting.is_finished());
        release.send(()).unwrap();
        assert_eq!(waiting.await.unwrap(), Seq(0));
        writer.join().unwrap();
    }
}
