//! Record batches: built byte by byte, legal or not, and described for comparison.

use std::fmt::Write as _;
use std::io::Write as _;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Timestamp of the first record of a plain batch.
pub const T0: i64 = 1_700_000_000_000;

/// Attributes of batches whose times are the broker's: appended then, or of its own making.
const STAMPED: i16 = 0x28;

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Codec {
    None,
    Gzip,
    Zstd,
}

/// A record: timestamp after the batch's first one, key, value.
pub type Rec<'a> = (i64, Option<&'a str>, Option<&'a str>);

/// A batch to be built. Fields that are `None` follow from the records.
#[derive(Clone, Debug)]
pub struct Batch {
    pub codec: Codec,
    pub attributes: i16,
    pub magic: u8,
    pub base_offset: i64,
    pub base_timestamp: i64,
    pub max_timestamp: Option<i64>,
    pub last_offset_delta: Option<i32>,
    pub count: Option<i32>,
    pub producer: (i64, i16, i32),
    pub break_crc: bool,
    records: BytesMut,
    built: i32,
    last_delta: i64,
}

impl Batch {
    /// A batch of these records.
    pub fn of(records: &[Rec<'_>]) -> Self {
        let mut batch = Self {
            codec: Codec::None,
            attributes: 0,
            magic: 2,
            base_offset: 0,
            base_timestamp: T0,
            max_timestamp: None,
            last_offset_delta: None,
            count: None,
            producer: (-1, -1, -1),
            break_crc: false,
            records: BytesMut::new(),
            built: 0,
            last_delta: 0,
        };
        for (delta, key, value) in records {
            let mut body = BytesMut::new();
            body.put_u8(0);
            varint(&mut body, *delta);
            varint(&mut body, i64::from(batch.built));
            for part in [key, value] {
                varint(&mut body, part.map_or(-1, |text| text.len() as i64));
                body.put_slice(part.unwrap_or("").as_bytes());
            }
            varint(&mut body, 0);
            varint(&mut batch.records, body.len() as i64);
            batch.records.put(body);
            batch.built += 1;
            batch.last_delta = batch.last_delta.max(*delta);
        }
        batch
    }

    /// A batch that counts `count` records and has `payload` in their place.
    pub fn of_payload(count: i32, payload: &[u8]) -> Self {
        let mut batch = Self::of(&[]);
        batch.records.put_slice(payload);
        batch.built = count;
        batch
    }

    /// `count` records with values of `bytes` bytes each, a millisecond apart.
    pub fn values(count: usize, bytes: usize) -> Self {
        let value = "v".repeat(bytes);
        let records: Vec<Rec<'_>> = (0..count).map(|at| (at as i64, None, Some(&*value))).collect();
        Self::of(&records)
    }

    /// The same with a codec.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The same from an idempotent producer: id, epoch, first sequence.
    pub fn producer(mut self, id: i64, epoch: i16, sequence: i32) -> Self {
        self.producer = (id, epoch, sequence);
        self
    }

    /// The same with a first timestamp.
    pub fn at(mut self, timestamp: i64) -> Self {
        self.base_timestamp = timestamp;
        self
    }

    /// The bytes.
    pub fn build(&self) -> Bytes {
        let payload = match self.codec {
            Codec::None => self.records.to_vec(),
            Codec::Gzip => {
                let level = flate2::Compression::default();
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(&self.records).unwrap();
                encoder.finish().unwrap()
            }
            Codec::Zstd => zstd::encode_all(&self.records[..], 1).unwrap(),
        };
        let codec = match self.codec {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Zstd => 4,
        };
        let mut tail = BytesMut::new();
        tail.put_i16(self.attributes | codec);
        tail.put_i32(self.last_offset_delta.unwrap_or(self.built - 1));
        tail.put_i64(self.base_timestamp);
        tail.put_i64(self.max_timestamp.unwrap_or(self.base_timestamp + self.last_delta));
        tail.put_i64(self.producer.0);
        tail.put_i16(self.producer.1);
        tail.put_i32(self.producer.2);
        tail.put_i32(self.count.unwrap_or(self.built));
        tail.put_slice(&payload);
        let mut all = BytesMut::new();
        all.put_i64(self.base_offset);
        all.put_i32(tail.len() as i32 + 9);
        all.put_i32(-1);
        all.put_u8(self.magic);
        all.put_u32(crc32c::crc32c(&tail) ^ u32::from(self.break_crc));
        all.put(tail);
        all.freeze()
    }
}

fn varint(out: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

/// What a fetch returned, batch by batch, without leader epoch, producer id and append time.
/// Kafka cuts what it sends at the byte limit, in the middle of a batch; no client reads such a
/// rest, so it is left out.
pub fn described(records: &Bytes) -> Bytes {
    let mut rest = records.clone();
    let mut text = String::new();
    while rest.len() >= 61 {
        let length = (&rest[8..12]).get_i32() as usize + 12;
        if rest.len() < length {
            break;
        }
        let batch = rest.split_to(length);
        let mut head = &batch[16..61];
        let magic = head.get_u8();
        let crc = head.get_u32() == crc32c::crc32c(&batch[21..]);
        let (attributes, last) = (head.get_i16(), head.get_i32());
        let times = (head.get_i64(), head.get_i64());
        let producer = head.get_i64() >= 0;
        let (epoch, sequence, count) = (head.get_i16(), head.get_i32(), head.get_i32());
        let times = if attributes & STAMPED == 0 { format!("{times:?}") } else { "now".to_owned() };
        let _ = write!(
            text,
            "offset {} magic {magic} crc {crc} attributes {attributes} last {last} times {times} \
             producer {producer} {epoch} {sequence} count {count} payload {:08x}; ",
            (&batch[..8]).get_i64(),
            crc32c::crc32c(&batch[61..]),
        );
    }
    text.into()
}

/// The bytes of a fetch in hexadecimal digits, with zeros for what the process chose: the ids of
/// producers, the times at which it appended, and then the checksum, which [`described`] looks at.
pub fn exact(records: &Bytes) -> String {
    let mut bytes = records.to_vec();
    let mut rest = &mut bytes[..];
    while rest.len() >= 61 {
        let length = (&rest[8..12]).get_i32() as usize + 12;
        if rest.len() < length {
            break;
        }
        let (batch, behind) = rest.split_at_mut(length);
        let (given, appended) =
            ((&batch[43..51]).get_i64() >= 0, i16::from(batch[22]) & STAMPED != 0);
        if given {
            batch[43..51].fill(0);
        }
        if appended {
            batch[27..43].fill(0);
        }
        if given || appended {
            batch[17..21].fill(0);
        }
        rest = behind;
    }
    format!("{:x}", Bytes::from(bytes))
}
