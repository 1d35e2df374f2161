//! A Gateway's ports: bound addresses and filter chains.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use portolan_xds::ir::{self, ChainTraffic, DownstreamTls, FilterChain, Listener, Origin, Transport};

use super::{Fault, Unit, engine::State};
use crate::{
    model::{Hostname, ObjectKey},
    world::{Read, View},
};

/// Which addresses a fleet gave a Gateway's ports, or why it could not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// By port in the API.
    pub ports: BTreeMap<(u16, Transport), Result<Vec<SocketAddr>, String>>,
}

/// What a Gateway binds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChainsOut {
    /// Listeners by xDS name.
    pub listeners: BTreeMap<ir::ListenerName, Arc<Listener>>,
    /// Secrets that these listeners use.
    pub secrets: BTreeMap<ir::SecretName, Arc<ir::Secret>>,
    /// Ports that could not be had: `PortUnavailable`.
    pub unavailable: BTreeMap<(u16, Transport), Fault>,
}

/// Resolves [`Unit::Chains`].
pub(super) fn chains(view: &View<'_>, state: &State, gateway: &ObjectKey) -> Option<ChainsOut> {
    view.record(Read::Output(Unit::Listeners(gateway.clone())));
    view.record(Read::Output(Unit::Tls(gateway.clone())));
    view.record(Read::Placement(gateway.clone()));
    let listeners = state.listeners(gateway)?;
    let tls = state.tls(gateway)?;
    let placement = state.placement(gateway)?;
    let mut out = ChainsOut::default();
    let mut by_port: BTreeMap<u16, Vec<Arc<FilterChain>>> = BTreeMap::new();
    for listener in &listeners.listeners {
        let Some(table) = &listener.table else { continue };
        let downstream = if listener.tls {
            let Some(own) = tls.listeners.get(&listener.name) else { continue };
            // A listener with a bad certificate among its refs serves nothing: half a set would surprise (Gateway API:
            // ResolvedRefs False on a listener).
            if !own.faults.is_empty() || own.certificates.is_empty() {
                continue;
            }
            let names: Vec<_> = own.certificates.iter().map(|one| one.name.clone()).collect();
            for name in &names {
                if let Some(secret) = tls.secrets.get(name) {
                    out.secrets.insert(name.clone(), secret.clone());
                }
            }
            Some(DownstreamTls { certificates: names, client_validation: None })
        } else {
            None
        };
        let chains = by_port.entry(listener.port).or_default();
        // Plain-text listeners of one port are one chain: their table tells hosts apart.
        let (name, server_name): (Arc<str>, _) = if listener.tls {
            (listener.name.clone(), listener.hostname.as_ref().map(Hostname::shared))
        } else {
            ("http".into(), None)
        };
        if listener.tls || chains.is_empty() {
            chains.push(Arc::new(FilterChain {
                name,
                server_name,
                tls: downstream,
                traffic: ChainTraffic::Http { routes: table.clone() },
                origin: Origin::new(gateway.to_string()),
            }));
        }
    }
    for (port, chains) in by_port {
        match placement.ports.get(&(port, Transport::Tcp)) {
            Some(Ok(bind)) if !bind.is_empty() => {
                let name: ir::ListenerName = format!("{}/{}/{port}", gateway.namespace, gateway.name).into();
                let listener = Listener {
                    name: name.clone(),
                    port,
                    transport: Transport::Tcp,
                    bind: bind.clone(),
                    chains,
                };
                out.listeners.insert(name, Arc::new(listener));
            }
            Some(Err(message)) => {
                out.unavailable
                    .insert((port, Transport::Tcp), Fault::new("PortUnavailable", message.clone()));
            }
            _ => {}
        }
    }
    Some(out)
}
