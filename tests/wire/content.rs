//! Legal request bodies from a shape and some bytes of chance, for every API and version, without
//! code per message.

use tidegate::protocol::guard::shape::{Field, Message, Struct, Type};
use tidegate::protocol::versions::{APIS, Api};

/// Chance as a list of bytes, so that a property test can shrink it; zeros when used up.
#[derive(Debug)]
pub(crate) struct Chance<'a> {
    rest: &'a [u8],
}

impl<'a> Chance<'a> {
    /// Chance from these bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }
}

/// Every served API with each of its versions.
pub(crate) fn served() -> impl Iterator<Item = (&'static Api, i16)> {
    APIS.iter().flat_map(|api| (api.served.min..=api.served.max).map(move |version| (api, version)))
}

/// The body of a request whose content depends on `chance` alone.
pub(crate) fn body(message: &Message, version: i16, chance: &mut Chance<'_>) -> Vec<u8> {
    let flexible = message.flexible.contains(version);
    let mut writer = Writer { out: Vec::new(), version, flexible, chance };
    writer.structure(message.root);
    writer.out
}

struct Writer<'a, 'b> {
    out: Vec<u8>,
    version: i16,
    flexible: bool,
    chance: &'a mut Chance<'b>,
}

impl Writer<'_, '_> {
    fn structure(&mut self, shape: &Struct) {
        let version = self.version;
        for field in shape.fields.iter().filter(|field| field.is_plain(version)) {
            self.field(field);
        }
        if self.flexible {
            self.tags(shape);
        }
    }

    fn field(&mut self, field: &Field) {
        let null = field.nullable.contains(self.version) && self.chance.below(4) == 1;
        if field.array {
            let count = usize::from(self.chance.below(4));
            self.length(if null { None } else { Some(count) }, 4);
            for _ in 0..if null { 0 } else { count } {
                self.value(field.of);
            }
        } else if null {
            match field.of {
                Type::Struct(_) => self.out.push(0xff),
                Type::String => self.length(None, 2),
                _ => self.length(None, 4),
            }
        } else {
            if matches!(field.of, Type::Struct(_)) && field.nullable.contains(self.version) {
                self.out.push(1);
            }
            self.value(field.of);
        }
    }

    fn value(&mut self, of: Type) {
        match of {
            Type::Bool => {
                let value = self.chance.below(2);
                self.out.push(value);
            }
            Type::String => {
                let text: String =
                    (0..self.chance.below(9)).map(|_| ['a', 'é', '0', '-'][self.pick()]).collect();
                self.length(Some(text.len()), 2);
                self.out.extend(text.as_bytes());
            }
            Type::Bytes | Type::Records => {
                let count = usize::from(self.chance.below(40));
                self.length(Some(count), 4);
                self.raw(count);
            }
            Type::Struct(shape) => self.structure(shape),
            fixed => self.raw(fixed.fixed_size().expect("a type of fixed size")),
        }
    }

    /// The known tags of the version and up to two unknown ones, in ascending order.
    fn tags(&mut self, shape: &Struct) {
        let known: Vec<&Field> = shape
            .fields
            .iter()
            .filter(|field| field.is_tagged(self.version) && self.chance.below(2) == 1)
            .collect();
        let unknown = usize::from(self.chance.below(4).saturating_sub(1));
        self.varint(known.len() + unknown);
        for field in known {
            let (tag, _) = field.tagged.expect("a tagged field");
            let before = std::mem::take(&mut self.out);
            self.field(field);
            let value = std::mem::replace(&mut self.out, before);
            self.tag(tag as usize, &value);
        }
        for tag in 0..unknown {
            let value = vec![7; usize::from(self.chance.below(5))];
            self.tag(100 + 100 * tag, &value);
        }
    }

    fn tag(&mut self, tag: usize, value: &[u8]) {
        self.varint(tag);
        self.varint(value.len());
        self.out.extend(value);
    }

    fn raw(&mut self, count: usize) {
        for _ in 0..count {
            let byte = self.chance.byte();
            self.out.push(byte);
        }
    }

    fn pick(&mut self) -> usize {
        usize::from(self.chance.below(4))
    }

    /// A length of `width` bytes, or a compact one; nothing is null.
    fn length(&mut self, length: Option<usize>, width: usize) {
        if self.flexible {
            self.varint(length.map_or(0, |length| length + 1));
        } else {
            let length = length.map_or(-1, |length| length as i64);
            self.out.extend(&length.to_be_bytes()[8 - width..]);
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }
}
