//! Connections and datagrams that are passed on as they are.
//!
//! A listener of this kind names a cluster and holds nothing of its routes: whichever route serves and whatever its
//! weights, it is the endpoints that change. An edit of a route therefore neither drains connections nor ends sessions.

use portolan_xds_proto::envoy::config::core::v3::UdpSocketConfig;
use portolan_xds_proto::envoy::config::listener::v3::{
    Filter, ListenerFilter, UdpListenerConfig, filter, listener_filter,
};
use portolan_xds_proto::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier,
};
use portolan_xds_proto::envoy::extensions::filters::udp::udp_proxy::v3::{
    Route, UdpProxyConfig, udp_proxy_config::RouteSpecifier,
};
use portolan_xds_proto::google::protobuf::{Any, UInt64Value};
use portolan_xds_proto::xds::core::v3::TypedExtensionConfig;
use portolan_xds_proto::xds::r#type::matcher::v3::{
    Matcher,
    matcher::{OnMatch, on_match},
};

use super::wire;

/// A connection on which nothing moves is closed after this many seconds.
const CONNECTION_IDLE_SECONDS: i64 = 3600;
/// A UDP session ends after this many seconds without a datagram in either direction. SIP and DNS speak more often.
const SESSION_IDLE_SECONDS: i64 = 60;
/// The largest datagram in bytes: a jumbo frame. Envoy's 1,500 drops what arrives in fragments, such as large DNS answers.
const LARGEST_DATAGRAM: u64 = 9000;

/// A network filter.
pub(super) fn network_filter(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// Passes connections on to a cluster. One attempt: the share of an invalid backend must fail, not go to the next.
pub(super) fn tcp_proxy(stat_prefix: String, cluster: &str) -> Filter {
    let config = TcpProxy {
        stat_prefix,
        idle_timeout: wire::seconds(CONNECTION_IDLE_SECONDS),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        ..TcpProxy::default()
    };
    network_filter("envoy.filters.network.tcp_proxy", portolan_xds_proto::any(&config))
}

/// Passes datagrams on to a cluster. A session is a client's address and port: it keeps the host that it got.
pub(super) fn udp_proxy(stat_prefix: String, cluster: &str) -> ListenerFilter {
    let route = TypedExtensionConfig {
        name: "route".to_owned(),
        typed_config: Some(portolan_xds_proto::any(&Route { cluster: cluster.to_owned() })),
    };
    let always = OnMatch { on_match: Some(on_match::OnMatch::Action(route)), ..OnMatch::default() };
    let config = UdpProxyConfig {
        stat_prefix,
        idle_timeout: wire::seconds(SESSION_IDLE_SECONDS),
        upstream_socket_config: Some(sockets()),
        route_specifier: Some(RouteSpecifier::Matcher(Matcher {
            on_no_match: Some(Box::new(always)),
            ..Matcher::default()
        })),
        ..UdpProxyConfig::default()
    };
    ListenerFilter {
        name: "envoy.filters.udp_listener.udp_proxy".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(portolan_xds_proto::any(&config))),
        ..ListenerFilter::default()
    }
}

/// How a UDP listener reads.
pub(super) fn udp_listener() -> UdpListenerConfig {
    UdpListenerConfig { downstream_socket_config: Some(sockets()), ..UdpListenerConfig::default() }
}

fn sockets() -> UdpSocketConfig {
    UdpSocketConfig {
        max_rx_datagram_size: Some(UInt64Value { value: LARGEST_DATAGRAM }),
        ..UdpSocketConfig::default()
    }
}
