//! A real API server for tests, and a network in front of it that a test can break.
//!
//! A test that may share one uses [`ApiServer::shared`] with a namespace of its own. One that installs and removes CRDs,
//! or restarts the server, starts its own with [`ApiServer::own`].

// A failure of a test's own tools fails the test; clippy knows only the test functions themselves as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)]

mod fleets;
mod front;
mod gate;
mod objects;
mod replica;
mod turn;
mod wait;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::sync::OnceCell;

pub use fleets::{FleetRig, settings, version};
pub use front::Front;
pub use gate::Gate;
pub use objects::{Objects, documents};
pub use replica::Replica;
pub use turn::Turn;
pub use wait::{DEADLINE, until};

/// An API server.
#[derive(Debug)]
pub struct ApiServer {
    kubeconfig: PathBuf,
    /// The name of the instance that is ours to end.
    own: Option<String>,
}

/// The folder of the Gateway API's CRDs, of a channel.
pub fn crds(channel: &str) -> PathBuf {
    root().join("config/crd/gateway-api").join(channel)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs hack/cluster and gives what it prints.
fn script(arguments: &[&str]) -> String {
    let script = root().join("hack/cluster");
    let done = Command::new(&script).args(arguments).output();
    let done = done.unwrap_or_else(|error| panic!("{} does not run: {error}", script.display()));
    assert!(
        done.status.success(),
        "hack/cluster {arguments:?} failed:\n{}",
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8(done.stdout).expect("hack/cluster prints text")
}

/// The kubeconfig that `hack/cluster env` names.
fn kubeconfig_of(name: &str) -> PathBuf {
    let printed = script(&["env", "--api-only", "--name", name]);
    let named = printed.split_whitespace().find_map(|word| word.strip_prefix("KUBECONFIG="));
    named.unwrap_or_else(|| panic!("hack/cluster env names no KUBECONFIG:\n{printed}")).into()
}

impl ApiServer {
    /// The one that $KUBECONFIG names, else one of hack/cluster that stays up for the next run. The Gateway API's CRDs are
    /// installed in it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ApiServer> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                let given = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty());
                let server = if let Some(path) = given {
                    Self { kubeconfig: path.into(), own: None }
                } else {
                    script(&["up", "--api-only", "--name", "tests"]);
                    Self { kubeconfig: kubeconfig_of("tests"), own: None }
                };
                // Applying what is there already changes nothing, so that tests of several processes may do it at once.
                server.objects().await.install(&crds("experimental")).await;
                server
            })
            .await
    }

    /// A fresh one, without CRDs, that ends with this value.
    pub fn own(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        script(&["up", "--api-only", "--name", &name]);
        Self { kubeconfig: kubeconfig_of(&name), own: Some(name) }
    }

    /// Kills the API server of one's own and starts it again.
    pub fn restart(&self) {
        let name = self.own.as_ref().expect("only an API server of one's own may be restarted");
        // hack/cluster keeps the process ids beside the kubeconfig.
        let folder = self.kubeconfig.parent().unwrap();
        let pid = std::fs::read_to_string(folder.join("run/kube-apiserver.pid")).unwrap();
        let pid = pid.split_whitespace().next().unwrap().parse().unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        script(&["up", "--api-only", "--name", name]);
    }

    /// Runs kubectl as its administrator, in the project's folder: what it prints, or what it complains of.
    ///
    /// # Errors
    /// Where kubectl fails.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        // hack/cluster brings its own, and says where; whoever has a cluster has one.
        let folder = std::fs::read_to_string(self.kubeconfig.with_file_name("kubectl-folder"));
        let program = Path::new(folder.as_deref().unwrap_or_default().trim()).join("kubectl");
        let done = Command::new(&program)
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .current_dir(root())
            .output()
            .unwrap_or_else(|error| panic!("{} does not run: {error}", program.display()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if done.status.success() { Ok(text(&done.stdout)) } else { Err(text(&done.stderr)) }
    }

    /// The kubeconfig of its administrator.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// What is in the kubeconfig.
    pub fn configuration(&self) -> Kubeconfig {
        Kubeconfig::read_from(&self.kubeconfig).unwrap()
    }

    /// The kubeconfig of a ServiceAccount that may do what these rules of a ClusterRole say.
    pub async fn account(&self, namespace: &str, rules: &str) -> Kubeconfig {
        let name = format!("account-{namespace}");
        self.objects()
            .await
            .apply(&format!(
                r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {name}}}
rules: {rules}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}]
"
            ))
            .await;
        self.account_named(namespace, &name).await
    }

    /// The kubeconfig of a ServiceAccount that may do what is bound to it otherwise; it is made where it is missing.
    pub async fn account_named(&self, namespace: &str, name: &str) -> Kubeconfig {
        let objects = self.objects().await;
        objects
            .apply(&format!(
                "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: {name}, namespace: {namespace}}}}}"
            ))
            .await;
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let body = r#"{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}"#;
        let request = http::Request::post(path).header("content-type", "application/json");
        let request = request.body(body.as_bytes().to_vec()).unwrap();
        let answer: serde_json::Value = objects.client().request(request).await.unwrap();
        let token = answer["status"]["token"].as_str().expect("a token").to_owned();
        let mut kubeconfig = self.configuration();
        let user = serde_json::json!({"token": token});
        kubeconfig.auth_infos[0].auth_info = Some(serde_json::from_value(user).unwrap());
        kubeconfig
    }

    /// The kubeconfig of an account of this namespace that has the shipped roles, as if Portolan were installed there under the
    /// namespace's name.
    pub async fn with_shipped_roles(&self, namespace: &str) -> Kubeconfig {
        let objects = self.objects().await;
        for file in ["operator.yaml", "fleets.yaml", "secrets.yaml"] {
            let text = std::fs::read_to_string(root().join("config/rbac").join(file)).unwrap();
            let text = text
                .replace("namespace: portolan-system", &format!("namespace: {namespace}"))
                .replace("name: portolan", &format!("name: {namespace}"));
            objects.apply(&text).await;
        }
        // Without a rule of its own: it has what the bindings above give it.
        self.account_named(namespace, namespace).await
    }

    /// A client of its administrator.
    pub async fn client(&self) -> Client {
        client(self.configuration()).await
    }

    /// Reads and writes objects as its administrator.
    pub async fn objects(&self) -> Objects {
        Objects::new(self.client().await)
    }

    /// The same API server behind a network that can be broken, and the kubeconfig to reach it.
    pub async fn behind_a_gate(&self) -> (Gate, Kubeconfig) {
        let gate = self.gate_at("127.0.0.1:0".parse().unwrap()).await;
        let kubeconfig = self.kubeconfig_at(gate.address());
        (gate, kubeconfig)
    }

    /// A gate to it at an address of its own.
    pub async fn gate_at(&self, address: SocketAddr) -> Gate {
        let server = server_of(&self.configuration());
        Gate::open(address, server.authority().unwrap().to_string()).await
    }

    /// The kubeconfig of its administrator, for a gate at this address.
    pub fn kubeconfig_at(&self, address: SocketAddr) -> Kubeconfig {
        let mut kubeconfig = self.configuration();
        let server = server_of(&kubeconfig);
        let cluster = kubeconfig.clusters[0].cluster.as_mut().unwrap();
        cluster.tls_server_name = Some(server.host().unwrap().to_owned());
        cluster.server = Some(format!("https://{address}"));
        kubeconfig
    }
}

/// Where an API server is.
fn server_of(kubeconfig: &Kubeconfig) -> http::Uri {
    kubeconfig.clusters[0].cluster.as_ref().unwrap().server.as_ref().unwrap().parse().unwrap()
}

/// A client with this kubeconfig.
pub async fn client(kubeconfig: Kubeconfig) -> Client {
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(name) = &self.own {
            // A failing test says more than a failing end.
            let down = Command::new(root().join("hack/cluster"))
                .args(["down", "--api-only", "--name", name])
                .output();
            if let Err(error) = down {
                tracing::error!(%error, "hack/cluster down does not run");
            }
        }
    }
}
