//! Which cluster a command speaks to, and how: from flags, environment and a Kafka client's
//! properties to a [`Cluster`].

use std::path::PathBuf;
use std::time::Duration;

use super::output::{Failure, warn};
use crate::client::{Cluster, Connector, Server};
use crate::clock::Clock;
use crate::config::{ClientConfig, Endpoint};
use crate::security::tls::TlsConnector;

/// Where a broker without any configuration is.
const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";
/// What the cluster knows us by.
const CLIENT_ID: &str = "tidegate-cli";
/// How long a command may take.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Which cluster, as the command line says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// Servers to begin with, separated by commas.
    pub bootstrap: Option<String>,
    /// The file with a Kafka client's properties.
    pub file: Option<PathBuf>,
    /// Further such properties, which win over the file's.
    pub properties: Vec<(String, String)>,
    /// How long a command may take.
    pub timeout: Option<Duration>,
}

/// A cluster that can be asked, and what a command knows besides.
#[derive(Clone, Debug)]
pub(super) struct Opened {
    /// The cluster. Nothing is connected yet.
    pub(super) cluster: Cluster,
    /// The servers that are asked first.
    pub(super) servers: Vec<Server>,
    /// How long the command may take.
    pub(super) timeout: Duration,
    /// Time.
    pub(super) clock: Clock,
}

impl Connection {
    /// Reads the properties and certificates. What they have wrong is wrong usage.
    pub(super) fn open(&self) -> Result<Opened, Failure> {
        let config = ClientConfig::load(self.file.as_deref(), &self.properties);
        let config = config.map_err(Failure::usage)?;
        if !config.ignored.is_empty() {
            warn(format_args!("no effect here, and ignored: {}", config.ignored.join(", ")));
        }
        let bootstrap = self.bootstrap.clone().or(config.bootstrap);
        let servers = servers(bootstrap.as_deref().unwrap_or(DEFAULT_BOOTSTRAP))?;
        let clock = Clock::system();
        let tls = config.tls.map(|tls| TlsConnector::new(&tls, clock.clone())).transpose();
        let connector = Connector::new(tls.map_err(Failure::usage)?, clock.clone());
        let client_id = config.client_id.as_deref().unwrap_or(CLIENT_ID);
        let cluster = Cluster::new(connector, servers.clone(), client_id, clock.clone());
        let timeout = self.timeout.or(config.timeout).unwrap_or(TIMEOUT);
        Ok(Opened { cluster, servers, timeout, clock })
    }
}

impl Opened {
    /// Does a command's work, for at most the time that it may take.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.clock.timeout(self.timeout, work).await {
            Ok(done) => done,
            Err(_) => Err(Failure::Failed(format!(
                "it took longer than {} ms and was given up; --timeout gives it more, and what was \
                 asked for by then may still be carried out",
                self.timeout.as_millis()
            ))),
        }
    }
}

fn servers(text: &str) -> Result<Vec<Server>, Failure> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let servers: Vec<Server> = items.map(server).collect::<Result<_, _>>()?;
    if servers.is_empty() {
        return Err(Failure::usage("--bootstrap-server names no server; give HOST:PORT"));
    }
    Ok(servers)
}

fn server(text: &str) -> Result<Server, Failure> {
    let endpoint = Endpoint::parse(text);
    let named = endpoint.filter(|it| it.port != 0 && !it.host.to_string().is_empty());
    match named {
        Some(Endpoint { host, port }) => Ok(Server { host: host.to_string(), port }),
        None => Err(Failure::Usage(format!(
            "--bootstrap-server \"{text}\" is no HOST:PORT, such as 127.0.0.1:9092 or [::1]:9092"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_ports() {
        let found = servers("kafka-1:9092, [::1]:1,10.0.0.1:65535").unwrap();
        let told: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["kafka-1:9092", "[::1]:1", "10.0.0.1:65535"]);
        for wrong in ["", ",", "kafka-1", "kafka-1:0", ":9092", "a b:1", "http://a:9092"] {
            assert!(matches!(servers(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn the_flag_goes_before_the_file_and_that_before_the_default() {
        let property = ("bootstrap.servers".to_owned(), "from-file".to_owned());
        let mut connection = Connection { properties: vec![property], ..Connection::default() };
        // It has no port, and is not looked at where the flag is.
        assert!(matches!(connection.open(), Err(Failure::Usage(_))));
        connection.bootstrap = Some("flag:1".to_owned());
        assert_eq!(connection.open().unwrap().timeout, TIMEOUT);
        assert!(Connection::default().open().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_command_has_its_time() {
        let connection =
            Connection { timeout: Some(Duration::from_secs(2)), ..Connection::default() };
        let opened = connection.open().unwrap();
        assert_eq!(opened.within(async { Ok(7) }).await, Ok(7));
        let late = opened.within(std::future::pending::<Result<(), Failure>>()).await;
        let Err(Failure::Failed(words)) = late else { panic!("{late:?}") };
        assert!(words.contains("2000 ms") && words.contains("--timeout"), "{words}");
    }
}
