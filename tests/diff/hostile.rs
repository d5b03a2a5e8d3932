//! Bytes that no client sends: what is refused, what is passed over, what closes the connection.

use bytes::{BufMut, Bytes};
use uuid::Uuid;

use crate::batch::Batch;
use crate::peer::Peer;
use crate::produce::request;

const METADATA: i16 = 3;
const CREATE_TOPICS: i16 = 19;
const DELETE_TOPICS: i16 = 20;
const API_VERSIONS: i16 = 18;

/// A frame whose client id and all behind it are given as bytes.
fn frame(key: i16, version: i16, parts: &[&[u8]]) -> Vec<u8> {
    let rest = parts.concat();
    let mut frame = Vec::new();
    frame.put_i32(8 + rest.len() as i32);
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_slice(&rest);
    frame
}

/// Request headers.
pub fn headers(peer: &mut Peer) {
    let body = [0_u8; 0];
    for (label, client) in [
        ("null", &[0xff, 0xff][..]),
        ("empty", &[0, 0]),
        ("a negative length", &[0xff, 0xfe]),
        ("the least length", &[0x80, 0]),
        ("beyond the frame", &[0x7f, 0xff, b'c']),
        ("not UTF-8", &[0, 2, 0xc3, 0x28]),
    ] {
        peer.ask_raw(format!("client id: {label}"), &frame(API_VERSIONS, 0, &[client, &body]));
    }
    let null = [0xff, 0xff];
    for (label, tags) in [
        ("none where there must be", &[][..]),
        ("a length past the end", &[1, 5, 0x7f, 1]),
        ("a giant count", &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("a count that does not end", &[0x80, 0x80, 0x80, 0x80, 0x80, 0]),
    ] {
        peer.ask_raw(format!("header tags: {label}"), &frame(METADATA, 9, &[&null, tags]));
    }
    let twice = [3, 9, 1, 0, 5, 0, 9, 2, 1, 1, 0, 0, 0, 0, 0];
    peer.ask_raw("header tags: twice, backwards", &frame(METADATA, 9, &[&null, &twice]));
    peer.ask_raw("one byte", &[0, 0, 0, 1, 0]);
    peer.ask_raw("seven bytes", &[0, 0, 0, 7, 0, 18, 0, 0, 0, 0, 0]);
}

/// Counts, numbers and strings of bodies.
pub fn fields(peer: &mut Peer) {
    let head: &[u8] = &[0xff, 0xff, 0];
    for (label, body) in [
        ("a count longer than needed", &[0x80, 0, 0, 0, 0, 0][..]),
        ("a count of six bytes", &[0x80, 0x80, 0x80, 0x80, 0x80, 0, 0, 0, 0, 0]),
        ("a giant count", &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ("a null name", &[2, 0, 0, 0, 0, 0, 0]),
        ("tags twice", &[0, 0, 0, 0, 3, 9, 1, 1, 9, 1, 2, 9, 0]),
        ("tags backwards", &[0, 0, 0, 0, 2, 9, 1, 1, 5, 0]),
        ("a tag past the end", &[0, 0, 0, 0, 1, 7, 0x7f, 1]),
        ("fewer tags than counted", &[0, 0, 0, 0, 2, 7, 0]),
        ("bytes behind it", &[0, 0, 0, 0, 0, 1, 2, 3]),
        ("cut short", &[0, 0, 0]),
    ] {
        peer.ask_raw(format!("Metadata v9: {label}"), &frame(METADATA, 9, &[head, body]));
    }
    let old: &[u8] = &[0xff, 0xff];
    let text = [0, 0, 0, 1, 0x7f, 0xff, b'x'];
    peer.ask_raw("a string beyond its body", &frame(METADATA, 1, &[old, &text]));
    let names = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1];
    peer.ask_raw("a null array", &frame(DELETE_TOPICS, 1, &[old, &names]));
    let mut nested = vec![0, 0, 0, 1, 0, 1, b'x', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    nested.put_i32(i32::MAX);
    peer.ask_raw("a giant count inside", &frame(CREATE_TOPICS, 2, &[old, &nested]));
}

fn zigzag(value: i32) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 31)) as u32;
    let mut bytes = Vec::new();
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

/// A record of these parts, with the length that it should have.
fn record(delta: i32, key: &[u8], value: &[u8], headers: &[u8]) -> Vec<u8> {
    let body = [&[0, 0][..], &zigzag(delta), key, value, headers].concat();
    [zigzag(body.len() as i32), body].concat()
}

fn good(delta: i32) -> Vec<u8> {
    record(delta, &[1], &[2, b'v'], &[0])
}

/// Records that break one rule each.
fn broken_records() -> Vec<(&'static str, Bytes)> {
    let lone = |len: i32| [zigzag(len), good(0)[1..].to_vec()].concat();
    let of = |count: i32, payload: &[u8]| Batch::of_payload(count, payload).build();
    let headers = |bytes: &[Vec<u8>]| of(1, &record(0, &[1], &[1], &bytes.concat()));
    let deltas = |deltas: &[i32]| {
        let payload: Vec<u8> = deltas.iter().flat_map(|delta| good(*delta)).collect();
        of(deltas.len() as i32, &payload)
    };
    vec![
        ("longer than its batch", of(1, &lone(20))),
        ("of negative length", of(1, &lone(-1))),
        ("of no length", of(1, &lone(0))),
        ("shorter than what is in it", of(1, &lone(4))),
        ("one more than counted", of(1, &[good(0), good(1)].concat())),
        ("a byte behind the last", of(1, &[good(0), vec![0]].concat())),
        ("one less than counted", of(3, &[good(0), good(1)].concat())),
        ("none at all", of(1, &[])),
        ("a key of length -2", of(1, &record(0, &zigzag(-2), &[1], &[0]))),
        ("a key beyond the record", of(1, &record(0, &zigzag(100), &[1], &[0]))),
        ("a value of length -2", of(1, &record(0, &[1], &zigzag(-2), &[0]))),
        ("a value beyond the record", of(1, &record(0, &[1], &zigzag(100), &[0]))),
        ("a negative count of headers", headers(&[zigzag(-1)])),
        ("a giant count of headers", headers(&[zigzag(i32::MAX)])),
        ("a header key of length -1", headers(&[zigzag(1), zigzag(-1), zigzag(-1)])),
        ("a header value of length -2", headers(&[zigzag(1), zigzag(0), zigzag(-2)])),
        ("a header beyond the record", headers(&[zigzag(1), zigzag(9), zigzag(-1)])),
        ("deltas: from 1", deltas(&[1, 2])),
        ("deltas: the same twice", deltas(&[0, 0])),
        ("deltas: a gap", deltas(&[0, 2])),
        ("deltas: a negative one", deltas(&[-1, 0])),
    ]
}

/// One broken record after the other.
pub fn records(peer: &mut Peer) {
    let topic = peer.create("broken-records", 1, &[]);
    for (label, batch) in broken_records() {
        peer.ask(label, 9, &request(9, "broken-records", topic.id, &[(0, batch)]));
    }
    let fine = request(9, "broken-records", Uuid::nil(), &[(0, Batch::values(1, 1).build())]);
    peer.get(9, &fine);
}
