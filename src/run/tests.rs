//! The reference of all metrics, `docs/metrics.md`, and the conventions that they keep.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use futures_util::FutureExt;

use super::*;
use crate::config::Sources;
use crate::metrics::Description;
use crate::proxy::{ProxyService, policy};

/// Registers what `/metrics` itself adds.
fn serve_metrics(admin: Admin, registry: &Registry, clock: &Clock, shutdown: &Shutdown) {
    let log_level = LogLevel::fixed("info");
    let known = Known { registry: registry.clone(), health: Health::starting(), log_level };
    let serving = admin.serve(known, clock.clone(), shutdown.clone());
    assert!(serving.now_or_never().is_none(), "nobody has drained it");
}

async fn admin() -> Admin {
    Admin::bind(&Endpoint::parse("127.0.0.1:0").unwrap()).await.unwrap()
}

/// Every metric of a broker with every switch on.
async fn of_broker() -> Vec<Description> {
    let flags = [
        ("object.url", "memory://"),
        ("listeners", "PLAINTEXT://127.0.0.1:0"),
        ("metrics.compat", "kafka-exporter,jmx"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let (registry, clock, shutdown) = (Registry::new(), Clock::system(), Shutdown::new());
    let budget = Budget::new(64 << 20);
    let environment = Environment {
        config: Arc::new(Sources::of_flags(&flags).load().unwrap()),
        clock: clock.clone(),
        random: Random::system(),
        budget: budget.clone(),
        registry: registry.clone(),
        shutdown: shutdown.clone(),
        data_dir: folder.path().to_owned(),
        take_over: false,
        waiting: Box::new(|_| {}),
    };
    let (broker, _lock) = Broker::start(environment).await.unwrap();
    let connections = Connections::new(clock.clone());
    drop(bind_door(&broker, &connections, &registry, &shutdown).await.unwrap());
    process::register(&registry, Role::Broker, &budget, 1);
    observe::register(&registry, &broker, Box::new(|| 0));
    serve_metrics(admin().await, &registry, &clock, &shutdown);
    broker.stop().await;
    registry.described()
}

/// Every metric of a proxy.
async fn of_proxy() -> Vec<Description> {
    let flags = [("upstream.bootstrap.servers", "127.0.0.1:1")];
    let config = Sources::of_flags(&flags).load_proxy().unwrap();
    let (registry, clock, shutdown) = (Registry::new(), Clock::system(), Shutdown::new());
    let budget = Budget::of_proxy(64 << 20);
    let random = Random::system();
    let service = ProxyService::new(&config.clusters, &budget, &clock, &random, &registry).unwrap();
    let options = DoorOptions {
        listeners: Vec::new(),
        limits: Limits::default(),
        connections: Connections::new(clock.clone()),
        api_name: |key| policy::find(key).map(|row| row.name),
    };
    let (service, clock_of_door) = (Arc::new(service), clock.clone());
    let door =
        Door::bind(options, service, &budget, clock_of_door, &registry, shutdown.clone()).unwrap();
    process::register(&registry, Role::Proxy, &budget, 1);
    serve_metrics(admin().await, &registry, &clock, &shutdown);
    drop(door);
    registry.described()
}

/// A table of metrics; nothing without any.
fn table(page: &mut String, heading: &str, metrics: &[&Description]) {
    if metrics.is_empty() {
        return;
    }
    let _ = write!(page, "\n## {heading}\n\n");
    page.push_str("| name | type | labels | there with | meaning |\n|---|---|---|---|---|\n");
    for Description { name, kind, labels, help, switch } in metrics {
        let quoted = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let labels: Vec<String> = labels.iter().map(|label| quoted(label)).collect();
        let (labels, switch) = (labels.join(", "), quoted(switch));
        let _ = writeln!(page, "| `{name}` | {kind} | {labels} | {switch} | {help} |");
    }
}

fn page(broker: &[Description], proxy: &[Description]) -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         Every metric that `/metrics` on `admin.listener` may tell, in Prometheus' text format. A \
         series begins with the first thing that it counts where there is one for each of many \
         (APIs, operations on the bucket, error codes). What is there only with a configuration \
         key names it; the limits are in configuration.md.\n\n\
         This page is written by `tests/run --write-tables`, and a test compares it with what the \
         program registers.\n",
    );
    let is_foreign = |metric: &&Description| metric.name.starts_with("kafka_");
    let of_both: BTreeSet<&str> = {
        let names: BTreeSet<&str> = proxy.iter().map(|metric| metric.name.as_str()).collect();
        let shared = broker.iter().map(|metric| metric.name.as_str());
        shared.filter(|name| names.contains(name)).collect()
    };
    let is_of_both = |metric: &&Description| of_both.contains(metric.name.as_str());
    let own: Vec<_> = broker.iter().filter(|it| !is_foreign(it)).collect();
    let (both, of_broker): (Vec<_>, Vec<_>) = own.into_iter().partition(is_of_both);
    let of_proxy: Vec<_> = proxy.iter().filter(|it| !is_of_both(it)).collect();
    let foreign: Vec<_> = broker.iter().filter(is_foreign).collect();
    table(&mut page, "Broker and proxy", &both);
    table(&mut page, "Broker", &of_broker);
    table(&mut page, "Proxy", &of_proxy);
    table(&mut page, "Names of other programs", &foreign);
    page
}

#[tokio::test]
async fn the_page_in_the_docs_is_what_is_registered() {
    let rendered = page(&of_broker().await, &of_proxy().await);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    #[allow(clippy::disallowed_methods, reason = "the page is a file")]
    if std::env::var_os("WRITE_TABLES").is_some() {
        std::fs::write(&path, &rendered).unwrap();
    }
    #[allow(clippy::disallowed_methods, reason = "the page is a file")]
    let written = std::fs::read_to_string(&path).unwrap();
    let (mut written, mut rendered) = (written.lines(), rendered.lines());
    loop {
        let (is, should) = (written.next(), rendered.next());
        assert_eq!(is, should, "docs/metrics.md; `tests/run --write-tables` writes it");
        if is.is_none() {
            return;
        }
    }
}

/// <https://prometheus.io/docs/practices/naming>
#[tokio::test]
async fn names_and_help_follow_prometheus_conventions() {
    let all: Vec<Description> = [of_broker().await, of_proxy().await].concat();
    assert!(all.len() > 150);
    for metric in &all {
        let Description { name, kind, labels, help, .. } = metric;
        let legal = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(legal(name), "{name}");
        let prefixes = ["tidegate_", "process_", "kafka_"];
        assert!(prefixes.iter().any(|prefix| name.starts_with(prefix)), "{name}");
        assert_eq!(*kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        for unit in ["_ms", "_millis", "_seconds_avg", "_kb", "_mb", "_minutes"] {
            assert!(!name.ends_with(unit), "{name} is not in base units");
        }
        if *kind == "histogram" {
            let units = ["_seconds", "_bytes", "_records"];
            assert!(units.iter().any(|unit| name.ends_with(unit)), "{name} has no unit");
        }
        let first = help.chars().next().unwrap();
        assert!(first.is_uppercase() || first.is_ascii_digit(), "{name}: {help}");
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        for label in labels {
            assert!(label != "le" && label != "instance" && label != "job", "{name}: {label}");
        }
    }
}
