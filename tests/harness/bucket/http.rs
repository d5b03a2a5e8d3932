//! HTTP/1.1 as far as a client library of S3 uses it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::path::PathBuf;

/// A request, with its body.
pub struct Request {
    pub method: String,
    /// The object's name, without the bucket's.
    pub key: String,
    pub query: HashMap<String, String>,
    pub if_none_match: bool,
    pub body: Vec<u8>,
    range: Option<String>,
}

/// An answer: a text, or a part of a file.
pub struct Answer {
    status: u16,
    pub headers: Vec<(&'static str, String)>,
    text: String,
    /// The file and where in it the body begins.
    pub file: Option<(PathBuf, u64)>,
    /// The length of the body that `file` has, or that a HEAD speaks of.
    pub length: u64,
}

/// A client's connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Request {
    /// The part of an object of `bytes` bytes that is asked for, empty if it has no such part;
    /// `None` for all of it.
    pub fn range(&self, bytes: u64) -> Option<Range<u64>> {
        let (from, to) = self.range.as_deref()?.strip_prefix("bytes=")?.split_once('-')?;
        Some(match (from.parse::<u64>(), to.parse::<u64>()) {
            (Ok(from), Ok(to)) => from.min(bytes)..(to + 1).min(bytes),
            (Ok(from), Err(_)) => from.min(bytes)..bytes,
            (Err(_), Ok(last)) => bytes.saturating_sub(last)..bytes,
            (Err(_), Err(_)) => return None,
        })
    }
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), text: String::new(), file: None, length: 0 }
    }

    pub fn with(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    pub fn xml(mut text: String) -> Self {
        text.insert_str(0, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>");
        Self { text, ..Self::new(200) }.with("Content-Type", "application/xml".to_owned())
    }

    pub fn error(status: u16, code: &str) -> Self {
        let text = format!("<Error><Code>{code}</Code></Error>");
        Self { status, ..Self::xml(text) }
    }
}

impl Connection {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// The next request; `None` at the end of the connection, however it ends.
    pub fn next(&mut self) -> Option<Request> {
        let first = self.line()?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let mut headers = HashMap::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        assert!(!headers.contains_key("transfer-encoding"), "bodies come with their length");
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let key = path.splitn(3, '/').nth(2).unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Some(Request {
            method,
            key: decoded(key),
            query: query.map(|(name, value)| (decoded(name), decoded(value))).collect(),
            if_none_match: headers.get("if-none-match").is_some_and(|value| value == "*"),
            body,
            range: headers.remove("range"),
        })
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).ok()?;
        (read > 0).then(|| line.trim_end().to_owned())
    }

    /// Answers; `None` if the client is gone.
    pub fn answer(&mut self, request: &Request, answer: Answer) -> Option<()> {
        let length = answer.length + answer.text.len() as u64;
        let mut head = format!("HTTP/1.1 {} -\r\nContent-Length: {length}\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.extend([*name, ": ", value.as_str(), "\r\n"]);
        }
        head.push_str("\r\n");
        if request.method != "HEAD" {
            head.push_str(&answer.text);
        }
        let stream = self.stream.get_mut();
        stream.write_all(head.as_bytes()).ok()?;
        if let Some((path, from)) = answer.file {
            let mut file = File::open(path).unwrap();
            file.seek(SeekFrom::Start(from)).unwrap();
            std::io::copy(&mut file.take(answer.length), stream).ok()?;
        }
        Some(())
    }
}

/// Text in which `%2F` stands for a slash.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digits = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
        bytes.push(match byte {
            b'%' => 16 * digits(rest.next().unwrap()) + digits(rest.next().unwrap()),
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}

/// A time as HTTP writes it.
pub fn date(seconds: u64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let ([year, month, day], [hour, minute, second]) = civil(seconds);
    let month = MONTHS[month as usize - 1];
    format!("{day:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT")
}

/// A time as XML writes it.
pub fn iso_date(seconds: u64) -> String {
    let ([year, month, day], [hour, minute, second]) = civil(seconds);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z")
}

/// Year, month and day, and the time of the day, of seconds since the epoch.
fn civil(seconds: u64) -> ([u64; 3], [u64; 3]) {
    // Days since 1 March of the year 0, in eras of 400 years.
    let days = seconds / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let of_month = of_year - (153 * shifted + 2) / 5 + 1;
    let year = year + era * 400 + u64::from(month <= 2);
    let second = seconds % 86_400;
    ([year, month, of_month], [second / 3_600, second / 60 % 60, second % 60])
}
