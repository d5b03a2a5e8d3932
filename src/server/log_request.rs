//! Which request a line of the log belongs to. Whatever is logged while a connection's task works
//! on a request, in whichever room, can be told to be of that request; what a thread or a task of
//! its own does for it later cannot.

use std::cell::RefCell;
use std::fmt;
use std::mem::swap;
use std::sync::Arc;

use serde::Serialize;
use serde::ser::SerializeMap;

use super::replies::RequestId;
use super::service::Session;

thread_local! {
    /// The request that this thread works on.
    static PRESENT: RefCell<Option<LogRequest>> = const { RefCell::new(None) };
}

/// How many bytes of a client id a line has: a peer may send 32 KiB of it with each request, and a
/// character that cannot be printed is written in several.
const CLIENT_ID_SHOWN: usize = 256;

/// A request, as a line of the log names it: `connection`, `peer`, `listener`, `client_id`, `api`,
/// `version` and `correlation_id`. The last three are left out of a line about a connection's end
/// that no request caused.
#[derive(Debug)]
pub struct LogRequest {
    pub(super) session: Arc<Session>,
    pub(super) client_id: Arc<str>,
    pub(super) id: Option<RequestId>,
}

impl LogRequest {
    /// Does `work`, which belongs to `request` and must not panic.
    pub(super) fn during<T>(request: &mut Option<Self>, work: impl FnOnce() -> T) -> T {
        PRESENT.with(|present| swap(&mut *present.borrow_mut(), request));
        let worked = work();
        PRESENT.with(|present| swap(&mut *present.borrow_mut(), request));
        worked
    }

    /// What `look` sees of the request that this thread works on; `None` if it works on none.
    pub fn present<T>(look: impl FnOnce(&Self) -> T) -> Option<T> {
        PRESENT.with(|present| present.borrow().as_ref().map(look))
    }

    /// As much of the client id as lines have.
    fn client_id(&self) -> &str {
        let end = self.client_id.floor_char_boundary(CLIENT_ID_SHOWN);
        self.client_id.get(..end).unwrap_or_default()
    }
}

/// The fields as text, each name before its value.
impl fmt::Display for LogRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Session { id, peer, listener, .. } = &*self.session;
        let client_id = self.client_id();
        write!(f, "connection={id} peer={peer} listener={listener} client_id={client_id:?}")?;
        let Some(RequestId { api, version, correlation_id }) = self.id else { return Ok(()) };
        write!(f, " api={api:?} version={version} correlation_id={correlation_id}")
    }
}

/// The fields as a map.
impl Serialize for LogRequest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("connection", &self.session.id)?;
        map.serialize_entry("peer", &self.session.peer.to_string())?;
        map.serialize_entry("listener", &*self.session.listener)?;
        map.serialize_entry("client_id", self.client_id())?;
        if let Some(RequestId { api, version, correlation_id }) = self.id {
            map.serialize_entry("api", api)?;
            map.serialize_entry("version", &version)?;
            map.serialize_entry("correlation_id", &correlation_id)?;
        }
        map.end()
    }
}

#[cfg(test)]
impl LogRequest {
    /// A Fetch of a client whose id is this.
    pub(crate) fn of(client_id: &str) -> Self {
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 40_000));
        let session = Arc::new(Session::new(7, peer, Arc::from("PLAINTEXT")));
        let id = RequestId { api: "Fetch", version: 17, correlation_id: 4 };
        Self { session, client_id: Arc::from(client_id), id: Some(id) }
    }

    /// [`LogRequest::during`], for tests of other rooms.
    pub(crate) fn work_on<T>(self, work: impl FnOnce() -> T) -> T {
        Self::during(&mut Some(self), work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_present_while_it_is_worked_on_and_another_within_it_for_its_own_time() {
        let present = || LogRequest::present(|request| request.client_id.to_string());
        assert_eq!(present(), None);
        let mut outer = Some(LogRequest::of("outer"));
        LogRequest::during(&mut outer, || {
            assert_eq!(present().as_deref(), Some("outer"));
            LogRequest::of("inner").work_on(|| assert_eq!(present().as_deref(), Some("inner")));
            assert_eq!(present().as_deref(), Some("outer"));
            LogRequest::during(&mut None, || assert_eq!(present(), None));
        });
        assert_eq!(present(), None);
        assert!(outer.is_some(), "it is there for the next time");
    }

    #[test]
    fn both_forms_have_the_same_fields_and_a_client_id_breaks_neither() {
        let request = LogRequest::of("a\"b\n\u{1b}[31m");
        let text = request.to_string();
        let json = serde_json::to_value(&request).unwrap();
        assert_eq!(
            text,
            "connection=7 peer=192.0.2.1:40000 listener=PLAINTEXT \
             client_id=\"a\\\"b\\n\\u{1b}[31m\" api=\"Fetch\" version=17 correlation_id=4"
        );
        assert_eq!(
            json,
            serde_json::json!({
                "connection": 7, "peer": "192.0.2.1:40000", "listener": "PLAINTEXT",
                "client_id": "a\"b\n\u{1b}[31m", "api": "Fetch", "version": 17,
                "correlation_id": 4,
            })
        );
        let long = LogRequest::of(&"\u{1}é".repeat(10_000));
        assert!(long.to_string().len() < 1_000);
        let json = serde_json::to_value(&long).unwrap();
        assert!(json["client_id"].as_str().is_some_and(|id| (250..=256).contains(&id.len())));
        let of_none = LogRequest { id: None, ..LogRequest::of("c") };
        let start = "connection=7 peer=192.0.2.1:40000 listener=PLAINTEXT client_id=\"c\"";
        assert_eq!(of_none.to_string(), start);
        let json = serde_json::to_value(&of_none).unwrap();
        assert_eq!(json.as_object().map(serde_json::Map::len), Some(4), "{json}");
    }
}
