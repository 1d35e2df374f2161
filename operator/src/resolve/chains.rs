//! A Gateway's ports: bound addresses and filter chains.

use std::{collections::BTreeMap, sync::Arc};

use portolan_xds::ir::{
    self, ChainTraffic, ClientValidation, DownstreamTls, FilterChain, Listener, Origin, Transport,
};

use super::{
    ClientCheck, Fault, FrontendOut, ListenerOut, ListenerTls, ListenersOut, Placement, Protocol, Serves,
    StreamKey, Unit, access_log::access_log, engine::State,
};
use crate::{
    model::{Hostname, ObjectKey, TlsMode},
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
    view.record(Read::StreamsOf(gateway.clone()));
    view.record(Read::Placement(gateway.clone()));
    let mut build = Build {
        gateway,
        listeners: state.listeners(gateway)?,
        frontend: state.frontend(gateway)?,
        view,
        state,
        ports: BTreeMap::new(),
        out: ChainsOut::default(),
    };
    let placement = state.placement(gateway)?;
    build.http();
    build.streams(state.slots.streams(gateway));
    let plan = state.fleet(gateway);
    let access_log = plan.and_then(|plan| plan.config.access_log.as_ref()).and_then(access_log);
    Some(build.listen(placement, access_log.as_ref()))
}

/// A Gateway's chains while they are put together.
struct Build<'a> {
    gateway: &'a ObjectKey,
    listeners: &'a ListenersOut,
    frontend: &'a FrontendOut,
    view: &'a View<'a>,
    state: &'a State,
    ports: BTreeMap<(u16, Transport), Vec<Arc<FilterChain>>>,
    out: ChainsOut,
}

impl Build<'_> {
    /// A chain for each HTTPS listener, and one for all plain-text listeners of a port: their table tells hosts apart.
    fn http(&mut self) {
        let listeners = self.listeners;
        for listener in &listeners.listeners {
            let Some(Serves::Http(table)) = &listener.serves else { continue };
            let traffic = ChainTraffic::Http { routes: table.clone() };
            if listener.protocol == Some(Protocol::Https) {
                let check = self.frontend.on(listener.port).map(AsRef::as_ref);
                let name = listener.hostname.as_ref().map(Hostname::shared);
                self.terminated(listener, check, listener.label(), name, traffic);
            } else if !self.ports.contains_key(&(listener.port, Transport::Tcp)) {
                self.chain(listener, "http".into(), None, None, traffic);
            }
        }
    }

    /// A chain for each stream: for each server name of TLS listeners, with and without a route.
    fn streams<'k>(&mut self, keys: impl Iterator<Item = &'k StreamKey>) {
        let listeners = self.listeners;
        for key in keys {
            let host: Option<Hostname> = key.domain.parse().ok();
            let Some(listener) = listeners.stream_owner(&key.name, host.as_ref()) else { continue };
            let cluster = key.to_string().into();
            let tcp = ChainTraffic::Tcp { cluster };
            let server_name = host.as_ref().map(Hostname::shared);
            let name = || format!("{}/{}", listener.label(), key.domain).into();
            match listener.protocol {
                Some(Protocol::Tls(TlsMode::Terminate)) => {
                    self.terminated(listener, None, name(), server_name, tcp);
                }
                Some(Protocol::Tls(TlsMode::Passthrough)) => {
                    self.chain(listener, name(), server_name, None, tcp);
                }
                Some(Protocol::Tcp) => self.chain(listener, "tcp".into(), None, None, tcp),
                Some(Protocol::Udp) => {
                    let udp = ChainTraffic::Udp { cluster: key.to_string().into() };
                    self.chain(listener, "udp".into(), None, None, udp);
                }
                _ => {}
            }
        }
    }

    /// Adds a chain in which TLS ends, or one that is closed when it cannot.
    fn terminated(
        &mut self,
        listener: &ListenerOut,
        check: Option<&ClientCheck>,
        name: Arc<str>,
        server_name: Option<Arc<str>>,
        traffic: ChainTraffic,
    ) {
        let owner = listener.owner(self.gateway);
        self.view.record(Read::Output(Unit::Tls(owner.clone())));
        let tls = self.state.tls(owner).and_then(|tls| tls.listeners.get(&listener.name));
        match terminate(tls, check) {
            Some((tls, secrets)) => {
                self.out.secrets.extend(secrets);
                self.chain(listener, name, server_name, Some(tls), traffic);
            }
            None => self.chain(listener, name, server_name, None, ChainTraffic::Closed),
        }
    }

    fn chain(
        &mut self,
        listener: &ListenerOut,
        name: Arc<str>,
        server_name: Option<Arc<str>>,
        tls: Option<DownstreamTls>,
        traffic: ChainTraffic,
    ) {
        let origin = Origin::new(self.gateway.to_string());
        let chain = Arc::new(FilterChain { name, server_name, tls, traffic, origin });
        self.ports.entry((listener.port, listener.transport())).or_default().push(chain);
    }

    /// Binds the ports. One on which nothing can be served is not bound at all.
    fn listen(self, placement: &Placement, access_log: Option<&Arc<ir::AccessLog>>) -> ChainsOut {
        let Self { gateway, ports, mut out, .. } = self;
        let open =
            |chains: &[Arc<FilterChain>]| chains.iter().any(|chain| chain.traffic != ChainTraffic::Closed);
        for ((port, transport), chains) in ports.into_iter().filter(|(_, chains)| open(chains)) {
            match placement.ports.get(&(port, transport)) {
                Some(Ok(bind)) if !bind.is_empty() => {
                    let suffix = if transport == Transport::Udp { "/udp" } else { "" };
                    let name: ir::ListenerName =
                        format!("{}/{}/{port}{suffix}", gateway.namespace, gateway.name).into();
                    let listener = Listener {
                        name: name.clone(),
                        port,
                        transport,
                        bind: bind.clone(),
                        access_log: access_log.cloned(),
                        chains,
                    };
                    out.listeners.insert(name, Arc::new(listener));
                }
                Some(Err(message)) => {
                    let fault = Fault::new("PortUnavailable", message.clone());
                    out.unavailable.insert((port, transport), fault);
                }
                _ => {}
            }
        }
        out
    }
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
