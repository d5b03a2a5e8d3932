//! The walk over a body: a cursor, the shape that says what comes next, and a running sum of what
//! the decoded form takes. Recursion is bounded by the nesting of the shapes.

use std::ops::Range;

use super::shape::{Field, Message, Struct, Type};
use super::{Checked, Fault, GuardError};

/// Is told what a walk comes past; positions are bytes of the body.
pub trait Visitor {
    /// A structure begins.
    fn structure_begins(&mut self) {}
    /// A field that is no array and no structure has the encoded value `value` at `at`.
    fn value(&mut self, _field: &'static Field, _at: Range<usize>, _value: &[u8]) {}
    /// The structure that began last has ended, and was at `at`.
    fn structure_ends(&mut self, _at: Range<usize>) {}
    /// An array of `count` elements begins behind its length at `at`.
    fn array_begins(&mut self, _at: Range<usize>, _count: usize) {}
    /// The array that began last has ended.
    fn array_ends(&mut self) {}
    /// A tagged field of `size` bytes begins behind its size at `at`.
    fn tag_begins(&mut self, _at: Range<usize>, _size: usize) {}
    /// The tagged field that began last has ended.
    fn tag_ends(&mut self) {}
    /// A tag section begins whose number of tags, `count`, is at `at`.
    fn tags_begin(&mut self, _at: Range<usize>, _count: usize) {}
    /// A tag that the shape does not know is at `at`, from its number to its last byte.
    fn unknown_tag(&mut self, _at: Range<usize>) {}
    /// The tag section that began last has ended.
    fn tags_end(&mut self) {}
}

/// Is told nothing.
impl Visitor for () {}

/// What an allocator adds to a block, at most, on the allocators in use.
const BLOCK_OVERHEAD: usize = 16;

/// What the root costs besides its own size: the counter that makes the frame shareable.
const ROOT_OVERHEAD: usize = 64;

/// The first unknown tag of a structure brings a leaf of the crate's `BTreeMap<i32, Bytes>`: eleven
/// keys of 4 bytes, eleven values of 32, a parent pointer and two counters.
const FIRST_TAG_BYTES: usize = 408 + BLOCK_OVERHEAD;

/// Every further one brings a fifth of a leaf at most (a leaf splits into no less than five), and
/// its part of an inner node, which is a leaf and twelve pointers for no less than 35 entries.
const FURTHER_TAG_BYTES: usize = 112;

/// Kafka's limit for a string, also for compact ones.
const MAX_STRING_BYTES: usize = i16::MAX as usize;

pub(super) fn walk<V: Visitor>(
    message: &'static Message,
    version: i16,
    body: &[u8],
    decoded_limit: usize,
    visitor: &mut V,
) -> Result<Checked, GuardError> {
    let mut walker = Walker {
        visitor,
        rest: body,
        end: body.len(),
        version,
        flexible: message.flexible.contains(version),
        field: "none",
        decoded: message.root.size + ROOT_OVERHEAD,
        decoded_limit,
    };
    let result = walker.structure(message.root);
    let offset = walker.position();
    let (api, field) = (message.name, walker.field);
    match result {
        Ok(()) => Ok(Checked { decoded_bytes: walker.decoded, message_bytes: offset }),
        Err(Stop::Fault(fault)) => {
            Err(GuardError::Malformed { api, version, field, offset, fault })
        }
        Err(Stop::DecodedTooLarge) => Err(GuardError::DecodedTooLarge {
            api,
            version,
            field,
            bytes: walker.decoded,
            limit: decoded_limit,
        }),
    }
}

/// Why the walk ended early.
enum Stop {
    Fault(Fault),
    DecodedTooLarge,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

struct Walker<'a, 'v, V> {
    visitor: &'v mut V,
    /// What has not been read yet: of the body, or of the tagged field that is being read.
    rest: &'a [u8],
    /// Where `rest` ends in the body.
    end: usize,
    version: i16,
    flexible: bool,
    /// The field being read, for the error.
    field: &'static str,
    decoded: usize,
    decoded_limit: usize,
}

impl<'a, V: Visitor> Walker<'a, '_, V> {
    fn position(&self) -> usize {
        self.end - self.rest.len()
    }

    fn structure(&mut self, shape: &'static Struct) -> Result<(), Stop> {
        let (version, start) = (self.version, self.position());
        self.visitor.structure_begins();
        for field in shape.fields.iter().filter(|field| field.is_plain(version)) {
            self.field(field)?;
        }
        if self.flexible {
            self.tags(shape)?;
        }
        self.visitor.structure_ends(start..self.position());
        Ok(())
    }

    fn field(&mut self, field: &'static Field) -> Result<(), Stop> {
        self.field = field.name;
        let nullable = field.nullable.contains(self.version);
        if field.array {
            return self.array(field.of, nullable);
        }
        match field.of {
            Type::Struct(shape) if nullable => match self.i8()? {
                1 => self.structure(shape),
                -1 => Ok(()),
                marker => Err(Fault::Marker { marker }.into()),
            },
            Type::Struct(shape) => self.structure(shape),
            of => {
                let (before, start) = (self.rest, self.position());
                self.value(of, nullable)?;
                let read = before.len() - self.rest.len();
                let (value, _) = before.split_at(read);
                self.visitor.value(field, start..start + read, value);
                Ok(())
            }
        }
    }

    /// Reads one value; `nullable` matters only for those with a length.
    fn value(&mut self, of: Type, nullable: bool) -> Result<(), Stop> {
        if let Some(size) = of.fixed_size() {
            self.take(size)?;
            return Ok(());
        }
        match of {
            Type::String => self.string(nullable),
            Type::Struct(shape) => self.structure(shape),
            _ => {
                if let Some(bytes) = self.length(nullable)? {
                    self.take(bytes)?;
                }
                Ok(())
            }
        }
    }

    fn array(&mut self, of: Type, nullable: bool) -> Result<(), Stop> {
        let start = self.position();
        let Some(count) = self.length(nullable)? else {
            return Ok(());
        };
        let length = start..self.position();
        let least = of.least_size(self.version, self.flexible).max(1);
        self.fits(count, least)?;
        if count == 0 {
            return Ok(());
        }
        // Charged before the elements are looked at, as the crate reserves for all of them first.
        self.charge(count.saturating_mul(of.decoded_size()).saturating_add(BLOCK_OVERHEAD))?;
        if let Some(size) = of.fixed_size() {
            self.take(count * size)?;
            return Ok(());
        }
        self.visitor.array_begins(length, count);
        for _ in 0..count {
            self.value(of, false)?;
        }
        self.visitor.array_ends();
        Ok(())
    }

    fn string(&mut self, nullable: bool) -> Result<(), Stop> {
        let length = if self.flexible {
            self.length(nullable)?
        } else {
            let length = i32::from(i16::from_be_bytes(self.fixed()?));
            not_negative(length, nullable)?
        };
        let Some(bytes) = length else {
            return Ok(());
        };
        if bytes > MAX_STRING_BYTES {
            return Err(Fault::StringTooLong { bytes }.into());
        }
        std::str::from_utf8(self.take(bytes)?).map_err(|_| Fault::Utf8)?;
        Ok(())
    }

    /// Reads the tag section at the end of a structure of a flexible version.
    fn tags(&mut self, shape: &'static Struct) -> Result<(), Stop> {
        let counted = self.position();
        let count = self.varint()? as usize;
        // A tag takes two bytes at least: its number and its size.
        self.fits(count, 2)?;
        self.visitor.tags_begin(counted..self.position(), count);
        let mut unknown = 0_usize;
        for _ in 0..count {
            let first = self.position();
            let tag = self.varint()?;
            let start = self.position();
            let size = self.varint()? as usize;
            let behind = self.position();
            let value = self.take(size)?;
            match tagged_field(shape, tag) {
                Some(field) if field.is_tagged(self.version) => {
                    self.visitor.tag_begins(start..behind, size);
                    self.known_tag(tag, field, value)?;
                    self.visitor.tag_ends();
                }
                Some(field) => {
                    self.field = field.name;
                    return Err(Fault::Tag { tag }.into());
                }
                None if tag > i32::MAX as u32 => return Err(Fault::TagTooLarge { tag }.into()),
                None => {
                    self.charge(if unknown == 0 { FIRST_TAG_BYTES } else { FURTHER_TAG_BYTES })?;
                    unknown += 1;
                    self.visitor.unknown_tag(first..self.position());
                }
            }
        }
        self.visitor.tags_end();
        Ok(())
    }

    /// Reads a tagged field that the shape knows, within the bytes of its tag.
    fn known_tag(&mut self, tag: u32, field: &'static Field, value: &'a [u8]) -> Result<(), Stop> {
        let (end, behind) = (self.end, self.position());
        let after = std::mem::replace(&mut self.rest, value);
        self.end = behind;
        // After an error the walk ends where it is.
        self.field(field)?;
        let left = self.rest.len();
        (self.rest, self.end) = (after, end);
        if left == 0 { Ok(()) } else { Err(Fault::TagSize { tag, left }.into()) }
    }

    /// Reads the length of an array or byte field; nothing for null.
    fn length(&mut self, nullable: bool) -> Result<Option<usize>, Stop> {
        if !self.flexible {
            let length = i32::from_be_bytes(self.fixed()?);
            return Ok(not_negative(length, nullable)?);
        }
        match self.varint()?.checked_sub(1) {
            Some(length) => Ok(Some(length as usize)),
            None if nullable => Ok(None),
            None => Err(Fault::Null.into()),
        }
    }

    fn fits(&self, count: usize, least: usize) -> Result<(), Fault> {
        let left = self.rest.len();
        if count > left / least { Err(Fault::Count { count, least, left }) } else { Ok(()) }
    }

    fn charge(&mut self, bytes: usize) -> Result<(), Stop> {
        self.decoded = self.decoded.saturating_add(bytes);
        if self.decoded > self.decoded_limit { Err(Stop::DecodedTooLarge) } else { Ok(()) }
    }

    /// Reads an unsigned variable-length integer, of five bytes at most, as Kafka does
    /// (`ByteUtils.readUnsignedVarint`): the bits above the 32nd are dropped.
    fn varint(&mut self) -> Result<u32, Fault> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Varint)
    }

    fn i8(&mut self) -> Result<i8, Fault> {
        self.fixed().map(i8::from_be_bytes)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let truncated = Fault::Truncated { needed: N, left: self.rest.len() };
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Fault> {
        let truncated = Fault::Truncated { needed: bytes, left: self.rest.len() };
        let (head, rest) = self.rest.split_at_checked(bytes).ok_or(truncated)?;
        self.rest = rest;
        Ok(head)
    }
}

/// The field of a structure that has the tag in any version.
fn tagged_field(shape: &'static Struct, tag: u32) -> Option<&'static Field> {
    shape.fields.iter().find(|field| field.tagged.is_some_and(|(number, _)| number == tag))
}

fn not_negative(length: i32, nullable: bool) -> Result<Option<usize>, Fault> {
    match length {
        0.. => Ok(Some(length as usize)),
        -1 if nullable => Ok(None),
        -1 => Err(Fault::Null),
        _ => Err(Fault::NegativeLength { length }),
    }
}
