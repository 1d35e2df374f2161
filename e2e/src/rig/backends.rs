//! Echo backends of a world, by name.
//!
//! They live on threads of their own: a world may be shared by tests, and a backend must outlive the one that started it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::echo::cert::Pair;
use crate::echo::{ANY_LOOPBACK, Echo, EchoConfig, TlsConfig};

/// Running echo backends.
#[derive(Debug)]
pub struct Backends {
    ip: IpAddr,
    runtime: Option<Runtime>,
    running: Mutex<BTreeMap<String, Arc<Echo>>>,
    /// Certificates of backends that speak TLS.
    folder: TempDir,
}

impl Default for Backends {
    fn default() -> Self {
        Self::at(ANY_LOOPBACK.ip())
    }
}

impl Backends {
    /// That listen on another address than loopback's.
    pub fn at(ip: IpAddr) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("echo").enable_all().build();
        let folder = tempfile::Builder::new().prefix("portolan-").tempdir().unwrap();
        Self { ip, runtime: Some(runtime.unwrap()), running: Mutex::default(), folder }
    }

    /// Starts a backend, or another one in its place. It answers HTTP, TCP and UDP.
    pub fn start(&self, name: &str) -> SocketAddr {
        self.run(name, None)
    }

    /// The same, which answers over TLS, too: with this certificate, and to clients of this authority only, if one is given (PEM).
    pub fn start_tls(&self, name: &str, pair: &Pair, client_authority: Option<&str>) -> SocketAddr {
        let write = |what: &str, text: &str| {
            let path = self.folder.path().join(format!("{name}-{what}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        let tls = TlsConfig {
            address: SocketAddr::new(self.ip, 0),
            certificate: write("certificate", &pair.certificate),
            key: write("key", &pair.key),
            client_ca: client_authority.map(|authority| write("clients", authority)),
        };
        self.run(name, Some(tls))
    }

    fn run(&self, name: &str, tls: Option<TlsConfig>) -> SocketAddr {
        let runtime = self.runtime.as_ref().expect("not dropped");
        let any = Some(SocketAddr::new(self.ip, 0));
        let config = EchoConfig { http: any, tls, tcp: any, udp: any, ..EchoConfig::http(name) };
        // Blocks a thread of its own: the caller may be inside another runtime.
        let echo = std::thread::scope(|scope| {
            scope.spawn(|| runtime.block_on(Echo::start(config))).join().unwrap().unwrap()
        });
        let address = echo.addresses().http.unwrap();
        self.running.lock().unwrap().insert(name.to_owned(), Arc::new(echo));
        address
    }

    /// A running backend.
    pub fn get(&self, name: &str) -> Arc<Echo> {
        let running = self.running.lock().unwrap();
        running.get(name).unwrap_or_else(|| panic!("no backend is called {name}")).clone()
    }

    /// Where a running backend listens.
    pub fn address(&self, name: &str) -> SocketAddr {
        self.get(name).addresses().http.unwrap()
    }

    /// Ends a backend at once: connections to it are refused from now on.
    pub fn end(&self, name: &str) {
        self.running.lock().unwrap().remove(name);
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.running.lock().unwrap().clear();
        if let Some(runtime) = self.runtime.take() {
            // A runtime that is dropped inside another one panics.
            runtime.shutdown_background();
        }
    }
}

/// An address on loopback where nothing listens, so that connections are refused.
pub fn refusing() -> SocketAddr {
    // Given back at once; the system hands a port out again only after all others.
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
