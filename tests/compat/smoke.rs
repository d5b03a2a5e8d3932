//! One look through kcat, which a newcomer tries first.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::Broker;

fn run(command: &mut Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}\n{text}\n{errors}");
    text
}

fn kcat(broker: &Broker, arguments: &[&str], input: &str) -> String {
    let address = broker.address();
    run(Command::new("kcat").args(["-b", &address]).args(arguments), input)
}

#[test]
fn kcat_lists_produces_and_consumes() {
    let broker = Broker::start();
    let listed = kcat(&broker, &["-L"], "");
    assert!(listed.contains(&format!("broker 1 at {}", broker.address())), "{listed}");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("kcat-{codec}");
        kcat(&broker, &["-P", "-t", &topic, "-z", codec, "-K:"], "k1:v1\nk2:v2\n");
        let read = kcat(&broker, &["-C", "-t", &topic, "-e", "-q", "-f", "%k=%s@%o\n"], "");
        assert_eq!(read, "k1=v1@0\nk2=v2@1\n", "codec {codec}");
    }
}

#[test]
fn kcat_reads_in_a_group_and_goes_on_where_it_stopped() {
    let broker = Broker::start();
    kcat(&broker, &["-P", "-t", "grouped"], "one\ntwo\n");
    // The balanced consumer of kcat 1.7 exits at the end of every partition with -e.
    let group = ["-G", "readers", "-X", "auto.offset.reset=earliest", "-e", "-q", "grouped"];
    assert_eq!(kcat(&broker, &group, ""), "one\ntwo\n");
    kcat(&broker, &["-P", "-t", "grouped"], "three\n");
    assert_eq!(kcat(&broker, &group, ""), "three\n");
}
