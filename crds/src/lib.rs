//! Every custom resource type that Portolan reads or writes, in one place.
//!
//! - [`gateway`] and [`core`]: the typed kinds of others. [`fleet_config`]: our own.
//! - [`install`]: the CRDs that an install applies.
//! - [`schema`]: the schema of each kind, for checking files without an API server.
//! - [`conditions`], [`features`], [`names`]: the fixed words.

pub mod conditions;
pub mod core;
pub mod features;
pub mod fleet_config;
pub mod gateway;
pub mod install;
pub mod names;
pub mod schema;
