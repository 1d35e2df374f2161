//! Waiting for a condition, with a deadline.

use std::{fmt::Debug, time::Duration};

use tokio::time::Instant;

/// How long anything here may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Asks until the answer is good; at the deadline the test fails with the last one.
pub async fn until<T: Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> T,
    mut good: impl FnMut(&T) -> bool,
) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = ask().await;
        if good(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {} s; last: {answer:#?}", DEADLINE.as_secs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
