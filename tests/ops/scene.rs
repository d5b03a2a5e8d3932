//! Everything that a dashboard shows, on one machine: a bucket of versitygw, a broker in front of
//! it, a proxy in front of that, clients of every kind, and Prometheus.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::dashboards::repository;
use crate::harness::authority::Authority;
use crate::harness::prometheus::Prometheus;
use crate::harness::proxy::{Proxy, ProxyOptions};
use crate::harness::servers::Server;
use crate::harness::{Broker, DELAYS, Options, free_port, installation};
use crate::rules;

const MIB: u64 = 1 << 20;
/// What goes on every half minute, day or quarter of an hour goes on all the time.
const OFTEN: &str = "merge.look=500 merge.age=1 checkpoint.look=200 checkpoint=500 \
                     garbage.look=200 garbage.age=1 sweep.first=1000 sweep=2000";

/// At which pace what the broker does beside the requests goes on.
#[derive(Clone, Copy)]
pub enum Pace {
    /// All the time, with the smallest log that may be: it fills within seconds.
    Often,
    /// As with anybody, but for a log that is soon brought into the bucket.
    Ordinary,
}

impl Pace {
    fn of(self, options: Options) -> Options {
        match self {
            Pace::Often => {
                let mut options = options.set("wal.max.bytes", 64 * MIB);
                options = options.set("memory.budget.bytes", 128 * MIB);
                options.env.push((DELAYS.to_owned(), OFTEN.to_owned()));
                options.set("tier.max.age.ms", 1_000).set("log.cleaner.backoff.ms", 200)
            }
            Pace::Ordinary => {
                let options = options.set("wal.max.bytes", 256 * MIB);
                options.set("memory.budget.bytes", 512 * MIB).set("tier.max.age.ms", 20_000)
            }
        }
    }
}

/// The clients of `load.py`. Killed when dropped.
struct Load(Child);

impl Load {
    fn start(broker: &str, proxy: &str) -> Self {
        let mut command = Command::new(installation("python/bin/python"));
        command.arg(repository("tests/ops/load.py")).args([broker, proxy]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let (load, mut line) = (Self(child), String::new());
        said.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), "ready", "every group reads something");
        load
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// All of it. What is named first ends first.
pub struct Scene {
    _load: Load,
    pub prometheus: Prometheus,
    pub proxy: Proxy,
    pub broker: Broker,
    pub bucket: Server,
    _authority: Authority,
}

impl Scene {
    /// Starts everything and waits until every group has read something; `None` where versitygw is
    /// not installed.
    pub fn start(pace: Pace) -> Option<Self> {
        let bucket = Server::versitygw()?;
        bucket.make_bucket("bkt");
        let mut options = bucket.options("s3://bkt/dash", Options::new());
        // The one that Cargo built for this suite: only a debug build takes other times.
        options.binary = env!("CARGO_BIN_EXE_tidegate").into();
        // Nobody connects in TLS, but there is a certificate to watch.
        let authority = Authority::new();
        let keystore = authority.issue("server", "DNS:localhost,IP:127.0.0.1");
        let listeners = format!("PLAINTEXT://127.0.0.1:{{port}},SSL://127.0.0.1:{}", free_port());
        let options = pace
            .of(options)
            .set("listeners", listeners)
            .set("ssl.keystore.location", keystore.display())
            .set("log.retention.check.interval.ms", 500)
            .set("group.initial.rebalance.delay.ms", 0)
            .set("offsets.topic.num.partitions", 4);
        let broker = Broker::start_with(options);
        let proxy = Proxy::start_with(&ProxyOptions::new(broker.address()));
        let targets = [("tidegate", broker.admin_port()), ("tidegate-proxy", proxy.admin_port())];
        let prometheus = Prometheus::start(&targets, &rules::files());
        let load = Load::start(&broker.address(), &proxy.address());
        Some(Self { _load: load, prometheus, proxy, broker, bucket, _authority: authority })
    }
}
