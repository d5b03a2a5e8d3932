//! Metrics that are read where the state is when somebody asks, rather than counted as things
//! happen: nothing is kept for them meanwhile, however many partitions or groups there are.

use std::fmt::Write;

/// What a metric's values mean over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, and starts anew with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations by their size.
    Histogram,
}

impl Kind {
    /// Prometheus' name of it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric that a [`Source`] tells.
#[derive(Debug)]
pub struct Family {
    /// Its whole name, with whatever prefix it has.
    pub name: &'static str,
    /// A counter or a gauge.
    pub kind: Kind,
    /// What it means.
    pub help: &'static str,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// The configuration key that it depends on; empty if it is always there.
    pub switch: &'static str,
}

impl Family {
    /// One that is always there.
    pub const fn new(
        name: &'static str,
        kind: Kind,
        help: &'static str,
        labels: &'static [&'static str],
    ) -> Self {
        Self { name, kind, help, labels, switch: "" }
    }

    /// The same, there only where the configuration key says so.
    pub const fn with(self, switch: &'static str) -> Self {
        Self { switch, ..self }
    }
}

/// Who tells metrics that are read when somebody asks.
pub trait Source: Send + Sync {
    /// Every family that it may tell.
    fn families(&self) -> Vec<&'static Family>;

    /// Writes what is so now, each family at most once. May block for as long as it takes to look
    /// at all there is, and must ask nobody outside of this machine.
    fn collect(&self, page: &mut Page);
}

/// Samples in Prometheus' text format.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Writes a family with its samples, each with its labels as [`labels`] gives them, in the
    /// family's order. One without samples is left out.
    pub fn family<'a>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = (&'a str, f64)>,
    ) {
        let Family { name, kind, help, .. } = family;
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let kind = kind.name();
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for (labels, value) in samples {
            self.write(format_args!("{name}{labels} {value}\n"));
        }
    }

    /// Writes a family without labels.
    pub fn value(&mut self, family: &Family, value: f64) {
        self.family(family, [("", value)]);
    }

    /// All that was written.
    pub fn into_text(self) -> String {
        self.text
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a string takes all that is written");
    }
}

/// Labels as a sample has them: `{topic="a",partition="0"}`.
pub fn labels(pairs: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(32);
    for (name, value) in pairs {
        text.push(if text.is_empty() { '{' } else { ',' });
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Family = Family::new("a_bytes", Kind::Gauge, "Bytes of a.", &["of"]);

    #[test]
    fn a_family_is_written_with_its_head_and_one_line_a_sample() {
        let mut page = Page::default();
        let (one, two) = (labels(&[("of", "x")]), labels(&[("of", "a\\b\"c\nd")]));
        page.family(&SIZE, [(one.as_str(), 12_345_678.0), (two.as_str(), 0.25)]);
        page.family(&SIZE, []);
        let expected = "# HELP a_bytes Bytes of a.\n# TYPE a_bytes gauge\n\
                        a_bytes{of=\"x\"} 12345678\na_bytes{of=\"a\\\\b\\\"c\\nd\"} 0.25\n";
        assert_eq!(page.into_text(), expected);
    }
}
