//! Durations in whole milliseconds, the finest unit of Gateway API durations (GEP-2257).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A duration in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Millis(pub u64);

impl From<Millis> for Duration {
    fn from(value: Millis) -> Self {
        Duration::from_millis(value.0)
    }
}
