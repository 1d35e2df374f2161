//! Envoy's admin interface over its Unix socket: readiness, a few figures, and draining.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::unix_http;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why Envoy's admin interface gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("Envoy's admin interface at {} does not answer {path}: {reason}", socket.display())]
pub struct AdminError {
    /// The Unix socket.
    pub socket: PathBuf,
    /// What was asked.
    pub path: String,
    /// What went wrong.
    pub reason: String,
}

/// A client of one Envoy's admin interface. Each request is a connection of its own, so Envoy may come and go.
#[derive(Debug, Clone)]
pub struct Admin {
    socket: PathBuf,
}

impl Admin {
    /// A client of the interface at that Unix socket.
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Sends a request and reads all of the answer.
    ///
    /// # Errors
    /// Where Envoy does not listen, or does not answer within some seconds.
    pub async fn request(&self, method: Method, path: &str) -> Result<(StatusCode, Bytes), AdminError> {
        let error =
            |reason: String| AdminError { socket: self.socket.clone(), path: path.to_owned(), reason };
        unix_http::request(&self.socket, method, path, TIMEOUT).await.map_err(error)
    }

    /// Whether Envoy is live: it has its first configuration and accepts connections.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn ready(&self) -> Result<bool, AdminError> {
        Ok(self.request(Method::GET, "/ready").await?.0 == StatusCode::OK)
    }

    /// The counters and gauges whose names match a regular expression.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>, AdminError> {
        let (_, body) = self.request(Method::GET, &format!("/stats?filter={}", encode(filter))).await?;
        Ok(figures(&String::from_utf8_lossy(&body)))
    }

    /// Whether the stream to the control plane is up; nothing where Envoy does not say (no control plane is
    /// configured, or its statistics leave `control_plane.connected_state` out).
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn connected(&self) -> Result<Option<bool>, AdminError> {
        let stats = self.stats("^control_plane\\.connected_state$").await?;
        Ok(stats.get("control_plane.connected_state").map(|&value| value > 0))
    }

    /// What clients hold open.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn open(&self) -> Result<Open, AdminError> {
        let filter = "^listener\\..*\\.downstream_cx_active$|^http\\..*\\.downstream_(cx|rq)_active$|^udp\\..*sess_active$|^server\\.total_connections$";
        Ok(Open::of(&self.stats(filter).await?))
    }

    /// Fails health checks and asks clients to leave: `Connection: close` and GOAWAY with each answer. Listeners stay open.
    ///
    /// # Errors
    /// Where it does not answer.
    pub async fn drain(&self) -> Result<(), AdminError> {
        for path in ["/healthcheck/fail", "/drain_listeners?graceful&skip_exit"] {
            let (status, body) = self.request(Method::POST, path).await?;
            if !status.is_success() {
                let reason = format!("{status}: {}", String::from_utf8_lossy(&body).trim());
                return Err(AdminError { socket: self.socket.clone(), path: path.to_owned(), reason });
            }
        }
        Ok(())
    }
}

/// `name: number` lines; histograms and texts are left out.
fn figures(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// What clients hold open at a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Connections and UDP sessions.
    pub connections: u64,
    /// Those of them that somebody waits on: all but HTTP connections without a request.
    pub busy: u64,
}

impl Open {
    fn of(stats: &BTreeMap<String, u64>) -> Self {
        let connections = open_connections(stats);
        let http = |end: &str| -> u64 {
            let own = stats.iter().filter(|(name, _)| {
                name.starts_with("http.") && !name.starts_with("http.admin.") && name.ends_with(end)
            });
            own.map(|(_, value)| *value).sum()
        };
        let idle = http(".downstream_cx_active").saturating_sub(http(".downstream_rq_active"));
        Self { connections, busy: connections.saturating_sub(idle) }
    }
}

/// Connections of all listeners but the admin's, and sessions of UDP proxies. `server.total_connections` stands in where
/// a statistics allow-list leaves listeners out: Envoy refreshes it only every few seconds.
fn open_connections(stats: &BTreeMap<String, u64>) -> u64 {
    let listeners: Vec<u64> = stats
        .iter()
        .filter(|(name, _)| {
            name.starts_with("listener.")
                && name.ends_with(".downstream_cx_active")
                && !name.starts_with("listener.admin.")
                && !name.contains(".worker_")
        })
        .map(|(_, value)| *value)
        .collect();
    let connections = if listeners.is_empty() {
        stats.get("server.total_connections").copied().unwrap_or_default()
    } else {
        listeners.iter().sum()
    };
    let sessions: u64 =
        stats.iter().filter(|(name, _)| name.starts_with("udp.")).map(|(_, value)| *value).sum();
    connections + sessions
}

fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(["%".to_owned(), format!("{byte:02X}")]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_are_counted() {
        let text = "http.s.downstream_cx_active: 9\nlistener.127.0.0.1_80.downstream_cx_active: 2\n\
                    listener.127.0.0.1_80.worker_0.downstream_cx_active: 2\nlistener.[__1]_80.downstream_cx_active: 1\n\
                    listener.admin.downstream_cx_active: 1\nlistener.admin.main_thread.downstream_cx_active: 1\n\
                    udp.x.downstream_sess_active: 4\nserver.total_connections: 77\nh: P0(nan,1)\n";
        let mut stats = figures(text);
        assert_eq!(open_connections(&stats), 2 + 1 + 4);
        stats.retain(|name, _| !name.starts_with("listener.127") && !name.starts_with("listener.["));
        assert_eq!(open_connections(&stats), 77 + 4);
    }

    #[test]
    fn an_http_connection_without_a_request_keeps_nobody() {
        let open = |text: &str| Open::of(&figures(text));
        let two = "listener.127.0.0.1_80.downstream_cx_active: 2\n";
        let idle = "http.80.downstream_cx_active: 2\nhttp.80.downstream_rq_active: 0\n";
        assert_eq!(open(&format!("{two}{idle}")), Open { connections: 2, busy: 0 });
        let asking = "http.80.downstream_cx_active: 2\nhttp.80.downstream_rq_active: 1\n";
        assert_eq!(open(&format!("{two}{asking}")), Open { connections: 2, busy: 1 });
        // TCP connections are none of HTTP's; of many requests on one connection one is enough.
        assert_eq!(open(two), Open { connections: 2, busy: 2 });
        let many = "http.80.downstream_cx_active: 2\nhttp.80.downstream_rq_active: 9\nhttp.admin.downstream_cx_active: 1\n";
        assert_eq!(open(&format!("{two}{many}")), Open { connections: 2, busy: 2 });
    }

    #[test]
    fn filters_are_encoded() {
        assert_eq!(encode("^a\\.b|c$"), "%5Ea%5C.b%7Cc%24");
    }

    #[tokio::test]
    async fn an_absent_envoy_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Admin::new(&folder.path().join("none.sock")).ready().await.unwrap_err().to_string();
        assert!(error.contains("none.sock") && error.contains("/ready"), "{error}");
    }
}
