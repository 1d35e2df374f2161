//! Cuts a large `FileDescriptorSet` down to the packages that Portolan uses.
//!
//! `hack/generate-descriptors` runs it; `xds/proto/README.md` says where the input comes from.
//! The output holds the files below, the files that they import, nothing else: no comments, and no
//! import that exists only for options (validation rules, annotations), which no generated code reads.
//!
//! Usage: `cargo run -p portolan-xds-proto --example reduce -- <types.bin> <descriptors.bin>`

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Files to keep, by path prefix; what they import follows by itself.
const KEEP: &[&str] = &[
    // Discovery, and the services an Envoy calls that our tests answer.
    "envoy/service/discovery/v3/",
    "envoy/service/auth/v3/",
    "envoy/service/ratelimit/v3/",
    "envoy/service/accesslog/v3/",
    // Configuration proper.
    "envoy/admin/v3/clusters.proto",
    "envoy/admin/v3/config_dump.proto",
    "envoy/admin/v3/config_dump_shared.proto",
    "envoy/admin/v3/init_dump.proto",
    "envoy/admin/v3/listeners.proto",
    "envoy/admin/v3/server_info.proto",
    "envoy/config/accesslog/v3/",
    "envoy/config/bootstrap/v3/",
    "envoy/config/cluster/v3/",
    "envoy/config/common/",
    "envoy/config/core/v3/",
    "envoy/config/endpoint/v3/",
    "envoy/config/listener/v3/",
    "envoy/config/metrics/v3/",
    "envoy/config/overload/v3/",
    "envoy/config/ratelimit/v3/",
    "envoy/config/rbac/v3/",
    "envoy/config/route/v3/",
    "envoy/config/trace/v3/opentelemetry.proto",
    "envoy/data/accesslog/v3/",
    "envoy/type/",
    // HTTP filters and what they plug in.
    "envoy/extensions/filters/http/buffer/v3/",
    "envoy/extensions/filters/http/composite/v3/",
    "envoy/extensions/filters/http/cors/v3/",
    "envoy/extensions/filters/http/custom_response/v3/",
    "envoy/extensions/filters/http/ext_authz/v3/",
    "envoy/extensions/filters/http/fault/v3/",
    "envoy/extensions/filters/http/grpc_stats/v3/",
    "envoy/extensions/filters/http/grpc_web/v3/",
    "envoy/extensions/filters/http/header_mutation/v3/",
    "envoy/extensions/filters/http/health_check/v3/",
    "envoy/extensions/filters/http/jwt_authn/v3/",
    "envoy/extensions/filters/http/local_ratelimit/v3/",
    "envoy/extensions/filters/http/on_demand/v3/",
    "envoy/extensions/filters/http/ratelimit/v3/",
    "envoy/extensions/filters/http/rbac/v3/",
    "envoy/extensions/filters/http/router/v3/",
    "envoy/extensions/filters/http/set_filter_state/v3/",
    "envoy/extensions/filters/http/stateful_session/v3/",
    "envoy/extensions/http/custom_response/",
    "envoy/extensions/http/early_header_mutation/header_mutation/v3/",
    "envoy/extensions/http/header_formatters/preserve_case/v3/",
    "envoy/extensions/http/original_ip_detection/",
    "envoy/extensions/http/stateful_session/",
    "envoy/extensions/internal_redirect/",
    "envoy/extensions/path/",
    "envoy/extensions/regex_engines/v3/",
    "envoy/extensions/request_id/uuid/v3/",
    "envoy/extensions/retry/",
    // Network, listener and UDP filters.
    "envoy/extensions/filters/common/",
    "envoy/extensions/filters/listener/http_inspector/v3/",
    "envoy/extensions/filters/listener/original_dst/v3/",
    "envoy/extensions/filters/listener/proxy_protocol/v3/",
    "envoy/extensions/filters/listener/tls_inspector/v3/",
    "envoy/extensions/filters/network/connection_limit/v3/",
    "envoy/extensions/filters/network/direct_response/v3/",
    "envoy/extensions/filters/network/http_connection_manager/v3/",
    "envoy/extensions/filters/network/local_ratelimit/v3/",
    "envoy/extensions/filters/network/rbac/v3/",
    "envoy/extensions/filters/network/set_filter_state/v3/",
    "envoy/extensions/filters/network/sni_cluster/v3/",
    "envoy/extensions/filters/network/tcp_proxy/v3/",
    "envoy/extensions/filters/udp/udp_proxy/v3/",
    // Transport.
    "envoy/extensions/network/dns_resolver/cares/v3/",
    "envoy/extensions/network/dns_resolver/getaddrinfo/v3/",
    "envoy/extensions/quic/crypto_stream/v3/",
    "envoy/extensions/quic/proof_source/v3/",
    "envoy/extensions/transport_sockets/proxy_protocol/v3/",
    "envoy/extensions/transport_sockets/quic/v3/",
    "envoy/extensions/transport_sockets/raw_buffer/v3/",
    "envoy/extensions/transport_sockets/tls/v3/",
    "envoy/extensions/udp_packet_writer/v3/",
    "envoy/extensions/upstreams/http/generic/v3/",
    "envoy/extensions/upstreams/http/http/v3/",
    "envoy/extensions/upstreams/http/tcp/v3/",
    "envoy/extensions/upstreams/http/v3/",
    "envoy/extensions/upstreams/tcp/",
    // Clusters and load balancing.
    "envoy/extensions/clusters/common/dns/v3/",
    "envoy/extensions/clusters/dns/v3/",
    "envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3/",
    "envoy/extensions/load_balancing_policies/cluster_provided/v3/",
    "envoy/extensions/load_balancing_policies/common/v3/",
    "envoy/extensions/load_balancing_policies/least_request/v3/",
    "envoy/extensions/load_balancing_policies/maglev/v3/",
    "envoy/extensions/load_balancing_policies/override_host/v3/",
    "envoy/extensions/load_balancing_policies/random/v3/",
    "envoy/extensions/load_balancing_policies/ring_hash/v3/",
    "envoy/extensions/load_balancing_policies/round_robin/v3/",
    "envoy/extensions/load_balancing_policies/subset/v3/",
    "envoy/extensions/load_balancing_policies/wrr_locality/v3/",
    // Observability and limits.
    "envoy/extensions/access_loggers/file/v3/",
    "envoy/extensions/access_loggers/grpc/v3/",
    "envoy/extensions/access_loggers/open_telemetry/v3/",
    "envoy/extensions/access_loggers/stream/v3/",
    "envoy/extensions/formatter/metadata/v3/",
    "envoy/extensions/formatter/req_without_query/v3/",
    "envoy/extensions/resource_monitors/cgroup_memory/v3/",
    "envoy/extensions/resource_monitors/downstream_connections/v3/",
    "envoy/extensions/resource_monitors/fixed_heap/v3/",
    // Matching.
    "envoy/extensions/common/matching/v3/",
    "envoy/extensions/matching/common_inputs/network/v3/",
    "envoy/extensions/matching/common_inputs/ssl/v3/",
    "envoy/extensions/matching/common_inputs/transport_socket/v3/",
    "envoy/extensions/matching/input_matchers/ip/v3/",
    "xds/core/v3/",
    "xds/type/",
    "google/protobuf/",
    "google/rpc/status.proto",
];

/// Imported for their options alone. Options are not kept, so neither are these.
const OPTIONS_ONLY: &[&str] = &[
    "envoy/annotations/",
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/protobuf/descriptor.proto",
    "udpa/annotations/",
    "validate/",
    "xds/annotations/",
];

fn starts_with_any(path: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// Drops comments and the imports that only options need.
fn strip(mut file: FileDescriptorProto) -> FileDescriptorProto {
    file.source_code_info = None;
    let mut kept = Vec::new();
    let mut public = Vec::new();
    for (old, path) in (0_i32..).zip(&file.dependency) {
        if starts_with_any(path, OPTIONS_ONLY) {
            continue;
        }
        if file.public_dependency.contains(&old) {
            public.push(i32::try_from(kept.len()).unwrap_or(i32::MAX));
        }
        kept.push(path.clone());
    }
    file.dependency = kept;
    file.public_dependency = public;
    file.weak_dependency.clear();
    file
}

/// `envoy/extensions/filters/http/filter_chain/v3/filter_chain.proto`, which Envoy 1.40 has and the input does not yet. Once
/// it does, this goes, and the path moves to [`KEEP`].
fn filter_chain() -> FileDescriptorProto {
    const PACKAGE: &str = "envoy.extensions.filters.http.filter_chain.v3";
    let message = |name: &str, field: &str, label: Label, of: String| DescriptorProto {
        name: Some(name.to_owned()),
        field: vec![FieldDescriptorProto {
            name: Some(field.to_owned()),
            number: Some(1),
            label: Some(label.into()),
            r#type: Some(Type::Message.into()),
            type_name: Some(of),
            ..FieldDescriptorProto::default()
        }],
        ..DescriptorProto::default()
    };
    let chain = format!(".{PACKAGE}.FilterChain");
    FileDescriptorProto {
        name: Some("envoy/extensions/filters/http/filter_chain/v3/filter_chain.proto".to_owned()),
        package: Some(PACKAGE.to_owned()),
        dependency: vec!["envoy/config/core/v3/extension.proto".to_owned()],
        message_type: vec![
            message("FilterChainConfig", "default_filter_chain", Label::Optional, chain.clone()),
            message("FilterChainConfigPerRoute", "filter_chain", Label::Optional, chain),
            message(
                "FilterChain",
                "filters",
                Label::Repeated,
                ".envoy.config.core.v3.TypedExtensionConfig".to_owned(),
            ),
        ],
        syntax: Some("proto3".to_owned()),
        ..FileDescriptorProto::default()
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(output)) = (arguments.next(), arguments.next()) else {
        return Err("usage: reduce <types.bin> <descriptors.bin>".into());
    };
    let set = FileDescriptorSet::decode(std::fs::read(&input)?.as_slice())?;
    let mut files: BTreeMap<String, FileDescriptorProto> = set
        .file
        .into_iter()
        .map(|file| (file.name().to_owned(), strip(file)))
        .filter(|(name, _)| !starts_with_any(name, OPTIONS_ONLY))
        .collect();

    for prefix in KEEP {
        if !files.keys().any(|name| name.starts_with(prefix)) {
            return Err(format!("no file of {input} begins with {prefix}").into());
        }
    }
    let mut wanted: Vec<String> = files.keys().filter(|name| starts_with_any(name, KEEP)).cloned().collect();
    let mut reached = BTreeSet::new();
    while let Some(name) = wanted.pop() {
        let Some(file) = files.get(&name) else {
            return Err(format!("{name} is imported and not in {input}").into());
        };
        if reached.insert(name) {
            wanted.extend(file.dependency.iter().cloned());
        }
    }
    files.retain(|name, _| reached.contains(name));
    let added = filter_chain();
    if files.insert(added.name().to_owned(), added).is_some() {
        return Err("the input has the filter chain filter now: keep it as the others".into());
    }
    let reduced = FileDescriptorSet { file: files.into_values().collect() };
    std::fs::write(&output, reduced.encode_to_vec())?;
    Ok(())
}
