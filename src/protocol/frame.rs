//! The length in front of every frame, and what else tends to arrive in its place.
//!
//! ```text
//! 0       4
//! +-------+----------------------------+
//! | i32 n | n bytes: header, then body |
//! +-------+----------------------------+
//! ```

/// The size of the length in front of a frame.
pub const LENGTH_BYTES: usize = 4;

/// Bytes of another protocol at the start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// An HTTP request or response: a browser, a scraper or a health check on the wrong port.
    Http,
    /// A TLS `ClientHello`: a client that was told to use TLS on a plaintext listener. Or a TLS
    /// alert: a server with TLS to which no TLS was spoken.
    Tls,
}

/// Why a frame is refused by its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is below zero.
    #[error("frame length {length} is negative")]
    Negative {
        /// The length.
        length: i32,
    },
    /// The length is above the limit.
    #[error("frame length {length} is above the limit of {limit} bytes")]
    TooLarge {
        /// The length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The peer does not speak Kafka.
    #[error("peer speaks HTTP to a kafka listener; the admin listener has the HTTP endpoints")]
    Http,
    /// The peer speaks TLS to a listener without it.
    #[error(
        "peer speaks TLS to a plaintext listener; set security.protocol=PLAINTEXT in the client"
    )]
    Tls,
}

/// Reads the length of a frame and holds it against `limit`, in bytes.
///
/// Other protocols are recognised only in a length that is refused anyway: their first four bytes
/// are lengths above 350 MB, so no frame within a usual limit is mistaken for one.
pub fn frame_length(prefix: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, FrameError> {
    let length = i32::from_be_bytes(prefix);
    let Ok(bytes) = usize::try_from(length) else {
        return Err(FrameError::Negative { length });
    };
    if bytes <= limit {
        return Ok(bytes);
    }
    Err(match foreign(prefix) {
        Some(Foreign::Http) => FrameError::Http,
        Some(Foreign::Tls) => FrameError::Tls,
        None => FrameError::TooLarge { length: bytes, limit },
    })
}

/// What other protocol starts with these bytes, if one is recognised.
pub fn foreign(prefix: [u8; LENGTH_BYTES]) -> Option<Foreign> {
    match &prefix {
        b"GET " | b"HEAD" | b"POST" | b"PUT " | b"PATC" | b"DELE" | b"OPTI" | b"CONN" | b"TRAC"
        | b"PRI " | b"HTTP" => Some(Foreign::Http),
        // Record type 21 (alert) or 22 (handshake), version 3.0 to 3.4.
        [0x15 | 0x16, 0x03, 0x00..=0x04, _] => Some(Foreign::Tls),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100 * 1024 * 1024;

    #[test]
    fn lengths_up_to_the_limit_pass() {
        assert_eq!(frame_length([0, 0, 0, 0], LIMIT), Ok(0));
        assert_eq!(frame_length((LIMIT as i32).to_be_bytes(), LIMIT), Ok(LIMIT));
    }

    #[test]
    fn lengths_below_zero_or_above_the_limit_are_refused() {
        assert_eq!(
            frame_length([0xff, 0xff, 0xff, 0xff], LIMIT),
            Err(FrameError::Negative { length: -1 })
        );
        assert_eq!(
            frame_length(i32::MIN.to_be_bytes(), LIMIT),
            Err(FrameError::Negative { length: i32::MIN })
        );
        let length = LIMIT + 1;
        assert_eq!(
            frame_length((length as i32).to_be_bytes(), LIMIT),
            Err(FrameError::TooLarge { length, limit: LIMIT })
        );
    }

    #[test]
    fn other_protocols_are_named() {
        for prefix in [b"GET ", b"POST", b"HEAD", b"PUT ", b"HTTP", b"PRI "] {
            assert_eq!(frame_length(*prefix, LIMIT), Err(FrameError::Http));
        }
        assert_eq!(frame_length([0x16, 0x03, 0x01, 0x02], LIMIT), Err(FrameError::Tls));
        assert_eq!(frame_length([0x16, 0x03, 0x03, 0x00], LIMIT), Err(FrameError::Tls));
        assert_eq!(foreign([0x15, 0x03, 0x03, 0x00]), Some(Foreign::Tls));
        assert!(matches!(
            frame_length([0x16, 0x04, 0x01, 0x02], LIMIT),
            Err(FrameError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_limit_above_such_a_length_keeps_it_a_length() {
        let limit = i32::MAX as usize;
        assert_eq!(frame_length(*b"GET ", limit), Ok(0x4745_5420));
    }
}
