//! Nothing that is shown or watched is dead: every query of every dashboard and every rule gets
//! data from a real Prometheus. What only a fault can show gets that fault.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::dashboards::{self, Dashboard, Query, list, repository, text};
use crate::harness::prometheus::{Prometheus, promtool};
use crate::harness::until;
use crate::promql;
use crate::scene::{Pace, Scene};

/// How long data may take to come, and how often it is looked for.
const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(500);

/// What an expression may have in it that has no data before a fault.
const ONLY_IN_A_FAULT: [&str; 5] = [
    "tidegate_wal_room_refused_total",
    "outcome=\"failed\"",
    "ALERTS",
    "absent(",
    "unless on (namespace, job, role)",
];
/// And before processes are gone.
const ONLY_WITHOUT_PROCESSES: [&str; 2] = ["absent(", "unless on (namespace, job, role)"];

/// With this variable the suite draws pictures of the dashboards after so many seconds of load
/// (`grafana/README.md`).
const PICTURES: &str = "OPS_PICTURES_AFTER_S";

#[test]
fn every_query_of_dashboards_and_rules_gets_data() {
    let Some(mut scene) = Scene::start(Pace::Often) else { return };
    let mut dead = queries(&scene.prometheus);
    assert!(dead.len() > 200, "{} queries", dead.len());
    let have = |dead: &[Query], one_of: &[&str]| {
        dead.iter().all(|query| one_of.iter().any(|it| query.expression.contains(it)))
    };
    wait(&scene.prometheus, "of what needs no fault", &mut dead, |dead| {
        have(dead, &ONLY_IN_A_FAULT)
    });
    check_exposition(&scene);
    // What the alerts look at, of the group that has stopped reading.
    for lag in [
        "tidegate_consumer_group_lag_seconds{group=\"reports\"} > 5",
        "deriv(tidegate_consumer_group_lag_records{group=\"reports\"}[30s]) > 0",
    ] {
        wait_for(&scene.prometheus, lag, &[lag.to_owned()]);
    }

    scene.bucket.kill();
    let alerts = ["TidegateWalBacklog", "TidegateWalRefusing", "TidegateProduceErrorBudgetBurn"];
    wait_for_alerts(&scene.prometheus, &alerts);
    wait(&scene.prometheus, "with the bucket away", &mut dead, |dead| {
        have(dead, &ONLY_WITHOUT_PROCESSES)
    });
    scene.bucket.restart();

    scene.broker.kill();
    let alerts = ["TidegateInstanceDown", "TidegateProcessMissing", "TidegateUpstreamDown"];
    wait_for_alerts(&scene.prometheus, &alerts);
    drop(scene.proxy);
    wait(&scene.prometheus, "with nobody there", &mut dead, <[_]>::is_empty);
}

/// Everything that is asked: by panels, annotations and variables, and by rules.
fn queries(prometheus: &Prometheus) -> Vec<Query> {
    let boards = dashboards::all();
    let mut queries: Vec<Query> = boards.iter().flat_map(Dashboard::live_queries).collect();
    for rule in rules(prometheus) {
        let (name, asked) = (text(&rule["name"]), text(&rule["query"]));
        let expression = match rule["type"].as_str() {
            // What it records is what there is to see.
            Some("recording") => name.clone(),
            _ => promql::asked_for_truth(&asked),
        };
        queries.push(Query { place: format!("rule {name}"), expression });
    }
    queries
}

fn rules(prometheus: &Prometheus) -> Vec<Value> {
    let groups = prometheus.rule_groups();
    groups.iter().flat_map(|group| list(&group["rules"]).cloned()).collect()
}

/// Whether an expression gets at least one number; it must be understood.
fn has_data(prometheus: &Prometheus, query: &Query) -> bool {
    match prometheus.query(&query.expression) {
        Ok(values) => values.iter().any(|value| !value.is_nan()),
        Err(error) => panic!("{}: {error}\n{}", query.place, query.expression),
    }
}

/// Looks again and again for data of what is dead still, until `is_enough` is alive.
fn wait(
    prometheus: &Prometheus,
    when: &str,
    dead: &mut Vec<Query>,
    is_enough: impl Fn(&[Query]) -> bool,
) {
    let begun = Instant::now();
    loop {
        dead.retain(|query| !has_data(prometheus, query));
        if is_enough(dead) {
            return;
        }
        if begun.elapsed() > PATIENCE {
            let dead = dead.iter().map(|it| format!("{}\n    {}", it.place, it.expression));
            panic!("no data {when}:\n{}", dead.collect::<Vec<_>>().join("\n"));
        }
        std::thread::sleep(LOOK);
    }
}

/// Waits until the conditions of alerts hold; for how long they must hold is for `promtool`.
fn wait_for_alerts(prometheus: &Prometheus, names: &[&str]) {
    for name in names {
        let all = rules(prometheus).into_iter().filter(|rule| rule["name"] == *name);
        let conditions: Vec<String> = all.map(|rule| text(&rule["query"])).collect();
        assert!(!conditions.is_empty(), "there is an alert {name}");
        wait_for(prometheus, name, &conditions);
    }
}

/// Waits until one of these expressions has a value.
fn wait_for(prometheus: &Prometheus, name: &str, conditions: &[String]) {
    let holds = || conditions.iter().any(|it| !prometheus.query(it).unwrap().is_empty());
    until(&format!("{name} holds"), || holds().then_some(()));
}

/// What the processes export is as Prometheus wants it, and nothing is asked for that they do not
/// export or exported that nobody can find.
fn check_exposition(scene: &Scene) {
    let mut exported = BTreeSet::new();
    for (name, (_, page)) in
        [("broker", scene.broker.admin("/metrics")), ("proxy", scene.proxy.admin("/metrics"))]
    {
        let (is_well, said) = promtool(&repository("."), &["check", "metrics"], &page);
        assert!(is_well && said.trim().is_empty(), "{name}: {said}");
        let of_type =
            |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
        exported.extend(page.lines().filter_map(of_type));
    }
    let boards = dashboards::all();
    let mut expressions: Vec<String> =
        boards.iter().flat_map(Dashboard::queries).map(|query| query.expression).collect();
    expressions.extend(rules(&scene.prometheus).iter().map(|rule| text(&rule["query"])));
    let suffixes = ["_bucket", "_sum", "_count"];
    let family = |metric: &str| {
        let stem = suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix));
        stem.filter(|stem| exported.contains(*stem)).unwrap_or(metric).to_owned()
    };
    let asked: BTreeSet<String> = expressions.iter().flat_map(|it| promql::metrics(it)).collect();
    let asked: BTreeSet<String> =
        asked.iter().filter(|name| !name.contains(':')).map(|name| family(name)).collect();
    let reference = std::fs::read_to_string(repository("docs/metrics.md")).unwrap();
    let is_known = |name: &&String| asked.contains(*name) || reference.contains(name.as_str());
    let hidden: Vec<&String> = exported.iter().filter(|name| !is_known(name)).collect();
    assert!(hidden.is_empty(), "exported, and neither shown nor in docs/metrics.md: {hidden:?}");
    // A family without a series yet is not in the exposition, but it is in the reference.
    let is_there = |name: &&String| exported.contains(*name) || reference.contains(name.as_str());
    let unknown: Vec<&String> = asked.iter().filter(|name| !is_there(name)).collect();
    assert!(unknown.is_empty(), "asked for and not exported: {unknown:?}");
}

/// Draws the dashboards, if that is asked for: after so many seconds of the load, with everything
/// at its ordinary pace.
#[test]
fn pictures_are_drawn_on_request() {
    let Ok(seconds) = std::env::var(PICTURES) else { return };
    let Some(scene) = Scene::start(Pace::Ordinary) else { return };
    std::thread::sleep(Duration::from_secs(seconds.parse().unwrap()));
    let mut command = Command::new("python3");
    command.arg(repository("grafana/draw")).arg(scene.prometheus.url());
    command.arg(repository("docs/images")).arg(seconds);
    assert!(command.status().unwrap().success(), "the pictures are drawn");
}
