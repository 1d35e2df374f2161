//! What is logged of each request.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The access log of a listener: one JSON object per request on standard output. Members are values that Envoy knows,
/// never text to expand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// The members, and their names.
    pub members: Vec<(Arc<str>, AccessValue)>,
    /// Request headers, in the member `requestHeaders`. Each is a header's name: letters, digits and `!#$&'*+.^_|~-`.
    pub request_headers: Vec<Arc<str>>,
    /// Response headers, in the member `responseHeaders`.
    pub response_headers: Vec<Arc<str>>,
}

/// A value of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AccessValue {
    /// When it began.
    StartTime,
    /// Its method.
    Method,
    /// The host that the client asked for.
    Authority,
    /// Its path with the query; after a rewrite, where there is one.
    Path,
    /// The protocol's version.
    Protocol,
    /// The status of the response.
    ResponseCode,
    /// Who decided it.
    ResponseCodeDetails,
    /// What went wrong, in Envoy's short flags.
    ResponseFlags,
    /// Milliseconds from the first byte in to the last byte out.
    Duration,
    /// Milliseconds from the first byte to the backend to the first one from it.
    UpstreamDuration,
    /// Bytes of the request's body.
    BytesReceived,
    /// Bytes of the response's body.
    BytesSent,
    /// The client's address.
    ClientAddress,
    /// The address that it connected to.
    LocalAddress,
    /// The TLS server name that it asked for.
    ServerName,
    /// The route's name.
    Route,
    /// The cluster's name.
    Cluster,
    /// The endpoint's address.
    UpstreamAddress,
    /// Why no connection to an endpoint came about.
    UpstreamFailure,
    /// x-request-id.
    RequestId,
    /// user-agent.
    UserAgent,
    /// x-forwarded-for.
    ForwardedFor,
}
