//! TLS on either side, SASL through both, names instead of ports, several clusters in one process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kafka_protocol::messages::{MetadataRequest, MetadataResponse, SaslHandshakeRequest};
use kafka_protocol::protocol::{Request, StrBytes};
use tidegate::client;
use tidegate::clock::Clock;
use tidegate::security::tls::TlsConnector;

use crate::client::{Client, Leaks};
use crate::harness::authority::Authority;
use crate::harness::kafka::{Kafka, KafkaOptions, Release};
use crate::harness::kfake::Kfake;
use crate::harness::proxy::{Proxy, ProxyOptions};
use crate::harness::topology;
use crate::harness::{free_port, until};
use crate::work::{self, Topic};

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
/// kfake says where the leader is in older versions too, which have no place for it.
const FETCH: i16 = 16;
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
/// Where the proxy's names are; only the certificate and SNI know them.
const DOMAIN: &str = "kafka.test";

/// Asks over TLS at the proxy's one port, as a client that looks for `name` there.
fn ask_as<R: Request>(
    authority: &Authority,
    proxy: &Proxy,
    name: &str,
    version: i16,
    request: &R,
) -> Result<R::Response, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tls = TlsConnector::new(&authority.client(None), Clock::system()).unwrap();
        let socket = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
        let stream = tls.connect(name, socket).await.map_err(|error| error.to_string())?;
        let mut client = client::Client::new(stream, "test", Clock::system());
        client.call(version, request).await.map_err(|error| error.to_string())
    })
}

fn describe(authority: &Authority, proxy: &Proxy, name: &str) -> MetadataResponse {
    let request = topology::metadata_request(Some(&["named"]));
    ask_as::<MetadataRequest>(authority, proxy, name, 12, &request).unwrap()
}

#[test]
fn names_lead_each_to_its_node_over_one_port() {
    let kfake = Kfake::start(3);
    topology::create(&mut kfake.connect_to_controller(), "named", 1, 1, &[]);
    let authority = Authority::new();
    let keystore = authority.issue("proxy", &format!("DNS:*.{DOMAIN},DNS:{DOMAIN},IP:127.0.0.1"));
    let pattern = format!("broker-{{id}}.{DOMAIN}:9093");
    let options = ProxyOptions::new(kfake.address())
        .set("listener.security.protocol", "SSL")
        .set("node.advertised.pattern", pattern)
        .set("ssl.keystore.location", keystore.display());
    let proxy = Proxy::start_with(&options);

    let told = describe(&authority, &proxy, DOMAIN);
    let name = |node: i32| format!("broker-{node}.{DOMAIN}");
    let mut nodes: Vec<(String, i32)> =
        told.brokers.iter().map(|node| (node.host.to_string(), node.port)).collect();
    nodes.sort();
    assert_eq!(nodes, [0, 1, 2].map(|node| (name(node), 9093)));
    let leader = told.topics[0].partitions[0].leader_id.0;
    let topic = Topic { name: "named".to_owned(), id: told.topics[0].topic_id };
    for node in 0..3 {
        let request = work::fetch(&topic, FETCH, 0);
        let answer = ask_as(&authority, &proxy, &name(node), FETCH, &request).unwrap();
        let code = answer.responses[0].partitions[0].error_code;
        assert_eq!(code, if node == leader { 0 } else { NOT_LEADER_OR_FOLLOWER }, "{answer:?}");
    }
    // An address is no name to send (RFC 6066), so that nobody can say where it leads.
    let request = topology::metadata_request(None);
    let refused = ask_as::<MetadataRequest>(&authority, &proxy, "127.0.0.1", 12, &request);
    assert!(refused.is_err(), "{refused:?}");
    proxy.wait_for_log("the client sent no name by TLS (SNI)");
}

#[test]
fn each_virtual_cluster_has_its_own_upstream() {
    let upstreams = [Kfake::start(1), Kfake::start(1)];
    let port = free_port();
    let options = ProxyOptions::new(upstreams[0].address())
        .set("virtual.clusters", "blue,green")
        .set("virtual.cluster.green.upstream.bootstrap.servers", upstreams[1].address())
        .set("virtual.cluster.green.proxy.listener", format!("127.0.0.1:{port}"))
        .set("virtual.cluster.green.node.port.base", 0)
        .set("virtual.cluster.green.node.ids", "0");
    let proxy = Proxy::start_with(&options);
    let leaks = Leaks::of(upstreams.iter().map(Kfake::address));
    let green = format!("127.0.0.1:{port}");
    let mut clients = [proxy.address(), green.clone()].map(|at| Client::new(at, &leaks));
    for (client, (at, topic)) in
        clients.iter_mut().zip([(proxy.address(), "blue-only"), (green, "green-only")])
    {
        topology::create(client.wire(&at), topic, 1, 1, &[]);
    }
    for (client, topic) in clients.iter_mut().zip(["blue-only", "green-only"]) {
        let known = client.ask(12, &topology::metadata_request(None));
        let names: Vec<&str> = known
            .topics
            .iter()
            .filter_map(|topic| topic.name.as_ref())
            .map(|name| name.0.as_str())
            .collect();
        assert_eq!(names, [topic]);
    }
    for cluster in ["blue", "green"] {
        let requests = format!("tidegate_proxy_requests_total{{cluster=\"{cluster}\"}}");
        assert!(proxy.metrics().get(&requests) >= 2.0);
    }
}

/// Apache Kafka with a listener that asks for a certificate and a password, and asks for the
/// password again soon.
struct Guarded {
    authority: Authority,
    kafka: Kafka,
    /// The address of that listener.
    upstream: String,
    proxy: Proxy,
}

const PASSWORD: &str = "correct horse";
/// Kafka refuses it within a second of the last time, and clients are early by up to 15 %.
const REAUTHENTICATED_MS: &str = "1500";

impl Guarded {
    fn start() -> Self {
        let authority = Authority::new();
        let keystore = authority.issue("kafka", "IP:127.0.1.1");
        let own = authority.issue("proxy", "IP:127.0.0.1");
        let truststore = authority.path("ca.pem");
        let login = "org.apache.kafka.common.security.plain.PlainLoginModule required \
                     user_alice=\"correct horse\";";
        let of = |key: &str| format!("listener.name.secured.{key}");
        let port = free_port();
        let options = KafkaOptions::new()
            .listener("SECURED", port, "SASL_SSL")
            .set(&of("ssl.keystore.type"), "PEM")
            .set(&of("ssl.keystore.location"), keystore.display())
            .set(&of("ssl.truststore.type"), "PEM")
            .set(&of("ssl.truststore.location"), truststore.display())
            .set(&of("ssl.client.auth"), "required")
            .set(&of("sasl.enabled.mechanisms"), "PLAIN")
            .set(&of("plain.sasl.jaas.config"), login)
            .set(&of("plain.connections.max.reauth.ms"), REAUTHENTICATED_MS);
        let kafka = Kafka::start_with(options);
        let upstream = format!("127.0.1.1:{port}");
        let options = Self::toward(&upstream, &authority)
            .set("listener.security.protocol", "SASL_SSL")
            .set("ssl.keystore.location", own.display());
        let proxy = Proxy::start_with(&options);
        Self { authority, kafka, upstream, proxy }
    }

    fn toward(upstream: &str, authority: &Authority) -> ProxyOptions {
        ProxyOptions::new(upstream)
            .set("upstream.security.protocol", "SASL_SSL")
            .set("upstream.ssl.truststore.location", authority.path("ca.pem").display())
            .set("upstream.ssl.keystore.location", authority.path("proxy.pem").display())
    }

    /// kcat with what it has to know, of which `password` may be wrong.
    fn kcat(&self, password: &str, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new("kcat");
        command.args(["-b", &self.proxy.address(), "-X", "security.protocol=SASL_SSL"]);
        command
            .args(["-X", &format!("ssl.ca.location={}", self.authority.path("ca.pem").display())]);
        command.args(["-X", "sasl.mechanisms=PLAIN", "-X", "sasl.username=alice"]);
        command.args(["-X", &format!("sasl.password={password}")]).args(arguments);
        given(command, input)
    }

    /// The file that a Java client reads its settings from.
    fn java_settings(&self) -> PathBuf {
        let file = self.authority.path("client.properties");
        let truststore = self.authority.path("ca.pem");
        let text = format!(
            "security.protocol=SASL_SSL\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
             sasl.mechanism=PLAIN\nsasl.jaas.config=org.apache.kafka.common.security.plain.\
             PlainLoginModule required username=\"alice\" password=\"{PASSWORD}\";\n",
            truststore.display()
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    fn sasl_requests(&self) -> f64 {
        self.proxy.metrics().get("tidegate_server_requests_total{api=\"SaslAuthenticate\"}")
    }
}

fn given(mut command: Command, input: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn java(class: &str, settings: &Path, arguments: &[&str]) -> Output {
    let mut command = Release::Current.tool(class);
    command.args(arguments).arg("--command-config").arg(settings);
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn passwords_and_certificates_work_on_both_sides() {
    let guarded = Guarded::start();
    topology::create(&mut guarded.kafka.connect(1), "secret", 1, 1, &[]);

    let wrote = guarded.kcat(
        PASSWORD,
        &["-P", "-t", "secret", "-X", "enable.idempotence=true"],
        "one\ntwo\n",
    );
    assert!(wrote.status.success(), "{wrote:?}");
    let read = guarded.kcat(PASSWORD, &["-C", "-t", "secret", "-e", "-q"], "");
    assert_eq!(String::from_utf8_lossy(&read.stdout), "one\ntwo\n", "{read:?}");
    let refused = guarded.kcat("wrong", &["-L", "-m", "5"], "");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("Authentication failed: Invalid username or password"), "{said}");

    // The producer is asked for its password again and again on the connections that it has.
    let settings = guarded.java_settings();
    let before = (guarded.sasl_requests(), accepted(&guarded.proxy));
    let address = guarded.proxy.address();
    let perf = "org.apache.kafka.tools.ProducerPerformance";
    let load = ["--topic", "secret", "--num-records", "120", "--throughput", "20"];
    let to = ["--record-size", "100", "--bootstrap-server", &address];
    let produced = java(perf, &settings, &[&load[..], &to[..]].concat());
    assert!(produced.status.success(), "{produced:?}");
    let said = String::from_utf8_lossy(&produced.stdout);
    assert!(said.contains("120 records sent"), "{said}");
    let connected = accepted(&guarded.proxy) - before.1;
    let asked = guarded.sasl_requests() - before.0;
    assert!(asked > connected, "{asked} passwords on {connected} connections");
    until("all of it is there", || {
        let read = guarded.kcat(PASSWORD, &["-C", "-t", "secret", "-e", "-q", "-f", "%o\n"], "");
        (read.stdout.split(|byte| *byte == b'\n').count() == 2 + 120 + 1).then_some(())
    });
    tokens_without_headers_go_through(&guarded);
}

/// What clients older than Kafka 1.0 do, and some that never left it: `SaslHandshake` v0.
fn tokens_without_headers_go_through(guarded: &Guarded) {
    let options = Guarded::toward(&guarded.upstream, &guarded.authority)
        .set("listener.security.protocol", "SASL_PLAINTEXT");
    let proxy = Proxy::start_with(&options);
    let handshake = SaslHandshakeRequest::default().with_mechanism(StrBytes::from("PLAIN"));
    for (password, is_right) in [(PASSWORD, true), ("wrong", false)] {
        let mut wire = proxy.connect();
        let answer = wire.call(0, &handshake);
        assert_eq!((answer.error_code, &*answer.mechanisms[0]), (0, "PLAIN"));
        let token = format!("\0alice\0{password}");
        let length = (token.len() as i32).to_be_bytes();
        wire.send_raw(&[&length[..], token.as_bytes()].concat()).unwrap();
        let taken = wire.receive_frame();
        assert_eq!(taken.map(|frame| frame.len()), is_right.then_some(0));
        if is_right {
            let told = topology::metadata(&mut wire, Some(&["secret"]));
            let port = proxy.node_address(1).rsplit_once(':').unwrap().1.parse().unwrap();
            assert_eq!((&*told.brokers[0].host, told.brokers[0].port), ("127.0.0.1", port));
        }
    }
    // One that is refused before there is a token goes on with requests.
    let mut wire = proxy.connect();
    let unknown = SaslHandshakeRequest::default().with_mechanism(StrBytes::from("NONE"));
    assert_eq!(wire.call(0, &unknown).error_code, UNSUPPORTED_SASL_MECHANISM);
}

fn accepted(proxy: &Proxy) -> f64 {
    proxy.metrics().get("tidegate_server_connections_accepted_total")
}
