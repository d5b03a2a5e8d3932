//! Decisions out of the fuzzer's bytes.

/// Bytes as a source of decisions; zeros when they are used up.
pub(super) struct Chance<'a> {
    rest: &'a [u8],
}

impl<'a> Chance<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (head, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        head
    }

    pub(super) fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(super) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.u8(), self.u8()])
    }

    pub(super) fn i32(&mut self) -> i32 {
        i32::from(self.u16() as i16) << 16 | i32::from(self.u16())
    }

    pub(super) fn i64(&mut self) -> i64 {
        i64::from(self.i32()) << 32 | i64::from(self.i32() as u32)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.u8()) % bound
    }

    pub(super) fn bool(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// A text of up to 15 bytes, or up to 255.
    pub(super) fn text(&mut self) -> String {
        let length = usize::from(self.u8());
        let length = if length & 1 == 0 { length % 16 } else { length };
        String::from_utf8_lossy(self.bytes(length)).into_owned()
    }
}
