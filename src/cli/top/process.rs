//! What a Tidegate's metrics say of its process: two looks at them, and the figures in between.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::exposition::{Series, Values};

/// Names the metrics that are read, so that a test can compare them with what there is.
macro_rules! metrics {
    ($($metric:ident = $name:literal),+ $(,)?) => {
        /// A metric that is read.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Metric {
            $(#[doc = concat!("`", $name, "`.")] $metric),+
        }

        impl Metric {
            /// All of them.
            const ALL: &[Metric] = &[$(Metric::$metric),+];

            /// Its whole name.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Metric::$metric => $name),+
                }
            }
        }
    };
}

metrics! {
    BuildInfo = "tidegate_build_info",
    StartTime = "process_start_time_seconds",
    CpuSeconds = "process_cpu_seconds_total",
    ResidentBytes = "process_resident_memory_bytes",
    MemoryUsed = "tidegate_memory_used_bytes",
    MemoryLimit = "tidegate_memory_limit_bytes",
    ConnectionsOpen = "tidegate_server_connections_open",
    ConnectionsLimit = "tidegate_server_connections_limit",
    InFlight = "tidegate_server_requests_in_flight",
    Requests = "tidegate_server_requests_total",
    Errors = "tidegate_server_errors_total",
    Received = "tidegate_server_received_bytes_total",
    Sent = "tidegate_server_sent_bytes_total",
    Duration = "tidegate_server_request_duration_seconds",
    TopicReceived = "tidegate_topic_received_bytes_total",
    TopicSent = "tidegate_topic_sent_bytes_total",
    GroupLagSeconds = "tidegate_consumer_group_lag_seconds",
    WalBytes = "tidegate_wal_disk_bytes",
    WalLimit = "tidegate_wal_limit_bytes",
    WalWritten = "tidegate_wal_written_bytes_total",
    WalSync = "tidegate_wal_sync_seconds",
    TierLagBytes = "tidegate_broker_tier_lag_bytes",
    TierLagSeconds = "tidegate_broker_tier_lag_seconds",
    CacheHits = "tidegate_tier_cache_hits_total",
    CacheMisses = "tidegate_tier_cache_misses_total",
    CacheBytes = "tidegate_tier_cache_bytes",
    ObjectRequests = "tidegate_object_requests_total",
    ObjectRetries = "tidegate_object_retries_total",
    ObjectThrottles = "tidegate_object_throttles_total",
    ObjectBytes = "tidegate_object_bytes_total",
    ObjectLatency = "tidegate_object_latency_seconds",
    ProxyRequests = "tidegate_proxy_requests_total",
    ProxyErrors = "tidegate_proxy_upstream_errors_total",
    ProxyConnections = "tidegate_proxy_upstream_connections",
    ProxyAdded = "tidegate_proxy_added_seconds",
}

/// What the buckets of a histogram are called behind its name.
const BUCKETS: &str = "_bucket";
/// The caches whose hits are those of reads: not that of footers.
const CACHES_OF_CHUNKS: [&str; 2] = ["hot", "catch_up"];
/// The outcomes of a request to the bucket that are errors; not to find what is not there is none.
const BUCKET_ERRORS: [&str; 2] = ["denied", "unavailable"];
/// The share of requests that is slower than none of those told.
const QUANTILE: f64 = 0.99;

/// Whether the values of this name are read.
pub(super) fn is_wanted(name: &str) -> bool {
    let family = name.strip_suffix(BUCKETS).unwrap_or(name);
    Metric::ALL.iter().any(|metric| metric.name() == family)
}

/// Whether this is the page of a Tidegate.
pub(super) fn is_tidegate(values: &Values) -> bool {
    !values.of(Metric::BuildInfo.name()).is_empty()
}

/// What a process does. Rates are those between two looks, nothing at the first one.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Process {
    /// Where it was read.
    pub(super) url: String,
    pub(super) version: String,
    /// `broker` or `proxy`.
    pub(super) role: String,
    pub(super) uptime_seconds: Option<f64>,
    /// CPU seconds in a second.
    pub(super) cpu: Option<f64>,
    pub(super) resident_bytes: Option<f64>,
    pub(super) connections: Option<f64>,
    pub(super) connections_limit: Option<f64>,
    pub(super) requests_in_flight: Option<f64>,
    pub(super) requests_per_second: Option<f64>,
    pub(super) errors_per_second: Option<f64>,
    pub(super) received_bytes_per_second: Option<f64>,
    pub(super) sent_bytes_per_second: Option<f64>,
    pub(super) apis: Vec<Api>,
    pub(super) memory_pools: Vec<Pool>,
    pub(super) wal: Option<Wal>,
    pub(super) tier: Option<Tier>,
    pub(super) bucket: Option<Bucket>,
    pub(super) proxy: Option<Proxy>,
    /// Lines of the page that could not be read.
    pub(super) wrong_lines: usize,
}

/// The requests of an API.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "the names of the output")]
pub(super) struct Api {
    pub(super) api: String,
    pub(super) requests_per_second: Option<f64>,
    /// 99 of 100 responses were written within this time.
    pub(super) p99_seconds: Option<f64>,
    pub(super) received_bytes_per_second: Option<f64>,
    pub(super) sent_bytes_per_second: Option<f64>,
    pub(super) errors_per_second: Option<f64>,
}

/// A part of the byte budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[allow(clippy::struct_field_names, reason = "the names of the output")]
pub(super) struct Pool {
    pub(super) pool: String,
    pub(super) used_bytes: f64,
    pub(super) limit_bytes: Option<f64>,
}

/// The write-ahead log.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Wal {
    pub(super) bytes: f64,
    pub(super) limit_bytes: Option<f64>,
    pub(super) written_bytes_per_second: Option<f64>,
    pub(super) sync_p99_seconds: Option<f64>,
}

/// The way to the bucket and back.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Tier {
    pub(super) lag_bytes: f64,
    pub(super) lag_seconds: Option<f64>,
    /// Of chunks that were wanted, the share that was in a cache; nothing if none was wanted.
    pub(super) cache_hit_ratio: Option<f64>,
    pub(super) cache_bytes: Option<f64>,
}

/// Requests to the bucket.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Bucket {
    pub(super) requests_per_second: Option<f64>,
    pub(super) errors_per_second: Option<f64>,
    pub(super) retries_per_second: Option<f64>,
    pub(super) throttles_per_second: Option<f64>,
    pub(super) bytes_per_second: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
}

/// What a proxy does with its upstreams.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Proxy {
    pub(super) requests_per_second: Option<f64>,
    pub(super) upstream_errors_per_second: Option<f64>,
    pub(super) upstream_connections: Option<f64>,
    /// 99 of 100 requests were held for this time or less.
    pub(super) added_p99_seconds: Option<f64>,
}

/// Two looks at the same page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks<'a> {
    /// The one before, and how many seconds ago it was. Nothing where the process is another one.
    before: Option<(&'a Values, f64)>,
    now: &'a Values,
}

impl<'a> Looks<'a> {
    /// The one before, if there was one, and the one now.
    pub(super) fn new(before: Option<(&'a Values, f64)>, now: &'a Values) -> Self {
        let started = |values: &Values| total(values, Metric::StartTime, |_| true);
        let is_same = |values: &Values| started(values) == started(now);
        Self { before: before.filter(|(values, seconds)| is_same(values) && *seconds > 0.0), now }
    }

    /// The sum of all values now; nothing where there is no series.
    fn gauge(&self, metric: Metric) -> Option<f64> {
        total(self.now, metric, |_| true)
    }

    /// What was added in a second. A series that was not there began at 0.
    fn rate(&self, metric: Metric, is_meant: impl Fn(&Series) -> bool) -> Option<f64> {
        let (before, seconds) = self.before?;
        let now = total(self.now, metric, &is_meant).unwrap_or(0.0);
        let grown = now - total(before, metric, &is_meant).unwrap_or(0.0);
        (grown >= 0.0).then_some(grown / seconds)
    }

    fn rate_of_all(&self, metric: Metric) -> Option<f64> {
        self.rate(metric, |_| true)
    }

    /// The rate of each value of a label.
    pub(super) fn rates_by(&self, metric: Metric, label: &str) -> BTreeMap<String, f64> {
        let Some((before, seconds)) = self.before else { return BTreeMap::new() };
        let sums = |values: &Values| {
            let mut sums: BTreeMap<String, f64> = BTreeMap::new();
            for series in values.of(metric.name()) {
                *sums.entry(series.label(label).to_owned()).or_default() += series.value;
            }
            sums
        };
        let before = sums(before);
        let now = sums(self.now).into_iter().filter_map(|(of, value)| {
            let grown = value - before.get(&of).copied().unwrap_or(0.0);
            (grown >= 0.0).then_some((of, grown / seconds))
        });
        now.collect()
    }

    /// The greatest value now for each value of a label.
    pub(super) fn greatest_by(&self, metric: Metric, label: &str) -> BTreeMap<String, f64> {
        let mut greatest: BTreeMap<String, f64> = BTreeMap::new();
        for series in self.now.of(metric.name()) {
            let value = greatest.entry(series.label(label).to_owned()).or_insert(series.value);
            *value = value.max(series.value);
        }
        greatest
    }

    /// The 99th percentile of what a histogram counted between the looks, between the bounds of its
    /// bucket as if all in it were spread evenly: Prometheus' `histogram_quantile`.
    fn p99(&self, metric: Metric, is_meant: impl Fn(&Series) -> bool) -> Option<f64> {
        let (before, _) = self.before?;
        let name = format!("{}{BUCKETS}", metric.name());
        let mut counts: Vec<(f64, f64)> = Vec::new();
        let mut add = |values: &Values, sign: f64| {
            for series in values.of(&name).iter().filter(|series| is_meant(series)) {
                let Ok(bound) = series.label("le").parse::<f64>() else { continue };
                match counts.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
                    Some((_, count)) => *count += sign * series.value,
                    None => counts.push((bound, sign * series.value)),
                }
            }
        };
        add(self.now, 1.0);
        add(before, -1.0);
        counts.sort_by(|a, b| a.0.total_cmp(&b.0));
        quantile(QUANTILE, &counts)
    }
}

fn total(values: &Values, metric: Metric, is_meant: impl Fn(&Series) -> bool) -> Option<f64> {
    let series = values.of(metric.name()).iter().filter(|series| is_meant(series));
    series.map(|series| series.value).reduce(|a, b| a + b)
}

/// Of counts of what is at most as great as each bound, the bounds rising and the last infinite.
fn quantile(share: f64, counts: &[(f64, f64)]) -> Option<f64> {
    let &(_, all) = counts.last().filter(|(bound, all)| bound.is_infinite() && *all > 0.0)?;
    let rank = share * all;
    let (mut lower, mut below) = (0.0, 0.0);
    for &(bound, count) in counts {
        if count >= rank {
            if bound.is_infinite() {
                return Some(lower);
            }
            let inside = count - below;
            let part = if inside > 0.0 { (rank - below) / inside } else { 1.0 };
            return Some(lower + (bound - lower) * part);
        }
        (lower, below) = (bound, count);
    }
    None
}

impl Process {
    /// The figures of two looks at `url`; `wall_ms` is now.
    pub(super) fn of(url: &str, looks: &Looks<'_>, wall_ms: i64) -> Self {
        let info = looks.now.of(Metric::BuildInfo.name()).first();
        let info = |label| info.map(|it| it.label(label).to_owned()).unwrap_or_default();
        let started = looks.gauge(Metric::StartTime);
        Self {
            url: url.to_owned(),
            version: info("version"),
            role: info("role"),
            uptime_seconds: started.map(|at| (wall_ms as f64 / 1_000.0 - at).max(0.0)),
            cpu: looks.rate_of_all(Metric::CpuSeconds),
            resident_bytes: looks.gauge(Metric::ResidentBytes),
            connections: looks.gauge(Metric::ConnectionsOpen),
            connections_limit: looks.gauge(Metric::ConnectionsLimit),
            requests_in_flight: looks.gauge(Metric::InFlight),
            requests_per_second: looks.rate_of_all(Metric::Requests),
            errors_per_second: looks.rate_of_all(Metric::Errors),
            received_bytes_per_second: looks.rate_of_all(Metric::Received),
            sent_bytes_per_second: looks.rate_of_all(Metric::Sent),
            apis: apis(looks),
            memory_pools: pools(looks),
            wal: looks.gauge(Metric::WalBytes).map(|bytes| Wal {
                bytes,
                limit_bytes: looks.gauge(Metric::WalLimit),
                written_bytes_per_second: looks.rate_of_all(Metric::WalWritten),
                sync_p99_seconds: looks.p99(Metric::WalSync, |_| true),
            }),
            tier: looks.gauge(Metric::TierLagBytes).map(|bytes| tier(looks, bytes)),
            bucket: looks.gauge(Metric::ObjectRequests).map(|_| bucket(looks)),
            proxy: looks.gauge(Metric::ProxyConnections).map(|connections| Proxy {
                requests_per_second: looks.rate_of_all(Metric::ProxyRequests),
                upstream_errors_per_second: looks.rate_of_all(Metric::ProxyErrors),
                upstream_connections: Some(connections),
                added_p99_seconds: looks.p99(Metric::ProxyAdded, |_| true),
            }),
            wrong_lines: looks.now.wrong_lines(),
        }
    }
}

fn apis(looks: &Looks<'_>) -> Vec<Api> {
    let series = looks.now.of(Metric::Requests.name());
    let names: BTreeSet<&str> = series.iter().map(|series| series.label("api")).collect();
    let of = |name: &str| {
        let is_meant = |series: &Series| series.label("api") == name;
        Api {
            api: name.to_owned(),
            requests_per_second: looks.rate(Metric::Requests, is_meant),
            p99_seconds: looks.p99(Metric::Duration, is_meant),
            received_bytes_per_second: looks.rate(Metric::Received, is_meant),
            sent_bytes_per_second: looks.rate(Metric::Sent, is_meant),
            errors_per_second: looks.rate(Metric::Errors, is_meant),
        }
    };
    names.into_iter().map(of).collect()
}

fn pools(looks: &Looks<'_>) -> Vec<Pool> {
    let limits = looks.greatest_by(Metric::MemoryLimit, "pool");
    let used = looks.greatest_by(Metric::MemoryUsed, "pool").into_iter();
    let pool = |(pool, used_bytes): (String, f64)| {
        let limit_bytes = limits.get(&pool).copied();
        Pool { pool, used_bytes, limit_bytes }
    };
    used.map(pool).collect()
}

fn tier(looks: &Looks<'_>, lag_bytes: f64) -> Tier {
    let is_chunks = |series: &Series| CACHES_OF_CHUNKS.contains(&series.label("cache"));
    let hits = looks.rate(Metric::CacheHits, is_chunks);
    let misses = looks.rate(Metric::CacheMisses, is_chunks);
    let ratio = |(hits, misses): (f64, f64)| {
        let wanted = hits + misses;
        (wanted > 0.0).then_some(hits / wanted)
    };
    Tier {
        lag_bytes,
        lag_seconds: looks.gauge(Metric::TierLagSeconds),
        cache_hit_ratio: hits.zip(misses).and_then(ratio),
        cache_bytes: looks.gauge(Metric::CacheBytes),
    }
}

fn bucket(looks: &Looks<'_>) -> Bucket {
    let is_error = |series: &Series| BUCKET_ERRORS.contains(&series.label("outcome"));
    Bucket {
        requests_per_second: looks.rate_of_all(Metric::ObjectRequests),
        errors_per_second: looks.rate(Metric::ObjectRequests, is_error),
        retries_per_second: looks.rate_of_all(Metric::ObjectRetries),
        throttles_per_second: looks.rate_of_all(Metric::ObjectThrottles),
        bytes_per_second: looks.rate_of_all(Metric::ObjectBytes),
        p99_seconds: looks.p99(Metric::ObjectLatency, |_| true),
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "figures of whole numbers are exact")]
mod tests {
    use super::*;

    fn values(page: &str) -> Values {
        Values::parse(page.as_bytes(), is_wanted)
    }

    #[test]
    fn every_metric_that_is_read_is_one_that_there_is() {
        let page = include_str!("../../../docs/metrics.md");
        for metric in Metric::ALL {
            let name = metric.name();
            assert!(page.contains(&format!("\n| `{name}` |")), "docs/metrics.md has no {name}");
        }
    }

    #[test]
    fn labels_and_outcomes_that_are_read_are_those_that_there_are() {
        let sources = [
            (include_str!("../../object/metrics.rs"), &BUCKET_ERRORS[..]),
            (include_str!("../../tier/metrics.rs"), &CACHES_OF_CHUNKS[..]),
        ];
        for (source, labels) in sources {
            for label in labels {
                assert!(source.contains(&format!("\"{label}\"")), "{label}");
            }
        }
    }

    #[test]
    fn rates_are_what_was_added_in_between() {
        let before = values(
            "process_start_time_seconds 5\ntidegate_server_requests_total{api=\"Produce\"} 10\n",
        );
        let now = values(
            "process_start_time_seconds 5\ntidegate_server_requests_total{api=\"Produce\"} 30\n\
             tidegate_server_requests_total{api=\"Fetch\"} 8\n\
             tidegate_server_errors_total{api=\"Fetch\",code=\"A\"} 1\n\
             tidegate_server_errors_total{api=\"Fetch\",code=\"B\"} 3\n",
        );
        let looks = Looks::new(Some((&before, 4.0)), &now);
        let process = Process::of("u", &looks, 65_000);
        assert_eq!(process.uptime_seconds, Some(60.0));
        assert_eq!(process.requests_per_second, Some(7.0));
        let [fetch, produce] = &process.apis[..] else { panic!("{process:?}") };
        assert_eq!((fetch.api.as_str(), produce.api.as_str()), ("Fetch", "Produce"));
        assert_eq!((fetch.requests_per_second, fetch.errors_per_second), (Some(2.0), Some(1.0)));
        assert_eq!(produce.requests_per_second, Some(5.0));
        assert_eq!((process.wal, process.tier, process.bucket), (None, None, None));
        let alone = Process::of("u", &Looks::new(None, &now), 65_000);
        assert_eq!((alone.requests_per_second, alone.apis[0].errors_per_second), (None, None));
    }

    #[test]
    fn another_process_begins_anew() {
        let page = |start: u32, count: u32| {
            values(&format!(
                "process_start_time_seconds {start}\ntidegate_server_requests_total {count}\n"
            ))
        };
        let before = page(1, 100);
        let rate =
            |now: &Values| Looks::new(Some((&before, 1.0)), now).rate_of_all(Metric::Requests);
        assert_eq!(rate(&page(2, 110)), None);
        assert_eq!(rate(&page(1, 110)), Some(10.0));
        // A counter never goes back.
        assert_eq!(rate(&page(1, 90)), None);
    }

    #[test]
    fn a_quantile_lies_inside_of_its_bucket() {
        let infinite = f64::INFINITY;
        assert_eq!(quantile(0.5, &[(1.0, 0.0), (2.0, 10.0), (infinite, 10.0)]), Some(1.5));
        assert_eq!(quantile(0.99, &[(1.0, 100.0), (infinite, 100.0)]), Some(0.99));
        // What is beyond the last bound is as great as that, for all that is known.
        assert_eq!(quantile(0.99, &[(1.0, 5.0), (2.0, 5.0), (infinite, 100.0)]), Some(2.0));
        assert_eq!(quantile(0.99, &[(1.0, 0.0), (infinite, 0.0)]), None);
        assert_eq!(quantile(0.99, &[(1.0, 4.0)]), None);
        assert_eq!(quantile(0.99, &[]), None);
    }

    #[test]
    fn latencies_are_those_between_the_looks() {
        let page = |fast: u32, slow: u32| {
            let all = fast + slow;
            let name = "tidegate_server_request_duration_seconds_bucket{api=\"Produce\",le=";
            values(&format!(
                "tidegate_server_requests_total{{api=\"Produce\"}} {all}\n\
                 {name}\"0.001\"}} {fast}\n{name}\"1\"}} {all}\n{name}\"+Inf\"}} {all}\n"
            ))
        };
        // A thousand slow ones of before do not count.
        let (before, now) = (page(0, 1_000), page(100, 1_000));
        let process = Process::of("u", &Looks::new(Some((&before, 1.0)), &now), 0);
        assert_eq!(process.apis[0].p99_seconds, Some(0.00099));
        let idle = Process::of("u", &Looks::new(Some((&now, 1.0)), &now), 0);
        assert_eq!(idle.apis[0].p99_seconds, None);
    }

    #[test]
    fn what_is_stored_cached_and_asked_of_the_bucket_is_told() {
        let page = |n: u32| {
            values(&format!(
                "tidegate_build_info{{version=\"1.2.3\",role=\"broker\"}} 1\n\
                 tidegate_memory_used_bytes{{pool=\"wal\"}} 5\n\
                 tidegate_memory_limit_bytes{{pool=\"wal\"}} 50\n\
                 tidegate_wal_disk_bytes 7\ntidegate_wal_limit_bytes 70\n\
                 tidegate_broker_tier_lag_bytes 9\ntidegate_broker_tier_lag_seconds 3\n\
                 tidegate_tier_cache_hits_total{{cache=\"hot\"}} {}\n\
                 tidegate_tier_cache_misses_total{{cache=\"catch_up\"}} {n}\n\
                 tidegate_tier_cache_hits_total{{cache=\"footers\"}} {}\n\
                 tidegate_object_requests_total{{operation=\"get\",outcome=\"ok\"}} {n}\n\
                 tidegate_object_requests_total{{operation=\"get\",outcome=\"not_found\"}} {n}\n\
                 tidegate_object_requests_total{{operation=\"get\",outcome=\"unavailable\"}} {n}\n",
                3 * n,
                1_000 * n,
            ))
        };
        let (before, now) = (page(0), page(10));
        let process = Process::of("u", &Looks::new(Some((&before, 10.0)), &now), 0);
        assert!(is_tidegate(&now) && !is_tidegate(&values("a 1\n")));
        assert_eq!((process.version.as_str(), process.role.as_str()), ("1.2.3", "broker"));
        let pool = Pool { pool: "wal".to_owned(), used_bytes: 5.0, limit_bytes: Some(50.0) };
        assert_eq!(process.memory_pools, [pool]);
        let wal = process.wal.unwrap();
        assert_eq!((wal.bytes, wal.limit_bytes), (7.0, Some(70.0)));
        let tier = process.tier.unwrap();
        assert_eq!((tier.lag_bytes, tier.lag_seconds), (9.0, Some(3.0)));
        assert_eq!(tier.cache_hit_ratio, Some(0.75));
        let bucket = process.bucket.unwrap();
        assert_eq!((bucket.requests_per_second, bucket.errors_per_second), (Some(3.0), Some(1.0)));
    }
}
