//! What is read: lines of bounded length, and the records that they are.
#![allow(clippy::disallowed_methods, reason = "the command line names the file")]

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::super::output::Failure;
use crate::client::NewRecord;

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A value, perhaps with its key before it.
    Lines,
    /// An object as `tidegate consume --format json` prints it.
    Json,
}

/// How a line becomes a record.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) form: Form,
    pub(super) key_separator: Option<String>,
    pub(super) key: Option<Bytes>,
    pub(super) headers: Vec<(String, Option<Bytes>)>,
    pub(super) null_value: Option<String>,
    pub(super) partition: Option<i32>,
    pub(super) repartition: bool,
    /// Milliseconds since 1970.
    pub(super) timestamp: Option<i64>,
}

/// Opens a file and says how long it is; one that cannot be read is wrong usage.
pub(super) fn open(path: &Path) -> Result<(File, u64), Failure> {
    let unreadable =
        |error: io::Error| Failure::Usage(format!("{}: {error}; check the path", path.display()));
    let file = File::open(path).map_err(unreadable)?;
    let meta = file.metadata().map_err(unreadable)?;
    if meta.is_dir() {
        return Err(Failure::Usage(format!("{} is a directory; give a file", path.display())));
    }
    Ok((file, meta.len()))
}

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// All of it.
    Whole(Vec<u8>),
    /// It has more bytes than allowed; they were passed over.
    TooLong,
}

/// Reads lines of at most so many bytes, which are all that it holds.
#[derive(Debug)]
pub(super) struct Lines<R> {
    input: BufReader<R>,
    max: usize,
}

impl<R: io::Read> Lines<R> {
    pub(super) fn new(input: R, max: usize) -> Self {
        Self { input: BufReader::with_capacity(64 << 10, input), max }
    }

    /// The next line, and how many bytes it took; nothing at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<(Line, u64)>> {
        let mut line = Vec::new();
        // With both bytes of the longest line's end.
        let most = (self.max as u64).saturating_add(2);
        let mut taken = self.input.by_ref().take(most).read_until(b'\n', &mut line)? as u64;
        if taken == 0 {
            return Ok(None);
        }
        let is_ended = line.last() == Some(&b'\n');
        if is_ended {
            line.pop();
            // As Kafka's console producer does.
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        if line.len() <= self.max {
            return Ok(Some((Line::Whole(line), taken)));
        }
        if !is_ended {
            taken += self.pass_over()?;
        }
        Ok(Some((Line::TooLong, taken)))
    }

    /// Goes behind the end of the line.
    fn pass_over(&mut self) -> io::Result<u64> {
        let mut passed = 0;
        loop {
            let chunk = self.input.fill_buf()?;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let bytes = end.map_or(chunk.len(), |at| at + 1);
            self.input.consume(bytes);
            passed += bytes as u64;
            if end.is_some() || bytes == 0 {
                return Ok(passed);
            }
        }
    }
}

impl Reading {
    /// The record of a line; nothing for one that has none. The error says what is wrong and what
    /// helps.
    pub(super) fn record(&self, line: Vec<u8>) -> Result<Option<NewRecord>, String> {
        match self.form {
            Form::Lines => self.of_line(line).map(Some),
            Form::Json if line.trim_ascii().is_empty() => Ok(None),
            Form::Json => self.of_json(&line).map(Some),
        }
    }

    fn of_line(&self, line: Vec<u8>) -> Result<NewRecord, String> {
        let line = Bytes::from(line);
        let (key, value) = match &self.key_separator {
            None => (self.key.clone(), line),
            Some(separator) => {
                let bytes = separator.as_bytes();
                let at = line.windows(bytes.len()).position(|window| window == bytes);
                let at = at.ok_or_else(|| {
                    format!("there is no {separator:?} in it; --key-separator wants a key first")
                })?;
                (Some(line.slice(..at)), line.slice(at + bytes.len()..))
            }
        };
        let null = self.null_value.as_ref();
        let is_null = null.is_some_and(|null| null.as_bytes() == value.as_ref());
        Ok(NewRecord {
            partition: self.partition,
            timestamp: self.timestamp,
            key,
            value: (!is_null).then_some(value),
            headers: self.headers.clone(),
        })
    }

    fn of_json(&self, line: &[u8]) -> Result<NewRecord, String> {
        let object: Object = serde_json::from_slice(line).map_err(|error| {
            format!("{error}; --format json wants what `tidegate consume --format json` prints")
        })?;
        if let Some(partition) = object.partition.filter(|index| *index < 0) {
            return Err(format!("partition {partition} is negative"));
        }
        let headers = object.headers.unwrap_or_default().into_iter();
        let headers = headers.map(|Header { key, value }| Ok((key, bytes(value, "a header")?)));
        let mut headers: Vec<_> = headers.collect::<Result<_, String>>()?;
        headers.extend(self.headers.iter().cloned());
        let partition = object.partition.filter(|_| !self.repartition);
        // -1 is what a record of before timestamps has.
        let timestamp = object.timestamp.filter(|timestamp| *timestamp >= 0);
        Ok(NewRecord {
            partition: self.partition.or(partition),
            timestamp: self.timestamp.or(timestamp),
            key: bytes(object.key, "key")?,
            value: bytes(object.value, "value")?,
            headers,
        })
    }
}

/// What `consume --format json` prints of a record. Topic and offset are what it had there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    #[serde(rename = "topic")]
    _topic: Option<IgnoredAny>,
    #[serde(rename = "offset")]
    _offset: Option<IgnoredAny>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Option<Text>,
    value: Option<Text>,
    headers: Option<Vec<Header>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    key: String,
    value: Option<Text>,
}

/// Bytes: themselves if they are text, else in base64.
#[derive(Deserialize)]
#[serde(untagged, expecting = "keys and values must be strings, null or {\"base64\": \"..\"}")]
enum Text {
    Plain(String),
    Coded(Coded),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Coded {
    base64: String,
}

fn bytes(text: Option<Text>, what: &str) -> Result<Option<Bytes>, String> {
    match text {
        None => Ok(None),
        Some(Text::Plain(text)) => Ok(Some(Bytes::from(text))),
        Some(Text::Coded(Coded { base64 })) => {
            let decoded = STANDARD.decode(&base64);
            decoded.map(|bytes| Some(bytes.into())).map_err(|error| format!("{what}: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(form: Form) -> Reading {
        Reading {
            form,
            key_separator: None,
            key: None,
            headers: Vec::new(),
            null_value: None,
            partition: None,
            repartition: false,
            timestamp: None,
        }
    }

    fn lines(text: &[u8], max: usize) -> Vec<(Line, u64)> {
        let mut lines = Lines::new(text, max);
        std::iter::from_fn(|| lines.next().unwrap()).collect()
    }

    fn whole(text: &str) -> Line {
        Line::Whole(text.as_bytes().to_vec())
    }

    #[test]
    fn lines_end_with_a_newline_or_the_input_and_may_be_empty() {
        let found = lines(b"one\r\n\ntw\ro\nlast", 100);
        let expected = [(whole("one"), 5), (whole(""), 1), (whole("tw\ro"), 5), (whole("last"), 4)];
        assert_eq!(found, expected);
        assert!(lines(b"", 100).is_empty());
    }

    #[test]
    fn a_line_above_the_bound_is_passed_over_and_the_next_is_read() {
        for (text, long) in [
            (&b"12345\nab\n"[..], 6),
            (b"12345\r\nab\n", 7),
            (b"123456\nab\n", 7),
            (b"1234567890\nab\n", 11),
        ] {
            assert_eq!(lines(text, 4), [(Line::TooLong, long), (whole("ab"), 3)], "{text:?}");
        }
        assert_eq!(lines(b"1234\r\n1234\n", 4), [(whole("1234"), 6), (whole("1234"), 5)]);
        assert_eq!(lines(b"1234567", 4), [(Line::TooLong, 7)]);
        let long = vec![b'x'; 1 << 20];
        assert_eq!(lines(&long, 4), [(Line::TooLong, 1 << 20)]);
    }

    #[test]
    fn a_line_is_a_value_with_its_key_before_the_first_separator() {
        let mut reading = reading(Form::Lines);
        let record = reading.record(b"a:b".to_vec()).unwrap().unwrap();
        assert_eq!((record.key, record.value.as_deref()), (None, Some(&b"a:b"[..])));
        reading.key_separator = Some("::".to_owned());
        reading.null_value = Some("NULL".to_owned());
        for (line, key, value) in [
            ("k::v", "k", Some("v")),
            ("k:::v::", "k", Some(":v::")),
            ("::v", "", Some("v")),
            ("k::", "k", Some("")),
            ("k::NULL", "k", None),
        ] {
            let record = reading.record(line.into()).unwrap().unwrap();
            assert_eq!(record.key.as_deref(), Some(key.as_bytes()), "{line}");
            assert_eq!(record.value.as_deref(), value.map(str::as_bytes), "{line}");
        }
        let refused = reading.record(b"k:v".to_vec()).unwrap_err();
        assert!(refused.contains("\"::\"") && refused.contains("--key-separator"), "{refused}");
    }

    #[test]
    fn an_object_is_a_record_with_all_that_it_had() {
        let mut reading = reading(Form::Json);
        let line = r#"{"topic":"t","partition":3,"offset":9,"timestamp":7,"key":{"base64":"/wA="},
            "value":null,"headers":[{"key":"h","value":"v"},{"key":"h","value":null}]}"#;
        let record = reading.record(line.into()).unwrap().unwrap();
        let headers =
            vec![("h".to_owned(), Some(Bytes::from_static(b"v"))), ("h".to_owned(), None)];
        let expected = NewRecord {
            partition: Some(3),
            timestamp: Some(7),
            key: Some(Bytes::from_static(&[0xff, 0])),
            value: None,
            headers,
        };
        assert_eq!(record, expected);
        reading.repartition = true;
        reading.timestamp = Some(8);
        let record = reading.record(line.into()).unwrap().unwrap();
        assert_eq!((record.partition, record.timestamp), (None, Some(8)));
        assert_eq!(reading.record(b" \t".to_vec()), Ok(None));
        let least = reading.record(b"{}".to_vec()).unwrap().unwrap();
        assert_eq!(least, NewRecord { timestamp: Some(8), ..NewRecord::default() });
    }

    #[test]
    fn an_object_that_is_none_is_refused_with_what_is_wrong() {
        let reading = reading(Form::Json);
        for (line, word) in [
            ("{", "EOF"),
            ("[]", "--format json"),
            (r#"{"vaule":"v"}"#, "vaule"),
            (r#"{"value":7}"#, "base64"),
            (r#"{"value":{"base64":"?"}}"#, "value: "),
            (r#"{"partition":-1}"#, "-1"),
            (r#"{"headers":[{"value":"v"}]}"#, "key"),
        ] {
            let refused = reading.record(line.into()).unwrap_err();
            assert!(refused.contains(word), "{line}: {refused}");
        }
    }
}
