//! A Prometheus server on loopback, from Debian's package.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part of the harness")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test ends where it fails")]
#![allow(clippy::disallowed_methods, reason = "tests own their processes, files and clocks")]

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::{free_port, until};

/// A server. Killed when dropped.
pub struct Prometheus {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Prometheus {
    /// Starts a server that scrapes `targets` (job and port of the admin listener) every second
    /// and evaluates the rules of `rule_files`; waits until it answers.
    pub fn start(targets: &[(&str, u16)], rule_files: &[PathBuf]) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let port = free_port();
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, configuration(targets, rule_files)).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("prometheus (Debian package prometheus) is installed");
        let mut prometheus = Self { child, port, folder };
        until("Prometheus is ready", || {
            assert!(prometheus.child.try_wait().unwrap().is_none(), "{}", prometheus.log());
            get(port, "/-/ready").filter(|(status, _)| *status == 200)
        });
        prometheus
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What an expression gives now: the values of its series, or the server's words against it.
    pub fn query(&self, expression: &str) -> Result<Vec<f64>, String> {
        let answer = self.api(&format!("query?query={}", escaped(expression)))?;
        let found = &answer["result"];
        let number = |value: &Value| value[1].as_str().unwrap().parse().unwrap();
        Ok(match answer["resultType"].as_str() {
            Some("scalar") => vec![number(found)],
            Some("vector") => {
                found.as_array().unwrap().iter().map(|series| number(&series["value"])).collect()
            }
            other => return Err(format!("a result of type {other:?}")),
        })
    }

    /// The rules, as the server has read them: the groups of `/api/v1/rules`.
    pub fn rule_groups(&self) -> Vec<Value> {
        let answer = self.api("rules").unwrap();
        answer["groups"].as_array().unwrap().clone()
    }

    fn api(&self, path: &str) -> Result<Value, String> {
        let (_, body) = get(self.port, &format!("/api/v1/{path}")).ok_or("it does not answer")?;
        let mut answer: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        if answer["status"] == "success" {
            return Ok(answer["data"].take());
        }
        Err(answer["error"].to_string())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        super::show_end_of_log("Prometheus", &self.log());
    }
}

fn configuration(targets: &[(&str, u16)], rule_files: &[PathBuf]) -> String {
    let mut text = "global: {scrape_interval: 1s, evaluation_interval: 1s}\n".to_owned();
    let quoted = |path: &PathBuf| format!("\"{}\"", path.display());
    let files: Vec<String> = rule_files.iter().map(quoted).collect();
    writeln!(text, "rule_files: [{}]\nscrape_configs:", files.join(", ")).unwrap();
    for (job, port) in targets {
        writeln!(text, "  - job_name: {job}").unwrap();
        writeln!(text, "    static_configs: [{{targets: [\"127.0.0.1:{port}\"]}}]").unwrap();
    }
    text
}

/// `promtool` with arguments, in a folder, which gets `input`: whether it was content, and what it
/// said.
pub fn promtool(folder: &Path, arguments: &[&str], input: &str) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(folder);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool (Debian package prometheus) is installed");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// HTTP 1.0, whose answers come in one piece.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: test\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped.push(byte.into()),
            _ => write!(escaped, "%{byte:02X}").unwrap(),
        }
    }
    escaped
}
