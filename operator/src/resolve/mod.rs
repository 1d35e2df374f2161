//! Resolving: from the World to the IR and the reports. Pure: no I/O, no clock, no randomness.
//!
//! Work is cut into [`Unit`]s. A unit reads through a recording [`View`](crate::world::View); the [`Engine`] runs again
//! exactly those units whose recorded reads changed, in the fixed order of stages, and stops where an output is equal
//! to the one before (docs/decisions/0003).

mod access_log;
mod attach;
mod authority;
mod backend;
mod chains;
mod dependencies;
mod effects;
mod engine;
mod environment;
mod expression;
mod features;
mod filters;
mod fleet;
mod frontend;
mod gateway;
mod grant;
mod host;
mod matches;
mod parameters;
mod placement;
mod report;
mod route;
mod tls;
mod unit;
mod uses;

pub use attach::{AttachOut, ParentOutcome};
pub use backend::ClusterId;
pub use chains::ChainsOut;
pub use engine::{Engine, Resolved};
pub use environment::{Bundle, Channel, Environment, Provenance};
pub use fleet::FleetPlan;
pub use frontend::{ClientCheck, FrontendOut};
pub use gateway::{ClassOut, Fault, ListenerOut, ListenersOut};
pub use grant::{Granted, RefError, RefFrom};
pub use placement::{Addresses, Placement};
pub use report::{
    AddressReport, ClassReport, Condition, FeatureReport, GatewayReport, ListenerReport, ParentReport,
    Programmed, Report, RouteReport, Status,
};
pub use route::{RouteOut, RuleOut};
pub use tls::{Certificate, ListenerTls, TlsOut, holds_pair};
pub use unit::{Output, Unit};

#[cfg(test)]
mod tests;
