//! Envoy's bootstrap: how it finds its control plane, and the limits that hold before any configuration comes.
//!
//! Everything else comes over one delta ADS stream. The admin interface is a Unix socket: nothing on the network
//! reaches it. Statistics of single clusters and routes are off unless asked for, so that a proxy at 5,000 routes keeps
//! fewer than 2,000 series.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use portolan_xds_proto::envoy::config::bootstrap::v3::{
    Admin, Bootstrap, LayeredRuntime, RuntimeLayer,
    bootstrap::{DeferredStatOptions, DynamicResources, StaticResources},
    runtime_layer::LayerSpecifier,
};
use portolan_xds_proto::envoy::config::cluster::v3::{
    Cluster,
    cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily},
};
use portolan_xds_proto::envoy::config::core::v3::{
    Address, ApiConfigSource, ApiVersion, ConfigSource, DataSource, GrpcService, Http2ProtocolOptions,
    KeepaliveSettings, Node, PathConfigSource, Pipe, WatchedDirectory, address,
    api_config_source::ApiType,
    config_source::ConfigSourceSpecifier,
    data_source,
    grpc_service::{EnvoyGrpc, TargetSpecifier},
};
use portolan_xds_proto::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
};
use portolan_xds_proto::envoy::config::metrics::v3::{StatsConfig, StatsMatcher, stats_matcher};
use portolan_xds_proto::envoy::config::overload::v3::{
    OverloadAction, OverloadManager, ResourceMonitor, ThresholdTrigger, Trigger, resource_monitor,
    trigger::TriggerOneof,
};
use portolan_xds_proto::envoy::extensions::resource_monitors::{
    downstream_connections::v3::DownstreamConnectionsConfig, fixed_heap::v3::FixedHeapConfig,
};
use portolan_xds_proto::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, SdsSecretConfig, Secret, SubjectAltNameMatcher,
    TlsCertificate, TlsParameters, UpstreamTlsContext,
    common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
    secret,
    subject_alt_name_matcher::SanType,
    tls_parameters::TlsProtocol,
};
use portolan_xds_proto::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{
        ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
    },
};
use portolan_xds_proto::envoy::service::discovery::v3::DiscoveryResponse;
use portolan_xds_proto::envoy::r#type::matcher::v3::{
    ListStringMatcher, StringMatcher, string_matcher::MatchPattern,
};
use portolan_xds_proto::google::protobuf::{Any, Struct, Value, value::Kind};
use portolan_xds_proto::{any, dump};
use prost::{Message, Name};

use crate::lower::wire;

/// The name of the cluster of the control plane. No Service can have it.
pub const XDS_CLUSTER: &str = "portolan/xds";
/// The `:authority` of Envoy's requests to the control plane. Nothing is decided by it.
const XDS_AUTHORITY: &str = "xds.portolan";

/// How Envoy reaches its control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdsEndpoint {
    /// A Unix socket on the same host. The file's mode protects it.
    Unix(PathBuf),
    /// TCP with mutual TLS 1.3.
    Tls {
        /// Where it listens: an address, or a DNS name that Envoy resolves again and again.
        host: String,
        /// Its port.
        port: u16,
        /// The DNS name that its certificate must have; sent as SNI.
        server_name: String,
        /// The folder in which [`secret_files`] are.
        secrets: PathBuf,
    },
}

/// What differs between proxies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootstrapConfig {
    /// `node.id`: the pod or process. For people only; identity comes from the connection.
    pub node_id: String,
    /// `node.cluster`: the Gateway.
    pub node_cluster: String,
    /// Where the admin interface listens: a Unix socket, mode 0600.
    pub admin_socket: PathBuf,
    /// The control plane.
    pub xds: XdsEndpoint,
    /// Bytes of heap at which Envoy sheds load; none means no limit.
    pub max_heap_bytes: Option<u64>,
    /// The most client connections; none means no limit.
    pub max_connections: Option<u64>,
    /// Also keep statistics per cluster.
    pub cluster_stats: bool,
}

/// The bootstrap of a proxy.
pub fn bootstrap(config: &BootstrapConfig) -> Bootstrap {
    let from_ads = ConfigSource { initial_fetch_timeout: wire::seconds(0), ..wire::ads() };
    Bootstrap {
        node: Some(Node {
            id: config.node_id.clone(),
            cluster: config.node_cluster.clone(),
            ..Node::default()
        }),
        static_resources: Some(StaticResources {
            clusters: vec![xds_cluster(&config.xds)],
            ..StaticResources::default()
        }),
        dynamic_resources: Some(DynamicResources {
            lds_config: Some(from_ads.clone()),
            cds_config: Some(from_ads),
            ads_config: Some(ApiConfigSource {
                api_type: ApiType::DeltaGrpc.into(),
                transport_api_version: ApiVersion::V3.into(),
                grpc_services: vec![GrpcService {
                    target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                        cluster_name: XDS_CLUSTER.to_owned(),
                        // Without it Envoy sends the cluster's name, whose slash makes the request malformed.
                        authority: XDS_AUTHORITY.to_owned(),
                        ..EnvoyGrpc::default()
                    })),
                    ..GrpcService::default()
                }],
                set_node_on_first_message_only: true,
                ..ApiConfigSource::default()
            }),
            ..DynamicResources::default()
        }),
        admin: Some(Admin {
            address: Some(pipe(&config.admin_socket, 0o600)),
            // Health checks and scrapes must work when the proxy is full.
            ignore_global_conn_limit: true,
            ..Admin::default()
        }),
        stats_config: Some(stats(config.cluster_stats)),
        deferred_stat_options: Some(DeferredStatOptions { enable_deferred_creation_stats: true }),
        overload_manager: overload(config),
        layered_runtime: Some(runtime()),
        ..Bootstrap::default()
    }
}

/// A bootstrap as the text of a file that `envoy --config-path <name>.json` reads.
pub fn to_json(bootstrap: &Bootstrap) -> Result<String, dump::DumpError> {
    text_of(bootstrap)
}

fn text_of<M: Message + Name>(message: &M) -> Result<String, dump::DumpError> {
    let value = dump::to_json(&portolan_xds_proto::type_url::<M>(), &message.encode_to_vec())?;
    Ok(format!("{value:#}\n"))
}

fn pipe(path: &Path, mode: u32) -> Address {
    Address {
        address: Some(address::Address::Pipe(Pipe { path: path.to_string_lossy().into_owned(), mode })),
    }
}

fn xds_cluster(endpoint: &XdsEndpoint) -> Cluster {
    let (address, by_name, tls) = match endpoint {
        XdsEndpoint::Unix(path) => (pipe(path, 0), false, None),
        XdsEndpoint::Tls { host, port, server_name, secrets } => {
            (wire::host(host, *port), host.parse::<IpAddr>().is_err(), Some(mutual_tls(server_name, secrets)))
        }
    };
    let (discovery, family) = if by_name {
        (DiscoveryType::StrictDns, DnsLookupFamily::All)
    } else {
        (DiscoveryType::Static, DnsLookupFamily::Auto)
    };
    let http2 = Http2ProtocolOptions {
        // A control plane that vanished is noticed in 40 s, not in hours.
        connection_keepalive: Some(KeepaliveSettings {
            interval: wire::seconds(30),
            timeout: wire::seconds(10),
            ..KeepaliveSettings::default()
        }),
        ..Http2ProtocolOptions::default()
    };
    let options = HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
            protocol_config: Some(ProtocolConfig::Http2ProtocolOptions(http2)),
        })),
        ..HttpProtocolOptions::default()
    };
    let member = LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(Endpoint {
            address: Some(address),
            ..Endpoint::default()
        })),
        ..LbEndpoint::default()
    };
    Cluster {
        name: XDS_CLUSTER.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        dns_lookup_family: family.into(),
        connect_timeout: wire::seconds(5),
        load_assignment: Some(ClusterLoadAssignment {
            cluster_name: XDS_CLUSTER.to_owned(),
            endpoints: vec![LocalityLbEndpoints {
                lb_endpoints: vec![member],
                ..LocalityLbEndpoints::default()
            }],
            ..ClusterLoadAssignment::default()
        }),
        typed_extension_protocol_options: BTreeMap::from([(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            any(&options),
        )]),
        transport_socket: tls.map(|tls| wire::transport_socket("envoy.transport_sockets.tls", any(&tls))),
        ..Cluster::default()
    }
}

fn mutual_tls(server_name: &str, secrets: &Path) -> UpstreamTlsContext {
    let from_file = |name: &str, file: &str| SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::PathConfigSource(PathConfigSource {
                path: secrets.join(file).to_string_lossy().into_owned(),
                ..PathConfigSource::default()
            })),
            ..ConfigSource::default()
        }),
    };
    UpstreamTlsContext {
        sni: server_name.to_owned(),
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(TlsParameters {
                tls_minimum_protocol_version: TlsProtocol::TlSv13.into(),
                tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                ..TlsParameters::default()
            }),
            tls_certificate_sds_secret_configs: vec![from_file("certificate", CERTIFICATE_FILE)],
            alpn_protocols: vec!["h2".to_owned()],
            validation_context_type: Some(ValidationContextType::CombinedValidationContext(
                CombinedCertificateValidationContext {
                    default_validation_context: Some(CertificateValidationContext {
                        match_typed_subject_alt_names: vec![SubjectAltNameMatcher {
                            san_type: SanType::Dns.into(),
                            matcher: Some(wire::exact(server_name)),
                            ..SubjectAltNameMatcher::default()
                        }],
                        ..CertificateValidationContext::default()
                    }),
                    validation_context_sds_secret_config: Some(from_file("authorities", AUTHORITIES_FILE)),
                    ..CombinedCertificateValidationContext::default()
                },
            )),
            ..CommonTlsContext::default()
        }),
        ..UpstreamTlsContext::default()
    }
}

const CERTIFICATE_FILE: &str = "certificate.json";
const AUTHORITIES_FILE: &str = "authorities.json";

/// The files, by name, that tell Envoy where its client certificate is: `tls.crt`, `tls.key` and `ca.crt` in the folder
/// `certificates`. Envoy watches only certificates that come by SDS, so these are SDS from files. It reads them again
/// when something is moved into the folder (as Kubernetes does with Secret volumes); the running stream stays.
pub fn secret_files(certificates: &Path) -> Result<BTreeMap<&'static str, String>, dump::DumpError> {
    let file = |name: &str| {
        Some(DataSource {
            specifier: Some(data_source::Specifier::Filename(
                certificates.join(name).to_string_lossy().into_owned(),
            )),
            ..DataSource::default()
        })
    };
    let watched_directory = Some(WatchedDirectory {
        path: certificates.to_string_lossy().into_owned(),
        ..WatchedDirectory::default()
    });
    let certificate = secret::Type::TlsCertificate(TlsCertificate {
        certificate_chain: file("tls.crt"),
        private_key: file("tls.key"),
        watched_directory: watched_directory.clone(),
        ..TlsCertificate::default()
    });
    let authorities = secret::Type::ValidationContext(CertificateValidationContext {
        trusted_ca: file("ca.crt"),
        watched_directory,
        ..CertificateValidationContext::default()
    });
    let text = |name: &str, body: secret::Type| {
        let secret = Secret { name: name.to_owned(), r#type: Some(body) };
        text_of(&DiscoveryResponse { resources: vec![any(&secret)], ..DiscoveryResponse::default() })
    };
    Ok(BTreeMap::from([
        (CERTIFICATE_FILE, text("certificate", certificate)?),
        (AUTHORITIES_FILE, text("authorities", authorities)?),
    ]))
}

/// The statistics that are kept: those of the process, of listeners, and of HTTP as a whole.
fn stats(clusters: bool) -> StatsConfig {
    let prefix = |text: &str| StringMatcher {
        match_pattern: Some(MatchPattern::Prefix(text.to_owned())),
        ..StringMatcher::default()
    };
    let mut kept = vec![
        "cluster_manager.",
        "cluster.portolan/xds.",
        "control_plane.",
        "http.",
        "listener.",
        "listener_manager.",
        "overload.",
        "runtime.",
        "server.",
        "sds.",
        "tcp.",
        "udp.",
    ];
    if clusters {
        kept.push("cluster.");
    }
    StatsConfig {
        stats_matcher: Some(StatsMatcher {
            stats_matcher: Some(stats_matcher::StatsMatcher::InclusionList(ListStringMatcher {
                patterns: kept.into_iter().map(prefix).collect(),
            })),
        }),
        ..StatsConfig::default()
    }
}

fn overload(config: &BootstrapConfig) -> Option<OverloadManager> {
    const HEAP: &str = "envoy.resource_monitors.fixed_heap";
    const CONNECTIONS: &str = "envoy.resource_monitors.global_downstream_max_connections";
    let monitor = |name: &str, config: Any| ResourceMonitor {
        name: name.to_owned(),
        config_type: Some(resource_monitor::ConfigType::TypedConfig(config)),
    };
    let heap = config.max_heap_bytes.filter(|bytes| *bytes > 0).map(|bytes| {
        let config = FixedHeapConfig { max_heap_size_bytes: bytes, ..FixedHeapConfig::default() };
        monitor(HEAP, any(&config))
    });
    let connections = config.max_connections.filter(|most| *most > 0).map(|most| {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        monitor(CONNECTIONS, any(&DownstreamConnectionsConfig { max_active_downstream_connections: most }))
    });
    let action = |name: &str, value: f64| OverloadAction {
        name: name.to_owned(),
        triggers: vec![Trigger {
            name: HEAP.to_owned(),
            trigger_oneof: Some(TriggerOneof::Threshold(ThresholdTrigger { value })),
        }],
        ..OverloadAction::default()
    };
    let actions = if heap.is_some() {
        vec![
            action("envoy.overload_actions.shrink_heap", 0.90),
            action("envoy.overload_actions.disable_http_keepalive", 0.92),
            action("envoy.overload_actions.stop_accepting_requests", 0.95),
            action("envoy.overload_actions.stop_accepting_connections", 0.98),
        ]
    } else {
        Vec::new()
    };
    let resource_monitors: Vec<ResourceMonitor> = heap.into_iter().chain(connections).collect();
    (!resource_monitors.is_empty()).then(|| OverloadManager {
        refresh_interval: Some(wire::duration(crate::ir::Millis(250))),
        resource_monitors,
        actions,
        ..OverloadManager::default()
    })
}

/// The program size of a regular expression above which Envoy rejects it. Its own limit of 100 refuses what the API's
/// 1,024 characters can say; RE2 runs in linear time whatever the size.
const LARGEST_REGEX: f64 = 4096.0;

fn runtime() -> LayeredRuntime {
    let number = |value: f64| Value { kind: Some(Kind::NumberValue(value)) };
    let fields = [("re2.max_program_size.error_level".to_owned(), number(LARGEST_REGEX))].into();
    LayeredRuntime {
        layers: vec![RuntimeLayer {
            name: "portolan".to_owned(),
            layer_specifier: Some(LayerSpecifier::StaticLayer(Struct { fields })),
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(xds: XdsEndpoint) -> BootstrapConfig {
        BootstrapConfig {
            node_id: "public-0".to_owned(),
            node_cluster: "apps/public".to_owned(),
            admin_socket: "/run/portolan/admin.sock".into(),
            xds,
            max_heap_bytes: Some(512 << 20),
            max_connections: Some(50_000),
            cluster_stats: false,
        }
    }

    #[test]
    fn over_a_unix_socket() {
        let config = config(XdsEndpoint::Unix("/run/portolan/xds.sock".into()));
        insta::assert_snapshot!(to_json(&bootstrap(&config)).unwrap());
    }

    #[test]
    fn over_mutual_tls() {
        let config = config(XdsEndpoint::Tls {
            host: "portolan.portolan-system.svc".to_owned(),
            port: 18_000,
            server_name: "portolan.portolan-system.svc".to_owned(),
            secrets: "/run/portolan/sds".into(),
        });
        insta::assert_snapshot!(to_json(&bootstrap(&config)).unwrap());
        let files = secret_files(Path::new("/etc/portolan/tls")).unwrap();
        assert!(files[CERTIFICATE_FILE].contains("/etc/portolan/tls/tls.key"), "{files:?}");
        assert!(files[AUTHORITIES_FILE].contains("/etc/portolan/tls/ca.crt"), "{files:?}");
    }

    #[test]
    fn without_limits_there_is_no_overload_manager() {
        let unix = XdsEndpoint::Unix("/x".into());
        let config = BootstrapConfig { max_heap_bytes: None, max_connections: None, ..config(unix) };
        assert_eq!(bootstrap(&config).overload_manager, None);
    }
}
