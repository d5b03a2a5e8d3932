//! What a connection reads, and what it holds for that.

use tokio::io::AsyncWriteExt;

use super::super::context::Limits;
use super::super::script::*;
use super::*;
use crate::clock::Random;

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
    let error = FrameError::TooLarge { length: 2_000_000, limit: 10 * 80_000 };
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
    let start = world.clock.now();
    let mut client = world.connect();
    client.io.write_all(&whole).await.unwrap();
    assert_eq!(client.receive().await.0, 1);
    let waited = world.clock.now().duration_since(start);
    assert!(waited < Duration::from_secs(5), "long before the stalled frames are too slow");
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

#[tokio::test(start_paused = true)]
async fn frames_that_wait_for_memory_all_get_it_in_the_end() {
    // One large frame fits the receive pool, one slot and five read buffers fit the small pool.
    let world = Arc::new(World::with(Limits::default(), 64 * 90_000));
    let mut clients = Vec::new();
    for number in 0..60_usize {
        let bytes = if number.is_multiple_of(2) { 800_000 } else { 60_000 };
        let (clock, mut client) = (world.clock.clone(), world.connect());
        clients.push(task_of(async move {
            for id in 0..3 {
                let whole = request(id, ECHO, 0, &vec![1; bytes]);
                let (head, tail) = whole.split_at(50_000);
                client.io.write_all(head).await.unwrap();
                clock.sleep(Duration::from_millis(10)).await;
                client.io.write_all(tail).await.unwrap();
                assert_eq!(client.receive().await.0, id);
            }
            assert_eq!(client.hang_up().await, Cause::PeerClosed);
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(world.charged(), 0);
    assert_eq!(world.context.prefix_slots.available_permits(), 1);
}

#[tokio::test]
async fn the_end_is_looked_for_with_memory_that_nobody_else_wants() {
    let world = World::new();
    let admission = world.context.connections.admit([127, 0, 0, 1].into(), 10, 10).unwrap();
    let mut reader = Reader::new(Arc::clone(&world.context), Arc::clone(&admission.entry));
    let (mut peer, mut io) = tokio::io::duplex(1 << 10);
    let mut look = |io: &mut _| {
        let mut task = Task::from_waker(std::task::Waker::noop());
        reader.poll_end(&mut task, io)
    };
    assert!(look(&mut io).is_pending());
    assert_eq!(world.charged(), 0, "nothing came");
    let small = &world.context.small;
    let all = small.try_take(small.capacity()).unwrap();
    drop(peer);
    assert!(look(&mut io).is_pending(), "there is no room to read into");
    drop(all);
    let all = small.try_take(small.capacity());
    assert!(all.is_some(), "and none was queued for");
    drop(all);
    let end = look(&mut io);
    assert!(matches!(end, Poll::Ready(Err(Cause::PeerClosed))), "{end:?}");

    (peer, io) = tokio::io::duplex(1 << 10);
    peer.write_all(&[0, 0, 0]).await.unwrap();
    assert!(matches!(look(&mut io), Poll::Ready(Ok(()))));
    peer.write_all(&[9]).await.unwrap();
    assert!(look(&mut io).is_pending());
    assert_eq!(io.read_u8().await.unwrap(), 9, "what came is kept, and no more is read");
}
