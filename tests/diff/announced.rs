//! Where Tidegate means to answer otherwise than Apache Kafka, and why.

use crate::tree::Difference;

/// A difference that is meant.
#[derive(Debug)]
pub struct Announced {
    /// How the place begins: scenario, a colon, and perhaps the label.
    place: &'static str,
    /// The field, or the message that it is in.
    field: &'static str,
    /// Why.
    #[allow(dead_code, reason = "read by people, and printed through Debug")]
    reason: &'static str,
}

impl Announced {
    /// Whether this is that difference.
    pub fn covers(&self, difference: &Difference) -> bool {
        difference.place.contains(self.place) && difference.field.starts_with(self.field)
    }
}

/// All of them.
pub const ANNOUNCED: &[Announced] = &[];
