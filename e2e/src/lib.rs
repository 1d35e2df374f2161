//! Tests against real things.

pub mod echo;
