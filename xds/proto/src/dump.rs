//! Renders messages as proto JSON, for dumps and golden files.
//!
//! A nested `Any` is expanded; one of a type that we do not know is shown as its type and bytes, so
//! that it never hides the rest. Key material is replaced, also inside a nested `Any`.

use prost_reflect::{DynamicMessage, MapKey, MessageDescriptor, ReflectMessage as _, Value};

use crate::redact::{REDACTED, SENSITIVE};
use crate::{TYPE_URL_PREFIX, pool};

/// Why a message cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The type URL names a message that is not in the descriptor set.
    #[error("{0}: no such message in the descriptor set; add its file in xds/proto/examples/reduce.rs")]
    UnknownType(String),
    /// The bytes are not an encoding of that message.
    #[error("{type_url}: the bytes do not decode: {source}")]
    Decode {
        /// The message that was expected.
        type_url: String,
        /// What the decoder found.
        source: prost::DecodeError,
    },
    /// The message has no JSON form, for example a Duration out of range.
    #[error("{type_url}: no JSON form: {source}")]
    Json {
        /// The message that was to be rendered.
        type_url: String,
        /// What the serialiser found.
        source: serde_json::Error,
    },
}

/// Renders the encoded message `bytes` of the type `type_url` as proto JSON.
///
/// Field names are `snake_case`, as in Envoy's own configuration files and `/config_dump`.
pub fn to_json(type_url: &str, bytes: &[u8]) -> Result<serde_json::Value, DumpError> {
    let mut message = decode(type_url, bytes)?;
    prepare(&mut message);
    let options = prost_reflect::SerializeOptions::new().use_proto_field_name(true);
    let mut json = message
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| DumpError::Json { type_url: type_url.to_owned(), source })?;
    sort_maps(&message.descriptor(), &mut json);
    Ok(json)
}

/// Sorts the entries of map fields, so that equal messages have equal text. Fields stay in the order of their numbers.
fn sort_maps(of: &MessageDescriptor, json: &mut serde_json::Value) {
    let Some(object) = json.as_object_mut() else { return };
    // The text of an `Any` is that of the message in it.
    let inner = object.get("@type").and_then(serde_json::Value::as_str).and_then(message);
    for field in inner.as_ref().unwrap_or(of).fields() {
        let Some(value) = object.get_mut(field.name()) else { continue };
        let kind = field.kind();
        let Some(of) = kind.as_message() else { continue };
        match value {
            serde_json::Value::Object(entries) if field.is_map() => {
                entries.sort_keys();
                let kind = of.map_entry_value_field().kind();
                let Some(of) = kind.as_message() else { continue };
                entries.values_mut().for_each(|entry| sort_maps(of, entry));
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(|item| sort_maps(of, item)),
            one => sort_maps(of, one),
        }
    }
}

fn decode(type_url: &str, bytes: &[u8]) -> Result<DynamicMessage, DumpError> {
    let descriptor = message(type_url).ok_or_else(|| DumpError::UnknownType(type_url.to_owned()))?;
    DynamicMessage::decode(descriptor, bytes)
        .map_err(|source| DumpError::Decode { type_url: type_url.to_owned(), source })
}

fn message(type_url: &str) -> Option<MessageDescriptor> {
    pool().get_message_by_name(type_url.strip_prefix(TYPE_URL_PREFIX)?)
}

/// Replaces what must not or cannot be rendered, here and in every message below.
fn prepare(message: &mut DynamicMessage) {
    let descriptor = message.descriptor();
    if descriptor.full_name() == "google.protobuf.Any" {
        prepare_any(message);
        return;
    }
    let present: Vec<_> = message.fields().map(|(field, _)| field).collect();
    for field in present {
        let sensitive = SENSITIVE.contains(&(descriptor.full_name(), field.name()));
        let Some(value) = message.get_field_by_name(field.name()) else { continue };
        let mut value = value.into_owned();
        let visit = if sensitive { redact } else { prepare };
        match &mut value {
            Value::Message(inner) => visit(inner),
            Value::List(items) => items.iter_mut().filter_map(Value::as_message_mut).for_each(visit),
            Value::Map(entries) => entries
                .iter_mut()
                .filter_map(|(_, value): (&MapKey, &mut Value)| value.as_message_mut())
                .for_each(visit),
            _ => continue,
        }
        message.set_field(&field, value);
    }
}

/// Empties a message that holds key material; a `DataSource` says that it was redacted. One that names a file holds
/// none, and is kept: bootstraps refer to keys by file name.
fn redact(message: &mut DynamicMessage) {
    if message.has_field_by_name("filename") {
        return;
    }
    let mut empty = DynamicMessage::new(message.descriptor());
    if let Some(field) = message.descriptor().get_field_by_name("inline_string") {
        empty.set_field(&field, Value::String(REDACTED.to_owned()));
    }
    *message = empty;
}

fn prepare_any(any: &mut DynamicMessage) {
    let text = |any: &DynamicMessage| {
        any.get_field_by_name("type_url")
            .and_then(|value| value.as_str().map(str::to_owned))
            .unwrap_or_default()
    };
    let type_url = text(any);
    let bytes =
        any.get_field_by_name("value").and_then(|value| value.as_bytes().cloned()).unwrap_or_default();
    match decode(&type_url, &bytes) {
        Ok(mut inner) => {
            prepare(&mut inner);
            any.set_field_by_name("value", Value::Bytes(prost::Message::encode_to_vec(&inner).into()));
        }
        // An `Any` has no JSON form without its type. A string that says so keeps the rest readable.
        Err(error) => {
            let note = format!("{} bytes not shown: {error}", bytes.len());
            let wrapped = crate::any(&note);
            any.set_field_by_name("type_url", Value::String(wrapped.type_url));
            any.set_field_by_name("value", Value::Bytes(wrapped.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::any;
    use crate::envoy::config::core::v3::{DataSource, data_source::Specifier};
    use crate::envoy::extensions::filters::http::cors::v3::Cors;
    use crate::envoy::extensions::filters::network::http_connection_manager::v3::{
        HttpFilter, http_filter::ConfigType,
    };
    use crate::envoy::extensions::transport_sockets::tls::v3::{Secret, TlsCertificate, secret};
    use crate::google::protobuf::Any;

    #[test]
    fn the_entries_of_maps_are_sorted_also_inside_an_any() {
        use crate::envoy::config::route::v3::{Route, VirtualHost};
        let names = ["c", "a", "e", "b", "d"];
        let filters = || names.map(|name| (name.to_owned(), any(&Cors::default()))).into();
        let route = Route { typed_per_filter_config: filters(), ..Route::default() };
        let host =
            VirtualHost { routes: vec![route], typed_per_filter_config: filters(), ..VirtualHost::default() };
        let wrapped = any(&host);
        for (type_url, bytes) in [
            (wrapped.type_url.clone(), wrapped.value.to_vec()),
            (crate::type_url::<Any>(), prost::Message::encode_to_vec(&wrapped)),
        ] {
            let json = to_json(&type_url, &bytes).unwrap();
            for place in [&json["typed_per_filter_config"], &json["routes"][0]["typed_per_filter_config"]] {
                assert!(place.as_object().unwrap().keys().is_sorted(), "{json}");
            }
        }
    }

    fn inline(text: &str) -> DataSource {
        let specifier = Some(Specifier::InlineString(text.to_owned()));
        DataSource { specifier, ..DataSource::default() }
    }

    fn secret() -> Secret {
        let certificate = TlsCertificate {
            certificate_chain: Some(inline("chain")),
            private_key: Some(inline("top secret")),
            ..TlsCertificate::default()
        };
        Secret { name: "ns/cert".to_owned(), r#type: Some(secret::Type::TlsCertificate(certificate)) }
    }

    fn filter(config: Any) -> HttpFilter {
        HttpFilter {
            name: "f".to_owned(),
            config_type: Some(ConfigType::TypedConfig(config)),
            ..HttpFilter::default()
        }
    }

    fn render(packed: &Any) -> serde_json::Value {
        to_json(&packed.type_url, &packed.value).unwrap()
    }

    #[test]
    fn a_nested_any_is_expanded() {
        assert_eq!(
            render(&any(&filter(any(&Cors::default())))),
            json!({"name": "f", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors",
            }}),
        );
    }

    #[test]
    fn a_nested_any_of_an_unknown_type_does_not_hide_the_rest() {
        let unknown = Any { type_url: "type.googleapis.com/not.Known".to_owned(), value: vec![1, 2].into() };
        let json = render(&any(&filter(unknown)));
        assert_eq!(json["name"], "f");
        assert!(json["typed_config"]["value"].as_str().unwrap().contains("not.Known"), "{json}");
    }

    #[test]
    fn an_unknown_type_is_an_error_that_names_it() {
        let error = to_json("type.googleapis.com/not.Known", &[]).unwrap_err();
        assert!(error.to_string().contains("not.Known"));
    }

    #[test]
    fn key_material_is_redacted_also_inside_an_any() {
        for packed in [any(&secret()), any(&filter(any(&secret())))] {
            let text = render(&packed).to_string();
            assert!(!text.contains("top secret"), "{text}");
            assert!(text.contains("[redacted]") && text.contains("chain"), "{text}");
        }
    }

    #[test]
    fn debug_never_prints_key_material() {
        let text = format!("{:?} {:?}", secret(), any(&secret()));
        assert!(!text.contains("top secret") && text.contains("ns/cert"), "{text}");
    }
}
