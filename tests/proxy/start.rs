//! `deploy/kafka/start`, the upstream of the quick start in `docs`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;

use crate::client::{Client, Leaks};
use crate::harness::proxy::Proxy;
use crate::harness::{free_ports, send_signal};
use crate::work::{self, Topic};

/// The script, which ends its Kafka when it is told to end.
struct Script(Child);

impl Drop for Script {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            send_signal(self.0.id(), Signal::TERM);
            let _ = self.0.wait();
        }
    }
}

#[test]
fn the_quick_start_s_kafka_works_behind_the_proxy_and_stops() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // The second one is for the controller.
    let port = free_ports(2);
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kafka/start"));
    command.arg(port.to_string()).arg(folder.path().join("kafka"));
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut script = Script(child);
    let said = BufReader::new(script.0.stdout.take().unwrap());
    let mut said = said.lines().map_while(Result::ok);
    assert!(said.any(|line| line.starts_with("ready: ")), "the script says when it is ready");

    let upstream = format!("127.0.0.1:{port}");
    let proxy = Proxy::start(upstream.clone());
    let mut client = Client::new(proxy.address(), &Leaks::of([upstream]));
    let topic = Topic::create(&mut client, &proxy.address(), "first", 1);
    let (_, leader) = client.leader(&topic.name, 0);
    let sent = work::send(&mut client, &leader, &topic, 9, work::batch(&["a record"]));
    assert_eq!(sent.error_code, 0, "{sent:?}");
    assert_eq!(work::values(&mut client, &leader, &topic), ["a record"]);

    send_signal(script.0.id(), Signal::TERM);
    assert_eq!(said.last().as_deref(), Some("stopped"));
    assert!(script.0.wait().unwrap().success());
}
