//! TLS's handshake, before a connection begins: in the connection's own task, with a deadline.

use std::pin::pin;
use std::time::Duration;

use tokio::net::TcpStream;
use tracing::{debug, warn};

use super::cause::Cause;
use super::context::Context;
use super::service::Session;
use crate::security::tls::{AcceptError, Stream, TlsAcceptor};

/// How long a client may take to agree on TLS; tokio-rustls has no limit of its own.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Agrees on TLS with the client at the other end of `stream`. Without an agreement the end is
/// logged and counted, and the socket closed.
pub(super) async fn handshake(
    context: &Context,
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    session: &mut Session,
) -> Option<Stream> {
    let deadline = context.clock.now() + HANDSHAKE_TIMEOUT;
    let shaken = context.clock.timeout_at(deadline, acceptor.accept(stream));
    let cause = tokio::select! {
        biased;
        () = pin!(context.shutdown.aborted()) => Cause::Cut,
        () = pin!(context.shutdown.draining()) => Cause::Drained,
        shaken = pin!(shaken) => match shaken {
            Ok(Ok(stream)) => {
                session.server_name = stream.server_name().map(Box::from);
                return Some(stream);
            }
            Ok(Err(error)) => Cause::Handshake(error),
            Err(_) => Cause::SlowHandshake,
        },
    };
    report(context, session, &cause);
    context.metrics.closed(&cause);
    None
}

/// A probe closes without a word, and is not worth one.
fn report(context: &Context, session: &Session, cause: &Cause) {
    let Session { id, peer, listener, .. } = session;
    let limit = match cause {
        Cause::Handshake(AcceptError::Plaintext) => &context.foreign_log,
        Cause::Handshake(
            AcceptError::NoCertificate
            | AcceptError::Certificate(_)
            | AcceptError::Alert(_)
            | AcceptError::Protocol(_),
        ) => &context.refused_log,
        _ => {
            debug!(connection = id, %peer, %listener, "connection closed: {cause}");
            return;
        }
    };
    if let Some(more) = limit.allow(&context.clock) {
        warn!(connection = id, %peer, %listener, more, "connection closed: {cause}");
    }
}

#[cfg(test)]
mod tests;
