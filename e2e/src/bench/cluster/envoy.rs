//! A real Envoy on the control plane under measurement, with the bootstrap of our fleets.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hyper::Method;
use portolan::fleet::{
    envoy::{Environment, find},
    unix_http,
};
use portolan_xds::bootstrap::{BootstrapConfig, XDS_CLUSTER, XdsEndpoint, bootstrap, secret_files, to_json};
use portolan_xds_proto::envoy::config::{
    bootstrap::v3::Bootstrap,
    core::v3::{Address, SocketAddress, address, socket_address::PortSpecifier},
    endpoint::v3::lb_endpoint::HostIdentifier,
};
use tempfile::TempDir;

use super::{BenchError, access::Access};

/// See the module. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Envoy {
    child: Child,
    folder: TempDir,
}

impl Envoy {
    /// Starts one with one worker.
    pub(super) fn start(access: &Access, gateway: &str) -> Result<Self, BenchError> {
        let start = |why: String| BenchError::Start { what: "Envoy", why };
        let binary = find(None, &Environment::current()).map_err(|error| start(error.to_string()))?;
        let folder = TempDir::with_prefix("portolan-bench-envoy-")?;
        fs::write(folder.path().join("envoy.json"), configuration(access, gateway, folder.path())?)?;
        let child = Command::new(binary)
            .arg("--config-path")
            .arg(folder.path().join("envoy.json"))
            .args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warn"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log"))?)
            .spawn()
            .map_err(|error| start(error.to_string()))?;
        Ok(Self { child, folder })
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks its admin interface.
    pub(super) async fn admin(&mut self, path: &str) -> Result<String, BenchError> {
        let socket = self.folder.path().join("admin");
        let until = Instant::now() + Duration::from_mins(1);
        loop {
            let answer = unix_http::request(&socket, Method::GET, path, Duration::from_mins(1)).await;
            match answer {
                Ok((status, body)) if status.is_success() => {
                    return Ok(String::from_utf8_lossy(&body).into_owned());
                }
                Ok((status, _)) => {
                    return Err(BenchError::Ended { what: "Envoy", why: format!("{path} gives {status}") });
                }
                Err(why) => {
                    if let Some(status) = self.child.try_wait()? {
                        let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
                        return Err(BenchError::Ended { what: "Envoy", why: format!("{status}\n{log}") });
                    }
                    if Instant::now() > until {
                        return Err(BenchError::Ended { what: "Envoy", why });
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// How many clusters it has that came from the control plane and are warm.
    pub(super) async fn clusters(&mut self) -> Result<usize, BenchError> {
        let stats = self.admin("/stats?filter=^cluster_manager.active_clusters$").await?;
        let count = stats.trim().rsplit(' ').next().and_then(|text| text.parse::<usize>().ok());
        let unread =
            || BenchError::Ended { what: "Envoy", why: format!("it does not count clusters: {stats}") };
        // The control plane's own is static.
        Ok(count.ok_or_else(unread)?.saturating_sub(1))
    }

    /// How many series Prometheus would read.
    pub(super) async fn series(&mut self) -> Result<usize, BenchError> {
        let text = self.admin("/stats/prometheus").await?;
        Ok(text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count())
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(access: &Access, gateway: &str, folder: &Path) -> Result<String, BenchError> {
    let unusable = |why: String| BenchError::Start { what: "Envoy", why };
    let xds = match &access.tls {
        // The address takes the place of the socket below.
        None => XdsEndpoint::Unix(folder.join("xds")),
        Some(pems) => {
            for (name, text) in
                [("tls.crt", &pems.certificate), ("tls.key", &pems.key), ("ca.crt", &pems.authorities)]
            {
                fs::write(folder.join(name), text)?;
            }
            for (name, text) in secret_files(folder).map_err(|error| unusable(error.to_string()))? {
                fs::write(folder.join(name), text)?;
            }
            XdsEndpoint::Tls {
                host: access.address.ip().to_string(),
                port: access.address.port(),
                server_name: pems.server_name.clone(),
                secrets: folder.into(),
            }
        }
    };
    let mut made = bootstrap(&BootstrapConfig {
        node_id: access.node_id.clone(),
        node_cluster: gateway.into(),
        admin_socket: folder.join("admin"),
        xds,
        max_heap_bytes: None,
        max_connections: None,
        cluster_stats: false,
    });
    if access.tls.is_none() {
        over_tcp(&mut made, access);
    }
    to_json(&made).map_err(|error| unusable(error.to_string()))
}

/// Puts a TCP address in the place of the control plane's socket.
fn over_tcp(bootstrap: &mut Bootstrap, access: &Access) {
    let address = Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: access.address.ip().to_string(),
            port_specifier: Some(PortSpecifier::PortValue(access.address.port().into())),
            ..SocketAddress::default()
        })),
    };
    let clusters = bootstrap.static_resources.iter_mut().flat_map(|it| &mut it.clusters);
    let ours = clusters.filter(|cluster| cluster.name == XDS_CLUSTER);
    let members = ours.flat_map(|cluster| &mut cluster.load_assignment).flat_map(|it| &mut it.endpoints);
    for member in members.flat_map(|locality| &mut locality.lb_endpoints) {
        if let Some(HostIdentifier::Endpoint(endpoint)) = &mut member.host_identifier {
            endpoint.address = Some(address.clone());
        }
    }
}
