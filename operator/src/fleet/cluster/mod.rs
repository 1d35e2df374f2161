//! The fleet of a Gateway in a cluster: Deployment or DaemonSet, Service, ServiceAccount, autoscaler, disruption
//! budget, and the Secret with the proxies' certificate, in the Gateway's own namespace.
//!
//! Pure: [`Fleet`] says what a fleet should be; [`objects`] turns it into objects; [`step`] decides what to do about one
//! of them; [`addresses`] and [`trouble`] read off them how it goes. The edge: [`Owned`] watches what there is,
//! [`Applier`] writes, and [`FleetTask`] sees to every Gateway.
//!
//! Promises: an object that the Gateway does not own is never touched; what somebody changes or deletes comes back; what
//! a Gateway no longer needs goes; each write holds only for the version that it was decided on.

pub mod addresses;
mod apply;
mod fleet;
mod name;
mod objects;
mod owned;
pub mod queue;
mod settings;
pub mod step;
mod task;
pub mod trouble;

pub use apply::{Applied, Applier, ApplyError, MANAGER, MayWrite};
pub use fleet::{Fleet, Installation, PROXY_PORT, identity_name, owner};
pub use name::{fleet_name, label_value};
pub use objects::{Desired, IDENTITY_TYPE, Identity, OwnedKind, identity, objects};
pub use owned::Owned;
pub use settings::{Budget, Scale, ServiceForm, Settings, SettingsError};
pub use task::{Connections, FleetState, FleetTask, Wanted};
