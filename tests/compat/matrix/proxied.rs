//! The matrix through the proxy, in front of Apache Kafka: the same outcome as without.
//!
//! Short form: scenarios in which a client follows what it is told of nodes and coordinators, and
//! one of each other kind. `TIDEGATE_LONG=1`, or a part that `TIDEGATE_MATRIX` asks for: all of it.
//! A cell that fails is tried at Kafka itself and has to fail there, too: the scenarios are written
//! for Tidegate. Whatever a client does, no connection but the proxy's comes to the address that
//! Kafka tells.

use super::{Outcome, Part, Results, Stand, describe, run};

/// Ids of the short form's scenarios.
const CHOSEN: &[&str] = &[
    "group-cooperative",
    "codec-zstd",
    "headers-null",
    "size-default",
    "idempotent",
    "commit-manual",
    "seek-time",
    "restart",
];

#[test]
fn every_client_passes_the_same_through_the_proxy() {
    let mut part = Part::asked();
    if part.is_all() && std::env::var_os("TIDEGATE_LONG").is_none() {
        part.scenarios = owned(CHOSEN);
    }
    let (proxied, log, strangers) = run_at(&part, Stand::proxied(), "proxied");
    assert!(strangers.is_empty(), "clients were told the upstream's address: {strangers:?}");
    let failures = proxied.failures();
    if failures.is_empty() {
        return;
    }
    eprintln!("at Kafka itself:\n{}", describe(&failures, &log));
    let clients: Vec<&str> = failures.iter().map(|(client, ..)| *client).collect();
    let scenarios: Vec<&str> = failures.iter().map(|(_, scenario, _)| *scenario).collect();
    let part = Part { clients: clients.join(","), scenarios: owned(&scenarios) };
    let (direct, ..) = run_at(&part, Stand::kafka(), "kafka");
    let direct = direct.cells.lock().unwrap();
    let others: Vec<_> = failures
        .into_iter()
        .filter(|(client, scenario, _)| !matches!(direct[&(*client, *scenario)], Outcome::Fail(_)))
        .collect();
    assert!(others.is_empty(), "through the proxy alone:\n{}", describe(&others, &log));
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

/// The results, the log, and who else came to the upstream.
fn run_at(part: &Part, mut stand: Stand, name: &str) -> (Results, String, Vec<String>) {
    let drivers = part.start_drivers(&stand);
    let results = Results::new(name);
    run(part, &mut stand, &drivers, &results);
    (results, stand.log(), stand.strangers())
}
