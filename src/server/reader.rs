//! From bytes of a socket to frames, without ever holding more than has been charged.
//!
//! - Bytes are charged to the small pool *before* they are read: a read buffer's worth, which the
//!   frames read with it then take their charges from. An idle connection holds neither buffer nor
//!   charge; a few bytes of an unfinished frame are kept outside the pools, so that peers that
//!   trickle cannot use a pool up.
//! - A frame above 64 KiB gets a slot when its length is known, collects its first 64 KiB in the
//!   read buffer, and only then takes its whole length from the receive pool, in one step. It then
//!   has a buffer of its own and is read in pieces as large as the kernel gives.
//! - While it waits for a pool a connection is not read. After a second of that, the connection
//!   whose unfinished frame of the same kind grows most slowly is closed.
//!
//! **Invariant:** nothing is held in one pool while another one is waited for, except the slot's
//! 64 KiB of the small pool by a frame that waits for the receive pool; slots are at most a quarter
//! of the small pool. The price is that a connection that waits for the small pool or for a slot,
//! itself or in the first stage of its request, may have up to one read buffer of bytes that are
//! not charged: seldom more than 4 KiB, because the first read of a connection, and of a frame
//! after a large one, is no larger.

mod wait;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::OwnedSemaphorePermit;

use self::wait::{Wait, Waiting, admitted, patiently};
use super::buffers::{LargeBuffer, READ_BUFFER, put_read_buffer, take_read_buffer};
use super::cause::Cause;
use super::connections::{Entry, Stage as Reported};
use super::context::Context;
use crate::budget::{Charge, SMALL_REQUEST_BYTES};
use crate::clock::Instant;
use crate::protocol::frame::{FrameError, LENGTH_BYTES, frame_length};

/// Frames below this are copied out of the read buffer: a small request that a service keeps for
/// long would otherwise keep 64 KiB alive.
const COPY_BELOW: usize = 16 * 1024;
/// The first read of a connection, and the first one after a large frame: enough for most requests,
/// and little to copy if a large frame starts there.
const FIRST_READ: usize = 4 * 1024;
/// So much of an unfinished frame is kept without a charge.
const UNCHARGED_TAIL: usize = 1024;
/// The least rate at which a frame must come, in bytes a second.
const LEAST_RATE: usize = 64 * 1024;

/// A request's frame without its length prefix.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) charge: Charge,
    /// When its last byte had been read.
    pub(super) received: Instant,
}

/// Reads the frames of one connection.
pub(super) struct Reader {
    context: Arc<Context>,
    entry: Arc<Entry>,
    stage: Stage,
    /// Bytes that were read and not given out, from the length prefix of a frame on. While a large
    /// frame is read it is empty.
    buffer: BytesMut,
    /// What the buffer is charged to.
    charge: Charge,
    /// How much the next read asks for; grows with full reads.
    read_size: usize,
    wait: Option<Wait>,
    /// When the frame that is not complete began, moved on by the time it waited for memory.
    began: Option<Instant>,
    /// When the last byte was read.
    read_at: Instant,
}

/// How far the frame at the front has come.
enum Stage {
    /// Its length is unknown, or it is a small one.
    Small,
    /// It is large, and so much of it is being collected that it may be charged.
    Prefix { length: usize, _slot: OwnedSemaphorePermit },
    /// It is charged in full and has its own buffer.
    Large { length: usize, frame: LargeBuffer, charge: Charge },
}

impl Reader {
    /// A reader that has read nothing.
    pub(super) fn new(context: Arc<Context>, entry: Arc<Entry>) -> Self {
        let read_at = context.clock.now();
        Self {
            context,
            entry,
            stage: Stage::Small,
            buffer: BytesMut::new(),
            charge: Charge::none(),
            read_size: FIRST_READ,
            wait: None,
            began: None,
            read_at,
        }
    }

    /// When the last byte was read.
    pub(super) fn read_at(&self) -> Instant {
        self.read_at
    }

    /// When the unfinished frame is too slow; `None` without one, or while it waits for memory.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let began = self.began.filter(|_| self.wait.is_none())?;
        let transfer = Duration::from_secs(self.announced().div_ceil(LEAST_RATE) as u64);
        Some(began + self.context.limits.frame_grace + transfer)
    }

    /// The announced length of the unfinished frame, as far as it is known.
    pub(super) fn announced(&self) -> usize {
        match &self.stage {
            Stage::Prefix { length, .. } | Stage::Large { length, .. } => *length,
            Stage::Small => self.front_length().ok().flatten().unwrap_or(0),
        }
    }

    /// Drives the reading until a whole frame is at the front. It may be called again before the
    /// frame is taken, and reads nothing more then.
    pub(super) fn poll_frame<IO: AsyncRead + Unpin>(
        &mut self,
        task: &mut Task<'_>,
        io: &mut IO,
    ) -> Poll<Result<(), Cause>> {
        loop {
            ready!(self.poll_wait(task));
            match &mut self.stage {
                Stage::Small => {
                    if let Some(length) = self.front_length()? {
                        if length > SMALL_REQUEST_BYTES {
                            self.begin_large(length);
                            continue;
                        }
                        if self.buffer.len() >= LENGTH_BYTES + length {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    let wanted = self.front_length()?.unwrap_or(0) + LENGTH_BYTES;
                    ready!(self.poll_fill(task, io, wanted))?;
                }
                Stage::Prefix { length, .. } => {
                    if self.buffer.len() >= SMALL_REQUEST_BYTES {
                        let length = *length;
                        self.wait_for_receive(length);
                        continue;
                    }
                    ready!(self.poll_fill(task, io, READ_BUFFER))?;
                }
                Stage::Large { length, frame, .. } => {
                    let left = *length - frame.len();
                    if left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    let read = ready!(poll_read(task, io, frame.bytes(), left))?;
                    self.has_read(read);
                }
            }
        }
    }

    /// Takes the frame that [`Reader::poll_frame`] has found; `None` if there is none.
    pub(super) fn take_frame(&mut self) -> Option<Frame> {
        let (bytes, charge) = match std::mem::replace(&mut self.stage, Stage::Small) {
            Stage::Large { length, frame, charge } if frame.len() == length => {
                (self.context.large_buffers.finish(frame), charge)
            }
            Stage::Small => self.take_small()?,
            unfinished => {
                self.stage = unfinished;
                return None;
            }
        };
        self.began = None;
        self.entry.receive.end();
        self.entry.set_stage(Reported::None);
        Some(Frame { bytes, charge, received: self.read_at })
    }

    /// Watches for the end of the stream while no frame is wanted. What comes instead is kept until
    /// one is, and nothing more is read then. No memory is waited for: that of others, which come
    /// by their frames, goes first, and the end is looked for when the connection is next polled.
    pub(super) fn poll_end<IO: AsyncRead + Unpin>(
        &mut self,
        task: &mut Task<'_>,
        io: &mut IO,
    ) -> Poll<Result<(), Cause>> {
        let is_between = matches!(self.stage, Stage::Small) && self.buffer.is_empty();
        if !is_between || self.wait.is_some() || !self.try_charge_buffer() {
            self.pause();
            return Poll::Pending;
        }
        ready!(self.poll_fill(task, io, LENGTH_BYTES))?;
        self.pause();
        Poll::Ready(Ok(()))
    }

    /// The reader will not be polled for a while: gives back a buffer that holds nothing. One that
    /// holds bytes counts as a transfer without progress, lest requests that wait for long, behind
    /// which their peer sends more, hold the small pool for as long.
    pub(super) fn pause(&mut self) {
        if self.buffer.is_empty() {
            self.release_buffer();
        } else if self.charge.bytes() > 0 && matches!(self.stage, Stage::Small) {
            self.entry.set_stage(Reported::Small);
            self.entry.receive.hold(READ_BUFFER, self.context.connections.now_ms());
        }
    }

    /// The connection's request waits, perhaps for the small pool, of which nothing is left: what
    /// the buffer holds of it is given back, or connections could wait for one another.
    pub(super) fn give_way(&mut self) {
        if matches!(self.stage, Stage::Small) && self.context.small.is_exhausted() {
            self.entry.receive.end();
            self.charge = Charge::none();
        }
    }

    /// The reader will not be polled again: gives back everything.
    pub(super) fn stop(&mut self) {
        self.stage = Stage::Small;
        self.wait = None;
        self.began = None;
        self.entry.receive.end();
        self.release_buffer();
    }

    fn take_small(&mut self) -> Option<(Bytes, Charge)> {
        let length = self.front_length().ok().flatten()?;
        let whole = LENGTH_BYTES + length;
        if length > SMALL_REQUEST_BYTES || self.buffer.len() < whole {
            return None;
        }
        self.buffer.advance(LENGTH_BYTES);
        let bytes = if length < COPY_BELOW {
            self.context.metrics.copied_in.inc_by(length as u64);
            let copy = Bytes::copy_from_slice(self.buffer.get(..length)?);
            self.buffer.advance(length);
            copy
        } else {
            self.buffer.split_to(length).freeze()
        };
        // The buffer's charge covers all frames in it, except in a pool smaller than the buffer.
        let charge = self.charge.split(length.min(self.charge.bytes())).unwrap_or_default();
        Some((bytes, charge))
    }

    /// The length of the frame at the front, if its prefix is there and not refused.
    fn front_length(&self) -> Result<Option<usize>, Cause> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let limit = self.context.limits.max_request_bytes;
        let length = frame_length(*prefix, limit).map_err(Cause::Frame)?;
        let room = self.context.receive.capacity();
        if length > SMALL_REQUEST_BYTES && length > room {
            return Err(Cause::Frame(FrameError::TooLarge { length, limit: room }));
        }
        Ok(Some(length))
    }

    /// A large frame starts: without a slot no more of it is read, and nothing is charged for it.
    fn begin_large(&mut self, length: usize) {
        self.begin_frame();
        let slots = Arc::clone(&self.context.prefix_slots);
        if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
            self.begin_prefix(length, slot);
            return;
        }
        self.charge = Charge::none();
        let context = Arc::clone(&self.context);
        let slot = async move {
            let slot = slots.acquire_owned();
            let what = (Reported::Prefix, READ_BUFFER);
            patiently(&context, what, slot).await.expect("the slots are never closed")
        };
        self.wait_for(Waiting::Slot(length, Box::pin(slot)));
    }

    fn begin_prefix(&mut self, length: usize, slot: OwnedSemaphorePermit) {
        self.stage = Stage::Prefix { length, _slot: slot };
        self.entry.set_stage(Reported::Prefix);
        self.entry.receive.hold(length, self.context.connections.now_ms());
    }

    fn wait_for_receive(&mut self, length: usize) {
        if let Some(charge) = self.context.receive.try_take(length) {
            self.begin_body(charge);
            return;
        }
        let pool = self.context.receive.clone();
        let room = admitted(Arc::clone(&self.context), pool, length, Reported::Large);
        self.wait_for(Waiting::Receive(Box::pin(room)));
    }

    /// The large frame at the front is charged: what is there of it moves to its own buffer.
    fn begin_body(&mut self, charge: Charge) {
        let Stage::Prefix { length, .. } = &self.stage else { return };
        let length = *length;
        let mut frame = self.context.large_buffers.take(length);
        self.buffer.advance(LENGTH_BYTES);
        // The one copy on the way in: 64 KiB at most of each large frame.
        self.context.metrics.copied_in.inc_by(self.buffer.len() as u64);
        frame.bytes().extend_from_slice(&self.buffer);
        self.stage = Stage::Large { length, frame, charge };
        self.release_buffer();
        self.read_size = FIRST_READ;
        self.entry.set_stage(Reported::Large);
        self.entry.receive.hold(length, self.context.connections.now_ms());
    }

    /// Reads once, so that `wanted` bytes can lie in the buffer. Ready without having read when it
    /// has to wait for memory.
    fn poll_fill<IO: AsyncRead + Unpin>(
        &mut self,
        task: &mut Task<'_>,
        io: &mut IO,
        wanted: usize,
    ) -> Poll<Result<(), Cause>> {
        if !self.charge_buffer() {
            return Poll::Ready(Ok(()));
        }
        let aim = (self.buffer.len() + self.read_size).clamp(wanted, READ_BUFFER.max(wanted));
        self.make_room(aim);
        let limit = aim - self.buffer.len();
        let Poll::Ready(read) = poll_read(task, io, &mut self.buffer, limit) else {
            self.settle();
            return Poll::Pending;
        };
        let read = match read {
            Ok(read) => read,
            Err(Cause::Truncated) if self.buffer.is_empty() => return cause(Cause::PeerClosed),
            Err(error) => return cause(error),
        };
        if read == limit {
            self.read_size = (self.read_size * 4).min(READ_BUFFER);
        }
        self.has_read(read);
        Poll::Ready(Ok(()))
    }

    /// Charges a whole read buffer before it is read into; `false` if that has to be waited for.
    fn charge_buffer(&mut self) -> bool {
        if self.try_charge_buffer() {
            return true;
        }
        let pool = &self.context.small;
        let whole = READ_BUFFER.min(pool.capacity());
        // Waiting with a part of it in hand could leave everybody with a part.
        self.charge = Charge::none();
        let room = admitted(Arc::clone(&self.context), pool.clone(), whole, Reported::Small);
        self.wait_for(Waiting::Small(Box::pin(room)));
        false
    }

    /// The same without waiting.
    fn try_charge_buffer(&mut self) -> bool {
        let pool = &self.context.small;
        let whole = READ_BUFFER.min(pool.capacity());
        let missing = whole.saturating_sub(self.charge.bytes());
        if missing == 0 {
            return true;
        }
        let Some(more) = pool.try_take(missing) else { return false };
        self.charge.merge(more);
        true
    }

    /// Makes the buffer large enough for `total` bytes from its front on.
    fn make_room(&mut self, total: usize) {
        let additional = total.saturating_sub(self.buffer.len());
        if self.buffer.capacity() >= total || self.buffer.try_reclaim(additional) {
            return;
        }
        let mut fresh = take_read_buffer();
        self.context.metrics.copied_in.inc_by(self.buffer.len() as u64);
        fresh.extend_from_slice(&self.buffer);
        put_read_buffer(std::mem::replace(&mut self.buffer, fresh));
    }

    fn has_read(&mut self, bytes: usize) {
        self.read_at = self.context.clock.now();
        self.entry.receive.moved(bytes);
    }

    /// Nothing more has come: gives back what is not needed until something does.
    fn settle(&mut self) {
        if self.buffer.is_empty() {
            self.release_buffer();
            return;
        }
        self.begin_frame();
        if !matches!(self.stage, Stage::Small) {
            return;
        }
        if self.buffer.len() <= UNCHARGED_TAIL {
            if self.buffer.capacity() > 2 * UNCHARGED_TAIL {
                let mut tail = BytesMut::with_capacity(self.buffer.len());
                tail.extend_from_slice(&self.buffer);
                put_read_buffer(std::mem::replace(&mut self.buffer, tail));
            }
            self.charge = Charge::none();
            return;
        }
        self.entry.set_stage(Reported::Small);
        self.entry.receive.hold(READ_BUFFER, self.context.connections.now_ms());
    }

    /// The frame at the front is not complete: its time begins, if it has not begun.
    fn begin_frame(&mut self) {
        if self.began.is_none() {
            self.began = Some(self.context.clock.now());
        }
    }

    fn release_buffer(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.capacity() > 0 {
            put_read_buffer(buffer);
        }
        self.charge = Charge::none();
    }
}

fn cause(cause: Cause) -> Poll<Result<(), Cause>> {
    Poll::Ready(Err(cause))
}

/// One read of at most `limit` bytes to the end of `buffer`. The end of the stream is
/// [`Cause::Truncated`].
fn poll_read<IO: AsyncRead + Unpin>(
    task: &mut Task<'_>,
    io: &mut IO,
    buffer: &mut BytesMut,
    limit: usize,
) -> Poll<Result<usize, Cause>> {
    let mut room = buffer.limit(limit);
    match ready!(pin!(io.read_buf(&mut room)).poll(task)) {
        Ok(0) => Poll::Ready(Err(Cause::Truncated)),
        Ok(read) => Poll::Ready(Ok(read)),
        Err(error) => Poll::Ready(Err(Cause::Failed(error.kind()))),
    }
}

#[cfg(test)]
mod tests;
