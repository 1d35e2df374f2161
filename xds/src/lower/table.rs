//! Route tables: a RouteConfiguration that has no virtual hosts, and these by themselves, assembled from encoded chunks.
//!
//! Envoy subscribes to the virtual hosts of a RouteConfiguration by VHDS: a change of one host sends one host, and costs
//! Envoy half of what an update of them all does (docs/decisions/0008). A protobuf message is the concatenation of its
//! fields, so the bytes of a virtual host are its start, its encoded routes and its end. Chunks are kept by the caller: a
//! change of one route encodes one route.

use bytes::{BufMut, Bytes, BytesMut};
use portolan_xds_proto::envoy::config::route::v3::{
    Route as ProtoRoute, RouteConfiguration, RouteMatch, Vhds, VirtualHost as ProtoHost,
    route_match::PathSpecifier,
};
use prost::Message;

use super::{auth, route, wire};
use crate::{
    ir::{Otherwise, Route, RouteTable, VirtualHost},
    store::host_name,
};

/// `VirtualHost.routes`
const ROUTES: u8 = 3;

/// The largest fixed answer in bytes. Ours are sentences.
const LARGEST_ANSWER: u32 = 4096;

/// A RouteConfiguration.
pub fn head(table: &RouteTable) -> RouteConfiguration {
    RouteConfiguration {
        name: table.name.to_string(),
        // A route may be known before its cluster: that is a 500 for one route, not a rejection of all.
        validate_clusters: wire::no(),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: wire::uint(LARGEST_ANSWER),
        // Without limit: a listener waits for its virtual hosts before it opens, or it would answer 404 to everything.
        vhds: Some(Vhds { config_source: Some(wire::ads_without_limit()) }),
        ..RouteConfiguration::default()
    }
}

/// The encoded chunk of one route in its virtual host.
pub fn route_chunk(ir: &Route, table: &RouteTable) -> Bytes {
    let mut chunk = BytesMut::new();
    for lowered in route::route(ir, table) {
        field(ROUTES, &lowered, &mut chunk);
    }
    chunk.freeze()
}

/// The encoded start of one virtual host. Its routes' chunks follow, and its end.
pub fn virtual_host_start(table: &str, domain: &str, host: &VirtualHost) -> Bytes {
    let name = host_name(table, domain).to_string();
    let typed_per_filter_config = auth::before_routes(&host.auth);
    ProtoHost { name, domains: vec![domain.to_owned()], typed_per_filter_config, ..ProtoHost::default() }
        .encode_to_vec()
        .into()
}

/// The encoded end of one virtual host: an answer to everything that matched no route, where Envoy's 404 will not do.
pub fn virtual_host_end(host: &VirtualHost) -> Bytes {
    let answer = match host.otherwise {
        Otherwise::Misdirected => Some(route::answer(421, "this connection is for another host name")),
        Otherwise::Closed => Some(route::answer(500, "a filter of the listener cannot be used")),
        // Envoy has a virtual host's filters only for requests that have a route in it.
        Otherwise::NotFound => (!host.auth.is_empty()).then(|| route::answer(404, "")),
    };
    let mut end = BytesMut::new();
    if answer.is_some() {
        field(
            ROUTES,
            &ProtoRoute { r#match: Some(anything()), action: answer, ..ProtoRoute::default() },
            &mut end,
        );
    }
    end.freeze()
}

fn anything() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() }
}

fn field(tag: u8, message: &impl Message, out: &mut BytesMut) {
    delimited(tag, message.encoded_len(), out);
    append(message, out);
}

fn append(message: &impl Message, out: &mut BytesMut) {
    out.reserve(message.encoded_len());
    // It fails only where there is no room.
    let _ = message.encode(out);
}

/// Writes the key of a length-delimited field with a number below 16, and its length as a varint.
fn delimited(tag: u8, length: usize, out: &mut BytesMut) {
    const LENGTH_DELIMITED: u8 = 2;
    out.put_u8(tag << 3 | LENGTH_DELIMITED);
    let mut rest = length;
    while rest >= 0x80 {
        out.put_u8(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.put_u8(u8::try_from(rest).unwrap_or(0));
}
