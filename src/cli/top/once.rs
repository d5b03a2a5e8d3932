//! One picture of text, or of JSON or YAML for programs.

use std::time::Duration;

use super::super::output::{Answer, Failure, Output, Table, warn};
use super::look::{History, Looker};
use super::model::Picture;
use super::sheet;

/// Looks twice and prints what was seen.
pub(super) async fn once(
    mut looker: Looker,
    interval: Duration,
    output: Output,
) -> Result<(), Failure> {
    let mut history = History::default();
    let clock = looker.clock();
    let first = Box::pin(looker.look()).await?;
    let next = first.at + interval;
    history.add(first);
    clock.sleep_until(next).await;
    let picture = history.add(Box::pin(looker.look()).await?);
    for note in &picture.notes {
        warn(note);
    }
    output.print(&picture)
}

impl Answer for Picture {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let id = self.cluster_id.as_deref().unwrap_or("without an id");
        let controller = self.controller.map_or_else(|| "none".to_owned(), |it| it.to_string());
        let title = format!("cluster {id}  nodes {}  controller {controller}", self.nodes.len());
        let mut tables = vec![
            (Some(title), sheet::nodes(self).into_table()),
            (Some(format!("topics {}", self.topics.len())), sheet::topics(self).into_table()),
            (Some(self.groups_title()), sheet::groups(self).into_table()),
        ];
        if let Some(process) = &self.process {
            let title = format!("metrics {}", process.url);
            tables.push((Some(title), sheet::process(self).into_table()));
            tables.push((Some("requests".to_owned()), sheet::apis(self).into_table()));
            tables.push((Some("byte budget".to_owned()), sheet::pools(self).into_table()));
        }
        tables
    }
}

impl Picture {
    fn groups_title(&self) -> String {
        match self.groups_omitted {
            0 => format!("groups {}", self.groups.len()),
            more => format!("groups {}, and {more} that were not asked for", self.groups.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::super::model::{GroupRow, NodeRow, TopicRow};
    use super::super::process::{Api, Bucket, Pool, Process, Proxy, Tier, Wal};
    use super::*;

    /// One of everything.
    fn picture() -> Picture {
        let process = Process {
            role: "broker".to_owned(),
            apis: vec![Api::default()],
            memory_pools: vec![Pool::default()],
            wal: Some(Wal::default()),
            tier: Some(Tier::default()),
            bucket: Some(Bucket::default()),
            proxy: Some(Proxy::default()),
            ..Process::default()
        };
        Picture {
            nodes: vec![NodeRow::default()],
            topics: vec![TopicRow { name: "orders".to_owned(), ..TopicRow::default() }],
            groups: vec![GroupRow { group: "billing".to_owned(), ..GroupRow::default() }],
            groups_omitted: 3,
            process: Some(process),
            ..Picture::default()
        }
    }

    fn names(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    found.insert(name.clone());
                    names(value, found);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| names(item, found)),
            _ => {}
        }
    }

    #[test]
    fn programs_are_told_by_documented_names() {
        let page = include_str!("../../../docs/administration.md");
        let (_, page) = page.split_once("## Watching a cluster").unwrap();
        let mut found = BTreeSet::new();
        names(&serde_json::to_value(picture()).unwrap(), &mut found);
        assert!(found.len() > 50, "{found:?}");
        for name in found {
            let is_told = ["`", "`process.", "[]`"].iter().any(|mark| match *mark {
                "`" => page.contains(&format!("`{name}`")),
                "[]`" => page.contains(&format!("{name}[]`")),
                mark => page.contains(&format!("{mark}{name}`")),
            });
            assert!(is_told, "docs/administration.md does not tell of {name}");
        }
    }

    #[test]
    fn text_has_a_table_for_everything() {
        let tables = picture().tables();
        let titles: Vec<&str> = tables.iter().map(|(title, _)| title.as_deref().unwrap()).collect();
        let expected = [
            "cluster without an id  nodes 1  controller none",
            "topics 1",
            "groups 1, and 3 that were not asked for",
            "metrics ",
            "requests",
            "byte budget",
        ];
        assert_eq!(titles, expected);
        let without = Picture { process: None, ..picture() };
        assert_eq!(without.tables().len(), 3);
    }
}
