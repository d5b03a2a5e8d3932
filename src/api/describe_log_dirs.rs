//! `DescribeLogDirs` (key 35), versions 1-4 (KIP-113; top-level error, v3; size of the volume,
//! KIP-827, v4).
//!
//! There is one log directory, the data directory. A partition's size is what the batches from its
//! log start on have together, which the partition counts as they come and go; nothing is measured
//! on the disk but the volume. A replica is never moved between directories, so none lags.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::names::{TEXT_BYTES, text, topic_name};
use super::topics::partition_by_name;
use super::{Answer, Api, Context, Tally};

/// `DescribeLogDirs`.
pub(super) struct DescribeLogDirs;

/// The first version that says how large the volume is.
const VOLUME_SIZE_FROM: i16 = 4;

impl Api for DescribeLogDirs {
    type Request = DescribeLogDirsRequest;

    async fn handle(
        cx: Context,
        request: DescribeLogDirsRequest,
    ) -> Answer<DescribeLogDirsResponse> {
        let room = cx.room(expected_bytes(&cx, &request)).await;
        Answer::Later(Box::pin(async move {
            let mut result = DescribeLogDirsResult::default()
                .with_log_dir(text(&cx.broker.data_dir().to_string_lossy()))
                .with_topics(sizes(&cx, &request));
            if cx.version >= VOLUME_SIZE_FROM
                && let Some(space) = cx.broker.volume_space().await
            {
                result.total_bytes = i64::try_from(space.total).unwrap_or(i64::MAX);
                result.usable_bytes = i64::try_from(space.free).unwrap_or(i64::MAX);
            }
            DescribeLogDirsResponse::default().with_results(vec![result])
        }))
        .within(room)
    }

    fn errors(response: &DescribeLogDirsResponse, tally: &mut Tally) {
        tally.note(response.error_code);
        response.results.iter().for_each(|result| tally.note(result.error_code));
    }
}

/// About how many bytes the answer takes in memory.
fn expected_bytes(cx: &Context, request: &DescribeLogDirsRequest) -> usize {
    let (topics, partitions) = match &request.topics {
        None => (cx.image.topic_count(), usize::try_from(cx.image.partition_count()).unwrap_or(0)),
        Some(topics) => (topics.len(), topics.iter().map(|topic| topic.partitions.len()).sum()),
    };
    // The indexes are put in order before.
    let partition = size_of::<i32>() * 2 + size_of::<DescribeLogDirsPartition>();
    topics * (size_of::<DescribeLogDirsTopic>() + TEXT_BYTES) + partitions * partition
}

/// The partitions that were asked for and exist, with their sizes.
fn sizes(cx: &Context, request: &DescribeLogDirsRequest) -> Vec<DescribeLogDirsTopic> {
    let asked: BTreeMap<&str, BTreeSet<i32>> = match &request.topics {
        None => {
            let all = |topic| (0..crate::cluster::Topic::partition_count(topic)).collect();
            cx.image.topics().map(|topic| (&*topic.name, all(topic))).collect()
        }
        Some(topics) => {
            let mut asked = BTreeMap::<&str, BTreeSet<i32>>::new();
            for topic in topics {
                asked.entry(topic.topic.as_str()).or_default().extend(&topic.partitions);
            }
            asked
        }
    };
    let mut topics = Vec::new();
    for (name, indexes) in asked {
        let sized = |index| {
            let (_, partition) = partition_by_name(cx, name, index).ok()?;
            let size = i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX);
            Some(
                DescribeLogDirsPartition::default()
                    .with_partition_index(index)
                    .with_partition_size(size),
            )
        };
        let partitions: Vec<_> = indexes.into_iter().filter_map(sized).collect();
        if !partitions.is_empty() {
            let topic = DescribeLogDirsTopic::default().with_name(topic_name(name));
            topics.push(topic.with_partitions(partitions));
        }
    }
    topics
}
