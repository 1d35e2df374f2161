//! Resolving: from the World to the IR and the reports. Pure: no I/O, no clock, no randomness.
//!
//! Work is cut into [`Unit`]s. A unit reads through a recording [`View`](crate::world::View); the [`Engine`] runs again
//! exactly those units whose recorded reads changed, in the fixed order of stages, and stops where an output is equal
//! to the one before (docs/decisions/0003).

mod access_log;
mod attach;
mod auth;
mod authority;
mod backend;
mod chains;
mod class;
mod dependencies;
mod effects;
mod engine;
mod environment;
mod expression;
mod fault;
mod features;
mod filters;
mod fleet;
mod frontend;
mod grant;
mod host;
mod listeners;
mod matches;
mod parameters;
mod placement;
mod policy;
mod pre_routing;
mod report;
mod route;
mod session;
mod slot;
mod stream;
mod tls;
mod unit;
mod uses;

pub use attach::{AttachOut, ParentOutcome};
pub use backend::{BackendPort, BackendTarget, ClusterId, EndpointSource, EndpointsOut};
pub use chains::ChainsOut;
pub use class::ClassOut;
pub use engine::{Engine, Followed, Resolved};
pub use environment::{Bundle, Channel, Environment, Provenance};
pub use fault::Fault;
pub use fleet::FleetPlan;
pub use frontend::{ClientCheck, FrontendOut};
pub use grant::{Granted, RefError, RefFrom};
pub use listeners::{ListenerOut, ListenersOut, Protocol, Serves, SetOut};
pub use placement::{Addresses, Placement};
pub use policy::{BackendTls, Connection, PolicyOut};
pub use pre_routing::{PreRouting, PreRoutingOut};
pub use report::{
    AddressReport, AncestorReport, ClassReport, Condition, FeatureReport, GatewayReport, ListenerReport,
    ParentReport, PolicyReport, Programmed, Report, RouteReport, SetReport, Status,
};
pub use route::{RouteOut, RuleOut, StreamRule};
pub use slot::{Holder, Place, Slot, StreamKey, StreamKind, StreamName, Structural};
pub use stream::StreamOut;
pub use tls::{Certificate, ListenerTls, TlsOut, holds_pair};
pub use unit::{Output, Unit};

#[cfg(test)]
mod tests;
