//! Feature names of the Gateway API's conformance suite, v1.7.0.
//!
//! A feature name is what `GatewayClass.status.supportedFeatures` lists and what a conformance report
//! claims. This module only names them; which ones we support is decided by the code that reports them.

/// `BackendTLSPolicy`.
pub const BACKEND_TLS_POLICY: &str = "BackendTLSPolicy";
/// `BackendTLSPolicySANValidation`.
pub const BACKEND_TLS_POLICY_SAN_VALIDATION: &str = "BackendTLSPolicySANValidation";
/// `ClusterTrustBundle`.
pub const CLUSTER_TRUST_BUNDLE: &str = "ClusterTrustBundle";
/// `GRPCRoute`.
pub const GRPC_ROUTE: &str = "GRPCRoute";
/// `GRPCRouteNamedRouteRule`.
pub const GRPC_ROUTE_NAMED_ROUTE_RULE: &str = "GRPCRouteNamedRouteRule";
/// `GRPCRouteRequestHeaderModifier`.
pub const GRPC_ROUTE_REQUEST_HEADER_MODIFIER: &str = "GRPCRouteRequestHeaderModifier";
/// `Gateway`.
pub const GATEWAY: &str = "Gateway";
/// `GatewayAddressEmpty`.
pub const GATEWAY_ADDRESS_EMPTY: &str = "GatewayAddressEmpty";
/// `GatewayAddressRoutability`.
pub const GATEWAY_ADDRESS_ROUTABILITY: &str = "GatewayAddressRoutability";
/// `GatewayAddressRoutabilityCluster`.
pub const GATEWAY_ADDRESS_ROUTABILITY_CLUSTER: &str = "GatewayAddressRoutabilityCluster";
/// `GatewayBackendClientCertificate`.
pub const GATEWAY_BACKEND_CLIENT_CERTIFICATE: &str = "GatewayBackendClientCertificate";
/// `GatewayFrontendClientCertificateValidation`.
pub const GATEWAY_FRONTEND_CLIENT_CERTIFICATE_VALIDATION: &str = "GatewayFrontendClientCertificateValidation";
/// `GatewayFrontendClientCertificateValidationInsecureFallback`.
pub const GATEWAY_FRONTEND_CLIENT_CERTIFICATE_VALIDATION_INSECURE_FALLBACK: &str =
    "GatewayFrontendClientCertificateValidationInsecureFallback";
/// `GatewayHTTPListenerIsolation`.
pub const GATEWAY_HTTP_LISTENER_ISOLATION: &str = "GatewayHTTPListenerIsolation";
/// `GatewayHTTPSListenerDetectMisdirectedRequests`.
pub const GATEWAY_HTTPS_LISTENER_DETECT_MISDIRECTED_REQUESTS: &str =
    "GatewayHTTPSListenerDetectMisdirectedRequests";
/// `GatewayInfrastructure`.
pub const GATEWAY_INFRASTRUCTURE: &str = "GatewayInfrastructure";
/// `GatewayListenerFilters`.
pub const GATEWAY_LISTENER_FILTERS: &str = "GatewayListenerFilters";
/// `GatewayPort8080`.
pub const GATEWAY_PORT_8080: &str = "GatewayPort8080";
/// `GatewayRouteHostnameIntersectionPrecedence`.
pub const GATEWAY_ROUTE_HOSTNAME_INTERSECTION_PRECEDENCE: &str = "GatewayRouteHostnameIntersectionPrecedence";
/// `GatewayStaticAddresses`.
pub const GATEWAY_STATIC_ADDRESSES: &str = "GatewayStaticAddresses";
/// `HTTPRoute`.
pub const HTTP_ROUTE: &str = "HTTPRoute";
/// `HTTPRoute303RedirectStatusCode`.
pub const HTTP_ROUTE_303_REDIRECT_STATUS_CODE: &str = "HTTPRoute303RedirectStatusCode";
/// `HTTPRoute307RedirectStatusCode`.
pub const HTTP_ROUTE_307_REDIRECT_STATUS_CODE: &str = "HTTPRoute307RedirectStatusCode";
/// `HTTPRoute308RedirectStatusCode`.
pub const HTTP_ROUTE_308_REDIRECT_STATUS_CODE: &str = "HTTPRoute308RedirectStatusCode";
/// `HTTPRouteBackendProtocolH2C`.
pub const HTTP_ROUTE_BACKEND_PROTOCOL_H2C: &str = "HTTPRouteBackendProtocolH2C";
/// `HTTPRouteBackendProtocolWebSocket`.
pub const HTTP_ROUTE_BACKEND_PROTOCOL_WEBSOCKET: &str = "HTTPRouteBackendProtocolWebSocket";
/// `HTTPRouteBackendRequestHeaderModification`.
pub const HTTP_ROUTE_BACKEND_REQUEST_HEADER_MODIFICATION: &str = "HTTPRouteBackendRequestHeaderModification";
/// `HTTPRouteBackendTimeout`.
pub const HTTP_ROUTE_BACKEND_TIMEOUT: &str = "HTTPRouteBackendTimeout";
/// `HTTPRouteBackendURLRewrite`.
pub const HTTP_ROUTE_BACKEND_URL_REWRITE: &str = "HTTPRouteBackendURLRewrite";
/// `HTTPRouteCORS`.
pub const HTTP_ROUTE_CORS: &str = "HTTPRouteCORS";
/// `HTTPRouteDestinationPortMatching`.
pub const HTTP_ROUTE_DESTINATION_PORT_MATCHING: &str = "HTTPRouteDestinationPortMatching";
/// `HTTPRouteHostRewrite`.
pub const HTTP_ROUTE_HOST_REWRITE: &str = "HTTPRouteHostRewrite";
/// `HTTPRouteMethodMatching`.
pub const HTTP_ROUTE_METHOD_MATCHING: &str = "HTTPRouteMethodMatching";
/// `HTTPRouteNamedRouteRule`.
pub const HTTP_ROUTE_NAMED_ROUTE_RULE: &str = "HTTPRouteNamedRouteRule";
/// `HTTPRouteParentRefPort`.
pub const HTTP_ROUTE_PARENT_REF_PORT: &str = "HTTPRouteParentRefPort";
/// `HTTPRoutePathRedirect`.
pub const HTTP_ROUTE_PATH_REDIRECT: &str = "HTTPRoutePathRedirect";
/// `HTTPRoutePathRewrite`.
pub const HTTP_ROUTE_PATH_REWRITE: &str = "HTTPRoutePathRewrite";
/// `HTTPRoutePortRedirect`.
pub const HTTP_ROUTE_PORT_REDIRECT: &str = "HTTPRoutePortRedirect";
/// `HTTPRouteQueryParamMatching`.
pub const HTTP_ROUTE_QUERY_PARAM_MATCHING: &str = "HTTPRouteQueryParamMatching";
/// `HTTPRouteRequestMirror`.
pub const HTTP_ROUTE_REQUEST_MIRROR: &str = "HTTPRouteRequestMirror";
/// `HTTPRouteRequestMultipleMirrors`.
pub const HTTP_ROUTE_REQUEST_MULTIPLE_MIRRORS: &str = "HTTPRouteRequestMultipleMirrors";
/// `HTTPRouteRequestPercentageMirror`.
pub const HTTP_ROUTE_REQUEST_PERCENTAGE_MIRROR: &str = "HTTPRouteRequestPercentageMirror";
/// `HTTPRouteRequestTimeout`.
pub const HTTP_ROUTE_REQUEST_TIMEOUT: &str = "HTTPRouteRequestTimeout";
/// `HTTPRouteResponseHeaderModification`.
pub const HTTP_ROUTE_RESPONSE_HEADER_MODIFICATION: &str = "HTTPRouteResponseHeaderModification";
/// `HTTPRouteRetryCodes`.
pub const HTTP_ROUTE_RETRY_CODES: &str = "HTTPRouteRetryCodes";
/// `HTTPRouteRetryConnectionError`.
pub const HTTP_ROUTE_RETRY_CONNECTION_ERROR: &str = "HTTPRouteRetryConnectionError";
/// `HTTPRouteSchemeRedirect`.
pub const HTTP_ROUTE_SCHEME_REDIRECT: &str = "HTTPRouteSchemeRedirect";
/// `ListenerSet`.
pub const LISTENER_SET: &str = "ListenerSet";
/// `Mesh`.
pub const MESH: &str = "Mesh";
/// `MeshClusterIPMatching`.
pub const MESH_CLUSTER_IP_MATCHING: &str = "MeshClusterIPMatching";
/// `MeshConsumerRoute`.
pub const MESH_CONSUMER_ROUTE: &str = "MeshConsumerRoute";
/// `MeshHTTPRouteBackendRequestHeaderModification`.
pub const MESH_HTTP_ROUTE_BACKEND_REQUEST_HEADER_MODIFICATION: &str =
    "MeshHTTPRouteBackendRequestHeaderModification";
/// `MeshHTTPRouteNamedRouteRule`.
pub const MESH_HTTP_ROUTE_NAMED_ROUTE_RULE: &str = "MeshHTTPRouteNamedRouteRule";
/// `MeshHTTPRouteQueryParamMatching`.
pub const MESH_HTTP_ROUTE_QUERY_PARAM_MATCHING: &str = "MeshHTTPRouteQueryParamMatching";
/// `MeshHTTPRouteRedirectPath`.
pub const MESH_HTTP_ROUTE_REDIRECT_PATH: &str = "MeshHTTPRouteRedirectPath";
/// `MeshHTTPRouteRedirectPort`.
pub const MESH_HTTP_ROUTE_REDIRECT_PORT: &str = "MeshHTTPRouteRedirectPort";
/// `MeshHTTPRouteRewritePath`.
pub const MESH_HTTP_ROUTE_REWRITE_PATH: &str = "MeshHTTPRouteRewritePath";
/// `MeshHTTPRouteSchemeRedirect`.
pub const MESH_HTTP_ROUTE_SCHEME_REDIRECT: &str = "MeshHTTPRouteSchemeRedirect";
/// `ReferenceGrant`.
pub const REFERENCE_GRANT: &str = "ReferenceGrant";
/// `TCPRoute`.
pub const TCP_ROUTE: &str = "TCPRoute";
/// `TLSRoute`.
pub const TLS_ROUTE: &str = "TLSRoute";
/// `TLSRouteModeMixed`.
pub const TLS_ROUTE_MODE_MIXED: &str = "TLSRouteModeMixed";
/// `TLSRouteModeTerminate`.
pub const TLS_ROUTE_MODE_TERMINATE: &str = "TLSRouteModeTerminate";
/// `UDPRoute`.
pub const UDP_ROUTE: &str = "UDPRoute";

/// Every feature name of the suite, in ascending byte order (the order the status field requires).
pub const ALL: &[&str] = &[
    BACKEND_TLS_POLICY,
    BACKEND_TLS_POLICY_SAN_VALIDATION,
    CLUSTER_TRUST_BUNDLE,
    GRPC_ROUTE,
    GRPC_ROUTE_NAMED_ROUTE_RULE,
    GRPC_ROUTE_REQUEST_HEADER_MODIFIER,
    GATEWAY,
    GATEWAY_ADDRESS_EMPTY,
    GATEWAY_ADDRESS_ROUTABILITY,
    GATEWAY_ADDRESS_ROUTABILITY_CLUSTER,
    GATEWAY_BACKEND_CLIENT_CERTIFICATE,
    GATEWAY_FRONTEND_CLIENT_CERTIFICATE_VALIDATION,
    GATEWAY_FRONTEND_CLIENT_CERTIFICATE_VALIDATION_INSECURE_FALLBACK,
    GATEWAY_HTTP_LISTENER_ISOLATION,
    GATEWAY_HTTPS_LISTENER_DETECT_MISDIRECTED_REQUESTS,
    GATEWAY_INFRASTRUCTURE,
    GATEWAY_LISTENER_FILTERS,
    GATEWAY_PORT_8080,
    GATEWAY_ROUTE_HOSTNAME_INTERSECTION_PRECEDENCE,
    GATEWAY_STATIC_ADDRESSES,
    HTTP_ROUTE,
    HTTP_ROUTE_303_REDIRECT_STATUS_CODE,
    HTTP_ROUTE_307_REDIRECT_STATUS_CODE,
    HTTP_ROUTE_308_REDIRECT_STATUS_CODE,
    HTTP_ROUTE_BACKEND_PROTOCOL_H2C,
    HTTP_ROUTE_BACKEND_PROTOCOL_WEBSOCKET,
    HTTP_ROUTE_BACKEND_REQUEST_HEADER_MODIFICATION,
    HTTP_ROUTE_BACKEND_TIMEOUT,
    HTTP_ROUTE_BACKEND_URL_REWRITE,
    HTTP_ROUTE_CORS,
    HTTP_ROUTE_DESTINATION_PORT_MATCHING,
    HTTP_ROUTE_HOST_REWRITE,
    HTTP_ROUTE_METHOD_MATCHING,
    HTTP_ROUTE_NAMED_ROUTE_RULE,
    HTTP_ROUTE_PARENT_REF_PORT,
    HTTP_ROUTE_PATH_REDIRECT,
    HTTP_ROUTE_PATH_REWRITE,
    HTTP_ROUTE_PORT_REDIRECT,
    HTTP_ROUTE_QUERY_PARAM_MATCHING,
    HTTP_ROUTE_REQUEST_MIRROR,
    HTTP_ROUTE_REQUEST_MULTIPLE_MIRRORS,
    HTTP_ROUTE_REQUEST_PERCENTAGE_MIRROR,
    HTTP_ROUTE_REQUEST_TIMEOUT,
    HTTP_ROUTE_RESPONSE_HEADER_MODIFICATION,
    HTTP_ROUTE_RETRY_CODES,
    HTTP_ROUTE_RETRY_CONNECTION_ERROR,
    HTTP_ROUTE_SCHEME_REDIRECT,
    LISTENER_SET,
    MESH,
    MESH_CLUSTER_IP_MATCHING,
    MESH_CONSUMER_ROUTE,
    MESH_HTTP_ROUTE_BACKEND_REQUEST_HEADER_MODIFICATION,
    MESH_HTTP_ROUTE_NAMED_ROUTE_RULE,
    MESH_HTTP_ROUTE_QUERY_PARAM_MATCHING,
    MESH_HTTP_ROUTE_REDIRECT_PATH,
    MESH_HTTP_ROUTE_REDIRECT_PORT,
    MESH_HTTP_ROUTE_REWRITE_PATH,
    MESH_HTTP_ROUTE_SCHEME_REDIRECT,
    REFERENCE_GRANT,
    TCP_ROUTE,
    TLS_ROUTE,
    TLS_ROUTE_MODE_MIXED,
    TLS_ROUTE_MODE_TERMINATE,
    UDP_ROUTE,
];

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn the_suite_has_64_features() {
        assert_eq!(ALL.len(), 64);
    }
}
