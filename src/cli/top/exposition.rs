//! Prometheus' text format (0.0.4), as far as it is read here: values by name and labels.

use std::collections::BTreeMap;

/// The values of a page that are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values {
    by_name: BTreeMap<String, Vec<Series>>,
    wrong_lines: usize,
}

/// A value and its labels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    /// By name.
    pub(super) labels: BTreeMap<String, String>,
    /// What it is.
    pub(super) value: f64,
}

impl Series {
    /// A label's value; nothing where it has none of that name.
    pub(super) fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

impl Values {
    /// Reads a page. What `wanted` does not want is not kept; a line that is wrong is skipped and
    /// counted.
    pub(super) fn parse(page: &[u8], wanted: impl Fn(&str) -> bool) -> Self {
        let mut values = Self::default();
        for line in page.split(|byte| *byte == b'\n') {
            let Ok(line) = std::str::from_utf8(line) else {
                values.wrong_lines += 1;
                continue;
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match series(line) {
                Some((name, series)) if wanted(name) => {
                    values.by_name.entry(name.to_owned()).or_default().push(series);
                }
                Some(_) => {}
                None => values.wrong_lines += 1,
            }
        }
        values
    }

    /// All series of a name.
    pub(super) fn of(&self, name: &str) -> &[Series] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// How many lines could not be read.
    pub(super) fn wrong_lines(&self) -> usize {
        self.wrong_lines
    }
}

/// `name{label="value",…} number [time]`.
fn series(line: &str) -> Option<(&str, Series)> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (name, rest) = line.split_at(line.find(|c| !of_name(c))?);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    let is_well_ended = words.next().is_none_or(|time| time.parse::<i64>().is_ok());
    (is_well_ended && words.next().is_none()).then_some((name, Series { labels, value }))
}

/// What stands before `}`, and what behind it.
fn labels(mut text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut found = BTreeMap::new();
    loop {
        text = text.trim_start();
        if let Some(rest) = text.strip_prefix('}') {
            return Some((found, rest));
        }
        let (name, rest) = text.split_once('=')?;
        let (value, rest) = quoted(rest.trim_start().strip_prefix('"')?)?;
        found.insert(name.trim().to_owned(), value);
        text = rest.trim_start();
        text = match text.strip_prefix(',') {
            Some(rest) => rest,
            None if text.starts_with('}') => text,
            None => return None,
        };
    }
}

/// Text up to its closing quote, and what is behind that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "what is read is what was written")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(page: &str) -> Values {
        Values::parse(page.as_bytes(), |_| true)
    }

    #[test]
    fn names_labels_and_values_are_read() {
        let values = parsed(
            "# HELP a what it is\n# TYPE a counter\na 7\n\na{b=\"c\",d=\"e\\\"f\\\\g\\nh}\",} 1.5 \
             1700000000000\r\nb:c{ le = \"+Inf\" } +Inf\nd NaN\n",
        );
        assert_eq!(values.wrong_lines(), 0);
        let [plain, labelled] = values.of("a") else { panic!("{values:?}") };
        assert_eq!((plain.value, plain.label("b")), (7.0, ""));
        assert_eq!((labelled.value, labelled.label("b")), (1.5, "c"));
        assert_eq!(labelled.label("d"), "e\"f\\g\nh}");
        assert_eq!(values.of("b:c")[0].label("le"), "+Inf");
        assert!(values.of("b:c")[0].value.is_infinite() && values.of("d")[0].value.is_nan());
        assert!(values.of("nothing").is_empty());
    }

    #[test]
    fn a_wrong_line_is_skipped_and_counted() {
        let wrong = [
            "a",
            "1a 2",
            "a b",
            "a{b} 1",
            "a{b=c} 1",
            "a{b=\"c} 1",
            "a{b=\"c\" 1",
            "a 1 x",
            "a 1 2 3",
            "{} 1",
            "a{b=\"c\"d=\"e\"} 1",
            "-a 1",
        ];
        for line in wrong {
            let values = parsed(&format!("x 1\n{line}\ny 2\n"));
            assert_eq!(values.wrong_lines(), 1, "{line:?}");
            assert_eq!((values.of("x").len(), values.of("y").len()), (1, 1), "{line:?}");
        }
        assert_eq!(Values::parse(b"\xff 1\nx 1", |_| true).wrong_lines(), 1);
    }

    #[test]
    fn what_nobody_wants_is_not_kept() {
        let values = Values::parse(b"a 1\nb 2\nb{c=} 3\n", |name| name == "b");
        assert!(values.of("a").is_empty());
        assert_eq!((values.of("b").len(), values.wrong_lines()), (1, 1));
    }

    proptest! {
        #[test]
        fn anything_is_read_without_a_fault(
            page in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let values = Values::parse(&page, |_| true);
            let lines = page.split(|byte| *byte == b'\n').count();
            prop_assert!(values.wrong_lines() <= lines);
        }

        #[test]
        fn what_is_written_is_read(value in any::<i32>(), label in "[^\\x00-\\x1f]{0,20}") {
            let escaped = label.replace('\\', "\\\\").replace('"', "\\\"");
            let values = parsed(&format!("a{{b=\"{escaped}\"}} {value}\n"));
            prop_assert_eq!(values.wrong_lines(), 0);
            prop_assert_eq!(values.of("a")[0].label("b"), label);
            prop_assert_eq!(values.of("a")[0].value, f64::from(value));
        }
    }
}
