//! gRPC without a schema: any unary call to any service and method is answered with what arrived.
//!
//! The request is read as [`EchoRequest`], the answer is [`EchoReply`]; both are written by hand, so a client
//! needs no `.proto` file: a tonic `Grpc` client with its prost codec and any path will do. Header
//! `x-echo-grpc-status: N` makes the answer an error with that code instead.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use prost::Message;

use super::State;
use super::http::Body;
use super::record::Seen;

/// gRPC's length prefix: one byte of compression flag, four of length.
const PREFIX: usize = 5;
/// The largest request message that is read.
const LIMIT: usize = 16 * 1024 * 1024;

/// What a client may send.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EchoRequest {
    /// Any text; comes back in the reply.
    #[prost(string, tag = "1")]
    pub message: String,
}

/// One header of the request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Header {
    /// Lower-case name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// One value; a repeated header has several entries.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// What the backend answers.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EchoReply {
    /// The text that was sent.
    #[prost(string, tag = "1")]
    pub message: String,
    /// Full service name from the path, such as `pkg.Service`.
    #[prost(string, tag = "2")]
    pub service: String,
    /// Method name from the path.
    #[prost(string, tag = "3")]
    pub method: String,
    /// The request's `:authority`.
    #[prost(string, tag = "4")]
    pub authority: String,
    /// Which backend answered.
    #[prost(string, tag = "5")]
    pub instance: String,
    /// The namespace it says it is in.
    #[prost(string, tag = "6")]
    pub namespace: String,
    /// The pod it says it is.
    #[prost(string, tag = "7")]
    pub pod: String,
    /// The request's headers, by name.
    #[prost(message, repeated, tag = "8")]
    pub headers: Vec<Header>,
}

/// Whether a request is a gRPC call (gRPC over HTTP/2, "Requests").
pub(super) fn is_call<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(hyper::header::CONTENT_TYPE);
    request.method() == hyper::Method::POST
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// Answers one unary call.
pub(super) async fn answer(request: Request<Incoming>, seen: &Seen, state: &Arc<State>) -> Response<Body> {
    if let Some(code) = request.headers().get("x-echo-grpc-status") {
        let code = code.clone();
        drop(request);
        return failure(code, "asked for by x-echo-grpc-status");
    }
    let message = match read(request.into_body()).await {
        Ok(message) => message,
        Err(reason) => return failure(HeaderValue::from_static("13"), reason),
    };
    let (service, method) = seen.path.trim_start_matches('/').rsplit_once('/').unwrap_or((&seen.path, ""));
    let reply = EchoReply {
        message: message.message,
        service: service.to_owned(),
        method: method.to_owned(),
        authority: seen.host.clone(),
        instance: state.instance.clone(),
        namespace: state.namespace.clone(),
        pod: state.pod.clone(),
        headers: seen
            .headers
            .iter()
            .flat_map(|(name, values)| {
                values.iter().map(|value| Header { name: name.clone(), value: value.clone() })
            })
            .collect(),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Frame::data(frame(&reply)), Frame::trailers(trailers)];
    let mut response =
        Response::new(StreamBody::new(stream::iter(frames.map(Ok::<_, hyper::Error>))).boxed_unsync());
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// A message with its length prefix.
fn frame(reply: &EchoReply) -> Bytes {
    let length = reply.encoded_len();
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.extend(reply.encode_to_vec());
    bytes.freeze()
}

async fn read(body: Incoming) -> Result<EchoRequest, &'static str> {
    let limited = http_body_util::Limited::new(body, LIMIT);
    let bytes = limited.collect().await.map_err(|_| "the request could not be read")?.to_bytes();
    match bytes.get(..PREFIX) {
        None => Ok(EchoRequest::default()),
        Some([0, ..]) => {
            EchoRequest::decode(bytes.slice(PREFIX..)).map_err(|_| "the message is not an EchoRequest")
        }
        Some(_) => Err("compressed messages are not supported"),
    }
}

/// An answer of headers only ("Trailers-Only").
fn failure(code: HeaderValue, reason: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", code);
    headers.insert("grpc-message", HeaderValue::from_static(reason));
    response
}
