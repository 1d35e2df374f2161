//! The fleet of a Gateway in a cluster: Deployment or DaemonSet, Service, ServiceAccount, autoscaler, disruption
//! budget, and the Secret with the proxies' certificate, in the Gateway's own namespace.
//!
//! Pure: [`Fleet`] says what a fleet should be; [`objects()`] turns it into objects; [`step`] decides what to do about one
//! of them; [`addresses`] and [`trouble`] read off them how it goes. The edge: [`Owned`] watches what there is,
//! [`Applier`] writes, and [`FleetTask`] sees to every Gateway.
//!
//! Promises: an object that the Gateway does not own is never touched; what somebody changes or deletes comes back; what
//! a Gateway no longer needs goes; each write holds only for the version that it was decided on.
//!
//! An operator drives it so, on every replica, with the client that it has for everything else:
//!
//! 1. [`Owned::start`] begins the watches. [`Applier::new`] gets the same client, the [`Installation`], the trust domain,
//!    [`Keeper::authorities`](crate::identity::Keeper::authorities), and a question that is asked before each write:
//!    whether this replica's Lease still holds.
//! 2. [`FleetTask::new`] gets [`Connections`], and [`FleetTask::run`] works until its token is cancelled. Await it before the
//!    Lease is given back: it writes.
//! 3. Plans go in through [`Connections::wanted`], all Gateways of ours at once: a [`Fleet`], or `None` for one whose plan
//!    has a fault and whose fleet should stay as it is. What is missing there is deleted, so nothing is touched before
//!    [`Connections::synced`] says that the map is complete.
//! 4. [`Connections::reports`] gives a [`FleetState`] for a Gateway whenever it changes, on leaders and followers alike:
//!    addresses, how many proxies serve, and what is wrong. It gives nothing for a Gateway whose fleet is gone.
//!    [`Connections::observed`] turns on when every fleet that there was at the start has been told; a leader that writes
//!    a status before would take addresses away.
//! 5. [`Connections::leading`] says whether this replica leads. A follower looks and tells; the leader writes, and looks at
//!    everything again when it becomes the leader.

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
pub use fleet::{Fleet, Front, Inside, Installation, PROXY_PORT, identity_name, owner};
pub use name::{fleet_name, label_value};
pub use objects::{Desired, IDENTITY_TYPE, Identity, OwnedKind, identity, objects};
pub use owned::Owned;
pub(crate) use owned::{WATCHED, resource};
pub use settings::{Budget, Scale, ServiceForm, Settings, SettingsError};
pub use task::{Connections, FleetState, FleetTask, Wanted};
