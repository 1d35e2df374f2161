//! The access log of a FleetConfig.

use std::sync::Arc;

use portolan_crds::fleet_config::{AccessLog, AccessLogField as Field};
use portolan_xds::ir::{self, AccessValue};

/// What is logged when nobody says: who asked for what, what came of it, and where it went.
const FIELDS: [Field; 15] = [
    Field::StartTime,
    Field::Method,
    Field::Authority,
    Field::Path,
    Field::Protocol,
    Field::ResponseCode,
    Field::ResponseFlags,
    Field::DurationMs,
    Field::BytesReceived,
    Field::BytesSent,
    Field::ClientAddress,
    Field::Route,
    Field::Cluster,
    Field::UpstreamAddress,
    Field::RequestId,
];

/// As the proxies should log; none where it is switched off.
pub(super) fn access_log(settings: &AccessLog) -> Option<Arc<ir::AccessLog>> {
    if settings.enabled == Some(false) {
        return None;
    }
    let fields = settings.fields.as_deref().unwrap_or(&FIELDS);
    let headers = |names: &Option<Vec<String>>| -> Vec<Arc<str>> {
        names.iter().flatten().map(|name| name.as_str().into()).collect()
    };
    Some(Arc::new(ir::AccessLog {
        members: fields.iter().map(|field| member(*field)).collect(),
        request_headers: headers(&settings.request_headers),
        response_headers: headers(&settings.response_headers),
    }))
}

/// A member's name is the field's in the FleetConfig.
fn member(field: Field) -> (Arc<str>, AccessValue) {
    let (name, value) = match field {
        Field::StartTime => ("startTime", AccessValue::StartTime),
        Field::Method => ("method", AccessValue::Method),
        Field::Authority => ("authority", AccessValue::Authority),
        Field::Path => ("path", AccessValue::Path),
        Field::Protocol => ("protocol", AccessValue::Protocol),
        Field::ResponseCode => ("responseCode", AccessValue::ResponseCode),
        Field::ResponseCodeDetails => ("responseCodeDetails", AccessValue::ResponseCodeDetails),
        Field::ResponseFlags => ("responseFlags", AccessValue::ResponseFlags),
        Field::DurationMs => ("durationMs", AccessValue::Duration),
        Field::UpstreamDurationMs => ("upstreamDurationMs", AccessValue::UpstreamDuration),
        Field::BytesReceived => ("bytesReceived", AccessValue::BytesReceived),
        Field::BytesSent => ("bytesSent", AccessValue::BytesSent),
        Field::ClientAddress => ("clientAddress", AccessValue::ClientAddress),
        Field::LocalAddress => ("localAddress", AccessValue::LocalAddress),
        Field::ServerName => ("serverName", AccessValue::ServerName),
        Field::Route => ("route", AccessValue::Route),
        Field::Cluster => ("cluster", AccessValue::Cluster),
        Field::UpstreamAddress => ("upstreamAddress", AccessValue::UpstreamAddress),
        Field::UpstreamFailure => ("upstreamFailure", AccessValue::UpstreamFailure),
        Field::RequestId => ("requestId", AccessValue::RequestId),
        Field::UserAgent => ("userAgent", AccessValue::UserAgent),
        Field::ForwardedFor => ("forwardedFor", AccessValue::ForwardedFor),
    };
    (name.into(), value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log(settings: serde_json::Value) -> Option<Arc<ir::AccessLog>> {
        access_log(&serde_json::from_value(settings).unwrap())
    }

    #[test]
    fn it_is_on_where_it_is_given_and_not_switched_off() {
        assert_eq!(log(json!({})).unwrap().members.len(), FIELDS.len());
        assert_eq!(log(json!({"enabled": false, "fields": ["path"]})), None);
    }

    #[test]
    fn a_member_has_the_name_that_the_fleet_config_gives_it() {
        let all = serde_json::to_value(portolan_crds::install::own().remove(0)).unwrap();
        let names = all
            .pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/accessLog/properties/fields/items/enum")
            .unwrap();
        let found = log(json!({"fields": names})).unwrap();
        let found: Vec<&str> = found.members.iter().map(|(name, _)| &**name).collect();
        assert_eq!(json!(found), *names);
    }
}
