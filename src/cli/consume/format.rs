//! How a record is printed: as a line of JSON, or by a format string in the manner of kcat.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;

use crate::client::Record;

/// A format, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Format {
    /// One JSON object to a line.
    Json,
    /// These parts, one behind the other.
    Parts(Vec<Part>),
}

/// A part of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Part {
    /// These bytes.
    Literal(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
    KeyLength,
    ValueLength,
    Headers,
}

/// In which form keys and values are printed by a format string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum BytesForm {
    /// The bytes as they are.
    Text,
    /// Two hexadecimal digits for each byte.
    Hex,
    /// Base64 with padding.
    Base64,
}

/// The forms of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forms {
    pub(super) key: BytesForm,
    pub(super) value: BytesForm,
}

impl Format {
    /// Reads `json` or a format string; the error points at what is wrong.
    pub(in super::super) fn parse(text: &str) -> Result<Self, String> {
        if text == "json" {
            return Ok(Self::Json);
        }
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut chars = text.char_indices();
        while let Some((at, char)) = chars.next() {
            let part = match char {
                '%' => directive(chars.next().map(|(_, char)| char)),
                '\\' => escape(&mut chars).map(|byte| Part::Literal(vec![byte])),
                char => Ok(Part::Literal(char.to_string().into_bytes())),
            };
            match part.map_err(|reason| pointed(text, at, &reason))? {
                Part::Literal(bytes) => literal.extend(bytes),
                part => {
                    if !literal.is_empty() {
                        parts.push(Part::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(part);
                }
            }
        }
        if parts.is_empty() {
            let reason = "nothing of a record is printed by this; give json, or a text such as \
                          '%k: %v\\n'";
            return Err(reason.to_owned());
        }
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self::Parts(parts))
    }

    /// Appends a record in this format.
    pub(super) fn write(&self, record: &Record, forms: Forms, out: &mut Vec<u8>) {
        match self {
            Format::Json => write_json(record, out),
            Format::Parts(parts) => parts.iter().for_each(|part| part.write(record, forms, out)),
        }
    }
}

fn directive(char: Option<char>) -> Result<Part, String> {
    Ok(match char {
        Some('t') => Part::Topic,
        Some('p') => Part::Partition,
        Some('o') => Part::Offset,
        Some('T') => Part::Timestamp,
        Some('k') => Part::Key,
        // kcat's name of a value is payload, with s for a string.
        Some('v' | 's') => Part::Value,
        Some('K') => Part::KeyLength,
        Some('V' | 'S') => Part::ValueLength,
        Some('h') => Part::Headers,
        Some('%') => Part::Literal(vec![b'%']),
        Some(other) => return Err(format!("%{other} is none of %t %p %o %T %k %v %K %V %h %%")),
        None => return Err("a % at the end stands for nothing; a percent sign is %%".to_owned()),
    })
}

fn escape(chars: &mut std::str::CharIndices<'_>) -> Result<u8, String> {
    let mut next = || chars.next().map(|(_, char)| char);
    match next() {
        Some('n') => Ok(b'\n'),
        Some('r') => Ok(b'\r'),
        Some('t') => Ok(b'\t'),
        Some('0') => Ok(0),
        Some('\\') => Ok(b'\\'),
        Some('x') => {
            let digits = [next(), next()].map(|digit| digit.and_then(|digit| digit.to_digit(16)));
            let [Some(high), Some(low)] = digits else {
                return Err("\\x takes two hexadecimal digits, such as \\x1f".to_owned());
            };
            Ok((high * 16 + low) as u8)
        }
        Some(other) => Err(format!("\\{other} is none of \\n \\r \\t \\0 \\\\ \\xHH")),
        None => Err("a \\ at the end stands for nothing; a backslash is \\\\".to_owned()),
    }
}

/// The reason, with the text below it and a mark at what is wrong.
fn pointed(text: &str, at: usize, reason: &str) -> String {
    // A control character would move the mark.
    let shown = |char: char| if char.is_control() { ' ' } else { char };
    let before = text.get(..at).unwrap_or_default().chars().count();
    let text: String = text.chars().map(shown).collect();
    format!("{reason}\n  {text}\n  {}^", " ".repeat(before))
}

impl Part {
    fn write(&self, record: &Record, forms: Forms, out: &mut Vec<u8>) {
        match self {
            Part::Literal(bytes) => out.extend_from_slice(bytes),
            Part::Topic => out.extend_from_slice(record.topic.as_bytes()),
            Part::Partition => put_number(out, i64::from(record.partition)),
            Part::Offset => put_number(out, record.offset),
            Part::Timestamp => put_number(out, record.timestamp),
            Part::Key => forms.key.write(record.key.as_ref(), out),
            Part::Value => forms.value.write(record.value.as_ref(), out),
            Part::KeyLength => put_number(out, length(record.key.as_ref())),
            Part::ValueLength => put_number(out, length(record.value.as_ref())),
            Part::Headers => put_headers(out, record),
        }
    }
}

impl BytesForm {
    /// Null has no form, and prints nothing.
    fn write(self, bytes: Option<&Bytes>, out: &mut Vec<u8>) {
        let bytes = bytes.map(AsRef::as_ref).unwrap_or_default();
        match self {
            BytesForm::Text => out.extend_from_slice(bytes),
            BytesForm::Hex => {
                let digit = |digit: u8| b"0123456789abcdef".get(usize::from(digit)).copied();
                let digits = bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
                out.extend(digits.flatten());
            }
            BytesForm::Base64 => out.extend(STANDARD.encode(bytes).into_bytes()),
        }
    }
}

fn put_number(out: &mut Vec<u8>, number: i64) {
    out.extend(number.to_string().into_bytes());
}

fn length(bytes: Option<&Bytes>) -> i64 {
    bytes.map_or(-1, |bytes| i64::try_from(bytes.len()).unwrap_or(i64::MAX))
}

/// `key=value,key=value`, with `NULL` for a value that is none, as kcat does.
fn put_headers(out: &mut Vec<u8>, record: &Record) {
    for (at, (key, value)) in record.headers.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        out.extend_from_slice(value.as_deref().unwrap_or(b"NULL"));
    }
}

/// A record as a line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<Content<'a>>,
    value: Option<Content<'a>>,
    headers: Vec<Header<'a>>,
}

#[derive(Serialize)]
struct Header<'a> {
    key: &'a str,
    value: Option<Content<'a>>,
}

/// Bytes: a string if they are text, else an object that says how they are written.
#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    Bytes { base64: String },
}

fn content(bytes: Option<&Bytes>) -> Option<Content<'_>> {
    let bytes = bytes?;
    Some(match std::str::from_utf8(bytes) {
        Ok(text) => Content::Text(text),
        Err(_) => Content::Bytes { base64: STANDARD.encode(bytes) },
    })
}

fn header((key, value): &(String, Option<Bytes>)) -> Header<'_> {
    Header { key, value: content(value.as_ref()) }
}

fn write_json(record: &Record, out: &mut Vec<u8>) {
    let line = Line {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp,
        key: content(record.key.as_ref()),
        value: content(record.value.as_ref()),
        headers: record.headers.iter().map(header).collect(),
    };
    // Writing to memory cannot fail, nor can strings and numbers.
    if serde_json::to_writer(&mut *out, &line).is_ok() {
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Forms = Forms { key: BytesForm::Text, value: BytesForm::Text };

    fn record() -> Record {
        let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let headers =
            [("a", bytes("1")), ("a", None), ("b", Some(Bytes::from_static(&[0xff, 0x00])))];
        Record {
            topic: "orders".to_owned(),
            partition: 3,
            offset: 42,
            timestamp: 1_700_000_000_123,
            key: bytes("kéy"),
            value: Some(Bytes::from_static(&[0xfe, b'v'])),
            headers: headers.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        }
    }

    fn printed(format: &str, record: &Record, forms: Forms) -> Vec<u8> {
        let mut out = Vec::new();
        Format::parse(format).unwrap().write(record, forms, &mut out);
        out
    }

    #[test]
    fn every_directive_prints_its_part() {
        let all = printed("%t|%p|%o|%T|%k|%K|%V|%S|%%|%h", &record(), TEXT);
        let expected = "orders|3|42|1700000000123|kéy|4|2|2|%|a=1,a=NULL,b=".as_bytes();
        assert_eq!(all, [expected, &[0xff, 0x00]].concat());
        assert_eq!(printed("%v", &record(), TEXT), [0xfe, b'v']);
        assert_eq!(printed("%s", &record(), TEXT), [0xfe, b'v']);
        let escaped = printed(r"é\n\r\t\0\\\x1F\xff%o", &record(), TEXT);
        assert_eq!(escaped, ["é\n\r\t\0\\\x1f".as_bytes(), &[0xff], b"42"].concat());
    }

    #[test]
    fn null_prints_nothing_and_has_a_length_of_its_own() {
        let empty =
            Record { key: None, value: Some(Bytes::new()), headers: Vec::new(), ..record() };
        for form in [BytesForm::Text, BytesForm::Hex, BytesForm::Base64] {
            let forms = Forms { key: form, value: form };
            assert_eq!(printed("[%k][%v][%h]%K,%V", &empty, forms), b"[][][]-1,0");
        }
    }

    #[test]
    fn keys_and_values_have_forms_of_their_own() {
        let forms = Forms { key: BytesForm::Hex, value: BytesForm::Base64 };
        assert_eq!(printed("%k %v", &record(), forms), b"6bc3a979 /nY=");
        let forms = Forms { key: BytesForm::Base64, value: BytesForm::Hex };
        assert_eq!(printed("%k %v", &record(), forms), b"a8OpeQ== fe76");
    }

    #[test]
    fn json_is_a_line_in_which_text_is_text_and_bytes_say_so() {
        let line = String::from_utf8(printed("json", &record(), TEXT)).unwrap();
        let expected = concat!(
            r#"{"topic":"orders","partition":3,"offset":42,"timestamp":1700000000123,"#,
            r#""key":"kéy","value":{"base64":"/nY="},"headers":[{"key":"a","value":"1"},"#,
            r#"{"key":"a","value":null},{"key":"b","value":{"base64":"/wA="}}]}"#,
            "\n"
        );
        assert_eq!(line, expected);
        let odd = Record { key: None, value: Some("a\n\"\u{1}".into()), ..record() };
        let line = String::from_utf8(printed("json", &odd, TEXT)).unwrap();
        assert!(line.contains(r#""key":null,"value":"a\n\"\u0001","#), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (wrong, at) in [
            ("%k %q\\n", 3),
            ("é%v%", 3),
            ("%v\\q", 2),
            ("%v\\", 2),
            ("%v \\x1", 3),
            ("%v \\xg0", 3),
            ("\t%v%é", 3),
        ] {
            let reason = Format::parse(wrong).unwrap_err();
            let lines: Vec<&str> = reason.lines().collect();
            assert_eq!(lines.len(), 3, "{reason}");
            assert_eq!(lines[2].find('^'), Some(at + 2), "{reason}");
            assert_eq!(lines[1].chars().count(), wrong.chars().count() + 2, "{reason}");
        }
        for nothing in ["", "yaml", "\\n", "%%"] {
            assert!(Format::parse(nothing).unwrap_err().contains("give json"), "{nothing}");
        }
    }
}
