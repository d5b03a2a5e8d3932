//! A producer with a transactional id: what it commits is read, what it aborts is not.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, GroupId,
    InitProducerIdRequest, ProducerId, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use tidegate::protocol::batch::{BatchIter, ProducerRef};

use crate::client::Client;
use crate::groups::committed_offset;
use crate::harness::topology::topic_name;
use crate::harness::until;
use crate::work::{self, Topic};

const READ_COMMITTED: i8 = 1;
/// The newest that works without KIP-890 part 2: partitions are added by the client.
const PRODUCE_VERSION: i16 = 11;

/// A producer's transactional id, and what the coordinator gave it.
struct Producer<'a> {
    client: &'a mut Client,
    id: TransactionalId,
    coordinator: String,
    leader: String,
    topic: &'a Topic,
    number: ProducerId,
    epoch: i16,
    sequence: i32,
}

impl<'a> Producer<'a> {
    fn begin(client: &'a mut Client, topic: &'a Topic) -> Self {
        let id = StrBytes::from_string(format!("transactions-of-{}", topic.name));
        let coordinator = client.coordinator(&id, 1);
        let (_, leader) = client.leader(&topic.name, 0);
        let id = TransactionalId(id);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id.clone()))
            .with_transaction_timeout_ms(60_000);
        let answer = client.until_ready(&coordinator, 3, &request, |answer| answer.error_code);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        let (number, epoch) = (answer.producer_id, answer.producer_epoch);
        Self { client, id, coordinator, leader, topic, number, epoch, sequence: 0 }
    }

    fn add_partition(&mut self) {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(&self.topic.name))
            .with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id.clone())
            .with_v3_and_below_producer_id(self.number)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topic]);
        let code = |answer: &kafka_protocol::messages::AddPartitionsToTxnResponse| {
            answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
        };
        let answer = self.client.until_ready(&self.coordinator, 3, &request, code);
        assert_eq!(code(&answer), 0, "{answer:?}");
    }

    fn send(&mut self, value: &str) {
        let producer =
            ProducerRef { id: self.number.0, epoch: self.epoch, sequence: self.sequence };
        let batch = work::transactional_batch(producer, &[value]);
        self.sequence += 1;
        let request = work::produce(self.topic, PRODUCE_VERSION, -1, batch)
            .with_transactional_id(Some(self.id.clone()));
        let answer = self.client.ask_at(&self.leader, PRODUCE_VERSION, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "{answer:?}");
    }

    fn add_offsets(&mut self, group: &str, offset: i64) {
        let group_id = GroupId(StrBytes::from_string(group.to_owned()));
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(self.number)
            .with_producer_epoch(self.epoch)
            .with_group_id(group_id.clone());
        let answer =
            self.client.until_ready(&self.coordinator, 3, &request, |answer| answer.error_code);
        assert_eq!(answer.error_code, 0, "{answer:?}");
        let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(&self.topic.name))
            .with_partitions(vec![partition]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.id.clone())
            .with_group_id(group_id)
            .with_producer_id(self.number)
            .with_producer_epoch(self.epoch)
            .with_topics(vec![topic]);
        let coordinator = self.client.coordinator(group, 0);
        let code = |answer: &kafka_protocol::messages::TxnOffsetCommitResponse| {
            answer.topics[0].partitions[0].error_code
        };
        let answer = self.client.until_ready(&coordinator, 3, &request, code);
        assert_eq!(code(&answer), 0, "{answer:?}");
    }

    fn end(&mut self, committed: bool) {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id.clone())
            .with_producer_id(self.number)
            .with_producer_epoch(self.epoch)
            .with_committed(committed);
        let answer =
            self.client.until_ready(&self.coordinator, 3, &request, |answer| answer.error_code);
        assert_eq!(answer.error_code, 0, "{answer:?}");
    }
}

/// One transaction is aborted and one is committed, with an offset of a group in it.
pub fn what_is_committed_is_read(client: &mut Client, topic: &Topic) {
    let group = format!("transacting-{}", topic.name);
    let mut producer = Producer::begin(client, topic);
    producer.add_partition();
    producer.send("aborted");
    producer.end(false);
    producer.add_partition();
    producer.send("committed");
    producer.add_offsets(&group, 17);
    producer.end(true);
    let leader = producer.leader.clone();

    // Records 0 and 2, markers 1 and 3.
    let request = work::fetch(topic, 11, 0).with_isolation_level(READ_COMMITTED);
    let (aborted, kinds) = until("both transactions can be read", || {
        let mut answer = client.ask_at(&leader, 11, &request);
        let answer = answer.responses.remove(0).partitions.remove(0);
        let batches = BatchIter::new(answer.records.unwrap_or_default());
        let kinds: Vec<bool> = batches.map(|batch| batch.unwrap().header().is_control()).collect();
        (kinds.len() == 4).then(|| (answer.aborted_transactions.unwrap(), kinds))
    });
    assert_eq!(kinds, [false, true, false, true]);
    assert_eq!(aborted.len(), 1, "{aborted:?}");
    assert_eq!(aborted[0].first_offset, 0, "{aborted:?}");
    assert_eq!(committed_offset(client, &group, &topic.name), 17);
}
