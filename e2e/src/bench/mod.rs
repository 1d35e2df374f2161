//! The control plane as a whole, measured from outside: a folder of manifests, the `portolan` binary, and a delta ADS
//! client in the place of Envoy.
//!
//! All times are of one clock, this process's: from before a file is renamed into its place until the response that
//! carries the change has been read and decoded here. Envoy's own time to apply it is not in them. Every run ends by
//! itself, in bounded time.

mod child;
pub mod cluster;
mod control_plane;
mod figures;
mod folder;
mod process;
mod run;

pub use figures::{Figure, Summary};
pub use folder::{Hostnames, Load};
pub use run::{RunError, Setting, run};
