//! What a whole set of sources becomes.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::*;

fn load(flags: &[(&str, &str)]) -> Config {
    Sources::of_flags(flags).load().unwrap()
}

fn problems(flags: &[(&str, &str)]) -> Vec<String> {
    let errors = Sources::of_flags(flags).load().unwrap_err();
    errors.0.iter().map(ToString::to_string).collect()
}

fn problem(flags: &[(&str, &str)]) -> String {
    let mut all = problems(flags);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

fn with_file(name: &str, text: &str) -> Sources {
    Sources { file: Some((name.into(), text.to_owned())), ..Sources::default() }
}

#[test]
fn nothing_set_gives_kafkas_defaults_on_loopback() {
    let config = load(&[]);
    let [listener] = config.server.listeners.as_slice() else { panic!("{config:?}") };
    let loopback: SocketAddr = "127.0.0.1:9092".parse().unwrap();
    assert_eq!(listener.bind.bind_addrs(), [loopback]);
    assert_eq!(listener.advertised, listener.bind);
    assert_eq!(config.node.id, 1);
    assert_eq!(config.node.rack, None);
    assert_eq!(config.admin.listener.to_string(), "127.0.0.1:9464");
    assert_eq!(config.process.memory_budget_bytes, 1 << 30);
    assert_eq!(config.storage.data_dir, Some("./tidegate-data".into()));
    assert_eq!(config.storage.object.url, ObjectUrl::File("./tidegate-data/bucket".into()));
    assert_eq!(config.storage.wal.sync, WalSync::Always);
    assert_eq!(config.storage.wal.bytes_max, None);
    assert_eq!(config.server.connection_idle_max, Some(Duration::from_mins(10)));
    assert_eq!(config.topics.defaults.retention, Some(Duration::from_hours(168)));
    assert_eq!(config.topics.defaults.retention_bytes, None);
    assert_eq!(config.topics.defaults.message_bytes_max, 1_048_588);
    assert_eq!(
        config.topics.defaults.cleanup_policy,
        CleanupPolicy { delete: true, compact: false }
    );
    assert_eq!(config.groups.offsets_retention, Duration::from_hours(168));
    assert!(config.notes.without_effect.is_empty() && config.notes.overruled.is_empty());
}

#[test]
fn every_key_of_the_table_is_read() {
    let code = concat!(
        include_str!("../load.rs"),
        include_str!("listeners.rs"),
        include_str!("object.rs"),
        include_str!("tls.rs")
    );
    for key in KEYS {
        assert!(code.contains(&format!("\"{}\"", key.name)), "nothing reads {}", key.name);
    }
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let mut sources = with_file("t.toml", "[num]\npartitions = 2\n[node]\nid = 5");
    assert_eq!(sources.load().unwrap().topics.partitions, 2);
    sources.env = vec![("TIDEGATE_NUM_PARTITIONS".to_owned(), "3".to_owned())];
    assert_eq!(sources.load().unwrap().topics.partitions, 3);
    sources.flags = vec![("num.partitions".to_owned(), "4".to_owned())];
    let config = sources.load().unwrap();
    assert_eq!((config.topics.partitions, config.node.id), (4, 5));
}

#[test]
fn a_server_properties_of_kafka_in_combined_mode_starts() {
    let text = "process.roles=broker,controller\n\
        node.id=1\n\
        controller.quorum.bootstrap.servers=localhost:9093\n\
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
        inter.broker.listener.name=PLAINTEXT\n\
        advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
        controller.listener.names=CONTROLLER\n\
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n\
        num.network.threads=3\n\
        log.dirs=/tmp/kraft-combined-logs\n\
        num.partitions=1\n\
        offsets.topic.replication.factor=1\n\
        transaction.state.log.replication.factor=1\n\
        #log.flush.interval.messages=10000\n\
        log.retention.hours=168\n\
        log.segment.bytes=1073741824\n\
        log.retention.check.interval.ms=300000\n\
        ssl.keystore.password=hunter2\n";
    let config = with_file("server.properties", text).load().unwrap();
    let [listener] = config.server.listeners.as_slice() else { panic!("{config:?}") };
    assert_eq!((listener.name.as_str(), &listener.bind.host), ("PLAINTEXT", &Host::Any));
    assert_eq!(listener.advertised.to_string(), "localhost:9092");
    assert_eq!(
        config.notes.without_effect,
        [
            "controller.quorum.bootstrap.servers",
            "inter.broker.listener.name",
            "log.dirs",
            "log.segment.bytes",
            "num.network.threads",
            "process.roles",
            "ssl.keystore.password",
            "transaction.state.log.replication.factor",
        ]
    );
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn all_errors_are_listed_at_once_with_value_place_and_fix() {
    let mut sources = with_file("conf/server.properties", "a.b=1\n\nnum.partitions=none\n");
    sources.env = vec![
        ("TIDEGATE_LOG_RETENTION_M".to_owned(), "secret".to_owned()),
        ("TIDEGATE_PORT_9092_TCP".to_owned(), "tcp://10.0.0.1:9092".to_owned()),
    ];
    sources.flags = vec![("memory.budget.bytes".to_owned(), "1MiB".to_owned())];
    assert_eq!(
        sources.load().unwrap_err().to_string(),
        "4 configuration errors\
         \n  unknown key \"a.b\" (conf/server.properties:1); `tidegate config reference` lists \
         every key\
         \n  unknown key \"log.retention.m\" (environment TIDEGATE_LOG_RETENTION_M); did you mean \
         log.retention.ms?\
         \n  memory.budget.bytes = \"1MiB\" (command line): must be bytes from 67108864, or a size \
         with a unit such as 64MiB\
         \n  num.partitions = \"none\" (conf/server.properties:3): must be a whole number from 1 \
         to 100000"
    );
}

#[test]
fn listeners_may_be_several_with_names_of_their_own() {
    let config = load(&[
        ("listeners", "inside://[::1]:9092, OUTSIDE://0.0.0.0:9093,ANY://:9094,DNS://kafka.lan:0"),
        ("advertised.listeners", "OUTSIDE://broker.example.com:443"),
        (
            "listener.security.protocol.map",
            "INSIDE:PLAINTEXT,OUTSIDE:plaintext,ANY:PLAINTEXT,DNS:PLAINTEXT",
        ),
    ]);
    let told: Vec<_> = config
        .server
        .listeners
        .iter()
        .map(|listener| format!("{} {} {}", listener.name, listener.bind, listener.advertised))
        .collect();
    assert_eq!(
        told,
        [
            "INSIDE [::1]:9092 [::1]:9092",
            "OUTSIDE 0.0.0.0:9093 broker.example.com:443",
            "ANY :9094 localhost:9094",
            "DNS kafka.lan:0 kafka.lan:0",
        ]
    );
    assert_eq!(config.notes.advertised_by_hostname, ["ANY"]);
}

#[test]
fn listeners_that_cannot_be_are_refused() {
    let refused = |value: &str| problem(&[("listeners", value)]);
    for malformed in ["9092", "PLAINTEXT://a", "PLAINTEXT://::1:9092", "PLAIN TEXT://a:1", "://a:1"]
    {
        assert!(refused(malformed).contains("must be NAME://host:port"), "{malformed}");
    }
    assert!(refused("").contains("must have a listener"));
    assert!(refused("SSL://:1").contains("listener SSL speaks SSL without a certificate"));
    assert!(refused("SASL_SSL://:1").contains("only PLAINTEXT and SSL are supported so far"));
    assert!(refused("A://:1").contains("add A:PLAINTEXT to listener.security.protocol.map"));
    assert!(refused("PLAINTEXT://a:1,plaintext://a:2").contains("name each listener once"));
    let map = ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT");
    assert!(
        problem(&[("listeners", "A://:1,B://127.0.0.1:1"), map]).contains("need different ports")
    );
    assert!(problem(&[("listeners", "PLAINTEXT://:9464")]).contains("needs another port"));
    load(&[("listeners", "A://127.0.0.1:0,B://127.0.0.1:0"), map]);
}

#[test]
fn a_listener_with_tls_has_the_settings_of_all_or_its_own() {
    let pem = |path: &str| Pem::File(path.into());
    let listeners = ("listeners", "SSL://127.0.0.1:1,INSIDE://127.0.0.1:2,PLAINTEXT://127.0.0.1:3");
    let map = ("listener.security.protocol.map", "SSL:SSL,INSIDE:ssl,PLAINTEXT:PLAINTEXT");
    let config = load(&[
        listeners,
        map,
        ("ssl.keystore.location", "/k.pem"),
        ("listener.name.inside.ssl.keystore.location", "/inside.pem"),
        ("listener.name.INSIDE.ssl.client.auth", "required"),
        ("listener.name.inside.ssl.truststore.location", "/ca.pem"),
        ("listener.name.plaintext.ssl.client.auth", "required"),
        ("listener.name.inside.sasl.enabled.mechanisms", "PLAIN"),
    ]);
    let [ssl, inside, plain] = config.server.listeners.as_slice() else { panic!("{config:?}") };
    assert_eq!((ssl.protocol, inside.protocol), (SecurityProtocol::Ssl, SecurityProtocol::Ssl));
    assert_eq!((plain.protocol, &plain.tls), (SecurityProtocol::Plaintext, &None));
    let tls = ssl.tls.as_ref().unwrap();
    assert_eq!((&tls.keystore.chain, &tls.keystore.key), (&pem("/k.pem"), &pem("/k.pem")));
    assert_eq!((tls.client_auth, &tls.truststore), (ClientAuth::None, &None));
    let tls = inside.tls.as_ref().unwrap();
    assert_eq!((&tls.keystore.chain, tls.client_auth), (&pem("/inside.pem"), ClientAuth::Required));
    assert_eq!(tls.truststore, Some(pem("/ca.pem")));
    assert_eq!(
        config.notes.without_effect,
        ["listener.name.inside.sasl.enabled.mechanisms", "listener.name.plaintext.ssl.client.auth"]
    );

    let refused = problem(&[
        listeners,
        map,
        ("ssl.keystore.location", "/k.pem"),
        ("listener.name.inside.ssl.client.auth", "needed"),
    ]);
    let told = "listener.name.inside.ssl.client.auth = \"needed\" (command line): must be one of";
    assert!(refused.starts_with(told), "{refused}");
    let refused = problems(&[listeners, map]);
    let [ssl, inside] = refused.as_slice() else { panic!("{refused:#?}") };
    assert!(ssl.starts_with("listener SSL speaks SSL without a certificate; give"), "{ssl}");
    let own = "with listener.name.inside. before them they are this listener's alone";
    assert!(inside.ends_with(own), "{inside}");
    let refused = problem(&[
        ("listeners", "SSL://:1"),
        ("ssl.keystore.location", "/k.pem"),
        ("ssl.client.auth", "required"),
    ]);
    assert!(refused.contains("give who signs clients' certificates"), "{refused}");
}

#[test]
fn tls_settings_without_a_listener_that_speaks_it_are_told() {
    let config = load(&[("ssl.keystore.location", "/k.pem")]);
    let told = "ssl.keystore.location has no effect because no listener speaks SSL";
    assert_eq!(config.notes.overruled, [told]);
}

#[test]
fn an_advertised_listener_must_exist_and_be_an_address() {
    let key = "advertised.listeners";
    assert!(problem(&[(key, "OTHER://a:1")]).contains("is not in listeners, which has PLAINTEXT"));
    assert!(problem(&[(key, "PLAINTEXT://0.0.0.0:9092")]).contains("not a wildcard"));
    assert!(problem(&[(key, "PLAINTEXT://:9092")]).contains("not a wildcard"));
    assert_eq!(
        load(&[(key, "PLAINTEXT://[2001:db8::1]:9")]).server.listeners[0]
            .advertised
            .host
            .to_string(),
        "2001:db8::1"
    );
}

#[test]
fn retention_is_decided_by_the_finest_unit_that_is_set() {
    let retention = |flags: &[(&str, &str)]| load(flags).topics.defaults.retention;
    assert_eq!(retention(&[("log.retention.hours", "2")]), Some(Duration::from_hours(2)));
    assert_eq!(retention(&[("log.retention.minutes", "-1")]), None);
    let both = [("log.retention.ms", "7d"), ("log.retention.hours", "2")];
    assert_eq!(retention(&both), Some(Duration::from_hours(168)));
    assert_eq!(
        load(&both).notes.overruled,
        ["log.retention.hours has no effect because log.retention.ms is set"]
    );
    assert!(problem(&[("log.retention.ms", "0")]).contains("-1 for ever, or at least 1"));
    assert_eq!(
        retention(&[("log.retention.ms", "9223372036854775807")]),
        Some(Duration::from_millis(i64::MAX as u64))
    );
}

#[test]
fn the_bucket_is_a_directory_or_memory() {
    let storage = |flags: &[(&str, &str)]| load(flags).storage;
    let below = storage(&[("data.dir", "/d")]);
    assert_eq!(below.object.url.to_string(), "file:///d/bucket");
    let apart = storage(&[("data.dir", "/d"), ("object.url", "file:///b")]);
    assert_eq!(
        (apart.data_dir, apart.object.url.to_string()),
        (Some("/d".into()), "file:///b".into())
    );
    let memory = storage(&[("object.url", "memory://")]);
    assert_eq!((memory.data_dir, memory.object.url), (None, ObjectUrl::Memory));
    let both = problem(&[("object.url", "memory://"), ("data.dir", "/d")]);
    assert!(both.contains("leave out data.dir"), "{both}");
    assert!(problem(&[("object.url", "file://relative")]).contains("absolute path"));
    assert!(problem(&[("data.dir", "")]).contains("must be a directory"));
}

#[test]
fn the_write_ahead_log_is_synced_always_or_by_interval_and_may_be_limited() {
    let wal = |flags: &[(&str, &str)]| load(flags).storage.wal;
    assert_eq!(
        wal(&[("wal.sync", "interval"), ("wal.flush.interval.ms", "2s")]).sync,
        WalSync::Interval(Duration::from_secs(2))
    );
    assert_eq!(wal(&[("wal.max.bytes", "1GiB")]).bytes_max, Some(1 << 30));
    assert!(problem(&[("wal.max.bytes", "1MiB")]).contains("at least 64MiB"));
    assert!(problem(&[("wal.sync", "never")]).contains("must be one of always, interval"));
}

#[test]
fn the_memory_budget_is_a_quarter_of_memory_but_never_below_the_least() {
    let budget = |memory_bytes| {
        let machine = Machine { memory_bytes, ..Machine::default() };
        Sources { machine, ..Sources::default() }.load().unwrap().process.memory_budget_bytes
    };
    assert_eq!(budget(8 << 30), 2 << 30);
    assert_eq!(budget(100 << 20), 64 << 20);
    let set = load(&[("memory.budget.bytes", "96MiB")]);
    assert_eq!(set.process.memory_budget_bytes, 96 << 20);
}

#[test]
fn values_that_cannot_hold_together_are_refused() {
    let (min, max) = ("group.min.session.timeout.ms", "group.max.session.timeout.ms");
    assert_eq!(
        problem(&[(min, "10s"), (max, "5s")]),
        "group.min.session.timeout.ms = \"10s\" (command line) and group.max.session.timeout.ms = \
         \"5s\" (command line); the shortest timeout must not be above the longest"
    );
    // A refused value is not compared, so one mistake is one error.
    assert!(problem(&[(min, "ten"), (max, "5s")]).starts_with("group.min.session"));
    assert!(problem(&[("log.cleanup.policy", "keep")]).contains("delete, compact or both"));
    assert!(problem(&[("log.cleanup.policy", "")]).contains("delete, compact or both"));
    let both = load(&[("log.cleanup.policy", "compact,delete")]).topics.defaults.cleanup_policy;
    assert_eq!(both, CleanupPolicy { delete: true, compact: true });
}

#[test]
fn log_levels_are_levels_or_levels_by_module() {
    for good in ["info", "WARN", "info,tidegate::group=debug", "tidegate=trace"] {
        load(&[("log.level", good)]);
    }
    // What comes in brackets is built into an automaton whose size grows as 2^n here.
    let automaton = format!("tidegate[x{{y=(a|b)*a{}}}]=info", "(a|b)".repeat(8));
    for bad in ["inof", "", "info,tidegate=loud", "tidegate", "tidegate[x]=info", &automaton] {
        assert!(problem(&[("log.level", bad)]).contains("by module"), "{bad}");
    }
}

#[test]
fn choices_become_their_variants() {
    let topic = |key, value| load(&[(key, value)]).topics.defaults;
    assert_eq!(topic("compression.type", "zstd").compression, CompressionType::Zstd);
    assert_eq!(topic("compression.type", "producer").compression, CompressionType::Producer);
    let stamped = topic("log.message.timestamp.type", "LogAppendTime").timestamp_type;
    assert_eq!(stamped, TimestampType::LogAppendTime);
    assert_eq!(load(&[("connections.max.idle.ms", "-1")]).server.connection_idle_max, None);
    assert_eq!(load(&[("broker.rack", "eu-1a")]).node.rack.as_deref(), Some("eu-1a"));
}

#[test]
fn a_bucket_of_a_service_is_read_with_the_way_to_it() {
    let object = load(&[
        ("object.url", "s3://b/p"),
        ("object.endpoint", "https://minio:9000/"),
        ("object.s3.region", "eu-1"),
        ("object.s3.addressing.style", "virtual"),
        ("object.s3.sse.type", "sse-kms"),
        ("object.s3.sse.kms.key.id", "k"),
        ("object.tls.ca.file", "/ca.pem"),
        ("object.requests.per.second", "100"),
    ])
    .storage
    .object;
    assert_eq!(object.url.to_string(), "s3://b/p");
    assert_eq!(object.endpoint.as_deref(), Some("https://minio:9000"));
    assert_eq!(object.s3.region.as_deref(), Some("eu-1"));
    assert_eq!(object.s3.addressing, Addressing::Virtual);
    assert_eq!(object.s3.encryption, Encryption::Kms { key_id: Some("k".to_owned()) });
    assert_eq!(object.ca_file, Some("/ca.pem".into()));
    assert_eq!(object.requests_per_second.map(std::num::NonZero::get), Some(100));
    let azure = load(&[("object.url", "az://c"), ("object.azure.account", "a")]).storage.object;
    assert_eq!(azure.azure_account.as_deref(), Some("a"));
}

#[test]
fn what_cannot_hold_of_a_bucket_is_refused_with_the_way_out() {
    let refusal = |flags: &[(&str, &str)], words: &str| {
        let told = problem(flags);
        assert!(told.contains(words), "{told}");
    };
    let s3 = ("object.url", "s3://b");
    refusal(&[("object.url", "s3://k:s@b")], "s3://bucket/prefix");
    refusal(&[s3, ("object.endpoint", "minio:9000")], "must be an http:// or https:// URL");
    refusal(&[("object.endpoint", "http://x")], "s3://, gs:// and az:// only");
    refusal(&[("object.url", "gs://b"), ("object.s3.region", "x")], "with s3:// only");
    refusal(&[s3, ("object.azure.account", "x")], "with az:// only");
    refusal(&[s3, ("object.requests.per.second", "0")], "-1 for unlimited");
    refusal(&[s3, ("object.s3.sse.kms.key.id", "k")], "set object.s3.sse.type=sse-kms");
    let customer = ("object.s3.sse.type", "sse-c");
    refusal(&[s3, customer], "give the file that holds the key");
    let key = ("object.s3.sse.customer.key.file", "/k");
    refusal(&[s3, customer, key, ("object.endpoint", "http://x")], "in the clear");
}
