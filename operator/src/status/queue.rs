//! Which objects are looked at when: each at most once at a time, none forgotten, failures with growing pauses. Pure.
//!
//! Holds an object once however often it changes, so its size is bounded by the number of objects.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::{model::ObjectKey, runtime::Urgency};

/// How long the first write of a change waits for the proxies' answer, so that there is one write and not two.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// How long counts wait for more of them: one look at a Gateway and not one for each of its routes.
const MORE_COUNTS: Duration = Duration::from_millis(200);

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
    /// Being looked at; again from this time on if it changed meanwhile.
    Running {
        again: Option<Instant>,
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
    pub(super) fn mark(&mut self, keys: impl IntoIterator<Item = (ObjectKey, Urgency)>, now: Instant) {
        for (key, urgency) in keys {
            let at = now + delay(urgency);
            let Some(entry) = self.entries.get_mut(&key) else {
                let state = State::Waiting { until: at, early: true };
                self.entries.insert(key.clone(), Entry { state, since: now, failures: 0 });
                self.wait(key, at, now);
                continue;
            };
            match &mut entry.state {
                State::Running { again } => *again = Some(again.map_or(at, |before| before.min(at))),
                State::Waiting { until, early: true } if at < *until => {
                    self.timers.remove(&(*until, key.clone()));
                    *until = at;
                    self.wait(key, at, now);
                }
                State::Ready | State::Waiting { .. } => {}
            }
        }
    }

    /// Lets an object that waits go at its time.
    fn wait(&mut self, key: ObjectKey, at: Instant, now: Instant) {
        if at > now {
            self.timers.insert((at, key));
        } else if let Some(entry) = self.entries.get_mut(&key) {
            entry.state = State::Ready;
            self.ready.push_back(key);
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
        entry.state = State::Running { again: None };
        Some((key, entry.since))
    }

    /// An object was looked at.
    pub(super) fn done(&mut self, key: ObjectKey, outcome: Outcome, now: Instant) {
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let again = match entry.state {
            State::Running { again } => again,
            State::Ready | State::Waiting { .. } => None,
        };
        let (until, early) = match (outcome, again) {
            (Outcome::Settled, Some(at)) => {
                (entry.since, entry.failures) = (now, 0);
                (at, true)
            }
            (Outcome::Settled, None) => {
                self.entries.remove(&key);
                return;
            }
            (Outcome::NotBefore(until), again) => (again.map_or(until, |at| at.min(until)), true),
            (Outcome::Failed, _) => {
                let pause = FIRST_PAUSE.saturating_mul(1 << entry.failures.min(16)).min(LONGEST_PAUSE);
                entry.failures += 1;
                (now + pause, false)
            }
        };
        entry.state = State::Waiting { until, early };
        self.wait(key, until, now);
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
                *again = None;
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

/// How long a look may wait for more changes.
fn delay(urgency: Urgency) -> Duration {
    match urgency {
        Urgency::AtOnce => Duration::ZERO,
        Urgency::Counts => MORE_COUNTS,
        Urgency::Later => PATIENCE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new(Kind::HttpRoute, "d", name)
    }

    fn at_once<const N: usize>(names: [&str; N]) -> [(ObjectKey, Urgency); N] {
        names.map(|name| (key(name), Urgency::AtOnce))
    }

    fn next(queue: &mut Queue, now: Instant) -> Option<String> {
        queue.next(now).map(|(key, _)| key.name.to_string())
    }

    #[test]
    fn an_object_is_looked_at_once_however_often_it_changes() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.mark(at_once(["a", "b", "a"]), now);
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
        queue.mark(at_once(["a"]), now);
        assert!(next(&mut queue, now).is_some());
        queue.mark(at_once(["a"]), now);
        assert_eq!(next(&mut queue, now), None, "never twice at a time");
        queue.done(key("a"), Outcome::Settled, now);
        assert_eq!(next(&mut queue, now).as_deref(), Some("a"));
    }

    #[test]
    fn a_wait_ends_with_its_time_or_with_a_change() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let later = now + Duration::from_millis(500);
        queue.mark(at_once(["a", "b"]), now);
        for name in ["a", "b"] {
            assert!(next(&mut queue, now).is_some());
            queue.done(key(name), Outcome::NotBefore(later), now);
        }
        assert_eq!((next(&mut queue, now), queue.deadline()), (None, Some(later)));
        queue.mark(at_once(["b"]), now);
        let (found, since) = queue.next(now).unwrap();
        assert_eq!((found, since), (key("b"), now), "it is still the same change");
        assert_eq!(next(&mut queue, later).as_deref(), Some("a"));
        assert_eq!(queue.deadline(), None);
    }

    #[test]
    fn what_is_not_urgent_waits_for_what_is() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let after = |ms| now + Duration::from_millis(ms);
        queue.mark([(key("route"), Urgency::Later), (key("gateway"), Urgency::Counts)], now);
        assert_eq!((next(&mut queue, now), queue.deadline()), (None, Some(now + MORE_COUNTS)));
        // More of the same puts nothing off.
        queue.mark([(key("gateway"), Urgency::Counts), (key("gateway"), Urgency::Later)], after(100));
        assert_eq!(queue.deadline(), Some(now + MORE_COUNTS));
        // The proxies have answered.
        queue.mark(at_once(["route"]), after(10));
        let (found, since) = queue.next(after(10)).unwrap();
        assert_eq!((found, since), (key("route"), now));
        assert_eq!(next(&mut queue, after(10)), None);
        assert_eq!(next(&mut queue, now + MORE_COUNTS).as_deref(), Some("gateway"));
        // What changes while it is looked at is looked at as soon as the most urgent of it asks for.
        queue.mark([(key("gateway"), Urgency::Later), (key("gateway"), Urgency::Counts)], after(300));
        queue.done(key("gateway"), Outcome::Settled, after(310));
        assert_eq!((next(&mut queue, after(310)), queue.deadline()), (None, Some(after(300) + MORE_COUNTS)));
        assert_eq!(next(&mut queue, after(500)).as_deref(), Some("gateway"));
        // A long wait of the writer's is no longer than a change allows.
        queue.mark([(key("gateway"), Urgency::Counts)], after(510));
        queue.done(key("gateway"), Outcome::NotBefore(after(60_000)), after(520));
        assert_eq!(queue.deadline(), Some(after(510) + MORE_COUNTS));
        queue.mark([(key("gateway"), Urgency::Later)], after(520));
        assert_eq!(queue.deadline(), Some(after(510) + MORE_COUNTS));
        queue.mark(at_once(["gateway"]), after(530));
        assert_eq!((next(&mut queue, after(530)).as_deref(), queue.deadline()), (Some("gateway"), None));
    }

    #[test]
    fn failures_are_tried_again_with_growing_pauses() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.mark(at_once(["a"]), now);
        let mut pauses = Vec::new();
        for _ in 0..10 {
            assert!(next(&mut queue, now).is_some());
            queue.done(key("a"), Outcome::Failed, now);
            // A change does not make an API server answer.
            queue.mark(at_once(["a"]), now);
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
        queue.mark(at_once(["a", "b", "c"]), now);
        assert!(next(&mut queue, now).is_some());
        queue.clear();
        assert_eq!((next(&mut queue, now), queue.deadline()), (None, None));
        queue.done(key("a"), Outcome::Settled, now);
        assert_eq!(queue.len(), 0);
    }
}
