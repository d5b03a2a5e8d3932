//! Batches that have to be looked into: records of a compressed batch for a compacted topic, and
//! batches that the topic's `compression.type` wants in another codec (DESIGN D2, Kafka's
//! `LogValidator`).

use bytes::Bytes;

use super::{Context, Ready};
use crate::api::error::batch_error;
use crate::budget::Charge;
use crate::config::CompressionType;
use crate::config::topic::TopicSettings;
use crate::protocol::batch::{Batch, BatchError, ProduceCheck, ProduceRules};
use crate::protocol::compression::Compression;
use crate::protocol::error::ErrorCode;
use crate::protocol::produce::{ProducePartitionResponse, ProduceRecordError};
use crate::task;

/// How many times its bytes a batch mostly decompresses to at the most.
const USUAL_RATIO: usize = 8;

/// What has to be done to a batch that passed the checks of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Its records are read: each needs a key.
    Read,
    /// Its records are read, and compressed by another codec at a level.
    Recompress(Compression, Option<i32>),
}

impl Work {
    /// What a topic with these settings does to a batch in `codec`.
    pub(super) fn of(settings: &TopicSettings, codec: Compression) -> Option<Self> {
        let level = |level: i32| (level != -1).then_some(level);
        let (target, level) = match settings.compression {
            CompressionType::Producer => (codec, None),
            CompressionType::Uncompressed => (Compression::None, None),
            CompressionType::Gzip => (Compression::Gzip, level(settings.gzip_level)),
            CompressionType::Snappy => (Compression::Snappy, None),
            CompressionType::Lz4 => (Compression::Lz4, None),
            CompressionType::Zstd => (Compression::Zstd, Some(settings.zstd_level)),
        };
        if target != codec {
            return Some(Self::Recompress(target, level));
        }
        // Compaction will need every key; without a codec they have been looked at.
        (settings.compact && codec != Compression::None).then_some(Self::Read)
    }
}

/// Does a batch's work. What is returned is held until the batch is appended or refused: it bounds
/// the memory that all connections together can have in batches that grew. A batch that becomes
/// more than is usual is decompressed again, with all the room that one can have.
pub(super) async fn unpack(
    cx: &Context,
    index: i32,
    ready: &mut Ready,
) -> Result<Option<Charge>, ProducePartitionResponse> {
    let Some(work) = ready.work else { return Ok(None) };
    check_size(index, ready)?;
    let mut bytes = ready.batch.bytes().len().saturating_mul(USUAL_RATIO);
    let (charge, done) = loop {
        let (charge, room) = cx.broker.unpack(bytes).await;
        let (batch, rules) = (ready.batch.clone(), ready.rules);
        let done = task::blocking(move || done(&batch, work, &rules, room.bytes)).await;
        let again = matches!(&done, Ok(Err(error)) if error.is_too_large() && !room.is_most);
        if !again {
            break (charge, done);
        }
        bytes = usize::MAX;
    };
    match done {
        Ok(Ok((batch, check))) => (ready.batch, ready.check) = (batch, check),
        Ok(Err(error)) => return Err(refusal(index, &error)),
        Err(_panicked) => {
            let code = ErrorCode::UnknownServerError.code();
            return Err(ProducePartitionResponse::error(index, code, None));
        }
    }
    check_size(index, ready)?;
    Ok(Some(charge))
}

fn done(
    batch: &Batch,
    work: Work,
    rules: &ProduceRules,
    bytes_max: usize,
) -> Result<(Batch, ProduceCheck), BatchError> {
    let payload: Bytes = batch.payload(bytes_max)?;
    let check = batch.validate_records(&payload, rules)?;
    match work {
        Work::Read => Ok((batch.clone(), check)),
        Work::Recompress(codec, level) => Ok((batch.recompressed(&payload, codec, level)?, check)),
    }
}

/// Asked before the work, which may be much, and after it, as in Kafka's `UnifiedLog.append`.
fn check_size(index: i32, ready: &Ready) -> Result<(), ProducePartitionResponse> {
    let (bytes, limit) = (ready.batch.bytes().len(), ready.settings.max_message_bytes);
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("the batch has {bytes} bytes, more than the {limit} that are allowed");
    let code = ErrorCode::MessageTooLarge.code();
    Err(ProducePartitionResponse::error(index, code, Some(message)))
}

/// The answer for a batch that is not accepted.
pub(super) fn refusal(index: i32, error: &BatchError) -> ProducePartitionResponse {
    let message = error.to_string();
    let code = batch_error(error).code();
    let mut answer = ProducePartitionResponse::error(index, code, Some(message.clone()));
    let record = |batch_index| ProduceRecordError { batch_index, message: Some(message) };
    answer.record_errors = error.record_index().map(record).into_iter().collect();
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn settings(flags: &[(&str, &str)]) -> TopicSettings {
        TopicSettings::from(&Sources::of_flags(flags).load().unwrap().topics.defaults)
    }

    #[test]
    fn a_batch_is_looked_into_only_where_its_topic_asks_for_it() {
        let plain = settings(&[]);
        for codec in Compression::ALL {
            assert_eq!(Work::of(&plain, codec), None);
        }
        let compact = settings(&[("log.cleanup.policy", "compact")]);
        assert_eq!(Work::of(&compact, Compression::None), None);
        assert_eq!(Work::of(&compact, Compression::Lz4), Some(Work::Read));
        let gzip = settings(&[("compression.type", "gzip"), ("compression.gzip.level", "9")]);
        assert_eq!(Work::of(&gzip, Compression::Gzip), None);
        let recompressed = Some(Work::Recompress(Compression::Gzip, Some(9)));
        assert_eq!(Work::of(&gzip, Compression::Snappy), recompressed);
        let uncompressed = settings(&[("compression.type", "uncompressed")]);
        let work = Some(Work::Recompress(Compression::None, None));
        assert_eq!(Work::of(&uncompressed, Compression::Zstd), work);
    }
}
