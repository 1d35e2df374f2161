//! `portolan render`: the Envoy configuration that manifests would become.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Instant,
};

use portolan_xds::{
    GatewayKey,
    ir::Transport,
    program::{self, Program},
    store::Store,
};
use serde_json::Value;

use super::load;
use crate::{
    model::ObjectKey,
    resolve::{Engine, Placement, Resolved},
};

/// How many removed names a store remembers for slow streams; nobody streams here.
const TOMBSTONES: usize = 0;

/// Renders manifests as YAML, by Gateway; `false` when a document is broken. Keys are redacted.
pub(super) fn run(paths: &[PathBuf], gateway: Option<&str>) -> io::Result<bool> {
    let loaded = load::load(paths);
    let mut errors = io::stderr().lock();
    for problem in &loaded.problems {
        writeln!(errors, "{problem}")?;
    }
    let configuration = configuration(&loaded).map_err(io::Error::other)?;
    let shown: BTreeMap<_, _> =
        configuration.into_iter().filter(|(name, _)| gateway.is_none_or(|wanted| wanted == name)).collect();
    if let (Some(wanted), true) = (gateway, shown.is_empty()) {
        writeln!(
            errors,
            "no Gateway {wanted} of a class with our controllerName: expected <namespace>/<name>"
        )?;
        return Ok(false);
    }
    write!(io::stdout().lock(), "{}", serde_saphyr::to_string(&shown).map_err(io::Error::other)?)?;
    Ok(loaded.problems.iter().all(|problem| problem.harmless))
}

fn configuration(loaded: &load::Loaded) -> Result<BTreeMap<String, Value>, program::RenderError> {
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
    take(engine.apply(loaded.objects.iter().map(|(key, object)| (key.clone(), Some(object.clone())))));
    for (gateway, ports) in engine.wanted_ports() {
        // A rendered listener binds the port of the API on every address, as in a pod of its own.
        let bind = |port: u16| {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            ((port, Transport::Tcp), Ok(vec![address]))
        };
        take(engine.place(&gateway, Some(Placement { ports: ports.into_iter().map(bind).collect() })));
    }
    programs
        .into_iter()
        .map(|(gateway, (_, store))| {
            Ok((format!("{}/{}", gateway.namespace, gateway.name), program::render(&store)?))
        })
        .collect()
}
