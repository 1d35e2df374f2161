//! A folder of ordinary manifests: one Gateway, Services with endpoints, and one file per HTTPRoute.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tempfile::TempDir;

/// How hostnames are shared out among routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Hostnames {
    /// Each route has its own.
    Own,
    /// All routes name the same one.
    One,
    /// No route names any.
    None,
}

/// What is in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Load {
    /// HTTPRoutes, one per file.
    pub routes: usize,
    /// Services, with one EndpointSlice each.
    pub services: usize,
    /// Hostnames of the routes.
    pub hostnames: Hostnames,
}

/// A folder with a load in it. It is removed when dropped.
#[derive(Debug)]
pub(super) struct Folder {
    load: Load,
    folder: TempDir,
}

/// An edit of one file, written beside it and not yet in its place.
#[derive(Debug)]
pub(super) struct Staged {
    from: PathBuf,
    to: PathBuf,
    /// A text that the changed route, and nothing else, carries into Envoy's configuration.
    pub(super) marker: String,
}

impl Staged {
    /// Puts the file in its place, atomically.
    pub(super) fn commit(&self) -> io::Result<()> {
        fs::rename(&self.from, &self.to)
    }
}

impl Folder {
    /// Writes all manifests.
    pub(super) fn create(load: Load) -> io::Result<Self> {
        let folder = TempDir::with_prefix("portolan-bench-")?;
        fs::write(folder.path().join("gateway.yaml"), GATEWAY)?;
        let mut services = String::new();
        for service in 0..load.services {
            write_service(&mut services, service);
        }
        fs::write(folder.path().join("services.yaml"), services)?;
        fs::create_dir(folder.path().join("routes"))?;
        let folder = Self { load, folder };
        for index in 0..load.routes {
            fs::write(folder.route_file(index), folder.route(index, "as-created"))?;
        }
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Prepares an edit of one route; successive turns touch routes all over the folder.
    pub(super) fn stage(&self, turn: usize) -> io::Result<Staged> {
        let index = turn * 7919 % self.load.routes;
        let marker = format!("edit-{turn}-of-route-{index}");
        // A hidden file is none of the manifests.
        let from = self.path().join("routes/.staged.yaml");
        fs::write(&from, self.route(index, &marker))?;
        Ok(Staged { from, to: self.route_file(index), marker })
    }

    fn route_file(&self, index: usize) -> PathBuf {
        self.path().join(format!("routes/route-{index:05}.yaml"))
    }

    /// Two rules, a header filter, and a backend that does not exist: the route of gateway-api-bench's probe.
    fn route(&self, index: usize, marker: &str) -> String {
        let hostnames = match self.load.hostnames {
            Hostnames::Own => format!("\n  hostnames:\n  - host-{index:05}.example.com"),
            Hostnames::One => "\n  hostnames:\n  - shared.example.com".to_owned(),
            Hostnames::None => String::new(),
        };
        let service = index % self.load.services;
        format!(
            "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: route-{index:05}
spec:
  parentRefs:
  - name: web{hostnames}
  rules:
  - matches:
    - path:
        type: PathPrefix
        value: /{index}
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier:
        set:
        - name: x-marker
          value: {marker}
    backendRefs:
    - name: backend-{service:05}
      port: 80
  - matches:
    - path:
        type: PathPrefix
        value: /{index}/missing
    backendRefs:
    - name: missing
      port: 80
"
        )
    }
}

const GATEWAY: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata:
  name: portolan
spec:
  controllerName: portolan.dev/gateway-controller
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: web
spec:
  gatewayClassName: portolan
  listeners:
  - name: http
    port: 80
    protocol: HTTP
";

fn write_service(out: &mut String, index: usize) {
    // Writing to a text does not fail.
    let _ = write!(
        out,
        "---
apiVersion: v1
kind: Service
metadata:
  name: backend-{index:05}
spec:
  ports:
  - name: http
    port: 80
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: backend-{index:05}
  labels:
    kubernetes.io/service-name: backend-{index:05}
addressType: IPv4
ports:
- name: http
  port: 8080
endpoints:
- addresses:
  - 10.{}.{}.1
- addresses:
  - 10.{}.{}.2
",
        index / 250,
        index % 250,
        index / 250,
        index % 250,
    );
}
