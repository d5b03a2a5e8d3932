//! Connections over pipes, with paused time where time matters.

use tokio::io::AsyncWriteExt;

use super::super::context::Limits;
use super::super::script::*;
use super::*;
use crate::clock::Random;

#[tokio::test]
async fn replies_leave_in_the_order_of_their_requests() {
    let world = World::new();
    let mut client = world.connect();
    client.send(1, LATER, 1, b"a").await;
    client.send(2, LATER, 2, b"b").await;
    client.send(3, ECHO, 0, b"c").await;
    assert_eq!(world.script.begun(3).await, [1, 2, 3]);
    world.script.open(2);
    world.script.open(1);
    for (id, free) in [(1, b'a'), (2, b'b'), (3, b'c')] {
        let (got, body) = client.receive().await;
        assert_eq!((got, body[2]), (id, free));
    }
    assert_eq!(client.hang_up().await, Cause::PeerClosed);
    assert_eq!(world.charged(), 0);
}

#[tokio::test]
async fn the_next_first_stage_waits_and_replies_go_on_meanwhile() {
    let world = World::new();
    let mut client = world.connect();
    client.send(1, LATER, 1, b"").await;
    client.send(2, CALL, 2, b"").await;
    client.send(3, ECHO, 0, b"").await;
    assert_eq!(world.script.begun(2).await, [1, 2]);
    world.script.open(1);
    assert_eq!(client.receive().await.0, 1);
    assert_eq!(*world.script.begun.borrow(), [1, 2], "the third waits for the second's call");
    world.script.open(2);
    assert_eq!(client.receive().await.0, 2);
    assert_eq!(client.receive().await.0, 3);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_during_a_call_or_a_wait_is_noticed() {
    let world = World::new();
    for command in [CALL, LATER] {
        let mut client = world.connect();
        client.send(1, command, 1, b"").await;
        world.script.begun.subscribe().wait_for(|ids| !ids.is_empty()).await.unwrap();
        assert_eq!(client.hang_up().await, Cause::PeerClosed);
        world.script.begun.send_modify(Vec::clear);
    }
    assert_eq!(world.charged(), 0);
}

#[tokio::test]
async fn requests_sent_before_the_end_are_all_handled() {
    let world = World::new();
    let mut client = world.connect();
    for id in 0..200 {
        client.send(id, SILENT, 0, &[id as u8]).await;
    }
    assert_eq!(client.hang_up().await, Cause::PeerClosed);
    assert_eq!(*world.script.begun.borrow(), (0..200).collect::<Vec<_>>());
    let frees: Vec<u8> = world.script.bodies.lock().unwrap().iter().map(|body| body[2]).collect();
    assert_eq!(frees, (0..200).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_connection_that_its_service_is_done_with_gets_its_answers() {
    let world = World::new();
    let mut client = world.connect();
    client.send(1, LATER, 1, b"").await;
    world.script.begun(1).await;
    world.script.finish();
    settle().await;
    client.send(2, ECHO, 0, b"").await;
    settle().await;
    world.script.open(1);
    assert_eq!(client.receive().await.0, 1);
    let (rest, cause) = client.end().await;
    assert_eq!((rest.len(), cause.label()), (0, "done"));
    assert_eq!(*world.script.begun.borrow(), [1], "nothing more is taken in");
}

#[tokio::test]
async fn a_half_closed_peer_gets_its_answers() {
    let world = World::new();
    let mut client = world.connect();
    client.send(1, LATER, 1, b"").await;
    client.io.shutdown().await.unwrap();
    world.script.begun(1).await;
    world.script.open(1);
    assert_eq!(client.receive().await.0, 1);
    assert_eq!(client.end().await, (Vec::new(), Cause::PeerClosed));
}

#[tokio::test]
async fn at_most_64_requests_are_in_flight() {
    let world = World::new();
    let mut client = world.connect();
    for id in 0..100 {
        client.send(id, LATER, 1, b"").await;
    }
    assert_eq!(world.script.begun(64).await.len(), 64);
    settle().await;
    assert_eq!(world.script.begun.borrow().len(), 64);
    assert_eq!(world.metric("tidegate_server_requests_in_flight").as_deref(), Some("64"));
    world.script.open(1);
    assert_eq!(client.receive().await.0, 0);
    assert_eq!(world.script.begun(65).await.len(), 65);
    for _ in 0..99 {
        world.script.open(1);
    }
    for id in 1..100 {
        assert_eq!(client.receive().await.0, id);
    }
    assert_eq!(client.hang_up().await, Cause::PeerClosed);
    assert_eq!(world.metric("tidegate_server_requests_in_flight").as_deref(), Some("0"));
    let pauses = "tidegate_server_read_pause_seconds_count{cause=\"in_flight\"}";
    assert_ne!(world.metric(pauses).as_deref(), Some("0"));
}

/// A client that waits for as many answers as it may.
async fn full(world: &World) -> Client {
    let mut client = world.connect();
    for id in 0..64 {
        client.send(id, LATER, 1, b"").await;
    }
    world.script.begun(64).await;
    settle().await;
    client
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_with_as_much_in_flight_as_may_be_is_noticed() {
    let world = World::new();
    let client = full(&world).await;
    let left = world.clock.timeout(Duration::from_mins(1), client.hang_up()).await;
    assert_eq!(left, Ok(Cause::PeerClosed));
    assert_eq!(world.charged(), 0);
}

#[tokio::test]
async fn what_comes_while_no_more_may_be_in_flight_is_kept_until_then() {
    let world = World::new();
    let mut client = full(&world).await;
    client.send(64, LATER, 1, b"").await;
    let last = request(65, LATER, 1, b"the last one");
    let (first, second) = last.split_at(10);
    client.io.write_all(first).await.unwrap();
    settle().await;
    assert_eq!(world.script.begun.borrow().len(), 64);
    world.script.open(1);
    assert_eq!(client.receive().await.0, 0);
    assert_eq!(world.script.begun(65).await.len(), 65);
    client.io.write_all(second).await.unwrap();
    for _ in 0..65 {
        world.script.open(1);
    }
    for id in 1..66 {
        assert_eq!(client.receive().await.0, id);
    }
    assert_eq!(client.hang_up().await, Cause::PeerClosed);
    assert_eq!(world.charged(), 0);
}

#[tokio::test]
async fn in_flight_bytes_are_bounded() {
    let limits = Limits { in_flight_bytes: 100_000, ..Limits::default() };
    let world = World::with(limits, 64 << 20);
    let mut client = world.connect();
    for id in 0..4 {
        client.send(id, LATER, 1, &vec![0; 60_000]).await;
    }
    world.script.begun(2).await;
    settle().await;
    assert_eq!(world.script.begun.borrow().len(), 2, "two exceed the bound");
    world.script.open(1);
    client.receive().await;
    assert_eq!(world.script.begun(3).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_and_those_that_wait_for_an_answer_are_not() {
    let world = World::with(limits(), 64 << 20);
    let start = world.clock.now();
    let never_sent = world.connect();
    assert_eq!(never_sent.end().await.1, Cause::Idle);
    assert_eq!(world.clock.now().duration_since(start).as_secs(), 100);

    let mut client = world.connect();
    client.send(1, LATER, 1, b"").await;
    world.script.begun(1).await;
    world.clock.sleep(Duration::from_secs(1_000)).await;
    world.script.open(1);
    assert_eq!(client.receive().await.0, 1);
    let start = world.clock.now();
    assert_eq!(client.end().await.1, Cause::Idle);
    let idle = world.clock.now().duration_since(start).as_secs();
    assert!((99..=100).contains(&idle), "{idle}");
}

#[tokio::test]
async fn what_cannot_be_served_closes_after_the_answers_before_it() {
    let world = World::new();
    let short_header = [0, 0, 0, 3, 0, 12, 0];
    let unadvertised = frame(1, 4, 9, b"");
    let unknown = frame(999, 0, 9, b"");
    let too_new = frame(KEY, 5, 9, b"\0");
    for (bytes, label) in [
        (short_header.as_slice(), "malformed"),
        (&unadvertised, "unsupported"),
        (&unknown, "unsupported"),
        (&too_new, "unsupported"),
        (&request(2, CLOSE, 0, b""), "service"),
        (&request(2, CLOSE_LATER, 2, b""), "service"),
    ] {
        let mut client = world.connect();
        client.send(1, LATER, 1, b"").await;
        client.io.write_all(bytes).await.unwrap();
        client.send(3, ECHO, 0, b"").await;
        world.script.open(2);
        world.script.open(1);
        assert_eq!(client.receive().await.0, 1);
        let (rest, cause) = client.end().await;
        assert_eq!((rest.len(), cause.label()), (0, label));
        let _ = world.script.gates[2].try_acquire().map(tokio::sync::SemaphorePermit::forget);
    }
    assert_eq!(world.charged(), 0);
}

#[tokio::test]
async fn a_panic_closes_its_connection_only() {
    let world = World::new();
    let mut other = world.connect();
    other.send(1, LATER, 9, b"").await;
    for command in [PANIC, PANIC_LATER] {
        let mut client = world.connect();
        client.send(1, ECHO, 0, b"").await;
        client.send(2, command, 1, b"").await;
        world.script.open(1);
        assert_eq!(client.receive().await.0, 1);
        assert_eq!(client.end().await, (Vec::new(), Cause::Panicked { api: "Heartbeat" }));
    }
    world.script.open(9);
    assert_eq!(other.receive().await.0, 1);
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight() {
    let world = World::new();
    let mut busy = world.connect();
    let idle = world.connect();
    busy.send(1, LATER, 1, b"").await;
    busy.send(2, CALL, 2, b"").await;
    busy.send(3, ECHO, 0, b"").await;
    world.script.begun(2).await;
    world.shutdown.drain();
    assert_eq!(idle.end().await.1, Cause::Drained);
    world.script.open(2);
    world.script.open(1);
    assert_eq!(busy.receive().await.0, 1);
    assert_eq!(busy.receive().await.0, 2);
    assert_eq!(busy.end().await, (Vec::new(), Cause::Drained));
    assert_eq!(world.script.begun.borrow().len(), 2, "nothing new begins");
}

#[tokio::test]
async fn an_abort_cuts_what_is_left() {
    let world = World::new();
    let mut client = world.connect();
    client.send(1, LATER, 1, b"").await;
    world.script.begun(1).await;
    world.shutdown.drain();
    settle().await;
    assert!(!client.ended.is_finished());
    world.shutdown.abort();
    assert_eq!(client.end().await.1, Cause::Cut);
    assert_eq!(world.charged(), 0);
}

#[tokio::test]
async fn any_mix_of_requests_is_begun_and_answered_in_order() {
    let random = Random::seeded(5);
    for _ in 0..30 {
        let world = World::new();
        let mut client = world.connect();
        let mut expected = Vec::new();
        for id in 0..60_u8 {
            let command = [ECHO, LATER, CALL, SILENT][random.below(4) as usize];
            client.send(i32::from(id), command, id, b"").await;
            if command != SILENT {
                expected.push(i32::from(id));
            }
        }
        let mut gates: Vec<u8> = (0..60).collect();
        while !gates.is_empty() {
            let gate = gates.swap_remove(random.below(gates.len() as u64) as usize);
            world.script.open(gate);
            tokio::task::yield_now().await;
        }
        for id in expected {
            assert_eq!(client.receive().await.0, id);
        }
        assert_eq!(client.hang_up().await, Cause::PeerClosed);
        assert_eq!(*world.script.begun.borrow(), (0..60).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_idle_connection_is_small() {
    let world = World::new();
    let (near, far) = tokio::io::duplex(1);
    let admission = world.context.connections.admit([127, 0, 0, 1].into(), 9, 9).unwrap();
    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 4));
    let session = Session::new(0, peer, Arc::from("test"));
    let connection = Connection::new(
        far,
        Arc::clone(&world.context),
        Arc::clone(&world.service),
        Arc::new(session),
        Arc::clone(&admission.entry),
    );
    let bytes = std::mem::size_of_val(&connection.run());
    drop(near);
    assert!(bytes <= 2_064, "{bytes} bytes");
}
