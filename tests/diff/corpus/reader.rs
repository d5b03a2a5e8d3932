//! Responses as trees, by Kafka's own definitions: also those that no crate knows yet.

use bytes::{Buf, Bytes};
use uuid::Uuid;

use super::schema::{Field, Message};
use crate::batch;
use crate::masks::EXACT;
use crate::tree::Tree;

/// A response, or what is wrong with it.
pub fn read(message: &Message, version: i16, body: &Bytes) -> Result<Tree, String> {
    let mut reader = Reader { rest: body.clone(), message, version };
    let tree = reader.structure(&message.fields)?;
    if reader.rest.has_remaining() {
        return Err(format!("{} bytes behind it", reader.rest.remaining()));
    }
    Ok(tree)
}

/// A name as the crate writes it.
pub fn snake(name: &str) -> String {
    let mut out = String::new();
    let mut after_small = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && after_small {
            out.push('_');
        }
        after_small = !c.is_ascii_uppercase();
        out.push(c.to_ascii_lowercase());
    }
    out
}

struct Reader<'a> {
    rest: Bytes,
    message: &'a Message,
    version: i16,
}

impl<'a> Reader<'a> {
    fn is_flexible(&self) -> bool {
        self.message.is_flexible(self.version)
    }

    fn structure(&mut self, fields: &'a [Field]) -> Result<Tree, String> {
        let version = self.version;
        let mut read = Vec::new();
        let is_plain =
            |field: &&Field| field.versions.has(version) && !field.tagged_versions.has(version);
        for field in fields.iter().filter(is_plain) {
            let value = self.field(field)?;
            read.push((snake(&field.name), value));
        }
        if self.is_flexible() {
            self.tags(fields, &mut read)?;
        }
        Ok(Tree::Struct(read))
    }

    fn tags(&mut self, fields: &'a [Field], read: &mut Vec<(String, Tree)>) -> Result<(), String> {
        let version = self.version;
        for _ in 0..self.varint()? {
            let (tag, length) = (self.varint()?, self.varint()? as usize);
            let mut value = self.take(length)?;
            let is_it = |field: &&Field| {
                field.tag == Some(tag)
                    && field.versions.has(version)
                    && field.tagged_versions.has(version)
            };
            let Some(field) = fields.iter().find(is_it) else {
                read.push((format!("tag_{tag}"), Tree::Leaf(format!("{value:x}"))));
                continue;
            };
            std::mem::swap(&mut self.rest, &mut value);
            let known = self.field(field)?;
            std::mem::swap(&mut self.rest, &mut value);
            if value.has_remaining() {
                return Err(format!("bytes behind {}", field.name));
            }
            read.push((snake(&field.name), known));
        }
        Ok(())
    }

    fn field(&mut self, field: &'a Field) -> Result<Tree, String> {
        let (of, is_array) = field.of();
        let null = || Tree::Leaf("None".to_owned());
        if is_array {
            let Some(count) = self.length(4)? else { return Ok(null()) };
            let elements = (0..count).map(|_| self.value(field, of));
            return Ok(Tree::list(elements.collect::<Result<_, _>>()?));
        }
        let is_struct = !self.message.fields_of(field).is_empty();
        if is_struct && field.nullable_versions.has(self.version) && self.number::<1>()? < 0 {
            return Ok(null());
        }
        self.value(field, of)
    }

    fn value(&mut self, field: &'a Field, of: &str) -> Result<Tree, String> {
        Ok(Tree::Leaf(match of {
            "bool" => (self.number::<1>()? != 0).to_string(),
            "int8" => self.number::<1>()?.to_string(),
            "int16" => self.number::<2>()?.to_string(),
            "uint16" => (self.number::<2>()? & 0xffff).to_string(),
            "int32" => self.number::<4>()?.to_string(),
            "uint32" => (self.number::<4>()? & 0xffff_ffff).to_string(),
            "int64" => self.number::<8>()?.to_string(),
            "float64" => f64::from_bits(self.number::<8>()? as u64).to_string(),
            "uuid" => Uuid::from_slice(&self.take(16)?).expect("16 bytes").to_string(),
            "string" => match self.length(2)? {
                None => "None".to_owned(),
                Some(length) => format!("{:?}", String::from_utf8_lossy(&self.take(length)?)),
            },
            "bytes" | "records" => match self.length(4)? {
                None => "None".to_owned(),
                Some(length) => self.bytes(of, length)?,
            },
            _ => return self.structure(self.message.fields_of(field)),
        }))
    }

    fn bytes(&mut self, of: &str, length: usize) -> Result<String, String> {
        let bytes = self.take(length)?;
        if of != "records" {
            return Ok(format!("{bytes:x}"));
        }
        let shown = batch::described(&bytes);
        Ok(format!("{}{EXACT}{}", String::from_utf8_lossy(&shown), batch::exact(&bytes)))
    }

    fn number<const N: usize>(&mut self) -> Result<i64, String> {
        let mut bytes = self.take(N)?;
        Ok(bytes.get_int(N))
    }

    /// A length of `width` bytes, or a compact one; nothing for null.
    fn length(&mut self, width: usize) -> Result<Option<usize>, String> {
        let length = match (self.is_flexible(), width) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, 2) => self.number::<2>()?,
            (false, _) => self.number::<4>()?,
        };
        Ok(usize::try_from(length).ok())
    }

    fn varint(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number without end".to_owned())
    }

    fn take(&mut self, length: usize) -> Result<Bytes, String> {
        if length > self.rest.len() {
            return Err(format!("{length} bytes wanted, {} there", self.rest.len()));
        }
        Ok(self.rest.split_to(length))
    }
}
