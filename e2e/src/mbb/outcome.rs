//! What came of a case, as a line of a table.

use std::fmt;
use std::time::Duration;

/// The names of the columns; a line begins with the name of its case.
pub const HEADER: &str = "   requests  failed  resets  drained  changes  seconds";

/// What came of a case.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests, over HTTP, TCP and UDP.
    pub requests: u64,
    /// Those of them that were not answered, or not rightly.
    pub failed: u64,
    /// Connections that the proxy ended unasked, with a request on them or between two without having announced it.
    pub resets: u64,
    /// Connections that the proxy asked to leave, and that were left.
    pub drained: u64,
    /// Changes made.
    pub changes: u64,
    /// From the start of the case to its end, the proxy's start included.
    pub took: Duration,
    /// What is not as it must be; nothing for a case that passed.
    pub problems: Vec<String>,
}

impl Outcome {
    /// Of a case that did not come to its end.
    pub(super) fn broken(problem: String) -> Self {
        Self { problems: vec![problem], ..Self::default() }
    }

    /// Whether nothing was lost, and everything was as it must be.
    pub fn passed(&self) -> bool {
        self.failed == 0 && self.resets == 0 && self.problems.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, failed, resets, drained, changes, took, .. } = self;
        let seconds = took.as_secs_f64();
        write!(f, "{requests:>11}  {failed:>6}  {resets:>6}  {drained:>7}  {changes:>7}  {seconds:>7.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_loss_of_any_kind_fails_a_case() {
        assert!(Outcome { requests: 9, drained: 3, ..Outcome::default() }.passed());
        for lost in [
            Outcome { failed: 1, ..Outcome::default() },
            Outcome { resets: 1, ..Outcome::default() },
            Outcome::broken("it did not end".to_owned()),
        ] {
            assert!(!lost.passed(), "{lost:?}");
        }
    }

    #[test]
    fn a_line_stands_below_the_header() {
        assert_eq!(Outcome::default().to_string().len(), HEADER.len());
    }
}
