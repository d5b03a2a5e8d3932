//! Any bytes as what a server answers to a client of ours: guarded and, if it passes, decoded.
//!
//! Held here: nothing panics; what the guard passes is decoded; decoding allocates at most what the
//! guard said, and nothing for what it refuses.
//!
//! Input: `i16 key | i16 version | body`.

use std::fmt::Debug;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use kafka_protocol::protocol::Request;
use tidegate::protocol::guard::{GuardError, Limits, decode_response};

use super::requests::shared;

struct Decode<'a> {
    version: i16,
    body: &'a Bytes,
}

impl shared::Visit for Decode<'_> {
    type Out = ();

    fn visit<R: Request + Debug + PartialEq>(self) {
        let decode = || decode_response::<R>(self.version, self.body, Limits::RESPONSE);
        let (result, peak) = tidegate_fuzz_meter::peak_of(decode);
        match result {
            Ok((_, bound)) => {
                super::LARGEST.fetch_max(peak, Ordering::Relaxed);
                assert!(peak <= bound, "{peak} bytes allocated, {bound} announced");
            }
            Err(GuardError::Undecodable { reason, .. }) => panic!("{reason}"),
            Err(_) => assert!(peak == 0, "{peak} bytes allocated for a refused body"),
        }
    }
}

pub(super) fn run(data: &[u8]) {
    let Some((key, rest)) = data.split_first_chunk() else { return };
    let Some((version, body)) = rest.split_first_chunk() else { return };
    let (key, version) = (i16::from_be_bytes(*key), i16::from_be_bytes(*version));
    let body = Bytes::copy_from_slice(body);
    shared::dispatch(key, Decode { version, body: &body });
}
