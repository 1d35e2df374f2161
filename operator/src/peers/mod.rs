//! Replicas tell each other what their proxies made of the configuration.
//!
//! Every replica serves proxies; the leader alone writes statuses. So each follower keeps a line open to the leader, whose
//! address is in the Lease, on the port where proxies connect, by mutual TLS with a certificate that only replicas have:
//!
//! ```text
//! follower: core ─► Book ─► line ══ Report ══► door ─► Mirrors ─► Progress :leader
//!                ◄───────────────── Verdicts ═════════
//! ```
//!
//! - **What is in force** goes by content: resources have the same versions in every replica, and edits have not the same
//!   numbers. [`Book`] knows what a replica's proxies have in force, [`Mirrors`] what the proxies of others have, in the
//!   leader's own numbers.
//! - **What is rejected** goes both ways as [`Verdicts`]: what bisection has put back, and what it serves instead. Replicas
//!   must serve the same instead of it, or they would never agree again; where they do not, the leader decides.
//! - Both are states and not events: a line that is slow or that breaks is made up for by what is so now, and costs memory
//!   for the names there are and no more. A core never waits for a line.
//! - The proxies of a replica whose line ends are unknown until they connect again, to it or to another; that takes no
//!   `Programmed` back.

mod book;
mod codec;
mod connections;
mod door;
mod line;
mod mirror;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use book::{Book, Look};
pub use connections::{Connections, PeerId};
pub use door::Door;
pub use line::Line;
pub use mirror::{Accepted, Mirrors, PeerStream};

use std::sync::Arc;

use portolan_xds::{
    GatewayKey,
    program::{Frozen, ResourceKey},
    store::Version,
};
use serde::{Deserialize, Serialize};

/// The path of the method by which a follower tells and is told.
pub const PATH: &str = "/portolan.peers.v1.Peers/Report";

/// What a follower tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// Which replica it is. It comes first.
    Hello {
        /// The replica's identity.
        replica: String,
    },
    /// What changed on a stream of one of its proxies.
    Stream(StreamReport),
    /// What its proxies reject of a Gateway.
    Verdicts(Verdicts),
}

/// What changed on a proxy's stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamReport {
    /// The proxy's Gateway.
    pub gateway: GatewayKey,
    /// The stream, among those of the replica.
    pub stream: u64,
    /// The resources that are in force on it and were not, or were otherwise.
    pub entries: Vec<Entry>,
    /// Nothing else is in force: what was told before does not count. So is the first report of each stream.
    pub fresh: bool,
    /// It is closed: it has nothing in force any more.
    pub closed: bool,
}

/// What is in force of a resource on one proxy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The resource.
    pub resource: ResourceKey,
    /// Its version; nothing where it is removed.
    pub version: Option<Version>,
    /// Whether a proxy has acknowledged this version. Others are in force because no proxy asks for them.
    pub accepted: bool,
}

/// What the proxies of a replica reject of a Gateway; all of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdicts {
    /// The Gateway.
    pub gateway: GatewayKey,
    /// What is put back.
    pub frozen: Vec<Frozen>,
    /// Rejections that no object explains, with Envoy's words.
    pub unattributed: Vec<(ResourceKey, Arc<str>)>,
}
