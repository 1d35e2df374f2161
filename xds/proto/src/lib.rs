//! The Envoy API as deterministic Rust types, generated from a committed descriptor set.
//!
//! Equal messages encode to equal bytes, because maps are ordered: a hash of the bytes is a version.
//! Packages are modules, so `envoy.config.route.v3.Route` is [`envoy::config::route::v3::Route`].
//! The same descriptors feed [`pool`], which [`dump`] uses to render any message as JSON.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::DescriptorPool;

pub mod dump;
mod redact;

#[allow(
    // Generated code: its docs are Envoy's, its style is prost's.
    missing_docs,
    unreachable_pub,
    deprecated,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/envoy_api.rs"));
}

pub use generated::{cel, envoy, google, opentelemetry, xds};

/// The prefix of every type URL: `type.googleapis.com/<full message name>`.
pub const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// The descriptor set that this crate is generated from, as an encoded `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("../descriptors.bin");

/// The type URL of `M`.
///
/// ```
/// use portolan_xds_proto::{envoy::config::route::v3::Route, type_url};
/// assert_eq!(type_url::<Route>(), "type.googleapis.com/envoy.config.route.v3.Route");
/// ```
pub fn type_url<M: Name>() -> String {
    format!("{TYPE_URL_PREFIX}{}", M::full_name())
}

/// Packs a message into an `Any`, with its type URL.
pub fn any<M: Message + Name>(message: &M) -> google::protobuf::Any {
    google::protobuf::Any { type_url: type_url::<M>(), value: message.encode_to_vec().into() }
}

/// The descriptors of every message in this crate, for reflection.
pub fn pool() -> &'static DescriptorPool {
    // The set is compiled in and a test decodes it; an empty pool only makes dumps fail, with an error.
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap_or_default());
    &POOL
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::envoy::config::core::v3::Metadata;
    use crate::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
    use crate::google::protobuf::{Any, Struct, Value, value::Kind};

    fn route_with_many_map_keys() -> Route {
        let typed_per_filter_config: BTreeMap<String, Any> =
            (0..40).map(|index| (format!("filter-{index}"), Any::default())).collect();
        let fields = (0..40)
            .map(|index| {
                let kind = Some(Kind::NumberValue(f64::from(index)));
                (format!("key-{index}"), Value { kind })
            })
            .collect();
        let metadata = Metadata {
            filter_metadata: [("portolan".to_owned(), Struct { fields })].into(),
            ..Metadata::default()
        };
        Route { metadata: Some(metadata), typed_per_filter_config, ..Route::default() }
    }

    #[test]
    fn equal_messages_encode_to_equal_bytes() {
        let first = route_with_many_map_keys().encode_to_vec();
        for _ in 0..50 {
            assert_eq!(route_with_many_map_keys().encode_to_vec(), first);
        }
    }

    #[test]
    fn any_carries_the_type_url_and_the_encoded_message() {
        let routes = RouteConfiguration { name: "a".to_owned(), ..RouteConfiguration::default() };
        let packed = any(&routes);
        assert_eq!(packed.type_url, "type.googleapis.com/envoy.config.route.v3.RouteConfiguration");
        assert_eq!(RouteConfiguration::decode(packed.value).unwrap(), routes);
    }

    #[test]
    fn the_pool_knows_every_message_that_we_name() {
        for name in [
            "envoy.config.bootstrap.v3.Bootstrap",
            "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig",
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "google.protobuf.Any",
            VirtualHost::full_name().as_str(),
        ] {
            assert!(pool().get_message_by_name(name).is_some(), "{name} is missing");
        }
    }
}
