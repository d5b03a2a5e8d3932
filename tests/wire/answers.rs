//! The guard over the answers that our own client decodes: what passes is decoded.

use std::fmt::Debug;

use bytes::Bytes;
use kafka_protocol::messages::ConsumerGroupDescribeRequest;
use kafka_protocol::protocol::Request;
use proptest::collection::vec;
use proptest::prelude::*;
use tidegate::protocol::guard::shape::Message;
use tidegate::protocol::guard::shapes::ANSWERS;
use tidegate::protocol::guard::{GuardError, Limits, decode_response};

use crate::content::{Chance, body};
use crate::guard::{edited, edits};
use crate::requests::{Visit, dispatch};

const LIMITS: Limits = Limits { decoded_bytes: 1 << 20, ..Limits::RESPONSE };

/// Decodes the answer to a request type that is chosen at run time.
struct Decode<'a> {
    version: i16,
    body: &'a Bytes,
}

impl Visit for Decode<'_> {
    type Out = Result<(), GuardError>;

    fn visit<R: Request + Debug + PartialEq>(self) -> Self::Out {
        decode_response::<R>(self.version, self.body, LIMITS).map(drop)
    }
}

fn decoded(key: i16, version: i16, body: &Bytes) -> Result<(), GuardError> {
    let decode = Decode { version, body };
    if key == ConsumerGroupDescribeRequest::KEY {
        // We do not serve it, and ask it.
        return decode.visit::<ConsumerGroupDescribeRequest>();
    }
    dispatch(key, decode).expect("what is answered is served, too")
}

/// The key and a version of every answer, as far as the crate knows it.
fn answers() -> Vec<(&'static Message, i16)> {
    let all = ANSWERS.iter().flat_map(|message| {
        (message.versions.min..=message.versions.max).map(move |version| (message, version))
    });
    all.filter(|(message, version)| {
        let legal = Bytes::from(body(message, *version, &mut Chance::new(&[])));
        !matches!(decoded(message.key, *version, &legal), Err(GuardError::NotGuarded { .. }))
    })
    .collect()
}

#[test]
fn every_answer_is_decoded_in_the_versions_that_the_crate_knows() {
    let known = answers();
    for message in ANSWERS {
        let versions = known.iter().filter(|(known, _)| known.key == message.key).count();
        assert!(versions > 0, "{}", message.name);
    }
    assert!(ANSWERS.windows(2).all(|pair| pair[0].key < pair[1].key));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]

    #[test]
    fn what_passes_is_decoded(
        (message, version) in prop::sample::select(answers()),
        chance in vec(any::<u8>(), 0..300),
        edits in edits(),
    ) {
        let legal = Bytes::from(body(message, version, &mut Chance::new(&chance)));
        prop_assert_eq!(decoded(message.key, version, &legal), Ok(()));
        let result = decoded(message.key, version, &edited(&legal, &edits));
        prop_assert!(!matches!(result, Err(GuardError::Undecodable { .. })), "{:?}", result);
    }
}
