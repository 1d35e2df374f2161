//! Asking somebody else whether a request may pass (GEP-1494).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ClusterName;

/// `ExternalAuth`: a request passes if the authorization server says so, and in no other case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalAuth {
    /// The authorization server.
    pub cluster: ClusterName,
    /// How it is asked.
    pub protocol: AuthProtocol,
    /// The largest body that is sent along, in bytes; requests with a larger one do not pass. None sends no body.
    pub body: Option<u32>,
}

/// How an authorization server is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AuthProtocol {
    /// By `envoy.service.auth.v3.Authorization/Check`.
    Grpc {
        /// The server's name in the call.
        authority: Arc<str>,
        /// Request headers that are sent along.
        headers: HeaderNames,
    },
    /// By the request itself, without its body unless that is asked for. 200 lets it pass.
    Http {
        /// What its path begins with: empty, or a path without a slash at its end.
        path: Arc<str>,
        /// Request headers that are sent beside Host, Authorization and the length; lower case.
        headers: Vec<Arc<str>>,
        /// Headers of the answer that the backend gets.
        response_headers: HeaderNames,
    },
}

/// A choice of headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeaderNames {
    /// All that can be.
    All,
    /// These, if any; lower case.
    Only(Vec<Arc<str>>),
}
