//! Log lines: how they are written, how much, and changing that while the process runs.

use std::fmt;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, State};
use axum::http::header::HOST;
use axum::http::{HeaderMap, StatusCode};
use tracing::info;
use tracing_subscriber::EnvFilter;

mod lines;

use self::lines::{Json, Text};
use super::door::Peer;
use super::{Page, Pages, plain};
use crate::config::{LogFormat, ProcessConfig, is_log_level};

/// Puts another filter in the place of the present one; an error if the log is gone.
type Reload = dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync;

/// What is logged, and how to change it. Cheap to clone.
#[derive(Clone)]
pub struct LogLevel {
    present: Arc<Mutex<String>>,
    reload: Arc<Reload>,
}

impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogLevel").field(&self.present()).finish()
    }
}

impl LogLevel {
    /// Begins to log to standard error, as `log.level` and `log.format` say. Once per process.
    pub fn start(config: &ProcessConfig) -> Self {
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(&config.log_level))
            .with_writer(std::io::stderr);
        let reload: Arc<Reload> = match config.log_format {
            LogFormat::Text => {
                let log = log
                    .with_ansi(std::io::stderr().is_terminal())
                    .map_fmt_fields(Text)
                    .with_filter_reloading();
                let handle = log.reload_handle();
                log.init();
                Arc::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
            }
            LogFormat::Json => {
                let log =
                    log.json().flatten_event(true).map_event_format(Json).with_filter_reloading();
                let handle = log.reload_handle();
                log.init();
                Arc::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
            }
        };
        Self::new(&config.log_level, reload)
    }

    /// What changes nothing, for tests.
    #[cfg(test)]
    pub(crate) fn fixed(level: &str) -> Self {
        Self::new(level, Arc::new(|_| Ok(())))
    }

    fn new(level: &str, reload: Arc<Reload>) -> Self {
        Self { present: Arc::new(Mutex::new(level.to_owned())), reload }
    }

    /// What is logged now, as `log.level` says it.
    pub fn present(&self) -> String {
        self.present.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs what `level` says from now on. The error says what is wrong with it.
    pub fn change(&self, level: &str) -> Result<(), String> {
        if !is_log_level(level) {
            return Err(format!(
                "\"{level}\" must be error, warn, info, debug, trace or off, or such levels by \
                 module, as in info,tidegate::server=debug"
            ));
        }
        let mut present = self.present.lock().unwrap_or_else(PoisonError::into_inner);
        (self.reload)(EnvFilter::new(level))?;
        level.clone_into(&mut present);
        Ok(())
    }
}

/// `GET /log-level`.
pub(super) async fn show(State(pages): State<Pages>) -> Page {
    plain(StatusCode::OK, pages.log_level.present() + "\n")
}

/// `PUT /log-level`, with the level as the body.
pub(super) async fn change(
    State(pages): State<Pages>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    headers: HeaderMap,
    level: String,
) -> Page {
    let refused = |text: &str| plain(StatusCode::FORBIDDEN, format!("{text}\n"));
    if !peer.ip().to_canonical().is_loopback() {
        return refused("what changes something is answered on loopback only");
    }
    if !is_asked_for_here(&headers) {
        return refused("the Host header must be localhost or an address of loopback");
    }
    match pages.log_level.change(level.trim()) {
        Ok(()) => {
            let level = pages.log_level.present();
            info!(level, "log level changed");
            plain(StatusCode::OK, level + "\n")
        }
        Err(error) => plain(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

/// Whether whoever asks knows that he asks this machine: a page in a browser here that comes from a
/// name of somebody else's, which leads to loopback, does not (DNS rebinding).
fn is_asked_for_here(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_name_is_not_asked_for_here() {
        let asked = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            is_asked_for_here(&headers)
        };
        assert!(asked("localhost:9464") && asked("127.0.0.1:9464") && asked("[::1]:9464"));
        assert!(asked("127.0.0.1") && asked("Localhost"));
        for other in ["example.com:9464", "127.0.0.1.example.com", "10.0.0.1:9464", ""] {
            assert!(!asked(other), "{other:?}");
        }
        assert!(!is_asked_for_here(&HeaderMap::new()));
    }
}
