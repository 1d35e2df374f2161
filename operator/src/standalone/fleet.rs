//! The task that gives every Gateway addresses, an xDS socket and a proxy, and takes them back.
//!
//! A Gateway's socket is opened only after its ports are placed and published: an Envoy that outlived an earlier
//! standalone must not be told that its listeners are gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use portolan_xds::{ads::AdsServer, ir::Transport};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::surroundings::StandaloneSurroundings;
use crate::{
    fleet::{
        GatewayName,
        files::{FileError, listen_private},
        host::{self, Ensured, HostError, HostFleet},
        ports::Ports,
        state::StatePaths,
    },
    model::{Kind, ObjectKey},
    resolve::Placement,
    runtime::{Handle, Hub, Wanted},
};

/// How often proxies are looked after, and ports that could not be bound are tried again.
const ROUND: Duration = Duration::from_secs(1);

/// How often while a proxy starts.
const STARTING: Duration = Duration::from_millis(100);

type ApiPorts = BTreeSet<(u16, Transport)>;
type Stopped = (GatewayName, Result<(), HostError>);

/// See the module.
pub(super) struct FleetTask {
    fleet: HostFleet,
    ports: Ports,
    ports_file: PathBuf,
    paths: StatePaths,
    server: AdsServer<Hub>,
    handle: Handle,
    surroundings: Arc<StandaloneSurroundings>,
    wanted: watch::Receiver<Wanted>,
    /// What is wanted now, of Gateways whose names can name a folder.
    desired: BTreeMap<GatewayName, ApiPorts>,
    placed: BTreeMap<GatewayName, Placement>,
    sockets: BTreeMap<GatewayName, CancellationToken>,
    serving: TaskTracker,
    stopping: FuturesUnordered<BoxFuture<'static, Stopped>>,
    /// Gateways whose proxies drain: they are not started again before that is over.
    draining: BTreeSet<GatewayName>,
    /// Proxies of an earlier standalone; those that nobody wants are stopped.
    left_over: Vec<GatewayName>,
}

impl FleetTask {
    /// Recognises the proxies that outlived an earlier standalone.
    pub(super) fn new(
        fleet: HostFleet,
        mut ports: Ports,
        ports_file: PathBuf,
        paths: StatePaths,
        server: AdsServer<Hub>,
        handle: Handle,
        surroundings: Arc<StandaloneSurroundings>,
    ) -> Result<Self, FileError> {
        let left_over = fleet.left_over()?;
        for gateway in &left_over {
            ports.trust(gateway);
        }
        let wanted = handle.wanted();
        Ok(Self {
            fleet,
            ports,
            ports_file,
            paths,
            server,
            handle,
            surroundings,
            wanted,
            desired: BTreeMap::new(),
            placed: BTreeMap::new(),
            sockets: BTreeMap::new(),
            serving: TaskTracker::new(),
            stopping: FuturesUnordered::new(),
            draining: BTreeSet::new(),
            left_over,
        })
    }

    /// Works until `stop`, then drains every proxy and returns.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut rounds = tokio::time::interval(ROUND);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The core answers after the first sync was taken in.
        if self.handle.ask(|_| ()).await.is_ok() {
            self.follow().await;
            self.surroundings.set_placed();
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                changed = self.wanted.changed() => match changed {
                    Ok(()) => self.follow().await,
                    Err(_) => break,
                },
                Some(stopped) = self.stopping.next(), if !self.stopping.is_empty() => {
                    self.on_stopped(stopped).await;
                }
                _ = rounds.tick() => self.round().await,
                () = sleep(STARTING), if self.is_starting() => self.round().await,
            }
        }
        self.end().await;
    }

    /// Whether a proxy is about to be ready for the first time: somebody waits for `Programmed`.
    fn is_starting(&self) -> bool {
        self.sockets.keys().any(|gateway| self.desired.contains_key(gateway) && !self.was_ready(gateway))
    }

    /// Takes up what is wanted now.
    async fn follow(&mut self) {
        let wanted = self.wanted.borrow_and_update().clone();
        self.desired = wanted
            .into_iter()
            .filter_map(|(key, ports)| match GatewayName::try_from(&key) {
                Ok(name) => Some((name, ports)),
                Err(error) => {
                    tracing::warn!(gateway = %key, %error, "no proxy can be run for it");
                    None
                }
            })
            .collect();
        let known: BTreeSet<GatewayName> =
            self.sockets.keys().cloned().chain(std::mem::take(&mut self.left_over)).collect();
        for gateway in known {
            if !self.desired.contains_key(&gateway) {
                self.stop(&gateway);
            }
        }
        self.round().await;
    }

    /// Sees to every Gateway once.
    async fn round(&mut self) {
        let gateways: Vec<(GatewayName, ApiPorts)> =
            self.desired.iter().map(|(name, ports)| (name.clone(), ports.clone())).collect();
        for (gateway, ports) in gateways {
            if self.draining.contains(&gateway) {
                continue;
            }
            // A Gateway without a usable listener gets no proxy, and keeps the one it has.
            if ports.is_empty() && !self.sockets.contains_key(&gateway) {
                continue;
            }
            self.place(&gateway, &ports).await;
            if let Err(error) = self.open_socket(&gateway) {
                tracing::error!(%gateway, %error, "its proxy cannot be served; trying again");
                continue;
            }
            match self.fleet.ensure(&gateway) {
                Ok(Ensured::Started { pid }) => tracing::info!(%gateway, pid, "proxy started"),
                Ok(Ensured::Attached { pid }) => tracing::info!(%gateway, pid, "attached to a running proxy"),
                Ok(Ensured::Running { .. } | Ensured::Waiting { .. } | Ensured::NotStarted) => {}
                Err(error) => tracing::error!(%gateway, %error, "its proxy cannot be started; trying again"),
            }
        }
    }

    /// Binds the Gateway's ports and waits until that is published.
    async fn place(&mut self, gateway: &GatewayName, wanted: &ApiPorts) {
        let wanted: Vec<_> = wanted.iter().copied().collect();
        let assigned = self.ports.assign(gateway, &wanted);
        let ports = assigned.into_iter().map(|(port, bound)| {
            (port, bound.map(|address| vec![address]).map_err(|error| error.to_string()))
        });
        let ready = host::status(&self.paths.gateway(gateway)).ready || self.was_ready(gateway);
        let placement = Placement { ready, ..Placement::bound(ports) };
        if self.placed.get(gateway) == Some(&placement) {
            return;
        }
        for ((port, _), unavailable) in &placement.ports {
            if let Err(why) = unavailable {
                tracing::warn!(%gateway, port, "its port is not bound, and is tried again: {why}");
            }
        }
        if let Err(error) = self.ports.save(&self.ports_file) {
            tracing::warn!(%error, "a restart may choose other ports");
        }
        self.placed.insert(gateway.clone(), placement.clone());
        let key = object_key(gateway);
        // The core ends only when we all do.
        let _ = self.handle.ask(move |core| core.place(&key, placement)).await;
    }

    fn was_ready(&self, gateway: &GatewayName) -> bool {
        self.placed.get(gateway).is_some_and(|placement| placement.ready)
    }

    fn open_socket(&mut self, gateway: &GatewayName) -> Result<(), FileError> {
        if self.sockets.contains_key(gateway) {
            return Ok(());
        }
        let listener = listen_private(&self.paths.xds_socket(gateway))?;
        let close = CancellationToken::new();
        let (server, name, until) = (self.server.clone(), gateway.clone(), close.clone());
        self.serving.spawn(async move {
            if let Err(error) = server.serve_unix(listener, name.key().clone(), until).await {
                tracing::error!(gateway = %name, %error, "its xDS socket broke");
            }
        });
        self.sockets.insert(gateway.clone(), close);
        Ok(())
    }

    fn stop(&mut self, gateway: &GatewayName) {
        if !self.draining.insert(gateway.clone()) {
            return;
        }
        tracing::info!(%gateway, "its Gateway is gone; draining its proxy");
        let (stop, name) = (self.fleet.stop(gateway), gateway.clone());
        self.stopping.push(Box::pin(async move { (name, stop.await) }));
    }

    async fn on_stopped(&mut self, (gateway, result): Stopped) {
        match result {
            Ok(()) => tracing::info!(%gateway, "proxy ended"),
            Err(error) => tracing::error!(%gateway, %error, "its proxy did not end in order"),
        }
        self.draining.remove(&gateway);
        self.placed.remove(&gateway);
        self.ports.release(&gateway);
        if let Some(close) = self.sockets.remove(&gateway) {
            close.cancel();
        }
        let _ = self.handle.forget(object_key(&gateway));
        // It may be wanted again by now.
        self.round().await;
    }

    async fn end(mut self) {
        let all: BTreeSet<GatewayName> = self.fleet.gateways().into_iter().chain(self.left_over).collect();
        for error in self.fleet.stop_all(&all).await {
            tracing::error!(%error, "not ended in order");
        }
        while let Some((gateway, result)) = self.stopping.next().await {
            if let Err(error) = result {
                tracing::error!(%gateway, %error, "not ended in order");
            }
        }
        for close in self.sockets.into_values() {
            close.cancel();
        }
        self.serving.close();
        self.serving.wait().await;
    }
}

fn object_key(gateway: &GatewayName) -> ObjectKey {
    let key = gateway.key();
    ObjectKey::new(Kind::Gateway, key.namespace.clone(), key.name.clone())
}
