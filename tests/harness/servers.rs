//! Object stores on loopback, each a process of its own in a directory of its own.
#![allow(dead_code, unreachable_pub, reason = "each suite uses its part of the harness")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test ends where it fails")]
#![allow(clippy::disallowed_methods, reason = "tests own their processes, files and clocks")]

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate::config::{ObjectConfig, ObjectUrl};
use tidegate::object::Variables;

use super::{Options, free_port};

/// How long a start may take.
const START: Duration = Duration::from_mins(2);

pub const ACCESS_KEY: &str = "AKIDTIDEGATE";
pub const SECRET_KEY: &str = "a-secret-of-the-tests";

/// Makes a bucket, trying until the server is ready.
const MAKE_BUCKET: &str = "
import sys, time, boto3
from botocore.config import Config
endpoint, key, secret, bucket, ca = sys.argv[1:]
config = Config(retries={'max_attempts': 0}, connect_timeout=5, read_timeout=10,
                s3={'addressing_style': 'path'})
s3 = boto3.client('s3', endpoint_url=endpoint, aws_access_key_id=key, verify=ca or None,
                  aws_secret_access_key=secret, region_name='us-east-1', config=config)
end = time.monotonic() + 60
while True:
    try:
        s3.create_bucket(Bucket=bucket)
        break
    except s3.exceptions.BucketAlreadyOwnedByYou:
        # It was made by a request whose answer came too late.
        break
    except Exception as error:
        if time.monotonic() > end:
            raise
        time.sleep(0.1)
";

/// A server. Killed when dropped.
pub struct Server {
    command: Command,
    child: Child,
    folder: TempDir,
    port: u16,
    has_tls: bool,
}

impl Server {
    /// The S3 gateway of Versity over a directory.
    pub fn versitygw() -> Option<Self> {
        Some(Self::start(versitygw()?, false, |command, folder, port| {
            serve_directory(command, folder, port);
        }))
    }

    /// The same with a certificate that only [`Server::ca_file`] vouches for.
    pub fn versitygw_with_tls() -> Option<Self> {
        Some(Self::start(versitygw()?, true, |command, folder, port| {
            command.arg("--cert").arg(folder.join("cert.pem"));
            command.arg("--key").arg(folder.join("key.pem"));
            serve_directory(command, folder, port);
        }))
    }

    /// `MinIO` over a directory.
    pub fn minio() -> Option<Self> {
        Some(Self::start(installed("minio")?, false, |command, folder, port| {
            command.env("MINIO_ROOT_USER", ACCESS_KEY).env("MINIO_ROOT_PASSWORD", SECRET_KEY);
            command.env("MINIO_BROWSER", "off").env("MINIO_UPDATE", "off").env("CI", "true");
            command.args(["server", "--quiet", "--address", &format!("127.0.0.1:{port}")]);
            command.arg(folder.join("minio"));
        }))
    }

    /// `SeaweedFS`, all its parts in one process.
    pub fn seaweedfs() -> Option<Self> {
        Some(Self::start(installed("stores/bin/weed")?, false, |command, folder, port| {
            let config = folder.join("s3.json");
            let identity = format!(
                r#"{{"identities": [{{"name": "t", "actions": ["Admin"], "credentials":
                [{{"accessKey": "{ACCESS_KEY}", "secretKey": "{SECRET_KEY}"}}]}}]}}"#
            );
            std::fs::write(&config, identity).unwrap();
            command.args(["server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3"]);
            command.args(["-volume.max=20", "-master.volumeSizeLimitMB=256"]);
            command.args(["-s3.port.iceberg=0", &format!("-s3.port={port}")]);
            command.arg(format!("-dir={}", folder.display()));
            command.arg(format!("-s3.config={}", config.display()));
            for other in ["master.port", "volume.port", "filer.port"] {
                command.arg(format!("-{other}={}", free_port()));
                command.arg(format!("-{other}.grpc={}", free_port()));
            }
            command.arg(format!("-s3.port.grpc={}", free_port()));
        }))
    }

    /// The AWS stand-in of the moto project. It takes any key.
    pub fn moto() -> Option<Self> {
        Some(Self::start(installed("stores/bin/moto_server")?, false, |command, _, port| {
            command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        }))
    }

    /// The same over TLS.
    pub fn moto_with_tls() -> Option<Self> {
        Some(Self::start(installed("stores/bin/moto_server")?, true, |command, folder, port| {
            command.args(["-H", "127.0.0.1", "-p", &port.to_string(), "-s"]);
            command.arg("-c").arg(folder.join("cert.pem"));
            command.arg("-k").arg(folder.join("key.pem"));
        }))
    }

    /// A security token service that exchanges `token` for the keys.
    pub fn security_tokens(token: &str) -> Self {
        Self::start("python3".into(), true, |command, folder, port| {
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/sts.py"));
            command.arg(port.to_string()).args([folder.join("cert.pem"), folder.join("key.pem")]);
            command.args([token, ACCESS_KEY, SECRET_KEY]);
        })
    }

    fn start(
        program: PathBuf,
        has_tls: bool,
        arguments: impl FnOnce(&mut Command, &Path, u16),
    ) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let port = free_port();
        if has_tls {
            make_certificate(folder.path());
        }
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(program);
        command.current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        arguments(&mut command, folder.path(), port);
        let child = command.spawn().unwrap();
        let mut server = Self { command, child, folder, port, has_tls };
        server.wait_until_it_listens();
        server
    }

    /// Takes it away: every connection is cut, and none is taken.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Brings it back with what it had; it must have been killed.
    pub fn restart(&mut self) {
        self.child = self.command.spawn().unwrap();
        self.wait_until_it_listens();
    }

    fn wait_until_it_listens(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < START, "{ended:?}");
            std::thread::yield_now();
        }
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        let scheme = if self.has_tls { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// The certificate to trust, if it has one.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.has_tls.then(|| self.folder.path().join("cert.pem"))
    }

    /// The configuration for a bucket of this server.
    pub fn config(&self, url: &str) -> ObjectConfig {
        let config = ObjectConfig::at(ObjectUrl::parse(url).unwrap());
        ObjectConfig { endpoint: Some(self.endpoint()), ca_file: self.ca_file(), ..config }
    }

    /// Has a broker keep its objects at `url`.
    pub fn options(&self, url: &str, options: Options) -> Options {
        let mut options = options.set("object.url", url).set("object.endpoint", self.endpoint());
        if let Some(path) = self.ca_file() {
            options = options.set("object.tls.ca.file", path.display());
        }
        for (name, value) in
            [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)]
        {
            options.env.push((name.to_owned(), value.to_owned()));
        }
        options
    }

    /// The keys as the environment gives them.
    pub fn variables() -> Variables {
        [("AWS_ACCESS_KEY_ID", ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", SECRET_KEY)].into()
    }

    /// Makes a bucket with another client.
    pub fn make_bucket(&self, name: &str) {
        let python = clients().join("stores/bin/python");
        let ca = self.ca_file().map_or_else(String::new, |path| path.display().to_string());
        let mut command = Command::new(python);
        command.args(["-c", MAKE_BUCKET, &self.endpoint(), ACCESS_KEY, SECRET_KEY, name, &ca]);
        let made = command.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// The directory whose subdirectories are the buckets of versitygw.
    pub fn buckets(&self) -> PathBuf {
        self.folder.path().join("buckets")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(30)..];
            eprintln!("--- the end of the server's log ---\n{}", last.join("\n"));
        }
    }
}

fn serve_directory(command: &mut Command, folder: &Path, port: u16) {
    let buckets = folder.join("buckets");
    std::fs::create_dir(&buckets).unwrap();
    command.env("ROOT_ACCESS_KEY", ACCESS_KEY).env("ROOT_SECRET_KEY", SECRET_KEY);
    command.args(["--quiet", "--port", &format!("127.0.0.1:{port}"), "posix"]).arg(buckets);
}

/// A certificate for 127.0.0.1 that is its own authority.
fn make_certificate(folder: &Path) {
    let mut command = Command::new("openssl");
    command.current_dir(folder).args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"]);
    command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=tests"]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    // The certificate of an authority is not taken for that of a server.
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.args(["-keyout", "key.pem", "-out", "cert.pem"]);
    let made = command.output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

fn versitygw() -> Option<PathBuf> {
    installed("versitygw")
}

fn clients() -> PathBuf {
    std::env::var_os("TIDEGATE_CLIENTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients"), PathBuf::from)
}

fn installed(name: &str) -> Option<PathBuf> {
    let path = clients().join(name);
    if path.is_file() {
        return Some(path);
    }
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_ci, "{} is not installed; run tests/run", path.display());
    eprintln!("passed over: {} is not installed", path.display());
    None
}
