//! Authorization servers, by gRPC (`envoy.service.auth.v3`) and by HTTP, that decide by what a request says of itself.
//!
//! Both let a request pass whose `x-auth` is `allow`, and tell the backend who it is in `x-user`; both refuse any other, with the
//! status of the header `x-auth-status` (401 by default), a body, and the header `x-refused`. Whom they let pass gets the headers that
//! `x-auth-set` lists, as `name=value,name=value`. What they were asked is kept.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use portolan_xds_proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use portolan_xds_proto::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use portolan_xds_proto::envoy::service::auth::v3::check_response::HttpResponse;
use portolan_xds_proto::envoy::service::auth::v3::{
    CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
use portolan_xds_proto::envoy::r#type::v3::HttpStatus;
use portolan_xds_proto::google::rpc;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::TcpListenerStream;

/// What a server was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// `gRPC` or `HTTP`.
    pub by: &'static str,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Host.
    pub host: String,
    /// Headers, by lower-case name, in order.
    pub headers: Vec<(String, String)>,
    /// The body, as far as it was sent.
    pub body: Bytes,
}

impl Question {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// gRPC's code of a refusal.
const PERMISSION_DENIED: i32 = 7;

type Asked = Arc<Mutex<Vec<Question>>>;

/// Two running servers. They end when this is dropped.
#[derive(Debug)]
pub struct Authorizer {
    runtime: Option<Runtime>,
    asked: Asked,
    /// Where gRPC is answered.
    pub grpc: SocketAddr,
    /// Where HTTP is answered.
    pub http: SocketAddr,
}

impl Authorizer {
    /// Starts both.
    pub fn start() -> Self {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("authorizer").enable_all().build();
        let runtime = runtime.unwrap();
        let asked = Asked::default();
        // Blocks a thread of its own: the caller may be inside another runtime.
        let listen = || async { TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap() };
        let (grpc, http) = std::thread::scope(|scope| {
            let listeners = scope.spawn(|| runtime.block_on(async { (listen().await, listen().await) }));
            listeners.join().unwrap()
        });
        let addresses = (grpc.local_addr().unwrap(), http.local_addr().unwrap());
        let server = AuthorizationServer::new(ByGrpc { asked: asked.clone() });
        runtime.spawn(
            tonic::transport::Server::builder()
                .add_service(server)
                .serve_with_incoming(TcpListenerStream::new(grpc)),
        );
        runtime.spawn(serve_http(http, asked.clone()));
        Self { runtime: Some(runtime), asked, grpc: addresses.0, http: addresses.1 }
    }

    /// The last question about a path that ends so.
    pub fn question(&self, path: &str) -> Option<Question> {
        let asked = self.asked.lock().unwrap();
        asked.iter().rev().find(|question| question.path.ends_with(path)).cloned()
    }

    /// Who was asked about a path that ends so, in order.
    pub fn askers(&self, path: &str) -> Vec<&'static str> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|question| question.path.ends_with(path)).map(|question| question.by).collect()
    }
}

impl Drop for Authorizer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime that is dropped inside another one panics.
            runtime.shutdown_background();
        }
    }
}

/// A refusal: its status. Nothing lets the request pass.
fn refusal(question: &Question) -> Option<u16> {
    let status = question.header("x-auth-status").and_then(|status| status.parse().ok());
    (question.header("x-auth") != Some("allow")).then(|| status.unwrap_or(401))
}

/// What the request wants to be set.
fn wanted(question: &Question) -> Vec<(String, String)> {
    let list = question.header("x-auth-set").unwrap_or_default();
    list.split(',')
        .filter_map(|one| one.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

struct ByGrpc {
    asked: Asked,
}

#[tonic::async_trait]
impl Authorization for ByGrpc {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, tonic::Status> {
        let http = request.into_inner().attributes.unwrap_or_default().request.unwrap_or_default().http;
        let http = http.ok_or_else(|| tonic::Status::invalid_argument("not about a request"))?;
        let body = if http.raw_body.is_empty() { http.body.into_bytes() } else { http.raw_body };
        let question = Question {
            by: "gRPC",
            method: http.method,
            path: http.path,
            host: http.host,
            headers: http.headers.into_iter().collect(),
            body: body.into(),
        };
        let (refusal, wanted) = (refusal(&question), wanted(&question));
        self.asked.lock().unwrap().push(question);
        let header = |key: &str, value: &str| HeaderValueOption {
            header: Some(HeaderValue { key: key.into(), value: value.into(), ..HeaderValue::default() }),
            ..HeaderValueOption::default()
        };
        let (code, answer) = match refusal {
            None => {
                let mut headers = vec![header("x-user", "known by gRPC")];
                headers.extend(wanted.iter().map(|(name, value)| header(name, value)));
                (0, HttpResponse::OkResponse(OkHttpResponse { headers, ..OkHttpResponse::default() }))
            }
            Some(status) => {
                let denied = DeniedHttpResponse {
                    status: Some(HttpStatus { code: status.into() }),
                    headers: vec![header("x-refused", "by gRPC")],
                    body: "refused by gRPC".into(),
                };
                (PERMISSION_DENIED, HttpResponse::DeniedResponse(denied))
            }
        };
        Ok(tonic::Response::new(CheckResponse {
            status: Some(rpc::Status { code, ..rpc::Status::default() }),
            http_response: Some(answer),
            ..CheckResponse::default()
        }))
    }
}

async fn serve_http(listener: TcpListener, asked: Asked) {
    let mut connections = TcpListenerStream::new(listener);
    while let Some(Ok(connection)) = connections.next().await {
        let asked = asked.clone();
        let service = service_fn(move |request| answer_http(request, asked.clone()));
        tokio::spawn(async move {
            let server = hyper::server::conn::http1::Builder::new();
            drop(server.serve_connection(TokioIo::new(connection), service).await);
        });
    }
}

async fn answer_http(request: Request<Incoming>, asked: Asked) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let question = Question {
        by: "HTTP",
        method: head.method.to_string(),
        path: head.uri.to_string(),
        host: head.headers.get("host").map(text).unwrap_or_default(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default(),
    };
    let (refusal, wanted) = (refusal(&question), wanted(&question));
    asked.lock().unwrap().push(question);
    let answer = match refusal {
        None => {
            let answer = Response::builder()
                .header("x-user", "known by HTTP")
                .header("x-more", "said")
                .header("content-type", "application/authorization");
            // HTTP has no way to say these.
            let headers = wanted.iter().filter(|(name, _)| !name.starts_with(':'));
            headers
                .fold(answer, |answer, (name, value)| answer.header(name, value))
                .body(Full::from("let it pass"))
        }
        Some(status) => Response::builder()
            .status(status)
            .header("x-refused", "by HTTP")
            .body(Full::from("refused by HTTP")),
    };
    Ok(answer.unwrap())
}
