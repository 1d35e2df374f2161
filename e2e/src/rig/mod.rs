//! The rig of the tests with a real Envoy: a folder of manifests, echo backends, and `portolan standalone` over them.
//!
//! A test gives manifests and asks over the wire. [`World`] runs everything, and ends it when it is dropped or the test is gone; [`Target`] and [`Ask`]
//! are a client that holds nothing back (fresh or kept connections, HTTP/1.1 or HTTP/2, any SNI with any Host), and [`Load`]
//! keeps asking while a test changes things, and counts what failed. Waiting is always for a condition and has a deadline;
//! what is not reached is shown with the status and the end of the log.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

pub mod authorizer;
pub mod backends;
pub mod binary;
pub mod client;
pub mod grpc;
pub mod keeper;
pub mod load;
pub mod manifest;
pub mod pod;
pub mod processes;
pub mod shared;
pub mod socket;
pub mod status;
pub mod stream;
pub mod table;
mod tls;
pub mod wait;
pub mod websocket;
pub mod world;

pub use authorizer::Authorizer;
pub use client::{Answer, Ask, Connection, Target};
pub use load::{Lane, Load, Report};
pub use pod::{Mounted, PodProxy};
pub use shared::Shared;
pub use status::{Condition, Status};
pub use stream::{Session, Stream};
pub use table::table;
pub use wait::until;
pub use world::{DEADLINE, Plan, World};
