//! The door over real sockets.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::door::CONNECTIONS_MAX;
use super::*;

struct Served {
    address: SocketAddr,
    registry: Registry,
    health: Health,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

async fn served() -> Served {
    let admin = Admin::bind(&Endpoint::parse("127.0.0.1:0").unwrap()).await.unwrap();
    let address = admin.local_addr();
    let (registry, health, shutdown) = (Registry::new(), Health::starting(), Shutdown::new());
    let log_level = LogLevel::fixed("info");
    let known = Known { registry: registry.clone(), health: health.clone(), log_level };
    let serving = admin.serve(known, Clock::system(), shutdown.clone());
    let task = crate::task::spawn("admin", serving);
    Served { address, registry, health, shutdown, task }
}

/// Sends `request` and returns all that comes back until the connection ends.
async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Status line and body of a GET.
async fn get_page(address: SocketAddr, path: &str) -> (String, String) {
    let answer = exchange(address, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.to_ascii_lowercase().contains("connection: close"), "{head}");
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// Waits until the peer has closed or reset the connection.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    // A reset is an error here, an orderly end is none; either is an end.
    drop(stream.read_to_end(&mut rest).await);
}

const OK: &str = "HTTP/1.1 200 OK";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable";

fn page(status: &str, body: &str) -> (String, String) {
    (status.to_owned(), body.to_owned())
}

#[tokio::test]
async fn readiness_and_liveness_follow_health() {
    let served = served().await;
    assert_eq!(get_page(served.address, "/livez").await, page(OK, "ok\n"));
    assert_eq!(get_page(served.address, "/readyz").await, page(UNAVAILABLE, "start: starting\n"));
    served.health.clear(Health::START);
    assert_eq!(get_page(served.address, "/readyz").await, page(OK, "ok\n"));
    served.health.set_fatal("write-ahead log: sync failed");
    let cause = "write-ahead log: sync failed\n";
    assert_eq!(get_page(served.address, "/livez").await, page(UNAVAILABLE, cause));
    let reason = format!("fatal: {cause}");
    assert_eq!(get_page(served.address, "/readyz").await, page(UNAVAILABLE, &reason));
}

#[tokio::test]
async fn metrics_are_prometheus_text() {
    let served = served().await;
    served.registry.counter("admin_test_total", "Counts a test.").inc();
    let answer =
        exchange(served.address, "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\ntidegate_admin_test_total 1\n"), "{answer}");
}

#[tokio::test]
async fn the_log_level_is_told_and_changed_on_loopback() {
    let served = served().await;
    let put = |level: &str, host: &str| {
        let head = format!("PUT /log-level HTTP/1.1\r\nHost: {host}\r\n");
        format!("{head}Content-Length: {}\r\n\r\n{level}", level.len())
    };
    assert_eq!(get_page(served.address, "/log-level").await, page(OK, "info\n"));
    let changed =
        exchange(served.address, &put("warn,tidegate::server=debug\n", "localhost")).await;
    assert!(changed.starts_with(OK), "{changed}");
    let now = page(OK, "warn,tidegate::server=debug\n");
    assert_eq!(get_page(served.address, "/log-level").await, now);
    let wrong = exchange(served.address, &put("loud", "localhost")).await;
    assert!(wrong.starts_with("HTTP/1.1 400 ") && wrong.contains("\"loud\" must be"), "{wrong}");
    let rebound = exchange(served.address, &put("off", "example.com")).await;
    assert!(rebound.starts_with("HTTP/1.1 403 "), "{rebound}");
    assert_eq!(get_page(served.address, "/log-level").await, now);
}

#[tokio::test]
async fn other_pages_and_methods_are_refused() {
    let served = served().await;
    assert_eq!(get_page(served.address, "/").await.0, "HTTP/1.1 404 Not Found");
    let posted = exchange(served.address, "POST /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(posted.starts_with("HTTP/1.1 405 "), "{posted}");
    let garbage = exchange(served.address, "\0\0\0\x12\0\x12\0\x03 what is this\r\n\r\n").await;
    assert!(garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
}

#[tokio::test]
async fn connections_that_others_leave_open_do_not_keep_a_probe_out() {
    let served = served().await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(b"GET /livez HT").await.unwrap();
        idle.push(stream);
    }
    assert_eq!(get_page(served.address, "/livez").await.0, OK);
}

// The clock is paused: it moves on by itself when nothing else can happen, so the test sees the
// deadline without waiting for it.
#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_is_cut_off() {
    let served = served().await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n").await.unwrap();
    let minute = std::time::Duration::from_mins(1);
    Clock::system().timeout(minute, closed(&mut slow)).await.expect("the door cuts it off first");
}

#[tokio::test]
async fn a_request_with_an_endless_head_is_cut_off() {
    let served = served().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    let line = format!("x: {}\r\n", "y".repeat(1000));
    // Bounded, so that a door without a limit fails the test instead of hanging it; the failing
    // write is the connection being cut.
    let mut lines = 0;
    while lines < 100_000 && stream.write_all(line.as_bytes()).await.is_ok() {
        lines += 1;
    }
    assert!(lines < 100_000);
}

#[tokio::test]
async fn a_drain_ends_the_door() {
    let served = served().await;
    assert_eq!(get_page(served.address, "/livez").await.0, OK);
    served.shutdown.drain();
    served.task.await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test]
async fn an_abort_does_not_wait_for_a_request_under_way() {
    let served = served().await;
    let mut slow = TcpStream::connect(served.address).await.unwrap();
    slow.write_all(b"GET /livez HT").await.unwrap();
    assert_eq!(get_page(served.address, "/livez").await.0, OK);
    served.shutdown.abort();
    served.task.await.unwrap();
}

#[tokio::test]
async fn an_address_in_use_is_told_with_the_key_to_change() {
    let served = served().await;
    let endpoint = Endpoint::parse(&served.address.to_string()).unwrap();
    let error = Admin::bind(&endpoint).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("admin listener {}: ", served.address)), "{error}");
    assert!(error.ends_with("set admin.listener to a free address of this machine"), "{error}");
    let named = Admin::bind(&Endpoint::parse("localhost:0").unwrap()).await.unwrap();
    assert!(named.local_addr().ip().is_loopback());
}
