//! Clusters: how to reach a backend.

use portolan_xds_proto::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster as ProtoCluster, UpstreamConnectionOptions,
    circuit_breakers::Thresholds,
    cluster::{
        ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig, LbPolicy, TransportSocketMatch,
    },
};
use portolan_xds_proto::envoy::config::core::v3::{
    DataSource, Http1ProtocolOptions, Http2ProtocolOptions, TcpKeepalive, TransportSocket,
    data_source::Specifier,
};
use portolan_xds_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SubjectAltNameMatcher, UpstreamTlsContext,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    subject_alt_name_matcher::SanType,
};
use portolan_xds_proto::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
    },
};
use portolan_xds_proto::envoy::r#type::v3::Percent;

use super::{secret, wire};
use crate::ir::{AppProtocol, Cluster, UpstreamTls, UpstreamTrust};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The authorities of the proxy's system, where Debian, Alpine and distroless images have them. Envoy's own `system_root_certs`
/// does nothing yet: Envoy 1.40 takes it for no authorities at all.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Retries that may be under way at once per cluster, against retry storms. Envoy's default is 3.
const CONCURRENT_RETRIES: u32 = 1024;

/// Lowers a cluster.
///
/// Hosts are chosen by fewest requests of two picked at random: it spreads as evenly as round robin, and avoids slow
/// hosts. Where connections or datagrams are passed on, hosts take turns: there the weights of the API are those of
/// hosts. Envoy's circuit breakers at 1,024 are lifted: the API promises no such limit.
pub fn cluster(cluster: &Cluster) -> ProtoCluster {
    ProtoCluster {
        name: cluster.name.to_string(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig {
            eds_config: Some(wire::ads()),
            service_name: cluster.name.to_string(),
        }),
        connect_timeout: Some(wire::duration(cluster.connect_timeout)),
        per_connection_buffer_limit_bytes: wire::uint(wire::CONNECTION_BUFFER_BYTES),
        lb_policy: match cluster.protocol {
            AppProtocol::Http1 | AppProtocol::Http2 => LbPolicy::LeastRequest,
            AppProtocol::Opaque => LbPolicy::RoundRobin,
        }
        .into(),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds {
                max_connections: wire::uint(u32::MAX),
                max_pending_requests: wire::uint(u32::MAX),
                max_requests: wire::uint(u32::MAX),
                max_retries: wire::uint(CONCURRENT_RETRIES),
                ..Thresholds::default()
            }],
            ..CircuitBreakers::default()
        }),
        // A host that is gone from the API is gone, whatever health checks said.
        ignore_health_on_host_removal: true,
        common_lb_config: Some(CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..CommonLbConfig::default()
        }),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_probes: wire::uint(3),
                keepalive_time: wire::uint(60),
                keepalive_interval: wire::uint(10),
            }),
            ..UpstreamConnectionOptions::default()
        }),
        typed_extension_protocol_options: protocol(cluster.protocol)
            .map(|options| (HTTP_OPTIONS.to_owned(), portolan_xds_proto::any(&options)))
            .into_iter()
            .collect(),
        transport_socket: cluster.tls.as_ref().map(|tls| transport_socket(tls, cluster.protocol)),
        transport_socket_matches: socket_matches(cluster),
        ..ProtoCluster::default()
    }
}

/// Each socket for the endpoints that name it; the others are as the cluster says.
fn socket_matches(cluster: &Cluster) -> Vec<TransportSocketMatch> {
    let sockets = cluster.sockets.iter().map(|(name, tls)| TransportSocketMatch {
        name: name.to_string(),
        r#match: Some(wire::socket_name(name)),
        transport_socket: Some(transport_socket(tls, cluster.protocol)),
    });
    sockets.collect()
}

fn protocol(protocol: AppProtocol) -> Option<HttpProtocolOptions> {
    let config = match protocol {
        AppProtocol::Http1 => ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default()),
        AppProtocol::Http2 => ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default()),
        AppProtocol::Opaque => return None,
    };
    Some(HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(config),
        })),
        ..HttpProtocolOptions::default()
    })
}

/// TLS to a backend: the name is verified always, the certificate chain, too.
fn transport_socket(tls: &UpstreamTls, protocol: AppProtocol) -> TransportSocket {
    let names = if tls.subject_alt_names.is_empty() {
        vec![alt_name(&tls.server_name)]
    } else {
        tls.subject_alt_names.iter().map(|name| alt_name(name)).collect()
    };
    let context = CertificateValidationContext {
        match_typed_subject_alt_names: names,
        ..CertificateValidationContext::default()
    };
    let validation = match &tls.trust {
        UpstreamTrust::System => ValidationContextType::ValidationContext(CertificateValidationContext {
            trusted_ca: Some(DataSource {
                specifier: Some(Specifier::Filename(SYSTEM_AUTHORITIES.to_owned())),
                ..DataSource::default()
            }),
            ..context
        }),
        UpstreamTrust::Authorities(name) => {
            ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
                default_validation_context: Some(context),
                validation_context_sds_secret_config: Some(secret::reference(name)),
                ..CombinedCertificateValidationContext::default()
            })
        }
    };
    let alpn: &[&str] = match protocol {
        AppProtocol::Http1 => &["http/1.1"],
        AppProtocol::Http2 => &["h2"],
        AppProtocol::Opaque => &[],
    };
    let context = UpstreamTlsContext {
        sni: tls.server_name.to_string(),
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(secret::tls_parameters()),
            tls_certificate_sds_secret_configs: tls
                .client_certificate
                .iter()
                .map(|name| secret::reference(name))
                .collect(),
            alpn_protocols: alpn.iter().map(ToString::to_string).collect(),
            validation_context_type: Some(validation),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    };
    wire::transport_socket("envoy.transport_sockets.tls", portolan_xds_proto::any(&context))
}

/// A name with a scheme is a URI (BackendTLSPolicy `subjectAltNames`), any other a DNS name.
fn alt_name(name: &str) -> SubjectAltNameMatcher {
    let kind = if name.contains("://") { SanType::Uri } else { SanType::Dns };
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(wire::exact(name)),
        ..SubjectAltNameMatcher::default()
    }
}
