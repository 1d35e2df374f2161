//! Accept loops: one task per connection, HTTP/1.1 or HTTP/2 by its first bytes, closed gracefully on stop.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::State;
use super::http::{self, TlsInfo};

/// What a listener's tasks need.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) state: Arc<State>,
    pub(super) stop: CancellationToken,
    pub(super) abort: CancellationToken,
    pub(super) tasks: TaskTracker,
}

/// The next connection, or nothing once the backend stops.
pub(super) async fn accept(listener: &TcpListener, context: &Context) -> Option<TcpStream> {
    loop {
        tokio::select! {
            () = context.stop.cancelled() => return None,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Latency tests must not measure Nagle's algorithm; a socket that refuses is served all the same.
                    stream.set_nodelay(true).ok();
                    return Some(stream);
                }
                Err(error) => {
                    // Out of file descriptors, most likely: give connections a moment to close.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

/// Serves clear-text HTTP until the backend stops.
pub(super) async fn clear_text(listener: TcpListener, context: Context) {
    while let Some(stream) = accept(&listener, &context).await {
        context.tasks.spawn(connection(stream, None, context.clone()));
    }
}

/// Serves HTTP over TLS until the backend stops.
pub(super) async fn over_tls(listener: TcpListener, acceptor: TlsAcceptor, context: Context) {
    while let Some(stream) = accept(&listener, &context).await {
        let acceptor = acceptor.clone();
        let connection_context = context.clone();
        context.tasks.spawn(async move {
            let handshake = connection_context.abort.run_until_cancelled(acceptor.accept(stream)).await;
            match handshake {
                Some(Ok(stream)) => {
                    let info = TlsInfo::of(stream.get_ref().1);
                    connection(stream, Some(Arc::new(info)), connection_context).await;
                }
                Some(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                None => {}
            }
        });
    }
}

async fn connection<S>(stream: S, tls: Option<Arc<TlsInfo>>, context: Context)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(|request| {
        let (state, tls, tasks) = (context.state.clone(), tls.clone(), context.clone());
        async move { Ok::<_, Infallible>(http::answer(request, &state, tls.as_deref(), &tasks).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http2().max_header_list_size(256 * 1024).max_concurrent_streams(1000);
    let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let mut stopping = false;
    loop {
        tokio::select! {
            result = serving.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error, "connection ended");
                }
                return;
            }
            () = context.stop.cancelled(), if !stopping => {
                stopping = true;
                serving.as_mut().graceful_shutdown();
            }
            () = context.abort.cancelled() => return,
        }
    }
}
