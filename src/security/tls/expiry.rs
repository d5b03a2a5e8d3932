//! When a certificate ends: the one field of X.509 (RFC 5280, section 4.1) that rustls judges and
//! does not tell. A walk of DER to it, which believes no length.

/// The tag of a sequence.
const SEQUENCE: u8 = 0x30;
/// The tag of a whole number.
const INTEGER: u8 = 0x02;
/// The tag of a certificate's version, which those of version 1 lack.
const VERSION: u8 = 0xa0;
/// The tag of a time with two digits of the year.
const UTC_TIME: u8 = 0x17;
/// The tag of a time with four.
const GENERALIZED_TIME: u8 = 0x18;

/// The second since 1970 after which a certificate in DER is of no use (`notAfter`). Nothing where
/// it is no certificate.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (to_be_signed, _) = element(certificate, SEQUENCE)?;
    let rest = element(to_be_signed, VERSION).map_or(to_be_signed, |(_, rest)| rest);
    let (_serial_number, rest) = element(rest, INTEGER)?;
    let (_signature, rest) = element(rest, SEQUENCE)?;
    let (_issuer, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    Some(not_after)
}

/// What an element of this tag holds, and what is behind it.
fn element(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first().filter(|_| tag == wanted)?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // A certificate has no use for lengths of more than three bytes; DER has none for 0x80.
        let count = usize::from(first & 0x7f);
        let (digits, rest) = rest.split_at_checked(count).filter(|_| (1..=3).contains(&count))?;
        (digits.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
    };
    rest.split_at_checked(length)
}

/// A time in seconds since 1970, and what is behind it.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    if let Some((text, rest)) = element(bytes, UTC_TIME) {
        let (year, text) = number(text, 2)?;
        // RFC 5280, section 4.1.2.5.1.
        let century = if year < 50 { 2_000 } else { 1_900 };
        return Some((within_year(century + year, text)?, rest));
    }
    let (text, rest) = element(bytes, GENERALIZED_TIME)?;
    let (year, text) = number(text, 4)?;
    Some((within_year(year, text)?, rest))
}

/// `MMDDHHMMSSZ` of a year: both kinds of time have seconds and are in UTC there.
fn within_year(year: i64, text: &[u8]) -> Option<i64> {
    let (month, text) = number(text, 2)?;
    let (day, text) = number(text, 2)?;
    let (hour, text) = number(text, 2)?;
    let (minute, text) = number(text, 2)?;
    let (second, text) = number(text, 2)?;
    let is_time = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24;
    (is_time && minute < 60 && second <= 60 && text == b"Z").then_some(())?;
    Some(days_before(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// The first `digits` of a text.
fn number(text: &[u8], digits: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = text.split_at_checked(digits)?;
    let number = number.iter().try_fold(0, |number, digit| {
        digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0'))
    });
    Some((number?, rest))
}

/// Days from 1970 to a day of the calendar that is in use since 1582, and was before in its own
/// rules: years begin in March, so that the day that is added in some is a year's last.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 1970 began so many days after the first of March of the year 0.
    365 * year + leap_days + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::super::testing::Authority;
    use super::*;
    use crate::clock::Clock;

    /// An element in DER.
    fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut out = vec![tag];
        match length {
            0..=0x7f => out.push(length as u8),
            0x80..=0xff => out.extend([0x81, length as u8]),
            _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
        }
        out.extend(content);
        out
    }

    /// The beginning of a certificate with this validity.
    fn certificate(version: bool, times: &[u8]) -> Vec<u8> {
        let version = if version { wrapped(VERSION, &[2, 1, 2]) } else { Vec::new() };
        let issuer = wrapped(SEQUENCE, &[5; 200]);
        let parts = [
            version,
            wrapped(INTEGER, &[7; 20]),
            wrapped(SEQUENCE, &[6, 1, 42]),
            issuer,
            wrapped(SEQUENCE, times),
            wrapped(SEQUENCE, &[9; 300]),
        ];
        wrapped(SEQUENCE, &wrapped(SEQUENCE, &parts.concat()))
    }

    fn ends(tag: u8, text: &str) -> Option<i64> {
        let begin = wrapped(UTC_TIME, b"700101000000Z");
        let end = wrapped(tag, text.as_bytes());
        not_after(&certificate(true, &[begin, end].concat()))
    }

    #[test]
    fn times_of_both_kinds_are_read() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "261122101530Z", 1_795_342_530),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (UTC_TIME, "500101000000Z", -631_152_000),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "20000229120000Z", 951_825_600),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(ends(tag, text), Some(seconds), "{text}");
        }
        for wrong in [
            "",
            "7001010000Z",
            "701301000000Z",
            "700100000000Z",
            "700101240000Z",
            "700101006000Z",
            "700101000000",
            "700101000000+0100",
            "7001010000x0Z",
        ] {
            assert_eq!(ends(UTC_TIME, wrong), None, "{wrong}");
        }
        assert_eq!(ends(INTEGER, "700101000000Z"), None);
    }

    #[test]
    fn a_certificate_of_openssl_ends_when_openssl_says() {
        let authority = Authority::new();
        authority.issue("server", "DNS:localhost");
        let pem = authority.read("server.pem");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let left = not_after(&der).unwrap() - Clock::system().wall_ms() / 1_000;
        // It fails where the certificate ends within so many seconds.
        authority.openssl(&format!("x509 -in server.pem -noout -checkend {}", left - 60));
        let is_over = std::panic::catch_unwind(|| {
            authority.openssl(&format!("x509 -in server.pem -noout -checkend {}", left + 60));
        });
        assert!(is_over.is_err());
    }

    #[test]
    fn a_part_of_a_certificate_is_none() {
        let times = [wrapped(UTC_TIME, b"700101000000Z"), wrapped(UTC_TIME, b"700101000000Z")];
        let whole = certificate(false, &times.concat());
        assert_eq!(not_after(&whole), Some(0));
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_fault(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = not_after(&bytes);
        }

        #[test]
        fn a_byte_that_changed_does_no_harm(at in 0_usize..600, byte in any::<u8>()) {
            let times = [wrapped(UTC_TIME, b"700101000000Z"), wrapped(UTC_TIME, b"800101000000Z")];
            let mut bytes = certificate(true, &times.concat());
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            let _ = not_after(&bytes);
        }

        #[test]
        fn days_follow_one_another(day in 0_i64..2_000_000) {
            // Howard Hinnant's inverse, so that both would have to be wrong in the same way.
            let z = day + 719_468;
            let era = z.div_euclid(146_097);
            let of_era = z.rem_euclid(146_097);
            let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
            let of_year = of_era - (365 * year + year / 4 - year / 100);
            let month = (5 * of_year + 2) / 153;
            let day_of_month = of_year - (153 * month + 2) / 5 + 1;
            let month = if month < 10 { month + 3 } else { month - 9 };
            let year = year + era * 400 + i64::from(month <= 2);
            prop_assert_eq!(days_before(year, month, day_of_month), day);
        }
    }
}
