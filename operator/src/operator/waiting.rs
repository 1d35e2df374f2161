//! Waiting for an API server that cannot be used yet: unreachable, or not yet willing.
//!
//! An operator often starts before its API server answers, or before its roles are bound. It waits then, and says what for:
//! in its log, and at `/readyz`. It is healthy meanwhile: a restart would not help.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Router, http::StatusCode, response::IntoResponse as _, routing::get};
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{OperatorError, Options};
use crate::{
    fleet::backoff::{Backoff, jitter},
    identity::{Keeper, KeeperError},
    source::kubernetes::chain,
};

/// How long one try may take.
const TRY: Duration = Duration::from_secs(20);
/// The wait after the first failure.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(15);

/// Opens the keeper of the authorities as soon as the API server at `server` lets it. This is the first thing that is
/// asked of it. Answers at `listener` from the first failure on, and no longer when this returns.
///
/// # Errors
/// Where waiting does not help: the Secret is damaged.
pub(super) async fn open(
    client: &Client,
    server: &str,
    options: &Options,
    listener: TcpListener,
) -> Result<(Keeper, TcpListener), OperatorError> {
    let system = |source| OperatorError::System { what: "a socket", source };
    let mut backoff = Backoff::new(FIRST, LONGEST);
    let mut desk: Option<Desk> = None;
    loop {
        let host = &options.installation.xds_host;
        let opening = Keeper::open(client.clone(), &options.namespace, host);
        let why = match tokio::time::timeout(TRY, opening).await {
            Ok(Ok(keeper)) => {
                if desk.is_some() {
                    tracing::info!(%server, "the API server answers; going on");
                }
                return Ok((keeper, listener));
            }
            Ok(Err(error @ (KeeperError::Api { .. } | KeeperError::Races { .. }))) => chain(&error),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => format!("no answer for {} s", TRY.as_secs()),
        };
        let wait = backoff.fail(jitter());
        let next = format!("{} s", wait.as_secs_f32().round().max(1.0));
        tracing::warn!(%server, error = %why, %next, "the API server cannot be used yet; waiting");
        let told = format!("waiting for the API server at {server}: {why}");
        match &desk {
            Some(desk) => desk.tell(told),
            None => desk = Some(Desk::open(&listener, told).map_err(system)?),
        }
        tokio::time::sleep(wait).await;
    }
}

/// Who answers meanwhile. Ends with this value.
struct Desk {
    why: Arc<Mutex<String>>,
    _end: DropGuard,
}

impl Desk {
    fn open(listener: &TcpListener, why: String) -> io::Result<Self> {
        // The same socket, so that nobody is refused when the other one takes over.
        let socket = TcpListener::from_std(rustix::io::dup(listener)?.into())?;
        let why = Arc::new(Mutex::new(why));
        let shown = Arc::clone(&why);
        let not_ready = async move || {
            let why = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
        };
        let router = Router::new().route("/healthz", get(async || "ok\n")).fallback(not_ready);
        let end = CancellationToken::new();
        let serving = axum::serve(socket, router).with_graceful_shutdown(end.clone().cancelled_owned());
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the admin endpoint broke");
            }
        });
        Ok(Self { why, _end: end.drop_guard() })
    }

    fn tell(&self, why: String) {
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}
