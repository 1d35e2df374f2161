//! The access log.

use portolan_xds_proto::envoy::config::accesslog::v3::{AccessLog as ProtoAccessLog, access_log};
use portolan_xds_proto::envoy::config::core::v3::{
    SubstitutionFormatString, substitution_format_string::Format,
};
use portolan_xds_proto::envoy::extensions::access_loggers::stream::v3::{
    StdoutAccessLog, stdout_access_log::AccessLogFormat,
};
use portolan_xds_proto::google::protobuf::{Struct, Value, value::Kind};

use crate::ir::{AccessLog, AccessValue};

/// Lowers an access log. A value that a request does not have is null.
pub(super) fn access_log(log: &AccessLog) -> ProtoAccessLog {
    let mut fields: Vec<(String, Value)> =
        log.members.iter().map(|(name, value)| (name.to_string(), text(command(*value)))).collect();
    for (member, operator, names) in
        [("requestHeaders", "REQ", &log.request_headers), ("responseHeaders", "RESP", &log.response_headers)]
    {
        let headers = names.iter().filter(|name| is_header(name));
        let headers = headers.map(|name| (name.to_lowercase(), text(format!("%{operator}({name})%"))));
        let headers = Struct { fields: headers.collect() };
        if !headers.fields.is_empty() {
            fields.push((member.to_owned(), Value { kind: Some(Kind::StructValue(headers)) }));
        }
    }
    let format = SubstitutionFormatString {
        format: Some(Format::JsonFormat(Struct { fields: fields.into_iter().collect() })),
        ..SubstitutionFormatString::default()
    };
    ProtoAccessLog {
        name: "envoy.access_loggers.stdout".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(portolan_xds_proto::any(&StdoutAccessLog {
            access_log_format: Some(AccessLogFormat::LogFormat(format)),
        }))),
        ..ProtoAccessLog::default()
    }
}

/// A header's name that has no meaning to Envoy's format strings: no `%`, `)`, `?` or `:`.
fn is_header(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&'*+.^_|~-".contains(&byte))
}

fn text(text: impl Into<String>) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

fn command(value: AccessValue) -> &'static str {
    match value {
        AccessValue::StartTime => "%START_TIME%",
        AccessValue::Method => "%REQ(:METHOD)%",
        AccessValue::Authority => "%REQ(:AUTHORITY)%",
        AccessValue::Path => "%REQ(:PATH)%",
        AccessValue::Protocol => "%PROTOCOL%",
        AccessValue::ResponseCode => "%RESPONSE_CODE%",
        AccessValue::ResponseCodeDetails => "%RESPONSE_CODE_DETAILS%",
        AccessValue::ResponseFlags => "%RESPONSE_FLAGS%",
        AccessValue::Duration => "%DURATION%",
        AccessValue::UpstreamDuration => "%COMMON_DURATION(US_TX_BEG:US_RX_BEG:ms)%",
        AccessValue::BytesReceived => "%BYTES_RECEIVED%",
        AccessValue::BytesSent => "%BYTES_SENT%",
        AccessValue::ClientAddress => "%DOWNSTREAM_REMOTE_ADDRESS%",
        AccessValue::LocalAddress => "%DOWNSTREAM_LOCAL_ADDRESS%",
        AccessValue::ServerName => "%REQUESTED_SERVER_NAME%",
        AccessValue::Route => "%ROUTE_NAME%",
        AccessValue::Cluster => "%UPSTREAM_CLUSTER_RAW%",
        AccessValue::UpstreamAddress => "%UPSTREAM_HOST%",
        AccessValue::UpstreamFailure => "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
        AccessValue::RequestId => "%REQ(X-REQUEST-ID)%",
        AccessValue::UserAgent => "%REQ(USER-AGENT)%",
        AccessValue::ForwardedFor => "%REQ(X-FORWARDED-FOR)%",
    }
}
