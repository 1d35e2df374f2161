//! Who is next: a keyed queue, pure.
//!
//! A key is in it once, however often it is added; it is worked on by one worker at a time, and again afterwards if it was
//! added meanwhile. A failure is tried again later and later. It is as large as there are keys, and no larger.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::fleet::backoff::{Backoff, jitter};

/// First and longest wait after a failure.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_mins(1));

/// See the module.
#[derive(Debug)]
pub struct Queue<K> {
    due: BTreeMap<K, Instant>,
    busy: BTreeSet<K>,
    failing: BTreeMap<K, Backoff>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self { due: BTreeMap::new(), busy: BTreeSet::new(), failing: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Queue<K> {
    /// Something changed for a key: it is due now, also where it waits after a failure.
    pub fn add(&mut self, key: K, now: Instant) {
        self.due.insert(key, now);
    }

    /// A key is due at some time, unless it is due earlier anyway.
    pub fn add_later(&mut self, key: K, at: Instant) {
        let due = self.due.entry(key).or_insert(at);
        *due = (*due).min(at);
    }

    /// A key that is due and not being worked on; it is busy until [`Queue::done`] or [`Queue::failed`].
    pub fn next(&mut self, now: Instant) -> Option<K> {
        let ready = self.due.iter().filter(|(key, at)| **at <= now && !self.busy.contains(*key));
        let key = ready.min_by_key(|(_, at)| **at).map(|(key, _)| key.clone())?;
        self.due.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    /// When [`Queue::next`] has something: the time at which the first key is due that is not being worked on.
    pub fn deadline(&self) -> Option<Instant> {
        self.due.iter().filter(|(key, _)| !self.busy.contains(*key)).map(|(_, at)| *at).min()
    }

    /// The work on a key succeeded.
    pub fn done(&mut self, key: &K) {
        self.busy.remove(key);
        self.failing.remove(key);
    }

    /// The work on a key failed: it is due again after a wait that grows with each failure.
    pub fn failed(&mut self, key: &K, now: Instant) {
        self.busy.remove(key);
        let backoff = self.failing.entry(key.clone()).or_insert_with(|| Backoff::new(WAITS.0, WAITS.1));
        let at = now + backoff.fail(jitter());
        self.add_later(key.clone(), at);
    }

    /// How many keys are being worked on.
    pub fn busy(&self) -> usize {
        self.busy.len()
    }

    /// How many keys wait.
    pub fn waiting(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_worked_on_by_one_at_a_time_and_again_if_it_changed_meanwhile() {
        let mut queue = Queue::default();
        let now = Instant::now();
        queue.add("a", now);
        queue.add("a", now);
        assert_eq!(queue.next(now), Some("a"));
        assert_eq!(queue.next(now), None);
        queue.add("a", now);
        assert_eq!(queue.next(now), None, "it is busy");
        assert_eq!(queue.deadline(), None, "nobody can do anything yet");
        queue.done(&"a");
        assert_eq!(queue.next(now), Some("a"));
        queue.done(&"a");
        assert_eq!((queue.next(now), queue.waiting(), queue.busy()), (None, 0, 0));
    }

    #[test]
    fn a_failure_waits_longer_each_time_until_something_changes_or_succeeds() {
        let mut queue = Queue::default();
        let now = Instant::now();
        let mut last = Duration::ZERO;
        queue.add("a", now);
        for _ in 0..6 {
            let at = queue.deadline().unwrap();
            assert_eq!(queue.next(at), Some("a"));
            queue.failed(&"a", at);
            let wait = queue.deadline().unwrap() - at;
            assert!(wait > last / 2, "{wait:?} after {last:?}");
            last = wait;
        }
        assert!(last > Duration::from_secs(4), "{last:?}");
        queue.add("a", now);
        assert_eq!(queue.next(now), Some("a"), "a change does not wait");
        queue.done(&"a");
        queue.add("a", now);
        assert_eq!(queue.next(now), Some("a"));
        queue.failed(&"a", now);
        assert!(queue.deadline().unwrap() - now < Duration::from_secs(2), "afresh after a success");
    }

    #[test]
    fn the_longest_waiting_is_next_and_later_never_delays() {
        let mut queue = Queue::default();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        queue.add_later("b", at(5));
        queue.add_later("a", at(9));
        queue.add_later("b", at(60));
        assert_eq!(queue.deadline(), Some(at(5)));
        assert_eq!(queue.next(now), None);
        assert_eq!(queue.next(at(10)), Some("b"));
        assert_eq!(queue.next(at(10)), Some("a"));
    }
}
