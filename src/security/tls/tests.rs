#![allow(clippy::disallowed_methods, reason = "tests own their files and sockets")]

use std::io::IoSlice;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::live::{LOOK_AGAIN, Look};
use super::testing::Authority;
use super::*;
use crate::clock::Clock;
use crate::config::Secret;
use crate::config::{ClientAuth, ClientTls, Keystore, Pem, ServerTls};
use crate::metrics::Registry;
use crate::security::CertificateMetrics;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Two ends of a connection.
async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap());
    let (accepted, connected) = tokio::join!(listener.accept(), connected);
    (accepted.unwrap().0, connected.unwrap())
}

async fn shake(
    acceptor: &TlsAcceptor,
    connector: &TlsConnector,
    host: &str,
) -> (Result<Stream, AcceptError>, Result<Stream, HandshakeError>) {
    let (theirs, ours) = sockets().await;
    tokio::join!(acceptor.accept(theirs), connector.connect(host, ours))
}

async fn agree(
    server: &ServerTls,
    client: &ClientTls,
    host: &str,
) -> (Result<Stream, AcceptError>, Result<Stream, HandshakeError>) {
    let clock = Clock::system();
    let acceptor = TlsAcceptor::new(server, clock.clone()).unwrap();
    let connector = TlsConnector::new(client, clock).unwrap();
    shake(&acceptor, &connector, host).await
}

/// Sends a byte from the client and waits for it, which with TLS 1.3 shows that the server has
/// accepted the client's certificate.
async fn pass(server: &mut Stream, client: &mut Stream) {
    client.write_all(b"x").await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x');
}

fn refusal(server: &ServerTls) -> String {
    TlsAcceptor::new(server, Clock::system()).unwrap_err().to_string()
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_server_knows_the_name_that_was_asked_for() {
    let authority = Authority::new();
    let (server, client) = agree(&authority.server(), &authority.client(), "localhost").await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    assert_eq!(server.server_name(), Some("localhost"));
    assert_eq!(client.server_name(), None);
    let (first, second) = (vec![1_u8; 300_000], vec![2_u8; 700_000]);
    let (mut at_server, mut at_client) = (Vec::new(), Vec::new());
    let exchange = async |stream: &mut Stream, got: &mut Vec<u8>| {
        let mut sent = 0;
        let total = first.len() + second.len();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let write = async {
            while sent < total {
                let slices = if sent < first.len() {
                    [IoSlice::new(&first[sent..]), IoSlice::new(&second)]
                } else {
                    [IoSlice::new(&second[sent - first.len()..]), IoSlice::new(&[])]
                };
                sent += writer.write_vectored(&slices).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(write, reader.read_to_end(got));
        read.unwrap();
    };
    tokio::join!(exchange(&mut server, &mut at_server), exchange(&mut client, &mut at_client));
    let sent = [first, second].concat();
    assert!(at_server == sent && at_client == sent);
}

#[tokio::test]
async fn a_socket_that_ends_without_a_word_of_tls_is_an_end() {
    let authority = Authority::new();
    let (server, client) = agree(&authority.server(), &authority.client(), "localhost").await;
    let (mut server, mut client) = (server.unwrap(), client.unwrap());
    pass(&mut server, &mut client).await;
    SockRef::from(client.socket()).shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::new(&authority.server(), Clock::system()).unwrap();
    for version in [&TLS12, &TLS13] {
        let mut roots = RootCertStore::empty();
        let pem = authority.read("ca.pem");
        let certificate = rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes());
        roots.add(certificate.unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let (theirs, ours) = sockets().await;
        let name = "127.0.0.1".try_into().unwrap();
        let (server, client) = tokio::join!(acceptor.accept(theirs), connector.connect(name, ours));
        assert_eq!(client.unwrap().get_ref().1.protocol_version(), Some(version.version));
        // No name is sent for an address.
        assert_eq!(server.unwrap().server_name(), None);
    }
}

#[tokio::test]
async fn keys_come_in_pkcs8_pkcs1_and_sec1_in_one_file_or_two_or_as_text() {
    let authority = Authority::new();
    let two_files = authority.server();
    authority.openssl("ec -in server.key -out sec1.key");
    authority.openssl(
        "req -x509 -newkey rsa:2048 -nodes -days 2 -CA ca.pem -CAkey ca.key -subj /CN=rsa \
         -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE \
         -keyout rsa.key -out rsa.pem",
    );
    authority.openssl("rsa -traditional -in rsa.key -out pkcs1.key");
    assert!(authority.read("sec1.key").contains("BEGIN EC PRIVATE KEY"));
    assert!(authority.read("pkcs1.key").contains("BEGIN RSA PRIVATE KEY"));
    authority.write("both.pem", authority.read("server.key") + &authority.read("server.pem"));
    let text = |file: &str| Pem::Text(Secret::new(authority.read(file)));
    let keystores = [
        two_files.keystore.clone(),
        authority.keystore("server.pem", "sec1.key"),
        authority.keystore("rsa.pem", "rsa.key"),
        authority.keystore("rsa.pem", "pkcs1.key"),
        authority.keystore("both.pem", "both.pem"),
        Keystore { chain: text("server.pem"), key: text("server.key") },
        Keystore { chain: text("rsa.pem"), key: text("pkcs1.key") },
    ];
    for keystore in keystores {
        let shown = format!("{keystore:?}");
        let server = ServerTls { keystore, ..two_files.clone() };
        let client = ClientTls { truststore: Some(text("ca.pem")), ..authority.client() };
        let (server, client) = agree(&server, &client, "localhost").await;
        assert!(server.is_ok() && client.is_ok(), "{shown}: {server:?} {client:?}");
    }
}

#[test]
fn what_cannot_be_used_is_named_with_its_file_and_the_way_out() {
    let authority = Authority::new();
    let good = authority.server();
    authority.openssl("pkcs8 -topk8 -in server.key -passout pass:x -out encrypted.key");
    authority.issue("other", "DNS:other");
    authority.write("store.jks", [0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]);
    authority.write("cut.pem", authority.read("server.pem").replace("-----END", ""));
    authority.write("broken.pem", authority.read("server.pem").replace("MII", "!!!"));
    authority.write("empty.pem", "");
    let cases = [
        ("none.pem", "server.key", "No such file", "check ssl.keystore.certificate.chain"),
        ("server.pem", "none.key", "No such file", "check ssl.keystore.key"),
        ("none.pem", "none.pem", "No such file", "check ssl.keystore.location"),
        ("empty.pem", "server.key", "holds no certificate", "BEGIN CERTIFICATE"),
        ("server.pem", "server.pem", "holds no private key", "BEGIN PRIVATE KEY"),
        ("server.pem", "encrypted.key", "is encrypted", "openssl pkey"),
        ("store.jks", "store.jks", "JKS", "keytool"),
        ("cut.pem", "server.key", "no END line", "cut.pem"),
        ("broken.pem", "server.key", "not base64", "broken.pem"),
        ("other.pem", "server.key", "not for the keystore's key", "own certificate first"),
    ];
    for (chain, key, reason, fix) in cases {
        let keystore = authority.keystore(chain, key);
        let refused = refusal(&ServerTls { keystore, ..good.clone() });
        let file = if chain == "server.pem" { key } else { chain };
        let path = authority.path(file).display().to_string();
        for part in [path.as_str(), reason, fix] {
            assert!(refused.contains(part), "{part} is not in: {refused}");
        }
    }
    let client_auth = ClientAuth::Required;
    let refused = refusal(&ServerTls { client_auth, ..good.clone() });
    assert!(refused.contains("ssl.truststore.location"), "{refused}");
    let truststore = Some(authority.pem("server.key"));
    let refused = refusal(&ServerTls { truststore, client_auth, ..good });
    assert!(refused.contains("truststore \"") && refused.contains("no certificate"), "{refused}");
}

#[test]
fn no_part_of_a_key_is_in_an_error() {
    let authority = Authority::new();
    let good = authority.server();
    let key = authority.read("server.key");
    let middle = key.lines().nth(1).unwrap();
    for spoilt in [key.replace("-----END", ""), key.replace(middle, &format!("!{middle}"))] {
        let chain = authority.pem("server.pem");
        let keystore = Keystore { chain, key: Pem::Text(Secret::new(spoilt)) };
        let server = ServerTls { keystore, ..good.clone() };
        let error = TlsAcceptor::new(&server, Clock::system()).unwrap_err();
        assert!(error.to_string().starts_with("keystore key in the configuration: "), "{error}");
        assert!(!format!("{error} {error:?}").contains(middle));
    }
}

#[tokio::test]
async fn client_certificates_are_not_asked_for_taken_or_required() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let with = |keystore: Option<Keystore>| ClientTls { keystore, ..authority.client() };
    let known = with(Some(authority.issue("client", "DNS:client")));
    let unknown = with(Some(stranger.issue("client", "DNS:client")));
    let nobody = with(None);
    let good = authority.server();
    let accepts = async |client_auth: ClientAuth, client: &ClientTls| {
        let truststore = Some(authority.pem("ca.pem"));
        let server = ServerTls { truststore, client_auth, ..good.clone() };
        let (server, client) = agree(&server, client, "localhost").await;
        if let (Ok(mut server), Ok(mut client)) = (server, client) {
            pass(&mut server, &mut client).await;
            return true;
        }
        false
    };
    for (client_auth, accepted) in [
        (ClientAuth::None, [true, true, true]),
        (ClientAuth::Requested, [true, true, false]),
        (ClientAuth::Required, [true, false, false]),
    ] {
        for (client, expected) in [&known, &nobody, &unknown].into_iter().zip(accepted) {
            let outcome = accepts(client_auth, client).await;
            assert_eq!(outcome, expected, "{client_auth:?} {:?}", client.keystore);
        }
    }
}

#[tokio::test]
async fn a_client_hears_that_it_needs_a_certificate_and_the_server_says_so_too() {
    let authority = Authority::new();
    let truststore = Some(authority.pem("ca.pem"));
    let server = authority.server();
    let server = ServerTls { client_auth: ClientAuth::Required, truststore, ..server };
    let (server, client) = agree(&server, &authority.client(), "localhost").await;
    assert_eq!(server.unwrap_err(), AcceptError::NoCertificate);
    // With TLS 1.3 the client is done before the server has looked.
    let error = client.unwrap().read(&mut [0; 8]).await.unwrap_err();
    assert!(alert_in(&error).unwrap().contains("set ssl.keystore"), "{error}");
}

#[tokio::test]
async fn a_server_is_who_it_should_be() {
    let authority = Authority::new();
    let server = authority.server();
    let fault = async |client: &ClientTls, host: &str| {
        agree(&server, client, host).await.1.err().map(|fault| fault.to_string())
    };
    let client = authority.client();
    assert_eq!(fault(&client, "localhost").await, None);
    assert_eq!(fault(&client, "127.0.0.1").await, None);
    let wrong = fault(&client, "kafka-1").await.unwrap();
    assert!(wrong.contains("not for \"kafka-1\" but for"), "{wrong}");
    assert!(wrong.contains("localhost") && wrong.contains("127.0.0.1"), "{wrong}");
    let invalid = fault(&client, "no such/name").await.unwrap();
    assert!(invalid.contains("neither a DNS name nor an IP address"), "{invalid}");
    let careless = ClientTls { verify_hostname: false, ..client };
    assert_eq!(fault(&careless, "kafka-1").await, None);

    // An authority of another name, and one that was made anew under the same.
    for stranger in [Authority::named("stranger"), Authority::new()] {
        let untrusted = ClientTls { verify_hostname: false, ..stranger.client() };
        let (accepted, connected) = agree(&server, &untrusted, "localhost").await;
        assert_eq!(connected.unwrap_err(), HandshakeError::Untrusted);
        let told = accepted.unwrap_err().to_string();
        assert!(told.contains("does not trust the CA"), "{told}");
    }
}

#[tokio::test]
async fn certificates_are_judged_by_the_injected_clock() {
    let authority = Authority::new();
    let server = authority.server();
    let now = Clock::system().wall_ms();
    let acceptor = TlsAcceptor::new(&server, Clock::system()).unwrap();
    let fault = async |days: i64| {
        let clock = Clock::manual(now + days * DAY_MS);
        let connector = TlsConnector::new(&authority.client(), clock).unwrap();
        shake(&acceptor, &connector, "localhost").await.1.unwrap_err()
    };
    let expired = fault(3).await;
    assert!(matches!(expired, HandshakeError::Expired(_)), "{expired}");
    assert!(expired.to_string().contains("has expired"), "{expired}");
    let early = fault(-1).await;
    assert!(matches!(early, HandshakeError::NotYetValid(_)), "{early}");
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_when_it_is_in_the_truststore_itself() {
    let authority = Authority::new();
    // What `openssl req -x509` makes is its own authority.
    authority.openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=self \
         -addext subjectAltName=DNS:localhost -keyout self.key -out self.pem",
    );
    let keystore = authority.keystore("self.pem", "self.key");
    let server = ServerTls { keystore, ..authority.server() };
    let truststore = Some(authority.pem("self.pem"));
    let client = ClientTls { truststore, ..authority.client() };
    assert!(agree(&server, &client, "localhost").await.1.is_ok());
    let fault = agree(&server, &client, "other").await.1.unwrap_err();
    assert!(matches!(fault, HandshakeError::WrongName { .. }), "{fault}");
    let fault = agree(&server, &authority.client(), "localhost").await.1.unwrap_err();
    assert!(matches!(fault, HandshakeError::Untrusted | HandshakeError::Certificate(_)), "{fault}");
}

#[tokio::test]
async fn plaintext_and_early_ends_are_told_apart_on_a_tls_listener() {
    let authority = Authority::new();
    let acceptor = TlsAcceptor::new(&authority.server(), Clock::system()).unwrap();
    let outcome = async |bytes: &[u8]| {
        let (theirs, mut ours) = sockets().await;
        ours.write_all(bytes).await.unwrap();
        ours.shutdown().await.unwrap();
        acceptor.accept(theirs).await.unwrap_err()
    };
    let metadata = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    assert_eq!(outcome(&metadata).await, AcceptError::Plaintext);
    assert_eq!(outcome(b"GET / HTTP/1.1\r\n\r\n").await, AcceptError::Plaintext);
    assert_eq!(outcome(b"").await, AcceptError::Closed);
    assert_eq!(outcome(&[0x16, 0x03, 0x01]).await, AcceptError::Closed);
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    let authority = Authority::new();
    let connector = TlsConnector::new(&authority.client(), Clock::system()).unwrap();
    let answered = async |answer: &[u8]| {
        let (mut theirs, ours) = sockets().await;
        let answer = async {
            // Before the hello is read: closing over it would reset the connection.
            let _ = theirs.read(&mut [0; 4096]).await.unwrap();
            theirs.write_all(answer).await.unwrap();
            drop(theirs);
        };
        tokio::join!(connector.connect("localhost", ours), answer).0.unwrap_err()
    };
    assert_eq!(answered(b"HTTP/1.1 400 Bad Request\r\n\r\n").await, HandshakeError::Plaintext);
    assert_eq!(answered(&[0, 0, 0, 9, 0, 0, 0, 1, 0]).await, HandshakeError::Plaintext);
    assert_eq!(answered(b"").await, HandshakeError::Closed);
}

/// Which certificate a server shows: the names in it, by way of a name that no certificate has.
async fn shown(acceptor: &TlsAcceptor, connector: &TlsConnector) -> Vec<String> {
    match shake(acceptor, connector, "nobody").await.1.unwrap_err() {
        HandshakeError::WrongName { presented, .. } => presented,
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn changed_files_serve_new_connections_and_bad_ones_change_nothing() {
    let authority = Authority::new();
    let clock = Clock::system();
    let server = authority.server();
    let acceptor = TlsAcceptor::new(&server, clock.clone()).unwrap();
    let connector = TlsConnector::new(&authority.client(), clock.clone()).unwrap();
    let names = async || shown(&acceptor, &connector).await.join(" ");
    assert!(names().await.contains("localhost"));

    authority.issue("server", "DNS:renewed");
    assert!(names().await.contains("localhost"), "not yet looked at");
    clock.sleep(LOOK_AGAIN).await;
    assert!(names().await.contains("renewed"));

    // A chain that came before its key.
    let key = authority.read("server.key");
    authority.issue("server", "DNS:third");
    let right_key = authority.read("server.key");
    authority.write("server.key", &key);
    clock.sleep(LOOK_AGAIN).await;
    assert!(names().await.contains("renewed"));
    let Look::Kept(error) = acceptor.live.look() else { panic!("looks good") };
    assert!(error.to_string().contains("server.pem"), "{error}");

    std::fs::remove_file(authority.path("server.key")).unwrap();
    let Look::Kept(error) = acceptor.live.look() else { panic!("looks good") };
    assert!(error.to_string().contains("server.key"), "{error}");
    assert!(names().await.contains("renewed"));

    authority.write("server.key", &right_key);
    assert_eq!(acceptor.live.look(), Look::Renewed);
    assert!(names().await.contains("third"));
    assert_eq!(acceptor.live.look(), Look::Same);

    // Away for a while and back as it was.
    std::fs::remove_file(authority.path("server.pem")).unwrap();
    assert!(matches!(acceptor.live.look(), Look::Kept(TlsError::Unreadable { .. })));
    authority.issue("server", "DNS:fourth");
    assert_eq!(acceptor.live.look(), Look::Renewed);
    let (chain, key) = (authority.read("server.pem"), authority.read("server.key"));
    std::fs::remove_file(authority.path("server.pem")).unwrap();
    assert!(matches!(acceptor.live.look(), Look::Kept(_)));
    authority.write("server.pem", chain);
    authority.write("server.key", key);
    assert_eq!(acceptor.live.look(), Look::Same);
}

#[tokio::test(start_paused = true)]
async fn a_changed_truststore_is_used_for_new_connections() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let clock = Clock::system();
    let acceptor = TlsAcceptor::new(&stranger.server(), clock.clone()).unwrap();
    let connector = TlsConnector::new(&authority.client(), clock.clone()).unwrap();
    let fault = async || shake(&acceptor, &connector, "localhost").await.1.err();
    assert_eq!(fault().await, Some(HandshakeError::Untrusted));
    let both = authority.read("ca.pem") + &stranger.read("ca.pem");
    authority.write("ca.pem", both);
    clock.sleep(LOOK_AGAIN.saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(fault().await, Some(HandshakeError::Untrusted));
    clock.sleep(Duration::from_millis(1)).await;
    assert_eq!(fault().await, None);
}

/// The lines of the metric.
fn told(registry: &Registry) -> Vec<String> {
    let text = registry.encode();
    let lines = text.lines().filter(|line| line.starts_with("tidegate_security_certificate_"));
    lines.map(str::to_owned).collect()
}

#[test]
fn when_certificates_end_is_told_and_told_anew_when_they_were_renewed() {
    let authority = Authority::new();
    let server = authority.server();
    let (registry, now) = (Registry::new(), Clock::system().wall_ms() / 1_000);
    let metrics = CertificateMetrics::new(&registry);
    let acceptor = TlsAcceptor::new(&server, Clock::system()).unwrap();
    // Without a certificate of its own there is nothing to tell.
    let connector = TlsConnector::new(&authority.client(), Clock::system()).unwrap();
    connector.tell_expiry(&metrics, "upstream");
    assert!(told(&registry).is_empty());
    acceptor.tell_expiry(&metrics, "EXTERNAL");
    let keystore = Some(server.keystore);
    let client = ClientTls { keystore, ..authority.client() };
    let connector = TlsConnector::new(&client, Clock::system()).unwrap();
    connector.tell_expiry(&metrics, "upstream");
    let ends = || {
        let read = |line: String| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse::<i64>().unwrap())
        };
        told(&registry).into_iter().map(read).collect::<std::collections::BTreeMap<_, _>>()
    };
    let name = "tidegate_security_certificate_expiry_seconds";
    let of_server = format!("{name}{{name=\"EXTERNAL\",side=\"server\"}}");
    let of_client = format!("{name}{{name=\"upstream\",side=\"client\"}}");
    let first = ends();
    assert_eq!(first.keys().collect::<Vec<_>>(), [&of_server, &of_client]);
    assert!((0..=2 * 86_400 + 60).contains(&(first[&of_server] - now)), "{first:?}");
    assert_eq!(first[&of_server], first[&of_client]);

    // A chain ends with its first end: here that of the certificate of one day.
    authority.openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=short \
         -keyout short.key -out short.pem",
    );
    authority.write("server.pem", authority.read("server.pem") + &authority.read("short.pem"));
    assert_eq!(acceptor.live.look(), Look::Renewed);
    let second = ends();
    assert!((86_000..=86_460).contains(&(second[&of_server] - now)), "{second:?}");
    assert_eq!(second[&of_client], first[&of_client], "nobody has looked at the files for it");
    // What cannot be used does not serve, and is not told.
    authority.write("server.pem", "");
    assert!(matches!(acceptor.live.look(), Look::Kept(_)));
    assert_eq!(ends(), second);
}
