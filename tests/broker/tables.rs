//! The tables of README.md that the sources alone decide.

use std::fmt::Write as _;

use tidegate::protocol::versions::APIS;

use crate::harness::tables;

#[test]
fn the_readme_lists_the_apis_and_versions_that_are_advertised() {
    let mut table = String::from("| key | API | versions |\n|---|---|---|\n");
    for api in &APIS {
        let (key, versions) = (api.key as i16, api.served);
        writeln!(table, "| {key} | {} | {versions} |", api.name).unwrap();
    }
    tables::check("apis", &table);
}
