//! Rows that can be sorted and filtered: the same for the screen and for one picture of text.

use std::cmp::Ordering;

use super::super::output::{Align, Table, column};
use super::figures::{self, UNKNOWN, known};
use super::model::Picture;

/// A column: its name, and where its cells stand.
pub(super) type Column = (&'static str, Align);

/// What a cell says beside its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mark {
    /// Nothing.
    #[default]
    Plain,
    /// Somebody should look.
    Warning,
    /// Something is wrong.
    Fault,
}

/// What rows are sorted by.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    Text(String),
    Number(f64),
    Unknown,
}

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) text: String,
    key: Key,
    pub(super) mark: Mark,
}

impl Cell {
    fn text(text: &str) -> Self {
        Self { text: text.to_owned(), key: Key::Text(text.to_lowercase()), mark: Mark::Plain }
    }

    fn optional(text: Option<&str>) -> Self {
        text.map_or_else(Self::unknown, Self::text)
    }

    fn unknown() -> Self {
        Self { text: UNKNOWN.to_owned(), key: Key::Unknown, mark: Mark::Plain }
    }

    fn number(value: f64, text: String) -> Self {
        Self { text, key: Key::Number(value), mark: Mark::Plain }
    }

    fn count(value: usize) -> Self {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        Self::number(value as f64, figures::count(value))
    }

    fn figure(value: Option<f64>, write: fn(f64) -> String) -> Self {
        value.map_or_else(Self::unknown, |value| Self::number(value, write(value)))
    }

    fn marked(mut self, mark: Mark, is_so: bool) -> Self {
        if is_so {
            self.mark = mark;
        }
        self
    }
}

/// Rows under named columns; the first column has names.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Sheet {
    /// Sorts by a column: the greatest first, and text from A on, or the other way round. What is
    /// not known is last either way, and the first column decides between equals.
    pub(super) fn sort(&mut self, by: usize, reversed: bool) {
        let first = |row: &Vec<Cell>| row.first().map(|cell| cell.text.clone());
        self.rows.sort_by(|a, b| {
            let order = match (a.get(by), b.get(by)) {
                (Some(a), Some(b)) => compare(&a.key, &b.key, reversed),
                _ => Ordering::Equal,
            };
            order.then_with(|| first(a).cmp(&first(b)))
        });
    }

    /// Leaves rows whose first cell has these letters, large or small.
    pub(super) fn filter(&mut self, letters: &str) {
        let letters = letters.to_lowercase();
        let has = |row: &Vec<Cell>| {
            row.first().is_some_and(|cell| cell.text.to_lowercase().contains(&letters))
        };
        self.rows.retain(|row| letters.is_empty() || has(row));
    }

    /// Which column has this name.
    pub(super) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(column, _)| *column == name)
    }

    /// The same as text.
    pub(super) fn into_table(self) -> Table {
        let columns = self.columns.into_iter().map(|(name, align)| column(name, align));
        let mut table = Table::new(columns.collect());
        let rows = self.rows.into_iter();
        table.rows(rows.map(|row| row.into_iter().map(|cell| cell.text).collect()));
        table
    }
}

fn compare(a: &Key, b: &Key, reversed: bool) -> Ordering {
    let order = match (a, b) {
        (Key::Unknown, Key::Unknown) => return Ordering::Equal,
        (Key::Unknown, _) => return Ordering::Greater,
        (_, Key::Unknown) => return Ordering::Less,
        (Key::Text(a), Key::Text(b)) => a.cmp(b),
        (Key::Number(a), Key::Number(b)) => b.total_cmp(a),
        (Key::Text(_), Key::Number(_)) => Ordering::Less,
        (Key::Number(_), Key::Text(_)) => Ordering::Greater,
    };
    if reversed { order.reverse() } else { order }
}

/// Nodes.
pub(super) fn nodes(picture: &Picture) -> Sheet {
    let columns = vec![
        ("NODE", Align::Right),
        ("ADDRESS", Align::Left),
        ("RACK", Align::Left),
        ("ROLE", Align::Left),
        ("LEADS", Align::Right),
        ("REPLICAS", Align::Right),
        ("LOG", Align::Right),
        ("FREE", Align::Right),
        ("VOLUME", Align::Right),
    ];
    let bytes = |value: Option<i64>| Cell::figure(value.map(|it| it as f64), figures::bytes);
    let rows = picture.nodes.iter().map(|node| {
        let is_low = node
            .volume_free_bytes
            .zip(node.volume_bytes)
            .is_some_and(|(free, all)| free < all / 10);
        vec![
            Cell::number(f64::from(node.id), node.id.to_string()),
            Cell::text(&node.address),
            Cell::optional(node.rack.as_deref()),
            Cell::text(if node.controller { "controller" } else { "broker" }),
            Cell::count(node.leads),
            Cell::count(node.replicas),
            bytes(node.log_bytes),
            bytes(node.volume_free_bytes).marked(Mark::Warning, is_low),
            bytes(node.volume_bytes),
        ]
    });
    Sheet { columns, rows: rows.collect() }
}

/// Topics; with columns for what metrics tell where there are any.
pub(super) fn topics(picture: &Picture) -> Sheet {
    let with_bytes = picture.process.as_ref().is_some_and(|process| process.role == "broker");
    let mut columns = vec![
        ("TOPIC", Align::Left),
        ("PARTITIONS", Align::Right),
        ("REPLICAS", Align::Right),
        ("RECORDS IN/S", Align::Right),
    ];
    if with_bytes {
        columns.extend([("IN", Align::Right), ("OUT", Align::Right)]);
    }
    columns.extend([
        ("SIZE", Align::Right),
        ("UNDER-REPLICATED", Align::Right),
        ("OFFLINE", Align::Right),
    ]);
    let rows = picture.topics.iter().map(|topic| {
        let mut row = vec![
            Cell::text(&topic.name),
            Cell::count(topic.partitions),
            Cell::count(topic.replication_factor),
            Cell::figure(topic.records_in_per_second, figures::rate),
        ];
        if with_bytes {
            row.push(Cell::figure(topic.bytes_in_per_second, figures::bytes_per_second));
            row.push(Cell::figure(topic.bytes_out_per_second, figures::bytes_per_second));
        }
        let size = topic.size_bytes.map(|bytes| bytes as f64);
        row.extend([
            Cell::figure(size, figures::bytes),
            Cell::count(topic.under_replicated).marked(Mark::Warning, topic.under_replicated > 0),
            Cell::count(topic.offline).marked(Mark::Fault, topic.offline > 0),
        ]);
        row
    });
    Sheet { columns, rows: rows.collect() }
}

/// Groups; with the age of their lag where metrics tell it.
pub(super) fn groups(picture: &Picture) -> Sheet {
    let with_age = picture.groups.iter().any(|group| group.lag_seconds.is_some());
    let mut columns = vec![
        ("GROUP", Align::Left),
        ("STATE", Align::Left),
        ("TYPE", Align::Left),
        ("MEMBERS", Align::Right),
        ("LAG", Align::Right),
    ];
    if with_age {
        columns.push(("BEHIND", Align::Right));
    }
    columns.extend([
        ("CONSUMED/S", Align::Right),
        ("PRODUCED/S", Align::Right),
        ("CATCHES UP", Align::Right),
        ("NODE", Align::Right),
    ]);
    let rows = picture.groups.iter().map(|group| {
        let is_dead = group.state.as_deref() == Some("Dead");
        let lag = group.lag.map(|lag| lag as f64);
        let mut row = vec![
            Cell::text(&group.group),
            Cell::optional(group.state.as_deref()).marked(Mark::Warning, is_dead),
            Cell::optional(group.kind.as_deref()),
            group.members.map_or_else(Cell::unknown, Cell::count),
            Cell::figure(lag, |lag| figures::count(lag as i64)),
        ];
        if with_age {
            row.push(Cell::figure(group.lag_seconds, figures::seconds));
        }
        let never = || Cell::number(f64::INFINITY, "never".to_owned());
        let catches_up = if group.never_catches_up {
            never().marked(Mark::Warning, true)
        } else {
            Cell::figure(group.catch_up_seconds, figures::seconds)
        };
        row.extend([
            Cell::figure(group.consumed_per_second, figures::rate),
            Cell::figure(group.produced_per_second, figures::rate),
            catches_up,
            Cell::number(f64::from(group.coordinator), group.coordinator.to_string()),
        ]);
        row
    });
    Sheet { columns, rows: rows.collect() }
}

/// The APIs of a process that tells its metrics.
pub(super) fn apis(picture: &Picture) -> Sheet {
    let columns = vec![
        ("API", Align::Left),
        ("REQUESTS/S", Align::Right),
        ("P99", Align::Right),
        ("RECEIVED", Align::Right),
        ("SENT", Align::Right),
        ("ERRORS/S", Align::Right),
    ];
    let apis = picture.process.iter().flat_map(|process| &process.apis);
    let rows = apis.map(|api| {
        vec![
            Cell::text(&api.api),
            Cell::figure(api.requests_per_second, figures::rate),
            Cell::figure(api.p99_seconds, figures::seconds),
            Cell::figure(api.received_bytes_per_second, figures::bytes_per_second),
            Cell::figure(api.sent_bytes_per_second, figures::bytes_per_second),
            Cell::figure(api.errors_per_second, figures::rate),
        ]
    });
    Sheet { columns, rows: rows.collect() }
}

/// The pools of the byte budget.
pub(super) fn pools(picture: &Picture) -> Sheet {
    let columns = vec![
        ("MEMORY", Align::Left),
        ("USED", Align::Right),
        ("LIMIT", Align::Right),
        ("SHARE", Align::Right),
    ];
    let pools = picture.process.iter().flat_map(|process| &process.memory_pools);
    let rows = pools.map(|pool| {
        let share = pool.limit_bytes.filter(|limit| *limit > 0.0).map(|it| pool.used_bytes / it);
        let is_full = share.is_some_and(|share| share >= 0.9);
        vec![
            Cell::text(&pool.pool),
            Cell::figure(Some(pool.used_bytes), figures::bytes),
            Cell::figure(pool.limit_bytes, figures::bytes),
            Cell::figure(share, figures::share).marked(Mark::Warning, is_full),
        ]
    });
    Sheet { columns, rows: rows.collect() }
}

/// What a process does, as names and figures.
pub(super) fn process(picture: &Picture) -> Sheet {
    let columns = vec![("PROCESS", Align::Left), ("", Align::Left)];
    let Some(process) = &picture.process else { return Sheet { columns, rows: Vec::new() } };
    let bytes = |value| known(value, figures::bytes);
    let flow = |value| known(value, figures::bytes_per_second);
    let rate = |value| known(value, figures::rate);
    let time = |value| known(value, figures::seconds);
    let of = |value: Option<f64>, limit: Option<f64>, write: fn(f64) -> String| {
        format!("{} of {}", known(value, write), known(limit, write))
    };
    let whole = |value: f64| figures::count(value as i64);
    let up = time(process.uptime_seconds);
    let (received, sent) =
        (flow(process.received_bytes_per_second), flow(process.sent_bytes_per_second));
    let cpu = known(process.cpu, |cpu| format!("{:.0} % of a core", cpu * 100.0));
    let mut lines = vec![
        ("tidegate", format!("{} {}, up {up}", process.role, process.version)),
        ("cpu, memory", format!("{cpu}, {}", bytes(process.resident_bytes))),
        ("connections", of(process.connections, process.connections_limit, whole)),
        (
            "requests",
            format!(
                "{}/s, {} in flight, {} error codes/s",
                rate(process.requests_per_second),
                known(process.requests_in_flight, whole),
                rate(process.errors_per_second)
            ),
        ),
        ("traffic", format!("{received} in, {sent} out")),
    ];
    if let Some(wal) = &process.wal {
        let size = of(Some(wal.bytes), wal.limit_bytes, figures::bytes);
        let (written, sync) = (flow(wal.written_bytes_per_second), time(wal.sync_p99_seconds));
        lines.push(("write-ahead log", format!("{size}, {written} written, sync p99 {sync}")));
    }
    if let Some(tier) = &process.tier {
        let (lag, age) = (figures::bytes(tier.lag_bytes), time(tier.lag_seconds));
        let hits = known(tier.cache_hit_ratio, figures::share);
        lines.push(("not in bucket", format!("{lag}, for {age}")));
        lines.push(("cache", format!("{}, {hits} hits", bytes(tier.cache_bytes))));
    }
    if let Some(bucket) = &process.bucket {
        let (requests, errors) = (rate(bucket.requests_per_second), rate(bucket.errors_per_second));
        let (retries, flow) = (rate(bucket.retries_per_second), flow(bucket.bytes_per_second));
        let throttles = rate(bucket.throttles_per_second);
        let text = format!(
            "{requests} requests/s, p99 {}, {flow}, {errors} errors/s, {retries} retries/s, \
             {throttles} throttled/s",
            time(bucket.p99_seconds)
        );
        lines.push(("bucket", text));
    }
    if let Some(proxy) = &process.proxy {
        let text = format!(
            "{} requests/s, {} connections, {} errors/s, adds p99 {}",
            rate(proxy.requests_per_second),
            known(proxy.upstream_connections, whole),
            rate(proxy.upstream_errors_per_second),
            time(proxy.added_p99_seconds)
        );
        lines.push(("upstreams", text));
    }
    let rows = lines.into_iter().map(|(name, text)| vec![Cell::text(name), Cell::text(&text)]);
    Sheet { columns, rows: rows.collect() }
}

#[cfg(test)]
mod tests {
    use super::super::model::TopicRow;
    use super::*;

    fn sheet() -> Sheet {
        let topic = |name: &str, rate: Option<f64>| TopicRow {
            name: name.to_owned(),
            records_in_per_second: rate,
            ..TopicRow::default()
        };
        let topics = vec![
            topic("Beta", Some(1.0)),
            topic("alpha", None),
            topic("gamma", Some(7.0)),
            topic("delta", Some(1.0)),
        ];
        topics_of(topics)
    }

    fn topics_of(topics: Vec<TopicRow>) -> Sheet {
        super::topics(&Picture { topics, ..Picture::default() })
    }

    fn names(sheet: &Sheet) -> Vec<&str> {
        sheet.rows.iter().map(|row| row[0].text.as_str()).collect()
    }

    #[test]
    fn rows_are_sorted_by_what_their_figures_mean() {
        let mut sheet = sheet();
        let by = sheet.column("RECORDS IN/S").unwrap();
        sheet.sort(by, false);
        assert_eq!(names(&sheet), ["gamma", "Beta", "delta", "alpha"]);
        sheet.sort(by, true);
        assert_eq!(names(&sheet), ["Beta", "delta", "gamma", "alpha"]);
        sheet.sort(0, false);
        assert_eq!(names(&sheet), ["alpha", "Beta", "delta", "gamma"]);
        sheet.sort(99, false);
        assert_eq!(names(&sheet).len(), 4);
    }

    #[test]
    fn a_filter_looks_at_the_name_alone() {
        let mut sheet = sheet();
        sheet.filter("TA");
        assert_eq!(names(&sheet), ["Beta", "delta"]);
        sheet.filter("");
        assert_eq!(names(&sheet), ["Beta", "delta"]);
        sheet.filter("1.0");
        assert!(sheet.rows.is_empty());
    }

    #[test]
    fn what_is_wrong_is_marked() {
        let topic = TopicRow { under_replicated: 1, offline: 2, ..TopicRow::default() };
        let sheet = topics_of(vec![topic]);
        let mark = |name: &str| sheet.rows[0][sheet.column(name).unwrap()].mark;
        assert_eq!((mark("UNDER-REPLICATED"), mark("OFFLINE")), (Mark::Warning, Mark::Fault));
        assert_eq!(mark("SIZE"), Mark::Plain);
    }
}
