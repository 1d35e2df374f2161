//! Clients that stay with an endpoint (GEP-1619).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Millis;

/// What a client carries so that its requests go to the endpoint of its first one, as long as that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Session {
    /// A cookie.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// The paths that it is for.
        path: Arc<str>,
        /// How long it holds; none is until the client forgets it.
        lifetime: Option<Millis>,
    },
    /// A header, which the client copies from the first answer.
    Header {
        /// Lower case.
        name: Arc<str>,
    },
}
