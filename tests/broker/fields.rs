//! Counts, numbers and strings in bodies that no client sends (research: bad input, "Counts" and
//! "Strings").

use bytes::{BufMut, Bytes};

use crate::hostile::{Scene, assert_refused, frame};
use crate::requests::assert_served;

const METADATA_KEY: i16 = 3;
const CREATE_TOPICS_KEY: i16 = 19;
const DELETE_TOPICS_KEY: i16 = 20;
const SERVICE: &str = "service";

/// Sends Metadata v9 with this body, which is legal: all of it is answered.
fn assert_metadata_v9_is_answered(bodies: &[&[u8]]) {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    for body in bodies {
        wire.send_raw(&frame(METADATA_KEY, 9, true, body)).unwrap();
        let answer = wire.receive_frame().unwrap_or_else(|| panic!("closed on {body:02x?}"));
        assert_eq!(answer[..4], [0, 0, 0, 1]);
    }
    assert_served(&mut wire);
    scene.assert_unharmed();
}

fn assert_metadata_v9_is_refused(bodies: &[&[u8]]) {
    let mut scene = Scene::new();
    for body in bodies {
        scene.closes(&frame(METADATA_KEY, 9, true, body), SERVICE);
    }
    scene.assert_unharmed();
}

/// `CreateTopics` v2 of one topic, up to the count of its replica assignments.
fn create_topic_head() -> Vec<u8> {
    let mut body = Vec::new();
    body.put_i32(1);
    body.put_i16(1);
    body.put_u8(b'x');
    body.put_i32(-1);
    body.put_i16(-1);
    body
}

#[test]
fn a_giant_count_inside_an_array_is_refused() {
    let mut scene = Scene::new();
    for count in [i32::MAX, 1 << 20, -2, i32::MIN] {
        let mut body = create_topic_head();
        body.put_i32(count);
        body.resize(body.len() + 64, 0);
        scene.closes(&frame(CREATE_TOPICS_KEY, 2, false, &body), SERVICE);
    }
    // And one level deeper: the brokers of an assignment.
    let mut body = create_topic_head();
    body.put_i32(1);
    body.put_i32(0);
    body.put_i32(i32::MAX);
    scene.closes(&frame(CREATE_TOPICS_KEY, 2, false, &body), SERVICE);
    scene.assert_unharmed();
}

#[test]
fn small_elements_that_become_large_ones_take_no_memory() {
    // Topics of 10 bytes each, which the decoder makes ten times as large: 8 MiB would be 100.
    const TOPICS: usize = 800_000;
    let mut body = Vec::new();
    let mut count = TOPICS + 1;
    while count >= 0x80 {
        body.put_u8(count as u8 | 0x80);
        count >>= 7;
    }
    body.put_u8(count as u8);
    for _ in 0..TOPICS {
        body.put_slice(&[1, 0, 0, 0, 1, 0, 1, 1, 1, 0]);
    }
    body.put_slice(&[0, 0, 0, 1, 0, 0]);
    assert!(body.len() <= 8 << 20);
    assert_refused(&frame(CREATE_TOPICS_KEY, 5, true, &body), SERVICE, &["CreateTopics v5"]);
}

#[test]
fn a_varint_of_more_than_five_bytes_is_refused() {
    assert_metadata_v9_is_refused(&[
        &[0x80, 0x80, 0x80, 0x80, 0x80, 0],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        // The same as a string's length, as a count of tags, as a tag and as a tag's length.
        &[2, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
        &[0, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
        &[0, 0, 0, 0, 1, 0x80, 0x80, 0x80, 0x80, 0x80, 0, 0],
        &[0, 0, 0, 0, 1, 9, 0x80, 0x80, 0x80, 0x80, 0x80, 0],
    ]);
}

#[test]
fn a_varint_that_overflows_is_refused_where_it_counts() {
    // 2^35 - 1: the bits above the 32nd are dropped, and what is left is still too much.
    assert_metadata_v9_is_refused(&[&[0xff, 0xff, 0xff, 0xff, 0x7f], &[0x80; 4], &[0xff; 3]]);
}

#[test]
fn a_varint_that_is_longer_than_needed_is_read() {
    // All topics: 0 in two and in five bytes. Then a topic without name; then one tag of 0 bytes.
    assert_metadata_v9_is_answered(&[
        &[0x80, 0, 0, 0, 0, 0],
        &[0x80, 0x80, 0x80, 0x80, 0, 0, 0, 0, 0],
        &[0x81, 0, 0, 0, 0, 0],
        &[0, 0, 0, 0, 0x81, 0, 0x89, 0, 0x80, 0],
    ]);
}

#[test]
fn null_where_it_is_not_allowed_is_refused() {
    let mut scene = Scene::new();
    // A topic's compact name, and an array of names.
    scene.closes(&frame(METADATA_KEY, 9, true, &[2, 0, 0, 0, 0, 0, 0]), SERVICE);
    scene.closes(&frame(DELETE_TOPICS_KEY, 4, true, &[0, 0, 0, 0, 1, 0]), SERVICE);
    let body = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1];
    scene.closes(&frame(DELETE_TOPICS_KEY, 1, false, &body), SERVICE);
    scene.assert_unharmed();
}

#[test]
fn tags_of_a_body_that_lie_are_refused() {
    assert_metadata_v9_is_refused(&[
        &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f],
        &[0, 0, 0, 0, 1, 7, 0x7f, 1],
        &[0, 0, 0, 0, 2, 7, 0],
        &[0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0],
    ]);
}

#[test]
fn tags_that_come_twice_or_backwards_are_passed_over() {
    assert_metadata_v9_is_answered(&[
        &[0, 0, 0, 0, 3, 9, 1, 1, 9, 1, 2, 9, 0],
        &[0, 0, 0, 0, 3, 9, 1, 1, 5, 0, 0, 0],
    ]);
}

#[test]
fn bytes_behind_a_body_are_passed_over_as_kafka_does() {
    assert_metadata_v9_is_answered(&[&[0, 0, 0, 0, 0, 1, 2, 3], &[0, 0, 0, 0, 0, 0xff]]);
}

#[test]
fn a_body_that_ends_early_is_refused_wherever_it_ends() {
    // One topic "a", three flags, one tag of one byte.
    let whole = Bytes::from_static(&[2, 2, b'a', 0, 0, 0, 0, 1, 9, 1, 5]);
    let prefixes: Vec<&[u8]> = (0..whole.len()).map(|end| &whole[..end]).collect();
    assert_metadata_v9_is_refused(&prefixes);
    assert_metadata_v9_is_answered(&[&whole]);
}

#[test]
fn a_string_that_is_not_utf_8_is_refused() {
    let mut scene = Scene::new();
    scene.closes(&frame(METADATA_KEY, 1, false, &[0, 0, 0, 1, 0, 2, 0xc3, 0x28]), SERVICE);
    // A surrogate, and a longer form than needed of "/".
    for text in [[0xed, 0xa0, 0x80], [0xe0, 0x80, 0xaf]] {
        let body = [&[2, 4][..], &text, &[0, 0, 0, 0, 0]].concat();
        scene.closes(&frame(METADATA_KEY, 9, true, &body), SERVICE);
    }
    scene.assert_unharmed();
}

#[test]
fn a_string_longer_than_its_body_is_refused() {
    let mut scene = Scene::new();
    for length in [[0x7f, 0xff], [0, 9], [0xff, 0xfe], [0x80, 0]] {
        let body = [&[0, 0, 0, 1][..], &length, b"name"].concat();
        scene.closes(&frame(METADATA_KEY, 1, false, &body), SERVICE);
    }
    scene.assert_unharmed();
}
