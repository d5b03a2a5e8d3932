//! What was measured, as it is printed.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::super::output::{Align, Answer, Table, column};

/// Latencies above an hour are counted as one.
const MICROS_MAX: u64 = 3_600_000_000;

/// Lengths of time, each with three digits.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, MICROS_MAX, 3);
        Self(histogram.expect("the bounds are valid"))
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub(super) fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("the bounds are the same");
    }

    fn summary(&self) -> Option<Summary> {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        (!self.0.is_empty()).then(|| Summary {
            p50: at(0.5),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1000.0,
        })
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Summary {
    p50: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

/// Records in one direction.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Flow {
    records: u64,
    seconds: f64,
    records_per_second: f64,
    mib_per_second: f64,
    latency_ms: Option<Summary>,
}

/// What was measured of one direction.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub(super) records: u64,
    /// From the beginning to the last record.
    pub(super) time: Duration,
    pub(super) latencies: Latencies,
}

impl Measured {
    fn flow(&self, record_bytes: u32) -> Flow {
        let seconds = self.time.as_secs_f64();
        let per_second = |count: f64| if seconds > 0.0 { rounded(count / seconds) } else { 0.0 };
        let records = self.records as f64;
        Flow {
            records: self.records,
            seconds: rounded(seconds),
            records_per_second: per_second(records),
            mib_per_second: per_second(records * f64::from(record_bytes) / 1_048_576.0),
            latency_ms: self.latencies.summary(),
        }
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Fault {
    reason: String,
    records: u64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    topic: String,
    partitions: usize,
    record_bytes: u32,
    /// Records that were handed to producers: those that were produced, and those of the errors.
    sent: u64,
    produced: Flow,
    /// Nothing without consumers.
    consumed: Option<Flow>,
    /// Records that were produced and not consumed.
    missing: u64,
    errors: Vec<Fault>,
}

impl Outcome {
    pub(super) fn new(
        topic: &str,
        partitions: usize,
        record_bytes: u32,
        sent: u64,
        produced: &Measured,
        consumed: Option<&Measured>,
    ) -> Self {
        let missing = consumed.map_or(0, |it| produced.records.saturating_sub(it.records));
        Self {
            topic: topic.to_owned(),
            partitions,
            record_bytes,
            sent,
            produced: produced.flow(record_bytes),
            consumed: consumed.map(|it| it.flow(record_bytes)),
            missing,
            errors: Vec::new(),
        }
    }

    pub(super) fn with_errors(mut self, errors: BTreeMap<String, u64>) -> Self {
        let fault = |(reason, records)| Fault { reason, records };
        self.errors = errors.into_iter().map(fault).collect();
        self
    }

    /// Whether every record came through.
    pub(super) fn is_sound(&self) -> bool {
        self.errors.is_empty() && self.missing == 0
    }
}

impl Answer for Outcome {
    fn tables(&self) -> Vec<(Option<String>, Table)> {
        let mut flows = Table::new(vec![
            column("", Align::Left),
            column("RECORDS", Align::Right),
            column("RECORDS/S", Align::Right),
            column("MIB/S", Align::Right),
            column("P50 MS", Align::Right),
            column("P95 MS", Align::Right),
            column("P99 MS", Align::Right),
            column("P99.9 MS", Align::Right),
            column("MAX MS", Align::Right),
        ]);
        let all = [("produced", Some(&self.produced)), ("consumed", self.consumed.as_ref())];
        flows.rows(all.into_iter().filter_map(|(name, flow)| {
            let flow = flow?;
            let rate = format!("{:.0}", flow.records_per_second);
            let mut cells = vec![name.to_owned(), flow.records.to_string(), rate];
            cells.push(format!("{:.2}", flow.mib_per_second));
            let latencies = flow.latency_ms.map(|it| [it.p50, it.p95, it.p99, it.p999, it.max]);
            cells.extend(match latencies {
                Some(latencies) => latencies.map(|ms| format!("{ms:.2}")),
                None => std::array::from_fn(|_| "-".to_owned()),
            });
            Some(cells)
        }));
        let title = format!(
            "{} with {} partitions, {} bytes a record, {:.1} s",
            self.topic, self.partitions, self.record_bytes, self.produced.seconds
        );
        let mut tables = vec![(Some(title), flows)];
        let mut faults = Table::new(vec![
            column("RECORDS", Align::Right),
            column("NOT THERE BECAUSE", Align::Left),
        ]);
        let row = |fault: &Fault| vec![fault.records.to_string(), fault.reason.clone()];
        faults.rows(self.errors.iter().map(row));
        if self.missing > 0 {
            faults.row(&[self.missing.to_string(), "produced and not consumed".to_owned()]);
        }
        if !self.is_sound() {
            tables.push((None, faults));
        }
        tables
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(micros: &[u64], time: Duration) -> Measured {
        let mut latencies = Latencies::new();
        for it in micros {
            latencies.record(Duration::from_micros(*it));
        }
        Measured { records: micros.len() as u64, time, latencies }
    }

    #[test]
    fn rates_and_quantiles_are_those_of_what_was_recorded() {
        let micros: Vec<u64> = (1..=1000).map(|ms| ms * 1000).collect();
        let flow = measured(&micros, Duration::from_millis(500)).flow(1 << 20);
        assert_eq!((flow.records, flow.records_per_second), (1000, 2000.0));
        assert!((flow.mib_per_second - 2000.0).abs() < 0.001);
        let summary = flow.latency_ms.unwrap();
        let near = |found: f64, expected: f64| (found - expected).abs() <= expected / 1000.0;
        assert!(near(summary.p50, 500.0) && near(summary.p95, 950.0), "{summary:?}");
        assert!(near(summary.p99, 990.0) && near(summary.p999, 999.0), "{summary:?}");
        assert!(near(summary.max, 1000.0), "{summary:?}");
        let none = measured(&[], Duration::ZERO).flow(1);
        assert_eq!((none.latency_ms, none.records_per_second), (None, 0.0));
    }

    #[test]
    fn what_is_missing_or_refused_is_told_and_not_sound() {
        let second = Duration::from_secs(1);
        let (three, two) = (measured(&[1, 1, 1], second), measured(&[1, 1], second));
        let outcome =
            |produced: &Measured, consumed| Outcome::new("t", 1, 100, 4, produced, consumed);
        assert!(outcome(&three, Some(&three)).is_sound());
        assert!(outcome(&three, None).is_sound());
        let missing = outcome(&three, Some(&two));
        assert_eq!((missing.missing, missing.is_sound()), (1, false));
        // A record whose answer was lost may be there nevertheless.
        assert!(outcome(&two, Some(&three)).is_sound());
        let errors = BTreeMap::from([("reason".to_owned(), 1)]);
        let refused = outcome(&three, Some(&three)).with_errors(errors);
        assert!(!refused.is_sound());
        assert_eq!(refused.tables().len(), 2);
    }
}
