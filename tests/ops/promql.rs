//! As much of `PromQL` as is seen without a parser; what Prometheus makes of an expression, it says
//! itself.

use std::collections::BTreeSet;

/// Functions that make a rate of a counter.
const RATES: [&str; 3] = ["rate", "irate", "increase"];

/// A word of an expression, and the text before it.
fn words(expression: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + expression[from..].find(is_of_word)?;
        let rest = &expression[start..];
        let end = start + rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
        from = end;
        Some((&expression[..start], &expression[start..end]))
    })
}

/// The metrics that an expression names: those of a process, and those that rules record.
pub fn metrics(expression: &str) -> BTreeSet<String> {
    let is_metric = |word: &str| {
        ["tidegate_", "tidegate:", "process_"].iter().any(|prefix| word.starts_with(prefix))
    };
    words(expression).map(|(_, word)| word).filter(|word| is_metric(word)).map(Into::into).collect()
}

/// The selectors of an expression, each metric with what stands in its braces.
pub fn selectors(expression: &str) -> Vec<(String, String)> {
    let names = metrics(expression);
    let of = |(before, word): (&str, &str)| {
        let after = expression[before.len() + word.len()..].trim_start();
        let braces = after.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        names.contains(word).then(|| (word.to_owned(), braces.map_or("", |(it, _)| it).to_owned()))
    };
    words(expression).filter_map(of).collect()
}

/// The counters of an expression that no function makes a rate of.
pub fn bare_counters(expression: &str) -> Vec<String> {
    let is_rated = |before: &str| {
        let before = before.trim_end();
        let function = before.strip_suffix('(').and_then(|rest| words(rest).last());
        function.is_some_and(|(_, name)| RATES.contains(&name))
    };
    let is_counter = |word: &str| word.ends_with("_total") && !word.starts_with("__");
    let bare = words(expression).filter(|(before, word)| is_counter(word) && !is_rated(before));
    bare.map(|(_, word)| word.to_owned()).collect()
}

/// The ranges that a rate is taken over.
pub fn rate_ranges(expression: &str) -> Vec<&str> {
    let mut ranges = Vec::new();
    for (before, word) in words(expression) {
        let rest = &expression[before.len() + word.len()..];
        if RATES.contains(&word) && rest.starts_with('(') {
            let range = rest.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
            ranges.push(range.map_or("", |(range, _)| range));
        }
    }
    ranges
}

/// The expression with its comparisons asked for their truth, 0 or 1: what filters returns what it
/// would filter.
pub fn asked_for_truth(expression: &str) -> String {
    let comparisons = [" == ", " != ", " >= ", " <= ", " > ", " < "];
    let one_line = expression.split_whitespace().collect::<Vec<_>>().join(" ");
    comparisons.iter().fold(one_line, |text, sign| text.replace(sign, &format!("{sign}bool ")))
}

#[test]
fn what_is_read_of_an_expression() {
    let text = "sum(rate(tidegate_a_total{x=\"1\"}[5m])) / tidegate:b:ratio > tidegate_c_total";
    let names = ["tidegate:b:ratio", "tidegate_a_total", "tidegate_c_total"];
    assert_eq!(metrics(text), names.map(String::from).into());
    assert_eq!(selectors(text)[0], ("tidegate_a_total".to_owned(), "x=\"1\"".to_owned()));
    assert_eq!(selectors(text)[1], ("tidegate:b:ratio".to_owned(), String::new()));
    assert_eq!(bare_counters(text), ["tidegate_c_total"]);
    assert_eq!(rate_ranges(text), ["5m"]);
    assert_eq!(asked_for_truth("a\n> 1\nand b == 2"), "a > bool 1 and b == bool 2");
}
