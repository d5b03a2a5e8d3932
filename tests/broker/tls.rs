//! A broker's listeners that speak TLS.

use std::process::{Command, Stdio};

use kafka_protocol::messages::{MetadataRequest, MetadataResponse};
use tidegate::client::{Client, ConnectError, Connector};
use tidegate::clock::Clock;
use tidegate::config::ClientTls;
use tidegate::security::tls::{HandshakeError, TlsConnector};

use crate::harness::authority::Authority;
use crate::harness::{Broker, Options, free_ports};

/// A broker with a plaintext listener, one with TLS, and one that requires certificates.
struct Secured {
    authority: Authority,
    broker: Broker,
    ssl: u16,
    mutual: u16,
}

impl Secured {
    fn start() -> Self {
        let authority = Authority::new();
        let names = "DNS:localhost,IP:127.0.0.1";
        let (keystore, own) = (authority.issue("server", names), authority.issue("own", names));
        let ssl = free_ports(2);
        let mutual = ssl + 1;
        let listeners = format!(
            "PLAINTEXT://127.0.0.1:{{port}},SSL://127.0.0.1:{ssl},MUTUAL://127.0.0.1:{mutual}"
        );
        let map = "PLAINTEXT:PLAINTEXT,SSL:SSL,MUTUAL:SSL";
        let options = Options::new()
            .set("listeners", listeners)
            .set("listener.security.protocol.map", map)
            .set("ssl.keystore.location", keystore.display())
            .set("listener.name.mutual.ssl.keystore.location", own.display())
            .set("listener.name.mutual.ssl.truststore.location", authority.path("ca.pem").display())
            .set("listener.name.mutual.ssl.client.auth", "required");
        Self { broker: Broker::start_with(options), authority, ssl, mutual }
    }

    /// The names in the certificate of the TLS listener.
    fn presented(&self) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let tls = TlsConnector::new(&self.authority.client(None), Clock::system()).unwrap();
            let socket = tokio::net::TcpStream::connect(("127.0.0.1", self.ssl)).await.unwrap();
            match tls.connect("nobody", socket).await.unwrap_err() {
                HandshakeError::WrongName { presented, .. } => presented,
                other => panic!("{other}"),
            }
        })
    }
}

/// What a client in TLS hears about the cluster, connected as `host`.
fn metadata(host: &str, port: u16, tls: &ClientTls) -> Result<MetadataResponse, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let connector = TlsConnector::new(tls, Clock::system()).unwrap();
        let connector = Connector::new(Some(connector), Clock::system());
        let stream = connector.connect(host, port).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let mut client = Client::new(stream, "test", Clock::system());
        client.api_versions().await.map_err(|error| error.to_string())?;
        let request = MetadataRequest::default().with_topics(None);
        client.call(12, &request).await.map_err(|error| error.to_string())
    })
}

#[test]
fn clients_are_answered_in_tls_and_told_the_address_of_their_listener() {
    let secured = Secured::start();
    let answer = metadata("localhost", secured.ssl, &secured.authority.client(None));
    let answer = answer.unwrap();
    let told: Vec<i32> = answer.brokers.iter().map(|broker| broker.port).collect();
    assert_eq!(told, [i32::from(secured.ssl)]);
    // Beside it plaintext goes on.
    let request = MetadataRequest::default().with_topics(None);
    let answer = secured.broker.connect().call(12, &request);
    assert_ne!(answer.brokers[0].port, i32::from(secured.ssl));
}

#[test]
fn openssl_agrees_on_both_versions() {
    let secured = Secured::start();
    for (flag, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-brief", "-verify_return_error", "-verify_hostname"]);
        openssl.args(["localhost", flag, "-connect", &format!("127.0.0.1:{}", secured.ssl)]);
        openssl.arg("-CAfile").arg(secured.authority.path("ca.pem")).stdin(Stdio::null());
        let output = openssl.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains(version), "{text}");
        assert!(text.contains("Verification: OK"), "{text}");
    }
}

#[test]
fn a_listener_that_requires_certificates_lets_only_those_in_that_have_one() {
    let secured = Secured::start();
    let (authority, port) = (&secured.authority, secured.mutual);
    let own = authority.issue("client", "DNS:client");
    let answer = metadata("127.0.0.1", port, &authority.client(Some(own)));
    assert_eq!(answer.unwrap().brokers[0].port, i32::from(port));
    let refused = metadata("127.0.0.1", port, &authority.client(None)).unwrap_err();
    assert!(refused.contains("it requires a certificate of ours"), "{refused}");
    secured.broker.wait_for_log("ssl.client.auth=required");
    let strangers = Authority::new();
    let stranger = strangers.issue("client", "DNS:client");
    let refused = metadata("127.0.0.1", port, &authority.client(Some(stranger)));
    assert!(refused.is_err());
}

#[test]
fn plaintext_on_a_tls_listener_is_closed_with_a_line_that_says_so() {
    let secured = Secured::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let error = runtime.block_on(async {
        let connector = Connector::new(None, Clock::system());
        let stream = connector.connect("127.0.0.1", secured.ssl).await.unwrap();
        Client::new(stream, "test", Clock::system()).api_versions().await.unwrap_err()
    });
    assert!(error.to_string().contains("speaks TLS and PLAINTEXT was expected"), "{error}");
    secured.broker.wait_for_log("set security.protocol=SSL in the client");
    let count = "tidegate_server_connections_closed_total{cause=\"plaintext\"}";
    secured.broker.wait_until("it is counted", |broker| broker.metric(count) == 1.0);
}

#[test]
fn tls_on_a_plaintext_listener_is_named_on_both_sides() {
    let secured = Secured::start();
    let port = secured.broker.address().rsplit(':').next().unwrap().parse().unwrap();
    let tls = secured.authority.client(None);
    let refused = metadata("127.0.0.1", port, &tls).unwrap_err();
    let (host, fault) = ("127.0.0.1".to_owned(), HandshakeError::Closed);
    assert_eq!(refused, ConnectError::Tls { host, port, fault }.to_string());
    secured.broker.wait_for_log("peer speaks TLS to a plaintext listener");
}

/// The files are looked at again ten seconds after they were read.
#[test]
fn a_renewed_certificate_is_shown_without_a_restart() {
    let secured = Secured::start();
    assert!(!secured.presented().join(" ").contains("renewed"));
    let ends = |name: &str| {
        let series = "tidegate_security_certificate_expiry_seconds";
        secured.broker.metric(&format!("{series}{{name=\"{name}\",side=\"server\"}}"))
    };
    let (before, of_other) = (ends("SSL"), ends("MUTUAL"));
    secured.authority.issue_for_days("server", "DNS:renewed", 9);
    secured.broker.wait_until("the new certificate is shown", |_| {
        secured.presented().join(" ").contains("renewed")
    });
    secured.broker.wait_for_log("certificates were renewed");
    assert!(ends("SSL") >= before + 7.0 * 86_400.0);
    assert_eq!(ends("MUTUAL"), of_other);
}

#[test]
fn a_start_without_a_usable_certificate_names_the_file() {
    let missing = Authority::new().path("no-such.pem");
    let options = Options::new().set("listeners", format!("SSL://127.0.0.1:{}", free_ports(1)));
    let mut broker = Broker::begin(options.set("ssl.keystore.location", missing.display()));
    assert!(!broker.is_ready_at_last());
    broker.wait_for_log("no-such.pem");
    broker.wait_for_log("check ssl.keystore.location");
    assert_ne!(broker.wait(), Some(0));
}
