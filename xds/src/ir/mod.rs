//! The intermediate representation: what one Gateway's Envoys should do, said without Kubernetes and without protobuf.
//!
//! The operator resolves API objects into these types; [`crate::lower`] turns them into Envoy resources. The IR is cut
//! into *pieces* that change independently (a listener, a virtual host, a cluster, its endpoints, a secret), so that a
//! [`Delta`] carries exactly what a change touched and everything else keeps its encoded bytes.
//!
//! Promises: every piece is a plain value with `Eq`; two equal pieces lower to equal bytes; every piece that an API
//! object can spoil carries the [`Origin`] of that object, so that a rejection by Envoy can be blamed on it.

mod access_log;
mod auth;
mod backend;
mod delta;
mod duration;
mod filter;
mod listener;
mod origin;
mod route;
mod secret;
mod session;

pub use access_log::{AccessLog, AccessValue};
pub use auth::{AuthProtocol, ExternalAuth, HeaderNames};
pub use backend::{AppProtocol, Cluster, ClusterName, Endpoint, Endpoints, UpstreamTls, UpstreamTrust};
pub use delta::{Delta, PieceId};
pub use duration::Millis;
pub use filter::{
    Cors, CorsOrigin, Fraction, HeaderEdit, HeaderEdits, Mirror, PathRewrite, Redirect, RedirectScheme,
    UrlRewrite,
};
pub use listener::{
    ChainTraffic, ClientValidation, DownstreamTls, FilterChain, Listener, ListenerName, RouteTable,
    RouteTableName, Transport,
};
pub use origin::Origin;
pub use route::{
    Action, Arm, Backend, HeaderMatch, Otherwise, PathMatch, QueryMatch, Retry, Route, RouteMatch, RouteRank,
    StringMatch, Target, Timeouts, VirtualHost, VirtualHostKey,
};
pub use secret::{Secret, SecretBody, SecretName};
pub use session::Session;
