//! Calls of the echo backend's gRPC, as a real client makes them: what is not gRPC is read as the protocol's mapping says.

use hyper::Uri;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{MetadataKey, MetadataValue};
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::client::{LIMIT, Target};
use crate::echo::grpc::{EchoReply, EchoRequest};

/// Calls `/service/method` on a host over a fresh connection in clear text.
///
/// # Errors
/// The status of the call, where it is not OK.
pub async fn call(
    target: &Target,
    host: &str,
    method: &str,
    metadata: &[(&str, &str)],
) -> Result<EchoReply, Status> {
    let origin: Uri = format!("http://{host}").parse().expect("a host");
    let endpoint = Endpoint::from_shared(format!("http://{}", target.address())).expect("an address");
    let channel = endpoint.origin(origin).timeout(LIMIT).connect().await;
    let mut client = Grpc::new(channel.unwrap_or_else(|error| panic!("cannot connect: {error}")));
    client.ready().await.unwrap_or_else(|error| panic!("not ready: {error}"));
    let mut request = Request::new(EchoRequest { message: "hello".to_owned() });
    for (name, value) in metadata {
        let name = MetadataKey::from_bytes(name.to_ascii_lowercase().as_bytes()).expect("a name");
        request.metadata_mut().append(name, MetadataValue::try_from(*value).expect("a value"));
    }
    let path: PathAndQuery = method.parse().expect("a path");
    client
        .unary(request, path, ProstCodec::<EchoRequest, EchoReply>::default())
        .await
        .map(tonic::Response::into_inner)
}

/// Short: the backend's name, or the status code of a call that failed.
pub fn short(outcome: &Result<EchoReply, Status>) -> String {
    match outcome {
        Ok(reply) => reply.instance.clone(),
        Err(status) => code(status.code()).to_owned(),
    }
}

fn code(code: Code) -> &'static str {
    match code {
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Unavailable => "UNAVAILABLE",
        Code::Internal => "INTERNAL",
        Code::Unknown => "UNKNOWN",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        _ => "another code",
    }
}
