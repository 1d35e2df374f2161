//! From an API object's JSON to the model.

use std::{collections::BTreeMap, sync::Arc};

use base64::Engine as _;
use portolan_xds::ir::Transport;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::Value;
use thiserror::Error;

use super::{
    BackendTlsPolicy, BackendValidation, ClusterTrustBundle, ConfigMap, EndpointSlice, FleetConfig,
    GrantFrom, GrantTo, GrpcMethod, HttpMatch, Kind, Meta, Namespace, Object, ObjectKey, ParentRef,
    PolicyTarget, ReferenceGrant, Route, RouteMatches, Rule, Secret, Service, ServicePort,
    route::{RawRule, RawTimeouts},
};

mod gateway;

/// An object that cannot be used at all.
#[derive(Debug, Error)]
#[error("{key}: {message}")]
pub struct ParseError {
    /// Which object.
    pub key: ObjectKey,
    /// What is wrong.
    pub message: String,
}

/// What is used of an object's metadata.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    pub(crate) name: Arc<str>,
    #[serde(default)]
    pub(crate) uid: Option<Arc<str>>,
    #[serde(default)]
    pub(crate) namespace: Option<Arc<str>>,
    #[serde(default)]
    pub(crate) generation: Option<i64>,
    #[serde(default)]
    pub(crate) creation_timestamp: Option<jiff::Timestamp>,
    #[serde(default)]
    pub(crate) labels: Option<BTreeMap<Arc<str>, Arc<str>>>,
}

/// Parses an object of `kind` from its JSON, which has passed schema validation or comes from an API server that did it.
///
/// Fields that cannot be used are kept as findings inside the object; an error means that not even its identity or its
/// outer shape is there.
pub fn parse(kind: Kind, json: &Value) -> Result<Object, ParseError> {
    let nobody = || ObjectKey::new(kind, "", "?");
    let identity: Identity = lift(json.get("metadata").unwrap_or(&Value::Null))
        .map_err(|message| ParseError { key: nobody(), message: format!("metadata: {message}") })?;
    parse_identified(kind, &identity, json)
}

/// As [`parse`], of an object whose metadata was read before; `json` has the rest.
pub(crate) fn parse_identified(kind: Kind, raw: &Identity, json: &Value) -> Result<Object, ParseError> {
    let namespace: Arc<str> = if kind.cluster_scoped() {
        "".into()
    } else {
        raw.namespace.clone().unwrap_or_else(|| "default".into())
    };
    let meta = Meta {
        key: ObjectKey { kind, namespace, name: raw.name.clone() },
        uid: raw.uid.clone().unwrap_or_default(),
        generation: raw.generation.unwrap_or(0),
        created: raw.creation_timestamp.map_or(0, jiff::Timestamp::as_second),
    };
    let key = meta.key.clone();
    let empty = Value::Object(serde_json::Map::new());
    let spec = json.get("spec").unwrap_or(&empty);
    let object = match kind {
        Kind::GatewayClass => gateway::gateway_class(meta, spec).map(|v| Object::GatewayClass(Arc::new(v))),
        Kind::Gateway => gateway::gateway(meta, spec).map(|v| Object::Gateway(Arc::new(v))),
        Kind::ListenerSet => gateway::listener_set(meta, spec).map(|v| Object::ListenerSet(Arc::new(v))),
        Kind::HttpRoute | Kind::GrpcRoute | Kind::TlsRoute | Kind::TcpRoute | Kind::UdpRoute => {
            route(meta, spec).map(|v| Object::Route(Arc::new(v)))
        }
        Kind::BackendTlsPolicy => policy(meta, spec).map(|v| Object::BackendTlsPolicy(Arc::new(v))),
        Kind::ReferenceGrant => grant(meta, spec).map(|v| Object::ReferenceGrant(Arc::new(v))),
        Kind::Service => service(meta, spec).map(|v| Object::Service(Arc::new(v))),
        Kind::EndpointSlice => slice(meta, raw, json).map(|v| Object::EndpointSlice(Arc::new(v))),
        Kind::Secret => secret(meta, json).map(|v| Object::Secret(Arc::new(v))),
        Kind::ConfigMap => config_map(meta, json).map(|v| Object::ConfigMap(Arc::new(v))),
        Kind::ClusterTrustBundle => trust_bundle(meta, spec).map(|v| Object::ClusterTrustBundle(Arc::new(v))),
        Kind::Namespace => {
            let mut labels = raw.labels.clone().unwrap_or_default();
            labels.insert(super::labels::NAME_LABEL.into(), raw.name.clone());
            Ok(Object::Namespace(Arc::new(Namespace { meta, labels })))
        }
        Kind::FleetConfig => {
            let spec = lift(spec).map(Arc::new);
            Ok(Object::FleetConfig(Arc::new(FleetConfig { meta, spec })))
        }
    };
    object.map_err(|message| ParseError { key, message })
}

/// Reads JSON into a shape. The error begins with the field that is wrong.
fn lift<T: DeserializeOwned>(json: &Value) -> Result<T, String> {
    // To know the field takes as long as reading: only where there is something to tell.
    T::deserialize(json).or_else(|_| {
        serde_path_to_error::deserialize(json).map_err(|error| match error.path().to_string().as_str() {
            "." => error.into_inner().to_string(),
            field => format!("{field}: {}", error.inner()),
        })
    })
}

fn route(meta: Meta, spec: &Value) -> Result<Route, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        #[serde(default)]
        parent_refs: Vec<ParentRef>,
        #[serde(default)]
        hostnames: Vec<Arc<str>>,
        rules: Option<Vec<Value>>,
    }
    let raw: Raw = lift(spec)?;
    // HTTPRouteSpec.rules defaults to one rule that matches every path; GRPCRoute likewise matches every method.
    let rules = raw.rules.unwrap_or_else(|| vec![Value::Object(serde_json::Map::new())]);
    let kind = meta.key.kind;
    let rules = rules
        .iter()
        .map(|json| match kind {
            Kind::HttpRoute => lift::<RawRule<HttpMatch>>(json).map(|raw| rule(raw, RouteMatches::Http)),
            Kind::GrpcRoute => lift::<RawRule<GrpcMethod>>(json).map(|raw| rule(raw, RouteMatches::Grpc)),
            _ => lift::<RawRule<IgnoredAny>>(json).map(|raw| rule(raw, |_| RouteMatches::Everything)),
        })
        .collect();
    // TCPRoute and UDPRoute have no such field; what is read of one has to be ignored.
    let named = !matches!(kind, Kind::TcpRoute | Kind::UdpRoute);
    let hostnames = raw.hostnames.iter().filter(|_| named).map(|text| text.parse()).collect();
    Ok(Route { meta, parents: raw.parent_refs, hostnames, rules })
}

fn rule<M: Default>(raw: RawRule<M>, wrap: impl FnOnce(Vec<M>) -> RouteMatches) -> Rule {
    let matches = if raw.matches.is_empty() { vec![M::default()] } else { raw.matches };
    let RawTimeouts { request, backend_request } = raw.timeouts;
    Rule {
        name: raw.name,
        matches: wrap(matches),
        filters: raw.filters,
        backends: raw.backend_refs,
        request_timeout: request,
        backend_timeout: backend_request,
        retry: raw.retry,
        session: raw.session_persistence,
    }
}

fn policy(meta: Meta, spec: &Value) -> Result<BackendTlsPolicy, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        #[serde(default)]
        target_refs: Vec<PolicyTarget>,
        validation: BackendValidation,
    }
    let raw: Raw = lift(spec)?;
    Ok(BackendTlsPolicy { meta, targets: raw.target_refs, validation: raw.validation })
}

fn grant(meta: Meta, spec: &Value) -> Result<ReferenceGrant, String> {
    #[derive(Deserialize)]
    struct Raw {
        from: Vec<GrantFrom>,
        to: Vec<GrantTo>,
    }
    let raw: Raw = lift(spec)?;
    Ok(ReferenceGrant { meta, from: raw.from, to: raw.to })
}

fn service(meta: Meta, spec: &Value) -> Result<Service, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RawPort {
        #[serde(default)]
        name: Option<Arc<str>>,
        port: u16,
        app_protocol: Option<Arc<str>>,
        protocol: Option<Arc<str>>,
    }
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        ports: Vec<RawPort>,
        #[serde(rename = "type")]
        type_: Option<Arc<str>>,
    }
    let raw: Raw = lift(spec)?;
    let ports = raw.ports.into_iter().map(|port| ServicePort {
        name: port.name.unwrap_or_default(),
        port: port.port,
        app_protocol: port.app_protocol,
        transport: match port.protocol.as_deref() {
            None | Some("TCP") => Some(Transport::Tcp),
            Some("UDP") => Some(Transport::Udp),
            Some(_) => None,
        },
    });
    Ok(Service { meta, ports: ports.collect(), external_name: raw.type_.as_deref() == Some("ExternalName") })
}

fn slice(meta: Meta, raw_meta: &Identity, json: &Value) -> Result<EndpointSlice, String> {
    #[derive(Deserialize)]
    struct RawPort {
        #[serde(default)]
        name: Option<Arc<str>>,
        port: Option<u16>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct RawConditions {
        ready: Option<bool>,
    }
    #[derive(Deserialize)]
    struct RawEndpoint {
        addresses: Vec<Arc<str>>,
        #[serde(default)]
        conditions: RawConditions,
        zone: Option<Arc<str>>,
    }
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        ports: Option<Vec<RawPort>>,
        #[serde(default)]
        endpoints: Option<Vec<RawEndpoint>>,
    }
    let raw: Raw = lift(json)?;
    let service =
        raw_meta.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name")).cloned();
    let ports = raw.ports.unwrap_or_default().into_iter();
    let ready =
        raw.endpoints.unwrap_or_default().into_iter().filter(|one| one.conditions.ready.unwrap_or(true));
    Ok(EndpointSlice {
        meta,
        service: service.unwrap_or_default(),
        ports: ports
            .filter_map(|port| port.port.map(|number| (port.name.unwrap_or_default(), number)))
            .collect(),
        // Addresses of one endpoint are interchangeable; the first one is used (EndpointSlice API).
        ready: ready.filter_map(|one| Some((one.addresses.first()?.parse().ok()?, one.zone))).collect(),
    })
}

fn secret(meta: Meta, json: &Value) -> Result<Secret, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        #[serde(rename = "type")]
        type_: Option<Arc<str>>,
        #[serde(default)]
        data: Option<BTreeMap<String, String>>,
        #[serde(default)]
        string_data: Option<BTreeMap<String, String>>,
    }
    // The message of a type error could quote the value, so it is not passed on.
    let raw: Raw = lift(json).map_err(|_| "data and stringData must map names to texts".to_owned())?;
    let field = |name: &str| -> Result<Option<Arc<[u8]>>, String> {
        if let Some(text) = raw.string_data.as_ref().and_then(|data| data.get(name)) {
            return Ok(Some(text.as_bytes().into()));
        }
        let Some(text) = raw.data.as_ref().and_then(|data| data.get(name)) else { return Ok(None) };
        let compact: String = text.split_ascii_whitespace().collect();
        let bytes = base64::engine::general_purpose::STANDARD.decode(compact);
        bytes.map(|bytes| Some(bytes.into())).map_err(|_| format!("data[{name:?}] is not base64"))
    };
    Ok(Secret {
        meta,
        certificate: field("tls.crt")?,
        key: field("tls.key")?,
        type_: raw.type_.clone().unwrap_or_else(|| "Opaque".into()),
        before: None,
    })
}

fn config_map(meta: Meta, json: &Value) -> Result<ConfigMap, String> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Raw {
        data: Option<BTreeMap<String, Value>>,
        binary_data: Option<BTreeMap<String, Value>>,
    }
    const KEY: &str = "ca.crt";
    let raw: Raw = lift(json)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let plain = raw.data.as_ref().and_then(|data| data.get(KEY)).and_then(text);
    let binary = || raw.binary_data.as_ref().and_then(|data| data.get(KEY)).and_then(text);
    let decoded =
        || String::from_utf8(base64::engine::general_purpose::STANDARD.decode(binary()?).ok()?).ok();
    Ok(ConfigMap { meta, authorities: plain.or_else(decoded).map(Into::into) })
}

fn trust_bundle(meta: Meta, spec: &Value) -> Result<ClusterTrustBundle, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Raw {
        // An empty one is told where somebody refers to it, as a ConfigMap without authorities is.
        #[serde(default)]
        trust_bundle: Arc<str>,
    }
    let raw: Raw = lift(spec)?;
    Ok(ClusterTrustBundle { meta, authorities: raw.trust_bundle })
}
