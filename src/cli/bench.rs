//! `tidegate bench`: how much a cluster takes, and how long it takes it.
//!
//! Producers write records that carry the time at which they were to be written, consumers read
//! them, and what both see is counted. The topic is one of its own, which is deleted afterwards.

mod load;
mod outcome;

use std::io::{self, IsTerminal as _};
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::watch;

use self::load::Load;
use super::Remote;
use super::interrupt::Interrupts;
use super::output::{Failure, Output, complain, note};
use super::session::{Session, carry_on};
use super::topic::{Like, create, remove};
use crate::client::Acks;
use crate::clock::Random;
use crate::protocol::compression::Compression;

/// A record's value has at least so many bytes: whose it is, and when it was to be written.
pub(super) const RECORD_BYTES_LEAST: u32 = 24;

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The topic; one of its own without it.
    pub topic: Option<String>,
    /// The partitions of its own topic.
    pub partitions: i32,
    /// The replicas of its own topic; as the cluster does by default without it.
    pub replication_factor: Option<i16>,
    /// The bytes of a value.
    pub record_bytes: u32,
    /// Records a second; as many as go without it.
    pub rate: Option<NonZeroU32>,
    /// How long records are produced.
    pub duration: Duration,
    /// How many producers there are.
    pub producers: u32,
    /// How many consumers there are.
    pub consumers: u32,
    /// The codec of batches.
    pub compression: Compression,
    /// What is waited for.
    pub acks: Acks,
}

/// Measures a cluster and gives the exit code: 0 measured, 1 failed or records are missing, 2 asked
/// wrongly.
pub fn bench(remote: &Remote<Wanted>) -> ExitCode {
    let Remote { connection, output, action } = remote;
    let delivery = connection.timeout;
    carry_on(connection, async |session: &Session| run(session, *output, action, delivery).await)
}

async fn run(
    session: &Session,
    output: Output,
    wanted: &Wanted,
    delivery: Option<Duration>,
) -> Result<(), Failure> {
    let mut interrupts = Interrupts::listen()?;
    let made = wanted.topic.is_none().then(|| format!("tidegate-bench-{:08x}", short_random()));
    let topic = made.as_ref().or(wanted.topic.as_ref()).cloned().unwrap_or_default();
    if let Some(made) = &made {
        let like = Like {
            partitions: Some(wanted.partitions),
            replication_factor: wanted.replication_factor,
            config: &[],
        };
        let names = [made.clone()];
        Box::pin(session.within(create(session, &names, &like, false, false))).await?;
        Box::pin(session.within(session.created(&[made]))).await?;
    }
    let (stop, stopped) = watch::channel(false);
    let load = Load::new(session, wanted, &topic, delivery, io::stderr().is_terminal());
    let mut work = Box::pin(load.run(session, stopped));
    let outcome = loop {
        tokio::select! {
            outcome = &mut work => break outcome,
            () = interrupts.next() => {
                if stop.send_replace(true) {
                    break Err(Failure::Failed("given up".to_owned()));
                }
                note("ending; once more gives up what is under way");
            }
        }
    };
    drop(work);
    let is_clean = match &made {
        Some(made) => clean(session, made).await,
        None => true,
    };
    let outcome = outcome?;
    output.print(&outcome)?;
    if outcome.is_sound() && is_clean { Ok(()) } else { Err(Failure::Told) }
}

fn short_random() -> u32 {
    (Random::system().u64() >> 32) as u32
}

/// Deletes the topic that was made.
async fn clean(session: &Session, topic: &str) -> bool {
    let names = [topic];
    let removed = Box::pin(session.within(remove(session, &names))).await;
    let fault = match removed {
        Ok(errors) => errors.into_iter().flatten().next(),
        Err(Failure::Failed(reason) | Failure::Usage(reason)) => Some(reason),
        Err(Failure::Told) => Some("it was told above".to_owned()),
    };
    if let Some(reason) = &fault {
        let hint = format!("`tidegate topic delete {topic} --execute` does it");
        complain(format_args!("topic {topic} is not deleted: {reason}; {hint}"));
    }
    fault.is_none()
}
