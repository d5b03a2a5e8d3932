//! What a value may look like: numbers, humane units, and the range that a key allows.

use super::key::Kind;

/// A value that its key's [`Kind`] accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// Of [`Kind::Bool`].
    Bool(bool),
    /// Of [`Kind::Int`], of [`Kind::Duration`] in milliseconds, of [`Kind::Bytes`] in bytes.
    Number(i64),
    /// Of [`Kind::Text`], [`Kind::Choice`] or [`Kind::Pem`], and of [`Kind::Ratio`] as it was
    /// written.
    Text(String),
    /// Of [`Kind::List`].
    List(Vec<String>),
}

impl Value {
    /// The value as text without units.
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::Bool(truth) => truth.to_string(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(items) => items.join(","),
        }
    }
}

/// Reads `text` as a value of `kind`; the error says what the value has to be.
pub(super) fn parse(kind: Kind, text: &str) -> Result<Value, String> {
    let text = text.trim();
    let refused = || kind.expected();
    match kind {
        Kind::Bool => match text.to_ascii_lowercase().as_str() {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err(refused()),
        },
        Kind::Int { min, max } => {
            ranged(text.parse().ok(), min, max).map(Value::Number).ok_or_else(refused)
        }
        Kind::Duration { min, max } => {
            ranged(with_unit(text, DURATION_UNITS), min, max).map(Value::Number).ok_or_else(refused)
        }
        Kind::Bytes { min, max } => {
            ranged(with_unit(text, SIZE_UNITS), min, max).map(Value::Number).ok_or_else(refused)
        }
        Kind::Choice(choices) => choices
            .iter()
            .find(|choice| choice.eq_ignore_ascii_case(text))
            .map(|choice| Value::Text((*choice).to_owned()))
            .ok_or_else(refused),
        Kind::Ratio => match text.parse::<f64>() {
            Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(Value::Text(text.to_owned())),
            _ => Err(refused()),
        },
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Pem => pem(text).map(Value::Text).ok_or_else(refused),
        Kind::List => Ok(Value::List(
            text.split(',').map(|item| item.trim().to_owned()).filter(|i| !i.is_empty()).collect(),
        )),
    }
}

/// Text in PEM with the line breaks that belong there, or a path as it is. In a properties file a
/// text over several lines loses its line breaks, and Kafka reads it all the same.
fn pem(text: &str) -> Option<String> {
    if text.starts_with(['/', '.']) && !text.contains("-----") {
        return Some(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, after) = after.split_once("-----")?;
        let (body, after) = after.split_once(&format!("-----END {label}-----"))?;
        rest = after;
        out.extend(["-----BEGIN ", label, "-----\n"]);
        out.extend(body.split_ascii_whitespace().flat_map(|line| [line, "\n"]));
        out.extend(["-----END ", label, "-----\n"]);
    }
    (!out.is_empty()).then_some(out)
}

/// Units of time in milliseconds, the longest first of those that share an ending.
const DURATION_UNITS: &[(&str, i64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Units of size in bytes, the longest first of those that share an ending.
const SIZE_UNITS: &[(&str, i64)] = &[
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

fn ranged(number: Option<i64>, min: i64, max: i64) -> Option<i64> {
    number.filter(|number| (min..=max).contains(number))
}

/// A whole number, or a number (which may have a fraction) and a unit: 250ms, 1.5h, 64MiB.
fn with_unit(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let lower = text.to_ascii_lowercase();
    let (amount, unit) = units
        .iter()
        .find_map(|(name, unit)| lower.strip_suffix(name).map(|amount| (amount.trim(), *unit)))?;
    scaled(amount, unit)
}

/// `amount` × `unit`, exactly; `None` if that is no whole number of milliseconds or bytes.
fn scaled(amount: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || (amount.contains('.') && !digits(fraction)) || fraction.len() > 9 {
        return None;
    }
    let whole = whole.parse::<i64>().ok()?.checked_mul(unit)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let divisor = 10_i128.pow(fraction.len() as u32);
    let part = fraction.parse::<i128>().ok()? * i128::from(unit);
    if part % divisor != 0 {
        return None;
    }
    whole.checked_add(i64::try_from(part / divisor).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: (i64, i64) = (i64::MIN, i64::MAX);

    fn duration(text: &str) -> Option<i64> {
        match parse(Kind::Duration { min: ANY.0, max: ANY.1 }, text) {
            Ok(Value::Number(ms)) => Some(ms),
            _ => None,
        }
    }

    fn bytes(text: &str) -> Option<i64> {
        match parse(Kind::Bytes { min: ANY.0, max: ANY.1 }, text) {
            Ok(Value::Number(bytes)) => Some(bytes),
            _ => None,
        }
    }

    #[test]
    fn durations_are_milliseconds_or_carry_a_unit() {
        assert_eq!(duration("-1"), Some(-1));
        assert_eq!(duration("9223372036854775807"), Some(i64::MAX));
        assert_eq!(duration("250ms"), Some(250));
        assert_eq!(duration("30 S"), Some(30_000));
        assert_eq!(duration("1.5h"), Some(5_400_000));
        assert_eq!(duration("7d"), Some(604_800_000));
        for wrong in ["", "s", "1.5", "1.s", "-1s", "5 parsecs", "9223372036854775807d", "1.0001ms"]
        {
            assert_eq!(duration(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn sizes_tell_powers_of_two_from_powers_of_ten() {
        assert_eq!(bytes("64MiB"), Some(64 << 20));
        assert_eq!(bytes("64MB"), Some(64_000_000));
        assert_eq!(bytes("0.5kib"), Some(512));
        assert_eq!(bytes("7b"), Some(7));
        assert_eq!(bytes("1048588"), Some(1_048_588));
        assert_eq!(bytes("0.3b"), None);
    }

    #[test]
    fn a_value_out_of_range_is_told_its_range() {
        let kind = Kind::Int { min: 1, max: 10 };
        assert_eq!(parse(kind, " 10 "), Ok(Value::Number(10)));
        assert_eq!(parse(kind, "11"), Err("must be a whole number from 1 to 10".to_owned()));
    }

    #[test]
    fn choices_and_booleans_ignore_case_and_lists_ignore_empty_items() {
        let kind = Kind::Choice(&["CreateTime", "LogAppendTime"]);
        assert_eq!(parse(kind, "logappendtime"), Ok(Value::Text("LogAppendTime".to_owned())));
        assert_eq!(parse(Kind::Bool, "TRUE"), Ok(Value::Bool(true)));
        assert!(parse(Kind::Bool, "yes").is_err());
        let list = Value::List(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(parse(Kind::List, "a, ,b,"), Ok(list));
    }
}
