//! Listeners: what is bound, and how connections become requests.
//!
//! A listener names its route tables and holds nothing of them, so it does not change when routes do: Envoy drains
//! connections when it does.

use portolan_xds_proto::envoy::config::core::v3::{Address, address};
use portolan_xds_proto::envoy::config::core::v3::{
    CidrRange, Http2ProtocolOptions, HttpProtocolOptions, TransportSocket,
    http_protocol_options::HeadersWithUnderscoresAction, socket_address::Protocol,
};
use portolan_xds_proto::envoy::config::listener::v3::{
    AdditionalAddress, FilterChain as ProtoChain, FilterChainMatch, Listener as ProtoListener,
    ListenerFilter, listener_filter,
};
use portolan_xds_proto::envoy::extensions::filters::http::cors::v3::Cors;
use portolan_xds_proto::envoy::extensions::filters::http::filter_chain::v3::FilterChainConfig;
use portolan_xds_proto::envoy::extensions::filters::http::router::v3::Router;
use portolan_xds_proto::envoy::extensions::filters::http::stateful_session::v3::StatefulSession;
use portolan_xds_proto::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use portolan_xds_proto::envoy::extensions::filters::network::direct_response::v3::Config as DirectResponse;
use portolan_xds_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds,
    http_connection_manager::{
        InternalAddressConfig, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation,
        UpgradeConfig,
    },
    http_filter,
};
use portolan_xds_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext,
    certificate_validation_context::TrustChainVerification,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
};
use portolan_xds_proto::google::protobuf::Any;

use super::{access_log, auth, cors, secret, session, stream, wire};
use crate::ir::{ChainTraffic, ClientValidation, DownstreamTls, FilterChain, Listener, Transport};

/// A stream on which nothing moves is closed after this many seconds.
pub(super) const STREAM_IDLE_SECONDS: i64 = 300;
/// Request headers must be complete after this many seconds.
const REQUEST_HEADERS_SECONDS: i64 = 10;
/// The most header fields of a request.
const MOST_HEADERS: u32 = 100;
/// The most kilobytes of request headers.
const MOST_HEADERS_KB: u32 = 60;
/// Streams that one HTTP/2 connection may have open.
const STREAMS_PER_CONNECTION: u32 = 100;
/// The flow control window of one HTTP/2 stream in bytes.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The flow control window of one HTTP/2 connection in bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Lowers a listener. Chains are sorted by name, so that their order in the API changes nothing.
pub fn listener(listener: &Listener) -> ProtoListener {
    let mut chains: Vec<&FilterChain> = listener.chains.iter().map(AsRef::as_ref).collect();
    chains.sort_by(|one, other| one.name.cmp(&other.name));
    let mut addresses = listener.bind.iter().map(|at| bind(*at, listener.transport));
    let datagrams = chains.iter().find_map(|chain| match &chain.traffic {
        ChainTraffic::Udp { cluster } => Some(stream::udp_proxy(stat_prefix(listener), cluster)),
        _ => None,
    });
    let inspect = chains.iter().any(|chain| chain.server_name.is_some() || chain.tls.is_some());
    ProtoListener {
        name: listener.name.to_string(),
        address: addresses.next(),
        additional_addresses: addresses
            .map(|at| AdditionalAddress { address: Some(at), ..AdditionalAddress::default() })
            .collect(),
        stat_prefix: stat_prefix(listener),
        per_connection_buffer_limit_bytes: wire::uint(wire::CONNECTION_BUFFER_BYTES),
        udp_listener_config: datagrams.as_ref().map(|_| stream::udp_listener()),
        listener_filters: inspect.then(tls_inspector).into_iter().chain(datagrams).collect(),
        filter_chains: chains.into_iter().filter_map(|chain| filter_chain(chain, listener)).collect(),
        ..ProtoListener::default()
    }
}

fn stat_prefix(listener: &Listener) -> String {
    let transport = match listener.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    format!("{transport}_{}", listener.port)
}

fn bind(at: std::net::SocketAddr, transport: Transport) -> Address {
    let mut address = wire::address(at);
    if let Some(address::Address::SocketAddress(socket)) = &mut address.address {
        if transport == Transport::Udp {
            socket.protocol = Protocol::Udp.into();
        }
        // Every address means those of IPv4, too.
        socket.ipv4_compat = matches!(at.ip(), std::net::IpAddr::V6(ip) if ip.is_unspecified());
    }
    address
}

fn tls_inspector() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(portolan_xds_proto::any(
            &TlsInspector::default(),
        ))),
        ..ListenerFilter::default()
    }
}

/// A chain of connections; datagrams have none.
fn filter_chain(chain: &FilterChain, listener: &Listener) -> Option<ProtoChain> {
    let (filter, alpn): (_, &[&str]) = match &chain.traffic {
        ChainTraffic::Http { routes } => {
            let manager = portolan_xds_proto::any(&connection_manager(routes, listener));
            let name = "envoy.filters.network.http_connection_manager";
            (stream::network_filter(name, manager), &["h2", "http/1.1"])
        }
        ChainTraffic::Tcp { cluster } => (stream::tcp_proxy(stat_prefix(listener), cluster), &[]),
        // An answer of no bytes: the connection is closed before it says anything.
        ChainTraffic::Closed => {
            let nothing = portolan_xds_proto::any(&DirectResponse::default());
            (stream::network_filter("envoy.filters.network.direct_response", nothing), &[])
        }
        ChainTraffic::Udp { .. } => return None,
    };
    Some(ProtoChain {
        name: chain.name.to_string(),
        filter_chain_match: chain.server_name.as_ref().map(|name| FilterChainMatch {
            server_names: vec![name.to_string()],
            ..FilterChainMatch::default()
        }),
        filters: vec![filter],
        transport_socket: chain.tls.as_ref().map(|tls| terminate(tls, alpn)),
        ..ProtoChain::default()
    })
}

fn connection_manager(routes: &str, listener: &Listener) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: stat_prefix(listener),
        route_specifier: Some(RouteSpecifier::Rds(Rds {
            config_source: Some(wire::ads_without_limit()),
            route_config_name: routes.to_owned(),
        })),
        http_filters: vec![
            for_some_routes(auth::BEFORE_ROUTES, portolan_xds_proto::any(&FilterChainConfig::default())),
            // Preflights carry no credentials (the Fetch standard), so they are answered before a route's servers are asked.
            // A listener's are asked about every request (ListenerFilters.requests).
            http_filter(cors::FILTER, portolan_xds_proto::any(&Cors::default())),
            for_some_routes(auth::OF_RULE, portolan_xds_proto::any(&auth::late())),
            for_some_routes(auth::OF_BACKEND, portolan_xds_proto::any(&auth::late())),
            for_some_routes(session::FILTER, portolan_xds_proto::any(&StatefulSession::default())),
            http_filter(
                "envoy.filters.http.router",
                portolan_xds_proto::any(&Router { suppress_envoy_headers: true, ..Router::default() }),
            ),
        ],
        // The client's address is the peer's: no X-Forwarded-For is trusted, and no client is "internal", so that
        // x-envoy-* headers from outside are dropped.
        use_remote_address: wire::yes(),
        internal_address_config: Some(InternalAddressConfig {
            cidr_ranges: vec![no_client()],
            ..InternalAddressConfig::default()
        }),
        normalize_path: wire::yes(),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::KeepUnchanged.into(),
        // The backend's own header, and none on our answers.
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        common_http_protocol_options: Some(HttpProtocolOptions {
            max_headers_count: wire::uint(MOST_HEADERS),
            headers_with_underscores_action: HeadersWithUnderscoresAction::RejectRequest.into(),
            ..HttpProtocolOptions::default()
        }),
        max_request_headers_kb: wire::uint(MOST_HEADERS_KB),
        http2_protocol_options: Some(Http2ProtocolOptions {
            max_concurrent_streams: wire::uint(STREAMS_PER_CONNECTION),
            initial_stream_window_size: wire::uint(STREAM_WINDOW),
            initial_connection_window_size: wire::uint(CONNECTION_WINDOW),
            // WebSocket over HTTP/2 (RFC 8441). A plain CONNECT still matches no route.
            allow_connect: true,
            ..Http2ProtocolOptions::default()
        }),
        stream_idle_timeout: wire::seconds(STREAM_IDLE_SECONDS),
        request_headers_timeout: wire::seconds(REQUEST_HEADERS_SECONDS),
        generate_request_id: wire::yes(),
        access_log: listener.access_log.iter().map(|log| access_log::access_log(log)).collect(),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..UpgradeConfig::default()
        }],
        ..HttpConnectionManager::default()
    }
}

/// A range without any client. Without a range, Envoy takes private and loopback addresses for internal.
fn no_client() -> CidrRange {
    CidrRange { address_prefix: "255.255.255.255".to_owned(), prefix_len: wire::uint(32) }
}

fn http_filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    }
}

/// A filter that is there only for routes and virtual hosts that configure it.
fn for_some_routes(name: &str, config: Any) -> HttpFilter {
    HttpFilter { disabled: true, ..http_filter(name, config) }
}

fn terminate(tls: &DownstreamTls, alpn: &[&str]) -> TransportSocket {
    let validation = tls.client_validation.as_ref();
    let context = DownstreamTlsContext {
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(secret::tls_parameters()),
            tls_certificate_sds_secret_configs: tls
                .certificates
                .iter()
                .map(|name| secret::reference(name))
                .collect(),
            alpn_protocols: alpn.iter().map(ToString::to_string).collect(),
            validation_context_type: validation.map(client_validation),
            ..CommonTlsContext::default()
        }),
        require_client_certificate: match validation {
            Some(validation) if !validation.insecure_fallback => wire::yes(),
            _ => wire::no(),
        },
        ..DownstreamTlsContext::default()
    };
    wire::transport_socket("envoy.transport_sockets.tls", portolan_xds_proto::any(&context))
}

fn client_validation(validation: &ClientValidation) -> ValidationContextType {
    let verification = if validation.insecure_fallback {
        TrustChainVerification::AcceptUntrusted
    } else {
        TrustChainVerification::VerifyTrustChain
    };
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(CertificateValidationContext {
            trust_chain_verification: verification.into(),
            ..CertificateValidationContext::default()
        }),
        validation_context_sds_secret_config: Some(secret::reference(&validation.authorities)),
        ..CombinedCertificateValidationContext::default()
    })
}
