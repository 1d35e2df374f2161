//! How long to wait before trying again: exponential, bounded, with jitter.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The state of one thing that is tried again and again.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits that double from the first to the longest.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// The wait after one more failure: between half and all of the doubled wait, by a jitter in 0..1.
    pub fn fail(&mut self, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        doubled.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// Starts again from the first wait.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number in 0..1 that differs between processes, good enough to keep them from trying in step.
pub fn jitter() -> f64 {
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(random >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        let waits: Vec<_> = (0..9).map(|_| backoff.fail(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(backoff.fail(0.0).as_secs(), 5);
        for _ in 0..100 {
            backoff.fail(1.0);
        }
        backoff.reset();
        assert_eq!(backoff.fail(1.0).as_millis(), 100);
        assert!((0.0..=1.0).contains(&jitter()));
    }
}
