//! A control plane in this process, as an operator has it: a core, and the xDS port with mutual TLS. What an API server would
//! tell it is given as YAML.

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

use std::{net::SocketAddr, sync::Arc, time::Instant};

use jiff::Timestamp;
use portolan::{
    fleet::{GatewayName, cluster::Identity},
    identity::Authorities,
    metrics::Metrics,
    model::{Kind, Object, ObjectKey, parse},
    resolve::{Environment, Placement},
    runtime::{self, Handle, KeepNothing},
    source::Batch,
};
use portolan_xds::ads::{AdsServer, ServerConfig, SharedRegistry};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// The trust domain of every stage.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// The name by which proxies reach a stage, and that its certificate has.
pub const HOST: &str = "localhost";

/// See the module. Ends with this value.
#[derive(Debug)]
pub struct Stage {
    /// The core.
    pub handle: Handle,
    /// Who signs.
    pub authorities: Authorities,
    port: Port,
    registry: Arc<SharedRegistry>,
}

/// The xDS port while it is open.
#[derive(Debug)]
struct Port {
    address: SocketAddr,
    configs: watch::Sender<Arc<rustls::ServerConfig>>,
    close: CancellationToken,
    serving: JoinHandle<()>,
}

impl Stage {
    /// With these objects; every Gateway's ports are bound on `bind` as they are.
    pub async fn start(manifests: &str, bind: std::net::IpAddr) -> Self {
        let environment = Environment::default();
        let (handle, _) =
            runtime::start(Arc::new(Metrics::default()), Box::new(KeepNothing), environment).unwrap();
        handle
            .changes(Batch { changes: objects(manifests), problems: Vec::new(), seen: Instant::now() })
            .unwrap();
        handle.synced().unwrap();
        handle.ask(|_| ()).await.unwrap();
        let wanted = handle.wanted().borrow().clone();
        for (gateway, ports) in wanted {
            let bound = ports.into_iter().map(|port| (port, Ok(vec![SocketAddr::new(bind, port.0)])));
            handle.placed(gateway, Some(Placement::bound(bound))).unwrap();
        }
        handle.ask(|_| ()).await.unwrap();
        let authorities = Authorities::new(Timestamp::now()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, registry) = open(&handle, listener, &authorities);
        Self { handle, authorities, port, registry }
    }

    /// Where the xDS port is.
    pub fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Who is connected.
    pub fn registry(&self) -> &SharedRegistry {
        &self.registry
    }

    /// A certificate for the proxies of a Gateway.
    pub fn identity(&self, gateway: &str) -> Identity {
        let gateway: GatewayName = gateway.parse().unwrap();
        self.authorities.proxy(TRUST_DOMAIN, &gateway, Timestamp::now()).unwrap()
    }

    /// Renews the server's certificate; new connections get it.
    pub fn renew(&self, authorities: &Authorities) {
        self.port.configs.send_replace(authorities.server_config(HOST, Timestamp::now()).unwrap());
    }

    /// Closes the port with all its connections, and opens it again with other authorities, and only these.
    pub async fn move_to(&mut self, authorities: Authorities) {
        let address = self.port.address;
        self.port.close.cancel();
        self.port.serving.abort();
        let listener = loop {
            // The connections of before may still be closing.
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            }
        };
        (self.port, self.registry) = open(&self.handle, listener, &authorities);
        self.authorities = authorities;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.port.close.cancel();
        self.handle.stop();
    }
}

fn open(handle: &Handle, listener: TcpListener, authorities: &Authorities) -> (Port, Arc<SharedRegistry>) {
    let address = listener.local_addr().unwrap();
    let server = AdsServer::new(Arc::clone(handle.hub()), ServerConfig::default());
    let registry = Arc::clone(server.registry());
    let (configs, receiver) = watch::channel(authorities.server_config(HOST, Timestamp::now()).unwrap());
    let close = CancellationToken::new();
    let until = close.clone();
    let serving = tokio::spawn(async move {
        server.serve_tls(listener, receiver, TRUST_DOMAIN, until).await.unwrap();
    });
    (Port { address, configs, close, serving }, registry)
}

fn objects(manifests: &str) -> Vec<(ObjectKey, Option<Object>)> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(manifests).unwrap();
    documents
        .iter()
        .map(|json| {
            let kind = Kind::from_name(json["kind"].as_str().unwrap()).unwrap();
            let object = parse(kind, json).unwrap();
            (object.key().clone(), Some(object))
        })
        .collect()
}
