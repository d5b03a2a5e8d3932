//! The rules of `grafana/alerts`: that `promtool` takes them, that each alert fires when it should
//! and not when it should not (`grafana/alerts/tests`), and that each has its page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::dashboards::repository;
use crate::harness::prometheus::promtool;

/// The files of rules.
pub fn files() -> Vec<PathBuf> {
    ["recording", "alerting"].map(|name| repository(&format!("grafana/alerts/{name}.yaml"))).into()
}

/// The texts after `key` in a file, one a line.
fn values(text: &str, key: &str) -> Vec<String> {
    let of = |line: &str| line.trim().trim_start_matches("- ").strip_prefix(key).map(str::to_owned);
    text.lines().filter_map(of).collect()
}

/// The alerts' names, one for each rule.
fn alerts() -> Vec<String> {
    values(&std::fs::read_to_string(repository("grafana/alerts/alerting.yaml")).unwrap(), "alert: ")
}

#[test]
fn promtool_takes_the_rules() {
    let files = files();
    let mut arguments = vec!["check", "rules"];
    arguments.extend(files.iter().map(|path| path.to_str().unwrap()));
    let (is_well, said) = promtool(&repository("."), &arguments, "");
    assert!(is_well, "{said}");
}

#[test]
fn each_alert_fires_when_it_should_and_not_when_it_should_not() {
    let folder = repository("grafana/alerts/tests");
    let (mut fires, mut quiet) = (BTreeSet::new(), BTreeSet::new());
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.collect();
    files.sort();
    for path in &files {
        let text = std::fs::read_to_string(path).unwrap();
        for case in text.split("      - alertname: ").skip(1) {
            let alert = case.lines().next().unwrap().to_owned();
            let is_quiet = case.contains("exp_alerts: []");
            if is_quiet {
                quiet.insert(alert)
            } else {
                fires.insert(alert)
            };
        }
    }
    let alerts: BTreeSet<String> = alerts().into_iter().collect();
    assert_eq!(fires, alerts, "each alert has a case in which it fires, and no other has one");
    assert_eq!(quiet, alerts, "each alert has a case in which it does not fire");
    std::thread::scope(|scope| {
        for path in &files {
            let folder = &folder;
            scope.spawn(move || {
                let (is_well, said) =
                    promtool(folder, &["test", "rules", path.to_str().unwrap()], "");
                assert!(is_well, "{said}");
            });
        }
    });
}

#[test]
fn each_alert_has_its_severity_its_words_and_its_page() {
    let text = std::fs::read_to_string(repository("grafana/alerts/alerting.yaml")).unwrap();
    let mut pages = BTreeMap::new();
    for rule in text.split("      - alert: ").skip(1) {
        let alert = rule.lines().next().unwrap();
        let severity = values(rule, "severity: ");
        assert!(["critical", "warning", "info"].contains(&severity[0].as_str()), "{alert}");
        for key in ["summary: ", "description: "] {
            assert_eq!(values(rule, key).len(), 1, "{alert} has one {key}");
        }
        let page = format!("docs/runbooks/{alert}.md");
        assert_eq!(values(rule, "runbook_url: "), std::slice::from_ref(&page), "{alert}");
        pages.insert(format!("{alert}.md"), page);
    }
    let folder = std::fs::read_dir(repository("docs/runbooks")).unwrap();
    let there: BTreeSet<String> =
        folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut expected: BTreeSet<String> = pages.keys().cloned().collect();
    expected.insert("README.md".to_owned());
    assert_eq!(there, expected, "each alert has a page, and each page an alert");
    let index = std::fs::read_to_string(repository("docs/runbooks/README.md")).unwrap();
    for (name, path) in &pages {
        let page = std::fs::read_to_string(repository(path)).unwrap();
        for part in ["## What it means", "## How bad", "## Look at", "## Do", "## Do not"] {
            assert!(page.contains(&format!("\n{part}\n")), "{path} has no \"{part}\"");
        }
        assert!(index.contains(&format!("]({name})")), "the index names {name}");
    }
}
