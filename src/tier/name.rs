//! Names of tiered objects.
//!
//! A name is never used twice: it is made of the random bits of the process that writes the object
//! and of a sequence that this process never gives out again. So an upload may be cut at any point
//! and done again under another name, and what is read under a name never changes.

use std::fmt;

use crate::object::Key;

/// Where tiered objects are in the bucket.
pub const PREFIX: &str = "t";

/// Which object: the writing process and the object's place among those of the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId {
    /// 128 random bits of the process.
    pub incarnation: [u8; 16],
    /// The object's place among those of the process.
    pub sequence: u64,
}

impl ObjectId {
    /// The object's name, `t/<hash>/<incarnation>/<sequence>`. The hash, of two digits, comes first
    /// because stores spread their load over beginnings of names.
    pub fn key(&self) -> Key {
        Key::new(format!("{PREFIX}/{:02x}/{self}", self.hash()))
    }

    /// The object of that name; `None` for a name that no tiered object has.
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('/').rev();
        let (sequence, incarnation) = (parts.next()?, parts.next()?);
        let sequence = sequence.parse().ok()?;
        let incarnation = u128::from_str_radix(incarnation, 16).ok()?.to_be_bytes();
        let id = Self { incarnation, sequence };
        (id.key().to_string() == name).then_some(id)
    }

    fn hash(&self) -> u8 {
        let crc = crc32c::crc32c(&self.incarnation);
        crc32c::crc32c_append(crc, &self.sequence.to_be_bytes()) as u8
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}/{:020}", u128::from_be_bytes(self.incarnation), self.sequence)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_name_of_an_object_is_frozen() {
        let id = ObjectId { incarnation: [0x1f; 16], sequence: 12 };
        let name = "t/32/1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f/00000000000000000012";
        assert_eq!(id.key().to_string(), name);
        for other in [
            "",
            "t",
            "m/00000000000000000012",
            "t/00/1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f/00000000000000000012",
            "t/32/1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f/12",
            "t/32/1F1F1F1F1F1F1F1F1F1F1F1F1F1F1F1F/00000000000000000012",
            "t/32/1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f/00000000000000000012/",
            "x/t/32/1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f1f/00000000000000000012",
        ] {
            assert_eq!(ObjectId::parse(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn a_name_leads_back_to_its_object(
            incarnation in any::<[u8; 16]>(),
            sequence in any::<u64>(),
        ) {
            let id = ObjectId { incarnation, sequence };
            prop_assert_eq!(ObjectId::parse(&id.key().to_string()), Some(id));
        }
    }
}
