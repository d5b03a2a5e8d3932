//! Buffers that are used again, because the first touch of fresh pages costs as much as all else
//! that happens to a received byte.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::{Bytes, BytesMut};

use crate::budget::SMALL_REQUEST_BYTES;

/// A read buffer: a length prefix and the largest small frame.
pub(super) const READ_BUFFER: usize = SMALL_REQUEST_BYTES + 4;

/// Sizes of large buffers are multiples of this, so that requests of about one size share them.
const LARGE_STEP: usize = 128 * 1024;

/// At most this much is kept in [`LargeBuffers`].
const LARGE_HELD_MAX: usize = 16 << 20;

thread_local! {
    /// The one read buffer that a worker thread keeps between polls.
    static READ: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// An empty buffer of [`READ_BUFFER`] bytes.
pub(super) fn take_read_buffer() -> BytesMut {
    READ.take().unwrap_or_else(|| BytesMut::with_capacity(READ_BUFFER))
}

/// Gives a read buffer back. It is kept if nothing else refers to it.
pub(super) fn put_read_buffer(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(READ_BUFFER) {
        READ.set(Some(buffer));
    }
}

/// Buffers for large frames. It keeps a handle to each buffer it has given out; when the frame is
/// gone, the handle is the only one left and the buffer is used again.
///
/// **Invariant:** what is kept stays below a quarter of the receive pool and 16 MiB. Kept buffers
/// whose frames are gone are not charged to any pool.
#[derive(Debug)]
pub(super) struct LargeBuffers {
    limit: usize,
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    size: usize,
    buffer: BytesMut,
}

/// A buffer for one large frame.
#[derive(Debug)]
pub(super) struct LargeBuffer {
    size: usize,
    buffer: BytesMut,
}

impl LargeBuffer {
    /// The bytes read so far.
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// How many bytes were read so far.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }
}

impl LargeBuffers {
    /// For a receive pool of `capacity` bytes.
    pub(super) fn new(capacity: usize) -> Self {
        Self { limit: (capacity / 4).min(LARGE_HELD_MAX), kept: Mutex::default() }
    }

    /// A buffer for a frame of `len` bytes, empty.
    pub(super) fn take(&self, len: usize) -> LargeBuffer {
        let size = len.next_multiple_of(LARGE_STEP);
        let mut kept = self.kept.lock().expect("nothing panics under this lock");
        let found = kept.iter_mut().position(|candidate| {
            // A buffer more than twice as large as needed waits for a frame of its own size.
            (len..=size * 2).contains(&candidate.size) && candidate.buffer.try_reclaim(len)
        });
        match found.and_then(|place| kept.remove(place)) {
            Some(Kept { size, buffer }) => LargeBuffer { size, buffer },
            None => LargeBuffer { size, buffer: BytesMut::with_capacity(size) },
        }
    }

    /// Turns a full buffer into its frame and keeps a handle for the next one.
    pub(super) fn finish(&self, full: LargeBuffer) -> Bytes {
        let LargeBuffer { size, mut buffer } = full;
        let frame = buffer.split().freeze();
        if size <= self.limit {
            let mut kept = self.kept.lock().expect("nothing panics under this lock");
            kept.push_back(Kept { size, buffer });
            let mut sum: usize = kept.iter().map(|candidate| candidate.size).sum();
            while sum > self.limit
                && let Some(oldest) = kept.pop_front()
            {
                sum -= oldest.size;
            }
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffers: &LargeBuffers, len: usize) -> Bytes {
        let mut buffer = buffers.take(len);
        buffer.bytes().resize(len, 7);
        buffers.finish(buffer)
    }

    #[test]
    fn a_large_buffer_is_used_again_once_its_frame_is_gone() {
        let buffers = LargeBuffers::new(16 << 20);
        let first = fill(&buffers, 1 << 20);
        let address = first.as_ptr();
        let second = fill(&buffers, 1 << 20);
        assert_ne!(second.as_ptr(), address, "the first frame still lives");
        drop(first);
        let third = fill(&buffers, (1 << 20) - 100);
        assert_eq!(third.as_ptr(), address);
        assert!(third.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let buffers = LargeBuffers::new(8 << 20);
        let frames: Vec<Bytes> = (0..10).map(|_| fill(&buffers, 1 << 20)).collect();
        drop(frames);
        let _whole = fill(&buffers, 8 << 20);
        let kept = buffers.kept.lock().unwrap();
        assert!(kept.iter().map(|candidate| candidate.size).sum::<usize>() <= 2 << 20);
    }

    #[test]
    fn a_read_buffer_that_is_referred_to_is_not_kept() {
        let mut buffer = take_read_buffer();
        buffer.extend_from_slice(&[1; 100]);
        let slice = buffer.split_to(100).freeze();
        put_read_buffer(buffer);
        let mut next = take_read_buffer();
        next.extend_from_slice(&[2; 100]);
        assert_eq!(slice, vec![1; 100]);
        let address = next.as_ptr();
        put_read_buffer(next);
        assert_eq!(take_read_buffer().as_ptr(), address);
    }
}
