//! The third layer of the store: every attempt has a deadline, and what may pass is tried again
//! after a jittered, growing pause.

use std::future::Future;
use std::time::Duration;

use super::error::{Class, ObjectError, Operation, classify, reason, refuses_listing};
use super::key::Key;
use crate::clock::{Clock, Random};

/// How often an operation that may be repeated is tried.
pub(super) const ATTEMPTS: u32 = 6;

/// The least deadline of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// The slowest transfer that is waited for: an attempt's deadline grows by a second per so many
/// bytes.
const LEAST_BYTES_PER_SECOND: u64 = 1 << 20;

/// The upper bound of the first pause; it doubles with every attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The upper bound of any pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Deadlines and pauses.
#[derive(Debug, Clone)]
pub(super) struct Retry {
    clock: Clock,
    random: Random,
}

impl Retry {
    pub(super) fn new(clock: Clock, random: Random) -> Self {
        Self { clock, random }
    }

    /// Runs `call` up to `attempts` times. `bytes` is what one attempt moves, for its deadline.
    /// Gives how many attempts it took beside the result.
    pub(super) async fn run<T, F, Fut>(
        &self,
        operation: Operation,
        key: &Key,
        bytes: u64,
        attempts: u32,
        mut call: F,
    ) -> (u32, Result<T, ObjectError>)
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = object_store::Result<T>>,
    {
        let limit = ATTEMPT_TIMEOUT + Duration::from_secs(bytes / LEAST_BYTES_PER_SECOND);
        let mut attempt = 1;
        loop {
            let failed = match self.clock.timeout(limit, call()).await {
                Ok(Ok(value)) => return (attempt, Ok(value)),
                Ok(Err(error)) => failure(operation, key, attempt, &error),
                Err(_elapsed) => ObjectError::Unavailable {
                    operation,
                    key: key.clone(),
                    attempts: attempt,
                    reason: format!("no answer within {} s", limit.as_secs()),
                },
            };
            if !failed.is_retriable() || attempt >= attempts {
                return (attempt, Err(failed));
            }
            self.pause(attempt).await;
            attempt += 1;
        }
    }

    /// Waits after the `attempt`-th failure: anything from nothing to the bound, so that many
    /// waiters spread out.
    pub(super) async fn pause(&self, attempt: u32) {
        let doublings = attempt.saturating_sub(1).min(16);
        let bound = FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
        let millis = self.random.below(bound.as_millis() as u64 + 1);
        self.clock.sleep(Duration::from_millis(millis)).await;
    }
}

fn failure(
    operation: Operation,
    key: &Key,
    attempts: u32,
    error: &object_store::Error,
) -> ObjectError {
    let key = key.clone();
    match classify(error) {
        // What does not look for an object has not found the bucket.
        Class::NotFound if !operation.may_miss() => {
            ObjectError::Denied { operation, key, reason: reason(error) }
        }
        Class::NotFound => ObjectError::NotFound { key },
        Class::Exists => ObjectError::AlreadyExists { key },
        Class::Denied => ObjectError::Denied { operation, key, reason: reason(error) },
        Class::Transient if operation == Operation::List && refuses_listing(error) => {
            ObjectError::Denied { operation, key, reason: reason(error) }
        }
        Class::Transient => {
            ObjectError::Unavailable { operation, key, attempts, reason: reason(error) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// How many attempts an operation takes that always meets `error`.
    async fn attempts(error: fn() -> object_store::Error) -> (u32, ObjectError) {
        let retry = Retry::new(Clock::system(), Random::seeded(1));
        let made = Cell::new(0);
        let key = Key::new("k");
        let (counted, result) = retry
            .run::<(), _, _>(Operation::Get, &key, 0, ATTEMPTS, async || {
                made.set(made.get() + 1);
                Err(error())
            })
            .await;
        assert_eq!(made.get(), counted);
        (counted, result.unwrap_err())
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again_within_a_bound_and_the_rest_once() {
        let passing = || object_store::Error::Generic { store: "t", source: "busy".into() };
        let (made, error) = attempts(passing).await;
        assert_eq!(made, ATTEMPTS);
        assert!(error.is_retriable());
        let denied =
            || object_store::Error::PermissionDenied { path: "k".to_owned(), source: "no".into() };
        let (made, error) = attempts(denied).await;
        assert_eq!(made, 1);
        assert!(matches!(error, ObjectError::Denied { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_without_an_answer_ends() {
        let retry = Retry::new(Clock::system(), Random::seeded(1));
        let key = Key::new("k");
        let hang = || std::future::pending::<object_store::Result<()>>();
        let (made, result) = retry.run(Operation::Get, &key, 0, 2, hang).await;
        assert_eq!(made, 2);
        assert!(result.unwrap_err().is_retriable());
    }
}
