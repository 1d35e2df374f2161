//! The validated model: each API kind parsed once, at the World's door, into shared types.
//!
//! The bindings have one Rust type per *position* of a field; the API's JSON has one *shape*. Parsing therefore goes
//! from the object's JSON into one type per shape, so that attachment, filters and references are written once for all
//! route kinds. A rule that does not parse becomes a finding on its object, not a lost object.

mod config_map;
mod filter;
mod fleet_config;
mod gateway;
mod grant;
mod hostname;
mod key;
mod labels;
mod matches;
mod parse;
mod policy;
mod reference;
mod route;
mod secret;
mod service;
mod time;
mod trust_bundle;

pub use config_map::ConfigMap;
pub use filter::{
    AuthFilter, BackendFilter, CorsFilter, Filter, ForwardBody, FractionSpec, GrpcAuth, Header,
    HeaderModifier, HttpAuth, MirrorFilter, PathModifier, RedirectFilter, RewriteFilter,
};
pub use fleet_config::FleetConfig;
pub use gateway::{
    Address, AllowedRoutes, From, Frontend, Gateway, GatewayClass, Infrastructure, ListenerSet, ListenerSpec,
    RouteKind, TlsMode, Validation, ValidationMode,
};
pub use grant::{GrantFrom, GrantTo, ReferenceGrant};
pub use hostname::{Hostname, InvalidHostname};
pub use key::{InvalidObjectKey, Kind, Meta, ObjectKey};
pub use labels::{Namespace, Selector};
pub use matches::{GrpcMethod, GrpcName, HttpMatch, Path, PathKind, RegexOrExact, Values};
pub(crate) use parse::{Identity, parse_identified};
pub use parse::{ParseError, parse};
pub use policy::{BackendTlsPolicy, BackendValidation, PolicyTarget, SubjectAltName};
pub use reference::{BackendRef, ObjectRef, ParametersRef, ParentRef};
pub use route::{
    Route, RouteMatches, Rule, RuleRetry, SessionCookie, SessionHeader, SessionPersistence, WeightedRef,
};
pub use secret::Secret;
pub use service::{EndpointSlice, Service, ServicePort};
pub use time::{InvalidDuration, parse_duration};
pub use trust_bundle::{ClusterTrustBundle, check_authorities};

use std::sync::Arc;

/// A parsed object of any kind that Portolan resolves.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// GatewayClass.
    GatewayClass(Arc<GatewayClass>),
    /// Gateway.
    Gateway(Arc<Gateway>),
    /// ListenerSet.
    ListenerSet(Arc<ListenerSet>),
    /// A route of any kind.
    Route(Arc<Route>),
    /// BackendTLSPolicy.
    BackendTlsPolicy(Arc<BackendTlsPolicy>),
    /// ReferenceGrant.
    ReferenceGrant(Arc<ReferenceGrant>),
    /// Service.
    Service(Arc<Service>),
    /// EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// Secret.
    Secret(Arc<Secret>),
    /// ConfigMap.
    ConfigMap(Arc<ConfigMap>),
    /// ClusterTrustBundle.
    ClusterTrustBundle(Arc<ClusterTrustBundle>),
    /// Namespace.
    Namespace(Arc<Namespace>),
    /// FleetConfig.
    FleetConfig(Arc<FleetConfig>),
}

/// The same expression for the object of every kind.
macro_rules! of_every_kind {
    ($any:expr, $object:ident => $expression:expr) => {
        match $any {
            Self::GatewayClass($object) => $expression,
            Self::Gateway($object) => $expression,
            Self::ListenerSet($object) => $expression,
            Self::Route($object) => $expression,
            Self::BackendTlsPolicy($object) => $expression,
            Self::ReferenceGrant($object) => $expression,
            Self::Service($object) => $expression,
            Self::EndpointSlice($object) => $expression,
            Self::Secret($object) => $expression,
            Self::ConfigMap($object) => $expression,
            Self::ClusterTrustBundle($object) => $expression,
            Self::Namespace($object) => $expression,
            Self::FleetConfig($object) => $expression,
        }
    };
}

impl Object {
    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        of_every_kind!(self, object => &object.meta)
    }

    /// Which object it is.
    pub fn key(&self) -> &ObjectKey {
        &self.meta().key
    }

    /// Sets metadata.generation, which only a source can know: an API server counts it, and files count edits.
    pub fn set_generation(&mut self, generation: i64) {
        if self.meta().generation == generation {
            return;
        }
        let meta = of_every_kind!(self, object => &mut Arc::make_mut(object).meta);
        meta.generation = generation;
    }
}
