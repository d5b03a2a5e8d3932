//! Requests of our own, one at a time.

use std::io;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader as Header,
};
use kafka_protocol::protocol::{Encodable, Message, Request, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::clock::Clock;
use crate::protocol::error::ErrorCode;
use crate::protocol::frame::{Foreign, LENGTH_BYTES, foreign};
use crate::protocol::guard::{GuardError, Limits, decode_response};
use crate::protocol::header::parse_response_header;
use crate::security::tls::{Stream, alert_in};

/// How long a server may take to answer: Kafka's own default for its clients
/// (`request.timeout.ms`).
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// An answer's buffer grows by so much at a time at first, and then doubles.
const FIRST_READ: usize = 16 * 1024;

const API_VERSIONS: i16 = ApiKey::ApiVersions as i16;

/// Why a request has no answer. The connection is of no more use after any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The server answered in TLS, or with an alert of TLS.
    #[error(
        "the server speaks TLS and PLAINTEXT was expected; set the security protocol to SSL (or \
         SASL_SSL)"
    )]
    Tls,
    /// The server answered in HTTP.
    #[error("the server speaks HTTP and not Kafka; check the port")]
    Http,
    /// The server ended TLS and said why.
    #[error("the server ended the TLS connection: {0}")]
    Alert(String),
    /// The server closed the connection where its answer should have begun.
    #[error(
        "the server closed the connection instead of answering {api}; does it expect TLS or SASL \
         there?"
    )]
    Closed {
        /// What was asked.
        api: &'static str,
    },
    /// The server closed the connection inside its answer.
    #[error("the server closed the connection inside its answer to {api}")]
    Truncated {
        /// What was asked.
        api: &'static str,
    },
    /// There was no answer in [`CALL_TIMEOUT`].
    #[error("the server did not answer {api} in {} s", CALL_TIMEOUT.as_secs())]
    TimedOut {
        /// What was asked.
        api: &'static str,
    },
    /// The answer's length cannot be one of Kafka.
    #[error("the server announced an answer to {api} of {length} bytes; is it a Kafka server?")]
    Length {
        /// What was asked.
        api: &'static str,
        /// The announced length.
        length: i32,
    },
    /// The answer is to another request.
    #[error("the server answered {api} with correlation id {found} instead of {expected}")]
    Correlation {
        /// What was asked.
        api: &'static str,
        /// The id of the request.
        expected: i32,
        /// The id of the answer.
        found: i32,
    },
    /// The answer ends inside its header.
    #[error("the server's answer to {api} ends inside its header")]
    Header {
        /// What was asked.
        api: &'static str,
    },
    /// The answer cannot be read.
    #[error("the server's answer cannot be read: {0}")]
    Body(GuardError),
    /// The request does not exist in this version.
    #[error("{api} v{version} cannot be asked: {reason}")]
    Request {
        /// What was to be asked.
        api: &'static str,
        /// The version.
        version: i16,
        /// The encoder's words.
        reason: String,
    },
    /// The server refused with an error code.
    #[error("the server answered {api} with error {code}")]
    Refused {
        /// What was asked.
        api: &'static str,
        /// Kafka's error code.
        code: i16,
    },
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Failed(String),
    /// A request before failed, or was given up before its answer came.
    #[error("the connection is of no use since a request before failed")]
    Broken,
}

/// Asks requests over one connection, one at a time.
///
/// A request that fails, or whose future is dropped, leaves the connection unusable: nobody knows
/// which answer would come next.
#[derive(Debug)]
pub struct Client {
    stream: Stream,
    name: StrBytes,
    clock: Clock,
    correlation_id: i32,
    usable: bool,
}

impl Client {
    /// A client on a connection over which nothing was asked yet, or only what was answered.
    pub fn new(stream: Stream, client_id: &str, clock: Clock) -> Self {
        let name = StrBytes::from_string(client_id.to_owned());
        Self { stream, name, clock, correlation_id: 0, usable: true }
    }

    /// Asks `request` in `version` and waits for its answer, for at most [`CALL_TIMEOUT`].
    ///
    /// The server must speak the version, and the guard must have the shape of the response.
    pub async fn call<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let body = self.exchange(version, request).await?;
        self.decode::<R>(version, &body)
    }

    /// Sends `request` in `version` and waits for no answer; the server must give none.
    pub async fn tell<R: Request>(&mut self, version: i16, request: &R) -> Result<(), ClientError> {
        if !self.usable {
            return Err(ClientError::Broken);
        }
        let api = name(R::KEY);
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let frame = self.encode(version, self.correlation_id, request)?;
        self.usable = false;
        let clock = self.clock.clone();
        let sent = async {
            self.stream.write_all(&frame).await?;
            self.stream.flush().await
        };
        let sent = clock.timeout(CALL_TIMEOUT, sent).await;
        sent.map_err(|_| ClientError::TimedOut { api })?.map_err(|error| failed(api, &error))?;
        self.usable = true;
        Ok(())
    }

    /// Asks which APIs and versions the server speaks, in the highest version that both know.
    ///
    /// A server that does not know ours answers in version 0 with its range (KIP-511), or, before
    /// Kafka 2.4, without one; it is asked again then.
    pub async fn api_versions(&mut self) -> Result<ApiVersionsResponse, ClientError> {
        let ours = <ApiVersionsRequest as Message>::VERSIONS;
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("tidegate"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut version = ours.max;
        loop {
            let body = self.exchange(version, &request).await?;
            // The code is the first field of every version.
            let code = body.as_ref().try_get_i16().unwrap_or_default();
            let is_newer = code == ErrorCode::UnsupportedVersion as i16;
            let answered = if is_newer { 0 } else { version };
            let response = self.decode::<ApiVersionsRequest>(answered, &body)?;
            if code == ErrorCode::None as i16 {
                return Ok(response);
            }
            if !is_newer || version == ours.min {
                self.usable = false;
                return Err(ClientError::Refused { api: name(API_VERSIONS), code });
            }
            let theirs = response.api_keys.iter().find(|row| row.api_key == API_VERSIONS);
            version = theirs.map_or(ours.min, |row| row.max_version.clamp(ours.min, version - 1));
        }
    }

    fn decode<R: Request>(
        &mut self,
        version: i16,
        body: &Bytes,
    ) -> Result<R::Response, ClientError> {
        let decoded = decode_response::<R>(version, body, Limits::RESPONSE);
        self.usable = decoded.is_ok();
        decoded.map(|(response, _)| response).map_err(ClientError::Body)
    }

    /// Sends a request and returns the body of its answer.
    async fn exchange<R: Request>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<Bytes, ClientError> {
        if !self.usable {
            return Err(ClientError::Broken);
        }
        let api = name(R::KEY);
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let expected = self.correlation_id;
        let frame = self.encode(version, expected, request)?;
        // Also when the future is dropped on its way.
        self.usable = false;
        let clock = self.clock.clone();
        let answered = clock.timeout(CALL_TIMEOUT, self.send_and_receive(api, &frame)).await;
        let answer = answered.map_err(|_| ClientError::TimedOut { api })??;
        let read = parse_response_header(&answer, R::KEY, version);
        let (found, body) = read.ok_or(ClientError::Header { api })?;
        if found != expected {
            return Err(ClientError::Correlation { api, expected, found });
        }
        self.usable = true;
        Ok(body)
    }

    fn encode<R: Request>(
        &self,
        version: i16,
        correlation_id: i32,
        request: &R,
    ) -> Result<Bytes, ClientError> {
        let header = Header::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation_id)
            .with_client_id(Some(self.name.clone()));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let encoded = header
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version));
        let refused = |reason| ClientError::Request { api: name(R::KEY), version, reason };
        encoded.map_err(|error| refused(format!("{error:#}")))?;
        let length = i32::try_from(frame.len() - LENGTH_BYTES);
        let length = length.map_err(|_| refused("it fits no frame".to_owned()))?;
        frame[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(frame.freeze())
    }

    async fn send_and_receive(
        &mut self,
        api: &'static str,
        frame: &Bytes,
    ) -> Result<Bytes, ClientError> {
        let sent = async {
            self.stream.write_all(frame).await?;
            self.stream.flush().await
        };
        // A server that closes, or speaks TLS, may have done so before it took the request. What it
        // said before that tells more, and without a word the answer's end says the same.
        let _ = sent.await;
        self.receive(api).await
    }

    async fn receive(&mut self, api: &'static str) -> Result<Bytes, ClientError> {
        let mut prefix = [0_u8; LENGTH_BYTES];
        let mut have = 0;
        while have < LENGTH_BYTES {
            let read = self.stream.read(&mut prefix[have..]).await;
            match read.map_err(|error| failed(api, &error))? {
                0 if have == 0 => return Err(ClientError::Closed { api }),
                0 => return Err(ClientError::Truncated { api }),
                read => have += read,
            }
        }
        let length = i32::from_be_bytes(prefix);
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes > Limits::RESPONSE.body_bytes {
            return Err(match foreign(prefix) {
                Some(Foreign::Tls) => ClientError::Tls,
                Some(Foreign::Http) => ClientError::Http,
                None => ClientError::Length { api, length },
            });
        }
        let mut answer = BytesMut::new();
        while answer.len() < bytes {
            // No more than as much again as has come.
            let room = answer.len().max(FIRST_READ).min(bytes - answer.len());
            answer.reserve(room);
            let mut piece = (&mut self.stream).take(room as u64);
            if piece.read_buf(&mut answer).await.map_err(|error| failed(api, &error))? == 0 {
                return Err(ClientError::Truncated { api });
            }
        }
        Ok(answer.freeze())
    }
}

fn failed(api: &'static str, error: &io::Error) -> ClientError {
    match alert_in(error) {
        Some(alert) => ClientError::Alert(alert),
        None if error.kind() == io::ErrorKind::ConnectionReset => ClientError::Closed { api },
        None => ClientError::Failed(error.to_string()),
    }
}

fn name(key: i16) -> &'static str {
    crate::protocol::guard::shape::kafka_api(key).map_or("an unknown API", |api| api.name)
}
