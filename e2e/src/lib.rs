//! Tests against real things.

pub mod apiserver;
pub mod bench;
pub mod echo;
pub mod mbb;
pub mod rig;
pub mod stage;
