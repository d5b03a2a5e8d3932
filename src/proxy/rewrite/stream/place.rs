//! The bytes of a chunk that are not final yet.

use super::StreamError;
use crate::protocol::guard::Fault;
use crate::protocol::varint;

/// Why a walk does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The chunk ends too early. Nothing of what was to be done has been done.
    Wait,
    /// The body is not what it should be.
    Fault(Fault),
    /// The same, of what is behind the partitions.
    Tail(StreamError),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

/// A place in a chunk, and how much of the body is ahead of it: in the chunk and after.
pub(super) struct Place<'a> {
    bytes: &'a mut [u8],
    at: usize,
    left: usize,
}

impl<'a> Place<'a> {
    /// At the start of `bytes`, where `left` bytes of the body are ahead.
    pub(super) fn new(bytes: &'a mut [u8], left: usize) -> Self {
        let here = bytes.len().min(left);
        Self { bytes: bytes.split_at_mut(here).0, at: 0, left }
    }

    /// How many bytes have been passed.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// How many bytes of the body are ahead.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The bytes ahead that are here.
    pub(super) fn ahead(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.at..).unwrap_or_default()
    }

    /// The next `count` bytes.
    pub(super) fn next(&mut self, count: usize) -> Result<&mut [u8], Stop> {
        self.within(count)?;
        self.ahead().get_mut(..count).ok_or(Stop::Wait)
    }

    /// The next `N` bytes.
    pub(super) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        self.within(N)?;
        self.ahead().first_chunk::<N>().copied().ok_or(Stop::Wait)
    }

    /// The variable-length integer that begins `skip` bytes ahead, and how many bytes it takes.
    pub(super) fn varint(&mut self, skip: usize) -> Result<(u32, usize), Stop> {
        let left = self.left.saturating_sub(skip);
        match varint::read_u32(self.ahead().get(skip..).unwrap_or_default()) {
            Ok(read) => Ok(read),
            Err(varint::VarintError::TooLong { .. }) => Err(Fault::Varint.into()),
            Err(_) if self.ahead().len() == self.left => {
                Err(Fault::Truncated { needed: left + 1, left }.into())
            }
            Err(_) => Err(Stop::Wait),
        }
    }

    /// Holds that the body has `count` more bytes.
    pub(super) fn within(&self, count: usize) -> Result<(), Fault> {
        let left = self.left;
        if count > left { Err(Fault::Truncated { needed: count, left }) } else { Ok(()) }
    }

    /// Goes past as many of the next `count` bytes as are here, and says how many are not. With
    /// `erase` they become zeros.
    pub(super) fn pass(&mut self, count: usize, erase: bool) -> usize {
        let ahead = self.ahead();
        let here = count.min(ahead.len());
        if erase {
            ahead.split_at_mut(here).0.fill(0);
        }
        self.at += here;
        self.left -= here;
        count - here
    }
}
