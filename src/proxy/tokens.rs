//! Tokens of SASL without headers, which clients and brokers exchange after `SaslHandshake` v0.
//!
//! Clients have had v1 since Kafka 1.0 (KIP-152), after which a token is a request; but brokers
//! still have v0, librdkafka looks for it before it uses v1, and some clients never left it.
//!
//! Nothing in a token says that it is the last. With PLAIN it is the first. Others begin with a
//! letter (SCRAM, OAUTHBEARER: RFC 5801's `n,`), or as RFC 4121 and RFC 2743 say (GSSAPI), never
//! with a 0, with which every request begins, since keys are below 256.

use crate::protocol::wire::Reader;

/// The key of `SaslHandshake`.
pub(super) const HANDSHAKE: i16 = 17;

/// Whether tokens come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tokens {
    /// What comes are requests.
    #[default]
    None,
    /// The upstream was asked whether it takes tokens of the mechanism.
    Asked(Count),
    /// It does.
    Expected(Count),
}

/// How many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Count {
    /// One.
    One,
    /// Until a request comes.
    Several,
}

impl Tokens {
    /// After a request for this mechanism: the body of `SaslHandshake` v0.
    pub(super) fn asked(body: &[u8]) -> Self {
        let mechanism = Reader::new(body).string("mechanism", false);
        let count = if matches!(mechanism, Ok("PLAIN")) { Count::One } else { Count::Several };
        Tokens::Asked(count)
    }

    /// After the upstream's answer, which begins with an error code.
    pub(super) fn answered(self, body: &[u8]) -> Self {
        match self {
            Tokens::Asked(count) if body.starts_with(&[0, 0]) => Tokens::Expected(count),
            _ => Tokens::None,
        }
    }

    /// Whether this frame is one, and what comes after it.
    pub(super) fn take(self, frame: &[u8]) -> (bool, Self) {
        match self {
            Tokens::Expected(Count::One) => (true, Tokens::None),
            Tokens::Expected(Count::Several) if frame.first() != Some(&0) => (true, self),
            _ => (false, Tokens::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(mechanism: &str) -> Tokens {
        let mut body = (mechanism.len() as i16).to_be_bytes().to_vec();
        body.extend_from_slice(mechanism.as_bytes());
        Tokens::asked(&body).answered(&[0, 0, 0, 0, 0, 0])
    }

    #[test]
    fn plain_has_one() {
        let (is_token, then) = expected("PLAIN").take(b"\0alice\0secret");
        assert_eq!((is_token, then), (true, Tokens::None));
        assert!(!then.take(b"n,,").0);
    }

    #[test]
    fn others_have_them_until_a_request_comes() {
        let mut tokens = expected("SCRAM-SHA-256");
        for token in [b"n,,n=alice,r=1".as_slice(), b"c=biws,r=1", b""] {
            let (is_token, then) = tokens.take(token);
            assert!(is_token);
            tokens = then;
        }
        assert_eq!(tokens.take(&[0, 3, 0, 12]), (false, Tokens::None));
    }

    #[test]
    fn a_refused_mechanism_has_none() {
        assert_eq!(Tokens::asked(&[0, 1, b'X']).answered(&[0, 33]), Tokens::None);
        assert_eq!(Tokens::default().answered(&[0, 0]), Tokens::None);
    }
}
