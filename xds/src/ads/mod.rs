//! Publishing: delta ADS, the state machine and the server around it.
//!
//! [`Stream`] and [`Registry`] are pure; the rest is the edge that gives them bytes, time and identity.

mod event;
mod registry;
mod stream;

pub use event::{Answer, Event, NodeInfo};
pub use registry::{Registry, StreamEntry, StreamId, StreamSummary, TypeSummary};
pub use stream::{Rejection, Stream, StreamConfig};
