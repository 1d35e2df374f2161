//! The echo backend of the tests and the quickstart.
fn main() {}
