//! How many events are sent: a few at once, then slowly, per object and altogether. Pure.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::model::ObjectKey;

/// Per object: this many at once, then one per [`OBJECT_REFILL`].
const OBJECT_BURST: u32 = 10;
const OBJECT_REFILL: Duration = Duration::from_mins(1);
/// Altogether: this many at once, then one per [`TOTAL_REFILL`]. The API server keeps each for an hour: a storm is 3,600 of them.
const TOTAL_BURST: u32 = 100;
const TOTAL_REFILL: Duration = Duration::from_secs(1);

/// Permits that are spent and come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: u32,
    burst: u32,
    refill: Duration,
    filled: Instant,
}

impl Bucket {
    fn new(burst: u32, refill: Duration, now: Instant) -> Self {
        Self { left: burst, burst, refill, filled: now }
    }

    fn fill(&mut self, now: Instant) {
        let periods = now.saturating_duration_since(self.filled).as_nanos() / self.refill.as_nanos();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(periods).min(self.burst);
        self.filled = if self.left == self.burst { now } else { self.filled + self.refill * periods };
    }

    fn take(&mut self) -> bool {
        let some = self.left > 0;
        self.left = self.left.saturating_sub(1);
        some
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Limit {
    total: Bucket,
    objects: HashMap<ObjectKey, Bucket>,
}

impl Limit {
    pub(super) fn new(now: Instant) -> Self {
        Self { total: Bucket::new(TOTAL_BURST, TOTAL_REFILL, now), objects: HashMap::new() }
    }

    /// Whether an event about this object may be sent now.
    pub(super) fn allows(&mut self, key: &ObjectKey, now: Instant) -> bool {
        self.total.fill(now);
        if self.total.left == 0 {
            // Nothing is noted of what is not sent: a storm of thousands of objects costs no memory, and no look at each of them.
            return false;
        }
        self.objects.retain(|_, bucket| {
            bucket.fill(now);
            bucket.left < bucket.burst
        });
        let bucket = self.objects.entry(key.clone());
        let bucket = bucket.or_insert_with(|| Bucket::new(OBJECT_BURST, OBJECT_REFILL, now));
        bucket.take() && self.total.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn key(name: impl std::fmt::Display) -> ObjectKey {
        ObjectKey::new(Kind::HttpRoute, "d", name.to_string())
    }

    #[test]
    fn one_object_cannot_fill_the_list_of_events() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let sent = (0..100).filter(|_| limit.allows(&key("noisy"), start)).count();
        assert_eq!(sent, 10);
        assert!(limit.allows(&key("other"), start));
        let later = start + Duration::from_secs(125);
        let sent = (0..100).filter(|_| limit.allows(&key("noisy"), later)).count();
        assert_eq!(sent, 2);
    }

    #[test]
    fn all_objects_together_cannot_either() {
        let start = Instant::now();
        let mut limit = Limit::new(start);
        let sent = (0..1000).filter(|number| limit.allows(&key(number), start)).count();
        assert_eq!(sent, 100);
        let later = start + Duration::from_secs(10);
        let sent = (0..1000).filter(|number| limit.allows(&key(number), later)).count();
        assert_eq!(sent, 10);
        assert_eq!(limit.objects.len(), 100, "of the thousand only those are noted of which one was sent");
    }
}
