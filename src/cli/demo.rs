//! `tidegate demo`: three topics that fill themselves and two consumer groups that read them, one
//! of which lags, for a first look at what the other commands show.

mod generator;

use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::watch;

use self::generator::{CUSTOMERS, Generator};
use super::connection::Connection;
use super::group;
use super::interrupt::Interrupts;
use super::output::{Failure, complain, note, write};
use super::session::{Session, carry_on};
use super::topic::{Like, create, remove};
use crate::client::{
    ConsumerOptions, GroupConsumer, GroupOptions, NewRecord, Producer, ProducerOptions, Report,
};
use crate::clock::Clock;

const ORDERS: &str = "demo.orders";
const CLICKS: &str = "demo.clicks";
const CUSTOMERS_TOPIC: &str = "demo.customers";
/// The topics, and how many partitions they have.
const TOPICS: [(&str, i32); 3] = [(ORDERS, 3), (CLICKS, 6), (CUSTOMERS_TOPIC, 1)];

/// The group that keeps up.
const BILLING: &str = "demo-billing";
/// The group that lags.
const REPORTS: &str = "demo-reports";
/// How many records the lagging group takes at a time.
const REPORTS_RECORDS: usize = 10;
/// No pause of it is longer, so that its heartbeats are in time.
const REPORTS_PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long one poll of a consumer waits.
const POLL: Duration = Duration::from_millis(500);
/// How often consumers commit.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long topics, groups and what waits may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// What is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Records a second of each topic.
    pub rate: NonZeroU32,
    /// For how long; without end if nothing.
    pub duration: Option<Duration>,
    /// Whether topics and groups are deleted at the end.
    pub clean: bool,
    /// What records are drawn by.
    pub seed: u64,
}

/// Fills and reads the topics, and gives the exit code: 0 it ended as it was to, 1 failed.
pub fn demo(connection: &Connection, shown: &Shown) -> ExitCode {
    carry_on(connection, async |session: &Session| run(session, connection, shown).await)
}

async fn run(session: &Session, connection: &Connection, shown: &Shown) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    Box::pin(session.within(prepare(session))).await?;
    write(&welcome(connection, shown))?;
    let (stop, stopped) = watch::channel(false);
    let mut work = Box::pin(work(session, shown, &stopped));
    let clock = session.clock();
    let over = async {
        match shown.duration {
            Some(duration) => clock.sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    let early = tokio::select! {
        ended = &mut work => Some(ended),
        () = over => None,
        () = interrupts.next() => None,
    };
    let ended = if let Some(ended) = early {
        ended
    } else {
        stop.send_replace(true);
        tokio::select! {
            ended = clock.timeout(END_TIMEOUT, &mut work) => ended.unwrap_or(Ok(())),
            () = interrupts.next() => Ok(()),
        }
    };
    drop(work);
    if shown.clean {
        Box::pin(session.within(clean(session))).await?;
    }
    ended
}

/// Creates what topics are not there.
async fn prepare(session: &Session) -> Result<(), Failure> {
    let compact = [("cleanup.policy".to_owned(), "compact".to_owned())];
    let there = session.all_topics().await?;
    for (name, partitions) in TOPICS {
        if there.iter().any(|topic| topic.name == name) {
            continue;
        }
        let config: &[_] = if name == CUSTOMERS_TOPIC { &compact } else { &[] };
        let like = Like { partitions: Some(partitions), replication_factor: None, config };
        create(session, &[name.to_owned()], &like, true, false).await?;
    }
    session.created(&TOPICS.map(|(name, _)| name)).await
}

/// What there is, and what to try.
fn welcome(connection: &Connection, shown: &Shown) -> String {
    let mut flags = String::new();
    if let Some(bootstrap) = &connection.bootstrap {
        flags = format!(" -b {bootstrap}");
    }
    if let Some(file) = &connection.file {
        flags = format!("{flags} --command-config {}", file.display());
    }
    let rate = shown.rate;
    let records = if rate.get() == 1 { "record" } else { "records" };
    let end = if shown.clean {
        "Ctrl-C ends it and deletes topics and groups."
    } else {
        "Ctrl-C ends it; topics and groups stay, --clean would delete them."
    };
    format!(
        "{ORDERS}, {CLICKS} and {CUSTOMERS_TOPIC} get {rate} {records} a second each.
Group {BILLING} keeps up with the orders; {REPORTS} reads orders and clicks, and lags.

Try in another terminal:

  tidegate consume{flags} {ORDERS} --from end --follow
  tidegate group describe{flags} {REPORTS}
  tidegate top{flags}

{end}
"
    )
}

/// Produces and consumes until `stopped` says so or something fails.
async fn work(
    session: &Session,
    shown: &Shown,
    stopped: &watch::Receiver<bool>,
) -> Result<(), Failure> {
    let generator = Arc::new(Mutex::new(Generator::new(shown.seed)));
    let fault = Arc::new(Mutex::new(None));
    let fill = TOPICS.map(|(topic, _)| {
        Box::pin(fill(session, topic, shown.rate, &generator, &fault, stopped.clone()))
    });
    let fill = async { try_join_all(fill).await.map(drop) };
    // Half of what comes in.
    let pause = Duration::from_secs(1) * REPORTS_RECORDS as u32 / shown.rate.get();
    let slow = Reading {
        group: REPORTS,
        topics: &[ORDERS, CLICKS],
        max_records: REPORTS_RECORDS,
        pause: pause.min(REPORTS_PAUSE_MAX),
    };
    let fast = Reading {
        group: BILLING,
        topics: &[ORDERS],
        max_records: ConsumerOptions::default().max_records,
        pause: Duration::ZERO,
    };
    let read = [fast, slow].map(|reading| Box::pin(read(session, reading, stopped.clone())));
    let read = async { try_join_all(read).await.map(drop) };
    tokio::try_join!(fill, read).map(drop)
}

/// Fills a topic.
async fn fill(
    session: &Session,
    topic: &'static str,
    rate: NonZeroU32,
    generator: &Mutex<Generator>,
    fault: &Arc<Mutex<Option<String>>>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let told = Arc::clone(fault);
    let on_report = move |report: Report| {
        if let Err(error) = report.outcome {
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        }
    };
    let (cluster, leaders) = (session.cluster(), session.leaders());
    let producer = Producer::new(cluster, leaders, topic, ProducerOptions::default(), on_report);
    let clock = session.clock();
    let draw = || draw(topic, generator, clock);
    if topic == CUSTOMERS_TOPIC {
        for number in 0..CUSTOMERS {
            producer.send(number, draw()).await.map_err(Failure::failed)?;
        }
    }
    let start = clock.now();
    for number in 1_u32.. {
        let planned = Duration::from_secs_f64(f64::from(number) / f64::from(rate.get()));
        tokio::select! {
            () = clock.sleep_until(start + planned) => {}
            _ = stopped.changed() => break,
        }
        producer.send(u64::from(number), draw()).await.map_err(Failure::failed)?;
        if let Some(reason) = fault.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(Failure::Failed(reason));
        }
    }
    producer.close().await;
    Ok(())
}

fn draw(topic: &str, generator: &Mutex<Generator>, clock: &Clock) -> NewRecord {
    let now = clock.wall_ms();
    let mut generator = generator.lock().unwrap_or_else(PoisonError::into_inner);
    match topic {
        ORDERS => generator.order(now),
        CLICKS => generator.click(now),
        _ => generator.customer(now),
    }
}

/// How a group reads.
#[derive(Clone, Copy, Debug)]
struct Reading {
    group: &'static str,
    topics: &'static [&'static str],
    max_records: usize,
    /// After each poll.
    pause: Duration,
}

/// Reads as a member of a group, and leaves it at the end.
async fn read(
    session: &Session,
    reading: Reading,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let topics = reading.topics.iter().map(|topic| (*topic).to_owned());
    let mut options = GroupOptions::new(reading.group, topics);
    options.consumer.max_records = reading.max_records;
    let mut consumer = GroupConsumer::new(session.cluster(), options);
    let clock = session.clock();
    let mut committed = clock.now();
    while !*stopped.borrow() {
        let turn = async {
            consumer.poll(POLL).await.map_err(Failure::failed)?;
            clock.sleep(reading.pause).await;
            if clock.now() >= committed + COMMIT_EVERY {
                committed = clock.now();
                commit(&mut consumer).await?;
            }
            Ok(())
        };
        // A turn that is given up loses nothing: positions are where polls have left them.
        tokio::select! {
            turn = turn => turn?,
            _ = stopped.changed() => {}
        }
    }
    commit(&mut consumer).await?;
    consumer.leave().await.map_err(Failure::failed)
}

async fn commit(consumer: &mut GroupConsumer) -> Result<(), Failure> {
    match consumer.commit().await {
        // Another member goes on from where it was.
        Ok(()) | Err(crate::client::GroupError::Lost { .. }) => Ok(()),
        Err(error) => Err(Failure::failed(error)),
    }
}

/// Deletes groups and topics.
async fn clean(session: &Session) -> Result<(), Failure> {
    let mut faults = Vec::new();
    for name in [BILLING, REPORTS] {
        let fault = group::remove(session, name).await?;
        faults.extend(fault.map(|reason| format!("group {name} is not deleted: {reason}")));
    }
    let names = TOPICS.map(|(name, _)| name);
    for (name, fault) in names.iter().zip(remove(session, &names).await?) {
        faults.extend(fault.map(|reason| format!("topic {name} is not deleted: {reason}")));
    }
    if faults.is_empty() {
        note("topics and groups are deleted");
        return Ok(());
    }
    faults.iter().for_each(complain);
    Err(Failure::Told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(clean: bool) -> Shown {
        Shown { rate: NonZeroU32::MIN, duration: None, clean, seed: 1 }
    }

    #[test]
    fn what_to_try_names_the_cluster_that_was_named() {
        let plain = welcome(&Connection::default(), &shown(false));
        for command in [
            "  tidegate consume demo.orders --from end --follow\n",
            "  tidegate group describe demo-reports\n",
            "  tidegate top\n",
        ] {
            assert!(plain.contains(command), "{plain}");
        }
        assert!(plain.contains("1 record a second") && plain.contains("stay"), "{plain}");
        let connection = Connection {
            bootstrap: Some("a:1".to_owned()),
            file: Some("c.properties".into()),
            ..Connection::default()
        };
        let named = welcome(&connection, &shown(true));
        let flags = " -b a:1 --command-config c.properties";
        assert_eq!(named.matches(flags).count(), 3, "{named}");
        assert!(named.contains("deletes topics and groups"), "{named}");
    }
}
