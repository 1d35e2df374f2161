//! Publishing: delta ADS, the state machine and the server around it.
//!
//! [`Stream`] and [`Registry`] are pure; the rest is the edge that gives them bytes, time and identity.

pub mod client;
mod event;
mod identity;
mod messages;
mod registry;
mod server;
mod session;
mod shared;
mod stream;
pub mod tls;

pub use event::{Answer, Event, NodeInfo};
pub use identity::{
    IdentityError, gateway_of_certificate, gateway_of_spiffe_id, replica_spiffe_id, spiffe_id,
};
pub use registry::{Registry, StreamEntry, StreamId, StreamSummary, TypeSummary};
pub use server::{AdsServer, Programs, ReplicaMethod, ServerConfig};
pub use shared::{SharedRegistry, SharedStore, StoreState};
pub use stream::{Rejection, Stream, StreamConfig};

#[cfg(test)]
mod server_tests;
