//! Who is connected, and what each proxy acknowledged: what status and `/debug/streams` read.
//!
//! Pure. The server writes to it; readers get copies. A stream that is not in it is closed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};

use super::event::NodeInfo;
use crate::GatewayKey;
use crate::store::Seq;

/// Identifies a stream for the life of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// One type on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TypeSummary {
    /// Whether the proxy subscribes to everything of this type.
    pub wildcard: bool,
    /// How many names it subscribes to besides.
    pub names: usize,
    /// How many names are to be sent.
    pub pending: usize,
    /// How many removals are held back.
    pub held: usize,
    /// Whether a response waits for its answer.
    pub waiting: bool,
    /// Responses sent. The first answer to a wildcard is sent even if it is empty.
    pub sent: u64,
    /// Resources in them.
    pub resources: u64,
    /// Bytes of these resources.
    pub bytes: u64,
    /// Responses accepted.
    pub acked: u64,
    /// Responses rejected.
    pub nacked: u64,
}

/// The state of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamSummary {
    /// Who the proxy says that it is.
    pub node: NodeInfo,
    /// Everything up to this edit is acknowledged. See [`super::Stream::acked_through`].
    pub acked_through: Seq,
    /// What the proxy rejected, as `<type> <name>`, and its reason.
    pub rejected: BTreeMap<String, Arc<str>>,
    /// Per type, by its short name.
    pub types: BTreeMap<&'static str, TypeSummary>,
}

/// A live stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamEntry {
    /// The Gateway that the transport proved.
    pub gateway: GatewayKey,
    /// When it was opened, in seconds since 1970.
    #[serde(serialize_with = "unix_seconds")]
    pub connected_at: SystemTime,
    /// Its state after its last event.
    #[serde(flatten)]
    pub summary: StreamSummary,
}

fn unix_seconds<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    serializer.serialize_u64(since.as_secs())
}

/// The live streams of every Gateway.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Registry {
    streams: BTreeMap<StreamId, StreamEntry>,
}

impl Registry {
    /// Adds a stream.
    pub fn open(&mut self, id: StreamId, gateway: GatewayKey, connected_at: SystemTime) {
        let entry = StreamEntry { gateway, connected_at, summary: StreamSummary::default() };
        self.streams.insert(id, entry);
    }

    /// Takes up a stream's state. Ignored when it is closed.
    pub fn update(&mut self, id: StreamId, summary: StreamSummary) {
        if let Some(entry) = self.streams.get_mut(&id) {
            entry.summary = summary;
        }
    }

    /// Removes a stream.
    pub fn close(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }

    /// The streams of one Gateway, oldest first.
    pub fn of<'a>(&'a self, gateway: &GatewayKey) -> impl Iterator<Item = (StreamId, &'a StreamEntry)> {
        self.iter().filter(move |(_, entry)| entry.gateway == *gateway)
    }

    /// Every stream, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (StreamId, &StreamEntry)> {
        self.streams.iter().map(|(id, entry)| (*id, entry))
    }

    /// How many streams there are.
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Whether nobody is connected.
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_listed_under_its_gateway_until_it_closes() {
        let (one, two) = (GatewayKey::new("apps", "one"), GatewayKey::new("apps", "two"));
        let mut registry = Registry::default();
        registry.open(StreamId(1), one.clone(), SystemTime::UNIX_EPOCH);
        registry.open(StreamId(2), two.clone(), SystemTime::UNIX_EPOCH);
        registry.update(StreamId(1), StreamSummary { acked_through: Seq(7), ..StreamSummary::default() });
        let seen: Vec<_> = registry.of(&one).map(|(id, entry)| (id, entry.summary.acked_through)).collect();
        assert_eq!(seen, [(StreamId(1), Seq(7))]);
        registry.close(StreamId(1));
        registry.update(StreamId(1), StreamSummary::default());
        assert_eq!(registry.of(&one).count(), 0);
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn it_is_readable_as_json() {
        let mut registry = Registry::default();
        let at = SystemTime::UNIX_EPOCH + Duration::from_mins(1);
        registry.open(StreamId(1), GatewayKey::new("apps", "one"), at);
        let json = serde_json::to_value(&registry).unwrap();
        assert_eq!(json["1"]["gateway"], "apps/one");
        assert_eq!(json["1"]["connected_at"], 60);
        assert_eq!(json["1"]["acked_through"], 0);
    }
}
