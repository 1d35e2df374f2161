//! Waits for what a client sees. An acknowledgement is not enough for that: Envoy's main thread gives it, and its workers take a
//! listener or a filter chain over a moment later, each for itself.

use std::time::{Duration, Instant};

use super::DEADLINE;

/// Asks again and again until it is so; fails the test at the deadline.
pub async fn until(what: &str, reached: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !reached().await {
        assert!(started.elapsed() < DEADLINE, "not reached within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
