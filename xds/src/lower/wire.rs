//! Short constructors for protobuf values that occur everywhere.

// Optional protobuf fields take an `Option`; constructors return what the field takes.
#![allow(clippy::unnecessary_wraps)]

use std::net::SocketAddr;

use portolan_xds_proto::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, ConfigSource, Metadata, RuntimeFractionalPercent,
    SocketAddress as ProtoSocketAddress, TransportSocket, address, config_source::ConfigSourceSpecifier,
    socket_address, transport_socket,
};
use portolan_xds_proto::envoy::r#type::matcher::v3::{
    RegexMatchAndSubstitute, RegexMatcher, StringMatcher, string_matcher::MatchPattern,
};
use portolan_xds_proto::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use portolan_xds_proto::google::protobuf::{
    Any, BoolValue, Duration, Struct, UInt32Value, Value, value::Kind,
};

use crate::ir::{Fraction, Millis};

/// Parts in a million, the finest share that Envoy can draw.
pub(crate) const MILLION: u32 = 1_000_000;

/// The limit of a connection's buffers in bytes. Envoy's default is 1 MiB, which many slow clients multiply.
pub(crate) const CONNECTION_BUFFER_BYTES: u32 = 32 * 1024;

pub(crate) const fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

pub(crate) const fn no() -> Option<BoolValue> {
    Some(BoolValue { value: false })
}

pub(crate) const fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(crate) const fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

/// A duration; anything above Envoy's range is cut to 10,000 years.
pub(crate) fn duration(millis: Millis) -> Duration {
    const MOST_SECONDS: i64 = 315_576_000_000;
    let seconds = i64::try_from(millis.0 / 1000).unwrap_or(MOST_SECONDS).min(MOST_SECONDS);
    let nanos = i32::try_from(millis.0 % 1000 * 1_000_000).unwrap_or(0);
    Duration { seconds, nanos }
}

/// "From this ADS stream". The bytes for SDS never change: Envoy treats a secret that is referenced with other bytes
/// as another secret, and in delta mode never asks for it (Envoy issue 47309).
///
/// EDS and SDS keep Envoy's 15 s fetch limit: they are always answered, and a missing one must not block siblings.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    }
}

/// As [`ads`], and waits without limit: a listener without its routes would answer 404 to everything.
pub(crate) fn ads_without_limit() -> ConfigSource {
    ConfigSource { initial_fetch_timeout: seconds(0), ..ads() }
}

pub(crate) fn address(address: SocketAddr) -> Address {
    host(&address.ip().to_string(), address.port())
}

/// A host by address or, where the cluster's type allows it, by DNS name.
pub(crate) fn host(host: &str, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(ProtoSocketAddress {
            address: host.to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..ProtoSocketAddress::default()
        })),
    }
}

pub(crate) fn transport_socket(name: &str, config: Any) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
    }
}

pub(crate) fn exact(value: &str) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Exact(value.to_owned())), ..StringMatcher::default() }
}

pub(crate) fn regex(expression: impl Into<String>) -> RegexMatcher {
    RegexMatcher { regex: expression.into(), ..RegexMatcher::default() }
}

pub(crate) fn matching(expression: impl Into<String>) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(MatchPattern::SafeRegex(regex(expression))),
        ..StringMatcher::default()
    }
}

/// What an endpoint says of the socket that leads to it, and what that socket matches.
pub(crate) fn socket_name(name: &str) -> Struct {
    let value = Value { kind: Some(Kind::StringValue(name.to_owned())) };
    Struct { fields: [("portolan".to_owned(), value)].into() }
}

/// The metadata of such an endpoint.
pub(crate) fn socket_metadata(name: &str) -> Metadata {
    let metadata = [("envoy.transport_socket_match".to_owned(), socket_name(name))];
    Metadata { filter_metadata: metadata.into(), ..Metadata::default() }
}

/// Replaces what `expression` matches by the literal text `replacement`.
pub(crate) fn substitute(expression: impl Into<String>, replacement: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute {
        pattern: Some(regex(expression)),
        substitution: replacement.replace('\\', r"\\"),
    }
}

/// Quotes `text` so that RE2 matches it literally (the rule of RE2's own `QuoteMeta`).
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for character in text.chars() {
        if character == '\0' {
            quoted.push_str(r"\x00");
            continue;
        }
        if character.is_ascii() && !character.is_ascii_alphanumeric() && character != '_' {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

/// `numerator` of a million.
pub(crate) fn millionths(numerator: u32) -> RuntimeFractionalPercent {
    percent(numerator, DenominatorType::Million)
}

fn percent(numerator: u32, denominator: DenominatorType) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent {
        default_value: Some(FractionalPercent { numerator, denominator: denominator.into() }),
        ..RuntimeFractionalPercent::default()
    }
}

/// A share of requests; a denominator that Envoy does not know is scaled to millionths, rounded down.
pub(crate) fn fraction(share: Fraction) -> RuntimeFractionalPercent {
    match share.denominator {
        100 => percent(share.numerator, DenominatorType::Hundred),
        10_000 => percent(share.numerator, DenominatorType::TenThousand),
        denominator => millionths(part_of_million(share.numerator.into(), denominator.into())),
    }
}

/// `numerator / denominator` in millionths, rounded down, at most a million.
pub(crate) fn part_of_million(numerator: u64, denominator: u64) -> u32 {
    let parts = u128::from(numerator) * u128::from(MILLION) / u128::from(denominator.max(1));
    u32::try_from(parts).unwrap_or(MILLION).min(MILLION)
}
