//! Where a side means to answer otherwise than Apache Kafka, and why.

use crate::tree::Difference;

/// A difference that is meant.
#[derive(Debug)]
pub struct Announced {
    /// What the place has in it: the scenario, a colon, the label, or a part of that.
    place: &'static str,
    /// How the field begins; with a star first, how it ends.
    field: &'static str,
    /// What Kafka answers, or nothing if that is not the point.
    kafka: &'static str,
    /// Why.
    #[allow(dead_code, reason = "read by people, and printed through Debug")]
    reason: &'static str,
}

impl Announced {
    /// Whether this is that difference.
    pub fn covers(&self, difference: &Difference) -> bool {
        let field = match self.field.strip_prefix('*') {
            Some(end) => difference.field.ends_with(end),
            None => difference.field.starts_with(self.field),
        };
        let place = difference.place_without_version();
        let kafka = self.kafka.is_empty() || self.kafka == difference.kafka;
        field && kafka && (difference.place.contains(self.place) || place.contains(self.place))
    }
}

const fn differs(
    place: &'static str,
    field: &'static str,
    kafka: &'static str,
    reason: &'static str,
) -> Announced {
    Announced { place, field, kafka, reason }
}

/// Where the proxy answers otherwise than the Kafka behind it.
pub const PROXY: &[Announced] = &[
    differs(
        "bad headers: client id: ",
        "",
        "answered",
        "a client id that is no string closes the connection, as at a broker of ours",
    ),
    differs(
        "corpus: GetTelemetrySubscriptions",
        "",
        "",
        "Kafka answers it though it does not advertise it without a receiver of metrics; nothing \
         goes on that was not advertised",
    ),
    differs("corpus: PushTelemetry", "", "", "not advertised, as above"),
];

/// Where Tidegate answers otherwise than Apache Kafka.
pub const ANNOUNCED: &[Announced] = &[
    differs("", "*error_message", "None", "Kafka gives no words for some errors; we always do"),
    differs(
        "fetch for several",
        "groups",
        "",
        "a group named twice is answered once: a small request must not ask for much memory",
    ),
    differs("describe one twice", "groups", "", "a group named twice is answered once, as above"),
    differs(
        "produce",
        "responses.partition_responses.log_start_offset",
        "0",
        "a refused batch does not tell the log start; clients read it with UNKNOWN_PRODUCER_ID \
         only, which is not answered any more",
    ),
    differs(
        "produce",
        "responses.partition_responses.record_errors",
        "",
        "the first bad record is named, not all of them, and also where Kafka names none",
    ),
    differs(
        "produce sequences",
        "responses.partition_responses.log_append_time_ms",
        "a time",
        "Kafka answers a duplicate with the batch's own timestamp as if the broker had stamped it; \
         -1 lets the producer keep its own, as the first answer did",
    ),
    differs(
        "again",
        "responses.partition_responses.error_code",
        "45",
        "a duplicate from before the last five batches is DUPLICATE_SEQUENCE_NUMBER, which clients \
         take as success, where Kafka's OUT_OF_ORDER_SEQUENCE_NUMBER is fatal to them",
    ),
    differs(
        "bad headers: client id: ",
        "",
        "answered",
        "Kafka replaces bytes that are not UTF-8 and takes any negative length for null; a client \
         id that is no string closes the connection, as any string does",
    ),
    differs(
        "produce bad records: v9 deltas: ",
        "responses.partition_responses",
        "",
        "batches are not rewritten (DESIGN D2), so records that would get the same offset, or one \
         of another batch, are refused; Kafka appends them as they are",
    ),
    differs(
        "of length -2",
        "responses.partition_responses",
        "",
        "Kafka takes any negative length in a record for null; clients write -1",
    ),
    differs(
        "produce refusals: v9 bytes after the batch",
        "responses",
        "",
        "Kafka drops what follows the batch without a word; no client sends any",
    ),
    differs(
        "produce refusals: v9 log append time",
        "responses",
        "",
        "Kafka clears the bit and computes the crc anew; batches stay as they came (DESIGN D2), \
         and no producer sets it",
    ),
    differs(
        "produce refusals: v9 producer id without epoch",
        "responses",
        "",
        "an idempotent batch has an id, an epoch and a sequence; no producer sends it otherwise",
    ),
    differs(
        "produce refusals: v9 transactional id with a plain batch",
        "responses",
        "",
        "transactions are not served yet",
    ),
    differs(
        "produce refusals: v9 codec",
        "responses",
        "-1",
        "Kafka's handler fails on an unknown codec; UNSUPPORTED_COMPRESSION_TYPE says what it is",
    ),
    differs("find coordinator: a transaction", "", "", "transactions are not served yet"),
    differs(
        "find coordinator: ",
        "error_message",
        "words",
        "up to version 3 Kafka's words for a coordinator that was found are NONE",
    ),
    differs(
        "find coordinator: ",
        "coordinators.error_message",
        "\"\"",
        "Kafka gives no words for this error; we do",
    ),
    differs(
        "delete topics: v6 name and its id",
        "responses.name",
        "",
        "the one error for both entries repeats the first of them",
    ),
    differs("init producer id: v5 transactional id", "", "", "transactions are not served yet"),
    differs(
        "by nothing",
        "",
        "",
        "Kafka's handler fails on a topic with neither name nor id; INVALID_REQUEST says what it is",
    ),
    differs(
        "one by name, one by id",
        "topics",
        "",
        "Kafka leaves out topics by name as soon as one is named by id; we answer both",
    ),
    differs(
        "first look",
        "topics",
        "",
        "a topic that a look creates is in its answer; Kafka lets the client ask again",
    ),
    differs(
        "create topics",
        "topics.topic_id",
        "",
        "Kafka answers a mere validation with an id of no topic; ours has none",
    ),
    differs(
        "create topics",
        "*config_source",
        "3",
        "Kafka sets min.insync.replicas for the whole cluster by itself; here it is a default",
    ),
    differs(
        "min.insync.replicas",
        "",
        "",
        "Kafka sets min.insync.replicas for the whole cluster by itself; here it is a default",
    ),
    differs(
        "create topics: v7 replication factor 2",
        "topics",
        "",
        "any replication factor is accepted (DESIGN D13)",
    ),
    differs(
        "create topics: v7 assignment: an unknown broker",
        "topics",
        "",
        "there is one owner whatever an assignment says (DESIGN D13)",
    ),
    differs(
        "fetch",
        "responses.partitions.aborted_transactions",
        "[]",
        "null as for every read_uncommitted answer, where Kafka has an empty list beside an error",
    ),
    differs(
        "isolation level 7",
        "",
        "",
        "Kafka's handler fails on it; anything but 1 is read_uncommitted",
    ),
    differs(
        "fetch: ",
        "responses",
        "[]",
        "Kafka leaves out a topic without partitions; we answer what was asked",
    ),
    differs(
        "from a replica",
        "",
        "",
        "nobody replicates from Tidegate: the whole request is refused, not each partition",
    ),
    differs("negative limit", "", "", "Kafka's handler fails on it; it is as good as 0"),
    differs("negative partition limit", "", "", "Kafka's handler fails on it; it is as good as 0"),
    differs(
        "delete records: v7 greatest timestamp, nothing left",
        "topics",
        "",
        "Kafka still names a deleted record; there is none",
    ),
    differs(
        "topic partitions: v0 name \"\"",
        "topics",
        "",
        "Kafka's handler fails on an empty name without a cursor; it is as invalid as others",
    ),
    differs(
        "topic partitions: v0 from \"pages-a\" 2147483647",
        "",
        "",
        "Kafka's sum of partition and limit overflows; after the last partition comes the next \
         topic",
    ),
    differs(
        "all",
        "replica_election_results",
        "",
        "asked for all partitions, Kafka also lists the topics of which none changed",
    ),
    differs(
        "describe quorum",
        "topics.partitions.high_watermark",
        "",
        "two metadata logs with entries of their own",
    ),
    differs(
        "describe quorum",
        "topics.partitions.current_voters.replica_directory_id",
        "00000000-0000-0000-0000-000000000000",
        "the data directory has an identity; this Kafka's voters are configured without one",
    ),
    differs(
        "describe quorum",
        "nodes.listeners.name",
        "\"CONTROLLER\"",
        "there is no listener for controllers: the one that was asked on is named",
    ),
    differs(
        "a partition twice",
        "replica_election_results.partition_result",
        "",
        "a partition named twice is answered once: a small request must not ask for much memory",
    ),
    differs(
        "describe configs: ",
        "read_only",
        "false",
        "what cannot change at run time here is read-only, and what has no effect is, too",
    ),
    differs(
        "describe configs: no keys",
        "*config_source",
        "3",
        "Kafka sets min.insync.replicas for the whole cluster by itself; here it is a default",
    ),
    differs(
        "describe configs: cluster-wide broker",
        "results.configs",
        "",
        "Kafka sets min.insync.replicas for the whole cluster by itself; here it is a default",
    ),
    differs(
        "describe configs: broker controller.listener.names",
        "",
        "",
        "the suite's Kafka is started with it",
    ),
    differs(
        "describe configs: broker controller.quorum.voters",
        "",
        "",
        "the suite's Kafka is started with it",
    ),
    differs("describe configs: broker log.dirs", "", "", "the suite's Kafka is started with it"),
    differs(
        "describe configs: broker offsets.topic.replication.factor",
        "",
        "",
        "the suite's Kafka is started with it",
    ),
    differs(
        "describe configs: broker process.roles",
        "",
        "",
        "the suite's Kafka is started with it",
    ),
    differs(
        "describe configs: broker share.coordinator.state.topic.",
        "",
        "",
        "the suite's Kafka is started with it",
    ),
    differs(
        "describe configs: broker transaction.state.log.",
        "",
        "",
        "the suite's Kafka is started with it",
    ),
    differs(
        "describe configs: broker broker.id",
        "",
        "",
        "node.id has a default here, 1, and the broker is started without it",
    ),
    differs(
        "describe configs: broker node.id",
        "",
        "",
        "node.id has a default here, 1, and the broker is started without it",
    ),
    differs(
        "describe configs: broker listeners",
        "",
        "",
        "other ports, no listener for a controller, and by default only loopback is listened on",
    ),
    differs(
        "describe configs: broker listener.security.protocol.map",
        "",
        "",
        "the same map, in the order of the documentation",
    ),
    differs(
        "describe configs: ",
        "results.error_message",
        "\"\"",
        "Kafka gives no words for an unknown topic; we do",
    ),
    differs(
        "operation",
        "responses.error_code",
        "-1",
        "Kafka's handler fails on an unknown operation; INVALID_REQUEST says what it is",
    ),
    differs(
        "alter broker configs: ",
        "responses.error_code",
        "0",
        "what has no effect here cannot be set for a broker, nor a value that the broker would not start with",
    ),
    differs(
        "create topics: v7 two that collide",
        "topics",
        "",
        "Kafka validates each topic alone; the answer here is the one that creating would give",
    ),
];
