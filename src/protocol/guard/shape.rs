//! What a shape is: the types of the generated table in [`super::shapes`], and look-ups in it.
//!
//! A shape says how a message is laid out on the wire in every version, in the terms of Kafka's
//! message definitions, and how large the crate's decoded form of each structure is.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::shapes;
use crate::protocol::versions::VersionRange;

/// A guarded message.
#[derive(Debug)]
pub struct Message {
    /// The API's key.
    pub key: i16,
    /// The API's name.
    pub name: &'static str,
    /// The versions that the definition covers, stable or not.
    pub versions: VersionRange,
    /// The versions with compact lengths and tagged fields (KIP-482).
    pub flexible: VersionRange,
    /// The message's own fields.
    pub root: &'static Struct,
}

impl Message {
    pub(super) const fn new(
        key: i16,
        name: &'static str,
        versions: VersionRange,
        flexible: VersionRange,
        root: &'static Struct,
    ) -> Self {
        Self { key, name, versions, flexible, root }
    }
}

/// A structure: a message or what its arrays hold.
#[derive(Debug)]
pub struct Struct {
    /// `size_of` the crate's type, without what its vectors and maps point to.
    pub size: usize,
    /// Its fields in wire order.
    pub fields: &'static [Field],
}

impl Struct {
    pub(super) const fn new(size: usize, fields: &'static [Field]) -> Self {
        Self { size, fields }
    }
}

/// A field of a structure.
#[derive(Debug)]
pub struct Field {
    /// Kafka's name, for error messages.
    pub name: &'static str,
    /// The field's type, or that of its elements if it is an array.
    pub of: Type,
    /// Whether the field is an array.
    pub array: bool,
    /// The versions that have the field.
    pub versions: VersionRange,
    /// The versions in which it may be null.
    pub nullable: VersionRange,
    /// The versions in which it is a tagged field, with its tag.
    pub tagged: Option<(u32, VersionRange)>,
}

impl Field {
    pub(super) const fn one(name: &'static str, of: Type, versions: VersionRange) -> Self {
        Self { name, of, array: false, versions, nullable: VersionRange::EMPTY, tagged: None }
    }

    pub(super) const fn array(name: &'static str, of: Type, versions: VersionRange) -> Self {
        Self { name, of, array: true, versions, nullable: VersionRange::EMPTY, tagged: None }
    }

    pub(super) const fn nullable(self, versions: VersionRange) -> Self {
        Self { nullable: versions, ..self }
    }

    pub(super) const fn tagged(self, tag: u32, versions: VersionRange) -> Self {
        Self { tagged: Some((tag, versions)), ..self }
    }

    /// Whether the field stands among the structure's plain fields in `version`.
    pub fn is_plain(&self, version: i16) -> bool {
        self.versions.contains(version) && !self.is_tagged(version)
    }

    /// Whether the field stands in the structure's tag section in `version`.
    pub fn is_tagged(&self, version: i16) -> bool {
        self.versions.contains(version)
            && self.tagged.is_some_and(|(_, versions)| versions.contains(version))
    }
}

/// The types of Kafka's message definitions.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// One byte, true unless 0.
    Bool,
    /// One byte.
    Int8,
    /// Two bytes.
    Int16,
    /// Two bytes, without a sign.
    Uint16,
    /// Four bytes.
    Int32,
    /// Four bytes, without a sign.
    Uint32,
    /// Eight bytes.
    Int64,
    /// Eight bytes.
    Float64,
    /// Sixteen bytes.
    Uuid,
    /// Length (i16, or compact) and UTF-8.
    String,
    /// Length (i32, or compact) and bytes.
    Bytes,
    /// Record batches; laid out as [`Type::Bytes`].
    Records,
    /// A structure.
    Struct(&'static Struct),
}

impl Type {
    /// The encoded size, if it is the same for every value and version.
    pub fn fixed_size(self) -> Option<usize> {
        match self {
            Type::Bool | Type::Int8 => Some(1),
            Type::Int16 | Type::Uint16 => Some(2),
            Type::Int32 | Type::Uint32 => Some(4),
            Type::Int64 | Type::Float64 => Some(8),
            Type::Uuid => Some(16),
            Type::String | Type::Bytes | Type::Records | Type::Struct(_) => None,
        }
    }

    /// The size of the decoded value itself; what it shares with the frame is not counted.
    pub fn decoded_size(self) -> usize {
        match self {
            Type::Bool | Type::Int8 => size_of::<u8>(),
            Type::Int16 | Type::Uint16 => size_of::<u16>(),
            Type::Int32 | Type::Uint32 => size_of::<u32>(),
            Type::Int64 | Type::Float64 => size_of::<u64>(),
            Type::Uuid => size_of::<Uuid>(),
            Type::String => size_of::<Option<StrBytes>>(),
            Type::Bytes | Type::Records => size_of::<Option<Bytes>>(),
            Type::Struct(shape) => shape.size,
        }
    }

    /// The least number of bytes that a non-null value takes in a version.
    pub fn least_size(self, version: i16, flexible: bool) -> usize {
        match self {
            Type::String | Type::Bytes | Type::Records if flexible => 1,
            Type::String => 2,
            Type::Bytes | Type::Records => 4,
            Type::Struct(shape) => {
                let fields = shape.fields.iter().filter(|field| field.is_plain(version));
                let least = fields.map(|field| field.least_size(version, flexible)).sum::<usize>();
                least + usize::from(flexible)
            }
            _ => self.fixed_size().unwrap_or(1),
        }
    }
}

impl Field {
    fn least_size(&self, version: i16, flexible: bool) -> usize {
        if self.array {
            return if flexible { 1 } else { 4 };
        }
        match self.of {
            // A null structure is one byte.
            Type::Struct(_) if self.nullable.contains(version) => 1,
            of => of.least_size(version, flexible),
        }
    }
}

/// An API of Kafka: what its headers look like does not depend on whether we speak it.
#[derive(Debug)]
pub struct KafkaApi {
    /// Kafka's key.
    pub key: i16,
    /// Kafka's name.
    pub name: &'static str,
    /// The versions that are stable in the release that the table comes from.
    pub versions: VersionRange,
    /// The versions with tagged fields in their headers.
    pub flexible: VersionRange,
}

impl KafkaApi {
    pub(super) const fn new(
        key: i16,
        name: &'static str,
        versions: VersionRange,
        flexible: VersionRange,
    ) -> Self {
        Self { key, name, versions, flexible }
    }
}

/// The shape of a request, or nothing if it is not guarded.
pub fn message(key: i16) -> Option<&'static Message> {
    find(shapes::MESSAGES, key)
}

/// The shape of a response, or nothing if it is not guarded. All that say where a node is are, and
/// what our own client decodes.
pub fn response(key: i16) -> Option<&'static Message> {
    find(shapes::RESPONSES, key).or_else(|| find(shapes::ANSWERS, key))
}

fn find(table: &'static [Message], key: i16) -> Option<&'static Message> {
    let row = table.binary_search_by_key(&key, |message| message.key).ok()?;
    table.get(row)
}

/// Kafka's row for a key, or nothing if Kafka does not speak it.
pub fn kafka_api(key: i16) -> Option<&'static KafkaApi> {
    let row = shapes::KAFKA_APIS.binary_search_by_key(&key, |api| api.key).ok()?;
    shapes::KAFKA_APIS.get(row)
}

pub(super) const fn since(min: i16) -> VersionRange {
    VersionRange::new(min, i16::MAX)
}

pub(super) const fn between(min: i16, max: i16) -> VersionRange {
    VersionRange::new(min, max)
}

pub(super) const fn never() -> VersionRange {
    VersionRange::EMPTY
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Visits every structure of a message with its depth.
    fn visit(shape: &'static Struct, depth: usize, seen: &mut dyn FnMut(&'static Struct, usize)) {
        seen(shape, depth);
        for field in shape.fields {
            if let Type::Struct(inner) = field.of {
                visit(inner, depth + 1, seen);
            }
        }
    }

    #[test]
    fn rows_are_sorted_so_that_look_ups_find_them() {
        for row in shapes::MESSAGES {
            assert_eq!(message(row.key).map(|found| found.name), Some(row.name));
        }
        for row in shapes::KAFKA_APIS {
            assert_eq!(kafka_api(row.key).map(|found| found.name), Some(row.name));
        }
        assert!(message(i16::MAX).is_none() && kafka_api(4).is_none());
    }

    #[test]
    fn shapes_nest_at_most_five_deep() {
        for row in shapes::MESSAGES {
            visit(row.root, 1, &mut |_, depth| assert!(depth <= 5, "{}", row.name));
        }
    }

    #[test]
    fn array_elements_take_at_least_one_byte_in_every_version() {
        for row in shapes::MESSAGES {
            for version in row.versions.min..=row.versions.max {
                let flexible = row.flexible.contains(version);
                visit(row.root, 1, &mut |shape, _| {
                    let arrays = shape.fields.iter().filter(|field| field.array);
                    for field in arrays.filter(|field| field.versions.contains(version)) {
                        let least = field.of.least_size(version, flexible);
                        assert!(least >= 1, "{} {} v{version}", row.name, field.name);
                    }
                });
            }
        }
    }

    #[test]
    fn least_sizes_are_those_of_the_wire() {
        let metadata = message(3).expect("metadata");
        let topic = metadata.root.fields[0].of;
        assert_eq!(topic.least_size(4, false), 2);
        assert_eq!(topic.least_size(9, true), 2);
        assert_eq!(topic.least_size(10, true), 18);
    }
}
