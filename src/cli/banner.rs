//! What a start says to the person who started it.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::config::{ClientAuth, Config, Endpoint, Listener, ObjectUrl, SecurityProtocol, WalSync};

/// A few lines on where the running broker is and what an acknowledgement means. The first begins
/// with "ready", for scripts that wait for it.
///
/// `bound` has the address of each of `config.server.listeners`, in their order, and `admin` the
/// one of the admin listener: what was really bound, also where port 0 was asked for. `data_dir`
/// is the data directory in use.
pub fn banner(config: &Config, bound: &[SocketAddr], admin: SocketAddr, data_dir: &Path) -> String {
    let mut out =
        format!("ready: tidegate {}, broker {}\n", env!("CARGO_PKG_VERSION"), config.node.id);
    let mut line = |label: &str, text: &str| {
        writeln!(out, "  {label:<11} {text}").expect("text can always be written to a String");
    };
    let several = config.server.listeners.len() > 1;
    for (listener, address) in config.server.listeners.iter().zip(bound) {
        let told = advertised(listener, *address);
        let name = if several { format!(" ({})", listener.name) } else { String::new() };
        let listening = if told.to_string() == address.to_string() {
            String::new()
        } else {
            format!(", listening on {address}")
        };
        let protocol = match listener.protocol {
            SecurityProtocol::Plaintext => "",
            SecurityProtocol::Ssl => " security.protocol=SSL",
        };
        line("clients", &format!("bootstrap.servers={told}{protocol}{name}{listening}"));
    }
    let kept = match config.storage.object.url {
        ObjectUrl::Memory => " (temporary: gone after the stop)",
        ObjectUrl::File(_) | ObjectUrl::Service { .. } => "",
    };
    line("data", &format!("{}{kept}", data_dir.display()));
    line("bucket", &config.storage.object.url.to_string());
    line("durability", &durability(config));
    line("admin", &format!("http://{admin}/metrics, /livez, /readyz"));
    out
}

/// What clients are told to connect to, with the port that was bound where none was fixed.
fn advertised(listener: &Listener, bound: SocketAddr) -> Endpoint {
    let mut told = listener.advertised.clone();
    if told.port == 0 {
        told.port = bound.port();
    }
    told
}

fn durability(config: &Config) -> String {
    match (&config.storage.object.url, config.storage.wal.sync) {
        (ObjectUrl::Memory, _) => "none: the bucket is in memory (object.url=memory://)".to_owned(),
        (_, WalSync::Always) => "an acknowledged record is on disk (wal.sync=always)".to_owned(),
        (_, WalSync::Interval(every)) => format!(
            "an acknowledged record is in the page cache and on disk within {} ms; a power cut \
             may lose it (wal.sync=interval)",
            every.as_millis()
        ),
    }
}

/// What a start warns of, a sentence each; empty for a configuration that surprises nobody.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut out = Vec::new();
    for listener in &config.server.listeners {
        let Listener { name, bind, advertised, .. } = listener;
        if bind.host.is_loopback() {
            continue;
        }
        out.extend(open_to_others(listener));
        if config.notes.advertised_by_hostname.contains(name) {
            out.push(format!(
                "advertised.listeners does not name {name}, so clients are told to connect to this \
                 machine's host name, \"{advertised}\"; where that does not lead here from their \
                 side, set advertised.listeners={name}://ADDRESS:{}",
                bind.port
            ));
        } else if advertised.host.is_loopback() {
            out.push(format!(
                "listener {name} on {bind} tells clients to connect to \"{advertised}\", which on \
                 another machine is that machine itself; set \
                 advertised.listeners={name}://ADDRESS:{}",
                bind.port
            ));
        }
    }
    if !config.admin.listener.host.is_loopback() {
        out.push(format!(
            "the admin listener on {} has no authentication and is open to other machines",
            config.admin.listener
        ));
    }
    out.extend(config.notes.overruled.iter().cloned());
    let without_effect = &config.notes.without_effect;
    if !without_effect.is_empty() {
        out.push(format!(
            "these Kafka settings have no effect here: {}",
            without_effect.join(", ")
        ));
    }
    out
}

/// A listener that other machines reach and that lets anybody in.
fn open_to_others(listener: &Listener) -> Option<String> {
    let Listener { name, bind, tls, .. } = listener;
    let (kind, way_out) = match tls.as_ref().map(|tls| tls.client_auth) {
        None => ("is plaintext and", ""),
        Some(ClientAuth::None | ClientAuth::Requested) => {
            ("requires no certificate of clients and is", ", or set ssl.client.auth=required")
        }
        Some(ClientAuth::Required) => return None,
    };
    Some(format!(
        "listener {name} on {bind} {kind} open to other machines: whoever reaches it can read, \
         write and delete every topic; keep it on a private network{way_out}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;

    fn config(flags: &[(&str, &str)]) -> Config {
        Sources::of_flags(flags).load().unwrap()
    }

    fn shown(flags: &[(&str, &str)], bound: &[&str]) -> String {
        let bound: Vec<SocketAddr> = bound.iter().map(|address| address.parse().unwrap()).collect();
        banner(&config(flags), &bound, "127.0.0.1:9464".parse().unwrap(), Path::new("/d"))
    }

    #[test]
    fn the_banner_says_where_to_connect_and_what_is_durable() {
        let text = shown(&[], &["127.0.0.1:9092"]);
        assert!(text.starts_with("ready: tidegate "), "{text}");
        let lines: Vec<_> = text.lines().skip(1).map(str::trim).collect();
        assert_eq!(
            lines,
            [
                "clients     bootstrap.servers=127.0.0.1:9092",
                "data        /d",
                "bucket      file://./tidegate-data/bucket",
                "durability  an acknowledged record is on disk (wal.sync=always)",
                "admin       http://127.0.0.1:9464/metrics, /livez, /readyz",
            ]
        );
    }

    #[test]
    fn the_banner_tells_the_address_for_clients_from_the_one_that_was_bound() {
        let flags = [
            ("listeners", "A://[::1]:0,B://0.0.0.0:9092"),
            ("advertised.listeners", "B://b.example.com:19092"),
            ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT"),
        ];
        let text = shown(&flags, &["[::1]:40001", "0.0.0.0:9092"]);
        assert!(text.contains("bootstrap.servers=[::1]:40001 (A)\n"), "{text}");
        let apart = "bootstrap.servers=b.example.com:19092 (B), listening on 0.0.0.0:9092\n";
        assert!(text.contains(apart), "{text}");
    }

    #[test]
    fn the_banner_does_not_promise_what_the_settings_do_not_give() {
        let interval = shown(&[("wal.sync", "interval")], &["127.0.0.1:9092"]);
        assert!(interval.contains("on disk within 1000 ms; a power cut may lose it"), "{interval}");
        let memory = shown(&[("object.url", "memory://")], &["127.0.0.1:9092"]);
        assert!(memory.contains("/d (temporary: gone after the stop)"), "{memory}");
        assert!(memory.contains("durability  none"), "{memory}");
    }

    #[test]
    fn a_broker_for_this_machine_alone_gets_no_warning() {
        assert_eq!(warnings(&config(&[])), Vec::<String>::new());
        let local = [("listeners", "PLAINTEXT://localhost:9092"), ("admin.listener", "[::1]:1")];
        assert_eq!(warnings(&config(&local)), Vec::<String>::new());
    }

    #[test]
    fn an_open_listener_is_warned_of_and_so_is_what_clients_cannot_reach() {
        let open = warnings(&config(&[("listeners", "PLAINTEXT://0.0.0.0:9092")]));
        assert_eq!(open.len(), 2, "{open:#?}");
        assert!(open[0].contains("on 0.0.0.0:9092 is plaintext and open to other machines"));
        assert!(open[1].contains("host name, \"localhost:9092\""));
        assert!(open[1].ends_with("set advertised.listeners=PLAINTEXT://ADDRESS:9092"));

        let loopback = warnings(&config(&[
            ("listeners", "PLAINTEXT://:9092"),
            ("advertised.listeners", "PLAINTEXT://localhost:9092"),
        ]));
        assert_eq!(loopback.len(), 2, "{loopback:#?}");
        assert!(loopback[1].contains("on another machine is that machine itself"));

        let right = warnings(&config(&[
            ("listeners", "PLAINTEXT://10.0.0.1:9092"),
            ("admin.listener", "0.0.0.0:9464"),
        ]));
        assert_eq!(right.len(), 2, "{right:#?}");
        assert!(right[1].contains("admin listener on 0.0.0.0:9464 has no authentication"));
    }

    #[test]
    fn tls_is_shown_and_only_required_certificates_close_an_open_listener() {
        let ssl = [("listeners", "SSL://10.0.0.1:9093"), ("ssl.keystore.location", "/k.pem")];
        let text = shown(&ssl, &["10.0.0.1:9093"]);
        assert!(text.contains("bootstrap.servers=10.0.0.1:9093 security.protocol=SSL\n"), "{text}");
        let found = warnings(&config(&ssl));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains("requires no certificate of clients"), "{found:#?}");
        assert!(found[0].ends_with("or set ssl.client.auth=required"), "{found:#?}");
        let auth = ("ssl.client.auth", "required");
        let required = [ssl[0], ssl[1], auth, ("ssl.truststore.location", "/ca.pem")];
        assert_eq!(warnings(&config(&required)), Vec::<String>::new());
    }

    #[test]
    fn settings_without_effect_are_one_warning() {
        let found = warnings(&config(&[("log.dirs", "/x"), ("num.io.threads", "8")]));
        assert_eq!(found, ["these Kafka settings have no effect here: log.dirs, num.io.threads"]);
    }
}
