//! The door over real sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::super::script::{
    CALL, DEFERRED, ECHO, LATER, PIECE, Script, Told, name, receive, request,
};
use super::*;
use crate::clock::Random;

/// A door that runs.
struct Running {
    script: Arc<Script>,
    budget: Budget,
    shutdown: Shutdown,
    registry: Registry,
    connections: Arc<Connections>,
    addresses: Vec<SocketAddr>,
    run: JoinHandle<()>,
}

fn listen(address: IpAddr, port: u16) -> ListenerOptions {
    ListenerOptions { name: Arc::from("plain"), address: SocketAddr::new(address, port), tls: None }
}

fn open(listeners: Vec<ListenerOptions>, limits: Limits) -> io::Result<Running> {
    let (script, clock, registry) = (Script::new(), Clock::system(), Registry::new());
    let (budget, shutdown) = (Budget::new(64 << 20), Shutdown::new());
    let connections = Connections::new(clock.clone());
    let options =
        DoorOptions { listeners, limits, connections: Arc::clone(&connections), api_name: name };
    let service = Arc::new(Told(Arc::clone(&script)));
    let door = Door::bind(options, service, &budget, clock, &registry, shutdown.clone())?;
    let addresses = door.local_addresses().into_iter().map(|(_, address)| address).collect();
    let run = task::spawn("door", door.run());
    Ok(Running { script, budget, shutdown, registry, connections, addresses, run })
}

fn running(limits: Limits) -> Running {
    open(vec![listen(Ipv4Addr::LOCALHOST.into(), 0)], limits).unwrap()
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addresses[0]).await.unwrap()
    }

    fn metric(&self, line: &str) -> String {
        let text = self.registry.encode();
        let found = text.lines().find_map(|found| found.strip_prefix(line));
        found.unwrap_or_default().trim().to_owned()
    }

    /// Waits until no connection is open.
    async fn alone(&self) {
        while self.connections.open() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn end(mut stream: TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

#[tokio::test]
async fn both_families_are_served_on_one_port() {
    let v4 = running(Limits::default());
    let port = v4.addresses[0].port();
    let mut address = v4.addresses[0];
    let v6 = open(vec![listen(Ipv6Addr::LOCALHOST.into(), port)], Limits::default());
    let mut served = vec![address];
    // A machine without IPv6 has nothing to show here.
    if let Ok(v6) = &v6 {
        address = v6.addresses[0];
        assert_eq!((address.is_ipv6(), address.port()), (true, port));
        served.push(address);
    }
    for address in served {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&request(1, ECHO, 0, b"x")).await.unwrap();
        assert_eq!(receive(&mut stream).await.unwrap().0, 1);
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = running(Limits::default());
    let taken = first.addresses[0];
    let error = open(vec![listen(taken.ip(), taken.port())], Limits::default()).err().unwrap();
    let text = error.to_string();
    assert!(text.contains("listener \"plain\"") && text.contains(&taken.to_string()), "{text}");
}

#[tokio::test]
async fn a_parked_request_delays_no_other_connection() {
    let door = running(Limits::default());
    let (mut parked, mut other) = (door.connect().await, door.connect().await);
    parked.write_all(&request(1, CALL, 1, b"")).await.unwrap();
    parked.write_all(&request(2, LATER, 2, b"")).await.unwrap();
    door.script.begun(1).await;
    for id in 10..20 {
        other.write_all(&request(id, ECHO, 0, b"")).await.unwrap();
        assert_eq!(receive(&mut other).await.unwrap().0, id);
    }
    door.script.open(2);
    door.script.open(1);
    assert_eq!(receive(&mut parked).await.unwrap().0, 1);
    assert_eq!(receive(&mut parked).await.unwrap().0, 2);
}

#[tokio::test]
async fn connections_above_a_limit_are_refused_and_the_others_go_on() {
    for limits in [
        Limits { max_connections: 2, ..Limits::default() },
        Limits { max_connections_per_ip: 2, ..Limits::default() },
    ] {
        let label = if limits.max_connections == 2 { "" } else { "_per_ip" };
        let door = running(limits);
        let mut held = Vec::new();
        for id in 0..2 {
            let mut stream = door.connect().await;
            stream.write_all(&request(id, ECHO, 0, b"")).await.unwrap();
            receive(&mut stream).await.unwrap();
            held.push(stream);
        }
        assert!(end(door.connect().await).await.is_empty());
        let line = format!(
            "tidegate_server_connections_refused_total{{cause=\"max_connections{label}\"}}"
        );
        assert_eq!(door.metric(&line), "1");
        held[0].write_all(&request(9, ECHO, 0, b"")).await.unwrap();
        assert_eq!(receive(&mut held[0]).await.unwrap().0, 9);
        held.clear();
        door.alone().await;
        let mut stream = door.connect().await;
        stream.write_all(&request(1, ECHO, 0, b"")).await.unwrap();
        assert_eq!(receive(&mut stream).await.unwrap().0, 1);
    }
}

#[tokio::test]
async fn a_drain_answers_what_is_in_flight_and_refuses_the_rest() {
    let door = running(Limits::default());
    let (mut busy, idle) = (door.connect().await, door.connect().await);
    busy.write_all(&request(1, LATER, 1, b"")).await.unwrap();
    door.script.begun(1).await;
    door.shutdown.drain();
    assert!(end(idle).await.is_empty());
    // A close over bytes that nobody has read would be a reset, which can take the answer away.
    busy.write_all(&request(2, ECHO, 0, &[0; 10_000])).await.unwrap();
    door.script.open(1);
    assert_eq!(receive(&mut busy).await.unwrap().0, 1);
    assert_eq!(busy.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    drop(busy);
    door.run.await.unwrap();
    assert!(TcpStream::connect(door.addresses[0]).await.is_err());
    assert_eq!(*door.script.begun.borrow(), [1]);
}

#[tokio::test]
async fn an_abort_ends_the_run_with_requests_in_flight() {
    let mut door = running(Limits::default());
    let mut busy = door.connect().await;
    busy.write_all(&request(1, CALL, 1, b"")).await.unwrap();
    door.script.begun(1).await;
    door.shutdown.abort();
    (&mut door.run).await.unwrap();
    assert_eq!(door.metric("tidegate_server_connections_open"), "0");
    assert_eq!(door.metric("tidegate_server_connections_closed_total{cause=\"cut\"}"), "1");
}

#[tokio::test]
async fn deferred_pieces_pass_a_real_socket() {
    let door = running(Limits::default());
    let mut stream = door.connect().await;
    stream.write_all(&request(1, DEFERRED, 40, b"")).await.unwrap();
    let (_, body) = receive(&mut stream).await.unwrap();
    assert_eq!(body.len(), 2 + 40 * (PIECE + 10));
    let most = door.script.fetched.most.load(std::sync::atomic::Ordering::Relaxed);
    assert!(most <= 1 << 20, "{most} bytes were held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_garbage_connections_leave_nothing_behind() {
    let door = Arc::new(running(Limits::default()));
    let mut storms = Vec::new();
    for storm in 0..10 {
        let door = Arc::clone(&door);
        storms.push(task::spawn("storm", async move {
            let random = Random::seeded(storm);
            for _ in 0..100 {
                let mut stream = door.connect().await;
                // The other end may close while we write.
                let _ = stream.write_all(&garbage(&random)).await;
            }
        }));
    }
    let mut producer = door.connect().await;
    for id in 0..500 {
        let bytes = if id % 10 == 0 { 200_000 } else { 1_000 };
        producer.write_all(&request(id, ECHO, 0, &vec![1; bytes])).await.unwrap();
        assert_eq!(receive(&mut producer).await.unwrap().0, id);
    }
    for storm in storms {
        storm.await.unwrap();
    }
    drop(producer);
    door.alone().await;
    for pool in door.budget.pools() {
        assert_eq!(pool.used(), 0, "{}", pool.name());
    }
    assert_eq!(door.metric("tidegate_server_requests_in_flight"), "0");
    assert_eq!(door.metric("tidegate_server_connections_open"), "0");
    assert_eq!(door.metric("tidegate_server_connections_accepted_total"), "1001");
}

/// Something that no client would send, or only a part of what one would.
fn garbage(random: &Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..random.below(200)).map(|_| random.u64() as u8).collect();
    match random.below(5) {
        0 => bytes,
        1 => b"GET /metrics HTTP/1.1\r\n\r\n".to_vec(),
        2 => {
            let whole = request(1, ECHO, 0, &vec![0; random.below(300_000) as usize]);
            let cut = random.below(whole.len() as u64) as usize;
            whole[..cut].to_vec()
        }
        3 => {
            let length = (bytes.len() as i32).to_be_bytes();
            bytes.splice(0..0, length);
            bytes
        }
        _ => {
            let length = (random.below(1 << 27) as i32).to_be_bytes();
            bytes.splice(0..0, length);
            bytes.resize(bytes.len() + random.below(100_000) as usize, 0);
            bytes
        }
    }
}
