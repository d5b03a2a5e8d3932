//! The table of keys. A key is here because code reads it; the loader's tests see to that.

use super::key::Default::{From, Is};
use super::key::Kind::{Bool, Bytes, Choice, Duration, Int, List, Ratio, Text};
use super::key::{Default, Key, Kind};
use super::{metrics_keys, process_keys};

const I16: i64 = i16::MAX as i64;
const I32: i64 = i32::MAX as i64;
const I64: i64 = i64::MAX;

/// The smallest memory budget: below it the pools are smaller than one ordinary request.
pub const MEMORY_BUDGET_BYTES_MIN: u64 = 64 << 20;

/// The most partitions that one topic may be created with by default settings.
const PARTITIONS_MAX: i64 = 100_000;

const fn key(name: &'static str, kind: Kind, default: Default, effect: &'static str) -> Key {
    Key::new(name, kind, default, effect)
}

/// Every key, in the order of the reference: what a newcomer sets first comes first.
pub const KEYS: &[Key] = &[
    key(
        "listeners",
        List,
        Is("PLAINTEXT://127.0.0.1:9092"),
        "Where Kafka clients connect: NAME://host:port, several separated by commas. An IPv6 \
         address stands in brackets, an empty host means every address of the machine, port 0 \
         any free port.",
    ),
    key(
        "advertised.listeners",
        List,
        From("each listener's own address; this machine's host name where it has none"),
        "What clients are told to connect to, by listener name. Set it whenever clients reach \
         the broker by another address than the one it listens on: containers, NAT, cloud \
         networks.",
    ),
    key(
        "listener.security.protocol.map",
        List,
        Is("PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL"),
        "The protocol of each listener name. Only PLAINTEXT and SSL (TLS) can be listened with so \
         far.",
    ),
    key(
        "ssl.keystore.location",
        Text,
        Is(""),
        "With SSL on a listener: a file with the certificate, those that lead to its signer, and \
         its key, in PEM. A changed file is used without a restart. This and the next keys hold \
         for all listeners; with listener.name.NAME. before them, NAME in lower case, for one.",
    ),
    process_keys::SSL_KEYSTORE_CERTIFICATE_CHAIN,
    process_keys::SSL_KEYSTORE_KEY,
    process_keys::SSL_TRUSTSTORE_LOCATION,
    process_keys::SSL_TRUSTSTORE_CERTIFICATES,
    key(
        "ssl.client.auth",
        process_keys::CLIENT_AUTH,
        Is("none"),
        "Whether clients have to show a certificate: none, requested (one that is shown must be \
         trusted) or required.",
    ),
    key(
        "controller.listener.names",
        List,
        Is(""),
        "Listeners to leave out: Tidegate has no controller, and a Kafka server.properties in \
         combined mode lists one.",
    ),
    key(
        "data.dir",
        Text,
        Is("./tidegate-data"),
        "The directory of the write-ahead log, the broker's identity and its copy of the \
         metadata. One directory belongs to one broker. Not to be set with object.url=memory://, \
         which implies a temporary one.",
    ),
    key(
        "object.url",
        Text,
        From("the directory bucket in data.dir"),
        "The bucket: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix, file:// with \
         an absolute path, or memory:// for a broker that forgets everything when it stops. One \
         prefix belongs to one cluster. Credentials come from the usual places of each cloud \
         (environment, profile, web identity, instance metadata), never from here.",
    ),
    key(
        "object.endpoint",
        Text,
        From(
            "the cloud's own; for s3:// also AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or the profile",
        ),
        "With s3://, gs:// or az://: the http or https URL of the service that has the bucket. \
         Set it for a store of your own, such as http://minio:9000.",
    ),
    key(
        "object.s3.region",
        Text,
        From("AWS_REGION, AWS_DEFAULT_REGION or the profile, else us-east-1"),
        "With s3://: the bucket's region.",
    ),
    key(
        "object.s3.addressing.style",
        Choice(&["auto", "path", "virtual"]),
        Is("auto"),
        "With s3://: where requests name the bucket: path = https://endpoint/bucket, virtual = \
         https://bucket.endpoint, auto = path if there is an endpoint, else virtual.",
    ),
    key(
        "object.s3.sse.type",
        Choice(&["bucket", "sse-s3", "sse-kms", "sse-c"]),
        Is("bucket"),
        "With s3://: encryption by the server: bucket = as the bucket is set up, sse-s3 = S3's \
         own keys, sse-kms = a key of KMS, sse-c = a key that Tidegate sends with each request \
         and without which nothing can be read.",
    ),
    key(
        "object.s3.sse.kms.key.id",
        Text,
        Is(""),
        "With object.s3.sse.type=sse-kms: the key's id or ARN; none is the account's default key.",
    ),
    key(
        "object.s3.sse.customer.key.file",
        Text,
        Is(""),
        "With object.s3.sse.type=sse-c: a file that holds the key, 32 bytes in base64 (openssl \
         rand -base64 32).",
    ),
    key(
        "object.azure.account",
        Text,
        From("AZURE_STORAGE_ACCOUNT_NAME"),
        "With az://: the storage account that has the container.",
    ),
    key(
        "object.tls.ca.file",
        Text,
        Is(""),
        "With an https endpoint: a file of certificates in PEM that are trusted beside the \
         system's.",
    ),
    key(
        "object.requests.per.second",
        Int { min: -1, max: I32 },
        Is("-1"),
        "The most requests a second to the bucket, so that others can use the store too; more \
         wait. -1 is unlimited.",
    ),
    key("node.id", Int { min: 0, max: I32 }, Is("1"), "This broker's id, as clients see it."),
    key(
        "broker.rack",
        Text,
        Is(""),
        "The rack or availability zone, as clients see it in Metadata.",
    ),
    process_keys::ADMIN_LISTENER,
    metrics_keys::TOPICS_MAX,
    metrics_keys::PARTITIONS_MAX,
    metrics_keys::GROUPS_MAX,
    metrics_keys::GROUP_PARTITIONS_MAX,
    metrics_keys::COMPAT,
    process_keys::LOG_LEVEL,
    process_keys::LOG_FORMAT,
    key(
        "memory.budget.bytes",
        Bytes { min: MEMORY_BUDGET_BYTES_MIN as i64, max: I64 },
        From("a quarter of the smaller of memory and cgroup limit, at least 64MiB"),
        "All memory that requests, responses, the newest records and consumer groups may hold, \
         split into pools. A request that finds its pool empty waits; one that would make a group \
         larger is refused. How many partitions there may be follows from it too: one for each \
         5 KiB, and 200000 at the most.",
    ),
    process_keys::SHUTDOWN_DEADLINE_MS,
    key(
        "wal.sync",
        Choice(&["always", "interval"]),
        Is("always"),
        "What an acknowledged record has survived: always = it is on disk (fdatasync), interval \
         = it is in the page cache, as with Kafka's defaults, and a power cut may lose it.",
    ),
    key(
        "wal.flush.interval.ms",
        Duration { min: 1, max: 60_000 },
        Is("1000"),
        "With wal.sync=interval: how often the write-ahead log is synced.",
    ),
    key(
        "wal.max.bytes",
        Bytes { min: -1, max: I64 },
        Is("-1"),
        "The most disk that the write-ahead log may take, at least 64MiB. A third of it may be \
         what the bucket has not got; when that is away and the log is full, producers are \
         refused with a retriable error. -1 is a quarter of the volume that data.dir is on.",
    ),
    key(
        "tier.max.age.ms",
        Duration { min: 1_000, max: I64 },
        Is("600000"),
        "The longest that records of small partitions wait before they are brought into the \
         bucket together; every object costs a request.",
    ),
    process_keys::SOCKET_REQUEST_MAX_BYTES,
    key(
        "connections.max.idle.ms",
        Duration { min: -1, max: I64 },
        Is("600000"),
        "A connection that is silent for this long is closed. -1 is never.",
    ),
    process_keys::MAX_CONNECTIONS,
    process_keys::MAX_CONNECTIONS_PER_IP,
    key(
        "fetch.max.bytes",
        Bytes { min: 1_024, max: I32 },
        Is("57671680"),
        "The most record bytes in one Fetch response, whatever the client asks for; one batch \
         is always sent.",
    ),
    key(
        "max.incremental.fetch.session.cache.slots",
        Int { min: 0, max: I32 },
        Is("1000"),
        "The most fetch sessions (KIP-227) at a time. Together they also take at most 1/32 of \
         memory.budget.bytes. A consumer without one sends its whole list of partitions with \
         every Fetch.",
    ),
    key(
        "auto.create.topics.enable",
        Bool,
        Is("true"),
        "Whether a topic is created when a client first asks for its metadata.",
    ),
    key("delete.topic.enable", Bool, Is("true"), "Whether topics may be deleted by clients."),
    key(
        "num.partitions",
        Int { min: 1, max: PARTITIONS_MAX },
        Is("1"),
        "Partitions of a topic that is created without a number.",
    ),
    key(
        "default.replication.factor",
        Int { min: 1, max: I16 },
        Is("1"),
        "Replication factor of a topic that is created without one. It is stored and shown; \
         durability is the log's and the bucket's.",
    ),
    key(
        "min.insync.replicas",
        Int { min: 1, max: I32 },
        Is("1"),
        "Stored and shown; its effect is that of 1.",
    ),
    key(
        "message.max.bytes",
        Bytes { min: 0, max: I32 },
        Is("1048588"),
        "The largest record batch, as compressed by the producer (topic: max.message.bytes).",
    ),
    key(
        "log.retention.ms",
        Duration { min: -1, max: I64 },
        From("log.retention.minutes"),
        "Records older than this are removed (topic: retention.ms). -1 is never.",
    ),
    key(
        "log.retention.minutes",
        Int { min: -1, max: I32 },
        From("log.retention.hours"),
        "log.retention.ms in minutes; without effect if that is set.",
    ),
    key(
        "log.retention.hours",
        Int { min: -1, max: I32 },
        Is("168"),
        "log.retention.ms in hours; without effect if that or log.retention.minutes is set.",
    ),
    key(
        "log.retention.bytes",
        Bytes { min: -1, max: I64 },
        Is("-1"),
        "A partition's oldest records are removed when it is larger than this (topic: \
         retention.bytes). -1 is unlimited.",
    ),
    key(
        "log.retention.check.interval.ms",
        Duration { min: 1, max: I64 },
        Is("300000"),
        "How often retention looks for records to remove.",
    ),
    key(
        "log.cleanup.policy",
        List,
        Is("delete"),
        "delete removes old records, compact all but the last one of each key; both may be set \
         (topic: cleanup.policy).",
    ),
    key(
        "log.cleaner.min.cleanable.ratio",
        Ratio,
        Is("0.5"),
        "A partition is compacted when more than this share of its bytes in the bucket was written \
         since it was compacted last (topic: min.cleanable.dirty.ratio).",
    ),
    key(
        "log.cleaner.delete.retention.ms",
        Duration { min: 0, max: I64 },
        Is("86400000"),
        "How long compaction keeps a tombstone after it first met it: the time a reader has to get \
         from the beginning to the end (topic: delete.retention.ms).",
    ),
    key(
        "log.cleaner.min.compaction.lag.ms",
        Duration { min: 0, max: I64 },
        Is("0"),
        "For how long compaction leaves records alone, whatever follows them (topic: \
         min.compaction.lag.ms).",
    ),
    key(
        "log.cleaner.max.compaction.lag.ms",
        Duration { min: 1, max: I64 },
        Is("9223372036854775807"),
        "A partition whose records wait longer than this is compacted whatever the ratio is \
         (topic: max.compaction.lag.ms).",
    ),
    key(
        "log.cleaner.backoff.ms",
        Duration { min: 1, max: I64 },
        Is("15000"),
        "How often compaction looks for work when there was none.",
    ),
    key(
        "log.message.timestamp.type",
        Choice(&["CreateTime", "LogAppendTime"]),
        Is("CreateTime"),
        "Whether a record keeps the producer's time or gets the broker's (topic: \
         message.timestamp.type).",
    ),
    key(
        "log.message.timestamp.before.max.ms",
        Duration { min: 0, max: I64 },
        Is("9223372036854775807"),
        "With CreateTime: how far a record's time may lie behind the broker's (topic: \
         message.timestamp.before.max.ms).",
    ),
    key(
        "log.message.timestamp.after.max.ms",
        Duration { min: 0, max: I64 },
        Is("3600000"),
        "With CreateTime: how far a record's time may lie ahead of the broker's (topic: \
         message.timestamp.after.max.ms).",
    ),
    key(
        "compression.type",
        Choice(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        Is("producer"),
        "The topic default for compression.type; producer keeps each batch as it came.",
    ),
    key(
        "compression.gzip.level",
        Int { min: -1, max: 9 },
        Is("-1"),
        "The topic default for compression.gzip.level: from 1, fast, to 9, small; -1 is gzip's \
         own choice.",
    ),
    key(
        "compression.zstd.level",
        Int { min: -131_072, max: 22 },
        Is("3"),
        "The topic default for compression.zstd.level: the greater, the smaller and slower.",
    ),
    key(
        "group.initial.rebalance.delay.ms",
        Duration { min: 0, max: I32 },
        Is("3000"),
        "How long the first rebalance of an empty group waits for more members.",
    ),
    key(
        "group.min.session.timeout.ms",
        Duration { min: 1, max: I32 },
        Is("6000"),
        "The shortest session timeout that a member may ask for.",
    ),
    key(
        "group.max.session.timeout.ms",
        Duration { min: 1, max: I32 },
        Is("1800000"),
        "The longest session timeout that a member may ask for.",
    ),
    key(
        "group.max.size",
        Int { min: 1, max: I32 },
        Is("2147483647"),
        "The most members of a group.",
    ),
    key(
        "offsets.retention.minutes",
        Int { min: 1, max: I32 },
        Is("10080"),
        "How long committed offsets are kept after their group has become empty.",
    ),
    key(
        "offsets.retention.check.interval.ms",
        Duration { min: 1, max: I64 },
        Is("600000"),
        "How often offsets are checked for expiry.",
    ),
    key(
        "offsets.topic.num.partitions",
        Int { min: 1, max: PARTITIONS_MAX },
        Is("50"),
        "Partitions of __consumer_offsets. It takes effect when that topic is first created.",
    ),
    key(
        "offsets.topic.replication.factor",
        Int { min: 1, max: I16 },
        Is("3"),
        "Replication factor of __consumer_offsets: stored and shown.",
    ),
    key(
        "offset.metadata.max.bytes",
        Bytes { min: 0, max: I32 },
        Is("4096"),
        "The longest metadata text of a committed offset.",
    ),
    key(
        "producer.id.expiration.ms",
        Duration { min: 1, max: I32 },
        Is("86400000"),
        "How long a partition remembers the sequence numbers of an idle idempotent producer.",
    ),
    key(
        "transaction.max.timeout.ms",
        Duration { min: 1, max: I32 },
        Is("900000"),
        "The longest transaction timeout that a producer may ask for.",
    ),
];

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

#[cfg(test)]
mod tests {
    use super::super::proxy_keys::{CLUSTER_KEYS, PROXY_KEYS};
    use super::super::value;
    use super::*;

    /// The keys that can stand in one file: the broker's, the proxy's.
    fn tables() -> [Vec<&'static Key>; 2] {
        [KEYS.iter().collect(), PROXY_KEYS.iter().chain(CLUSTER_KEYS).collect()]
    }

    /// Kafka itself has a key that begins with another; both names are its own. A TOML file that
    /// sets both writes them in quotes.
    const KAFKAS_OWN_PREFIXES: &[(&str, &str)] = &[("max.connections", "max.connections.per.ip")];

    #[test]
    fn no_key_is_a_prefix_of_another_but_for_kafkas_own() {
        let pairs = |keys: Vec<&'static Key>| {
            let all = keys.clone();
            keys.into_iter().flat_map(move |short| all.clone().into_iter().map(move |l| (short, l)))
        };
        for (short, long) in tables().into_iter().flat_map(pairs) {
            let nested =
                long.name.strip_prefix(short.name).is_some_and(|rest| rest.starts_with('.'));
            let known = KAFKAS_OWN_PREFIXES.contains(&(short.name, long.name));
            assert_eq!(nested, known, "{} and {}", short.name, long.name);
        }
    }

    #[test]
    fn names_are_unique_lower_case_and_carry_their_unit() {
        for (table, at) in tables().iter().flat_map(|t| (0..t.len()).map(move |at| (t, at))) {
            let key = table[at];
            assert!(
                key.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.'),
                "{} cannot be written as an environment variable",
                key.name
            );
            assert!(table[at + 1..].iter().all(|other| other.name != key.name), "{}", key.name);
            let is = |ending| key.name.ends_with(ending);
            assert_eq!(is(".ms"), matches!(key.kind, Duration { .. }), "{}", key.name);
            assert_eq!(is(".bytes"), matches!(key.kind, Bytes { .. }), "{}", key.name);
        }
    }

    #[test]
    fn every_default_is_a_value_that_its_key_accepts() {
        for key in tables().into_iter().flatten() {
            match key.default {
                Is("") => assert!(matches!(key.kind, Text | List | Kind::Pem), "{}", key.name),
                Is(text) => assert!(value::parse(key.kind, text).is_ok(), "{}", key.name),
                From(words) => assert!(!words.is_empty(), "{}", key.name),
            }
        }
    }
}
