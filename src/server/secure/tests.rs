//! TLS on a listener, over real sockets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::script::{DEFERRED, ECHO, LATER, PIECE, Script, Told, name, receive, request};
use super::super::{Connections, Door, DoorOptions, Limits, ListenerOptions};
use super::*;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::metrics::Registry;
use crate::security::tls::TlsConnector;
use crate::security::tls::testing::Authority;
use crate::shutdown::Shutdown;
use crate::task;

/// A door with one TLS listener.
struct Running {
    authority: Authority,
    script: Arc<Script>,
    registry: Registry,
    shutdown: Shutdown,
    connections: Arc<Connections>,
    address: SocketAddr,
}

fn running() -> Running {
    let (authority, clock, registry) = (Authority::new(), Clock::system(), Registry::new());
    let (script, shutdown) = (Script::new(), Shutdown::new());
    let connections = Connections::new(clock.clone());
    let listener = ListenerOptions {
        name: Arc::from("SSL"),
        address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0),
        tls: Some(TlsAcceptor::new(&authority.server(), clock.clone()).unwrap()),
    };
    let options = DoorOptions {
        listeners: vec![listener],
        limits: Limits::default(),
        connections: Arc::clone(&connections),
        api_name: name,
    };
    let service = Arc::new(Told(Arc::clone(&script)));
    let budget = Budget::new(64 << 20);
    let door = Door::bind(options, service, &budget, clock, &registry, shutdown.clone()).unwrap();
    let address = door.local_addresses()[0].1;
    task::spawn("door", door.run());
    Running { authority, script, registry, shutdown, connections, address }
}

impl Running {
    async fn connect(&self) -> Stream {
        let connector = TlsConnector::new(&self.authority.client(), Clock::system()).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        connector.connect("localhost", stream).await.unwrap()
    }

    /// How often connections ended for this cause.
    fn closed(&self, cause: &str) -> String {
        let line = format!("tidegate_server_connections_closed_total{{cause=\"{cause}\"}} ");
        let text = self.registry.encode();
        text.lines().find_map(|found| found.strip_prefix(&line)).unwrap_or_default().to_owned()
    }

    /// Waits until no connection is open.
    async fn alone(&self) {
        while self.connections.open() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn requests_are_answered_in_tls() {
    let running = running();
    let mut client = running.connect().await;
    client.write_all(&request(7, ECHO, 0, b"hello")).await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(receive(&mut client).await.unwrap(), (7, Bytes::from_static(b"e\0hello")));
    drop(client);
    running.alone().await;
    let ended = [running.closed("peer_closed"), running.closed("failed")];
    assert!(ended.contains(&"1".to_owned()), "{ended:?}");
}

#[tokio::test]
async fn a_plaintext_client_is_closed_and_counted() {
    let running = running();
    let mut client = TcpStream::connect(running.address).await.unwrap();
    client.write_all(&request(7, ECHO, 0, b"hello")).await.unwrap();
    let mut rest = Vec::new();
    // It gets TLS's alert, or a reset.
    let _ = client.read_to_end(&mut rest).await;
    assert!(rest.is_empty() || rest.starts_with(&[0x15, 0x03]), "{rest:?}");
    running.alone().await;
    assert_eq!(running.closed("plaintext"), "1");
    // A probe.
    drop(TcpStream::connect(running.address).await.unwrap());
    while running.closed("peer_closed") != "1" {
        tokio::task::yield_now().await;
    }
    running.alone().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_has_a_deadline() {
    let running = running();
    let started = Clock::system().now();
    let mut client = TcpStream::connect(running.address).await.unwrap();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(started.elapsed() >= HANDSHAKE_TIMEOUT);
    running.alone().await;
    assert_eq!(running.closed("tls_handshake"), "1");
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_handshake() {
    let running = running();
    let mut client = TcpStream::connect(running.address).await.unwrap();
    while running.connections.open() == 0 {
        tokio::task::yield_now().await;
    }
    running.shutdown.drain();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    running.alone().await;
    assert_eq!(running.closed("drained"), "1");
}

/// TLS takes bytes that the socket has not taken: they are owed as long as it has not.
#[tokio::test]
async fn a_peer_that_has_closed_its_side_and_reads_late_gets_all_of_its_answers() {
    let running = running();
    let mut client = running.connect().await;
    let pieces = 200_u8;
    client.write_all(&request(1, DEFERRED, pieces, b"")).await.unwrap();
    client.write_all(&request(2, LATER, 3, b"")).await.unwrap();
    client.shutdown().await.unwrap();
    running.script.begun(2).await;
    running.script.open(3);
    let (id, body) = receive(&mut client).await.unwrap();
    assert_eq!((id, body.len()), (1, 2 + usize::from(pieces) * (PIECE + 10)));
    assert_eq!(receive(&mut client).await.unwrap().0, 2);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
}
