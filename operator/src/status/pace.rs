//! How often a status is written that counts others: a few times at once, then seldom while its numbers keep moving, and as soon as
//! they rest. What it says beside numbers is held back only after [`BURST_OF_WORDS`] writes in a row, and by [`LONGEST`] at most.
//!
//! Thousands of routes that come one after the other would else be hundreds of writes of their Gateway, each read by every watcher. The
//! numbers are right at the latest [`PACE`] after the last change. While they move they are at most [`LONGEST`] old at first, and twice as
//! old with every [`ROW`] writes: three minutes of changes are fewer than fifty writes, however slow the API server is. Pure; remembers
//! only objects that were written lately.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

use crate::model::{Kind, ObjectKey};

/// The least time from one write to the next.
const PACE: Duration = Duration::from_millis(700);

/// Numbers that have not moved for so long are at rest. Twice this is below [`PACE`]: a change is noticed by the next look.
const REST: Duration = Duration::from_millis(200);

/// The most time from one write to the next at first, while there is something to write.
const LONGEST: Duration = Duration::from_secs(2);

/// After so many writes in a row, that time doubles.
const ROW: u32 = 16;

/// So often, and no more: half a minute.
const MOST_DOUBLED: u32 = 4;

/// How many writes in a row are not held back, although they only move numbers.
const BURST: u32 = 4;

/// How many writes in a row, of whatever, come before one is held back that says more: a Gateway that comes up among its routes is
/// accepted, addressed and programmed without a wait. Something that flaps is paced.
const BURST_OF_WORDS: u32 = 20;

/// What a write changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// How many objects are attached, and nothing else.
    Numbers,
    /// Conditions, addresses, entries.
    Words,
}

impl Change {
    /// What it changes that these fields replace those of a status.
    pub(super) fn of(observed: &Value, fields: &Map<String, Value>) -> Self {
        let counts = |(name, new): (&String, &Value)| match (name.as_str(), observed.get(name)) {
            ("attachedListenerSets", _) => true,
            ("listeners", Some(Value::Array(old))) => new.as_array().is_some_and(|new| {
                old.len() == new.len()
                    && old.iter().zip(new).all(|(old, new)| is_same_but_for_numbers(old, new))
            }),
            _ => false,
        };
        if fields.iter().all(counts) { Self::Numbers } else { Self::Words }
    }
}

/// Whether a listener's status says the same of all but what is attached to it.
fn is_same_but_for_numbers(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return old == new };
    let names = || old.keys().chain(new.keys()).filter(|name| *name != "attachedRoutes");
    names().all(|name| old.get(name) == new.get(name))
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace(HashMap<ObjectKey, Lately>);

/// An object that was written lately.
#[derive(Debug)]
struct Lately {
    /// When.
    written: Instant,
    /// How many writes there were, none long after the one before.
    row: u32,
    /// What was to be written when it was last looked at (its hash), and since when.
    wanted: (u64, Instant),
}

impl Pace {
    /// Until when an object is not to be written, if it must wait; `words` is a hash of what is to be written.
    pub(super) fn wait(
        &mut self,
        key: &ObjectKey,
        words: u64,
        change: Change,
        now: Instant,
    ) -> Option<Instant> {
        let lately = self.0.get_mut(key).filter(|lately| lately.is_recent(now))?;
        if lately.wanted.0 != words {
            lately.wanted = (words, now);
        }
        let (burst, longest) = match change {
            Change::Numbers => (BURST, lately.longest()),
            Change::Words => (BURST_OF_WORDS, LONGEST),
        };
        if lately.row < burst {
            return None;
        }
        let rests = lately.wanted.1 + REST;
        let until = rests.min(lately.written + longest).max(lately.written + PACE);
        (until > now).then_some(until)
    }

    /// Notes a write.
    pub(super) fn on_written(&mut self, key: &ObjectKey, words: u64, now: Instant) {
        if !matches!(key.kind, Kind::Gateway | Kind::ListenerSet) {
            return;
        }
        self.0.retain(|_, lately| lately.is_recent(now));
        let row = self.0.get(key).map_or(0, |lately| lately.row).saturating_add(1);
        self.0.insert(key.clone(), Lately { written: now, row, wanted: (words, now) });
    }
}

impl Lately {
    /// The most time until the next write of numbers.
    fn longest(&self) -> Duration {
        LONGEST * 2_u32.pow((self.row / ROW).min(MOST_DOUBLED))
    }

    fn is_recent(&self, now: Instant) -> bool {
        now < self.written + self.longest() * 2
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Something new is to be written at every look for a while, and then nothing new: how often it is written, and how long after the
    /// last change for the last time.
    fn writes(kind: Kind, span: Duration) -> (u32, Duration) {
        let (mut pace, key, start) = (Pace::default(), ObjectKey::new(kind, "d", "web"), Instant::now());
        let (mut now, mut count, mut words, mut written) = (start, 0, 0, None);
        while written != Some(words) {
            if now < start + span {
                words += 1;
            }
            if let Some(until) = pace.wait(&key, words, Change::Numbers, now) {
                now = until;
            } else {
                pace.on_written(&key, words, now);
                (written, count) = (Some(words), count + 1);
                if now < start + span {
                    now += Duration::from_millis(10);
                    words += 1;
                }
            }
        }
        (count, now.saturating_duration_since(start + span))
    }

    #[test]
    fn a_gateway_whose_routes_keep_coming_is_written_now_and_then() {
        // At 0, 10, 20 and 30 ms, and once it rests.
        assert_eq!(writes(Kind::Gateway, Duration::from_millis(35)).0, BURST + 1);
        for (seconds, most) in [(1, 6), (10, 11), (20, 16), (60, 27), (90, 34), (180, 46)] {
            let (many, late) = writes(Kind::Gateway, Duration::from_secs(seconds));
            assert!(many <= most, "{many} writes in {seconds} s");
            assert!(late <= PACE, "right {late:?} after the last change");
        }
    }

    #[test]
    fn a_change_of_one_that_rests_is_written_soon() {
        let (mut pace, key, mut now) =
            (Pace::default(), ObjectKey::new(Kind::Gateway, "d", "web"), Instant::now());
        for words in 0..20 {
            let start = now;
            while let Some(until) = pace.wait(&key, words, Change::Numbers, now) {
                now = until;
            }
            assert!(now - start <= REST, "{words}: {:?}", now - start);
            pace.on_written(&key, words, now);
            now = start + Duration::from_secs(1);
        }
    }

    #[test]
    fn words_do_not_wait_for_numbers() {
        let (mut pace, key, now) =
            (Pace::default(), ObjectKey::new(Kind::Gateway, "d", "web"), Instant::now());
        for row in 0..BURST_OF_WORDS {
            assert_eq!(pace.wait(&key, 0, Change::Words, now), None, "{row} writes");
            assert_eq!(pace.wait(&key, 0, Change::Numbers, now).is_some(), row >= BURST, "{row} writes");
            pace.on_written(&key, 0, now);
        }
        assert!(pace.wait(&key, 0, Change::Words, now).is_some(), "it flaps");
        // Among numbers that move as well, and after many writes in a row.
        for _ in 0..100 {
            pace.on_written(&key, 0, now);
        }
        let later = now + Duration::from_millis(1_900);
        assert_eq!(pace.wait(&key, 1, Change::Words, later), Some(now + LONGEST), "the most that words wait");
        assert!(
            pace.wait(&key, 1, Change::Numbers, now + LONGEST).is_some_and(|until| until > now + LONGEST)
        );
    }

    #[test]
    fn numbers_are_told_from_words() {
        let listener = |routes: u32, status: &str| json!({"name": "http", "attachedRoutes": routes, "conditions": [{"type": "Programmed", "status": status}]});
        let gateway = json!({"addresses": [], "attachedListenerSets": 1, "listeners": [listener(1, "True"), listener(2, "True")]});
        let change = |fields: Value| Change::of(&gateway, fields.as_object().unwrap());
        for numbers in [
            json!({"listeners": [listener(1, "True"), listener(3, "True")]}),
            json!({"listeners": [listener(9, "True"), listener(3, "True")], "attachedListenerSets": 2}),
        ] {
            assert_eq!(change(numbers.clone()), Change::Numbers, "{numbers}");
        }
        for words in [
            json!({"listeners": [listener(1, "True"), listener(3, "False")]}),
            json!({"listeners": [listener(1, "True")]}),
            json!({"listeners": [listener(1, "True"), {"name": "http", "attachedRoutes": 2}]}),
            json!({"listeners": [listener(1, "True"), listener(3, "True")], "addresses": [{"value": "192.0.2.1"}]}),
        ] {
            assert_eq!(change(words.clone()), Change::Words, "{words}");
        }
        let first = json!({"listeners": [listener(0, "True")]});
        assert_eq!(Change::of(&json!({}), first.as_object().unwrap()), Change::Words, "nothing was said yet");
    }

    #[test]
    fn a_route_never_waits() {
        assert_eq!(writes(Kind::HttpRoute, Duration::from_secs(1)).0, 101);
    }

    #[test]
    fn one_that_came_to_rest_is_forgotten() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let key = |name: &str| ObjectKey::new(Kind::Gateway, "d", name);
        for _ in 0..BURST {
            pace.on_written(&key("a"), 0, now);
        }
        let later = now + LONGEST * 2;
        assert_eq!(pace.wait(&key("a"), 1, Change::Numbers, later), None, "it may be written at once again");
        pace.on_written(&key("b"), 0, later);
        assert_eq!(pace.0.len(), 1);
    }
}
