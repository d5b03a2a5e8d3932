//! Looks at a cluster, one after the other, and what was seen before.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::super::connection::Opened;
use super::super::output::Failure;
use super::super::session::Session;
use super::cluster::Asker;
use super::exposition::Values;
use super::http::{MetricsFrom, Page};
use super::model::{Look, Picture};
use super::process;
use crate::client::Server;
use crate::clock::Clock;
use crate::config::Endpoint;

/// Rates of groups are over this time, once it has passed: three times the interval in which
/// Kafka's consumers commit unless they are told otherwise (`auto.commit.interval.ms`).
const GROUP_WINDOW: Duration = Duration::from_secs(15);
/// Looks to compare groups with are kept no closer together than this.
const KEPT_EVERY: Duration = Duration::from_secs(2);

/// Looks at a cluster and its metrics.
#[derive(Debug)]
pub(super) struct Looker {
    opened: Opened,
    asker: Asker,
    metrics: Metrics,
}

/// Where metrics are, and whether they ever were there.
#[derive(Debug)]
struct Metrics {
    page: Option<Page>,
    /// Whether it is an error that there are none.
    expected: bool,
}

impl Looker {
    /// Nothing is asked yet.
    pub(super) fn new(opened: Opened, from: MetricsFrom) -> Self {
        let metrics = match from {
            MetricsFrom::Page(page) => Metrics { page: Some(page), expected: true },
            MetricsFrom::WhereTheyMayBe if opened.servers.iter().any(is_here) => {
                Metrics { page: Some(Page::default_of_this_machine()), expected: false }
            }
            MetricsFrom::WhereTheyMayBe | MetricsFrom::Nowhere => {
                Metrics { page: None, expected: false }
            }
        };
        Self { asker: Asker::new(Session::new(opened.clone())), opened, metrics }
    }

    /// Time.
    pub(super) fn clock(&self) -> Clock {
        self.opened.clock.clone()
    }

    /// The servers that are asked first, as text.
    pub(super) fn servers(&self) -> String {
        let servers = self.opened.servers.iter();
        servers.map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    /// Looks, within the time that a command has.
    pub(super) async fn look(&mut self) -> Result<Look, Failure> {
        let Self { opened, asker, metrics } = self;
        let (at, wall_ms) = (opened.clock.now(), opened.clock.wall_ms());
        let both = async {
            let (told, read) =
                futures_util::join!(Box::pin(asker.ask(at)), metrics.read(&opened.clock));
            let mut told = told.map_err(Failure::failed)?;
            let metrics = match read {
                Ok(read) => read,
                Err(note) => {
                    told.notes.insert(0, note);
                    None
                }
            };
            Ok(Look { at, wall_ms, told, metrics })
        };
        opened.within(Box::pin(both)).await
    }
}

fn is_here(server: &Server) -> bool {
    Endpoint::parse(&server.to_string()).is_some_and(|endpoint| endpoint.host.is_loopback())
}

impl Metrics {
    /// What is there, or why nothing is though it should be.
    async fn read(&mut self, clock: &Clock) -> Result<Option<(String, Values)>, String> {
        let Some(page) = &self.page else { return Ok(None) };
        let values = match page.get(clock).await {
            Ok(body) => Values::parse(&body, process::is_wanted),
            Err(error) if self.expected => return Err(format!("metrics: {error}")),
            Err(_) => return Ok(None),
        };
        if process::is_tidegate(&values) {
            // From now on it is an error when they go away.
            self.expected = true;
            return Ok(Some((page.to_string(), values)));
        }
        if self.expected {
            return Err(format!("metrics: {page} is not the page of a Tidegate"));
        }
        Ok(None)
    }
}

/// What was seen before.
#[derive(Debug, Default)]
pub(super) struct History {
    last: Option<Rc<Look>>,
    /// Looks that groups are compared with, the oldest first.
    kept: VecDeque<Rc<Look>>,
}

impl History {
    /// The picture of a new look.
    pub(super) fn add(&mut self, look: Look) -> Picture {
        let oldest = self.kept.front().map(Rc::as_ref);
        let picture = Picture::of(&look, self.last.as_deref(), oldest);
        let look = Rc::new(look);
        let age = |older: &Rc<Look>| look.at.saturating_duration_since(older.at);
        if self.kept.back().is_none_or(|newest| age(newest) >= KEPT_EVERY) {
            self.kept.push_back(Rc::clone(&look));
        }
        while self.kept.get(1).is_some_and(|second| age(second) >= GROUP_WINDOW) {
            self.kept.pop_front();
        }
        self.last = Some(look);
        picture
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "figures of whole numbers are exact")]
mod tests {
    use super::super::super::connection::Connection;
    use super::super::cluster::Told;
    use super::*;

    fn looker(bootstrap: &str, from: MetricsFrom) -> Looker {
        let connection =
            Connection { bootstrap: Some(bootstrap.to_owned()), ..Connection::default() };
        Looker::new(connection.open().unwrap(), from)
    }

    #[test]
    fn metrics_of_this_machine_are_looked_for_where_the_cluster_is_here() {
        let page = |bootstrap, from| {
            let metrics = looker(bootstrap, from).metrics;
            (metrics.page.map(|page| page.to_string()), metrics.expected)
        };
        let here = Some("http://127.0.0.1:9464/metrics".to_owned());
        let maybe = || MetricsFrom::WhereTheyMayBe;
        assert_eq!(page("localhost:1,a:2", maybe()), (here.clone(), false));
        assert_eq!(page("[::1]:1", maybe()), (here, false));
        assert_eq!(page("kafka.example.com:1", maybe()), (None, false));
        assert_eq!(page("localhost:1", MetricsFrom::Nowhere), (None, false));
        let given = MetricsFrom::Page(Page::parse("http://a:1").unwrap());
        assert_eq!(page("b:1", given), (Some("http://a:1/metrics".to_owned()), true));
        assert_eq!(looker("a:1,[::1]:2", MetricsFrom::Nowhere).servers(), "a:1,[::1]:2");
    }

    #[test]
    fn the_default_of_the_admin_listener_is_the_configurations() {
        let config = crate::config::Sources::of_flags(&[]).load().unwrap();
        let expected = format!("http://{}/metrics", config.admin.listener);
        assert_eq!(Page::default_of_this_machine().to_string(), expected);
    }

    #[test]
    fn groups_are_compared_with_a_look_of_long_ago_and_topics_with_the_last() {
        let start = Clock::system().now();
        let mut history = History::default();
        let mut intervals = Vec::new();
        for second in 0..60 {
            let at = start + Duration::from_secs(second);
            let look = Look { at, wall_ms: 0, told: Told::default(), metrics: None };
            let picture = history.add(look);
            intervals.push((picture.interval_seconds, picture.group_interval_seconds));
            assert!(history.kept.len() <= 10);
        }
        assert_eq!(intervals[..3], [(None, None), (Some(1.0), Some(1.0)), (Some(1.0), Some(2.0))]);
        for (short, long) in &intervals[20..] {
            assert_eq!(*short, Some(1.0));
            assert!((15.0..=18.0).contains(&long.unwrap()), "{long:?}");
        }
    }
}
