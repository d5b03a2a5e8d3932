//! Every fault by its words, over real sockets.

use std::future::Future;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, ElectLeadersRequest, FindCoordinatorRequest, MetadataRequest,
    MetadataResponse,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Clock;
use crate::config::{ClientAuth, ServerTls};
use crate::protocol::guard::GuardError;
use crate::security::tls::testing::Authority;
use crate::security::tls::{HandshakeError, Stream, TlsAcceptor, TlsConnector};
use crate::task;

/// The API key and version of a request's frame, and its correlation id.
type Asked = (i16, i16, i32);

/// A server of one connection.
struct Server {
    port: u16,
    served: JoinHandle<()>,
}

async fn serve<F, S>(serve: S) -> Server
where
    S: FnOnce(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = task::spawn("server", async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(listener);
        serve(stream).await;
    });
    Server { port, served }
}

impl Server {
    async fn client(&self) -> Client {
        let connector = Connector::new(None, Clock::system());
        let stream = connector.connect("localhost", self.port).await.unwrap();
        Client::new(stream, "us", Clock::system())
    }
}

async fn receive(stream: &mut (impl AsyncReadExt + Unpin)) -> Asked {
    let length = stream.read_i32().await.unwrap();
    let asked = (
        stream.read_i16().await.unwrap(),
        stream.read_i16().await.unwrap(),
        stream.read_i32().await.unwrap(),
    );
    let mut rest = vec![0; length as usize - 8];
    stream.read_exact(&mut rest).await.unwrap();
    asked
}

/// The frame of a response, with a header of tags if `flexible`.
fn frame(correlation_id: i32, flexible: bool, version: i16, response: &impl Encodable) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    frame.put_i32(correlation_id);
    if flexible {
        frame.put_u8(0);
    }
    response.encode(&mut frame, version).unwrap();
    let length = frame.len() as i32 - 4;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

fn metadata() -> MetadataResponse {
    MetadataResponse::default().with_cluster_id(Some(StrBytes::from_static_str("cluster")))
}

/// What a client says when its first request is answered with these bytes and then nothing.
async fn fault(answer: &'static [u8]) -> ClientError {
    let server = serve(async move |mut stream| {
        receive(&mut stream).await;
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let mut client = server.client().await;
    let error = client.call(9, &MetadataRequest::default()).await.unwrap_err();
    server.served.await.unwrap();
    let again = client.call(9, &MetadataRequest::default()).await.unwrap_err();
    assert_eq!(again, ClientError::Broken);
    error
}

#[tokio::test]
async fn requests_are_answered_one_after_the_other() {
    let server = serve(async |mut stream| {
        for (version, flexible) in [(9, true), (4, false)] {
            let (key, asked, correlation_id) = receive(&mut stream).await;
            assert_eq!((key, asked), (ApiKey::Metadata as i16, version));
            let answer = frame(correlation_id, flexible, version, &metadata());
            // In two pieces, the first of which ends inside the length.
            stream.write_all(&answer[..3]).await.unwrap();
            stream.flush().await.unwrap();
            stream.write_all(&answer[3..]).await.unwrap();
        }
    })
    .await;
    let mut client = server.client().await;
    for version in [9, 4] {
        let response = client.call(version, &MetadataRequest::default()).await.unwrap();
        assert_eq!(response.cluster_id.as_deref(), Some("cluster"));
    }
    server.served.await.unwrap();
}

#[tokio::test]
async fn an_answer_that_is_none_is_named() {
    // What Kafka's TLS listener says to plaintext: an alert.
    let tls = fault(&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50]).await;
    assert_eq!(tls, ClientError::Tls);
    assert!(tls.to_string().contains("speaks TLS and PLAINTEXT was expected"), "{tls}");
    assert_eq!(fault(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, ClientError::Http);
    let api = "Metadata";
    let closed = fault(b"").await;
    assert_eq!(closed, ClientError::Closed { api });
    assert!(closed.to_string().contains("TLS or SASL"), "{closed}");
    assert_eq!(fault(&[0, 0]).await, ClientError::Truncated { api });
    assert_eq!(fault(&[0, 0, 0, 9, 0, 0]).await, ClientError::Truncated { api });
    assert_eq!(fault(&[0, 0, 0, 4, 0, 0, 0, 1]).await, ClientError::Header { api });
    assert_eq!(fault(&[0, 0, 0, 0]).await, ClientError::Header { api });
    let (expected, found) = (1, 7);
    let other = fault(&[0, 0, 0, 5, 0, 0, 0, 7, 0]).await;
    assert_eq!(other, ClientError::Correlation { api, expected, found });
}

#[tokio::test]
async fn a_length_beyond_the_bound_is_refused_before_a_byte_is_kept() {
    let length = (64 << 20) + 1;
    let refused = fault(&[0x04, 0, 0, 1]).await;
    assert_eq!(refused, ClientError::Length { api: "Metadata", length });
    let refused = fault(&[0xff; 4]).await;
    assert_eq!(refused, ClientError::Length { api: "Metadata", length: -1 });
}

#[tokio::test]
async fn a_body_is_decoded_only_behind_the_guard() {
    // Two billion brokers in an answer of 23 bytes; the protocol crate would reserve for all.
    let refused = fault(&[0, 0, 0, 14, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 7]).await;
    let ClientError::Body(GuardError::Malformed { api: "Metadata", field, .. }) = refused else {
        panic!("{refused}");
    };
    assert_eq!(field, "Brokers");
}

#[tokio::test]
async fn an_answer_without_a_shape_is_refused() {
    let server = serve(async |mut stream| {
        let (_, _, correlation_id) = receive(&mut stream).await;
        let mut answer = BytesMut::new();
        answer.put_slice(&[0, 0, 0, 10]);
        answer.put_i32(correlation_id);
        answer.put_slice(&[0; 6]);
        stream.write_all(&answer).await.unwrap();
    })
    .await;
    let error = server.client().await.call(2, &ElectLeadersRequest::default()).await.unwrap_err();
    assert!(matches!(error, ClientError::Body(GuardError::NotGuarded { .. })), "{error}");
    server.served.await.unwrap();
}

#[tokio::test]
async fn a_version_that_the_request_does_not_have_is_refused_and_nothing_is_sent() {
    let server = serve(async |mut stream| {
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    })
    .await;
    let mut client = server.client().await;
    // Keys of version 4 are several; this request has one.
    let request = FindCoordinatorRequest::default().with_key(StrBytes::from_static_str("g"));
    let error = client.call(4, &request).await.unwrap_err();
    assert!(matches!(error, ClientError::Request { version: 4, .. }), "{error}");
    drop(client);
    server.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_has_a_deadline() {
    let server = serve(async |mut stream| {
        receive(&mut stream).await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    })
    .await;
    let mut client = server.client().await;
    let started = Clock::system().now();
    let error = client.call(9, &MetadataRequest::default()).await.unwrap_err();
    assert_eq!(error, ClientError::TimedOut { api: "Metadata" });
    assert!(started.elapsed() >= CALL_TIMEOUT);
    drop(client);
    server.served.await.unwrap();
}

/// Versions that a server lists for `ApiVersions` itself.
fn listing(code: i16, max_version: Option<i16>) -> ApiVersionsResponse {
    let row = |max| {
        ApiVersion::default()
            .with_api_key(ApiKey::ApiVersions as i16)
            .with_min_version(0)
            .with_max_version(max)
    };
    ApiVersionsResponse::default()
        .with_error_code(code)
        .with_api_keys(max_version.map(row).into_iter().collect())
}

#[tokio::test]
async fn api_versions_are_asked_in_the_highest_version_that_both_know() {
    // What the server answers each time: error code, its own range, the version it is written in.
    type Answers = &'static [(i16, Option<i16>, i16)];
    let cases: [(Answers, &[i16]); 4] = [
        (&[(0, Some(4), 4)], &[4]),
        (&[(35, Some(2), 0), (0, Some(2), 2)], &[4, 2]),
        // Before Kafka 2.4 the answer had no range.
        (&[(35, None, 0), (0, Some(0), 0)], &[4, 0]),
        // A server that contradicts itself is not asked for ever.
        (
            &[
                (35, Some(9), 0),
                (35, Some(9), 0),
                (35, Some(9), 0),
                (35, Some(9), 0),
                (35, Some(9), 0),
            ],
            &[4, 3, 2, 1, 0],
        ),
    ];
    for (answers, expected) in cases {
        let server = serve(async move |mut stream| {
            for (&(code, max, version), asked_version) in answers.iter().zip(expected) {
                let (key, asked, correlation_id) = receive(&mut stream).await;
                assert_eq!((key, asked), (ApiKey::ApiVersions as i16, *asked_version));
                let answer = frame(correlation_id, false, version, &listing(code, max));
                stream.write_all(&answer).await.unwrap();
            }
        })
        .await;
        let mut client = server.client().await;
        let outcome = client.api_versions().await;
        server.served.await.unwrap();
        let code = answers.last().unwrap().0;
        match outcome {
            Ok(response) => assert_eq!((code, response.api_keys.len()), (0, 1)),
            Err(error) => {
                assert_eq!(error, ClientError::Refused { api: "ApiVersions", code: 35 });
            }
        }
    }
}

#[tokio::test]
async fn a_name_without_an_address_and_a_port_without_a_server_are_named() {
    let connector = Connector::new(None, Clock::system());
    let error = connector.connect("no-such-host.invalid", 9092).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unresolved { port: 9092, .. }), "{error}");
    assert!(error.to_string().starts_with("no-such-host.invalid:9092: "), "{error}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = connector.connect("127.0.0.1", address.port()).await.unwrap_err();
    let (host, port) = ("127.0.0.1".to_owned(), address.port());
    assert_eq!(error, ConnectError::Refused { host, port, address });
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = listener.local_addr().unwrap();
    let closed = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let nowhere = closed.local_addr().unwrap();
    drop(closed);
    let connector = Connector::new(None, Clock::system());
    let connected = connector.connect_to_any_of("several", &[nowhere, there]).await.unwrap();
    assert_eq!(connected.peer_addr().unwrap(), there);
    assert!(connected.nodelay().unwrap());
    let error = connector.connect_to_any_of("several", &[nowhere, nowhere]).await.unwrap_err();
    assert!(matches!(error, ConnectError::Refused { .. }), "{error}");
    assert!(connector.connect_to_any_of("none", &[]).await.is_err());
}

/// A listener that accepts nothing, with as many connections waiting as it takes: the next
/// connection gets no answer.
#[tokio::test(start_paused = true)]
async fn an_address_that_does_not_answer_has_its_part_of_the_time() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    socket.listen(0).unwrap();
    let silent = socket.local_addr().unwrap().as_socket().unwrap();
    let _waiting = TcpStream::connect(silent).await.unwrap();
    let there = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = (there.local_addr().unwrap(), there);
    let connector = Connector::new(None, Clock::system());
    let started = Clock::system().now();
    let error = connector.connect("127.0.0.1", silent.port()).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { stage: Stage::Connecting, .. }), "{error}");
    assert!(error.to_string().contains("connecting took longer than 10 s"), "{error}");
    assert!(started.elapsed() >= CONNECT_TIMEOUT);
    let started = Clock::system().now();
    assert!(connector.connect_to_any_of("several", &[silent, there.0]).await.is_ok());
    assert_eq!(started.elapsed().as_secs(), CONNECT_TIMEOUT.as_secs() / 2);
}

fn tls(authority: &Authority) -> Connector {
    let tls = TlsConnector::new(&authority.client(), Clock::system()).unwrap();
    Connector::new(Some(tls), Clock::system())
}

async fn serve_tls(tls: &ServerTls) -> Server {
    let acceptor = TlsAcceptor::new(tls, Clock::system()).unwrap();
    serve(async move |stream| {
        let Ok(mut stream) = acceptor.accept(stream).await else { return };
        let (_, version, correlation_id) = receive(&mut stream).await;
        let answer = frame(correlation_id, true, version, &metadata());
        stream.write_all(&answer).await.unwrap();
        stream.flush().await.unwrap();
    })
    .await
}

#[tokio::test]
async fn a_server_with_tls_is_spoken_to_and_its_faults_are_named() {
    let authority = Authority::new();
    let connect = async |connector: &Connector, server: &Server| {
        connector.connect("localhost", server.port).await
    };
    let server = serve_tls(&authority.server()).await;
    let stream = connect(&tls(&authority), &server).await.unwrap();
    assert!(stream.is_tls() && stream.socket().nodelay().unwrap());
    let mut client = Client::new(stream, "us", Clock::system());
    let response = client.call(9, &MetadataRequest::default()).await.unwrap();
    assert_eq!(response.cluster_id.as_deref(), Some("cluster"));
    server.served.await.unwrap();

    let server = serve_tls(&authority.server()).await;
    let stranger = Authority::named("stranger");
    let error = connect(&tls(&stranger), &server).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { fault: HandshakeError::Untrusted, .. }), "{error}");

    let keystore = authority.issue("other", "DNS:other");
    let server = serve_tls(&ServerTls { keystore, ..authority.server() }).await;
    let error = connect(&tls(&authority), &server).await.unwrap_err().to_string();
    assert!(error.contains("not for \"localhost\" but for"), "{error}");
    assert!(error.starts_with(&format!("localhost:{}: ", server.port)), "{error}");
}

#[tokio::test]
async fn a_plaintext_server_is_named_where_tls_was_expected_and_the_reverse() {
    let authority = Authority::new();
    // Kafka closes a plaintext connection that begins with a ClientHello.
    let server = serve(async |mut stream| {
        let _ = stream.read(&mut [0; 4096]).await.unwrap();
    })
    .await;
    let error = tls(&authority).connect("localhost", server.port).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { fault: HandshakeError::Closed, .. }), "{error}");
    assert!(error.to_string().contains("as a plaintext listener does"), "{error}");

    let server = serve_tls(&authority.server()).await;
    let mut client = server.client().await;
    let error = client.call(9, &MetadataRequest::default()).await.unwrap_err();
    assert_eq!(error, ClientError::Tls);
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_is_named() {
    let authority = Authority::new();
    let truststore = Some(authority.pem("ca.pem"));
    let server = ServerTls { client_auth: ClientAuth::Required, truststore, ..authority.server() };
    let server = serve_tls(&server).await;
    let stream = tls(&authority).connect("localhost", server.port).await.unwrap();
    let mut client = Client::new(stream, "us", Clock::system());
    let error = client.call(9, &MetadataRequest::default()).await.unwrap_err();
    let ClientError::Alert(words) = &error else { panic!("{error}") };
    assert!(words.contains("requires a certificate"), "{words}");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_a_deadline() {
    let authority = Authority::new();
    let server = serve(async |mut stream| {
        let mut hello = Vec::new();
        stream.read_to_end(&mut hello).await.unwrap();
        assert!(hello.starts_with(&[0x16, 0x03]));
    })
    .await;
    let error = tls(&authority).connect("127.0.0.1", server.port).await.unwrap_err();
    assert!(matches!(error, ConnectError::TimedOut { stage: Stage::Handshake, .. }), "{error}");
    server.served.await.unwrap();
}

#[test]
fn a_plain_connection_does_not_pay_for_tls() {
    assert_eq!(size_of::<Stream>(), size_of::<TcpStream>());
}
