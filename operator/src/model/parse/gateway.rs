//! GatewayClasses, Gateways and their listeners.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::lift;
use crate::model::{
    Address, AllowedRoutes, From, Frontend, Gateway, GatewayClass, Infrastructure, Kind, ListenerSet,
    ListenerSpec, Meta, ObjectKey, ObjectRef, ParametersRef, ParentRef, RouteKind, Selector, TlsMode,
    Validation,
};

pub(super) fn gateway_class(meta: Meta, spec: &Value) -> Result<GatewayClass, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        controller_name: Arc<str>,
        parameters_ref: Option<ParametersRef>,
    }
    let raw: Raw = lift(spec)?;
    Ok(GatewayClass { meta, controller: raw.controller_name, parameters: raw.parameters_ref })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawListener {
    name: Arc<str>,
    port: u16,
    protocol: Arc<str>,
    hostname: Option<Arc<str>>,
    tls: Option<RawTls>,
    filters: Option<RawFilters>,
    allowed_routes: Option<RawAllowed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTls {
    #[serde(default)]
    mode: TlsMode,
    #[serde(default)]
    certificate_refs: Vec<ObjectRef>,
}

#[derive(Deserialize)]
struct RawFilters {
    #[serde(default)]
    requests: Vec<Value>,
}

#[derive(Default, Deserialize)]
struct RawAllowed {
    namespaces: Option<RawFrom>,
    #[serde(default)]
    kinds: Vec<RouteKind>,
}

#[derive(Deserialize)]
struct RawFrom {
    from: Option<Arc<str>>,
    selector: Option<Selector>,
}

#[derive(Default, Deserialize)]
struct RawGatewayTls {
    frontend: Option<RawFrontend>,
    backend: Option<RawBackend>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBackend {
    client_certificate_ref: Option<ObjectRef>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawFrontend {
    #[serde(default)]
    default: RawValidation,
    #[serde(default)]
    per_port: Vec<RawPortValidation>,
}

#[derive(Default, Deserialize)]
struct RawValidation {
    validation: Option<Validation>,
}

#[derive(Deserialize)]
struct RawPortValidation {
    port: u16,
    #[serde(default)]
    tls: RawValidation,
}

pub(super) fn gateway(meta: Meta, spec: &Value) -> Result<Gateway, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        gateway_class_name: Arc<str>,
        #[serde(default)]
        listeners: Vec<RawListener>,
        #[serde(default)]
        allowed_listeners: RawAllowed,
        #[serde(default)]
        addresses: Vec<Address>,
        #[serde(default)]
        infrastructure: Infrastructure,
        #[serde(default)]
        tls: RawGatewayTls,
    }
    let raw: Raw = lift(spec)?;
    let frontend = raw.tls.frontend.map_or_else(Frontend::default, |raw| Frontend {
        default: raw.default.validation,
        per_port: raw.per_port.into_iter().map(|one| (one.port, one.tls.validation)).collect(),
    });
    Ok(Gateway {
        meta,
        class: raw.gateway_class_name,
        listeners: raw.listeners.into_iter().map(listener).collect(),
        allowed_sets: raw.allowed_listeners.namespaces.and_then(|namespaces| namespaces.read(None)),
        addresses: raw.addresses,
        infrastructure: raw.infrastructure,
        frontend,
        client_certificate: raw.tls.backend.and_then(|backend| backend.client_certificate_ref),
    })
}

impl RawFrom {
    fn read(self, default: Option<From>) -> Option<From> {
        match self.from.as_deref() {
            Some("All") => Some(From::All),
            Some("Same") => Some(From::Same),
            Some("Selector") => Some(From::Selector(self.selector.unwrap_or_default())),
            _ => default,
        }
    }
}

pub(super) fn listener_set(meta: Meta, spec: &Value) -> Result<ListenerSet, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        parent_ref: ParentRef,
        #[serde(default)]
        listeners: Vec<RawListener>,
    }
    let raw: Raw = lift(spec)?;
    let parent = raw.parent_ref;
    let gateway =
        (*parent.group == *Kind::Gateway.group() && *parent.kind == *Kind::Gateway.as_str()).then(|| {
            let namespace = parent.namespace.unwrap_or_else(|| meta.key.namespace.clone());
            ObjectKey::new(Kind::Gateway, namespace, parent.name)
        });
    Ok(ListenerSet { meta, gateway, listeners: raw.listeners.into_iter().map(listener).collect() })
}

fn listener(raw: RawListener) -> ListenerSpec {
    let hostname = match raw.hostname.as_deref() {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some),
    };
    let allowed = raw.allowed_routes.map_or_else(AllowedRoutes::default, |allowed| AllowedRoutes {
        from: allowed.namespaces.and_then(|one| one.read(Some(From::Same))).unwrap_or_default(),
        kinds: allowed.kinds,
    });
    let filter = |(position, filter): (usize, &Value)| {
        lift(filter).map_err(|message| format!("filters.requests[{position}]: {message}"))
    };
    let filters = raw.filters.iter().flat_map(|filters| filters.requests.iter().enumerate()).map(filter);
    let filters = filters.collect();
    let has_tls = raw.tls.is_some();
    let (tls_mode, certificates) =
        raw.tls.map_or((TlsMode::Terminate, Vec::new()), |tls| (tls.mode, tls.certificate_refs));
    ListenerSpec {
        name: raw.name,
        port: raw.port,
        protocol: raw.protocol,
        hostname,
        tls_mode,
        certificates,
        has_tls,
        filters,
        allowed,
    }
}
