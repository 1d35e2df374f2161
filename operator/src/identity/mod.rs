//! Who is who on the xDS port: an authority that the operator keeps, a certificate for itself, one for each Gateway's
//! proxies.
//!
//! - [`Authorities`] is pure: it signs, and says what is due. Certificates live for a day and are renewed after two
//!   thirds of it; authorities live for ten years and overlap for one, so that nobody is ever refused because of a
//!   renewal.
//! - [`Keeper`] holds them in a Secret of the operator's namespace, which all replicas share, and renews this replica's
//!   server certificate.
//!
//! An operator calls [`Keeper::open`] before it serves proxies, on every replica, with the name of its Service as it stands
//! in the proxies' `--xds-address`. [`Keeper::server_configs`] is what `AdsServer::serve_tls` takes: each new connection gets
//! the newest certificate, and none is closed for it. There the client's certificate is read: its
//! `spiffe://<trust domain>/ns/<namespace>/gateway/<name>` is the Gateway of all streams of the connection, whatever their
//! node says. [`Keeper::authorities`] goes to the fleets' applier, which makes the proxies' certificates.
//! [`Keeper::run`] keeps all of it fresh and needs no leader.
//!
//! Whoever can read that Secret can be any Gateway's proxy. To replace an authority that has leaked: stop the operator,
//! delete the Secret, start it again. Proxies go on serving meanwhile and are let in again once they have their new
//! certificates.

mod authorities;
mod keeper;

pub use authorities::{Authorities, Authority, IdentityError, Issued, is_due};
pub use keeper::{AUTHORITY_SECRET, Keeper, KeeperError};
