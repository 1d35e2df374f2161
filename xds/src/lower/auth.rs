//! External authorization (GEP-1494).
//!
//! What a route may change of Envoy's own `ext_authz` is too little: neither which headers are sent nor what a failure is
//! answered with. So listeners have empty places, and a route that asks for authorization puts a whole `ext_authz` into one.
//! A listener then stays as it is when routes change.
//!
//! Servers that are asked before a route is picked (GEP-5224) may change what picks it. Which filters a request meets Envoy
//! decides once, by the route that the request has when it comes: so the place for these is filled by the virtual host,
//! which stays the same, as nobody can change the Host; and the places for those of routes are *late*, they look for their
//! content when the request comes to them.
//!
//! Nothing here fails open: no answer in time, no connection, or an answer that cannot be used is a 503.

use std::collections::BTreeMap;
use std::sync::Arc;

use portolan_xds_proto::envoy::config::common::mutation_rules::v3::HeaderMutationRules;
use portolan_xds_proto::envoy::config::core::v3::{
    ApiVersion, GrpcService, HttpUri, TypedExtensionConfig,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
    http_uri::HttpUpstreamType,
};
use portolan_xds_proto::envoy::extensions::common::matching::v3::{
    ExtensionWithMatcher, ExtensionWithMatcherPerRoute,
};
use portolan_xds_proto::envoy::extensions::filters::common::matcher::action::v3::SkipFilter;
use portolan_xds_proto::envoy::extensions::filters::http::composite::v3::{Composite, ExecuteFilterAction};
use portolan_xds_proto::envoy::extensions::filters::http::ext_authz::v3::{
    AuthorizationResponse, BufferSettings, ExtAuthz, HttpService, ext_authz::Services,
};
use portolan_xds_proto::envoy::extensions::filters::http::filter_chain::v3::{
    FilterChain, FilterChainConfigPerRoute,
};
use portolan_xds_proto::envoy::r#type::matcher::v3::{ListStringMatcher, StringMatcher};
use portolan_xds_proto::envoy::r#type::v3::{HttpStatus, StatusCode};
use portolan_xds_proto::google::protobuf::Any;
use portolan_xds_proto::xds::core::v3::TypedExtensionConfig as MatcherExtension;
use portolan_xds_proto::xds::r#type::matcher::v3::{
    Matcher,
    matcher::{OnMatch, on_match},
};

use prost::{Message, Name};

use super::{session, wire};
use crate::ir::{AuthProtocol, ExternalAuth, HeaderNames};

/// The place for those who are asked before a route is picked, and the key of its configuration at a virtual host.
pub(super) const BEFORE_ROUTES: &str = "portolan.auth.listener";
/// The late place for whom a rule asks, and the key of its configuration at a route.
pub(super) const OF_RULE: &str = "portolan.auth.rule";
/// The late place for whom a rule's backend asks.
pub(super) const OF_BACKEND: &str = "portolan.auth.backend";

/// The longest wait for an answer of an authorization server. The API has no field for it; Envoy's own is 200 ms, which a
/// server that asks a database misses under load.
const SECONDS: i64 = 5;

/// Headers of an answer that its receiver must not get as headers of a request: they frame the answer or speak of its
/// body. The API excludes Host.
const OF_THE_ANSWER: [&str; 12] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
];

/// A late place.
pub(super) fn late() -> ExtensionWithMatcher {
    ExtensionWithMatcher {
        extension_config: Some(extension("envoy.filters.http.composite", &Composite::default())),
        ..ExtensionWithMatcher::default()
    }
}

/// What a route puts into a late place.
pub(super) fn late_content(server: &ExternalAuth) -> ExtensionWithMatcherPerRoute {
    // One filter and no list of them: after the first that waits for an answer, Envoy 1.40 passes over the rest of a list.
    let filter = extension("envoy.filters.http.ext_authz", &ext_authz(server));
    always(&ExecuteFilterAction { typed_config: Some(filter), ..ExecuteFilterAction::default() })
}

/// What a virtual host has whose requests these servers are asked about, in this order, before a route is picked.
///
/// The filters that only some routes have must be there for all requests then: which route it will be is not known yet.
pub(super) fn before_routes(servers: &[Arc<ExternalAuth>]) -> BTreeMap<String, Any> {
    if servers.is_empty() {
        return BTreeMap::new();
    }
    let filter = |server: &Arc<ExternalAuth>| {
        extension("envoy.filters.http.ext_authz", &before_route(ext_authz(server)))
    };
    let chain = FilterChainConfigPerRoute {
        filter_chain: Some(FilterChain { filters: servers.iter().map(filter).collect() }),
    };
    let nothing = portolan_xds_proto::any(&always(&SkipFilter::default()));
    [
        (BEFORE_ROUTES, portolan_xds_proto::any(&chain)),
        (OF_RULE, nothing.clone()),
        (OF_BACKEND, nothing),
        (session::FILTER, portolan_xds_proto::any(&session::none())),
    ]
    .map(|(name, config)| (name.to_owned(), config))
    .into()
}

/// Before a route is picked, an answer may change the method, the path and the headers, and the route is picked after it.
/// It may not change the Host, by which the listener was picked (ListenerFilters.requests): that is ignored.
fn before_route(filter: ExtAuthz) -> ExtAuthz {
    ExtAuthz {
        clear_route_cache: true,
        decoder_header_mutation_rules: Some(HeaderMutationRules {
            allow_all_routing: wire::yes(),
            disallow_expression: Some(wire::regex("host|:authority|:scheme")),
            ..HeaderMutationRules::default()
        }),
        ..filter
    }
}

/// What is done whatever the request is.
fn always<M: Message + Name>(action: &M) -> ExtensionWithMatcherPerRoute {
    let action =
        MatcherExtension { name: "always".to_owned(), typed_config: Some(portolan_xds_proto::any(action)) };
    let on_no_match = OnMatch { on_match: Some(on_match::OnMatch::Action(action)), ..OnMatch::default() };
    ExtensionWithMatcherPerRoute {
        xds_matcher: Some(Matcher { on_no_match: Some(Box::new(on_no_match)), ..Matcher::default() }),
    }
}

fn extension<M: Message + Name>(name: &str, config: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(portolan_xds_proto::any(config)) }
}

fn ext_authz(server: &ExternalAuth) -> ExtAuthz {
    let (service, headers) = match &server.protocol {
        AuthProtocol::Grpc { authority, headers } => {
            let service = GrpcService {
                target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                    cluster_name: server.cluster.to_string(),
                    authority: authority.to_string(),
                    ..EnvoyGrpc::default()
                })),
                timeout: wire::seconds(SECONDS),
                ..GrpcService::default()
            };
            let headers = match headers {
                HeaderNames::All => None,
                HeaderNames::Only(names) => Some(one_of(names)),
            };
            (Services::GrpcService(service), headers)
        }
        AuthProtocol::Http { path, headers, response_headers } => {
            let copied = match response_headers {
                HeaderNames::All => one(wire::matching(none_of(&OF_THE_ANSWER))),
                HeaderNames::Only(names) => one_of(names),
            };
            let service = HttpService {
                server_uri: Some(HttpUri {
                    // Nobody sees it: the Host is the client's.
                    uri: "http://authorization".to_owned(),
                    http_upstream_type: Some(HttpUpstreamType::Cluster(server.cluster.to_string())),
                    timeout: wire::seconds(SECONDS),
                }),
                path_prefix: path.to_string(),
                authorization_response: Some(AuthorizationResponse {
                    allowed_upstream_headers: Some(copied),
                    ..AuthorizationResponse::default()
                }),
                ..HttpService::default()
            };
            (Services::HttpService(service), (!headers.is_empty()).then(|| one_of(headers)))
        }
    };
    ExtAuthz {
        transport_api_version: ApiVersion::V3.into(),
        services: Some(service),
        allowed_headers: headers,
        failure_mode_allow: false,
        status_on_error: Some(HttpStatus { code: StatusCode::ServiceUnavailable.into() }),
        with_request_body: server.body.map(|most| BufferSettings {
            max_request_bytes: most,
            allow_partial_message: false,
            // A body need not be text, which a string of protobuf must be.
            pack_as_bytes: matches!(server.protocol, AuthProtocol::Grpc { .. }),
        }),
        // What the server writes into a request must be headers that requests can have.
        validate_mutations: true,
        ..ExtAuthz::default()
    }
}

fn one(matcher: StringMatcher) -> ListStringMatcher {
    ListStringMatcher { patterns: vec![matcher] }
}

/// Matches these names. Envoy wants at least one: the empty name is no header's.
fn one_of(names: &[Arc<str>]) -> ListStringMatcher {
    if names.is_empty() {
        return one(wire::exact(""));
    }
    let name = |name: &Arc<str>| StringMatcher { ignore_case: true, ..wire::exact(name) };
    ListStringMatcher { patterns: names.iter().map(name).collect() }
}

/// An expression for every name of a header that is none of `words` and no pseudo header. RE2 has no negation, so it follows
/// the words letter by letter to where a name leaves them all.
fn none_of(words: &[&str]) -> String {
    format!("{}.*", leaving(words))
}

fn leaving(words: &[&str]) -> String {
    let mut letters: Vec<char> = words.iter().filter_map(|word| word.chars().next()).collect();
    letters.sort_unstable();
    letters.dedup();
    let within = letters.iter().map(|letter| {
        let rest: Vec<&str> = words.iter().filter_map(|word| word.strip_prefix(*letter)).collect();
        format!("{}{}", wire::quote(&letter.to_string()), leaving(&rest))
    });
    let listed: String = letters.iter().map(|letter| wire::quote(&letter.to_string())).collect();
    let end = if words.contains(&"") { "" } else { "$|" };
    let within: Vec<String> = within.chain([format!("[^:{listed}]")]).collect();
    format!("(?:{end}{})", within.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_some_words() {
        let expression = regex::Regex::new(&format!("^{}$", none_of(&OF_THE_ANSWER))).unwrap();
        for word in OF_THE_ANSWER {
            assert!(!expression.is_match(word), "{word}");
        }
        for other in ["x-user", "hos", "hosts", "t", "tee", "content-lengths", "contents", "date", "upgrad"] {
            assert!(expression.is_match(other), "{other}");
        }
        assert!(!expression.is_match(":status") && !expression.is_match(":path"));
    }
}
