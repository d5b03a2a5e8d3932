//! `tidegate top` against a broker: one picture for scripts, and the screen of a terminal.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::cli_admin::{column, commit, join, start, write};
use crate::harness::{Options, free_port, send_signal, until};
use crate::requests::create_topic;

/// Looks quickly.
const ONCE: [&str; 4] = ["top", "--once", "--interval", "100ms"];

/// The row of this name.
fn named<'a>(rows: &'a Value, field: &str, name: &str) -> &'a Value {
    let found = rows.as_array().unwrap().iter().find(|row| row[field] == name);
    found.unwrap_or_else(|| panic!("no {name} in {rows:#}"))
}

#[test]
fn one_picture_has_topics_groups_and_their_lag() {
    let (broker, cli, mut wire) = start();
    create_topic(&mut wire, "orders", 2);
    write(&mut wire, "orders", 0, &[1_000, 2_000, 3_000, 4_000]);
    write(&mut wire, "orders", 1, &[5_000]);
    commit(&mut wire, "billing", "orders", &[1, 1]);
    join(&mut wire, "active", "orders");
    let picture = cli.json(&[&ONCE[..], &["--no-metrics"]].concat());
    let node = &picture["nodes"][0];
    assert_eq!((&node["address"], &node["leads"]), (&json!(broker.address()), &node["replicas"]));
    assert_eq!((&node["controller"], &picture["controller"]), (&json!(true), &node["id"]));
    assert!(node["volume_bytes"].as_i64() >= node["volume_free_bytes"].as_i64());
    let topic = named(&picture["topics"], "name", "orders");
    assert_eq!((&topic["partitions"], &topic["replication_factor"]), (&json!(2), &json!(1)));
    assert_eq!((&topic["under_replicated"], &topic["offline"]), (&json!(0), &json!(0)));
    assert_eq!(topic["records_in_per_second"], 0.0);
    assert!(topic["size_bytes"].as_i64().unwrap() > 0);
    let offsets = named(&picture["topics"], "name", "__consumer_offsets");
    assert_eq!(offsets["internal"], true);
    assert_eq!(column(&picture["groups"], "group"), ["active", "billing"]);
    let active = named(&picture["groups"], "group", "active");
    assert_eq!((&active["state"], &active["members"]), (&json!("Stable"), &json!(1)));
    assert_eq!(active["lag"], Value::Null);
    let billing = named(&picture["groups"], "group", "billing");
    assert_eq!((&billing["state"], &billing["members"]), (&json!("Empty"), &json!(0)));
    assert_eq!((&billing["lag"], &billing["coordinator"]), (&json!(3), &node["id"]));
    assert_eq!(
        (&billing["consumed_per_second"], &billing["never_catches_up"]),
        (&json!(0.0), &json!(true))
    );
    assert_eq!((&picture["process"], &picture["notes"]), (&Value::Null, &json!([])));
    assert!(picture["interval_seconds"].as_f64().unwrap() >= 0.1);

    // A pipe gets text without being told so.
    let text = cli.done(&["top", "--interval", "100ms", "--no-metrics"]);
    assert!(text.err.is_empty() && !text.out.contains('\u{1b}'), "{text:?}");
    let line = text.out.lines().find(|line| line.starts_with("billing")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!((words[1], words[3], words[4]), ("Empty", "0", "3"), "{text:?}");
}

#[test]
fn rates_and_metrics_are_of_what_happens_meanwhile() {
    let (broker, cli, mut wire) = start();
    create_topic(&mut wire, "orders", 1);
    create_topic(&mut wire, "idle", 1);
    let page = format!("http://127.0.0.1:{}/metrics", broker.admin_port());
    let asked = [&ONCE[..], &["--metrics", &page]].concat();
    let done = AtomicBool::new(false);
    let picture = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                write(&mut wire, "orders", 0, &[1_000; 10]);
            }
        });
        // A slow disk may have nothing written in between.
        let picture = std::panic::catch_unwind(|| {
            until("records come in", || {
                let picture = cli.json(&asked);
                let rate = &named(&picture["topics"], "name", "orders")["records_in_per_second"];
                (rate.as_f64().unwrap() > 0.0).then_some(picture)
            })
        });
        done.store(true, Ordering::Relaxed);
        picture.unwrap()
    });
    let idle = named(&picture["topics"], "name", "idle");
    assert_eq!(idle["records_in_per_second"], 0.0);
    let process = &picture["process"];
    assert_eq!((&process["url"], &process["role"]), (&json!(page), &json!("broker")));
    assert_eq!(process["version"], env!("CARGO_PKG_VERSION"));
    let produce = named(&process["apis"], "api", "Produce");
    assert!(produce["requests_per_second"].is_f64() && produce["errors_per_second"] == 0.0);
    for pool in ["receive", "wal", "tail", "send"] {
        let pool = named(&process["memory_pools"], "pool", pool);
        assert!(pool["limit_bytes"].as_f64() >= pool["used_bytes"].as_f64(), "{pool}");
    }
    assert!(process["wal"]["bytes"].as_f64().unwrap() > 0.0, "{process:#}");
    assert!(process["tier"]["lag_bytes"].is_f64() && process["bucket"].is_object());
    assert!(process["uptime_seconds"].is_f64() && process["connections"].as_f64() >= Some(1.0));
    assert_eq!((&process["wrong_lines"], &process["proxy"]), (&json!(0), &Value::Null));
    let text = cli.done(&asked).out;
    for part in ["write-ahead log", "byte budget", "REQUESTS/S", "not in bucket", "bucket"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn what_cannot_be_asked_is_said() {
    let (_broker, cli, _) = start();
    let port = free_port();
    let gone = format!("http://127.0.0.1:{port}/metrics");
    let ran = cli.done(&[&ONCE[..], &["--metrics", &gone]].concat());
    assert!(ran.err.contains(&format!("metrics: {gone}: Connection refused")), "{ran:?}");
    assert!(ran.out.contains("nodes 1"), "{ran:?}");
    let nobody = format!("127.0.0.1:{port}");
    let refused = cli.refused(1, &[&ONCE[..], &["-b", &nobody]].concat());
    assert!(refused.contains(&format!("{nobody} refused the connection")), "{refused}");
    for wrong in [
        &["--interval", "10ms"][..],
        &["--interval", "soon"],
        &["--metrics", "https://127.0.0.1:1/metrics"],
        &["--metrics", "http://127.0.0.1:1/", "--no-metrics"],
    ] {
        cli.refused(2, &[&["top"], wrong].concat());
    }
}

/// A terminal of 120 columns and 40 lines with `top` in it, by script(1).
struct Terminal {
    child: Child,
    /// All that was written to it.
    written: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(address: &str) -> Self {
        let binary = Options::new().binary;
        let top = format!(
            "stty rows 40 cols 120; echo pid=$$.; exec '{}' top --no-metrics --interval 100ms -b {address}",
            binary.display()
        );
        let mut child = Command::new("script")
            .args(["-qec", &top, "/dev/null"])
            .envs([("TERM", "xterm-256color"), ("SHELL", "/bin/sh")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script is part of every Debian");
        let (written, mut out) = (Arc::new(Mutex::new(Vec::new())), child.stdout.take().unwrap());
        let into = Arc::clone(&written);
        std::thread::spawn(move || {
            let mut piece = [0; 4_096];
            while let Ok(read @ 1..) = out.read(&mut piece) {
                into.lock().unwrap().extend_from_slice(&piece[..read]);
            }
        });
        Self { child, written }
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// The lines that somebody sees.
    fn screen(&self) -> String {
        screen(&self.written())
    }

    fn wait_for(&self, text: &str) {
        let seen = || self.screen().contains(text).then_some(());
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| until(text, seen)));
        assert!(waited.is_ok(), "no {text:?} on the screen:\n{}", self.screen());
    }

    fn press(&mut self, keys: &str) {
        self.child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// The process's own id; script runs it in another one.
    fn pid(&self) -> u32 {
        let written = self.written();
        let pid = written.split_once("pid=").and_then(|(_, rest)| rest.split_once('.'));
        pid.unwrap().0.parse().unwrap()
    }

    /// Waits for the end: the exit code. The terminal must be as it was.
    fn end(mut self) -> Option<i32> {
        let code = self.child.wait().unwrap().code();
        until("all is read", || (Arc::strong_count(&self.written) == 1).then_some(()));
        let written = self.written();
        for (on, off) in [("\u{1b}[?1049h", "\u{1b}[?1049l"), ("\u{1b}[?25l", "\u{1b}[?25h")] {
            assert!(written.rfind(on) < written.rfind(off), "{on:?} lasts: {written:?}");
        }
        code
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal shows after this was written to it, as far as `top` uses terminals: the cursor
/// is set, the screen is cleared, text is written.
fn screen(written: &str) -> String {
    let mut cells = vec![[' '; 120]; 40];
    let (mut row, mut column) = (0, 0);
    let mut rest = written.split_once("\u{1b}[?1049h").map_or("", |(_, rest)| rest).chars();
    while let Some(letter) = rest.next() {
        if letter != '\u{1b}' {
            if let Some(cell) = cells.get_mut(row).and_then(|line| line.get_mut(column)) {
                *cell = letter;
            }
            column += 1;
            continue;
        }
        assert_eq!(rest.next(), Some('['), "only control sequences");
        let mut sequence = String::new();
        let last = rest.by_ref().find(|letter| {
            let is_last = letter.is_ascii_alphabetic();
            if !is_last {
                sequence.push(*letter);
            }
            is_last
        });
        match last {
            Some('H') => {
                let (y, x) = sequence.split_once(';').unwrap_or(("1", "1"));
                (row, column) = (y.parse::<usize>().unwrap() - 1, x.parse::<usize>().unwrap() - 1);
            }
            Some('J') => cells = vec![[' '; 120]; 40],
            Some('h' | 'l' | 'm') | None => {}
            other => panic!("{sequence}{other:?} is not known"),
        }
    }
    cells.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned() + "\n").collect()
}

#[test]
fn a_terminal_shows_the_cluster_takes_keys_and_is_given_back() {
    let (mut broker, _, mut wire) = start();
    create_topic(&mut wire, "orders", 1);
    write(&mut wire, "orders", 0, &[1_000, 2_000]);
    commit(&mut wire, "billing", "orders", &[1]);
    let mut terminal = Terminal::start(&broker.address());
    terminal.wait_for("orders");
    terminal.wait_for("nodes 1");
    terminal.press("3");
    terminal.wait_for("groups: 1 of 1");
    terminal.wait_for("billing");
    terminal.press("/nothing\r");
    terminal.wait_for("groups: 0 of 1");
    terminal.press("\u{1b}");
    terminal.wait_for("groups: 1 of 1");
    terminal.press("p");
    terminal.wait_for("paused");
    terminal.press("p");
    terminal.press("?");
    terminal.wait_for("sort by another column");
    terminal.press("x");
    terminal.wait_for("billing");
    // A broker that goes away is told of, and what was seen last stays.
    broker.kill();
    terminal.wait_for("error: ");
    terminal.wait_for("billing");
    broker.restart();
    until("it looks again", || (!terminal.screen().contains("error: ")).then_some(()));
    terminal.press("q");
    assert_eq!(terminal.end(), Some(0));
}

#[test]
fn a_terminal_is_given_back_whatever_ends_it() {
    let (broker, _, _) = start();
    let mut interrupted = Terminal::start(&broker.address());
    interrupted.wait_for("nodes 1");
    interrupted.press("\u{3}");
    assert_eq!(interrupted.end(), Some(0));
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let terminal = Terminal::start(&broker.address());
        terminal.wait_for("nodes 1");
        send_signal(terminal.pid(), signal);
        assert_eq!(terminal.end(), Some(0), "{signal:?}");
    }
}
