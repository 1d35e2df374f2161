//! What the core knows, as JSON for people and for `portolan status`.

use portolan_xds::ir::Transport;
use serde_json::{Map, Value, json};

use super::Surroundings;
use crate::{model::ObjectKey, runtime::Core};

/// `/status`, less what only the process knows.
pub(super) fn status(core: &mut Core, surroundings: &dyn Surroundings) -> Map<String, Value> {
    let gateways = core.engine().wanted_ports().into_keys().map(|key| {
        let shown = json!({"proxy": surroundings.proxy(&key), "ports": ports(core, &key)});
        (format!("{}/{}", key.namespace, key.name), shown)
    });
    let gateways: Map<_, _> = gateways.collect();
    let objects = core.statuses().into_iter().map(|(key, status)| (key.to_string(), status));
    let mut shown = Map::new();
    shown.insert("ready".into(), (core.is_synced() && surroundings.not_ready().is_none()).into());
    shown.insert("problems".into(), json!(core.problems()));
    shown.insert("gateways".into(), Value::Object(gateways));
    shown.insert("objects".into(), Value::Object(objects.collect()));
    shown
}

/// Each port of the API with the addresses that stand for it, or why there is none.
fn ports(core: &Core, gateway: &ObjectKey) -> Value {
    let placement = core.engine().placement(gateway);
    let ports = placement.into_iter().flat_map(|placement| &placement.ports);
    let shown = ports.map(|((port, transport), bound)| {
        let transport = if *transport == Transport::Udp { "udp" } else { "tcp" };
        let bound = match bound {
            Ok(addresses) => json!(addresses),
            Err(why) => json!({"unavailable": why}),
        };
        (format!("{port}/{transport}"), bound)
    });
    Value::Object(shown.collect())
}

/// `/debug/world`: every object, by kind.
pub(super) fn world(core: &mut Core) -> Value {
    let mut kinds: Map<String, Value> = Map::new();
    for key in core.engine().world().keys() {
        let kind = kinds.entry(key.kind.to_string()).or_insert_with(|| json!([]));
        let name = if key.namespace.is_empty() {
            key.name.to_string()
        } else {
            format!("{}/{}", key.namespace, key.name)
        };
        if let Value::Array(names) = kind {
            names.push(name.into());
        }
    }
    Value::Object(kinds)
}
