//! Frames and request headers that no client sends (research: bad input, "Frame" and "Header").

use bytes::{Buf, BufMut, Bytes};

use crate::harness::Wire;
use crate::hostile::{Scene, assert_refused, frame};
use crate::requests::{METADATA, all_topics, assert_served};

const METADATA_KEY: i16 = 3;
const API_VERSIONS_KEY: i16 = 18;
/// The first version of Metadata whose headers have tags.
const FLEXIBLE: i16 = 9;
const UNSUPPORTED: &str = "unsupported";
const MALFORMED: &str = "malformed";
const SERVICE: &str = "service";

/// A frame with a header of these parts: client id as it is on the wire, tags, body.
fn framed(key: i16, version: i16, id: i32, client_id: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.put_i32(8 + client_id.len() as i32 + rest.len() as i32);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(id);
    frame.put_slice(client_id);
    frame.put_slice(rest);
    frame
}

/// The next response: its correlation id and what follows.
fn answer(wire: &mut Wire) -> (i32, Bytes) {
    let mut frame = wire.receive_frame().expect("an answer");
    (frame.get_i32(), frame)
}

#[test]
fn a_frame_of_one_byte_is_refused() {
    assert_refused(&[0, 0, 0, 1, 0], MALFORMED, &["request frame of 1 bytes ends"]);
}

#[test]
fn a_frame_of_seven_bytes_is_refused() {
    let bytes = [0, 0, 0, 7, 0, 18, 0, 0, 0, 0, 0];
    assert_refused(&bytes, MALFORMED, &["request frame of 7 bytes ends"]);
}

#[test]
fn a_frame_of_two_gibibytes_is_refused_by_its_length_alone() {
    let words = "frame length 2147483647 is above the limit of 104857600 bytes";
    assert_refused(&i32::MAX.to_be_bytes(), "frame_length", &[words]);
}

#[test]
fn the_least_negative_frame_length_is_refused() {
    let words = "frame length -2147483648 is negative";
    assert_refused(&i32::MIN.to_be_bytes(), "frame_length", &[words]);
}

#[test]
fn an_ssh_banner_is_refused_by_its_length() {
    assert_refused(b"SSH-2.0-OpenSSH_9.9\r\n", "frame_length", &["frame length 1397966893"]);
}

#[test]
fn every_http_method_is_recognised() {
    let mut scene = Scene::new();
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"] {
        scene.closes(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), "http");
    }
    scene.closes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http");
    scene.assert_unharmed();
}

#[test]
fn a_frame_that_comes_byte_by_byte_is_a_frame() {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    for byte in frame(API_VERSIONS_KEY, 0, false, &[]) {
        wire.send_raw(&[byte]).unwrap();
    }
    assert_eq!(answer(&mut wire).0, 1);
    scene.assert_unharmed();
}

#[test]
fn frames_that_come_in_one_write_are_told_apart() {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    let one = framed(API_VERSIONS_KEY, 0, 5, &[0xff, 0xff], &[]);
    wire.send_raw(&[&one[..], &one, &one[..6]].concat()).unwrap();
    wire.send_raw(&one[6..]).unwrap();
    for _ in 0..3 {
        assert_eq!(answer(&mut wire).0, 5);
    }
    assert_served(&mut wire);
    scene.assert_unharmed();
}

#[test]
fn a_negative_api_key_is_refused() {
    assert_refused(&frame(-3, 0, false, &[0; 8]), UNSUPPORTED, &["unknown api key -3"]);
}

#[test]
fn a_negative_version_is_refused() {
    let words = "API key 3 version -1 is not supported";
    assert_refused(&frame(METADATA_KEY, -1, false, &[0; 4]), UNSUPPORTED, &[words]);
    assert_refused(&frame(METADATA_KEY, i16::MIN, false, &[0; 4]), UNSUPPORTED, &[]);
}

#[test]
fn a_request_without_client_id_and_one_with_the_longest_are_answered() {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    let mut longest = i16::MAX.to_be_bytes().to_vec();
    longest.resize(2 + i16::MAX as usize, b'c');
    for client_id in [&[0xff, 0xff][..], &[0, 0], &longest] {
        wire.send_raw(&framed(API_VERSIONS_KEY, 0, 9, client_id, &[])).unwrap();
        assert_eq!(answer(&mut wire).0, 9);
    }
    scene.assert_unharmed();
}

#[test]
fn a_client_id_that_is_no_string_is_refused() {
    let mut scene = Scene::new();
    for client_id in [
        // A negative length that is not null, one beyond the frame, and bytes that are not UTF-8.
        &[0xff, 0xfe][..],
        &[0x80, 0],
        &[0x7f, 0xff, b'c'],
        &[0, 2, 0xc3, 0x28],
    ] {
        scene.closes(&framed(API_VERSIONS_KEY, 0, 1, client_id, &[]), MALFORMED);
    }
    scene.assert_unharmed();
}

#[test]
fn a_correlation_id_may_come_again_and_be_anything() {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    let ids = [7, 7, 7, -1, i32::MIN, 0, 7];
    for id in ids {
        wire.send_raw(&framed(API_VERSIONS_KEY, 0, id, &[0xff, 0xff], &[])).unwrap();
    }
    for id in ids {
        assert_eq!(answer(&mut wire).0, id);
    }
    scene.assert_unharmed();
}

#[test]
fn a_flexible_version_with_a_header_without_tags_is_refused() {
    // All topics, three flags or the end of the tags: the first byte is taken for the header's.
    assert_refused(&frame(METADATA_KEY, FLEXIBLE, false, &[0, 0, 0, 0]), SERVICE, &["malformed"]);
}

#[test]
fn an_older_version_with_a_header_with_tags_is_refused() {
    let body = [0xff, 0xff, 0xff, 0xff, 0, 0, 0];
    assert_refused(&frame(METADATA_KEY, FLEXIBLE - 1, true, &body), SERVICE, &["malformed"]);
}

#[test]
fn the_answer_to_api_versions_never_has_tags_in_its_header() {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    // Two names of one letter, and the end of the tags.
    let body = [2, b'a', 2, b'1', 0];
    for version in [3, 4] {
        wire.send_raw(&frame(API_VERSIONS_KEY, version, true, &body)).unwrap();
        let (id, mut rest) = answer(&mut wire);
        assert_eq!((id, rest.get_i16()), (1, 0), "the error code follows the correlation id");
        assert!(rest.get_u8() > 20, "then the compact count of the APIs");
    }
    scene.assert_unharmed();
}

#[test]
fn tags_of_a_header_that_lie_are_refused() {
    let mut scene = Scene::new();
    let past_the_end = [1, 5, 0x7f, 1, 2, 3];
    let count = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let no_end = [0x80, 0x80, 0x80, 0x80, 0x80, 0];
    for tags in [&past_the_end[..], &count, &no_end, &[]] {
        let rest = [0xff, 0xff].iter().chain(tags).copied().collect::<Vec<u8>>();
        scene.closes(&framed(METADATA_KEY, FLEXIBLE, 1, &[], &rest), MALFORMED);
    }
    scene.assert_unharmed();
}

#[test]
fn unknown_tags_of_a_header_are_passed_over_in_any_order() {
    let scene = Scene::new();
    let mut wire = scene.broker.connect();
    // Tags 9, 5 and 9 again; then all topics, three flags, no tags.
    let rest = [0xff, 0xff, 3, 9, 1, 0, 5, 0, 9, 2, 1, 1, 0, 0, 0, 0, 0];
    wire.send_raw(&framed(METADATA_KEY, FLEXIBLE, 3, &[], &rest)).unwrap();
    assert_eq!(answer(&mut wire).0, 3);
    assert_eq!(wire.call(METADATA, &all_topics()).topics.len(), 1);
    scene.assert_unharmed();
}
