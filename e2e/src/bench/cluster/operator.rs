//! `portolan operator` as a process, and what it says of itself.

use std::{
    fs::{self, File},
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tempfile::TempDir;

use super::BenchError;
use crate::bench::child::Measured;

const PATIENCE: Duration = Duration::from_mins(2);

/// The file that holds resolving still, where the binary knows it.
const HOLD: &str = "hold";

/// See the module. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Operator {
    pub(super) child: Measured,
    admin: SocketAddr,
    pub(super) xds: SocketAddr,
    /// Removed after the process has ended: fields are dropped in this order.
    folder: TempDir,
}

/// Its metrics at one time.
#[derive(Debug, Clone)]
pub(super) struct Metrics(String);

impl Operator {
    /// Starts one on the API server that $KUBECONFIG names; on these processors only, if any are named.
    pub(super) fn start(binary: &Path, namespace: &str, cpus: Option<&str>) -> Result<Self, BenchError> {
        let start = |why: String| BenchError::Start { what: "portolan operator", why };
        let folder = TempDir::with_prefix("portolan-bench-")?;
        // Free a moment ago; held at the same time, so that they are two.
        let free = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [admin, xds] = free.each_ref().map(TcpListener::local_addr);
        let (admin, xds) = (admin?, xds?);
        drop(free);
        let child = Measured::start(binary, cpus, folder.path().join("log"), |command| {
            command
                .args([
                    "operator",
                    "--namespace",
                    namespace,
                    "--name",
                    "bench",
                    "--peer-address",
                    "127.0.0.1",
                ])
                .args(["--admin", &admin.to_string(), "--xds", &xds.to_string()])
                .env("PORTOLAN_HOLD_RESOLVING", folder.path().join(HOLD));
        });
        let child = child.map_err(|error| start(error.to_string()))?;
        Ok(Self { child, admin, xds, folder })
    }

    /// Its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is ready; gives when it was.
    pub(super) async fn ready(&mut self) -> Result<Instant, BenchError> {
        loop {
            if let Some((200, _)) = self.ask("/readyz").await {
                return Ok(Instant::now());
            }
            self.wait_more("it is ready").await?;
        }
    }

    /// Waits until it leads: it writes statuses then.
    pub(super) async fn leads(&mut self) -> Result<(), BenchError> {
        loop {
            let status = self.ask("/status").await.map(|(_, body)| body).unwrap_or_default();
            let status: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
            if status["leads"] == true {
                return Ok(());
            }
            self.wait_more("it leads").await?;
        }
    }

    async fn wait_more(&mut self, of: &str) -> Result<(), BenchError> {
        if let Some(why) = self.child.ended()? {
            return Err(BenchError::Ended { what: "portolan operator", why });
        }
        if self.child.started.elapsed() > PATIENCE {
            let of = format!("{of}; the end of the operator's log:\n{}", self.child.log());
            return Err(BenchError::Late { of, seconds: PATIENCE.as_secs() });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(())
    }

    async fn ask(&self, path: &str) -> Option<(u16, String)> {
        let client: Client<_, Empty<hyper::body::Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.get(format!("http://{}{path}", self.admin).parse().ok()?).await.ok()?;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.ok()?.to_bytes();
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    }

    /// Holds its resolving still, if it is built with fail points, until [`Operator::release`].
    pub(super) fn hold(&self) -> io::Result<()> {
        File::create(self.folder.path().join(HOLD)).map(drop)
    }

    /// Ends that.
    pub(super) fn release(&self) -> io::Result<()> {
        fs::remove_file(self.folder.path().join(HOLD))
    }

    /// Its metrics now.
    pub(super) async fn metrics(&self) -> Result<Metrics, BenchError> {
        let answer = self.ask("/metrics").await;
        answer.map(|(_, text)| Metrics(text)).ok_or_else(|| BenchError::Ended {
            what: "portolan operator",
            why: format!("its metrics cannot be read\n{}", self.child.log()),
        })
    }

    /// Ends it in order, so that the next one gets the Lease at once.
    pub(super) async fn stop(self) -> Result<(), BenchError> {
        let stopped = self.child.stop().await;
        stopped.map_err(|error| BenchError::Ended { what: "portolan operator", why: error.to_string() })
    }
}

impl Metrics {
    /// The sum of all series of this name that have this label value; with an empty value, of all.
    pub(super) fn sum(&self, name: &str, label: &str) -> f64 {
        let series = self.0.lines().filter_map(|line| line.rsplit_once(' '));
        let wanted = series.filter(|(series, _)| {
            series.split('{').next() == Some(name) && (label.is_empty() || series.contains(label))
        });
        // The sum of nothing would be -0.
        wanted.filter_map(|(_, value)| value.parse::<f64>().ok()).fold(0.0, |sum, value| sum + value)
    }

    /// How many units were resolved so far.
    pub(super) fn units(&self) -> f64 {
        self.sum("portolan_resolve_units_total", "")
    }

    /// Seconds between responses and the proxies' answers so far.
    pub(super) fn answering(&self) -> f64 {
        self.sum("portolan_xds_sent_to_answer_seconds_sum", "")
    }
}
