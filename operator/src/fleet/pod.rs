//! A proxy in a pod: what its environment tells it, and the one port on which the pod is looked at.
//!
//! | path | what |
//! |---|---|
//! | `/ready` | 200 while Envoy has its configuration and serves; 503 and why not, also from the start of a drain |
//! | `/live` | 200 while the supervisor answers; Envoy is the supervisor's business |
//! | `/stats/prometheus` | Envoy's statistics |
//!
//! Nothing else of Envoy's admin interface is reachable: paths are exact, and a query is not passed on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use hyper::Method;
use tokio::{net::TcpListener, sync::watch};

use super::{
    admin::Admin,
    status::{ProxyState, ProxyStatus},
};

/// Whether the pod should get traffic.
pub const READY_PATH: &str = "/ready";
/// Whether the pod should be left alone.
pub const LIVE_PATH: &str = "/live";
/// Envoy's statistics.
pub const METRICS_PATH: &str = "/stats/prometheus";

/// The variable with the pod's name.
pub const NAME: &str = "PORTOLAN_POD_NAME";
/// The variable with the bytes of memory that the pod may use.
pub const MEMORY: &str = "PORTOLAN_MEMORY_LIMIT";
/// The variable with the number of processors that the pod may use.
pub const CONCURRENCY: &str = "PORTOLAN_CONCURRENCY";

/// Envoy sheds load at this share of the memory limit, so that the supervisor and what is no heap have room.
const HEAP_PERCENT: u64 = 80;

/// The bytes of heap at which Envoy sheds load, of the memory that the pod may use.
pub fn max_heap(memory: u64) -> u64 {
    memory / 100 * HEAP_PERCENT
}

/// The most client connections: each may need another one to a backend, and some files are Envoy's own.
pub fn max_connections() -> Option<u64> {
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current?;
    Some((files.saturating_sub(256) / 2).max(1))
}

#[derive(Clone)]
struct Pod {
    status: watch::Receiver<ProxyStatus>,
    admin: Admin,
}

/// Listens on all addresses of the pod, IPv6 ones too where there are any.
///
/// # Errors
/// Where the port is taken.
pub async fn listen(port: u16) -> std::io::Result<TcpListener> {
    let all = |ip: IpAddr| SocketAddr::new(ip, port);
    // Linux takes IPv4 connections there, too. A host without IPv6 refuses it.
    match TcpListener::bind(all(Ipv6Addr::UNSPECIFIED.into())).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(all(Ipv4Addr::UNSPECIFIED.into())).await,
    }
}

/// Answers until it is dropped.
///
/// # Errors
/// Where the socket breaks.
pub async fn serve(
    listener: TcpListener,
    status: watch::Receiver<ProxyStatus>,
    admin: Admin,
) -> std::io::Result<()> {
    let router = Router::new()
        .route(READY_PATH, get(ready))
        .route(LIVE_PATH, get(|| async { "ok\n" }))
        .route(METRICS_PATH, get(metrics))
        .with_state(Pod { status, admin });
    axum::serve(listener, router).await
}

async fn ready(State(pod): State<Pod>) -> Response {
    let status = pod.status.borrow().clone();
    if status.state == ProxyState::Ready {
        return "ok\n".into_response();
    }
    let state = format!("{:?}", status.state).to_lowercase();
    let why = status.message.map_or(state.clone(), |message| format!("{state}: {message}"));
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

async fn metrics(State(pod): State<Pod>) -> Response {
    match pod.admin.request(Method::GET, METRICS_PATH).await {
        Ok((status, body)) => {
            (status, [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body)
                .into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Status and body of what is at a path.
    async fn get(at: SocketAddr, path: &str) -> (u16, String) {
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// An admin interface that answers every path with it.
    fn admin() -> (tempfile::TempDir, Admin) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let echo = Router::new().fallback(|uri: axum::http::Uri| async move { uri.to_string() });
        tokio::spawn(async move { axum::serve(listener, echo).await });
        (folder, Admin::new(&path))
    }

    async fn start(state: ProxyState) -> (SocketAddr, watch::Sender<ProxyStatus>, tempfile::TempDir) {
        let (folder, admin) = admin();
        let status =
            ProxyStatus { state, message: Some("why".to_owned()), ..ProxyStatus::starting("apps/public") };
        let (sender, status) = watch::channel(status);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, status, admin));
        (at, sender, folder)
    }

    #[tokio::test]
    async fn a_pod_is_ready_while_envoy_is() {
        let (at, status, _folder) = start(ProxyState::Starting).await;
        for (state, expected) in [
            (ProxyState::Starting, 503),
            (ProxyState::Ready, 200),
            (ProxyState::NotReady, 503),
            (ProxyState::Restarting, 503),
            (ProxyState::Draining, 503),
        ] {
            status.send_modify(|status| status.state = state);
            let (found, body) = get(at, READY_PATH).await;
            assert_eq!(found, expected, "{state:?}");
            assert_eq!(body.contains("why"), expected != 200, "{body}");
            assert_eq!(get(at, LIVE_PATH).await.0, 200, "{state:?}");
        }
    }

    #[tokio::test]
    async fn only_exact_paths_of_the_admin_interface_are_reachable() {
        let (at, _status, _folder) = start(ProxyState::Ready).await;
        assert_eq!(get(at, "/stats/prometheus").await, (200, "/stats/prometheus".to_owned()));
        assert_eq!(get(at, "/stats/prometheus?filter=.*").await.1, "/stats/prometheus");
        for path in
            ["/", "/config_dump", "/stats", "/stats/prometheus/", "/stats/prometheus/../../quitquitquit"]
        {
            assert_eq!(get(at, path).await.0, 404, "{path}");
        }
    }

    #[tokio::test]
    async fn a_pod_listens_on_ipv4_whatever_the_host_has() {
        let listener = listen(0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    }

    #[test]
    fn the_heap_leaves_room_below_the_memory_limit() {
        assert_eq!(max_heap(100 << 20), 80 << 20);
        assert!(max_connections().unwrap() >= 1);
    }
}
