//! What a stream tells about its proxy.

use std::sync::Arc;
use std::time::Duration;

use portolan_xds_proto::envoy::config::core::v3::{Node, node::UserAgentVersionType};
use serde::Serialize;

use crate::store::{ResourceType, Seq, Version};

/// The longest text of a proxy that is kept, in bytes: messages, names and versions come from outside.
const MAX_TEXT: usize = 4096;

/// The longest reason of a rejection, in bytes: it becomes part of a condition's message.
const MAX_REASON: usize = 1024;

/// Cuts a text from outside to a bounded length.
pub(crate) fn bounded(text: &str) -> Arc<str> {
    let end = (0..=text.len().min(MAX_TEXT)).rev().find(|end| text.is_char_boundary(*end));
    Arc::from(text.get(..end.unwrap_or(0)).unwrap_or_default())
}

/// What a proxy says of a rejection, fit for a condition of the object that caused it.
///
/// Where a constraint of a message is violated, Envoy says the whole resource first: everybody's hostnames and routes, which are
/// not for the eyes of whoever reads one route's status. Only the violation is kept.
pub(crate) fn reason(text: &str) -> Arc<str> {
    const VIOLATION: &str = "Proto constraint validation failed";
    let from = text.rfind(VIOLATION).unwrap_or_default();
    let kept = text.get(from..).unwrap_or_default();
    // A dump of a message that we do not know the end of: better nothing than everything.
    if kept.contains("goo.gle/debug") {
        return Arc::from("the configuration is not valid; Envoy's log says more");
    }
    let end = (0..=kept.len().min(MAX_REASON)).rev().find(|end| kept.is_char_boundary(*end));
    Arc::from(kept.get(..end.unwrap_or(0)).unwrap_or_default().trim())
}

/// Who a proxy says that it is. For display only: its identity is the transport's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NodeInfo {
    /// `node.id`, in a cluster the pod's name.
    pub id: Arc<str>,
    /// `node.cluster`.
    pub cluster: Arc<str>,
    /// The user agent and its version, such as `envoy 1.40.0`.
    pub user_agent: Arc<str>,
}

impl NodeInfo {
    /// Reads what a request carries.
    pub fn of(node: &Node) -> Self {
        let version = match &node.user_agent_version_type {
            Some(UserAgentVersionType::UserAgentVersion(text)) => text.clone(),
            Some(UserAgentVersionType::UserAgentBuildVersion(build)) => build
                .version
                .as_ref()
                .map(|each| format!("{}.{}.{}", each.major_number, each.minor_number, each.patch))
                .unwrap_or_default(),
            None => String::new(),
        };
        Self {
            id: bounded(&node.id),
            cluster: bounded(&node.cluster),
            user_agent: bounded(format!("{} {version}", node.user_agent_name).trim_end()),
        }
    }
}

/// A proxy accepted or rejected one response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The type of everything in it.
    pub kind: ResourceType,
    /// What was added or replaced.
    pub resources: Vec<(Arc<str>, Version)>,
    /// What was removed.
    pub removed: Vec<Arc<str>>,
    /// The newest edit of the store when the response was built.
    pub built: Seq,
    /// From the oldest change in the response to its sending. Nothing if the response told the proxy what
    /// was there before it asked.
    pub change_to_sent: Option<Duration>,
    /// From the sending to this answer.
    pub sent_to_answer: Duration,
}

/// What happened on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stream is open.
    Opened,
    /// The proxy said who it is.
    Node(NodeInfo),
    /// The proxy said, when it asked for a type first, which versions it has: it accepted them on an earlier stream.
    Known {
        /// The type.
        kind: ResourceType,
        /// What it has. Versions that are not ours are left out.
        resources: Vec<(Arc<str>, Version)>,
    },
    /// The proxy accepted a response (ACK).
    Acked(Answer),
    /// The proxy rejected a response (NACK). It keeps what it had of the resources that it could not use.
    Nacked {
        /// What it rejected.
        answer: Answer,
        /// Its reason.
        message: Arc<str>,
    },
    /// The proxy asked for a type that is not served. It was told that nothing of it exists.
    UnsupportedType {
        /// The type URL.
        type_url: Arc<str>,
    },
    /// The proxy asked for a name of a form that is not served (`xdstp://`, the only one with globs). It is ignored.
    UnsupportedName {
        /// The type.
        kind: ResourceType,
        /// The name.
        name: Arc<str>,
    },
    /// The newest edit up to which everything is acknowledged moved. See [`super::Stream::acked_through`].
    Progress {
        /// Where it is now.
        acked_through: Seq,
    },
    /// The stream is closed.
    Closed {
        /// Why.
        reason: Arc<str>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_shows_no_resource() {
        let dump =
            "goo.gle/debugproto\nname: \"default/web/80\"\nvirtual_hosts { name: \"secret.example\" }\n";
        let said = format!("{dump}: Proto constraint validation failed (RouteAction.prefix_rewrite: no)");
        assert_eq!(&*reason(&said), "Proto constraint validation failed (RouteAction.prefix_rewrite: no)");
        assert!(!reason(dump).contains("secret.example"));
        assert_eq!(&*reason("regex is too large\n"), "regex is too large");
        assert_eq!(reason(&"é".repeat(MAX_REASON)).len(), MAX_REASON);
    }

    #[test]
    fn a_text_from_outside_is_cut_at_a_character() {
        let long = "é".repeat(MAX_TEXT);
        assert_eq!(bounded(&long).len(), MAX_TEXT);
        assert_eq!(&*bounded("short"), "short");
        assert_eq!(bounded(&format!("a{long}")).len(), MAX_TEXT - 1);
    }
}
