//! Tests against real things.
