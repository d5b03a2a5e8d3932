//! The read buffers of upstream connections: a worker thread keeps one between polls, so that
//! reading many small responses touches the same memory again and again.

use std::cell::Cell;

use bytes::BytesMut;

/// The size of a read buffer.
pub(super) const READ_BUFFER: usize = 64 * 1024;

thread_local! {
    static READ: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// An empty buffer.
pub(super) fn take() -> BytesMut {
    READ.take().unwrap_or_else(|| BytesMut::with_capacity(READ_BUFFER))
}

/// Gives a buffer back. It is kept if nothing else refers to it.
pub(super) fn put(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(READ_BUFFER) {
        READ.set(Some(buffer));
    }
}
