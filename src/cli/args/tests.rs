//! The command line, as it is typed.

use clap::CommandFactory;

use super::super::consume::{Format, Start, Stop};
use super::super::{Connection, EXIT_USAGE, Settings, Wanted};
use super::consume::{Consume, Isolation};
use super::topic::TopicAction;
use super::*;
use crate::client::Acks;
use crate::config::{Role, Sources};
use crate::protocol::compression::Compression;

fn parsed(args: &[&str]) -> Command {
    let all = std::iter::once("tidegate").chain(args.iter().copied());
    Cli::try_parse_from(all).unwrap().into_command()
}

fn flags(pairs: &[(&str, &str)]) -> Settings {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Settings { file: None, flags: pairs.iter().map(owned).collect(), take_over: false }
}

#[test]
fn what_speaks_to_a_cluster_is_told_which_before_and_behind_the_command() {
    let expected = Connection {
        bootstrap: Some("a:1".to_owned()),
        file: Some("f".into()),
        properties: vec![("client.id".to_owned(), "me".to_owned())],
        timeout: Some(std::time::Duration::from_secs(5)),
    };
    let flags = ["-b=a:1", "--command-config=f", "-X", "client.id=me", "--timeout", "5s"];
    let before = [&["topic"], &flags[..], &["list", "--internal"]].concat();
    let behind = [&["topic", "list", "--internal"], &flags[..]].concat();
    for args in [before, behind] {
        let Command::Topic(remote) = parsed(&args) else { panic!("{args:?}") };
        assert_eq!(remote.connection, expected);
        assert_eq!(remote.action, TopicAction::List { internal: true });
    }
}

#[test]
fn what_is_produced_is_said_by_flags_and_none_of_them_twice() {
    let args = ["produce", "orders", "f", "-K\\t", "-Ha=b=c", "-Z", "NULL", "-p3", "--acks=1"];
    let Command::Produce { connection, wanted } =
        parsed(&[&args[..], &["--compression=zstd", "-b=a:1"]].concat())
    else {
        panic!("{args:?}")
    };
    assert_eq!(connection.bootstrap.as_deref(), Some("a:1"));
    assert_eq!((wanted.topic.as_str(), wanted.file), ("orders", Some("f".into())));
    assert_eq!(wanted.key_separator.as_deref(), Some("\t"));
    assert_eq!(wanted.headers, [("a".to_owned(), "b=c".to_owned())]);
    assert_eq!((wanted.null_value.as_deref(), wanted.partition), (Some("NULL"), Some(3)));
    assert_eq!((wanted.acks, wanted.compression), (Acks::Leader, Compression::Zstd));
    let Command::Produce { wanted, .. } = parsed(&["produce", "orders", "-"]) else { panic!() };
    assert_eq!((wanted.file, wanted.acks), (None, Acks::All));
    assert_eq!(wanted.compression, Compression::None);
    for wrong in [
        &["produce"][..],
        &["produce", "t", "-K", ""],
        &["produce", "t", "-K:", "-k", "key"],
        &["produce", "t", "-p-1"],
        &["produce", "t", "-p1", "--repartition"],
        &["produce", "t", "--acks", "2"],
        &["produce", "t", "--compression", "brotli"],
        &["produce", "t", "-H", "none"],
        &["bench", "--record-bytes", "23"],
        &["bench", "--rate", "0"],
        &["bench", "--producers", "0"],
        &["bench", "--topic", "t", "--partitions", "3"],
        &["demo", "--rate", "0"],
        &["demo", "--duration", "soon"],
    ] {
        let all = ["tidegate"].iter().chain(wrong);
        let error = Cli::try_parse_from(all).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{wrong:?}");
    }
}

#[test]
fn a_measurement_has_its_defaults_and_a_demo_goes_on() {
    let Command::Bench(remote) = parsed(&["bench", "--record-bytes=24"]) else { panic!() };
    let wanted = &remote.action;
    assert_eq!((wanted.record_bytes, wanted.rate, wanted.partitions), (24, None, 6));
    assert_eq!((wanted.producers, wanted.consumers, wanted.duration.as_secs()), (1, 1, 10));
    assert_eq!((wanted.topic.as_ref(), wanted.replication_factor), (None, None));
    let Command::Demo { shown, .. } = parsed(&["demo"]) else { panic!() };
    assert_eq!((shown.rate.get(), shown.duration, shown.clean), (20, None, false));
}

#[test]
fn a_reset_says_which_groups_which_partitions_and_where_to_once_each() {
    let reset = ["group", "reset-offsets"];
    for wrong in [
        &["g", "--topic", "t"][..],
        &["g", "--to-latest"],
        &["--topic", "t", "--to-latest"],
        &["g", "--all-groups", "--topic", "t", "--to-latest"],
        &["g", "--topic", "t", "--all-topics", "--to-latest"],
        &["g", "--topic", "t", "--to-latest", "--to-offset", "1"],
        &["g", "--topic", "t", "--from-file", "f"],
        &["g", "--topic", "t", "--to-latest", "--execute", "--dry-run"],
    ] {
        let all = ["tidegate"].iter().chain(&reset).chain(wrong);
        let error = Cli::try_parse_from(all).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{wrong:?}");
    }
    for right in [
        &["g", "h", "--topic", "t:0,1", "--topic", "u", "--shift-by", "-5"][..],
        &["--all-groups", "--all-topics", "--by-duration", "-PT1H", "--export"],
        &["g", "--from-file", "f", "--execute"],
    ] {
        assert!(matches!(parsed(&[&reset[..], right].concat()), Command::Group(_)), "{right:?}");
    }
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn no_command_is_serve_with_the_same_flags() {
    assert_eq!(parsed(&[]), Command::Serve(Settings::default()));
    let args = ["--data-dir", "/d", "--set", "num.partitions=3", "--set", "a=b=c"];
    let expected =
        Command::Serve(flags(&[("num.partitions", "3"), ("a", "b=c"), ("data.dir", "/d")]));
    assert_eq!(parsed(&args), expected);
    let with_command: Vec<_> = std::iter::once("serve").chain(args).collect();
    assert_eq!(parsed(&with_command), expected);
}

#[test]
fn the_other_commands_are_found() {
    assert_eq!(
        parsed(&["config", "reference", "--markdown"]),
        Command::ConfigReference { role: Role::Broker, markdown: true }
    );
    assert_eq!(
        parsed(&["config", "reference", "--proxy"]),
        Command::ConfigReference { role: Role::Proxy, markdown: false }
    );
    assert_eq!(
        parsed(&["config", "schema", "--proxy"]),
        Command::ConfigSchema { role: Role::Proxy }
    );
    let file = Settings { file: Some("f".into()), ..Settings::default() };
    assert_eq!(
        parsed(&["config", "check", "--config", "f"]),
        Command::ConfigCheck { settings: file, role: Role::Broker }
    );
    assert_eq!(
        parsed(&["proxy", "--upstream", "a:1", "--set", "node.ids=1"]),
        Command::Proxy(flags(&[("node.ids", "1"), ("upstream.bootstrap.servers", "a:1")]))
    );
    assert_eq!(
        parsed(&["wal", "check", "--data-dir", "/d"]),
        Command::WalCheck(flags(&[("data.dir", "/d")]))
    );
    let settings = flags(&[("data.dir", "/d")]);
    assert_eq!(
        parsed(&["bucket", "check", "--json", "--data-dir", "/d"]),
        Command::BucketCheck { settings: settings.clone(), json: true }
    );
    assert_eq!(
        parsed(&["bucket", "restore", "--data-dir", "/d"]),
        Command::BucketRestore {
            settings: settings.clone(),
            wanted: Wanted { json: false, offset_gap: 1_000_000_000, skip_damaged: false }
        }
    );
    assert_eq!(
        parsed(&["doctor", "--json", "--data-dir", "/d"]),
        Command::Doctor { settings, role: Role::Broker, json: true }
    );
    assert_eq!(
        parsed(&["doctor", "--upstream", "a:1"]),
        Command::Doctor {
            settings: flags(&[("upstream.bootstrap.servers", "a:1")]),
            role: Role::Proxy,
            json: false
        }
    );
}

#[test]
fn a_proxy_takes_its_own_flags_and_none_of_the_brokers() {
    let args = ["proxy", "--upstream=a:1,b:2", "--admin-listener=:3", "--set=x=y"];
    let keys = [("x", "y"), ("upstream.bootstrap.servers", "a:1,b:2"), ("admin.listener", ":3")];
    assert_eq!(parsed(&args), Command::Proxy(flags(&keys)));
    for wrong in ["--proxy", "--data-dir=/d", "--take-over"] {
        let error = Cli::try_parse_from(["tidegate", "proxy", wrong]).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{wrong}");
    }
}

#[test]
fn a_flag_of_the_proxy_makes_it_a_proxys_configuration() {
    let proxy = |args: &[&str]| match parsed(args) {
        Command::ConfigCheck { settings, role: Role::Proxy } => settings,
        other => panic!("{other:?}"),
    };
    let args = ["config", "check", "--upstream=a:1", "--listen=:2", "--node-ids=1-3", "-sx=y"];
    let keys = [
        ("x", "y"),
        ("upstream.bootstrap.servers", "a:1"),
        ("proxy.listener", ":2"),
        ("node.ids", "1-3"),
    ];
    assert_eq!(proxy(&args), flags(&keys));
    let common = ["config", "check", "--proxy", "--admin-listener=:3", "--log-level=debug"];
    assert_eq!(proxy(&common), flags(&[("admin.listener", ":3"), ("log.level", "debug")]));
    let flags = proxy(&args).flags.into_iter().filter(|(key, _)| key != "x").collect();
    let config = Sources { flags, ..Sources::default() }.load_proxy().unwrap();
    assert_eq!(config.clusters[0].listener.port, 2);
}

#[test]
fn flags_of_broker_and_proxy_do_not_go_together() {
    for args in [["--proxy", "--data-dir=/d"], ["--upstream=a:1", "--take-over"]] {
        let all = ["tidegate", "config", "check"].into_iter().chain(args);
        let error = Cli::try_parse_from(all).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{args:?}");
    }
}

#[test]
fn a_setting_without_a_value_is_a_usage_error() {
    for wrong in ["num.partitions", "=3", ""] {
        let error = Cli::try_parse_from(["tidegate", "--set", wrong]).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{wrong}");
    }
}

#[test]
fn an_offset_gap_that_would_give_offsets_out_again_is_a_usage_error() {
    for wrong in ["0", "-1", "1099511627777", "many"] {
        let args = ["tidegate", "bucket", "restore", "--offset-gap", wrong];
        let error = Cli::try_parse_from(args).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{wrong}");
    }
}

#[test]
fn every_flag_of_its_own_sets_a_key_that_exists() {
    let args = [
        "--data-dir=/d",
        "--listeners=PLAINTEXT://127.0.0.1:1",
        "--advertised-listeners=PLAINTEXT://a:1",
        "--admin-listener=127.0.0.1:2",
        "--log-level=debug",
    ];
    let Command::Serve(settings) = parsed(&args) else { panic!("not serve") };
    assert_eq!(settings.flags.len(), args.len());
    let config = Sources { flags: settings.flags, ..Sources::default() }.load().unwrap();
    assert_eq!(config.process.log_level, "debug");
    assert_eq!(config.server.listeners[0].advertised.to_string(), "a:1");
}

fn consume(args: &[&str]) -> Result<Consume, i32> {
    let all = ["tidegate", "consume"].iter().chain(args);
    match Cli::try_parse_from(all).map(Cli::into_command) {
        Ok(Command::Consume(asked)) => Ok(asked.1),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.exit_code()),
    }
}

#[test]
fn what_is_consumed_is_told_by_flags() {
    let bare = consume(&["orders"]).unwrap();
    assert_eq!((bare.from, bare.to, bare.follow), (None, None, false));
    assert_eq!(bare.format, Format::parse("%v\\n").unwrap());
    assert_eq!(bare.isolation, Isolation::ReadUncommitted);
    // A number with a sign is a value, and no flag.
    let last = consume(&["orders", "clicks:0,1", "--from", "-10", "-f", "-n", "3"]).unwrap();
    assert_eq!((last.from, last.follow, last.max_records), (Some(Start::Last(10)), true, Some(3)));
    assert_eq!(last.topics, ["orders", "clicks:0,1"]);
    let parts = consume(&["orders", "-p", "0", "--partition=2", "--to", "@7"]).unwrap();
    assert_eq!((parts.partition, parts.to), (vec![0, 2], Some(Stop::Time(7))));
    let group = consume(&["orders", "-g", "billing", "--isolation=read_committed"]).unwrap();
    assert_eq!(group.group.as_deref(), Some("billing"));
    assert_eq!(group.isolation, Isolation::ReadCommitted);
    for wrong in [
        &[][..],
        &["orders", "--from", "yesterday"],
        &["orders", "--to", "-1"],
        &["orders", "--group", "g", "--partition", "1"],
        &["orders", "--group", "g", "--to", "end"],
        &["orders", "--partition=-1"],
        &["orders", "-n", "0"],
        &["orders", "--format", "%q"],
        &["orders", "--key-format", "octal"],
    ] {
        assert_eq!(consume(wrong), Err(i32::from(EXIT_USAGE)), "{wrong:?}");
    }
}

#[test]
fn a_watch_has_an_interval_and_knows_where_metrics_are() {
    use super::super::top::MetricsFrom;
    let top = |args: &[&str]| {
        let Command::Top(top) = parsed(&[&["top"], args].concat()) else { panic!("{args:?}") };
        top
    };
    let plain = top(&[]);
    assert_eq!(plain.interval, std::time::Duration::from_secs(2));
    assert_eq!((plain.once, &plain.metrics), (false, &MetricsFrom::WhereTheyMayBe));
    assert_eq!(top(&["--no-metrics"]).metrics, MetricsFrom::Nowhere);
    let given = top(&["-b=a:1", "--once", "--interval=500ms", "--metrics=http://a:2/m"]);
    assert_eq!((given.interval, given.once), (std::time::Duration::from_millis(500), true));
    let MetricsFrom::Page(page) = &given.metrics else { panic!("{given:?}") };
    assert_eq!(page.to_string(), "http://a:2/m");
    for wrong in [
        &["--interval", "99ms"][..],
        &["--metrics", "a:1"],
        &["--metrics", "http://a:1", "--no-metrics"],
        &["topics"],
    ] {
        let error = Cli::try_parse_from([&["tidegate", "top"], wrong].concat()).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{wrong:?}");
    }
}
