//! What a connection writes, and what it holds for that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::script::*;
use super::*;

#[tokio::test]
async fn deferred_pieces_come_in_order_and_little_of_them_is_held() {
    let world = World::new();
    let mut client = world.connect_over(10_000);
    client.send(1, DEFERRED, 20, b"").await;
    client.send(2, ECHO, 0, b"").await;
    settle().await;
    let (id, body) = client.receive().await;
    assert_eq!(id, 1);
    let mut expected = vec![DEFERRED, 20];
    for number in 0..20 {
        expected.extend_from_slice(&vec![number; PIECE]);
        expected.extend_from_slice(&[number; 10]);
    }
    assert!(body == expected);
    assert_eq!(client.receive().await.0, 2);
    let most = world.script.fetched.most.load(Ordering::Relaxed);
    assert!((PIECE..=1 << 20).contains(&most), "{most} bytes were held");
}

#[tokio::test]
async fn a_deferred_piece_that_fails_or_is_short_closes() {
    let world = World::new();
    for command in [BROKEN, SHORT] {
        let mut client = world.connect();
        client.send(1, command, 0, b"").await;
        assert!(matches!(client.end().await.1, Cause::Deferred(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_is_bounded_and_cut_off() {
    let world = World::with(limits(), 64 << 20);
    let mut client = world.connect_over(4_096);
    for id in 0..64 {
        client.send(id, LARGE, 0, b"").await;
    }
    settle().await;
    let begun = world.script.begun.borrow().len();
    assert!(begun <= 17, "{begun} mebibytes wait for the peer");
    let start = world.clock.now();
    assert_eq!(client.ended.await.unwrap(), Cause::SlowReader);
    assert_eq!(world.clock.now().duration_since(start).as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_is_served() {
    let world = World::with(limits(), 64 << 20);
    let mut client = world.connect_over(64 * 1024);
    client.send(1, LARGE, 0, b"").await;
    let mut got = 0;
    let mut piece = vec![0; 64 * 1024];
    while got < (1 << 20) + 8 {
        world.clock.sleep(Duration::from_secs(50)).await;
        got += client.io.read(&mut piece).await.unwrap();
    }
    let errors =
        "tidegate_server_errors_total{api=\"Heartbeat\",code=\"UNKNOWN_TOPIC_OR_PARTITION\"}";
    assert_eq!(world.metric(errors).as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn relief_closes_a_stalled_reader() {
    let world = World::new();
    let mut stalled = world.connect_over(4_096);
    let mut healthy = world.connect();
    stalled.send(1, LARGE, 0, b"").await;
    world.clock.sleep(Duration::from_secs(2)).await;
    assert!(world.context.connections.relieve(1) > 1_000_000);
    assert_eq!(stalled.ended.await.unwrap(), Cause::Relieved);
    healthy.send(1, ECHO, 0, b"").await;
    assert_eq!(healthy.receive().await.0, 1);
}

#[tokio::test(start_paused = true)]
async fn relief_sees_what_waits_behind_an_earlier_response_or_a_piece_to_be_fetched() {
    for (first, second) in [(LATER, LARGE), (STUCK, ECHO)] {
        let world = World::new();
        let mut client = world.connect();
        client.send(1, first, 1, b"").await;
        client.send(2, second, 0, b"").await;
        world.script.begun(2).await;
        world.clock.sleep(Duration::from_secs(1)).await;
        assert!(world.context.connections.relieve(1) >= 200_000);
        assert_eq!(client.ended.await.unwrap(), Cause::Relieved);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_once_everything_is_written() {
    let world = World::new();
    let mut client = world.connect();
    client.send(1, STUCK, 1, b"").await;
    client.send(2, LARGE, 0, b"").await;
    world.script.begun(2).await;
    settle().await;
    world.script.open(1);
    for id in [1, 2] {
        assert_eq!(client.receive().await.0, id);
    }
    world.clock.sleep(Duration::from_secs(1)).await;
    assert_eq!(world.context.connections.relieve(1), 0);
}

#[tokio::test]
async fn a_small_slice_that_waits_does_not_keep_what_it_is_a_slice_of() {
    for first in [LATER, STUCK] {
        let world = World::new();
        let mut client = world.connect();
        client.send(1, first, 1, b"").await;
        client.send(2, SLICE, 0, b"").await;
        world.script.begun(2).await;
        settle().await;
        assert_eq!(world.script.fetched.now.load(Ordering::Relaxed), 0);
        world.script.open(1);
        assert_eq!(client.receive().await.0, 1);
        assert_eq!(client.receive().await, (2, vec![9; 10].into()));
    }
}

#[tokio::test]
async fn large_pieces_are_not_copied() {
    let world = World::new();
    let mut client = world.connect();
    let whole = request(1, LARGE, 0, &vec![0; 1 << 20]);
    client.io.write_all(&whole).await.unwrap();
    assert_eq!(client.receive().await.1.len(), 1 << 20);
    let copied = |direction: &str| -> usize {
        let line = format!("tidegate_server_copied_bytes_total{{direction=\"{direction}\"}}");
        world.metric(&line).unwrap().parse().unwrap()
    };
    assert!(copied("in") <= 3 * 64 * 1024, "{}", copied("in"));
    assert_eq!(copied("out"), 8, "the frame's length and header");
}

#[tokio::test]
async fn requests_that_come_together_take_one_read_and_one_write() {
    let world = World::new();
    let (near, far) = tokio::io::duplex(2 << 20);
    let (reads, writes) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let counted = Counted { io: far, reads: Arc::clone(&reads), writes: Arc::clone(&writes) };
    let mut client = world.connect_with(near, counted);
    let together: Vec<u8> = (0..60).flat_map(|id| request(id, ECHO, 0, &[1; 40])).collect();
    client.io.write_all(&together).await.unwrap();
    for id in 0..60 {
        assert_eq!(client.receive().await.0, id);
    }
    assert_eq!((reads.load(Ordering::Relaxed), writes.load(Ordering::Relaxed)), (1, 1));

    client.io.write_all(&request(60, ECHO, 0, &vec![1; 1 << 20])).await.unwrap();
    assert_eq!(client.receive().await.0, 60);
    let (reads, writes) = (reads.load(Ordering::Relaxed), writes.load(Ordering::Relaxed));
    assert!(reads <= 5 && writes <= 3, "{reads} reads, {writes} writes");
}
