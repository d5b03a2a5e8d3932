//! Connections over pipes, with paused time where time matters.

use std::sync::atomic::Ordering;

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

/// Lets every other task of the current-thread runtime run until it can go no further.
async fn settle() {
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn half_frames_are_cut_off_after_the_grace() {
    let world = World::with(Limits { max_idle: Duration::from_secs(1_000), ..limits() }, 64 << 20);
    let whole = request(1, ECHO, 0, &vec![0; 200_000]);
    for (sent, length, seconds) in [(3, 0, 30), (10, 200_014, 34), (70_000, 200_014, 34)] {
        let mut client = world.connect();
        let start = world.clock.now();
        client.io.write_all(&whole[..sent]).await.unwrap();
        let (rest, cause) = client.end().await;
        assert_eq!((rest.len(), cause), (0, Cause::SlowFrame { length }));
        assert_eq!(world.clock.now().duration_since(start).as_secs(), seconds);
    }
    let mut client = world.connect();
    client.io.write_all(&request(1, ECHO, 0, &[0; 3_000])[..2_000]).await.unwrap();
    assert!(matches!(client.end().await.1, Cause::SlowFrame { length: 3_014 }));
    assert_eq!(world.charged(), 0);
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
async fn bad_lengths_close_before_anything_is_allocated() {
    let limits = Limits { max_request_bytes: 1 << 20, ..Limits::default() };
    let world = World::with(limits, 64 << 20);
    for (length, error) in [
        (-1, FrameError::Negative { length: -1 }),
        (1 << 21, FrameError::TooLarge { length: 1 << 21, limit: 1 << 20 }),
    ] {
        let mut client = world.connect();
        client.io.write_i32(length).await.unwrap();
        assert_eq!(client.end().await.1, Cause::Frame(error));
    }
    assert_eq!(world.charged(), 0);
}

#[tokio::test]
async fn a_frame_above_the_receive_pool_is_refused() {
    let world = World::with(Limits::default(), 64 * 80_000);
    let mut client = world.connect();
    client.io.write_i32(2_000_000).await.unwrap();
    let error = FrameError::TooLarge { length: 2_000_000, limit: 12 * 80_000 };
    assert_eq!(client.end().await.1, Cause::Frame(error));
}

#[tokio::test]
async fn other_protocols_are_recognised() {
    let world = World::new();
    for (bytes, error) in [
        (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".as_slice(), FrameError::Http),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".as_slice(), FrameError::Tls),
    ] {
        let mut client = world.connect();
        client.io.write_all(bytes).await.unwrap();
        assert_eq!(client.end().await.1, Cause::Frame(error));
    }
    let closed = "tidegate_server_connections_closed_total";
    assert_eq!(world.metric(&format!("{closed}{{cause=\"http\"}}")).as_deref(), Some("1"));
    assert_eq!(world.metric(&format!("{closed}{{cause=\"tls\"}}")).as_deref(), Some("1"));
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
async fn a_large_frame_is_charged_only_after_its_first_64_kib() {
    let world = World::new();
    let whole = request(1, LATER, 1, &vec![0; 1 << 20]);
    let mut client = world.connect();
    let receive = world.context.receive.clone();
    client.io.write_all(&whole[..60_000]).await.unwrap();
    settle().await;
    assert_eq!(receive.used(), 0);
    client.io.write_all(&whole[60_000..70_000]).await.unwrap();
    settle().await;
    assert_eq!(receive.used(), whole.len() - 4);
    assert_eq!(world.context.small.used(), 0);
    client.io.write_all(&whole[70_000..]).await.unwrap();
    world.script.begun(1).await;
    assert_eq!(receive.used(), whole.len() - 4, "the charge goes with the request");
    world.script.open(1);
    assert_eq!(client.receive().await.1.len(), whole.len() - 16 - 2 + 2);
    assert_eq!(receive.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stalled_large_frame_gives_way_to_one_that_waits() {
    // The receive pool holds one frame of 700,000 bytes.
    let world = World::with(Limits::default(), 64 * 80_000);
    let whole = request(1, ECHO, 0, &vec![0; 700_000]);
    let mut stalled = world.connect();
    stalled.io.write_all(&whole[..100_000]).await.unwrap();
    settle().await;
    let mut client = world.connect();
    client.io.write_all(&whole).await.unwrap();
    assert_eq!(client.receive().await.0, 1);
    assert_eq!(stalled.end().await.1, Cause::Relieved);
    let pauses = "tidegate_server_read_pause_seconds_count{cause=\"receive_pool\"}";
    assert_eq!(world.metric(pauses).as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn stalled_small_frames_do_not_keep_others_out() {
    // The small pool holds five read buffers.
    let world = World::with(Limits::default(), 64 * 90_000);
    let whole = request(1, ECHO, 0, &vec![0; 50_000]);
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut client = world.connect();
        client.io.write_all(&whole[..40_000]).await.unwrap();
        stalled.push(client);
    }
    settle().await;
    let mut client = world.connect();
    client.io.write_all(&whole).await.unwrap();
    assert_eq!(client.receive().await.0, 1);
    drop(stalled);
    assert_eq!(client.hang_up().await, Cause::PeerClosed);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_holds_nothing_and_a_trickle_holds_no_pool() {
    let world = World::new();
    let mut client = world.connect();
    client.send(1, ECHO, 0, b"").await;
    client.receive().await;
    settle().await;
    assert_eq!(world.charged(), 0);
    client.io.write_all(&request(2, ECHO, 0, &[0; 5_000])[..500]).await.unwrap();
    settle().await;
    assert_eq!(world.charged(), 0);
}

#[tokio::test]
async fn frames_survive_any_cut_of_the_stream() {
    let world = World::new();
    let random = Random::seeded(11);
    for _ in 0..20 {
        let mut client = world.connect_over(300_000);
        let mut stream = Vec::new();
        let mut frees = Vec::new();
        for id in 0..30 {
            let bound = [10, 3_000, 20_000, 70_000, 200_000][random.below(5) as usize];
            let free = vec![id as u8; random.below(bound) as usize];
            stream.extend_from_slice(&request(id, ECHO, 0, &free));
            frees.push(free);
        }
        let (mut read, mut write) = tokio::io::split(client.io);
        let cuts = random.clone();
        let writing = task_of(async move {
            let mut rest = stream.as_slice();
            while !rest.is_empty() {
                let bound = [5, 1_000, 100_000][cuts.below(3) as usize];
                let cut = rest.len().min(1 + cuts.below(bound) as usize);
                let (head, tail) = rest.split_at(cut);
                write.write_all(head).await.unwrap();
                tokio::task::yield_now().await;
                rest = tail;
            }
            write
        });
        for (id, free) in frees.iter().enumerate() {
            let (got, body) = receive(&mut read).await.unwrap();
            assert_eq!(got, id as i32);
            assert!(body[2..] == **free, "frame {id}");
        }
        let write = writing.await.unwrap();
        client.io = read.unsplit(write);
        assert_eq!(client.hang_up().await, Cause::PeerClosed);
        assert_eq!(world.charged(), 0);
    }
    assert_eq!(world.context.connections.open(), 0);
}

fn task_of<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    crate::task::spawn("test writer", future)
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

#[tokio::test(start_paused = true)]
async fn a_slow_large_frame_has_a_second_for_each_64_kib_of_it() {
    let world = World::with(limits(), 64 << 20);
    let whole = request(1, ECHO, 0, &vec![0; 4 << 20]);
    let mut client = world.connect();
    // Two bytes of the length first, so that the time begins before the length is known.
    client.io.write_all(&whole[..2]).await.unwrap();
    settle().await;
    for piece in whole[2..].chunks(64 * 1024) {
        world.clock.sleep(Duration::from_secs(1)).await;
        client.io.write_all(piece).await.unwrap();
    }
    assert_eq!(client.receive().await.0, 1);
}

#[tokio::test]
async fn an_idle_connection_is_small() {
    let world = World::new();
    let (near, far) = tokio::io::duplex(1);
    let admission = world.context.connections.admit([127, 0, 0, 1].into(), 9, 9).unwrap();
    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 4));
    let session = Session { id: 0, peer, listener: Arc::from("test") };
    let connection = Connection::new(
        far,
        Arc::clone(&world.context),
        Arc::clone(&world.service),
        Arc::new(session),
        Arc::clone(&admission.entry),
    );
    let bytes = std::mem::size_of_val(&connection.run());
    drop(near);
    assert!(bytes <= 2_048, "{bytes} bytes");
}
