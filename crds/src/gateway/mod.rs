//! The Gateway API's kinds as Rust types, and the one list of where each comes from.
//!
//! The crate `gateway-api` 0.22 binds Gateway API v1.5.1. Its `experimental` types are a superset of
//! its `standard` ones, so they are used wherever they exist. What it lacks (TCPRoute and UDPRoute v1,
//! newer experimental fields of Gateway and ListenerSet) is dropped when a typed object is read, and will
//! be generated into this folder; nothing outside this crate changes then.
//!
//! | kind | version | scope | from |
//! |---|---|---|---|
//! | GatewayClass | v1 | cluster | `gateway-api`, experimental |
//! | Gateway | v1 | namespace | `gateway-api`, experimental |
//! | HTTPRoute | v1 | namespace | `gateway-api`, experimental |
//! | GRPCRoute | v1 | namespace | `gateway-api`, experimental |
//! | TLSRoute | v1 | namespace | `gateway-api`, experimental |
//! | ReferenceGrant | v1 | namespace | `gateway-api`, experimental |
//! | ListenerSet | v1 | namespace | `gateway-api`, experimental |
//! | BackendTLSPolicy | v1 | namespace | `gateway-api`, standard (not among its experimental modules) |
//! | TCPRoute, UDPRoute | v1 | namespace | not bound yet: the crate has v1alpha2 only |
//!
//! Each kind is re-exported with its spec; its module is re-exported too, for the nested types.

macro_rules! kinds {
    ($($channel:ident :: $module:ident => $kind:ident, $spec:ident;)*) => {
        $(
            pub use gateway_api::apis::$channel::$module;
            pub use gateway_api::apis::$channel::$module::{$kind, $spec};
        )*
    };
}

kinds! {
    experimental::gatewayclasses => GatewayClass, GatewayClassSpec;
    experimental::gateways => Gateway, GatewaySpec;
    experimental::httproutes => HttpRoute, HttpRouteSpec;
    experimental::grpcroutes => GrpcRoute, GrpcRouteSpec;
    experimental::tlsroutes => TlsRoute, TlsRouteSpec;
    experimental::referencegrants => ReferenceGrant, ReferenceGrantSpec;
    experimental::listenersets => ListenerSet, ListenerSetSpec;
    standard::backendtlspolicies => BackendTlsPolicy, BackendTlsPolicySpec;
}
