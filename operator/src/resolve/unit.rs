//! Units of work and their outputs.

use std::sync::Arc;

use portolan_xds::ir::{self, VirtualHostKey};

use super::{
    AttachOut, ChainsOut, ClassOut, ClusterId, EndpointsOut, FleetPlan, FrontendOut, ListenersOut, PolicyOut,
    PreRoutingOut, RouteOut, StreamKey, StreamOut, TlsOut, host::HostOut,
};
use crate::model::ObjectKey;

/// A memoised unit of resolving. The order of the variants is the order of stages: a unit reads outputs of earlier
/// variants only, so that one sweep in this order settles everything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// Whether a GatewayClass is ours.
    Class(ObjectKey),
    /// A Gateway's listeners: validity, conflicts, tables. Reads no Secret.
    Listeners(ObjectKey),
    /// What a Gateway asks of its fleet.
    Fleet(ObjectKey),
    /// How a Gateway validates clients.
    Frontend(ObjectKey),
    /// The certificates of a Gateway's or a ListenerSet's own listeners.
    Tls(ObjectKey),
    /// A BackendTLSPolicy.
    Policy(ObjectKey),
    /// The filters of a Gateway's or a ListenerSet's own listeners.
    PreRouting(ObjectKey),
    /// A route's rules, the same for every parent.
    Route(ObjectKey),
    /// A route (first) on a Gateway or ListenerSet (second): which listeners, which hostnames.
    Attach(ObjectKey, ObjectKey),
    /// A stream of a Gateway.
    Stream(ObjectKey, StreamKey),
    /// A Gateway's ports and filter chains.
    Chains(ObjectKey),
    /// A virtual host of a Gateway.
    Host(ObjectKey, VirtualHostKey),
    /// A backend.
    Cluster(ClusterId),
    /// A backend's addresses.
    Endpoints(ClusterId),
}

/// What a unit gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Nothing: the object is gone or not ours.
    Nothing,
    /// Of [`Unit::Class`].
    Class(Arc<ClassOut>),
    /// Of [`Unit::Listeners`].
    Listeners(Arc<ListenersOut>),
    /// Of [`Unit::Fleet`].
    Fleet(Arc<FleetPlan>),
    /// Of [`Unit::Frontend`].
    Frontend(Arc<FrontendOut>),
    /// Of [`Unit::Tls`].
    Tls(Arc<TlsOut>),
    /// Of [`Unit::Policy`].
    Policy(Arc<PolicyOut>),
    /// Of [`Unit::PreRouting`].
    PreRouting(Arc<PreRoutingOut>),
    /// Of [`Unit::Route`].
    Route(Arc<RouteOut>),
    /// Of [`Unit::Attach`].
    Attach(Arc<AttachOut>),
    /// Of [`Unit::Stream`].
    Stream(Arc<StreamOut>),
    /// Of [`Unit::Chains`].
    Chains(Arc<ChainsOut>),
    /// Of [`Unit::Host`].
    Host(Arc<HostOut>),
    /// Of [`Unit::Cluster`].
    Cluster(Arc<ir::Cluster>),
    /// Of [`Unit::Endpoints`].
    Endpoints(Arc<EndpointsOut>),
}
