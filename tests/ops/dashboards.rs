//! The dashboards of `grafana/dashboards` and what they ask Prometheus.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A dashboard's file.
pub struct Dashboard {
    pub name: String,
    pub json: Value,
}

/// One query, and where it is from.
#[derive(Clone)]
pub struct Query {
    pub place: String,
    pub expression: String,
}

/// A folder or file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every dashboard, in the order of their names.
pub fn all() -> Vec<Dashboard> {
    let folder = std::fs::read_dir(repository("grafana/dashboards")).unwrap();
    let mut paths: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let dashboards = paths.iter().map(|path| Dashboard {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        json: serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap(),
    });
    dashboards.collect()
}

impl Dashboard {
    /// What it shows, without the rows.
    pub fn panels(&self) -> Vec<&Value> {
        list(&self.json["panels"]).filter(|panel| panel["type"] != "row").collect()
    }

    /// The variables.
    pub fn variables(&self) -> Vec<&Value> {
        list(&self.json["templating"]["list"]).collect()
    }

    /// The variable `name`.
    pub fn variable(&self, name: &str) -> &Value {
        let found = self.variables().into_iter().find(|variable| variable["name"] == name);
        found.unwrap_or_else(|| panic!("{} has no variable {name}", self.name))
    }

    /// The queries of the panels as they stand in the file.
    pub fn queries(&self) -> Vec<Query> {
        let of = |panel: &Value| -> Vec<Query> {
            let (dashboard, title) = (&self.name, text(&panel["title"]));
            let query = |target: &Value| Query {
                place: format!("{dashboard}: {title}: {}", text(&target["legendFormat"])),
                expression: text(&target["expr"]),
            };
            list(&panel["targets"]).map(query).collect()
        };
        self.panels().into_iter().flat_map(of).collect()
    }

    /// The queries of panels, annotations and variables, as Grafana asks them when everything is
    /// chosen.
    pub fn live_queries(&self) -> Vec<Query> {
        let annotation = |annotation: &Value| Query {
            place: format!("{}: annotation {}", self.name, text(&annotation["name"])),
            expression: text(&annotation["expr"]),
        };
        let mut queries = self.queries();
        queries.extend(list(&self.json["annotations"]["list"]).map(annotation));
        queries.extend(self.variables().into_iter().filter_map(|it| self.choices(it)));
        for query in &mut queries {
            query.expression = self.substituted(&query.expression);
        }
        queries
    }

    /// What gives the choices of a variable, as an expression.
    fn choices(&self, variable: &Value) -> Option<Query> {
        let asked = variable["query"]["query"].as_str()?;
        let (metric, label) = asked.strip_prefix("label_values(")?.rsplit_once(", ")?;
        let (place, label) = (format!("{}: variable {label}", self.name), label.strip_suffix(')')?);
        Some(Query { place, expression: format!("count by ({label}) ({metric})") })
    }

    fn substituted(&self, expression: &str) -> String {
        // Short, so that a fault is seen soon; several scrapes of a second each.
        let mut text = expression.replace("$__rate_interval", "10s").replace("$__range", "5m");
        for variable in self.variables() {
            let value = variable["allValue"].as_str().or(variable["current"]["value"].as_str());
            let name = format!("${}", variable["name"].as_str().unwrap());
            text = text.replace(&name, value.unwrap_or_default());
        }
        assert!(!text.contains('$'), "{}: a variable is unknown: {text}", self.name);
        text
    }
}

/// The elements of an array, none of what is not there.
pub fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A text, empty if there is none.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
