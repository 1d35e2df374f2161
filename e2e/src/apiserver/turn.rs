//! Tests that run an operator, or its fleets, on the shared API server take turns: two operators with the same controller
//! name would write over each other's statuses and take each other's fleets away.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};

/// One at a time, in all processes. Dropping it lets the next one go on.
#[derive(Debug)]
pub struct Turn(#[allow(dead_code)] File);

impl Turn {
    /// Waits for it.
    pub async fn take() -> Self {
        let file = File::create(std::env::temp_dir().join("portolan-e2e-operator.lock")).unwrap();
        let locked = tokio::task::spawn_blocking(move || {
            flock(&file, FlockOperation::LockExclusive).unwrap();
            file
        });
        Self(locked.await.unwrap())
    }
}
