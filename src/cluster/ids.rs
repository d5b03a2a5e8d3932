//! The names of clusters, data directories and processes.

use std::fmt;

use crate::clock::Random;

/// A cluster's id: a random UUID, shown as Kafka shows it (22 characters of base64url).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId(pub [u8; 16]);

impl ClusterId {
    /// A new id. Like Kafka's (`Uuid.randomUuid`), its text does not start with a dash, which
    /// command lines would take for an option.
    pub fn new(random: &Random) -> Self {
        loop {
            let id = Self(*random.uuid().as_bytes());
            if !id.to_string().starts_with('-') {
                return id;
            }
        }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let bits = u128::from_be_bytes(self.0);
        // 21 characters of six bits, and one of the last two bits.
        let sixes = (0..21).map(|index| (bits >> (122 - 6 * index)) & 63);
        for six in sixes.chain([(bits & 3) << 4]) {
            write!(f, "{}", char::from(ALPHABET[six as usize]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// 128 random bits that name a data directory for as long as it exists.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity(pub [u8; 16]);

/// 128 random bits that name one run of a broker.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Incarnation(pub [u8; 16]);

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_reads_as_kafkas_does() {
        assert_eq!(ClusterId([0; 16]).to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(ClusterId([0xff; 16]).to_string(), "_____________________w");
        let counting = std::array::from_fn(|index| index as u8);
        assert_eq!(ClusterId(counting).to_string(), "AAECAwQFBgcICQoLDA0ODw");
    }

    #[test]
    fn a_new_cluster_id_never_starts_with_a_dash() {
        let random = Random::seeded(1);
        assert!((0..1_000).all(|_| !ClusterId::new(&random).to_string().starts_with('-')));
    }
}
