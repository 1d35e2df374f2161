//! `portolan operator` as a process, as a Deployment would run it.

use std::{
    fs::File,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use kube::config::Kubeconfig;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::until;
use crate::rig::binary::portolan;

/// One replica. Ends with this value.
#[derive(Debug)]
pub struct Replica {
    name: String,
    child: Child,
    admin: SocketAddr,
    xds: SocketAddr,
    folder: TempDir,
}

impl Replica {
    /// Starts one that asks for the Lease in this namespace.
    pub fn start(kubeconfig: &Kubeconfig, namespace: &str, name: &str) -> Self {
        Self::start_with(kubeconfig, namespace, name, &[])
    }

    /// The same, with more arguments.
    pub fn start_with(kubeconfig: &Kubeconfig, namespace: &str, name: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        std::fs::write(&path, serde_json::to_string(kubeconfig).unwrap()).unwrap();
        // Free a moment ago; held at the same time, so that they are two.
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [admin, xds] = free.each_ref().map(|listener| listener.local_addr().unwrap());
        drop(free);
        let log = File::create(folder.path().join("log")).unwrap();
        let child = Command::new(portolan())
            .arg("operator")
            .arg("--kubeconfig")
            .arg(&path)
            .args(["--namespace", namespace, "--name", name, "--admin", &admin.to_string()])
            .args(["--xds", &xds.to_string(), "--peer-address", "127.0.0.1"])
            .args(["--log", "info,portolan=debug"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("portolan starts");
        Self { name: name.to_owned(), child, admin, xds, folder }
    }

    /// Starts one and waits until it is ready.
    pub async fn ready(kubeconfig: &Kubeconfig, namespace: &str, name: &str) -> Self {
        let replica = Self::start(kubeconfig, namespace, name);
        replica.comes_to_be_ready().await;
        replica
    }

    /// Waits until it is ready.
    pub async fn comes_to_be_ready(&self) {
        let ready =
            |answer: &Option<(u16, String)>| answer.as_ref().is_some_and(|(status, _)| *status == 200);
        until("the operator is ready", async || self.ask("/readyz").await, ready).await;
    }

    /// Where its proxies connect.
    pub fn xds(&self) -> SocketAddr {
        self.xds
    }

    /// Asks the admin endpoint; nothing where it does not answer (yet).
    pub async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let client: Client<_, Empty<hyper::body::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.get(format!("http://{}{path}", self.admin).parse().unwrap()).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// The status document.
    pub async fn status(&self) -> Option<Value> {
        let (status, body) = self.ask("/status").await?;
        (status == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    /// Whether it says that it leads.
    pub async fn leads(&self) -> bool {
        self.status().await.is_some_and(|status| status["leads"] == true)
    }

    /// Waits until it leads.
    pub async fn comes_to_lead(&self) {
        until(&format!("{} leads", self.name), async || self.leads().await, |leads| *leads).await;
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends it as a Deployment does, and waits; gives its exit code.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        let ended = until("it ends", async || self.child.try_wait().unwrap(), Option::is_some).await;
        ended.and_then(|status| status.code())
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It has ended: then it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(6_000);
            let from = (from..=log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
            // Nobody reads it: then nobody misses it.
            let _ = writeln!(std::io::stderr(), "log of replica {}:\n{}", self.name, &log[from..]);
        }
    }
}
