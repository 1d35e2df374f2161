//! Portolan: a Kubernetes Gateway API implementation on Envoy.
//!
//! This crate knows Kubernetes and knows no protobuf: it turns API objects into the IR of `portolan-xds`.

pub mod admin;
pub mod cli;
pub mod events;
pub mod fleet;
pub mod identity;
pub mod leader;
pub mod metrics;
pub mod model;
pub mod operator;
pub mod peers;
pub mod preflight;
pub mod render;
pub mod resolve;
pub mod runtime;
pub mod source;
pub mod standalone;
pub mod status;
#[cfg(test)]
mod twin;
pub mod world;
