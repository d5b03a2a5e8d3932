//! The tables of README.md that tests render: each stands between `<!-- table:NAME -->` and
//! `<!-- /table -->`. A test fails when the page says something else, and writes the page instead
//! when `WRITE_TABLES` is set (`tests/run --write-tables`).
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part of the harness")]

use std::path::Path;
use std::sync::Mutex;

/// Tests of one binary run side by side and write the same page.
static PAGE: Mutex<()> = Mutex::new(());

/// Compares the table `name` of README.md with `rendered`, or writes it there.
pub fn check(name: &str, rendered: &str) {
    let _turn = PAGE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, table, after) = split(&page, name);
    let rendered = format!("\n{}\n", rendered.trim());
    if table == rendered {
        return;
    }
    if std::env::var_os("WRITE_TABLES").is_some() {
        std::fs::write(&path, format!("{before}{rendered}{after}")).unwrap();
        return;
    }
    let (had, has) = first_difference(table, &rendered);
    panic!(
        "README.md's table `{name}` differs from what was found; `tests/run --write-tables` \
         writes it\n  README: {had}\n  found:  {has}"
    );
}

/// The page before the table's text, the text, and the page behind it.
fn split<'a>(page: &'a str, name: &str) -> (&'a str, &'a str, &'a str) {
    let begin = format!("<!-- table:{name} -->");
    let start = page.find(&begin).unwrap_or_else(|| panic!("README.md has no {begin}"));
    let (before, rest) = page.split_at(start + begin.len());
    let end = rest.find("<!-- /table -->").expect("every table has its end mark");
    let (table, after) = rest.split_at(end);
    (before, table, after)
}

fn first_difference<'a>(left: &'a str, right: &'a str) -> (&'a str, &'a str) {
    let (mut left, mut right) = (left.lines(), right.lines());
    loop {
        match (left.next(), right.next()) {
            (Some(one), Some(other)) if one == other => {}
            (one, other) => return (one.unwrap_or("(end)"), other.unwrap_or("(end)")),
        }
    }
}
