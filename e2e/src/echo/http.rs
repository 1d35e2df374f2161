//! What the echo backend answers over HTTP.
//!
//! Every path answers 200 and JSON: `path` (with query), `host`, `method`, `proto`, `headers` (lower-case name →
//! values), `bodyBytes`, `namespace`, `pod`, `instance`, and `tls` on the TLS port: the fields of the Gateway API
//! suite's own backend, and a few more. What changes that:
//!
//! | request | answer |
//! |---|---|
//! | `?delay=500ms` | comes that much later (also `2s`, or bare milliseconds) |
//! | `/status/503` (any path with it as its end) | that status |
//! | `?fail=N&id=U&code=503` | the first N requests of id U get the code (503), later ones 200 |
//! | `X-Echo-Set-Header: a:1, b:2` | those response headers |
//! | `POST …/echo-body` | the request's body, streamed back |
//! | `…/bytes/N` | N bytes of `x` |
//! | POST with a gRPC content type | a gRPC reply, see [`super::grpc`] |
//! | a WebSocket handshake | an echo; the text `?request` is answered with the JSON of the handshake |
//! | `/_count` | requests per path so far, as JSON |
//! | `/_seen?path=/x` | `count` and `requests`: those that arrived for `/x`, with headers |
//! | `/_reset` | forgets counts, requests and failures |

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use bytes::Bytes;
use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;

use super::State;
use super::query::{duration, parameter};
use super::record::Seen;
use super::serve::Context;
use super::{grpc, websocket};

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// One piece of a generated body.
static CHUNK: [u8; 16 * 1024] = [b'x'; 16 * 1024];

/// What a TLS connection agreed on.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsInfo {
    /// Server name (SNI) the client asked for.
    pub server_name: Option<String>,
    /// Protocol chosen by ALPN.
    pub negotiated_protocol: Option<String>,
    /// Such as `TLSv1_3`.
    pub version: Option<String>,
    /// Such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher_suite: Option<String>,
    /// The client's certificates, PEM, its own first.
    pub peer_certificates: Vec<String>,
}

impl TlsInfo {
    pub(super) fn of(connection: &rustls::ServerConnection) -> Self {
        Self {
            server_name: connection.server_name().map(str::to_owned),
            negotiated_protocol: connection
                .alpn_protocol()
                .map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
            version: connection.protocol_version().map(|version| format!("{version:?}")),
            cipher_suite: connection.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite())),
            peer_certificates: connection
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| pem(certificate))
                .collect(),
        }
    }
}

fn pem(der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (index, letter) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    path: &'a str,
    host: &'a str,
    method: &'a str,
    proto: &'a str,
    headers: &'a BTreeMap<String, Vec<String>>,
    body_bytes: u64,
    namespace: &'a str,
    pod: &'a str,
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<&'a TlsInfo>,
}

/// Answers one request.
pub(super) async fn answer(
    request: Request<Incoming>,
    state: &Arc<State>,
    tls: Option<&TlsInfo>,
    context: &Context,
) -> Response<Body> {
    let seen = seen(&request);
    if let Some(answer) = control(&seen, request.uri().query(), state) {
        return answer;
    }
    state.record.add(seen.clone());
    if let Some(delay) = parameter(request.uri().query(), "delay").and_then(|text| duration(&text)) {
        // A client that gives up, or a backend that stops, must not be kept waiting by a test's delay.
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = context.abort.cancelled() => {}
        }
    }
    let status = match asked_status(&request, state) {
        Ok(status) => status,
        Err(problem) => return json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": problem })),
    };
    if grpc::is_call(&request) {
        return grpc::answer(request, &seen, state).await;
    }
    if let Some(key) = websocket::key(&request) {
        let about = describe(&seen, 0, state, tls);
        return websocket::accept(request, &key, about, context);
    }
    let extra = extra_headers(&request);
    let mut response = if seen.path.ends_with("/echo-body") && request.method() == Method::POST {
        echo_body(request)
    } else if let Some(length) = trailing_number(&seen.path, "bytes") {
        generated(length)
    } else {
        let body_bytes = drain(request.into_body()).await;
        respond(StatusCode::OK, describe(&seen, body_bytes, state, tls))
    };
    if let Some(status) = status {
        *response.status_mut() = status;
    }
    for (name, value) in extra {
        response.headers_mut().append(name, value);
    }
    if let Ok(instance) = HeaderValue::from_str(&state.instance) {
        response.headers_mut().insert("x-echo-instance", instance);
    }
    response
}

fn seen(request: &Request<Incoming>) -> Seen {
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in request.headers() {
        if name != hyper::header::HOST {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            headers.entry(name.as_str().to_owned()).or_default().push(value);
        }
    }
    let uri = request.uri();
    let host = match uri.authority() {
        Some(authority) => authority.to_string(),
        None => request
            .headers()
            .get(hyper::header::HOST)
            .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned())
            .unwrap_or_default(),
    };
    Seen {
        path: uri.path().to_owned(),
        uri: uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string),
        host,
        method: request.method().to_string(),
        proto: format!("{:?}", request.version()),
        headers,
    }
}

fn describe(seen: &Seen, body_bytes: u64, state: &State, tls: Option<&TlsInfo>) -> String {
    let answer = Answer {
        path: &seen.uri,
        host: &seen.host,
        method: &seen.method,
        proto: &seen.proto,
        headers: &seen.headers,
        body_bytes,
        namespace: &state.namespace,
        pod: &state.pod,
        instance: &state.instance,
        tls,
    };
    // Strings and maps of strings always serialise.
    serde_json::to_string(&answer).unwrap_or_default()
}

fn control(seen: &Seen, query: Option<&str>, state: &State) -> Option<Response<Body>> {
    match seen.path.as_str() {
        "/_count" => Some(json(StatusCode::OK, &state.record.counts())),
        "/_seen" => {
            let path = parameter(query, "path").unwrap_or_else(|| "/".to_owned());
            let count = state.record.counts().get(&path).copied().unwrap_or_default();
            let requests = state.record.seen(&path);
            Some(json(StatusCode::OK, &serde_json::json!({ "count": count, "requests": requests })))
        }
        "/_reset" => {
            state.record.forget();
            Some(json(StatusCode::OK, &serde_json::json!({})))
        }
        _ => None,
    }
}

/// The status that the request asks for by path or by `fail`, if any.
fn asked_status(request: &Request<Incoming>, state: &State) -> Result<Option<StatusCode>, &'static str> {
    let status = |text: &str| text.parse::<StatusCode>().map_err(|_| "a status code has three digits");
    let query = request.uri().query();
    if let Some(times) = parameter(query, "fail") {
        let times: u64 = times.parse().map_err(|_| "fail takes a number of requests")?;
        let id = parameter(query, "id").ok_or("fail needs an id")?;
        if state.record.attempt(&id) <= times {
            return status(&parameter(query, "code").unwrap_or_else(|| "503".to_owned())).map(Some);
        }
    }
    trailing_number(request.uri().path(), "status").map(|code| status(&code.to_string())).transpose()
}

/// The number of a path that ends in `/<word>/<number>`.
fn trailing_number(path: &str, word: &str) -> Option<u64> {
    let (before, number) = path.rsplit_once('/')?;
    before.ends_with(&format!("/{word}")).then(|| number.parse().ok()).flatten()
}

fn extra_headers(request: &Request<Incoming>) -> Vec<(HeaderName, HeaderValue)> {
    let asked = request.headers().get_all("x-echo-set-header");
    let pairs = asked.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    pairs
        .filter_map(|pair| {
            let (name, value) = pair.split_once(':')?;
            Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
        })
        .collect()
}

fn echo_body(request: Request<Incoming>) -> Response<Body> {
    let content_type = request.headers().get(hyper::header::CONTENT_TYPE).cloned();
    let mut response = Response::new(request.into_body().boxed_unsync());
    if let Some(content_type) = content_type {
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, content_type);
    }
    response
}

fn generated(length: u64) -> Response<Body> {
    let chunks = stream::unfold(length, |left| async move {
        let size = usize::try_from(left).unwrap_or(CHUNK.len()).min(CHUNK.len());
        let piece = CHUNK.get(..size).filter(|piece| !piece.is_empty())?;
        Some((Ok(Frame::data(Bytes::from_static(piece))), left - size as u64))
    });
    Response::new(StreamBody::new(chunks).boxed_unsync())
}

async fn drain(mut body: Incoming) -> u64 {
    let mut total = 0;
    while let Some(Ok(frame)) = body.frame().await {
        total += frame.data_ref().map_or(0, |data| data.len() as u64);
    }
    total
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    respond(status, serde_json::to_string(value).unwrap_or_default())
}

fn respond(status: StatusCode, text: String) -> Response<Body> {
    let mut response =
        Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer without a body.
pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}
