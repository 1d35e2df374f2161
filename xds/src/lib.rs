//! IR, lowering to Envoy, and the delta ADS server.
//!
//! This crate knows Envoy and knows no Kubernetes: the operator hands it [`ir`] pieces and gets acknowledgements back.

pub mod ads;
pub mod bootstrap;
pub mod ir;
mod key;
pub mod lower;
pub mod program;
pub mod store;

pub use key::{GatewayKey, InvalidGatewayKey};
