//! Against servers on real sockets that answer what a broker answers.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterResponse, MetadataResponse};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::report::Report;
use super::*;
use crate::config::Sources;
use crate::security::tls::testing::Authority;
use crate::task;

/// What a fake upstream answers.
#[derive(Clone)]
struct Answers {
    apis: Vec<(i16, i16, i16)>,
    metadata: MetadataResponse,
    cluster: DescribeClusterResponse,
}

impl Answers {
    /// As Kafka 4.0 does, with these nodes.
    fn with(nodes: &[(i32, &str, i32)]) -> Self {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        let metadata = |(id, host, port): &(i32, &str, i32)| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(*id))
                .with_host(text(host))
                .with_port(*port)
        };
        let described = |(id, host, port): &(i32, &str, i32)| {
            DescribeClusterBroker::default()
                .with_broker_id(BrokerId(*id))
                .with_host(text(host))
                .with_port(*port)
        };
        Self {
            apis: vec![(0, 0, 12), (1, 4, 17), (3, 0, 12), (18, 0, 4), (60, 0, 1)],
            metadata: MetadataResponse::default()
                .with_cluster_id(Some(text("of-metadata")))
                .with_brokers(nodes.iter().map(metadata).collect()),
            cluster: DescribeClusterResponse::default()
                .with_cluster_id(text("lkc-1"))
                .with_brokers(nodes.iter().map(described).collect()),
        }
    }

    /// The frame that answers a request.
    fn to(&self, key: i16, version: i16, correlation_id: i32) -> BytesMut {
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        frame.put_i32(correlation_id);
        match key {
            18 => {
                let row = |(key, min, max): &(i16, i16, i16)| {
                    let row = ApiVersion::default().with_api_key(*key);
                    row.with_min_version(*min).with_max_version(*max)
                };
                let rows = self.apis.iter().map(row).collect();
                put(&mut frame, version, &ApiVersionsResponse::default().with_api_keys(rows));
            }
            3 => put(&mut frame, version, &self.metadata),
            60 => put(&mut frame, version, &self.cluster),
            other => panic!("asked for {other}"),
        }
        let length = frame.len() as i32 - 4;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        frame
    }
}

fn put<R: Encodable + HeaderVersion>(frame: &mut BytesMut, version: i16, response: &R) {
    if R::header_version(version) == 1 {
        frame.put_u8(0);
    }
    response.encode(frame, version).unwrap();
}

/// A socket that a server will answer on, and its port.
async fn socket() -> (TcpListener, i32) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, i32::from(port))
}

/// A port that nothing listens on.
async fn closed() -> i32 {
    socket().await.1
}

/// Answers whoever connects to `listener`, in TLS if there is an acceptor.
fn serve(listener: TcpListener, answers: Answers, tls: Option<TlsAcceptor>) {
    let (answers, tls) = (Arc::new(answers), tls.map(Arc::new));
    task::spawn("fake", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answers, tls) = (Arc::clone(&answers), tls.clone());
            task::spawn("fake-connection", async move {
                match tls {
                    None => converse(stream, &answers).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            converse(stream, &answers).await;
                        }
                    }
                }
            });
        }
    });
}

/// Answers until the client closes, or sends what is no request.
async fn converse(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, answers: &Answers) {
    while let Ok(length) = stream.read_i32().await {
        let Some(length) = usize::try_from(length).ok().filter(|it| (8..10_000).contains(it))
        else {
            return;
        };
        let mut request = vec![0; length];
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let mut fields = request.as_slice();
        let (key, version) = (fields.read_i16().await.unwrap(), fields.read_i16().await.unwrap());
        let answer = answers.to(key, version, fields.read_i32().await.unwrap());
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// Whether nothing is wrong, and what the doctor says.
async fn told(flags: &[(&str, &str)]) -> (bool, String) {
    let config = Sources::of_flags(flags).load_proxy().unwrap();
    let mut report = Report::default();
    examine(&mut report, &config, &Clock::system()).await;
    (report.is_healthy(), report.to_string())
}

/// The same of an upstream at `servers`.
async fn told_of(servers: &str, flags: &[(&str, &str)]) -> (bool, String) {
    let upstream = [("upstream.bootstrap.servers", servers)];
    let flags: Vec<_> = upstream.into_iter().chain(flags.iter().copied()).collect();
    told(&flags).await
}

/// The bootstrap address of an upstream of one node that answers so.
async fn upstream(answers: impl FnOnce(i32) -> Answers, tls: Option<TlsAcceptor>) -> String {
    let (listener, port) = socket().await;
    serve(listener, answers(port), tls);
    format!("127.0.0.1:{port}")
}

#[tokio::test]
async fn a_sound_upstream_is_told_with_what_clients_will_be_told() {
    let ((one, first), (two, second)) = (socket().await, socket().await);
    let answers = Answers::with(&[(1, "127.0.0.1", first), (2, "localhost", second)]);
    serve(one, answers.clone(), None);
    serve(two, answers, None);
    let servers = format!("127.0.0.1:{first},127.0.0.1:{second}");
    let (healthy, text) = told_of(&servers, &[]).await;
    assert!(healthy, "{text}");
    for line in [
        format!("ok       upstream: 127.0.0.1:{first} answers\n"),
        format!("ok       upstream: 127.0.0.1:{second} answers\n"),
        "ok       versions: the upstream speaks as Apache Kafka 3.9 or 4.0 does (Fetch 4-17)\n"
            .to_owned(),
        "ok       versions: 5 APIs are passed on\n".to_owned(),
        "ok       nodes: cluster lkc-1, nodes: 2\n".to_owned(),
        format!("ok       node 1: 127.0.0.1:{first} answers; clients are told 127.0.0.1:19094\n"),
        format!("ok       node 2: localhost:{second} answers; clients are told 127.0.0.1:19095\n"),
        "0 problems, 0 warnings".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_or_has_no_port_of_the_proxy_is_a_problem() {
    let gone = closed().await;
    let nodes = |port| {
        Answers::with(&[(1, "127.0.0.1", port), (2, "127.0.0.1", gone), (42, "127.0.0.1", port)])
    };
    let (healthy, text) = told_of(&upstream(nodes, None).await, &[("node.ids", "1-2,7")]).await;
    assert!(!healthy, "{text}");
    for line in [
        "problem  nodes: nodes 42 are not in node.ids, which has 1-2,7\n".to_owned(),
        "fix     set node.ids=1-2,7,42, and open the ports\n".to_owned(),
        format!("problem  node 2: 127.0.0.1:{gone}: 127.0.0.1:{gone} refused the connection\n"),
        "cause   nothing listens there".to_owned(),
        "effect  clients that need this node get a connection that ends at the proxy\n".to_owned(),
        "correct advertised.listeners of that broker".to_owned(),
        "2 problems, 0 warnings".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}{text}");
    }
}

#[tokio::test]
async fn names_that_lead_nowhere_and_ports_that_are_none_are_told() {
    let nodes = |port| {
        Answers::with(&[
            (1, "127.0.0.1", port),
            (2, "no-such.invalid", 9092),
            (3, "127.0.0.1", 0),
            (4, "127.0.0.1", 70_000),
            (5, "\u{1b}[2J", -1),
        ])
    };
    let (healthy, text) = told_of(&upstream(nodes, None).await, &[]).await;
    assert!(!healthy && text.contains("4 problems"), "{text}");
    assert!(text.contains("node 2: no-such.invalid:9092: the name cannot be resolved"), "{text}");
    assert!(text.contains("node 3: the upstream says that it is at 127.0.0.1:0, which"), "{text}");
    assert!(text.contains("is at 127.0.0.1:70000, which is no port"), "{text}");
    assert!(!text.contains('\u{1b}'), "a peer must not write to the terminal: {text:?}");
}

#[tokio::test]
async fn a_bootstrap_server_that_is_away_is_a_problem_unless_another_answers() {
    let gone = closed().await;
    let alive = upstream(|port| Answers::with(&[(0, "127.0.0.1", port)]), None).await;
    let (healthy, text) = told_of(&format!("127.0.0.1:{gone},{alive}"), &[]).await;
    assert!(healthy && text.contains("1 warnings"), "{text}");
    assert!(text.contains(&format!("warning  upstream: 127.0.0.1:{gone}: ")), "{text}");
    assert!(text.contains("the proxy starts from the others"), "{text}");
    let (healthy, text) = told_of(&format!("127.0.0.1:{gone}"), &[]).await;
    assert!(!healthy && text.contains("problem  upstream: "), "{text}");
    assert!(text.contains("start the broker, open the port, or correct upstream.bootstrap"));
    assert!(!text.contains("nodes"), "nothing is said of what was not asked: {text}");
}

#[tokio::test]
async fn tls_on_one_side_only_is_told_by_its_setting() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::new(&authority.server(), Clock::system()).unwrap();
    let answers = |port| Answers::with(&[(0, "localhost", port)]);
    let in_tls = upstream(answers, Some(acceptor)).await;
    let (healthy, text) = told_of(&in_tls, &[]).await;
    assert!(!healthy && text.contains("speaks TLS and PLAINTEXT was expected"), "{text}");
    assert!(text.contains("fix     set upstream.security.protocol=SSL"), "{text}");

    let trusted = authority.path("ca.pem").display().to_string();
    let ssl = [
        ("upstream.security.protocol", "SSL"),
        ("upstream.ssl.truststore.location", trusted.as_str()),
    ];
    let (healthy, text) = told_of(&in_tls, &ssl).await;
    assert!(healthy && text.contains("answers in TLS\n"), "{text}");
    let (healthy, text) = told_of(&upstream(answers, None).await, &ssl).await;
    assert!(!healthy && text.contains("cause   that listener has no TLS"), "{text}");
    assert!(text.contains("fix     set upstream.security.protocol=PLAINTEXT"), "{text}");
}

#[tokio::test]
async fn certificates_that_are_not_trusted_or_for_other_names_are_told() {
    let (authority, other) = (Authority::new(), Authority::named("other"));
    let mut server = authority.server();
    server.keystore = authority.issue("elsewhere", "DNS:kafka.example.com");
    let acceptor = TlsAcceptor::new(&server, Clock::system()).unwrap();
    let servers = upstream(|port| Answers::with(&[(0, "127.0.0.1", port)]), Some(acceptor)).await;
    let trusting = |authority: &Authority| authority.path("ca.pem").display().to_string();
    let (ours, theirs) = (trusting(&authority), trusting(&other));
    let ssl = |truststore| {
        [("upstream.security.protocol", "SSL"), ("upstream.ssl.truststore.location", truststore)]
    };
    let (healthy, text) = told_of(&servers, &ssl(&theirs)).await;
    assert!(!healthy && text.contains("certificate is not trusted"), "{text}");
    assert!(text.contains("fix     set upstream.ssl.truststore.location"), "{text}");
    let (healthy, text) = told_of(&servers, &ssl(&ours)).await;
    assert!(!healthy && text.contains("kafka.example.com"), "{text}");
    assert!(text.contains("cause   the certificate was issued for other names"), "{text}");
    let any =
        [ssl(&ours)[0], ssl(&ours)[1], ("upstream.ssl.endpoint.identification.algorithm", "")];
    let (healthy, text) = told_of(&servers, &any).await;
    assert!(healthy, "{text}");
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_before_anything_is_asked() {
    let flags = [
        ("upstream.security.protocol", "SSL"),
        ("upstream.ssl.truststore.location", "/no/such/ca.pem"),
        ("listener.security.protocol", "SSL"),
        ("ssl.keystore.location", "/no/such/server.pem"),
    ];
    let (healthy, text) = told_of("kafka.invalid:9092", &flags).await;
    assert!(!healthy && text.contains("2 problems"), "{text}");
    assert!(text.contains("problem  listener certificate: "), "{text}");
    assert!(text.contains("/no/such/server.pem") && text.contains("/no/such/ca.pem"), "{text}");
}

#[tokio::test]
async fn versions_that_one_side_lacks_are_told_by_api() {
    let newer = |port| {
        let mut answers = Answers::with(&[(0, "127.0.0.1", port)]);
        answers.apis = vec![(1, 4, 19), (3, 0, 13), (18, 0, 4), (52, 0, 9), (99, 0, 1)];
        answers
    };
    let (healthy, text) = told_of(&upstream(newer, None).await, &[]).await;
    assert!(healthy && text.contains("1 warnings"), "{text}");
    let ahead = "does not know: Fetch 4-19 (known up to 18), API 99 0-1\n";
    assert!(text.contains(ahead), "{text}");
    assert!(text.contains("speaks as Apache Kafka 4.1 or newer does"), "{text}");
    assert!(text.contains("3 APIs are passed on"), "{text}");
    let lacking = text.lines().find(|line| line.contains("what the upstream lacks: ")).unwrap();
    assert!(lacking.contains("lacks: Produce, ListOffsets") && !lacking.contains("Metadata"));
    // It is asked for its nodes without DescribeCluster, too.
    assert!(text.contains("nodes: cluster of-metadata, nodes: 1"), "{text}");
}

#[tokio::test]
async fn an_upstream_as_old_as_clients_get_is_asked_in_its_versions() {
    let old = |port| {
        let mut answers = Answers::with(&[(0, "127.0.0.1", port)]);
        answers.apis = vec![(0, 0, 2), (1, 0, 4), (3, 0, 1), (18, 0, 0)];
        answers.metadata.cluster_id = None;
        answers
    };
    let (healthy, text) = told_of(&upstream(old, None).await, &[]).await;
    assert!(healthy && text.contains("as Apache Kafka 0.11 does (Fetch 0-4)"), "{text}");
    assert!(text.contains("nodes: cluster without an id, nodes: 1"), "{text}");
}

#[tokio::test]
async fn a_node_of_another_release_is_told() {
    let ((one, first), (two, second)) = (socket().await, socket().await);
    let answers = Answers::with(&[(1, "127.0.0.1", first), (2, "127.0.0.1", second)]);
    let mut older = answers.clone();
    older.apis[1] = (1, 0, 16);
    serve(one, answers, None);
    serve(two, older, None);
    let (healthy, text) = told_of(&format!("127.0.0.1:{first}"), &[]).await;
    assert!(healthy && text.contains("1 warnings"), "{text}");
    assert!(text.contains("warning  node 2: it speaks other versions"), "{text}");
}

#[tokio::test]
async fn with_sasl_only_versions_are_asked_for() {
    let answers = |port| Answers::with(&[(42, "no-such.invalid", port)]);
    let sasl = [
        ("upstream.security.protocol", "SASL_PLAINTEXT"),
        ("listener.security.protocol", "SASL_PLAINTEXT"),
    ];
    let (healthy, text) = told_of(&upstream(answers, None).await, &sasl).await;
    assert!(healthy && text.contains("0 warnings"), "{text}");
    assert!(text.contains("ok       nodes: SASL is passed through"), "{text}");
    // A port may have any digits: the node is told from it by its host.
    assert!(!text.contains("lkc-1") && !text.contains("no-such.invalid"), "{text}");
}

#[tokio::test]
async fn a_controller_is_told_from_a_broker() {
    let controller = |_| {
        let mut answers = Answers::with(&[]);
        answers.apis = vec![(1, 4, 18), (18, 0, 4), (52, 0, 2), (60, 0, 2)];
        answers
    };
    let (healthy, text) = told_of(&upstream(controller, None).await, &[]).await;
    assert!(!healthy && text.contains("cause   that is the listener of a controller"), "{text}");
    assert!(text.contains("1 problems"), "{text}");
}

#[tokio::test]
async fn an_upstream_without_nodes_or_with_an_error_is_told() {
    let (healthy, text) = told_of(&upstream(|_| Answers::with(&[]), None).await, &[]).await;
    assert!(!healthy && text.contains("the upstream tells of no node"), "{text}");
    let refusing = |port| {
        let mut answers = Answers::with(&[(0, "127.0.0.1", port)]);
        answers.cluster.error_code = 31;
        answers
    };
    let (healthy, text) = told_of(&upstream(refusing, None).await, &[]).await;
    assert!(!healthy && text.contains("answered DescribeCluster with error 31"), "{text}");
}

#[tokio::test]
async fn what_is_not_kafka_is_told_as_that() {
    let (listener, port) = socket().await;
    task::spawn("http", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            // It stays open until the client has read.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let (healthy, text) = told_of(&format!("127.0.0.1:{port}"), &[]).await;
    assert!(!healthy && text.contains("cause   that is not a Kafka listener"), "{text}");
}

#[tokio::test]
async fn findings_name_their_virtual_cluster_where_there_are_several() {
    let alive = upstream(|port| Answers::with(&[(1, "127.0.0.1", port)]), None).await;
    let flags = [
        ("virtual.clusters", "east,west"),
        ("virtual.cluster.west.proxy.listener", "127.0.0.1:20000"),
    ];
    let (healthy, text) = told_of(&alive, &flags).await;
    assert!(healthy, "{text}");
    assert!(text.contains("node 1 (east): ") && text.contains("clients are told 127.0.0.1:19094"));
    assert!(text.contains("node 1 (west): ") && text.contains("clients are told 127.0.0.1:20002"));
}
