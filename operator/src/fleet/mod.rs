//! Fleets: the Envoys that serve a Gateway, and what keeps them running.
//!
//! [`cluster`] is the fleet of a Gateway in a cluster. The rest runs without Kubernetes. [`supervisor`] keeps one Envoy alive and ends it without cutting requests;
//! [`proxy`] is that supervisor as a process (`portolan proxy`), the same on a laptop and in a pod; [`pod`] is what
//! there is in a pod besides. [`host`] starts one
//! such process per Gateway of a standalone, finds those that outlived it, and says how they are. [`address`] and
//! [`ports`] decide where each Gateway listens on the host. [`envoy`] finds the binary, [`state`] the folder that all
//! of this remembers itself in.

pub mod address;
pub mod admin;
pub mod backoff;
pub mod cluster;
pub mod envoy;
pub mod files;
pub mod host;
pub mod lock;
pub mod logs;
mod name;
pub mod pod;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod state;
pub mod status;
pub mod supervisor;
pub mod unix_http;

pub use name::{GatewayName, GatewayNameError};
