//! YAML of plain data, so that a reader of YAML 1.1 or 1.2 reads what the JSON says.

use serde_json::{Map, Value};

/// A value as a document.
pub(super) fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => mapping(map, 0, &mut out),
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut out),
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

fn mapping(map: &Map<String, Value>, depth: usize, out: &mut String) {
    for (at, (key, value)) in map.iter().enumerate() {
        // The first stands behind the dash of the item that it is in.
        if at > 0 || !out.ends_with("- ") {
            indent(depth, out);
        }
        out.push_str(&text(key));
        out.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                out.push('\n');
                mapping(map, depth + 1, out);
            }
            Value::Array(items) if !items.is_empty() => {
                out.push('\n');
                sequence(items, depth, out);
            }
            other => {
                out.push(' ');
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

fn sequence(items: &[Value], depth: usize, out: &mut String) {
    for item in items {
        indent(depth, out);
        out.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => mapping(map, depth + 1, out),
            // Always quoted, and never long: nothing that is printed has lists of lists.
            Value::Array(_) => {
                out.push_str(&item.to_string());
                out.push('\n');
            }
            other => {
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

fn indent(depth: usize, out: &mut String) {
    out.push_str(&"  ".repeat(depth));
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(string) => text(string),
        // JSON's null, booleans, numbers and empty lists and maps are YAML's.
        other => other.to_string(),
    }
}

/// Text that nothing takes for something else stands as it is; JSON's quotes are YAML's.
fn text(string: &str) -> String {
    let starts = string.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let legal = |char: char| char.is_ascii_alphanumeric() || "_./-".contains(char);
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        .iter()
        .any(|word| string.eq_ignore_ascii_case(word));
    if starts && string.chars().all(legal) && !is_word {
        string.to_owned()
    } else {
        Value::String(string.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_block_style_and_words_are_bare() {
        let value = json!({
            "topics": [{"name": "orders.eu", "partitions": [{"id": 0, "isr": [1, 2]}]}, {}],
            "empty": [], "none": null, "nested": {"a": true},
        });
        let expected = "empty: []\nnested:\n  a: true\nnone: null\ntopics:\n\
                        - name: orders.eu\n  partitions:\n  - id: 0\n    isr:\n    - 1\n    - 2\n\
                        - {}\n";
        assert_eq!(document(&value), expected);
        assert_eq!(document(&json!([])), "[]\n");
        assert_eq!(document(&json!(["a", [1]])), "- a\n- [1]\n");
    }

    #[test]
    fn what_could_be_taken_for_something_else_is_quoted() {
        for quoted in ["", "no", "NULL", "1e3", "2026-11-22", "a: b", "- a", "#", "a\nb", "é", "~"]
        {
            let found = text(quoted);
            assert_eq!(found, serde_json::to_string(quoted).unwrap(), "{quoted}");
        }
        assert_eq!(text("orders-1.eu_a/b"), "orders-1.eu_a/b");
    }
}
