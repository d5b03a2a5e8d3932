//! Listeners: whether they can be bound, and whether clients can use what they are told.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};

use super::report::{Report, trouble};
use crate::clock::Clock;
use crate::config::{Config, Listener};
use crate::security::tls::TlsAcceptor;

/// Looks at every listener.
pub(super) async fn examine(report: &mut Report, config: &Config) {
    for listener in &config.server.listeners {
        let by_hostname = config.notes.advertised_by_hostname.contains(&listener.name);
        let part = format!("listener {}", listener.name);
        bind(report, &part, listener).await;
        certificates(report, &part, listener);
        advertised(report, &part, listener, by_hostname).await;
    }
}

async fn bind(report: &mut Report, part: &str, listener: &Listener) {
    let mut addresses = listener.bind.bind_addrs();
    if addresses.is_empty() {
        let host = (listener.bind.host.to_string(), listener.bind.port);
        match lookup_host(host).await {
            Ok(found) => addresses = found.collect(),
            Err(error) => {
                let found = format!("{} does not resolve: {error}", listener.bind);
                let fix = "give an address of this machine in listeners, or 0.0.0.0 for all";
                report.problem(
                    part,
                    found,
                    trouble("no such host name here", "the broker does not start", fix),
                );
                return;
            }
        }
    }
    // Where every address of the machine is meant, one that has no IPv6 is no trouble.
    let is_any = listener.bind.host.is_wildcard();
    for address in addresses.iter().filter(|address| !is_any || address.is_ipv4()) {
        try_bind(report, part, *address).await;
    }
}

async fn try_bind(report: &mut Report, part: &str, address: SocketAddr) {
    match TcpListener::bind(address).await {
        Ok(_) => report.fine(part, format!("{address} can be listened on")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => report.warn(
            part,
            format!("{address} is in use"),
            trouble(
                "a process listens there: this broker, if it runs, or another",
                "a broker does not start while the address is taken",
                "stop the other process, or set another port in listeners",
            ),
        ),
        Err(error) => report.problem(
            part,
            format!("{address} cannot be listened on: {error}"),
            trouble(
                "the address is not this machine's, or the port is reserved",
                "the broker does not start",
                "give an address of this machine in listeners, or 0.0.0.0 for all",
            ),
        ),
    }
}

fn certificates(report: &mut Report, part: &str, listener: &Listener) {
    let Some(tls) = &listener.tls else { return };
    match TlsAcceptor::new(tls, Clock::system()) {
        Ok(_) => report.fine(part, "certificate and key can be used".to_owned()),
        Err(error) => report.problem(
            part,
            error.to_string(),
            trouble(
                "the files of ssl.keystore.* or ssl.truststore.* are not what they have to be",
                "the broker does not start",
                "mend the file, or name the right one",
            ),
        ),
    }
}

async fn advertised(report: &mut Report, part: &str, listener: &Listener, by_hostname: bool) {
    let told = &listener.advertised;
    let set = format!("set advertised.listeners={}://<address clients use>", listener.name);
    let host = (told.host.to_string(), told.port);
    let addresses: Vec<SocketAddr> = match lookup_host(host).await {
        Ok(found) => found.collect(),
        Err(error) => {
            let found = format!("clients are told {told}, which does not resolve here: {error}");
            let cause = if by_hostname {
                "advertised.listeners does not name this listener, so it is the host name"
            } else {
                "the name in advertised.listeners is not known to this machine's resolver"
            };
            let effect = "clients connect once, and then to nowhere";
            report.problem(part, found, trouble(cause, effect, set));
            return;
        }
    };
    let is_loopback = addresses.iter().all(|address| address.ip().is_loopback());
    if is_loopback && !listener.bind.host.is_loopback() {
        let found = format!("clients are told {told}, which is loopback");
        let cause = "the listener is open to other machines but tells an address of this one";
        let effect = "clients on other machines connect once, and then to themselves";
        report.warn(part, found, trouble(cause, effect, set));
    } else if by_hostname {
        let found = format!("clients are told {told}, this machine's host name");
        let cause = "advertised.listeners does not name this listener";
        let effect = "clients whose resolver does not know that name cannot use the broker";
        report.warn(part, found, trouble(cause, effect, set));
    } else {
        report.fine(part, format!("clients are told {told}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use crate::security::tls::testing::Authority;

    async fn told(flags: &[(&str, &str)]) -> (bool, String) {
        let mut report = Report::default();
        examine(&mut report, &Sources::of_flags(flags).load().unwrap()).await;
        (report.is_healthy(), report.to_string())
    }

    #[tokio::test]
    async fn a_port_in_use_and_an_address_of_another_machine_are_told() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = format!("PLAINTEXT://{}", taken.local_addr().unwrap());
        let (healthy, text) = told(&[("listeners", &listeners)]).await;
        assert!(healthy && text.contains("is in use"), "{text}");
        let (healthy, text) = told(&[("listeners", "PLAINTEXT://192.0.2.1:0")]).await;
        assert!(!healthy && text.contains("192.0.2.1:0 cannot be listened on"), "{text}");
    }

    #[tokio::test]
    async fn a_certificate_that_cannot_be_used_is_told() {
        let listeners = ("listeners", "SSL://127.0.0.1:0");
        let keystore = ("ssl.keystore.location", "/no/such.pem");
        let (healthy, text) = told(&[listeners, keystore]).await;
        assert!(!healthy && text.contains("\"/no/such.pem\" cannot be read"), "{text}");
        let authority = Authority::new();
        authority.issue("server", "DNS:localhost");
        authority.write("k.pem", authority.read("server.pem") + &authority.read("server.key"));
        let path = authority.path("k.pem").display().to_string();
        let (healthy, text) = told(&[listeners, ("ssl.keystore.location", &path)]).await;
        assert!(healthy && text.contains("certificate and key can be used"), "{text}");
    }

    #[tokio::test]
    async fn an_advertised_address_that_others_cannot_use_is_told() {
        let open = ("listeners", "PLAINTEXT://0.0.0.0:0");
        let (healthy, text) =
            told(&[open, ("advertised.listeners", "PLAINTEXT://127.0.0.1:9092")]).await;
        assert!(healthy && text.contains("which is loopback"), "{text}");
        let (healthy, text) =
            told(&[open, ("advertised.listeners", "PLAINTEXT://no-such.invalid:9092")]).await;
        assert!(!healthy && text.contains("does not resolve here"), "{text}");
        let (_, text) = told(&[open, ("advertised.listeners", "PLAINTEXT://192.0.2.7:9092")]).await;
        assert!(text.contains("ok       listener PLAINTEXT: clients are told 192.0.2.7"), "{text}");
    }
}
