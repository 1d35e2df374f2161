//! Holds resolving still, to measure what must not wait for it. Only in builds with the feature `fail-points`, which the binary
//! `portolan-held` is; the released one is not.

use std::{
    env,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// The environment variable that names a file: for as long as it exists, nothing is resolved.
pub const HOLD_RESOLVING: &str = "PORTOLAN_HOLD_RESOLVING";

/// Whoever forgets the file does not hold a control plane for ever.
const LIMIT: Duration = Duration::from_mins(1);

pub(super) fn hold_resolving() {
    let Some(file) = env::var_os(HOLD_RESOLVING).map(PathBuf::from) else { return };
    let started = Instant::now();
    while file.exists() && started.elapsed() < LIMIT {
        thread::sleep(Duration::from_millis(1));
    }
    if started.elapsed() > Duration::from_millis(10) {
        tracing::warn!(held = ?started.elapsed(), "a fail point held resolving");
    }
}
