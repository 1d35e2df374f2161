//! Tests against real things.

pub mod apiserver;
pub mod echo;
