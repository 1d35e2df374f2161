//! gRPC messages over HTTP/2, on streams that are open for weeks and mostly silent: a buffer lives as long as its message.
//!
//! A codec that keeps its buffers keeps, per stream and direction, as much as the largest message that ever passed: what a proxy was
//! sent first and what it lists when it comes back, megabytes each, for every proxy. Otherwise as gRPC has it: a message has five bytes
//! before it, a stream ends with its status in the trailers. Compression is never negotiated, so a compressed message is an error.
//! Source: the gRPC protocol over HTTP/2.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures::Stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::BodyExt as _;
use prost::Message;
use tonic::body::Body;
use tonic::{Code, Status};

/// Before each message: whether it is compressed, in one byte, and its length, in four.
const PREFIX: usize = 5;

/// The messages that a client sends on one stream.
#[derive(Debug)]
pub(super) struct Incoming<M> {
    body: Body,
    /// What came of the next message; no allocation between messages.
    begun: BytesMut,
    max_bytes: usize,
    message: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Incoming<M> {
    /// The messages in a request, of at most `max_bytes` bytes each.
    pub(super) fn new(body: Body, max_bytes: usize) -> Self {
        Self { body, begun: BytesMut::new(), max_bytes, message: PhantomData }
    }

    /// The next message; nothing after the last. May be dropped and called again: no byte is lost.
    pub(super) async fn message(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.begun.extend_from_slice(&data);
                    }
                }
                // Whoever takes a call back has nothing more to say.
                Some(Err(error)) if error.code() == Code::Cancelled => return Ok(None),
                Some(Err(error)) => return Err(error),
                None if self.begun.is_empty() => return Ok(None),
                None => return Err(Status::internal("the stream ended within a message")),
            }
        }
    }

    fn take(&mut self) -> Result<Option<M>, Status> {
        let Some(mut prefix) = self.begun.get(..PREFIX) else { return Ok(None) };
        if prefix.get_u8() != 0 {
            return Err(Status::unimplemented("compressed messages are not served: send them as they are"));
        }
        let length = prefix.get_u32() as usize;
        if length > self.max_bytes {
            let most = self.max_bytes;
            return Err(Status::resource_exhausted(format!(
                "a message has {length} bytes; at most {most} are taken"
            )));
        }
        let whole = PREFIX + length;
        if self.begun.len() < whole {
            return Ok(None);
        }
        let mut message = self.begun.split_to(whole);
        if self.begun.is_empty() {
            self.begun = BytesMut::new();
        }
        message.advance(PREFIX);
        M::decode(message).map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}

/// The messages that a server sends on one stream, as the body of its response.
struct Outgoing<S> {
    messages: S,
    ended: bool,
}

/// The response that sends these messages, and ends after the last one or with the first status.
pub(super) fn response<S, M>(messages: S) -> http::Response<Body>
where
    S: Stream<Item = Result<M, Status>> + Unpin + Send + 'static,
    M: Message + 'static,
{
    let mut response = http::Response::new(Body::new(Outgoing { messages, ended: false }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

impl<S, M> http_body::Body for Outgoing<S>
where
    S: Stream<Item = Result<M, Status>> + Unpin,
    M: Message,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let end = match ready!(Pin::new(&mut self.messages).poll_next(context)).transpose() {
            Ok(Some(message)) => match encode(&message) {
                Ok(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Err(status) => status,
            },
            Ok(None) => Status::ok(""),
            Err(status) => status,
        };
        self.ended = true;
        let mut trailers = HeaderMap::new();
        end.add_header(&mut trailers)?;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

fn encode(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length)
        .map_err(|_| Status::internal(format!("a response of {length} bytes is longer than gRPC has it")))?;
    let mut data = BytesMut::with_capacity(PREFIX + length);
    data.put_u8(0);
    data.put_u32(prefix);
    message.encode_raw(&mut data);
    Ok(data.freeze())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;

    use portolan_xds_proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;

    use super::*;

    /// A body that comes in these pieces.
    struct Pieces(VecDeque<Bytes>);

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|data| Ok(Frame::data(data))))
        }
    }

    fn request(name: &str) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest { type_url: name.to_owned(), ..DeltaDiscoveryRequest::default() }
    }

    fn incoming(bytes: &[u8], piece: usize, max_bytes: usize) -> Incoming<DeltaDiscoveryRequest> {
        let pieces = bytes.chunks(piece).map(Bytes::copy_from_slice).collect();
        Incoming::new(Body::new(Pieces(pieces)), max_bytes)
    }

    #[tokio::test]
    async fn messages_are_the_same_however_they_are_cut() {
        let wanted = [request("one"), request(""), request(&"long".repeat(1_000))];
        let bytes: Vec<u8> = wanted.iter().flat_map(|message| encode(message).unwrap()).collect();
        for piece in [1, 2, 5, 6, 4_096, bytes.len()] {
            let mut incoming = incoming(&bytes, piece, 5_000);
            for each in &wanted {
                assert_eq!(incoming.message().await.unwrap().as_ref(), Some(each));
            }
            assert_eq!(incoming.message().await.unwrap(), None);
            assert_eq!(incoming.begun.capacity(), 0, "nothing is kept for the next message");
        }
    }

    #[tokio::test]
    async fn what_is_no_message_ends_the_stream_with_the_reason() {
        let whole = encode(&request("one")).unwrap();
        let cases = [
            ("too long", whole.to_vec(), 4, "at most 4"),
            ("cut off", whole[..whole.len() - 1].to_vec(), 100, "within a message"),
            ("compressed", [&[1], &whole[1..]].concat(), 100, "compressed"),
            ("no protobuf", vec![0, 0, 0, 0, 1, 0xff], 100, "varint"),
        ];
        for (case, bytes, max_bytes, reason) in cases {
            let status = incoming(&bytes, 3, max_bytes).message().await.unwrap_err();
            assert!(status.message().contains(reason), "{case}: {status}");
        }
    }

    #[tokio::test]
    async fn a_response_ends_with_its_status() {
        let ends = [(None, "0"), (Some(Status::not_found("gone")), "5")];
        for (end, code) in ends {
            let messages = std::iter::once(Ok(request("one"))).chain(end.map(Err));
            let body = response(futures::stream::iter(messages.collect::<Vec<_>>())).into_body();
            let collected = body.collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["grpc-status"], code);
            assert_eq!(collected.to_bytes(), encode(&request("one")).unwrap());
        }
    }
}
