//! What is left to do when a connection has ended: to tell it, and to let its answers be read.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tracing::{debug, error, warn};

use super::cause::Cause;
use super::context::Context;
use super::log_request::LogRequest;
use super::service::Disconnect;
use crate::protocol::frame::FrameError;

/// How long a socket is drained after the last response, lest closing it over unread bytes resets
/// the connection and takes the response away from the peer.
const CLOSE_LINGER: Duration = Duration::from_secs(1);
/// At most this much is drained.
const CLOSE_LINGER_BYTES: usize = 1 << 20;

/// Logs the end once, in words for whoever can act on it.
pub(super) fn report(cause: &Cause, about: LogRequest, context: &Context) {
    LogRequest::during(&mut Some(about), || tell(cause, context));
}

fn tell(cause: &Cause, context: &Context) {
    let limit = match cause {
        Cause::Panicked { .. } => {
            if let Some(more) = context.failed_log.allow(&context.clock) {
                error!(more, "request failed unexpectedly");
            }
            return;
        }
        Cause::Frame(FrameError::Http | FrameError::Tls) => &context.foreign_log,
        Cause::Frame(_)
        | Cause::Header(_)
        | Cause::Body(_)
        | Cause::Unsupported { .. }
        | Cause::Service(
            Disconnect::Malformed { .. }
            | Disconnect::UnsupportedVersion { .. }
            | Disconnect::UnacknowledgedProduce(_)
            | Disconnect::Unavailable(_),
        )
        | Cause::Deferred(_)
        | Cause::Relieved
        | Cause::SlowFrame { .. }
        | Cause::SlowReader => &context.refused_log,
        Cause::PeerClosed
        | Cause::Truncated
        | Cause::Failed(_)
        | Cause::Service(Disconnect::Done(_))
        | Cause::Handshake(_)
        | Cause::SlowHandshake
        | Cause::Idle
        | Cause::Drained
        | Cause::Cut => {
            debug!("connection closed: {cause}");
            return;
        }
    };
    if let Some(more) = limit.allow(&context.clock) {
        warn!(more, "connection closed: {cause}");
    }
}

/// Says that nothing more will be written, and drains what the peer still sends.
pub(super) async fn close_gently<IO: AsyncRead + AsyncWrite + Unpin>(
    io: &mut IO,
    context: &Context,
) {
    let drain = async {
        if io.shutdown().await.is_err() {
            return;
        }
        let mut scratch = vec![0_u8; 16 * 1024];
        let mut left = CLOSE_LINGER_BYTES;
        while left > 0 {
            match io.read(&mut scratch).await {
                Ok(0) | Err(_) => return,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
    };
    // The peer that keeps sending for longer is cut off.
    let _ = context.clock.timeout(CLOSE_LINGER, drain).await;
}
