//! Condition types and reasons, as the strings that go into status.
//!
//! Grouped by the object that carries the condition: `conditions::listener::types::CONFLICTED`,
//! `conditions::listener::reasons::HOSTNAME_CONFLICT`. The words are the Gateway API's, v1.7.0
//! (deprecated ones left out), except [`portolan`], which holds our own.

/// The three values of a condition's `status`.
pub mod status {
    /// The condition holds.
    pub const TRUE: &str = "True";
    /// The condition does not hold.
    pub const FALSE: &str = "False";
    /// Not known yet, or no longer known.
    pub const UNKNOWN: &str = "Unknown";
}

/// Conditions of a GatewayClass.
pub mod gateway_class {
    /// Condition types.
    pub mod types {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `SupportedVersion`.
        pub const SUPPORTED_VERSION: &str = "SupportedVersion";
    }

    /// Condition reasons.
    pub mod reasons {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `InvalidParameters`.
        pub const INVALID_PARAMETERS: &str = "InvalidParameters";
        /// `Pending`.
        pub const PENDING: &str = "Pending";
        /// `SupportedVersion`.
        pub const SUPPORTED_VERSION: &str = "SupportedVersion";
        /// `Unsupported`.
        pub const UNSUPPORTED: &str = "Unsupported";
        /// `UnsupportedVersion`.
        pub const UNSUPPORTED_VERSION: &str = "UnsupportedVersion";
        /// `Waiting`.
        pub const WAITING: &str = "Waiting";
    }
}

/// Conditions of a Gateway.
pub mod gateway {
    /// Condition types.
    pub mod types {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `InsecureFrontendValidationMode`.
        pub const INSECURE_FRONTEND_VALIDATION_MODE: &str = "InsecureFrontendValidationMode";
        /// `Programmed`.
        pub const PROGRAMMED: &str = "Programmed";
        /// `Ready`.
        pub const READY: &str = "Ready";
        /// `ResolvedRefs`.
        pub const RESOLVED_REFS: &str = "ResolvedRefs";
    }

    /// Condition reasons.
    pub mod reasons {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `AddressNotAssigned`.
        pub const ADDRESS_NOT_ASSIGNED: &str = "AddressNotAssigned";
        /// `AddressNotUsable`.
        pub const ADDRESS_NOT_USABLE: &str = "AddressNotUsable";
        /// `ConfigurationChanged`.
        pub const CONFIGURATION_CHANGED: &str = "ConfigurationChanged";
        /// `Invalid`.
        pub const INVALID: &str = "Invalid";
        /// `InvalidClientCertificateRef`.
        pub const INVALID_CLIENT_CERTIFICATE_REF: &str = "InvalidClientCertificateRef";
        /// `InvalidParameters`.
        pub const INVALID_PARAMETERS: &str = "InvalidParameters";
        /// `ListenersNotReady`.
        pub const LISTENERS_NOT_READY: &str = "ListenersNotReady";
        /// `ListenersNotResolved`.
        pub const LISTENERS_NOT_RESOLVED: &str = "ListenersNotResolved";
        /// `ListenersNotValid`.
        pub const LISTENERS_NOT_VALID: &str = "ListenersNotValid";
        /// `NoResources`.
        pub const NO_RESOURCES: &str = "NoResources";
        /// `Pending`.
        pub const PENDING: &str = "Pending";
        /// `Programmed`.
        pub const PROGRAMMED: &str = "Programmed";
        /// `Ready`.
        pub const READY: &str = "Ready";
        /// `RefNotPermitted`.
        pub const REF_NOT_PERMITTED: &str = "RefNotPermitted";
        /// `ResolvedRefs`.
        pub const RESOLVED_REFS: &str = "ResolvedRefs";
        /// `UnsupportedAddress`.
        pub const UNSUPPORTED_ADDRESS: &str = "UnsupportedAddress";
    }
}

/// Conditions of a listener, of a Gateway (`ListenerStatus`) or of a ListenerSet (`ListenerEntryStatus`).
pub mod listener {
    /// Condition types.
    pub mod types {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `Conflicted`.
        pub const CONFLICTED: &str = "Conflicted";
        /// `OverlappingTLSConfig`.
        pub const OVERLAPPING_TLS_CONFIG: &str = "OverlappingTLSConfig";
        /// `Programmed`.
        pub const PROGRAMMED: &str = "Programmed";
        /// `Ready`.
        pub const READY: &str = "Ready";
        /// `ResolvedRefs`.
        pub const RESOLVED_REFS: &str = "ResolvedRefs";
    }

    /// Condition reasons.
    pub mod reasons {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `HostnameConflict`.
        pub const HOSTNAME_CONFLICT: &str = "HostnameConflict";
        /// `Invalid`.
        pub const INVALID: &str = "Invalid";
        /// `InvalidCACertificateKind`.
        pub const INVALID_CA_CERTIFICATE_KIND: &str = "InvalidCACertificateKind";
        /// `InvalidCACertificateRef`.
        pub const INVALID_CA_CERTIFICATE_REF: &str = "InvalidCACertificateRef";
        /// `InvalidCertificateRef`.
        pub const INVALID_CERTIFICATE_REF: &str = "InvalidCertificateRef";
        /// `InvalidRouteKinds`.
        pub const INVALID_ROUTE_KINDS: &str = "InvalidRouteKinds";
        /// `ListenerConflict`.
        pub const LISTENER_CONFLICT: &str = "ListenerConflict";
        /// `NoConflicts`.
        pub const NO_CONFLICTS: &str = "NoConflicts";
        /// `NoValidCACertificate`.
        pub const NO_VALID_CA_CERTIFICATE: &str = "NoValidCACertificate";
        /// `OverlappingCertificates`.
        pub const OVERLAPPING_CERTIFICATES: &str = "OverlappingCertificates";
        /// `OverlappingHostnames`.
        pub const OVERLAPPING_HOSTNAMES: &str = "OverlappingHostnames";
        /// `Pending`.
        pub const PENDING: &str = "Pending";
        /// `PortUnavailable`.
        pub const PORT_UNAVAILABLE: &str = "PortUnavailable";
        /// `Programmed`.
        pub const PROGRAMMED: &str = "Programmed";
        /// `ProtocolConflict`.
        pub const PROTOCOL_CONFLICT: &str = "ProtocolConflict";
        /// `Ready`.
        pub const READY: &str = "Ready";
        /// `RefNotPermitted`.
        pub const REF_NOT_PERMITTED: &str = "RefNotPermitted";
        /// `ResolvedRefs`.
        pub const RESOLVED_REFS: &str = "ResolvedRefs";
        /// `TooManyListeners`.
        pub const TOO_MANY_LISTENERS: &str = "TooManyListeners";
        /// `UnsupportedProtocol`.
        pub const UNSUPPORTED_PROTOCOL: &str = "UnsupportedProtocol";
        /// `UnsupportedValue`.
        pub const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
    }
}

/// Conditions of a ListenerSet.
pub mod listener_set {
    /// Condition types.
    pub mod types {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `Programmed`.
        pub const PROGRAMMED: &str = "Programmed";
    }

    /// Condition reasons.
    pub mod reasons {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `Invalid`.
        pub const INVALID: &str = "Invalid";
        /// `ListenersNotValid`.
        pub const LISTENERS_NOT_VALID: &str = "ListenersNotValid";
        /// `NotAllowed`.
        pub const NOT_ALLOWED: &str = "NotAllowed";
        /// `ParentNotAccepted`.
        pub const PARENT_NOT_ACCEPTED: &str = "ParentNotAccepted";
        /// `Pending`.
        pub const PENDING: &str = "Pending";
        /// `Programmed`.
        pub const PROGRAMMED: &str = "Programmed";
    }
}

/// Conditions of a route's parent (`RouteParentStatus`), the same for every route kind.
pub mod route {
    /// Condition types.
    pub mod types {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `PartiallyInvalid`.
        pub const PARTIALLY_INVALID: &str = "PartiallyInvalid";
        /// `ResolvedRefs`.
        pub const RESOLVED_REFS: &str = "ResolvedRefs";
    }

    /// Condition reasons.
    pub mod reasons {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `BackendNotFound`.
        pub const BACKEND_NOT_FOUND: &str = "BackendNotFound";
        /// `IncompatibleFilters`.
        pub const INCOMPATIBLE_FILTERS: &str = "IncompatibleFilters";
        /// `InvalidKind`.
        pub const INVALID_KIND: &str = "InvalidKind";
        /// `NoMatchingListenerHostname`.
        pub const NO_MATCHING_LISTENER_HOSTNAME: &str = "NoMatchingListenerHostname";
        /// `NoMatchingParent`.
        pub const NO_MATCHING_PARENT: &str = "NoMatchingParent";
        /// `NotAllowedByListeners`.
        pub const NOT_ALLOWED_BY_LISTENERS: &str = "NotAllowedByListeners";
        /// `Pending`.
        pub const PENDING: &str = "Pending";
        /// `RefNotPermitted`.
        pub const REF_NOT_PERMITTED: &str = "RefNotPermitted";
        /// `ResolvedRefs`.
        pub const RESOLVED_REFS: &str = "ResolvedRefs";
        /// `UnsupportedProtocol`.
        pub const UNSUPPORTED_PROTOCOL: &str = "UnsupportedProtocol";
        /// `UnsupportedValue`.
        pub const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
    }
}

/// Conditions of a policy's ancestor (`PolicyAncestorStatus`), BackendTLSPolicy included.
pub mod policy {
    /// Condition types.
    pub mod types {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `ResolvedRefs`.
        pub const RESOLVED_REFS: &str = "ResolvedRefs";
    }

    /// Condition reasons.
    pub mod reasons {
        /// `Accepted`.
        pub const ACCEPTED: &str = "Accepted";
        /// `Conflicted`.
        pub const CONFLICTED: &str = "Conflicted";
        /// `Invalid`.
        pub const INVALID: &str = "Invalid";
        /// `InvalidCACertificateRef`.
        pub const INVALID_CA_CERTIFICATE_REF: &str = "InvalidCACertificateRef";
        /// `InvalidKind`.
        pub const INVALID_KIND: &str = "InvalidKind";
        /// `NoValidCACertificate`.
        pub const NO_VALID_CA_CERTIFICATE: &str = "NoValidCACertificate";
        /// `ResolvedRefs`.
        pub const RESOLVED_REFS: &str = "ResolvedRefs";
        /// `TargetNotFound`.
        pub const TARGET_NOT_FOUND: &str = "TargetNotFound";
    }
}

/// Conditions that only Portolan writes.
pub mod portolan {
    /// Condition types.
    pub mod types {
        /// `portolan.dev/Programmed`, on a route's parent: the fleet's Envoys acknowledged what this
        /// route became. False when one of them rejected it; the message is Envoy's own.
        pub const PROGRAMMED: &str = "portolan.dev/Programmed";
    }

    /// Condition reasons.
    pub mod reasons {
        /// Every connected proxy acknowledged the configuration.
        pub const PROGRAMMED: &str = "Programmed";
        /// No proxy has answered yet.
        pub const PENDING: &str = "Pending";
        /// A proxy rejected the configuration; the last acknowledged one stays in force.
        pub const REJECTED: &str = "Rejected";
    }
}
