//! How often a status is written that counts others: a few times at once, then seldom while its numbers keep moving, and as soon as
//! they rest.
//!
//! Thousands of routes that come one after the other would else be hundreds of writes of their Gateway, each read by every watcher. The
//! numbers are right at the latest [`PACE`] after the last change, and never older than [`LONGEST`]. Pure; remembers only objects that
//! were written lately.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::model::{Kind, ObjectKey};

/// The least time from one write to the next.
const PACE: Duration = Duration::from_millis(700);

/// Numbers that have not moved for so long are at rest. Twice this is below [`PACE`]: a change is noticed by the next look.
const REST: Duration = Duration::from_millis(200);

/// The most time from one write to the next, while there is something to write.
const LONGEST: Duration = Duration::from_secs(2);

/// How many writes are not held back: a Gateway that comes up is accepted, addressed and programmed without a wait.
const BURST: u32 = 4;

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
    pub(super) fn wait(&mut self, key: &ObjectKey, words: u64, now: Instant) -> Option<Instant> {
        let lately = self.0.get_mut(key).filter(|lately| lately.is_recent(now))?;
        if lately.wanted.0 != words {
            lately.wanted = (words, now);
        }
        if lately.row < BURST {
            return None;
        }
        let rests = lately.wanted.1 + REST;
        let until = rests.min(lately.written + LONGEST).max(lately.written + PACE);
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
    fn is_recent(&self, now: Instant) -> bool {
        now < self.written + LONGEST * 2
    }
}

#[cfg(test)]
mod tests {
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
            if let Some(until) = pace.wait(&key, words, now) {
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
        for seconds in 1..60 {
            let (many, late) = writes(Kind::Gateway, Duration::from_secs(seconds));
            assert!(u64::from(many) <= 6 + seconds / 2, "{many} writes in {seconds} s");
            assert!(late <= PACE, "right {late:?} after the last change");
        }
    }

    #[test]
    fn a_change_of_one_that_rests_is_written_soon() {
        let (mut pace, key, mut now) =
            (Pace::default(), ObjectKey::new(Kind::Gateway, "d", "web"), Instant::now());
        for words in 0..20 {
            let start = now;
            while let Some(until) = pace.wait(&key, words, now) {
                now = until;
            }
            assert!(now - start <= REST, "{words}: {:?}", now - start);
            pace.on_written(&key, words, now);
            now = start + Duration::from_secs(1);
        }
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
        assert_eq!(pace.wait(&key("a"), 1, later), None, "it may be written at once again");
        pace.on_written(&key("b"), 0, later);
        assert_eq!(pace.0.len(), 1);
    }
}
