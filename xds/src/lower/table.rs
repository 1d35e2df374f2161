//! Assembles RouteConfigurations from encoded chunks.
//!
//! A protobuf message is the concatenation of its fields, so the bytes of a RouteConfiguration are its head followed by
//! its encoded virtual hosts, and those of a virtual host are its start, its encoded routes and its end. Chunks are kept
//! by the caller: a change of one route encodes one route.

use bytes::{BufMut, Bytes, BytesMut};
use portolan_xds_proto::envoy::config::route::v3::{
    Route as ProtoRoute, RouteConfiguration, RouteMatch, VirtualHost, route_match::PathSpecifier,
};
use prost::Message;

use super::{route, wire};
use crate::ir::{Route, RouteTable};

/// `RouteConfiguration.virtual_hosts`
const VIRTUAL_HOSTS: u8 = 2;
/// `VirtualHost.routes`
const ROUTES: u8 = 3;

/// The largest fixed answer in bytes. Ours are sentences.
const LARGEST_ANSWER: u32 = 4096;

/// The encoded head of a RouteConfiguration: everything but its virtual hosts.
pub fn head(table: &RouteTable) -> Bytes {
    RouteConfiguration {
        name: table.name.to_string(),
        // A route may be known before its cluster: that is a 500 for one route, not a rejection of all.
        validate_clusters: wire::no(),
        ignore_port_in_host_matching: true,
        max_direct_response_body_size_bytes: wire::uint(LARGEST_ANSWER),
        ..RouteConfiguration::default()
    }
    .encode_to_vec()
    .into()
}

/// The encoded chunk of one route in its virtual host.
pub fn route_chunk(ir: &Route, table: &RouteTable) -> Bytes {
    let mut chunk = BytesMut::new();
    for lowered in route::route(ir, table) {
        field(ROUTES, &lowered, &mut chunk);
    }
    chunk.freeze()
}

/// The encoded start of one virtual host in its RouteConfiguration. Its routes' chunks follow, `routes` bytes in all,
/// and then `end`, which the host must have been given too.
pub fn virtual_host_start(domain: &str, routes: usize, end: &Bytes) -> Bytes {
    let head =
        VirtualHost { name: domain.to_owned(), domains: vec![domain.to_owned()], ..VirtualHost::default() };
    let mut start = BytesMut::new();
    delimited(VIRTUAL_HOSTS, head.encoded_len() + routes + end.len(), &mut start);
    append(&head, &mut start);
    start.freeze()
}

/// The encoded end of one virtual host. `misdirected` ends it with a 421 for everything (RFC 9110 §15.5.20); else what
/// matches no route is Envoy's 404.
pub fn virtual_host_end(misdirected: bool) -> Bytes {
    let mut end = BytesMut::new();
    if misdirected {
        field(ROUTES, &misdirected_route(), &mut end);
    }
    end.freeze()
}

fn misdirected_route() -> ProtoRoute {
    ProtoRoute {
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..RouteMatch::default()
        }),
        action: Some(route::answer(421, "this connection is for another host name")),
        ..ProtoRoute::default()
    }
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
