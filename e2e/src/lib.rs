//! Tests against real things.

pub mod echo;
pub mod rig;
