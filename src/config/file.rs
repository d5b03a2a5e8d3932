//! The configuration file: TOML whose tables are flattened, or a Kafka `server.properties`.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::{Origin, Problem};
use super::secret::Secret;
use super::source::Setting;

/// Reads the settings of the file `path` with the content `text`.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Setting>, Vec<Problem>> {
    if is_toml(path, text) { parse_toml(path, text) } else { parse_properties(path, text) }
}

/// By the file's extension, or by its shape: what is valid TOML or has TOML's tables or quotes.
fn is_toml(path: &Path, text: &str) -> bool {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => true,
        Some("properties") => false,
        _ => {
            DeTable::parse(text).is_ok()
                || text.lines().map(str::trim).any(|line| {
                    let quoted = line
                        .split_once('=')
                        .is_some_and(|(_, value)| value.trim_start().starts_with(['"', '\'', '[']));
                    line.starts_with('[') || (quoted && !line.starts_with(['#', '!']))
                })
        }
    }
}

/// A file that is being read: where a byte of it stands, and what it has said so far.
struct Reading<'a> {
    path: &'a Path,
    text: &'a str,
    settings: Vec<Setting>,
    problems: Vec<Problem>,
}

impl<'a> Reading<'a> {
    fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, settings: Vec::new(), problems: Vec::new() }
    }

    fn finish(self) -> Result<Vec<Setting>, Vec<Problem>> {
        if self.problems.is_empty() { Ok(self.settings) } else { Err(self.problems) }
    }

    fn line_of(&self, at: usize) -> usize {
        let before = self.text.bytes().take(at);
        1 + before.filter(|byte| *byte == b'\n').count()
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File { path: self.path.to_owned(), line }
    }

    fn refuse(&mut self, line: usize, reason: impl Into<String>) {
        self.problems.push(Problem::Syntax { origin: self.origin(line), reason: reason.into() });
    }

    /// Adds the settings of `table`, whose keys stand below `prefix`. The parser bounds the depth.
    fn flatten(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            let line = self.line_of(name.span().start);
            if let DeValue::Table(inner) = value.get_ref() {
                self.flatten(&key, inner);
            } else if self.settings.iter().any(|setting| setting.key == key) {
                self.refuse(line, format!("\"{key}\" is set twice; keep one of them"));
            } else if let Some(text) = scalar_or_list(value.get_ref()) {
                let origin = self.origin(line);
                self.settings.push(Setting { key, value: Secret::new(text), origin });
            } else {
                let reason = "must be text, a number, true, false, or an array of these";
                self.refuse(line, format!("\"{key}\" {reason}"));
            }
        }
    }
}

fn parse_toml(path: &Path, text: &str) -> Result<Vec<Setting>, Vec<Problem>> {
    let mut reading = Reading::new(path, text);
    match DeTable::parse(text) {
        Ok(table) => reading.flatten("", table.get_ref()),
        Err(error) => {
            let line = reading.line_of(error.span().map_or(0, |span| span.start));
            // The parser's own message does not repeat the offending text.
            reading.refuse(line, format!("not TOML: {}", error.message()));
        }
    }
    reading.finish()
}

/// The text that the same value would have in a properties file.
fn scalar_or_list(value: &DeValue<'_>) -> Option<String> {
    if let DeValue::Array(items) = value {
        let items: Option<Vec<_>> = items.iter().map(|item| scalar(item.get_ref())).collect();
        return items.map(|items| items.join(","));
    }
    scalar(value)
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(
            i64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()),
        ),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Some(truth.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// The rules of `java.util.Properties.load`, but for the encoding, which is UTF-8 here.
fn parse_properties(path: &Path, text: &str) -> Result<Vec<Setting>, Vec<Problem>> {
    let mut reading = Reading::new(path, text);
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let mut logical = line.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while ends_open(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(next.trim_start());
        }
        let (key, value) = split(&logical);
        match (unescape(key), unescape(value)) {
            (Some(key), Some(value)) => {
                let value = Secret::new(value.trim());
                let origin = reading.origin(index + 1);
                // As in Java, the last of two settings of a key holds.
                reading.settings.retain(|setting| setting.key != key);
                reading.settings.push(Setting { key, value, origin });
            }
            _ => reading.refuse(index + 1, "\\u must be followed by four hexadecimal digits"),
        }
    }
    reading.finish()
}

/// Whether the line goes on in the next one: it ends with an odd number of backslashes.
fn ends_open(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits a line at the first `=`, `:` or white space that no backslash escapes.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, char)| {
        let ends = !escaped && (matches!(char, '=' | ':') || char.is_whitespace());
        escaped = *char == '\\' && !escaped;
        ends
    });
    let (key, rest) = line.split_at(end.map_or(line.len(), |(at, _)| at));
    let rest = rest.trim_start();
    (key, rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start())
}

/// Resolves backslashes; `None` for a `\u` without its four digits.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let whole = digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_hexdigit());
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| whole)?;
                out.push(char::from_u32(code)?);
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(name: &str, text: &str) -> Vec<(String, String, usize)> {
        let settings = parse(Path::new(name), text).unwrap();
        let triple = |setting: Setting| match setting.origin {
            Origin::File { line, .. } => (setting.key, setting.value.expose().to_owned(), line),
            other => panic!("{other}"),
        };
        settings.into_iter().map(triple).collect()
    }

    fn is(key: &str, value: &str, line: usize) -> (String, String, usize) {
        (key.to_owned(), value.to_owned(), line)
    }

    #[test]
    fn toml_tables_are_flattened_and_every_setting_knows_its_line() {
        let text = "node.id = 0x10\n[log.retention]\nms = \"30s\"\n\n[listeners2]\n\
                    x = [\"a\", 1, true]\n\"max.connections\" = 1.5\n";
        let expected = [
            is("listeners2.max.connections", "1.5", 7),
            is("listeners2.x", "a,1,true", 6),
            is("log.retention.ms", "30s", 3),
            is("node.id", "16", 1),
        ];
        let mut found = pairs("a.toml", text);
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn toml_errors_name_the_line() {
        let problem = |text| parse(Path::new("a.toml"), text).unwrap_err()[0].to_string();
        assert!(problem("a = 1\nb = \n").starts_with("a.toml:2: not TOML: "));
        assert!(problem("a = 1979-05-27").starts_with("a.toml:1: \"a\" must be text"));
        assert!(problem("\"a.b\" = 1\na.b = 2").contains("\"a.b\" is set twice"));
    }

    #[test]
    fn properties_follow_javas_rules() {
        let text = "# comment \\\n ! another\n\n  a.b = 1  \nc:2\nd 3\ne\nf=x\\\n    y\\\\\n\
                    g\\ h = i=j\nk = \\u0041\\t.\nc = 4\nl = \\";
        let expected = [
            is("a.b", "1", 4),
            is("d", "3", 6),
            is("e", "", 7),
            is("f", "xy\\", 8),
            is("g h", "i=j", 10),
            is("k", "A\t.", 11),
            is("c", "4", 12),
            is("l", "", 13),
        ];
        assert_eq!(pairs("server.properties", text), expected);
        let broken = parse(Path::new("s.properties"), "a=1\nb=\\u00g1").unwrap_err();
        assert!(broken[0].to_string().starts_with("s.properties:2: "));
    }

    #[test]
    fn the_shape_tells_what_the_extension_does_not() {
        assert_eq!(
            pairs("conf", "listeners=PLAINTEXT://:9092"),
            [is("listeners", "PLAINTEXT://:9092", 1)]
        );
        assert_eq!(pairs("conf", "listeners=\"PLAINTEXT://:9092\"")[0].1, "PLAINTEXT://:9092");
        assert!(parse(Path::new("conf"), "[log]\nlevel=info").is_err());
    }
}
