//! Lowers IR pieces to Envoy resources.
//!
//! Every function here is pure and total: it cannot fail, and equal pieces give equal bytes. Text that an API object
//! brings is only put where Envoy takes it literally, or it is quoted first (`%` in header values, RE2
//! metacharacters, `\` in substitutions); regular expressions of the API are the one exception, and Envoy may reject
//! them. A RouteConfiguration is assembled from cached chunks ([`table`]), so that one changed route costs one
//! encoding.

mod access_log;
mod auth;
mod cluster;
mod cors;
mod endpoints;
mod filters;
mod listener;
mod matches;
mod redirect;
mod retry;
mod route;
mod secret;
mod session;
mod stream;
pub mod table;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

pub use cluster::cluster;
pub use endpoints::endpoints;
pub use listener::listener;
pub use route::route;
pub use secret::secret;

/// A cluster name that no Service can have (it has no port): what the share of an invalid backend is sent to.
///
/// The cluster never exists, so that Envoy answers with the route's `cluster_not_found_response_code`.
pub const INVALID_CLUSTER: &str = "portolan/invalid";
