//! What a whole set of sources becomes for a proxy.

use std::time::Duration;

use super::super::super::proxy_keys::{CLUSTER_KEYS, PROXY_KEYS};
use super::super::super::*;

const UPSTREAM: (&str, &str) = ("upstream.bootstrap.servers", "kafka:9092");
const SSL: (&str, &str) = ("listener.security.protocol", "SSL");
const STORE: (&str, &str) = ("ssl.keystore.location", "/k.pem");
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE----- \nMIIB\nAAAA -----END CERTIFICATE-----";

fn sources(flags: &[(&str, &str)]) -> Sources {
    Sources::of_flags(flags)
}

/// The configuration of a proxy before `kafka:9092` with these settings too.
fn load(flags: &[(&str, &str)]) -> ProxyConfig {
    let flags: Vec<_> = std::iter::once(UPSTREAM).chain(flags.iter().copied()).collect();
    sources(&flags).load_proxy().unwrap()
}

fn only(flags: &[(&str, &str)]) -> VirtualCluster {
    let mut clusters = load(flags).clusters;
    assert_eq!(clusters.len(), 1);
    clusters.remove(0)
}

fn problems(flags: &[(&str, &str)]) -> Vec<String> {
    let flags: Vec<_> = std::iter::once(UPSTREAM).chain(flags.iter().copied()).collect();
    let errors = sources(&flags).load_proxy().unwrap_err();
    errors.0.iter().map(ToString::to_string).collect()
}

/// Asserts that the one problem of `flags` is told in words that have these in them.
fn refused(flags: &[(&str, &str)], words: &str) {
    let all = problems(flags);
    assert!(all.len() == 1 && all[0].contains(words), "{all:#?}");
}

#[test]
fn an_upstream_is_all_that_has_to_be_given() {
    let config = load(&[]);
    assert_eq!(config.admin.listener.to_string(), "127.0.0.1:9464");
    assert_eq!(config.process.memory_budget_bytes, 1 << 30);
    assert_eq!(config.limits.connection_idle_max, Some(Duration::from_mins(20)));
    assert_eq!(config.limits.request_bytes_max, 104_857_600);
    let [cluster] = config.clusters.as_slice() else { panic!("{config:?}") };
    assert_eq!(cluster.name, "default");
    assert_eq!(cluster.listener.to_string(), "127.0.0.1:19092");
    assert_eq!(cluster.upstream.bootstrap, [Endpoint::parse("kafka:9092").unwrap()]);
    assert!(cluster.tls.is_none() && cluster.upstream.tls.is_none() && !cluster.upstream.sasl);
    let expected = Nodes::Ports {
        ids: vec![0..=9],
        bind_base: 19_093,
        advertised_host: Endpoint::parse("127.0.0.1:1").unwrap().host,
        advertised_base: 19_093,
    };
    assert_eq!(cluster.nodes, expected);
    assert_eq!(cluster.nodes.bind_port(1), Some(19_094));
    assert_eq!(cluster.nodes.advertised(9), Some(("127.0.0.1".to_owned(), 19_102)));
    assert_eq!((cluster.nodes.bind_port(10), cluster.nodes.advertised(-1)), (None, None));
    assert_eq!(cluster.metadata_refresh, Duration::from_secs(30));
    assert_eq!(cluster.node_hold, Duration::from_secs(30));
    assert_eq!(cluster.connection_age_max, None);
    let missing = sources(&[]).load_proxy().unwrap_err().to_string();
    assert!(missing.contains("upstream.bootstrap.servers is not set; give"), "{missing}");
}

#[test]
fn every_key_of_the_tables_is_read() {
    let code = concat!(
        include_str!("../../load.rs"),
        include_str!("../tls.rs"),
        include_str!("../proxy.rs"),
        include_str!("cluster.rs"),
        include_str!("scopes.rs"),
    );
    for key in PROXY_KEYS.iter().chain(CLUSTER_KEYS) {
        assert!(code.contains(&format!("\"{}\"", key.name)), "nothing reads {}", key.name);
    }
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let text = "metadata.refresh.ms = 1000\n[upstream.bootstrap]\nservers = [\"a:1\", \"b:2\"]\n\
                [node]\nids = \"3\"\nport.base = 20000\n";
    let mut sources = Sources { file: Some(("p.toml".into(), text.to_owned())), ..sources(&[]) };
    let servers = |sources: &Sources| {
        let cluster = sources.load_proxy().unwrap().clusters.remove(0);
        assert_eq!(cluster.nodes.bind_port(3), Some(20_003));
        assert_eq!(cluster.metadata_refresh, Duration::from_secs(1));
        cluster.upstream.bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(servers(&sources), "a:1 b:2");
    let variable = "TIDEGATE_UPSTREAM_BOOTSTRAP_SERVERS".to_owned();
    sources.env = vec![(variable, "c:3".to_owned())];
    assert_eq!(servers(&sources), "c:3");
    sources.flags = vec![("upstream.bootstrap.servers".to_owned(), "d:4".to_owned())];
    assert_eq!(servers(&sources), "d:4");
}

#[test]
fn a_clusters_own_setting_wins_over_one_for_all_wherever_it_stands() {
    let text = "[virtual]\nclusters = [\"east\", \"west-1\"]\n\
                [virtual.cluster.west-1]\nupstream.bootstrap.servers = \"west:1\"\n\
                proxy.listener = \"127.0.0.1:20000\"\nnode.hold.ms = \"5s\"\n";
    let sources = Sources {
        file: Some(("p.toml".into(), text.to_owned())),
        env: vec![("TIDEGATE_VIRTUAL_CLUSTER_EAST_NODE_IDS".to_owned(), "7".to_owned())],
        ..sources(&[UPSTREAM, ("node.hold.ms", "1s"), ("node.ids", "1")])
    };
    let config = sources.load_proxy().unwrap();
    let told: Vec<_> = config
        .clusters
        .iter()
        .map(|it| {
            let (server, hold) = (&it.upstream.bootstrap[0], it.node_hold.as_secs());
            let ports = [it.nodes.bind_port(1), it.nodes.bind_port(7)];
            format!("{} {} {server} {hold} {ports:?}", it.name, it.listener)
        })
        .collect();
    assert_eq!(
        told,
        [
            "east 127.0.0.1:19092 kafka:9092 1 [None, Some(19100)]",
            "west-1 127.0.0.1:20000 west:1 5 [Some(20002), None]",
        ]
    );
}

#[test]
fn all_errors_are_listed_at_once_with_key_value_place_and_fix() {
    let text = "virtual.clusters=a,b\nvirtual.cluster.a.upstream.bootstrap.servers=x:1\n\
                virtual.cluster.c.node.ids=1\nvirtual.cluster.a.max.connections=5\n\
                node.idss=1\nvirtual.cluster.a.node.id=1\nnum.partitions=3\nssl.protocol=TLSv1.3\n\
                virtual.cluster.b.proxy.listener=:20000\nmetadata.refresh.ms=soon\nx=password\n";
    let file = Some(("p.properties".into(), text.to_owned()));
    let errors = Sources { file, ..sources(&[]) }.load_proxy().unwrap_err();
    assert_eq!(
        errors.to_string(),
        "9 configuration errors\
         \n  metadata.refresh.ms = \"soon\" (p.properties:10): must be milliseconds from 100 to \
         3600000, or a time with a unit such as 30s or 12h\
         \n  unknown key \"virtual.cluster.a.max.connections\" (p.properties:4); max.connections \
         holds for all clusters: set it without a cluster's name\
         \n  unknown key \"node.idss\" (p.properties:5); did you mean node.ids?\
         \n  unknown key \"virtual.cluster.a.node.id\" (p.properties:6); did you mean \
         virtual.cluster.a.node.ids?\
         \n  unknown key \"num.partitions\" (p.properties:7); it is a key of the broker, not of \
         the proxy: leave it out\
         \n  unknown key \"ssl.protocol\" (p.properties:8); it is a key of the broker, not of the \
         proxy: leave it out\
         \n  unknown key \"x\" (p.properties:11); `tidegate config reference --proxy` lists every \
         key\
         \n  unknown key \"virtual.cluster.c.node.ids\" (p.properties:3); virtual.clusters has no \
         \"c\", only a, b\
         \n  virtual.cluster.b.upstream.bootstrap.servers is not set; give the host:port of \
         brokers of the Kafka cluster behind the proxy, several separated by commas (--upstream)"
    );
}

#[test]
fn a_key_of_the_proxy_is_told_as_such_to_a_broker() {
    for key in ["upstream.bootstrap.servers", "virtual.clusters", "virtual.cluster.a.node.ids"] {
        let told = sources(&[(key, "x")]).load().unwrap_err().to_string();
        assert!(told.contains("it is a key of the proxy (`tidegate proxy`)"), "{told}");
    }
}

#[test]
fn names_of_clusters_fit_into_keys() {
    let names = |value| [("virtual.clusters", value)];
    refused(&names("a.b"), "lower-case letters, digits and hyphens");
    refused(&names("East"), "lower-case letters, digits and hyphens");
    let long = "x".repeat(64);
    refused(&[("virtual.clusters", long.as_str())], "at most 63");
    refused(&names("a,a"), "must name each cluster once, also a");
    let none = problems(&names(","));
    assert!(none[0].contains("virtual.clusters = \",\" (command line): must have a name"));
}

#[test]
fn ids_are_sorted_and_merged_and_bounded() {
    let ids = |value| match only(&[("node.ids", value)]).nodes {
        Nodes::Ports { ids, .. } => ids,
        names @ Nodes::Names { .. } => panic!("{names:?}"),
    };
    assert_eq!(ids("100-102, 5,0-3 , 4,2-4"), [0..=5, 100..=102]);
    assert_eq!(ids("1001"), [1001..=1001]);
    for wrong in ["", "a", "-1", "3-1", "1-", "1-2-3", "+1", "2147483648"] {
        refused(&[("node.ids", wrong)], "must be ids of brokers such as 1, 2 or 0-9");
    }
    let (free, many) = (("node.port.base", "0"), ("node.ids", "0-10000"));
    refused(&[free, many], "declares 10001 nodes");
    assert_eq!(only(&[free, ("node.ids", "2147483647")]).nodes.bind_port(i32::MAX), Some(0));
}

#[test]
fn the_ports_of_nodes_follow_the_listener_or_are_given() {
    let both = |flags: &[(&str, &str)]| {
        let nodes = only(flags).nodes;
        (nodes.bind_port(2).unwrap(), nodes.advertised(2).unwrap().1)
    };
    assert_eq!(both(&[("proxy.listener", ":9000")]), (9003, 9003));
    assert_eq!(both(&[("node.port.base", "7000")]), (7002, 7002));
    assert_eq!(both(&[("node.advertised.port.base", "8000")]), (19_095, 8002));
    assert_eq!(both(&[("proxy.listener", "[::1]:0"), ("node.port.base", "0")]), (0, 0));
    let free = ("proxy.listener", "127.0.0.1:0");
    assert_eq!(both(&[free, ("node.port.base", "7000")]), (7002, 7002));
    refused(&[free], "no port follows it: give node.port.base, or 0 for free ports");
    refused(&[("proxy.listener", ":65535")], "no port follows it");
    refused(&[("proxy.listener", "PLAINTEXT://:9000")], "without a protocol before it");
    refused(&[("node.port.base", "65536")], "from 0 to 65535");
    refused(&[("node.advertised.port.base", "0")], "0 is any free port");
    refused(&[("node.port.base", "0"), ("node.advertised.port.base", "1")], "0 is any free port");
}

#[test]
fn a_declared_node_without_a_port_that_exists_is_refused() {
    refused(
        &[("node.ids", "1-3,60000")],
        "node.ids = \"1-3,60000\" (command line) and node.port.base = 19093 (from proxy.listener \
         = \"127.0.0.1:19092\" (default)); node 60000 would be on port 79093 and the last port is \
         65535: declare ids up to 46442, or give a lower node.port.base",
    );
    let told = ("node.advertised.port.base", "65530");
    refused(
        &[told],
        "node 9 would be on port 65539 and the last port is 65535: declare ids up to 5",
    );
    let highest = only(&[("node.ids", "46442")]);
    assert_eq!(highest.nodes.bind_port(46_442), Some(65_535));
}

#[test]
fn clients_are_told_an_address_that_is_one() {
    let host = |flags: &[(&str, &str)]| only(flags).nodes.advertised(0).unwrap().0;
    assert_eq!(host(&[("proxy.listener", "[::1]:1000")]), "::1");
    assert_eq!(host(&[("node.advertised.host", "p.example.com")]), "p.example.com");
    assert_eq!(host(&[("node.advertised.host", "[2001:db8::1]")]), "2001:db8::1");
    let machine = Machine { hostname: "box".to_owned(), ..Machine::default() };
    let open = Sources { machine, ..sources(&[UPSTREAM, ("proxy.listener", "0.0.0.0:1000")]) };
    let config = open.load_proxy().unwrap();
    assert_eq!(config.clusters[0].nodes.advertised(0).unwrap().0, "box");
    assert_eq!(config.notes.advertised_by_hostname, ["default"]);
    for wrong in ["0.0.0.0", "[::]", "a:9092", "::1", "a b"] {
        refused(&[("node.advertised.host", wrong)], "an IPv6 address in brackets, without a port");
    }
}

#[test]
fn the_upstream_is_hosts_and_ports_and_not_the_proxy() {
    let servers = |value| [("upstream.bootstrap.servers", value)];
    for wrong in ["kafka", "kafka:0", ":9092", "0.0.0.0:9092", "PLAINTEXT://kafka:9092", "a:1,b"] {
        refused(&servers(wrong), "without a protocol before them");
    }
    refused(&servers(""), "upstream.bootstrap.servers = \"\" (command line); give the host:port");
    refused(&servers("127.0.0.1:19092"), "which is the bootstrap listener of virtual cluster");
    refused(&servers("kafka:1,127.0.0.1:19094"), "which is node 1 of virtual cluster default");
    let open = [servers("localhost:19092")[0], ("proxy.listener", ":19092")];
    refused(&open, "which is the bootstrap listener");
}

#[test]
fn ports_that_are_wanted_twice_name_both_that_want_them() {
    let two = ("virtual.clusters", "a,b");
    let a = |listener| ("virtual.cluster.a.proxy.listener", listener);
    let b = |listener| ("virtual.cluster.b.proxy.listener", listener);
    refused(
        &[two],
        "the bootstrap listener of virtual cluster a and the bootstrap listener of \
         virtual cluster b need port 19092",
    );
    refused(
        &[two, a(":1000"), b("127.0.0.1:1005")],
        "node 4 of virtual cluster a and the bootstrap listener of virtual cluster b need port \
         1005; give one of them another proxy.listener or node.port.base, or fewer node.ids \
         (virtual.cluster.b.proxy.listener, for one)",
    );
    let bases = [("virtual.cluster.b.node.port.base", "1005"), ("node.ids", "5-9")];
    refused(
        &[two, a("x:1000"), b("x:2000"), bases[0], bases[1]],
        "node 9 of virtual cluster a and node 5 of virtual cluster b need port 1010",
    );
    let apart =
        [("upstream.bootstrap.servers", "k:1"), two, a("127.0.0.1:1000"), b("127.0.0.2:1000")];
    assert_eq!(load(&apart).clusters.len(), 2);
    refused(
        &[("proxy.listener", ":1003"), ("node.port.base", "1000")],
        "the bootstrap listener of virtual cluster default and node 3 of virtual cluster default \
         need port 1003",
    );
    refused(
        &[("admin.listener", "127.0.0.1:19093")],
        "admin.listener = \"127.0.0.1:19093\" (command line) and node 0 of virtual cluster default \
         need port 19093; give the admin listener another port",
    );
}

#[test]
fn nodes_with_names_share_one_listener_with_tls() {
    let pattern = |value| ("node.advertised.pattern", value);
    let good = pattern("Broker-{id}.kafka.example.com:9093");
    let nodes = only(&[good, SSL, STORE]).nodes;
    let expected = Some(("broker-7.kafka.example.com".to_owned(), 9093));
    assert_eq!((nodes.advertised(7), nodes.bind_port(7)), (expected, None));
    assert_eq!(nodes.advertised(-1), None);
    refused(
        &[good],
        "node.advertised.pattern = \"Broker-{id}.kafka.example.com:9093\" (command line) and \
         listener.security.protocol = \"PLAINTEXT\" (default); without TLS nobody says which name \
         it connects to: set listener.security.protocol=SSL, or give each node a port",
    );
    for wrong in [
        "broker.example.com:9093",
        "b-{id}-{id}.example.com:9093",
        "b-{id}.example.com",
        "b-{id}.example.com:0",
        "b.example.com:{id}",
        "b_{id}.example.com:9093",
        "-{id}.example.com:9093",
        "10.0.0.{id}:9093",
        "b-{id}..com:9093",
        "{id}:9093",
    ] {
        refused(&[pattern(wrong), SSL, STORE], "with {id} once in the host");
    }
    for key in ["node.ids", "node.port.base", "node.advertised.port.base", "node.advertised.host"] {
        let words = format!("names stand for every id: leave out {key}");
        refused(&[good, SSL, STORE, (key, "1")], &words);
    }
}

#[test]
fn what_several_clusters_fall_back_on_may_be_of_no_use_to_one() {
    let names = "virtual.cluster.a.node.advertised.pattern";
    let two = [
        ("virtual.clusters", "a,b"),
        STORE,
        ("node.ids", "1-3"),
        ("virtual.cluster.a.listener.security.protocol", "SSL"),
        (names, "n{id}.example.com:443"),
        ("virtual.cluster.b.proxy.listener", ":2000"),
    ];
    let clusters = load(&two).clusters;
    assert!(clusters[0].tls.is_some() && clusters[1].tls.is_none());
    assert_eq!(clusters[1].nodes.bind_port(1), Some(2002));
    let own: Vec<_> = two.into_iter().chain([("virtual.cluster.a.node.ids", "1")]).collect();
    refused(&own, "leave out node.ids");
}

#[test]
fn sasl_is_on_both_sides_or_on_neither() {
    let protocols =
        |up, down| [("upstream.security.protocol", up), ("listener.security.protocol", down)];
    assert!(only(&protocols("SASL_PLAINTEXT", "sasl_plaintext")).upstream.sasl);
    refused(
        &protocols("SASL_SSL", "PLAINTEXT"),
        "listener.security.protocol = \"PLAINTEXT\" (command line) and upstream.security.protocol \
         = \"SASL_SSL\" (command line); SASL is passed through, so both sides have it or neither: \
         set listener.security.protocol=SASL_PLAINTEXT if clients authenticate to the upstream by \
         SASL, else upstream.security.protocol=SSL",
    );
    refused(
        &protocols("PLAINTEXT", "SASL_PLAINTEXT"),
        "set upstream.security.protocol=SASL_PLAINTEXT if clients authenticate to the upstream by \
         SASL, else listener.security.protocol=PLAINTEXT",
    );
    refused(&protocols("TLS", "SSL")[..1], "must be one of PLAINTEXT, SSL, SASL_PLAINTEXT");
}

#[test]
fn tls_on_the_listeners_has_a_certificate_and_knows_whom_to_trust() {
    let file = Pem::File("/k.pem".into());
    let tls = only(&[SSL, STORE]).tls.unwrap();
    assert_eq!(tls.keystore, Keystore { chain: file.clone(), key: file });
    assert_eq!((tls.truststore, tls.client_auth), (None, ClientAuth::None));
    let chain = ("ssl.keystore.certificate.chain", CERTIFICATE);
    let key = ("ssl.keystore.key", "./key.pem");
    let tls = only(&[
        SSL,
        chain,
        key,
        ("ssl.client.auth", "required"),
        ("ssl.truststore.certificates", CERTIFICATE),
    ])
    .tls
    .unwrap();
    let text = "-----BEGIN CERTIFICATE-----\nMIIB\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(tls.keystore.chain, Pem::Text(Secret::new(text)));
    assert_eq!(tls.keystore.key, Pem::File("./key.pem".into()));
    assert_eq!(tls.truststore, Some(Pem::Text(Secret::new(text))));
    assert_eq!(tls.client_auth, ClientAuth::Required);

    refused(&[SSL], "\"SSL\" (command line) without a certificate; give ssl.keystore.location");
    refused(&[SSL, chain], "(command line) without ssl.keystore.key; give both, or");
    refused(&[SSL, key], "without ssl.keystore.certificate.chain; give both, or");
    let words = "the file holds both: leave out ssl.keystore.key";
    refused(&[SSL, STORE, key], words);
    refused(&[SSL, STORE, ("ssl.client.auth", "requested")], "who signs clients' certificates");
    refused(
        &[STORE],
        "ssl.keystore.location = \"/k.pem\" (command line) and listener.security.protocol = \
         \"PLAINTEXT\" (default); set listener.security.protocol=SSL, or leave out",
    );
}

#[test]
fn tls_to_the_upstream_verifies_host_names_unless_it_is_told_not_to() {
    let ssl = ("upstream.security.protocol", "SSL");
    let identification = "upstream.ssl.endpoint.identification.algorithm";
    let tls = only(&[ssl]).upstream.tls.unwrap();
    assert!(tls.verify_hostname && tls.truststore.is_none() && tls.keystore.is_none());
    let own = [
        ssl,
        (identification, ""),
        ("upstream.ssl.truststore.location", "ca.pem"),
        ("upstream.ssl.keystore.location", "me.pem"),
    ];
    let tls = only(&own).upstream.tls.unwrap();
    assert!(!tls.verify_hostname);
    assert_eq!(tls.truststore, Some(Pem::File("ca.pem".into())));
    assert_eq!(tls.keystore.map(|it| it.key), Some(Pem::File("me.pem".into())));
    refused(&[ssl, (identification, "ldaps")], "must be https, or empty");
    refused(&[(identification, "")], "set upstream.security.protocol=SSL, or leave out");
    let two = [
        ssl,
        ("upstream.ssl.truststore.location", "ca.pem"),
        ("upstream.ssl.truststore.certificates", CERTIFICATE),
    ];
    refused(&two, "give one of them");
}

#[test]
fn a_key_in_the_configuration_is_never_shown() {
    let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----";
    let chain = ("ssl.keystore.certificate.chain", CERTIFICATE);
    let config = load(&[SSL, chain, ("ssl.keystore.key", key)]);
    assert!(!format!("{config:?}").contains("hunter2"));
    for wrong in ["hunter2", "-----BEGIN PRIVATE KEY-----hunter2", "-----BEGIN X-----hunter2"] {
        let told = problems(&[SSL, chain, ("ssl.keystore.key", wrong)]);
        assert_eq!(
            told,
            ["ssl.keystore.key = \"***\" (command line): must be text in PEM from -----BEGIN to \
              -----END, or the path of a file with it that begins with / or a dot"]
        );
    }
    let told = problems(&[chain, ("ssl.keystore.key", key)]).join("\n");
    assert!(told.contains("leave out ssl.keystore.key") && !told.contains("hunter2"), "{told}");
}

#[test]
fn a_connection_lives_for_ever_or_for_a_second_at_least() {
    let age = |value| only(&[("connection.max.age.ms", value)]).connection_age_max;
    assert_eq!((age("1s"), age("-1")), (Some(Duration::from_secs(1)), None));
    refused(&[("connection.max.age.ms", "999")], "must be -1 for ever, or at least 1s");
    assert_eq!(load(&[("connections.max.idle.ms", "-1")]).limits.connection_idle_max, None);
}

#[test]
fn the_file_in_the_docs_is_a_configuration() {
    let page = include_str!("../../../../docs/proxy.md");
    let (_, rest) = page.split_once("```toml\n# tidegate proxy").unwrap();
    let (file, _) = rest.split_once("```").unwrap();
    let file = Some(("proxy.toml".into(), format!("#{file}")));
    let config = Sources { file, ..sources(&[]) }.load_proxy().unwrap();
    let nodes = &config.clusters[0].nodes;
    assert_eq!(nodes.advertised(6), Some(("kafka.example.com".to_owned(), 9099)));
}
