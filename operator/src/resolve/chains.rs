//! A Gateway's ports: bound addresses and filter chains.

use std::{collections::BTreeMap, sync::Arc};

use portolan_xds::ir::{
    self, ChainTraffic, ClientValidation, DownstreamTls, FilterChain, Listener, Origin, Transport,
};

use super::{ClientCheck, Fault, ListenerTls, Unit, access_log::access_log, engine::State};
use crate::{
    model::{Hostname, ObjectKey},
    world::{Read, View},
};

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
    view.record(Read::Output(Unit::Fleet(gateway.clone())));
    view.record(Read::Output(Unit::Frontend(gateway.clone())));
    view.record(Read::Output(Unit::Tls(gateway.clone())));
    view.record(Read::Placement(gateway.clone()));
    let listeners = state.listeners(gateway)?;
    let (frontend, tls) = (state.frontend(gateway)?, state.tls(gateway)?);
    let placement = state.placement(gateway)?;
    let access_log =
        state.fleet(gateway).and_then(|plan| plan.config.access_log.as_ref()).and_then(access_log);
    let mut out = ChainsOut::default();
    let mut by_port: BTreeMap<u16, Vec<Arc<FilterChain>>> = BTreeMap::new();
    for listener in &listeners.listeners {
        let Some(table) = &listener.table else { continue };
        let http = ChainTraffic::Http { routes: table.clone() };
        let chains = by_port.entry(listener.port).or_default();
        let chain = |name: Arc<str>, tls, traffic| {
            let server_name = listener.hostname.as_ref().map(Hostname::shared).filter(|_| listener.tls);
            Arc::new(FilterChain {
                name,
                server_name,
                tls,
                traffic,
                origin: Origin::new(gateway.to_string()),
            })
        };
        // Plain-text listeners of one port are one chain: their table tells hosts apart.
        if !listener.tls {
            if chains.is_empty() {
                chains.push(chain("http".into(), None, http));
            }
            continue;
        }
        let name = listener.name.clone();
        let certificates = tls.listeners.get(&name);
        chains.push(match terminate(certificates, frontend.on(listener.port).map(AsRef::as_ref)) {
            Some((downstream, secrets)) => {
                out.secrets.extend(secrets);
                chain(name, Some(downstream), http)
            }
            None => chain(name, None, ChainTraffic::Closed),
        });
    }
    // A port on which nothing can be served is not bound at all.
    by_port.retain(|_, chains| chains.iter().any(|chain| chain.traffic != ChainTraffic::Closed));
    for (port, chains) in by_port {
        match placement.ports.get(&(port, Transport::Tcp)) {
            Some(Ok(bind)) if !bind.is_empty() => {
                let name: ir::ListenerName = format!("{}/{}/{port}", gateway.namespace, gateway.name).into();
                let listener = Listener {
                    name: name.clone(),
                    port,
                    transport: Transport::Tcp,
                    bind: bind.clone(),
                    access_log: access_log.clone(),
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

type Secrets = BTreeMap<ir::SecretName, Arc<ir::Secret>>;

/// How a listener terminates TLS, with the secrets that it needs; none when it cannot. A listener with a bad
/// certificate among its refs serves nothing: half a set would surprise. A pair that went bad in a rotation is not missing: the
/// one before it goes on. Its server name is closed, not left to a
/// listener with a wider one.
fn terminate(tls: Option<&ListenerTls>, check: Option<&ClientCheck>) -> Option<(DownstreamTls, Secrets)> {
    let tls = tls.filter(|tls| tls.stands && !tls.certificates.is_empty())?;
    let mut secrets: Secrets =
        tls.certificates.iter().map(|one| (one.secret.name.clone(), one.secret.clone())).collect();
    let client_validation = match check {
        None => None,
        Some(check) => {
            let authorities = check.authorities.as_ref()?;
            secrets.insert(authorities.name.clone(), authorities.clone());
            let insecure_fallback = check.insecure_fallback;
            Some(ClientValidation { authorities: authorities.name.clone(), insecure_fallback })
        }
    };
    let certificates = tls.certificates.iter().map(|one| one.secret.name.clone()).collect();
    Some((DownstreamTls { certificates, client_validation }, secrets))
}
