//! The drawn text of each tab, for a known picture.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::super::model::{GroupRow, NodeRow, TopicRow};
use super::super::process::{Api, Bucket, Pool, Process, Tier, Wal};
use super::*;

fn picture() -> Picture {
    let topic = |name: &str, rate: f64, under: usize, offline: usize| TopicRow {
        name: name.to_owned(),
        partitions: 6,
        replication_factor: 3,
        records_in_per_second: Some(rate),
        size_bytes: Some(3 << 30),
        under_replicated: under,
        offline,
        ..TopicRow::default()
    };
    let group = |name: &str, lag: Option<i64>, never: bool| GroupRow {
        group: name.to_owned(),
        state: Some("Stable".to_owned()),
        members: Some(3),
        coordinator: 1,
        lag,
        consumed_per_second: Some(50.0),
        produced_per_second: Some(40.0),
        catch_up_seconds: (!never).then_some(185.0),
        never_catches_up: never,
        ..GroupRow::default()
    };
    let node = |id: i32| NodeRow {
        id,
        address: format!("kafka-{id}.example.com:9092"),
        controller: id == 1,
        leads: 6,
        replicas: 12,
        volume_free_bytes: Some(1 << 30),
        volume_bytes: Some(100 << 30),
        ..NodeRow::default()
    };
    Picture {
        cluster_id: Some("abc".to_owned()),
        controller: Some(1),
        time: 1_795_341_600_000,
        interval_seconds: Some(2.0),
        group_interval_seconds: Some(15.0),
        nodes: vec![node(1), node(2)],
        topics: vec![topic("orders", 12_345.0, 0, 0), topic("audit", 99_999.0, 2, 1)],
        groups: vec![group("billing", Some(1_850), false), group("archive", Some(90_000), true)],
        ..Picture::default()
    }
}

fn with_process() -> Picture {
    let api = |name: &str, rate: f64| Api {
        api: name.to_owned(),
        requests_per_second: Some(rate),
        p99_seconds: Some(0.002_5),
        received_bytes_per_second: Some(2_048.0),
        sent_bytes_per_second: Some(1_048_576.0),
        errors_per_second: Some(0.0),
    };
    let pool = |name: &str, used: f64| Pool {
        pool: name.to_owned(),
        used_bytes: used,
        limit_bytes: Some(1_048_576.0),
    };
    let process = Process {
        url: "http://127.0.0.1:9464/metrics".to_owned(),
        version: "0.1.0".to_owned(),
        role: "broker".to_owned(),
        uptime_seconds: Some(7_800.0),
        cpu: Some(0.5),
        resident_bytes: Some(1_048_576.0),
        connections: Some(12.0),
        connections_limit: Some(1_000.0),
        apis: vec![api("Fetch", 10.0), api("Produce", 700.0)],
        memory_pools: vec![pool("receive", 1_024.0), pool("wal", 1_000_000.0)],
        wal: Some(Wal { bytes: 1_024.0, limit_bytes: Some(4_096.0), ..Wal::default() }),
        tier: Some(Tier { cache_hit_ratio: Some(0.973), ..Tier::default() }),
        bucket: Some(Bucket { errors_per_second: Some(3.0), ..Bucket::default() }),
        ..Process::default()
    };
    Picture { process: Some(process), ..picture() }
}

/// The lines of the screen, after these keys.
fn drawn_on(
    size: (u16, u16),
    picture: Option<&Picture>,
    status: &Status,
    keys: &str,
) -> Vec<String> {
    let mut controls = Controls::default();
    for letter in keys.chars() {
        let code = if letter == '\n' { KeyCode::Enter } else { KeyCode::Char(letter) };
        controls.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, picture, status, &mut controls)).unwrap();
    let cells = terminal.backend().buffer().content();
    let line = |cells: &[ratatui::buffer::Cell]| {
        let text: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.trim_end().to_owned()
    };
    cells.chunks(usize::from(size.0)).map(line).collect()
}

fn status() -> Status {
    Status { server: "127.0.0.1:9092".to_owned(), every: "2.0s".to_owned(), ..Status::default() }
}

fn drawn(picture: &Picture, keys: &str) -> Vec<String> {
    drawn_on((120, 30), Some(picture), &status(), keys)
}

/// The first line that begins with this.
fn line<'a>(lines: &'a [String], begin: &str) -> &'a str {
    let found = lines.iter().find(|line| line.starts_with(begin));
    found.unwrap_or_else(|| panic!("no line begins with {begin:?}:\n{}", lines.join("\n")))
}

/// Its words.
fn words<'a>(lines: &'a [String], begin: &str) -> Vec<&'a str> {
    line(lines, begin).split_whitespace().collect()
}

#[test]
fn the_head_says_which_cluster_when_and_where_from() {
    let lines = drawn(&picture(), "");
    let head = "tidegate top  cluster abc  nodes 2  controller 1  10:00:00 UTC  every 2.0s";
    assert_eq!(lines[0], head);
    assert_eq!(lines[1], "no metrics of a Tidegate; --metrics tells where they are");
    assert_eq!(lines[2], " 1 overview  2 topics  3 groups  4 metrics");
    assert_eq!(drawn(&with_process(), "")[1], "metrics http://127.0.0.1:9464/metrics");
    assert!(drawn(&picture(), "p")[0].ends_with("  paused"));
    let mut noted = picture();
    noted.notes = vec!["groups of node 2: it is away".to_owned(), "more".to_owned()];
    assert_eq!(drawn(&noted, "")[1], "not known: groups of node 2: it is away (and 1 more)");
}

#[test]
fn an_error_is_shown_above_what_was_seen_last() {
    let status =
        Status { error: Some("no server answers".to_owned()), waiting: Some(7), ..status() };
    let lines = drawn_on((120, 30), Some(&picture()), &status, "2");
    assert!(lines[0].ends_with("  waiting for 7 s"), "{}", lines[0]);
    assert_eq!(lines[1], "error: no server answers");
    line(&lines, "orders");
    let lines = drawn_on((120, 30), None, &status, "");
    assert_eq!(lines[1], "error: no server answers");
    assert_eq!(lines[3], "asking 127.0.0.1:9092 …");
}

#[test]
fn the_overview_has_a_little_of_everything() {
    let lines = drawn(&with_process(), "");
    let totals = "topics 2  partitions 12  records in 112,344/s  groups 2  lag 91,850  \
                  under-replicated 2  offline 1";
    assert_eq!(line(&lines, "topics 2"), totals);
    let node = ["1", "kafka-1.example.com:9092", "-", "controller", "6", "12", "-", "1.0", "GiB"];
    assert_eq!(words(&lines, "   1  kafka-1")[..9], node);
    let busiest = words(&lines, "audit");
    assert_eq!(
        busiest,
        ["audit", "6", "99,999", "3.0", "GiB", "archive", "Stable", "90,000", "50", "never"]
    );
    assert_eq!(words(&lines, "orders")[5..], ["billing", "Stable", "1,850", "50", "3m05s"]);
    assert_eq!(line(&lines, "tidegate  "), "tidegate         broker 0.1.0, up 2h10m");
    line(&lines, "write-ahead log  1.0 KiB of 4.0 KiB");
    assert!(line(&lines, "cache").ends_with("97.3 % hits"));
    assert!(line(&lines, "bucket").contains("3.0 errors/s"));
}

#[test]
fn topics_are_sorted_and_filtered() {
    let order = |keys: &str| {
        let lines = drawn(&picture(), keys);
        let names = lines.iter().filter_map(|line| line.split_whitespace().next());
        names
            .filter(|name| ["orders", "audit"].contains(name))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(order("2"), ["audit", "orders"]);
    assert_eq!(order("2r"), ["orders", "audit"]);
    assert_eq!(order("2<<<"), ["audit", "orders"]);
    assert_eq!(order("2<<<r"), ["orders", "audit"]);
    assert_eq!(order("2/ORD\n"), ["orders"]);
    let lines = drawn(&picture(), "2/ord\n");
    assert_eq!(line(&lines, "topics"), "topics: 1 of 2");
    assert!(line(&lines, "only \"ord\" (Esc: all)").contains("q quit"));
    assert_eq!(words(&lines, "orders"), ["orders", "6", "3", "12,345", "3.0", "GiB", "0", "0"]);
    assert_eq!(words(&lines, "TOPIC")[3..5], ["RECORDS", "IN/S"]);
    let typing = drawn(&picture(), "2/or");
    assert!(typing[29].starts_with("/or█"), "{}", typing[29]);
}

#[test]
fn groups_have_their_lag_and_when_it_ends() {
    let mut with_more = picture();
    with_more.groups_omitted = 7;
    let lines = drawn(&with_more, "3");
    assert_eq!(line(&lines, "groups"), "groups: 2 of 2, 7 more not asked for");
    let archive = ["archive", "Stable", "-", "3", "90,000", "50", "40", "never", "1"];
    assert_eq!(words(&lines, "archive"), archive);
    let billing = ["billing", "Stable", "-", "3", "1,850", "50", "40", "3m05s", "1"];
    assert_eq!(words(&lines, "billing"), billing);
    with_more.groups[0].lag_seconds = Some(75.0);
    let lines = drawn(&with_more, "3");
    assert_eq!(words(&lines, "billing")[5], "1m15s");
    assert_eq!(words(&lines, "GROUP")[5], "BEHIND");
}

#[test]
fn metrics_are_of_requests_and_memory() {
    let lines = drawn(&with_process(), "4");
    let produce = words(&lines, "Produce");
    assert_eq!(produce[..7], ["Produce", "700", "2.5ms", "2.0", "KiB/s", "1.0", "MiB/s"]);
    assert_eq!(produce[8..], ["wal", "976.6", "KiB", "1.0", "MiB", "95.4", "%"]);
    assert!(line(&lines, "connections").ends_with("12 of 1,000"));
    let lines = drawn(&picture(), "4");
    assert!(line(&lines, "--metrics http://").contains("9464"));
}

#[test]
fn help_lies_over_the_tab_and_goes_with_any_key() {
    let lines = drawn(&picture(), "2?");
    assert!(lines.iter().any(|line| line.contains("quit") && line.contains("Ctrl-C")));
    line(&drawn(&picture(), "2?x"), "orders");
}

#[test]
fn rows_that_do_not_fit_are_scrolled_to() {
    let mut many = picture();
    let row = many.topics.remove(0);
    many.topics = (0..100).map(|n| TopicRow { name: format!("t{n:02}"), ..row.clone() }).collect();
    let lines = drawn(&many, "2");
    line(&lines, "t00");
    assert!(!lines.iter().any(|line| line.starts_with("t99")));
    let lines = drawn(&many, "2G");
    line(&lines, "t99");
    assert!(!lines.iter().any(|line| line.starts_with("t00")));
}

#[test]
fn a_small_screen_shows_what_fits() {
    for size in [(1, 1), (20, 3), (40, 10), (80, 24), (300, 100)] {
        for keys in ["", "2", "3", "4", "?", "/x"] {
            let lines = drawn_on(size, Some(&with_process()), &status(), keys);
            assert_eq!(lines.len(), usize::from(size.1));
        }
    }
    let lines = drawn_on((40, 10), Some(&picture()), &status(), "3");
    assert_eq!(words(&lines, "archive"), ["archive", "Stable", "-", "3", "90,000"]);
}

#[test]
fn what_a_server_says_moves_no_cursor() {
    let mut evil = picture();
    evil.topics[0].name = "\u{1b}[2Jor\nders".to_owned();
    evil.cluster_id = Some("\u{1b}]0;x\u{7}".to_owned());
    let status = Status { error: Some("\u{1b}[31m".to_owned()), ..status() };
    for keys in ["", "2", "2/\u{1b}"] {
        let lines = drawn_on((120, 30), Some(&evil), &status, keys);
        assert!(!lines.concat().contains(char::is_control), "{lines:?}");
    }
}
