//! How often a status is written that counts others: a few times at once, then slowly, for as long as its numbers keep moving.
//!
//! A thousand routes that come at once would else be hundreds of writes of their Gateway, each read by every watcher. The numbers
//! are right at the latest [`PACE`] after the last change. Pure; remembers only objects that were written lately.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::model::{Kind, ObjectKey};

/// From one write to the next of an object that does not come to rest.
const PACE: Duration = Duration::from_millis(850);

/// How many writes are not held back: a Gateway that comes up is accepted, addressed and programmed without a wait.
const BURST: u32 = 4;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When all writes so far are as old as they would be, had each kept the pace.
    even: HashMap<ObjectKey, Instant>,
}

impl Pace {
    /// Until when an object is not to be written, if it must wait.
    pub(super) fn wait(&self, key: &ObjectKey, now: Instant) -> Option<Instant> {
        let until = self.even.get(key)?.checked_sub(PACE * (BURST - 1))?;
        (until > now).then_some(until)
    }

    /// Notes a write.
    pub(super) fn on_written(&mut self, key: &ObjectKey, now: Instant) {
        if !matches!(key.kind, Kind::Gateway | Kind::ListenerSet) {
            return;
        }
        self.even.retain(|_, even| *even > now);
        let even = self.even.entry(key.clone()).or_insert(now);
        *even += PACE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many writes there are in this time, if there is always something to write.
    fn writes(kind: Kind, span: Duration) -> u32 {
        let (mut pace, key, start) = (Pace::default(), ObjectKey::new(kind, "d", "web"), Instant::now());
        let (mut now, mut count) = (start, 0);
        while now < start + span {
            if let Some(until) = pace.wait(&key, now) {
                now = until;
            } else {
                pace.on_written(&key, now);
                count += 1;
                now += Duration::from_millis(10);
            }
        }
        count
    }

    #[test]
    fn a_gateway_whose_routes_keep_coming_is_written_now_and_then() {
        assert_eq!(writes(Kind::Gateway, Duration::from_millis(100)), BURST);
        let many = writes(Kind::Gateway, Duration::from_secs(20));
        assert!((24..=29).contains(&many), "{many} writes in 20 s");
    }

    #[test]
    fn a_route_never_waits() {
        assert_eq!(writes(Kind::HttpRoute, Duration::from_secs(1)), 100);
    }

    #[test]
    fn one_that_came_to_rest_is_forgotten() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let key = |name: &str| ObjectKey::new(Kind::Gateway, "d", name);
        pace.on_written(&key("a"), now);
        pace.on_written(&key("b"), now + PACE * 2);
        assert_eq!(pace.even.len(), 1);
    }
}
