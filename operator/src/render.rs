//! The Envoy configuration that a set of objects becomes, all at once: what `portolan render` shows, and what tests give
//! to a real Envoy.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Instant,
};

use portolan_xds::{
    GatewayKey,
    ir::Transport,
    program::{self, Program},
    store::Store,
};
use serde_json::Value;

use crate::{
    model::{Object, ObjectKey},
    resolve::{Engine, Placement, Resolved},
};

/// How many removed names a store remembers for slow streams; nobody streams here.
const TOMBSTONES: usize = 0;

/// Resolves and lowers objects. The result is by Gateway (`namespace/name`), then by resource type (`cds`, `eds`, `sds`,
/// `lds`, `rds`), then by resource name, as proto JSON with keys redacted. Listeners bind the API's port on every address.
pub fn render(
    objects: &BTreeMap<ObjectKey, Object>,
) -> Result<BTreeMap<String, Value>, program::RenderError> {
    let mut engine = Engine::new();
    let mut programs: BTreeMap<ObjectKey, (Program, Store)> = BTreeMap::new();
    let mut take = |resolved: Resolved| {
        for (gateway, delta) in resolved.deltas {
            let (program, store) = programs.entry(gateway.clone()).or_insert_with(|| {
                (Program::new(GatewayKey::new(gateway.namespace, gateway.name)), Store::new(TOMBSTONES))
            });
            program.apply(delta, store, Instant::now());
        }
    };
    take(engine.apply(objects.iter().map(|(key, object)| (key.clone(), Some(object.clone())))));
    for (gateway, ports) in engine.wanted_ports() {
        // A rendered listener binds the port of the API on every address, as in a pod of its own.
        let bind = |(port, transport): (u16, Transport)| {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            ((port, transport), Ok(vec![address]))
        };
        take(engine.place(&gateway, Some(Placement::bound(ports.into_iter().map(bind)))));
    }
    programs
        .into_iter()
        .map(|(gateway, (_, store))| {
            Ok((format!("{}/{}", gateway.namespace, gateway.name), program::render(&store)?))
        })
        .collect()
}
