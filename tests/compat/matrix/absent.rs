//! What clients lack, and where that is said.

/// Where it is said that `client` lacks what `scenario` needs; nothing if it does not lack it.
pub fn source(client: &str, scenario: &str) -> Option<&'static str> {
    ABSENT.iter().find(|row| row.0 == client && row.1 == scenario).map(|row| row.2)
}

const ABSENT: &[(&str, &str, &str)] = &[];
