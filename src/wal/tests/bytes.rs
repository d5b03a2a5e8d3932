//! The formats: frozen samples, and every header comes back as it went in.

use proptest::prelude::*;

use crate::wal::format::{
    BadHeader, FILE_HEADER, FileHeader, GROUP_HEADER, GroupHeader, NUMBER_LIMIT, RECORD_HEADER,
    RecordHeader, Seed,
};
use crate::wal::{FileNumber, Kind, Lsn};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn file_header() -> FileHeader {
    FileHeader {
        number: FileNumber(3),
        salt: 0x0102_0304_0506_0708,
        identity: *b"frozen identity.",
        first_lsn: Lsn(1000),
        proven: Lsn(999),
        previous: FileNumber(2),
        metadata_number: 17,
        wall_ms: 1_700_000_000_000,
    }
}

fn group_header() -> GroupHeader {
    GroupHeader {
        number: FileNumber(3),
        salt: 0x0102_0304_0506_0708,
        first_lsn: Lsn(1000),
        records: 1,
        bytes: 29,
        append_ms: 1_700_000_000_123,
        proven: Lsn(999),
        metadata_number: 17,
    }
}

/// What this version writes must be read by every later one: if this fails, the format has changed
/// and needs a new version.
#[test]
fn the_bytes_of_the_headers_are_frozen() {
    assert_eq!(hex(&file_header().encode()), FROZEN_FILE);
    assert_eq!(hex(&group_header().encode()), FROZEN_GROUP);
    let seed = file_header().seed();
    let mut header = RecordHeader {
        crc: 0,
        len: 5,
        lsn: Lsn(1000),
        group_offset: GROUP_HEADER as u32,
        kind: Kind(1),
    };
    header.crc = seed.record(&header.encode(), b"hello");
    assert_eq!(hex(&header.encode()), FROZEN_RECORD);
}

#[test]
fn a_header_of_a_later_version_is_told_from_a_damaged_one() {
    let mut bytes = file_header().encode().to_vec();
    bytes[4] = 2;
    assert_eq!(FileHeader::decode(&bytes), Err(BadHeader::NotOne));
    let crc = crc32c::crc32c(&bytes[..FILE_HEADER - 4]);
    bytes[FILE_HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
    let later = BadHeader::Version { major: 2, minor: 0, flags: 0 };
    assert_eq!(FileHeader::decode(&bytes), Err(later));
    assert_eq!(FileHeader::decode(&bytes[..50]), Err(BadHeader::NotOne));
}

#[test]
fn a_header_with_a_number_that_no_log_reaches_is_none() {
    for number in [NUMBER_LIMIT, u64::MAX] {
        for file in [
            FileHeader { number: FileNumber(number), ..file_header() },
            FileHeader { first_lsn: Lsn(number), ..file_header() },
            FileHeader { proven: Lsn(number), ..file_header() },
        ] {
            assert_eq!(FileHeader::decode(&file.encode()), Err(BadHeader::NotOne));
        }
        for group in [
            GroupHeader { first_lsn: Lsn(number), ..group_header() },
            GroupHeader { proven: Lsn(number), ..group_header() },
        ] {
            assert_eq!(GroupHeader::decode(&group.encode()), Err(BadHeader::NotOne));
        }
    }
}

proptest! {
    #[test]
    fn headers_come_back_as_they_went_in(
        numbers in prop::array::uniform6(0..NUMBER_LIMIT),
        identity in any::<[u8; 16]>(),
        small in any::<[u32; 3]>(),
        ms in any::<i64>(),
        kind in any::<u8>(),
    ) {
        let file = FileHeader {
            number: FileNumber(numbers[0]),
            salt: numbers[1],
            identity,
            first_lsn: Lsn(numbers[2]),
            proven: Lsn(numbers[3]),
            previous: FileNumber(numbers[4]),
            metadata_number: numbers[5],
            wall_ms: ms,
        };
        prop_assert_eq!(FileHeader::decode(&file.encode()), Ok(file));
        let group = GroupHeader {
            number: FileNumber(numbers[0]),
            salt: numbers[1],
            first_lsn: Lsn(numbers[2]),
            records: small[0],
            bytes: small[1],
            append_ms: ms,
            proven: Lsn(numbers[3]),
            metadata_number: numbers[4],
        };
        prop_assert_eq!(GroupHeader::decode(&group.encode()), Ok(group));
        let record = RecordHeader {
            crc: small[0],
            len: small[1],
            lsn: Lsn(numbers[0]),
            group_offset: small[2],
            kind: Kind(kind),
        };
        prop_assert_eq!(RecordHeader::decode(&record.encode()), Some(record));
    }

    #[test]
    fn a_record_of_another_use_of_a_file_is_not_taken_for_this_ones(
        payload in proptest::collection::vec(any::<u8>(), 0..100),
        salts in any::<[u64; 2]>(),
        flip in any::<proptest::sample::Index>(),
    ) {
        let header = RecordHeader {
            crc: 0,
            len: payload.len() as u32,
            lsn: Lsn(5),
            group_offset: 72,
            kind: Kind(1),
        };
        let seed = Seed::new(FileNumber(1), salts[0]);
        let crc = seed.record(&header.encode(), &payload);
        let mut record = RecordHeader { crc, ..header }.encode().to_vec();
        record.extend_from_slice(&payload);
        prop_assert!(seed.verifies(crc, &record));
        prop_assume!(salts[0] != salts[1]);
        let other_salt = Seed::new(FileNumber(1), salts[1]);
        // Equal seeds of different salts are possible, once in 2^32.
        prop_assert!(other_salt == seed || !other_salt.verifies(crc, &record));
        let at = 4 + flip.index(RECORD_HEADER - 4 + payload.len());
        record[at] ^= 1;
        prop_assert!(!seed.verifies(crc, &record));
    }
}

const FROZEN_FILE: &str = concat!(
    "54475746010000000300000000000000080706050403020166726f7a656e206964656e746974792e",
    "e803000000000000e703000000000000020000000000000011000000000000000068e5cf8b010000",
    "a80a71a0",
);
const FROZEN_GROUP: &str = concat!(
    "544757470100000003000000000000000807060504030201e803000000000000010000001d000000",
    "7b68e5cf8b010000e703000000000000110000000000000000000000bbf099c5",
);
const FROZEN_RECORD: &str = "05d0681f05000000e8030000000000004800000001000000";
