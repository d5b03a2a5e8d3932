//! The memory of records: recycled blocks that appenders fill side by side, the file is written
//! from, and readers at the tail hold slices of.
//!
//! ```text
//!   free ──▶ current ──▶ sealed, in flight ──▶ durable (tail) ──▶ evicted ──▶ free
//!             (Wal pool, per record)            (Tail pool)          │
//!                                                                    └─ a response still holds a
//!                                                                       slice: lingering (Send pool)
//! ```
//!
//! **Invariant:** a block is used again only when no slice of it is left anywhere.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::BytesMut;

use super::{Lsn, Owner};
use crate::budget::{Budget, BytePool, Charge, Pool};

/// Size of a block; a larger record has one of its own.
pub(super) const BLOCK_BYTES: usize = 1 << 20;
/// Blocks for larger records come in multiples of this, so that they can be used again.
const LARGE_STEP: usize = 64 << 10;

/// All blocks of a log. Not shared: the log keeps it behind a mutex.
#[derive(Debug)]
pub(super) struct Blocks {
    next_id: u64,
    current: Option<(u64, BytesMut)>,
    /// Blocks with records that are in flight or durable and not evicted, oldest first.
    live: BTreeMap<u64, Block>,
    /// Evicted blocks that something still holds a slice of.
    lingering: Vec<Lingering>,
    /// Blocks nobody holds, and their bytes.
    free: Vec<BytesMut>,
    free_bytes: usize,
    /// The most bytes kept in `free`.
    max_free_bytes: usize,
    tail: BytePool,
    send: BytePool,
    /// Bytes of durable blocks kept for readers.
    tail_bytes: usize,
}

#[derive(Debug)]
struct Block {
    capacity: usize,
    /// The handle that wins the memory back; `None` while the block is the current one.
    handle: Option<BytesMut>,
    /// Bytes at the end that no record fitted into, charged with the next group.
    slack: usize,
    /// Groups with records in the block that are not durable yet.
    in_flight: usize,
    last: Lsn,
    owners: HashMap<usize, Arc<dyn Owner>>,
    charge: Charge,
    charged: usize,
}

#[derive(Debug)]
struct Lingering {
    handle: BytesMut,
    bytes: usize,
    /// Of the send pool; nothing if that was full.
    charge: Charge,
}

/// The part of a group that is in one block.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) block: u64,
    pub(super) bytes: usize,
    pub(super) last: Lsn,
}

/// Owners that must drop their slices.
#[derive(Debug, Default)]
pub(super) struct Evicted {
    pub(super) upto: Lsn,
    pub(super) owners: Vec<Arc<dyn Owner>>,
    block: Option<(BytesMut, usize)>,
}

impl Blocks {
    pub(super) fn new(budget: &Budget) -> Self {
        let tail = budget.pool(Pool::Tail).clone();
        let max_free_bytes = tail.capacity() + budget.pool(Pool::Wal).capacity();
        Self {
            next_id: 1,
            current: None,
            live: BTreeMap::new(),
            lingering: Vec::new(),
            free: Vec::new(),
            free_bytes: 0,
            max_free_bytes,
            tail,
            send: budget.pool(Pool::Send).clone(),
            tail_bytes: 0,
        }
    }

    /// An empty buffer with room for at least `bytes`, and the block that it is part of.
    pub(super) fn take(&mut self, bytes: usize) -> (u64, BytesMut) {
        if bytes > BLOCK_BYTES {
            let wanted = (bytes + 1).next_multiple_of(LARGE_STEP);
            let mut buffer = self.free_block(wanted, wanted + wanted / 4);
            let capacity = buffer.capacity();
            // One byte stays behind: the handle must belong to the same memory.
            let handle = buffer.split_off(capacity - 1);
            let id = self.insert(capacity);
            self.seal(id, handle, capacity - bytes);
            return (id, buffer);
        }
        if self.current.as_ref().is_none_or(|(_, rest)| rest.capacity() <= bytes) {
            self.seal_current();
            let buffer = self.free_block(BLOCK_BYTES + 1, BLOCK_BYTES + LARGE_STEP);
            let id = self.insert(buffer.capacity());
            self.current = Some((id, buffer));
        }
        let (id, rest) = self.current.as_mut().expect("a block was just made");
        let after = rest.split_off(bytes);
        (*id, std::mem::replace(rest, after))
    }

    /// A group that has records in `block` was opened (once per group and block).
    pub(super) fn begin(&mut self, block: u64) {
        if let Some(block) = self.live.get_mut(&block) {
            block.in_flight += 1;
        }
    }

    /// A record of `owner` was placed in `block`.
    pub(super) fn note_owner(&mut self, block: u64, owner: &Arc<dyn Owner>) {
        if let Some(block) = self.live.get_mut(&block) {
            let key = Arc::as_ptr(owner).cast::<()>() as usize;
            block.owners.entry(key).or_insert_with(|| Arc::clone(owner));
        }
    }

    /// Moves a durable group's bytes to the tail pool. Whoever must drop slices to make room for
    /// them is returned and must be told, and [`Blocks::evicted`] called then.
    pub(super) fn durable(&mut self, shares: &[Share]) -> Vec<Evicted> {
        let mut evicted = Vec::new();
        for share in shares {
            let Some(block) = self.live.get_mut(&share.block) else { continue };
            block.in_flight -= 1;
            block.last = block.last.max(share.last);
            let bytes = share.bytes + std::mem::take(&mut block.slack);
            let charge = loop {
                if let Some(charge) = self.tail.try_take(bytes) {
                    break Some(charge);
                }
                match self.evict_oldest(Some(share.block)) {
                    Some(gone) => evicted.push(gone),
                    None => break None,
                }
            };
            let Some(block) = self.live.get_mut(&share.block) else { continue };
            if let Some(charge) = charge {
                block.charge.merge(charge);
                block.charged += bytes;
                self.tail_bytes += bytes;
            } else if let Some(gone) = self.evict(share.block) {
                // Larger than the whole tail: readers take it from the file.
                evicted.push(gone);
            }
        }
        evicted
    }

    /// The owners of `evicted` dropped their slices: wins its memory back, now or later.
    pub(super) fn evicted(&mut self, evicted: Evicted) {
        let Some((mut handle, capacity)) = evicted.block else { return };
        drop(evicted.owners);
        if handle.try_reclaim(capacity) {
            self.put_free(handle);
            return;
        }
        let charge = self.send.try_take(capacity);
        let entry = Lingering { handle, bytes: capacity, charge: charge.unwrap_or_default() };
        self.lingering.push(entry);
    }

    /// Wins back evicted blocks whose last slice is gone. Bytes still held, and those of them that
    /// the send pool had no room for.
    pub(super) fn lingering(&mut self) -> (usize, usize) {
        let mut index = 0;
        let (mut held, mut uncharged) = (0, 0);
        while let Some(entry) = self.lingering.get_mut(index) {
            if entry.handle.try_reclaim(entry.bytes) {
                let entry = self.lingering.swap_remove(index);
                self.put_free(entry.handle);
                continue;
            }
            held += entry.bytes;
            uncharged += entry.bytes - entry.charge.bytes();
            index += 1;
        }
        (held, uncharged)
    }

    /// Bytes of durable records kept for readers at the tail.
    pub(super) fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    fn insert(&mut self, capacity: usize) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let block = Block {
            capacity,
            handle: None,
            slack: 0,
            in_flight: 0,
            last: Lsn::ZERO,
            owners: HashMap::new(),
            charge: Charge::none(),
            charged: 0,
        };
        self.live.insert(id, block);
        id
    }

    fn seal_current(&mut self) {
        if let Some((id, rest)) = self.current.take() {
            let slack = rest.capacity();
            self.seal(id, rest, slack);
        }
    }

    fn seal(&mut self, id: u64, handle: BytesMut, slack: usize) {
        if let Some(block) = self.live.get_mut(&id) {
            block.handle = Some(handle);
            block.slack += slack;
        }
    }

    /// Takes the oldest block away that has nothing in flight, `keep` only if it is not that one.
    fn evict_oldest(&mut self, keep: Option<u64>) -> Option<Evicted> {
        let oldest = self
            .live
            .iter()
            .find(|(id, block)| block.in_flight == 0 && block.charged > 0 && Some(**id) != keep)
            .map(|(id, _)| *id)?;
        self.evict(oldest)
    }

    /// Takes a block away, unless records of it are in flight.
    fn evict(&mut self, id: u64) -> Option<Evicted> {
        if self.live.get(&id)?.in_flight > 0 {
            return None;
        }
        if self.current.as_ref().is_some_and(|(current, _)| *current == id) {
            self.seal_current();
        }
        let block = self.live.remove(&id)?;
        self.tail_bytes -= block.charged;
        Some(Evicted {
            upto: block.last,
            owners: block.owners.into_values().collect(),
            block: block.handle.map(|handle| (handle, block.capacity)),
        })
    }

    /// A block of at least `least` bytes, a free one if it has at most `most`.
    fn free_block(&mut self, least: usize, most: usize) -> BytesMut {
        let fits = |block: &BytesMut| (least..=most).contains(&block.capacity());
        match self.free.iter().rposition(fits) {
            Some(found) => {
                let block = self.free.swap_remove(found);
                self.free_bytes -= block.capacity();
                block
            }
            None => BytesMut::with_capacity(least),
        }
    }

    fn put_free(&mut self, mut block: BytesMut) {
        block.clear();
        if self.free_bytes + block.capacity() <= self.max_free_bytes {
            self.free_bytes += block.capacity();
            self.free.push(block);
        }
    }
}
