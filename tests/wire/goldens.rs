//! Responses that Apache Kafka 4.3.1 sent, byte for byte: the crate reads and writes them as they
//! are, and our own codecs are held to the crate by their room's tests.
//!
//! One line per API and version: key, version, frame without its length. Written by
//! `TIDEGATE_GOLDENS=tests/wire/goldens/kafka-4.3.1.txt cargo test --test diff`.

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request};
use tidegate::protocol::versions::APIS;

use crate::requests::{Visit, dispatch};

const KAFKA: &str = include_str!("goldens/kafka-4.3.1.txt");

struct RoundTrip {
    version: i16,
    frame: Bytes,
}

impl Visit for RoundTrip {
    type Out = ();

    fn visit<R: Request + std::fmt::Debug + PartialEq>(self) {
        let Self { version, mut frame } = self;
        let header_version = R::Response::header_version(version);
        ResponseHeader::decode(&mut frame, header_version).expect("a header");
        let response = R::Response::decode(&mut frame.clone(), version).expect("a response");
        let mut again = BytesMut::new();
        response.encode(&mut again, version).expect("what was read");
        assert_eq!(again, frame, "key {} version {version}", R::KEY);
        assert!(frame.has_remaining());
    }
}

pub(crate) fn samples() -> impl Iterator<Item = (i16, i16, Bytes)> {
    KAFKA.lines().map(|line| {
        let mut words = line.split(' ');
        let mut word = || words.next().expect("key, version, frame");
        let mut number = || word().parse().expect("a number");
        let (key, version): (i16, i16) = (number(), number());
        let digits = word().as_bytes().chunks(2);
        let byte = |two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
        let frame = digits.map(|two| byte(two).expect("two digits")).collect();
        (key, version, frame)
    })
}

#[test]
fn kafkas_own_responses_are_read_and_written_byte_for_byte() {
    for (key, version, frame) in samples() {
        dispatch(key, RoundTrip { version, frame }).expect("an API that is advertised");
    }
}

#[test]
fn there_is_a_sample_of_every_served_version() {
    let have: Vec<(i16, i16)> = samples().map(|(key, version, _)| (key, version)).collect();
    for api in &APIS {
        for version in api.served.min..=api.served.max {
            let sample = (api.key as i16, version);
            // ApiVersions lists dozens of keys: the scenarios' answers are no compact samples.
            let listed = api.name == "ApiVersions";
            assert!(listed || have.contains(&sample), "no sample of {} v{version}", api.name);
        }
    }
}
