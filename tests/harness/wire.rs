//! A plain Kafka connection: requests and responses through the crate's messages, or raw frames.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part of the harness")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

/// How long a broker may take to answer, or to take a byte.
const PATIENCE: Duration = Duration::from_mins(1);

/// A connection. A broker that does not answer within a minute fails the test.
pub struct Wire {
    stream: TcpStream,
    correlation_id: i32,
}

impl Wire {
    /// Connects to `address`.
    pub fn connect(address: &str) -> Self {
        Self::try_connect(address).expect("the broker takes connections")
    }

    /// Connects to `address`, if anybody is there.
    pub fn try_connect(address: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Self { stream, correlation_id: 0 })
    }

    /// Sends a request and waits for its response.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let id = self.send(version, request);
        self.receive::<R>(version, id)
    }

    /// Sends a request; returns its correlation id.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        self.correlation_id += 1;
        let frame = request_frame(version, request, self.correlation_id);
        self.stream.write_all(&frame).unwrap();
        self.correlation_id
    }

    /// Sends a request on a connection that the broker may close.
    pub fn try_send<R: Request>(&mut self, version: i16, request: &R) -> std::io::Result<()> {
        self.correlation_id += 1;
        self.stream.write_all(&request_frame(version, request, self.correlation_id))
    }

    /// Receives the response of the request with correlation id `id`, which must be next.
    pub fn receive<R: Request>(&mut self, version: i16, id: i32) -> R::Response {
        self.try_receive::<R>(version, id).expect("the broker answers")
    }

    /// [`Wire::receive`] on a connection that the broker may close: `None` when it has.
    pub fn try_receive<R: Request>(&mut self, version: i16, id: i32) -> Option<R::Response> {
        let mut body = self.receive_frame()?;
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut body, header_version).unwrap();
        assert_eq!(header.correlation_id, id, "responses leave in the order of their requests");
        let response = R::Response::decode(&mut body, version).unwrap();
        assert!(!body.has_remaining(), "{} bytes after the response", body.remaining());
        Some(response)
    }

    /// [`Wire::call`] on a connection that the broker may close: `None` when it has.
    pub fn try_call<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.try_send(version, request).ok()?;
        self.try_receive::<R>(version, self.correlation_id)
    }

    /// Sends bytes as they are.
    pub fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Receives a frame without its length; `None` when the broker closed the connection.
    pub fn receive_frame(&mut self) -> Option<Bytes> {
        let mut length = [0; 4];
        if let Err(error) = self.stream.read_exact(&mut length) {
            let kind = error.kind();
            assert!(kind != std::io::ErrorKind::WouldBlock, "no answer within a minute");
            return None;
        }
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        // A process that is killed may leave half of it.
        self.stream.read_exact(&mut frame).ok()?;
        Some(frame.into())
    }

    /// Receives the next frame, whose response is `R`'s in `version`, and its correlation id.
    pub fn receive_any<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let mut body = self.receive_frame().expect("the broker answers");
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut body, header_version).unwrap();
        let response = R::Response::decode(&mut body, version).unwrap();
        assert!(!body.has_remaining(), "{} bytes after the response", body.remaining());
        (header.correlation_id, response)
    }

    /// Whether the broker closes the connection without another frame.
    pub fn is_closed_by_broker(&mut self) -> bool {
        self.receive_frame().is_none()
    }
}

/// A request as a frame with its length.
pub fn request_frame<R: Request>(version: i16, request: &R, correlation_id: i32) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("harness")));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version)).unwrap();
    request.encode(&mut body, version).unwrap();
    let mut frame = BytesMut::new();
    frame.put_i32(body.len() as i32);
    frame.put(body);
    frame.freeze()
}
