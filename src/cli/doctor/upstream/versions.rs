//! What the upstream speaks beside what the proxy can pass on.

use kafka_protocol::messages::{ApiKey, ApiVersionsResponse};

use super::super::report::{Report, trouble};
use super::spoken;
use crate::protocol::versions::VersionRange;
use crate::proxy::policy::{self, Class, Row};

/// The highest version of Fetch, which nearly every release has raised, and the releases of Apache
/// Kafka that have it.
const RELEASES: &[(i16, &str)] = &[
    (4, "0.11"),
    (5, "0.11"),
    (6, "1.0"),
    (7, "1.1"),
    (8, "2.0"),
    (10, "2.1 or 2.2"),
    (11, "2.3 to 2.6"),
    (12, "2.7 to 3.0"),
    (13, "3.1 to 3.4"),
    (15, "3.5 or 3.6"),
    (16, "3.7 or 3.8"),
    (17, "3.9 or 4.0"),
];

/// Tells what the upstream speaks, and where the two sides' versions part.
pub(super) fn compare(report: &mut Report, part: &str, theirs: &ApiVersionsResponse) {
    report.fine(part, release(spoken(theirs, ApiKey::Fetch as i16)));
    let range = |key: i16| (key, spoken(theirs, key));
    let keys = theirs.api_keys.iter().map(|row| row.api_key);
    let passed_on = policy::advertised(keys.clone().map(range)).len();
    report.fine(part, format!("{passed_on} APIs are passed on"));

    let unknown = keys.filter_map(|key| ahead(key, spoken(theirs, key)));
    let unknown: Vec<String> = unknown.collect();
    if !unknown.is_empty() {
        report.warn(
            part,
            format!("the upstream speaks what the proxy does not know: {}", unknown.join(", ")),
            trouble(
                "the upstream is newer than this release of Tidegate",
                "clients are not offered these versions and use the newest that both know",
                "take a newer Tidegate where a client needs one of them",
            ),
        );
    }
    let lacking: Vec<String> = known().filter_map(|row| behind(row, theirs)).collect();
    if !lacking.is_empty() {
        let lacking = lacking.join(", ");
        report.fine(part, format!("clients are not offered what the upstream lacks: {lacking}"));
    }
}

/// Every API that is passed on.
fn known() -> impl Iterator<Item = &'static Row> {
    let rows = (0..=i16::from(u8::MAX)).filter_map(policy::find);
    rows.filter(|row| row.class(row.versions.max) != Class::Refuse)
}

/// What the upstream has of an API above what the proxy knows.
fn ahead(key: i16, theirs: VersionRange) -> Option<String> {
    let Some(row) = policy::find(key) else {
        return Some(format!("API {key} {theirs}"));
    };
    let passed_on = row.class(row.versions.max) != Class::Refuse;
    (passed_on && theirs.max > row.versions.max)
        .then(|| format!("{} {theirs} (known up to {})", row.name, row.versions.max))
}

/// What the proxy knows of an API above what the upstream has.
fn behind(row: &Row, theirs: &ApiVersionsResponse) -> Option<String> {
    let has = spoken(theirs, row.key);
    if has.is_empty() {
        return Some(row.name.to_owned());
    }
    (has.max < row.versions.max).then(|| format!("{} above {}", row.name, has.max))
}

/// The releases of Kafka that speak so.
fn release(fetch: VersionRange) -> String {
    let newest = RELEASES.last().map_or(0, |(version, _)| *version);
    let release = match RELEASES.iter().find(|(version, _)| *version >= fetch.max) {
        _ if fetch.is_empty() => {
            return "the upstream does not speak Fetch: it is no broker".to_owned();
        }
        _ if fetch.max > newest => "4.1 or newer".to_owned(),
        Some((_, release)) => (*release).to_owned(),
        None => "0.10 or older".to_owned(),
    };
    format!("the upstream speaks as Apache Kafka {release} does (Fetch {fetch})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_told_by_its_fetch() {
        for (fetch, release) in [
            ((0, 12), "2.7 to 3.0"),
            ((0, 17), "3.9 or 4.0"),
            ((4, 18), "4.1 or newer"),
            ((4, 99), "4.1 or newer"),
            ((0, 9), "2.1 or 2.2"),
        ] {
            let told = super::release(VersionRange::new(fetch.0, fetch.1));
            assert!(told.contains(&format!("Apache Kafka {release} does")), "{told}");
        }
        assert!(super::release(VersionRange::EMPTY).contains("no broker"));
    }

    #[test]
    fn every_row_of_the_policy_is_compared() {
        assert!(policy::find(92).is_some() && policy::find(0).is_some());
        assert_eq!(known().filter(|row| row.name == "Vote").count(), 0);
        assert_eq!(known().filter(|row| row.key == 0 || row.key == 92).count(), 2);
    }
}
