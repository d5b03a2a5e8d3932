//! Where records come from: partitions, or those that a group gives to its member.

use std::time::Duration;

use super::super::output::{Failure, warn};
use crate::client::{
    ClusterError, Consumer, GroupConsumer, GroupError, Place, Record, Skipped, Trouble,
};
use crate::clock::Instant;

/// Who reads.
pub(super) enum Source {
    /// A consumer on its own.
    Alone(Box<Consumer>),
    /// A member of a group.
    Group(Box<GroupConsumer>),
}

impl Source {
    pub(super) async fn poll(&mut self, wait: Duration) -> Result<Vec<Record>, Failure> {
        match self {
            Source::Alone(consumer) => Box::pin(consumer.poll(wait)).await.map_err(Failure::failed),
            Source::Group(consumer) => Box::pin(consumer.poll(wait)).await.map_err(Failure::failed),
        }
    }

    pub(super) fn assigned(&self) -> Vec<Place> {
        match self {
            Source::Alone(consumer) => consumer.assigned().cloned().collect(),
            Source::Group(consumer) => consumer.assigned().cloned().collect(),
        }
    }

    pub(super) fn position(&self, place: &Place) -> Option<i64> {
        match self {
            Source::Alone(consumer) => consumer.position(place),
            Source::Group(consumer) => consumer.position(place),
        }
    }

    /// Reads a partition no longer. One of a group stays this member's.
    pub(super) fn end(&mut self, place: &Place) {
        if let Source::Alone(consumer) = self {
            consumer.unassign(place);
        }
    }

    pub(super) fn generation(&self) -> Option<i32> {
        match self {
            Source::Alone(_) => None,
            Source::Group(consumer) => consumer.generation(),
        }
    }

    pub(super) fn trouble(&self) -> Option<(ClusterError, Instant)> {
        match self {
            Source::Alone(consumer) => {
                consumer.trouble().map(|Trouble { fault, since, .. }| (fault, since))
            }
            Source::Group(consumer) => consumer.trouble(),
        }
    }

    pub(super) fn take_skipped(&mut self) -> Vec<Skipped> {
        match self {
            Source::Alone(consumer) => consumer.take_skipped(),
            Source::Group(consumer) => consumer.take_skipped(),
        }
    }

    /// A record was printed.
    pub(super) fn mark(&mut self, record: &Record) {
        if let Source::Group(consumer) = self {
            consumer.mark(record);
        }
    }

    /// Commits what was printed. That others read it again is said, and no failure.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        let Source::Group(consumer) = self else { return Ok(()) };
        match Box::pin(consumer.commit()).await {
            Err(lost @ GroupError::Lost { .. }) => {
                warn(lost);
                Ok(())
            }
            outcome => outcome.map_err(Failure::failed),
        }
    }

    pub(super) async fn leave(self) -> Result<(), ClusterError> {
        match self {
            Source::Alone(_) => Ok(()),
            Source::Group(consumer) => Box::pin(consumer.leave()).await,
        }
    }
}
