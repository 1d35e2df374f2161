//! The Envoy API as deterministic Rust types.
