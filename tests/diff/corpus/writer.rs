//! Request bodies from Kafka's own definitions: one of each flavor for every API and version.

use super::schema::{Field, Message};
use super::values::{self, Values};

/// What a body is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// What a client that says nothing sends.
    Defaults,
    /// Null wherever that is allowed, and nothing in arrays.
    Nulls,
    /// One of everything, of what there is.
    One,
    /// Two of everything, of what there is not.
    Two,
    /// The largest numbers and long strings.
    Largest,
    /// The least numbers and empty strings.
    Least,
    /// [`Flavor::One`] with tags that nobody knows in every structure.
    Tagged,
}

impl Flavor {
    /// All of them, in the order in which they are sent.
    pub const ALL: [Flavor; 7] = [
        Flavor::Defaults,
        Flavor::Nulls,
        Flavor::One,
        Flavor::Two,
        Flavor::Largest,
        Flavor::Least,
        Flavor::Tagged,
    ];

    fn elements(self) -> usize {
        match self {
            Flavor::Defaults | Flavor::Nulls => 0,
            Flavor::Two => 2,
            Flavor::One | Flavor::Largest | Flavor::Least | Flavor::Tagged => 1,
        }
    }
}

/// A body, and where its first array or string has its length.
#[derive(Debug)]
pub struct Body {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The place of a length and how many bytes it has.
    pub length_at: Option<(usize, usize)>,
}

/// The body of a request.
pub fn write(message: &Message, version: i16, flavor: Flavor, values: &Values) -> Body {
    let out = Body { bytes: Vec::new(), length_at: None };
    let flexible = message.is_flexible(version);
    let mut writer = Writer { out, message, version, flexible, flavor, values, element: 0 };
    writer.structure(&message.fields);
    writer.out
}

/// A number as Kafka writes lengths and tags of flexible versions.
pub fn varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct Writer<'a> {
    out: Body,
    message: &'a Message,
    version: i16,
    flexible: bool,
    flavor: Flavor,
    values: &'a Values,
    /// Which element of the innermost array is written.
    element: usize,
}

impl<'a> Writer<'a> {
    fn structure(&mut self, fields: &'a [Field]) {
        let version = self.version;
        let (tagged, plain): (Vec<&Field>, Vec<&Field>) = fields
            .iter()
            .filter(|field| field.versions.has(version))
            .partition(|field| field.tagged_versions.has(version));
        for field in plain {
            self.field(field);
        }
        if self.flexible {
            self.tags(tagged);
        }
    }

    /// Known tags are left out where nothing is said, as clients do.
    fn tags(&mut self, mut known: Vec<&'a Field>) {
        if matches!(self.flavor, Flavor::Defaults | Flavor::Nulls) {
            known.clear();
        }
        known.sort_by_key(|field| field.tag);
        let unknown: &[(u32, &[u8])] = match self.flavor {
            Flavor::Tagged => &[(1_000, &[]), (70_000, &[1, 2, 3])],
            _ => &[],
        };
        varint(&mut self.out.bytes, (known.len() + unknown.len()) as u32);
        for field in known {
            let before = std::mem::take(&mut self.out.bytes);
            let length_at = self.out.length_at;
            self.field(field);
            // It would be counted from the start of the tag.
            self.out.length_at = length_at;
            let value = std::mem::replace(&mut self.out.bytes, before);
            self.tag(field.tag.expect("a tagged field has a tag"), &value);
        }
        for (tag, value) in unknown {
            self.tag(*tag, value);
        }
    }

    fn tag(&mut self, tag: u32, value: &[u8]) {
        varint(&mut self.out.bytes, tag);
        varint(&mut self.out.bytes, value.len() as u32);
        self.out.bytes.extend(value);
    }

    fn field(&mut self, field: &'a Field) {
        let (of, is_array) = field.of();
        let nullable = field.nullable_versions.has(self.version);
        let by_default = field.default.as_ref().is_some_and(|value| value == "null");
        let null = nullable
            && match self.flavor {
                Flavor::Nulls => true,
                Flavor::Defaults => by_default,
                _ => values::is_null(self.message, field),
            };
        if is_array {
            let count = self.flavor.elements();
            self.length((!null).then_some(count), 4);
            for element in 0..if null { 0 } else { count } {
                self.element = element;
                self.value(field, of);
            }
            return;
        }
        match of {
            "string" if null => self.length(None, 2),
            "bytes" | "records" if null => self.length(None, 4),
            _ if self.message.fields_of(field).is_empty() => self.value(field, of),
            _ if null => self.out.bytes.push(0xff),
            _ => {
                if nullable {
                    self.out.bytes.push(1);
                }
                self.value(field, of);
            }
        }
    }

    fn value(&mut self, field: &'a Field, of: &str) {
        let (message, flavor, element) = (self.message, self.flavor, self.element);
        let version = self.version;
        let number = |bits: u32| values::number(version, field, flavor, element, bits);
        match of {
            "bool" => {
                let value = values::truth(field, flavor);
                self.out.bytes.push(u8::from(value));
            }
            "int8" | "int16" | "int32" | "int64" | "uint16" | "uint32" => {
                let bits: u32 = of.trim_start_matches(['u', 'i', 'n', 't']).parse().unwrap();
                let value = number(bits).to_be_bytes();
                self.out.bytes.extend(&value[8 - bits as usize / 8..]);
            }
            "float64" => {
                let value = number(64) as f64;
                self.out.bytes.extend(value.to_be_bytes());
            }
            "uuid" => {
                let id = self.values.id(field, flavor, element);
                self.out.bytes.extend(id.as_bytes());
            }
            "string" => {
                let text = values::text(message, version, field, flavor, element);
                self.length(Some(text.len()), 2);
                self.out.bytes.extend(text.as_bytes());
            }
            "bytes" | "records" => {
                let bytes = values::bytes(of, flavor);
                self.length(Some(bytes.len()), 4);
                self.out.bytes.extend(bytes);
            }
            _ => self.structure(message.fields_of(field)),
        }
    }

    /// A length of `width` bytes, or a compact one; nothing is null.
    fn length(&mut self, length: Option<usize>, width: usize) {
        let at = self.out.bytes.len();
        if self.flexible {
            varint(&mut self.out.bytes, length.map_or(0, |length| length as u32 + 1));
        } else {
            let length = length.map_or(-1, |length| length as i64);
            self.out.bytes.extend(&length.to_be_bytes()[8 - width..]);
        }
        self.out.length_at.get_or_insert((at, self.out.bytes.len() - at));
    }
}
