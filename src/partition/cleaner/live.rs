//! The producers of a partition, as compaction asks for them.

use std::collections::HashMap;

use super::LastRecord;
use crate::partition::Partition;

impl Partition {
    /// The last record of every producer that is remembered, by producer id
    /// (`ProducerStateManager.lastRecords`).
    pub fn last_records(&self) -> HashMap<i64, LastRecord> {
        let state = self.lock();
        let last = |(id, producer): (i64, &super::super::producers::Producer)| {
            let data = producer.batches().iter().rev().find(|batch| batch.base_sequence >= 0);
            let data_offset = data.map(|batch| batch.last_offset);
            (id, LastRecord { data_offset, epoch: producer.epoch })
        };
        state.producers.sorted().into_iter().map(last).collect()
    }
}
