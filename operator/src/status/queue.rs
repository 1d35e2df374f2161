//! Which objects are looked at when: each at most once at a time, none forgotten, failures with growing pauses. Pure.
//!
//! Holds an object once however often it changes, so its size is bounded by the number of objects.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::model::ObjectKey;

/// The first pause after a failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What came of looking at an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// There is nothing more to do until it changes.
    Settled,
    /// It is not time yet: again then, or when it changes.
    NotBefore(Instant),
    /// Something went wrong: again after a pause.
    Failed,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Ready,
    /// Again at this time; `early` if a change ends the wait.
    Waiting {
        until: Instant,
        early: bool,
    },
    /// Being looked at; `again` if it changed meanwhile.
    Running {
        again: bool,
    },
}

#[derive(Debug)]
struct Entry {
    state: State,
    /// Since when there is something to do.
    since: Instant,
    failures: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: BTreeMap<ObjectKey, Entry>,
    ready: VecDeque<ObjectKey>,
    timers: BTreeSet<(Instant, ObjectKey)>,
}

impl Queue {
    /// Objects changed.
    pub(super) fn mark(&mut self, keys: impl IntoIterator<Item = ObjectKey>, now: Instant) {
        for key in keys {
            let Some(entry) = self.entries.get_mut(&key) else {
                self.entries.insert(key.clone(), Entry { state: State::Ready, since: now, failures: 0 });
                self.ready.push_back(key);
                continue;
            };
            match &mut entry.state {
                State::Running { again } => *again = true,
                State::Waiting { until, early: true } => {
                    self.timers.remove(&(*until, key.clone()));
                    entry.state = State::Ready;
                    self.ready.push_back(key);
                }
                State::Ready | State::Waiting { .. } => {}
            }
        }
    }

    /// The next object to look at, and since when there is something to do.
    pub(super) fn next(&mut self, now: Instant) -> Option<(ObjectKey, Instant)> {
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, key)) = self.timers.pop_first() else { break };
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.state = State::Ready;
                self.ready.push_back(key);
            }
        }
        let key = self.ready.pop_front()?;
        let entry = self.entries.get_mut(&key)?;
        entry.state = State::Running { again: false };
        Some((key, entry.since))
    }

    /// An object was looked at.
    pub(super) fn done(&mut self, key: ObjectKey, outcome: Outcome, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let again = entry.state == State::Running { again: true };
        let (until, early) = match outcome {
            Outcome::Settled if again => {
                (entry.since, entry.failures, entry.state) = (now, 0, State::Ready);
                self.ready.push_back(key);
                return;
            }
            Outcome::Settled => {
                self.entries.remove(&key);
                return;
            }
            Outcome::NotBefore(_) if again => {
                entry.state = State::Ready;
                self.ready.push_back(key);
                return;
            }
            Outcome::NotBefore(until) => (until, true),
            Outcome::Failed => {
                let pause = FIRST_PAUSE.saturating_mul(1 << entry.failures.min(16)).min(LONGEST_PAUSE);
                entry.failures += 1;
                (now + pause, false)
            }
        };
        entry.state = State::Waiting { until, early };
        self.timers.insert((until, key));
    }

    /// When [`Queue::next`] has something that it has not now.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Forgets everything that is not being looked at.
    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.timers.clear();
        self.entries.retain(|_, entry| match &mut entry.state {
            State::Running { again } => {
                *again = false;
                true
            }
            _ => false,
        });
    }

    /// How many objects have something to do.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::HttpRoute, "d", name)
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.next(now).map(|(key, _)| key.name.to_string())
    }

    #[test]
    fn an_object_is_looked_at_once_however_often_it_changes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.mark([key("a"), key("b"), key("a")], now);
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
        assert_eq!(next(&mut queue, now).as_deref(), Some("b"));
        assert_eq!(next(&mut queue, now), None);
        queue.done(key("a"), Outcome::Settled, now);
        queue.done(key("b"), Outcome::Settled, now);
        assert_eq!((next(&mut queue, now), queue.len()), (None, 0));
    }

    #[test]
    fn what_changes_while_it_is_looked_at_is_looked_at_again() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.mark([key("a")], now);
        assert!(next(&mut queue, now).is_some());
        queue.mark([key("a")], now);
        assert_eq!(next(&mut queue, now), None, "never twice at a time");
        queue.done(key("a"), Outcome::Settled, now);
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
    }

    #[test]
    fn a_wait_ends_with_its_time_or_with_a_change() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_millis(500);
        queue.mark([key("a"), key("b")], now);
        for name in ["a", "b"] {
            assert!(next(&mut queue, now).is_some());
            queue.done(key(name), Outcome::NotBefore(later), now);
        }
        assert_eq!((next(&mut queue, now), queue.deadline()), (None, Some(later)));
        queue.mark([key("b")], now);
        let (found, since) = queue.next(now).unwrap();
        assert_eq!((found, since), (key("b"), now), "it is still the same change");
        assert_eq!(next(&mut queue, later).as_deref(), Some("a"));
        assert_eq!(queue.deadline(), None);
    }

    #[test]
    fn failures_are_tried_again_with_growing_pauses() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.mark([key("a")], now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert!(next(&mut queue, now).is_some());
            queue.done(key("a"), Outcome::Failed, now);
            // A change does not make an API server answer.
            queue.mark([key("a")], now);
            assert_eq!(next(&mut queue, now), None);
            let at = queue.deadline().unwrap();
            pauses.push(at.duration_since(now));
            now = at;
        }
        assert!(pauses.is_sorted());
        assert_eq!((pauses[0], pauses[9]), (FIRST_PAUSE, LONGEST_PAUSE));
    }

    #[test]
    fn a_follower_has_nothing_to_do() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.mark([key("a"), key("b"), key("c")], now);
        assert!(next(&mut queue, now).is_some());
        queue.clear();
        assert_eq!((next(&mut queue, now), queue.deadline()), (None, None));
        queue.done(key("a"), Outcome::Settled, now);
        assert_eq!(queue.len(), 0);
    }
}
