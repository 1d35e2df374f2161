//! Reporting: what the core says of each object becomes its status in the API server, by the leader alone.
//!
//! Level-triggered: an object is looked at when the core's report of it or its status in the API server changes; what is
//! wanted is compared with what is there, and the difference, if there is one, is written on the condition that nobody
//! else has written meanwhile. So it does not matter which events are missed, who wrote in between, or which replica
//! led before.

mod finalizer;
mod merge;
mod notices;
mod pace;
mod queue;
mod rivals;
#[cfg(test)]
mod tests;
mod writer;

pub use merge::{Merged, is_pending, merge};
pub use writer::Writer;
