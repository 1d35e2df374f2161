//! How much is measured: all of it, or a quick look that gives ratios.

use std::time::Duration;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    /// Writes of each kind in B0.
    pub(super) floor: usize,
    /// Routes of B1, one by one.
    pub(super) probed: usize,
    /// Routes of B3, one run each.
    pub(super) attached: Vec<usize>,
    /// Routes, Services and EndpointSlices of B4, B2, B8, `endpoints` and `proxy`.
    pub(super) scale: usize,
    /// How long B4 changes them.
    pub(super) churn: Duration,
    /// Routes of B2, changes of `endpoints`.
    pub(super) turns: usize,
    /// For how long B2 makes them while others change, at least.
    pub(super) churned: Duration,
    /// How long resolving is held while endpoints change.
    pub(super) held: Duration,
    /// Routes of B5, one run each.
    pub(super) applied: Vec<usize>,
    /// Changes at each size of B5.
    pub(super) applies: usize,
    /// Objects that concern nobody, of B6.
    pub(super) unrelated: usize,
    /// How long B6 makes noise.
    pub(super) noise: Duration,
    /// Gateways, and streams of each, of B7.
    pub(super) streams: (usize, usize),
    /// How long B7 creates and deletes.
    pub(super) soak: Duration,
    /// Routes among which B9 changes one.
    pub(super) counted: Vec<usize>,
    /// Whether B9 counts allocations as well.
    pub(super) allocations: bool,
}

impl Sizes {
    /// What is published.
    pub(super) fn full(soak: bool) -> Self {
        Self {
            floor: 200,
            probed: 3_000,
            attached: vec![1_000, 5_000],
            scale: 5_000,
            churn: Duration::from_mins(3),
            turns: 100,
            churned: Duration::from_mins(1),
            held: Duration::from_secs(10),
            applied: vec![1_000, 5_000, 10_000],
            applies: 40,
            unrelated: 5_000,
            noise: Duration::from_mins(1),
            streams: (50, 4),
            soak: Duration::from_mins(if soak { 30 } else { 10 }),
            counted: vec![1, 1_000, 10_000],
            allocations: true,
        }
    }

    /// What a gate has time for.
    pub(super) fn quick() -> Self {
        Self {
            floor: 60,
            probed: 300,
            attached: vec![500],
            scale: 1_000,
            churn: Duration::from_secs(20),
            // CPU time is counted in ticks of 10 ms: fewer would not tell a change's from another's.
            turns: 100,
            churned: Duration::from_secs(7),
            held: Duration::from_secs(2),
            applied: vec![250],
            applies: 10,
            unrelated: 200,
            noise: Duration::from_secs(10),
            streams: (10, 7),
            soak: Duration::from_secs(15),
            counted: vec![1_000],
            allocations: false,
        }
    }
}
