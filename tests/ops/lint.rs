//! The rules of Grafana's dashboard-linter that apply (its names are those of the tests), and the
//! conventions of ours that no dashboard may leave.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::dashboards::{Dashboard, all, list, repository, text};
use crate::promql;

const PANELS_MAX: usize = 30;

/// Fails with everything that `faults` finds in any dashboard.
fn assert_none(faults: impl Fn(&Dashboard) -> Vec<String>) {
    let dashboards = all();
    assert_eq!(dashboards.len(), 7, "every dashboard is there");
    let name = |dashboard: &Dashboard| {
        let found = faults(dashboard).into_iter();
        found.map(|fault| format!("{}: {fault}", dashboard.name)).collect::<Vec<_>>()
    };
    let found: Vec<String> = dashboards.iter().flat_map(name).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// The panels that are not as they must be.
fn panels_but(dashboard: &Dashboard, is_well: impl Fn(&Value) -> bool) -> Vec<String> {
    let panels = dashboard.panels().into_iter().filter(|panel| !is_well(panel));
    panels.map(|panel| format!("panel {}", panel["title"])).collect()
}

#[test]
fn dashboards_are_as_they_are_described() {
    let script = repository("grafana/generate");
    let checked = Command::new("python3").arg(script).arg("--check").output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_dashboard_can_be_provisioned_and_has_a_place_of_its_own() {
    assert_none(|it| {
        let json = &it.json;
        let mut faults = Vec::new();
        let mut must = |is_well: bool, what: &str| {
            if !is_well {
                faults.push(what.to_owned());
            }
        };
        must(json["schemaVersion"].as_u64() >= Some(39), "schemaVersion");
        must(json["uid"] == format!("tidegate-{}", it.name), "uid");
        must(json["id"].is_null(), "id");
        must(json["editable"] == false, "uneditable-dashboard");
        must(json.get("__inputs").is_none(), "__inputs");
        must(list(&json["tags"]).any(|tag| tag == "tidegate"), "tags");
        must(text(&json["title"]).starts_with("Tidegate / "), "title");
        must(!text(&json["description"]).is_empty(), "description");
        let link = &json["links"][0];
        must(link["type"] == "dashboards" && link["includeVars"] == true, "links to the others");
        must(it.panels().len() <= PANELS_MAX, "too many panels");
        must(json["panels"][0]["type"] == "row", "a row for each question");
        faults
    });
    let uids: BTreeSet<String> = all().iter().map(|it| text(&it.json["uid"])).collect();
    assert_eq!(uids.len(), all().len());
}

#[test]
fn template_datasource_job_instance_and_on_time_change_reload() {
    assert_none(|it| {
        let mut faults = Vec::new();
        let source = it.variable("datasource");
        if source["type"] != "datasource" || source["query"] != "prometheus" {
            faults.push("template-datasource-rule".to_owned());
        }
        for (name, all) in [("namespace", ".*"), ("job", ".+"), ("instance", ".+")] {
            let variable = it.variable(name);
            let is_multi = variable["multi"] == true && variable["includeAll"] == true;
            if !is_multi || variable["allValue"] != all || text(&variable["label"]).is_empty() {
                faults.push(format!("template-{name}-rule"));
            }
        }
        let stale = |variable: &&Value| variable["type"] == "query" && variable["refresh"] != 2;
        let stale = it.variables().into_iter().filter(stale);
        faults.extend(stale.map(|it| format!("template-on-time-change-reload: {}", it["name"])));
        faults
    });
}

#[test]
fn panel_datasource() {
    assert_none(|it| {
        let is_variable = |source: &Value| source["uid"] == "${datasource}";
        panels_but(it, |panel| {
            is_variable(&panel["datasource"])
                && list(&panel["targets"]).all(|target| is_variable(&target["datasource"]))
        })
    });
}

#[test]
fn panel_title_description_units_and_targets() {
    assert_none(|it| {
        panels_but(it, |panel| {
            !text(&panel["title"]).is_empty()
                && text(&panel["description"]).len() > 30
                && !text(&panel["fieldConfig"]["defaults"]["unit"]).is_empty()
                && list(&panel["targets"]).count() > 0
                && list(&panel["targets"]).all(|target| !text(&target["legendFormat"]).is_empty())
        })
    });
}

#[test]
fn titles_are_unique_and_panels_do_not_overlap() {
    assert_none(|it| {
        let mut faults = Vec::new();
        let (mut titles, mut taken) = (BTreeSet::new(), BTreeSet::new());
        for panel in it.panels() {
            if !titles.insert(text(&panel["title"])) {
                faults.push(format!("two panels {}", panel["title"]));
            }
            let number = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            for x in number("x")..number("x") + number("w") {
                for y in number("y")..number("y") + number("h") {
                    if x >= 24 || !taken.insert((x, y)) {
                        faults.push(format!("panel {} is in the way", panel["title"]));
                    }
                }
            }
        }
        faults.dedup();
        faults
    });
}

#[test]
fn target_job_and_instance() {
    const WANTED: &str = "namespace=~\"$namespace\",job=~\"$job\",instance=~\"$instance\"";
    assert_none(|it| {
        let mut faults = Vec::new();
        for query in it.queries() {
            let selectors = promql::selectors(&query.expression).into_iter();
            let wrong = selectors.filter(|(_, labels)| !labels.starts_with(WANTED));
            faults.extend(wrong.map(|(metric, _)| format!("{}: {metric}", query.place)));
        }
        faults
    });
}

#[test]
fn target_counter_agg_and_rate_interval() {
    assert_none(|it| {
        let mut faults = Vec::new();
        for query in it.queries() {
            let bare = promql::bare_counters(&query.expression);
            faults.extend(bare.iter().map(|name| format!("{}: bare {name}", query.place)));
            let ranges = promql::rate_ranges(&query.expression);
            let fixed = ranges.iter().filter(|it| !["$__rate_interval", "$__range"].contains(it));
            faults.extend(fixed.map(|range| format!("{}: rate over {range}", query.place)));
        }
        faults
    });
}

#[test]
fn links_of_tables_lead_to_dashboards_that_have_the_variable() {
    let dashboards = all();
    let mut links = 0;
    for dashboard in &dashboards {
        for panel in dashboard.panels() {
            let overrides = list(&panel["fieldConfig"]["overrides"]);
            let properties = overrides.flat_map(|it| list(&it["properties"]));
            for link in
                properties.filter(|it| it["id"] == "links").flat_map(|it| list(&it["value"]))
            {
                let url = text(&link["url"]);
                let (uid, variable) = url.split_once("?var-").unwrap();
                let target =
                    dashboards.iter().find(|it| uid == format!("/d/{}", text(&it.json["uid"])));
                let target = target.unwrap_or_else(|| panic!("{url} leads nowhere"));
                target.variable(variable.split_once('=').unwrap().0);
                links += 1;
            }
        }
    }
    assert!(links >= 3, "{links} links");
}
