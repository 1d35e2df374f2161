//! A proxy as it is in a pod: `portolan proxy` with the files that the kubelet would mount.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};

use portolan::fleet::cluster::Identity;
use tempfile::TempDir;

use super::{Ask, Target, binary};

/// A folder as the kubelet keeps it for a Secret: files are links through `..data`, which is replaced as a whole.
#[derive(Debug)]
pub struct Mounted(TempDir, u32);

impl Mounted {
    /// With these files.
    pub fn new(identity: &Identity) -> Self {
        let mut mounted = Self(tempfile::tempdir().unwrap(), 0);
        mounted.write(identity);
        for file in ["tls.crt", "tls.key", "ca.crt"] {
            symlink(Path::new("..data").join(file), mounted.0.path().join(file)).unwrap();
        }
        mounted
    }

    /// Renews the files, all at once.
    pub fn write(&mut self, identity: &Identity) {
        self.1 += 1;
        let name = format!("..turn-{}", self.1);
        let folder = self.0.path().join(&name);
        std::fs::create_dir(&folder).unwrap();
        for (file, text) in [
            ("tls.crt", &identity.certificate),
            ("tls.key", &identity.key),
            ("ca.crt", &identity.authorities),
        ] {
            std::fs::write(folder.join(file), text).unwrap();
        }
        let link = self.0.path().join("..data_tmp");
        symlink(&name, &link).unwrap();
        std::fs::rename(&link, self.0.path().join("..data")).unwrap();
    }
}

/// `portolan proxy` as a pod runs it. Dropping it ends it and its Envoy.
#[derive(Debug)]
pub struct PodProxy {
    child: Child,
    state: PathBuf,
    pod: SocketAddr,
    _folder: TempDir,
}

impl PodProxy {
    /// For a Gateway, `<namespace>/<name>`, with the control plane at a host and port, and more arguments.
    pub fn start(gateway: &str, xds: &str, mounted: &Mounted, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let written = folder.path().join("proxy");
        let pod = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(binary::portolan())
            .arg("proxy")
            .arg(format!("--gateway={gateway}"))
            .arg(format!("--xds-address={xds}"))
            .arg(format!("--identity={}", mounted.0.path().display()))
            .arg(format!("--state-dir={}", written.display()))
            .arg(format!("--pod-port={}", pod.port()))
            .args(["--drain-time=20", "--max-detached=0", "--concurrency=1"])
            .args(arguments)
            .env("PORTOLAN_POD_NAME", "web-1")
            .env("PORTOLAN_MEMORY_LIMIT", "1073741824")
            .env("PORTOLAN_ENVOY", binary::envoy())
            .spawn()
            .unwrap();
        Self { child, state: written, pod, _folder: folder }
    }

    /// The folder of its state.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Asks its probes and statistics: the status code, 0 where nothing answers, and the body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        match Target::http(self.pod).try_ask(&Ask::get("pod", path)).await {
            Ok(answer) => (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
            Err(_) => (0, String::new()),
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for PodProxy {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            // A second signal ends it at once.
            self.signal(rustix::process::Signal::TERM);
            self.signal(rustix::process::Signal::TERM);
            let _ = self.child.wait();
        }
    }
}
