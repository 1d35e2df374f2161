//! Names that users and other software see, and which therefore never change once released.

/// `GatewayClass.spec.controllerName` of the classes that are ours, and the `controllerName` of every
/// status entry that we write.
pub const CONTROLLER_NAME: &str = "portolan.dev/gateway-controller";

/// API group of our own kinds.
pub const API_GROUP: &str = "portolan.dev";

/// `apiVersion` of our own kinds.
pub const API_VERSION: &str = "portolan.dev/v1alpha1";

/// API group of the Gateway API.
pub const GATEWAY_API_GROUP: &str = "gateway.networking.k8s.io";

/// The GatewayClass that an install creates.
pub const DEFAULT_CLASS: &str = "portolan";

/// The namespace that an install uses.
pub const SYSTEM_NAMESPACE: &str = "portolan-system";

/// The namespace of a namespaced object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Finalizer held on a GatewayClass while Gateways use it (Gateway API, `GatewayClassFinalizerGatewaysExist`).
pub const GATEWAY_CLASS_FINALIZER: &str = "gateway-exists-finalizer.gateway.networking.k8s.io";

/// Name of the Gateway API release whose schemas are embedded and whose CRDs an install applies.
pub const BUNDLE_VERSION: &str = "v1.7.0";

/// Label keys and values.
pub mod labels {
    /// On every object of a fleet: the Gateway it belongs to (GEP-1762).
    pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
    /// On every object of a fleet: the GatewayClass of its Gateway.
    pub const GATEWAY_CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";
    /// Key of the label that marks objects we created.
    pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
    /// Value of [`MANAGED_BY`] on objects we created.
    pub const MANAGED_BY_PORTOLAN: &str = "portolan";
    /// On an EndpointSlice: the Service it belongs to.
    pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
    /// On every Namespace: its own name.
    pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
}

/// Annotation keys.
pub mod annotations {
    /// On a Gateway API CRD: the release it came from.
    pub const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";
    /// On a Gateway API CRD: `standard` or `experimental`.
    pub const CHANNEL: &str = "gateway.networking.k8s.io/channel";
}
