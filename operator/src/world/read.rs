//! What resolving can ask for, as a value: the currency of dependency tracking.

use std::sync::Arc;

use crate::{
    model::ObjectKey,
    resolve::{Slot, Unit},
};

/// One question that a unit asked while it was resolved, also when the answer was "nothing".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Read {
    /// The object of this key.
    Object(ObjectKey),
    /// The ReferenceGrants of a namespace.
    GrantsInto(Arc<str>),
    /// The EndpointSlices of a Service: namespace and name.
    SlicesOf(Arc<str>, Arc<str>),
    /// The ListenerSets of a Gateway, and what they say.
    SetsOf(ObjectKey),
    /// The BackendTLSPolicies about a Service: namespace and name.
    PoliciesOn(Arc<str>, Arc<str>),
    /// The output of an earlier unit.
    Output(Unit),
    /// Which routes share a slot, their rules, and what its listeners want of it.
    MembersOf(Slot),
    /// What became of the listeners of a Gateway or of a ListenerSet, and which hosts of theirs belong to others. Among a
    /// thousand ListenerSets a change is about one.
    ListenersOf(ObjectKey),
    /// Which streams a Gateway has.
    StreamsOf(ObjectKey),
    /// Which addresses a Gateway's ports got.
    Placement(ObjectKey),
    /// Whether any rule of a route can be served. It changes more rarely than the route.
    Servable(ObjectKey),
    /// What holds for all objects.
    Environment,
}
