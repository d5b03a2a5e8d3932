//! What changes in a body, as ranges and what takes their place.

use std::ops::Range;

use bytes::Bytes;

/// Changes of ranges that do not overlap.
#[derive(Debug, Default)]
pub(super) struct Edits {
    edits: Vec<Edit>,
}

#[derive(Debug)]
struct Edit {
    at: Range<usize>,
    new: Vec<u8>,
}

impl Edits {
    /// Puts `new` in the place of the bytes at `at`.
    pub(super) fn replace(&mut self, at: Range<usize>, new: Vec<u8>) {
        self.edits.push(Edit { at, new });
    }

    /// Takes the bytes at `at` away. With what was taken away right before them they are one place.
    pub(super) fn remove(&mut self, at: Range<usize>) {
        match self.edits.last_mut() {
            Some(last) if last.new.is_empty() && last.at.end == at.start => last.at.end = at.end,
            _ => self.replace(at, Vec::new()),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.edits.len()
    }

    /// Forgets all but the first `len`.
    pub(super) fn truncate(&mut self, len: usize) {
        self.edits.truncate(len);
    }

    /// By how many bytes the edits after the first `len` make the body longer.
    pub(super) fn growth_since(&self, len: usize) -> isize {
        let since = self.edits.get(len..).unwrap_or_default();
        since.iter().map(|edit| edit.new.len() as isize - edit.at.len() as isize).sum()
    }

    /// The changed body. What did not change shares the body's memory.
    pub(super) fn apply(mut self, body: &Bytes) -> Vec<Bytes> {
        self.edits.sort_unstable_by_key(|edit| edit.at.start);
        let mut pieces = Vec::with_capacity(2 * self.edits.len() + 1);
        let mut from = 0;
        for Edit { at, new } in self.edits {
            debug_assert!(from <= at.start, "edits do not overlap");
            pieces.push(body.slice(from..at.start));
            pieces.push(Bytes::from(new));
            from = at.end;
        }
        pieces.push(body.slice(from..));
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_apply_in_the_order_of_their_places() {
        let body = Bytes::from_static(b"0123456789");
        let mut edits = Edits::default();
        edits.replace(7..8, b"seven".to_vec());
        edits.replace(0..1, b"zero".to_vec());
        let before = edits.len();
        edits.remove(2..4);
        assert_eq!(edits.growth_since(before), -2);
        assert_eq!(edits.growth_since(0), 4 + 3 - 2);
        assert_eq!(edits.apply(&body).concat(), b"zero1456seven89");
    }

    #[test]
    fn neighbours_that_are_taken_away_are_one_place() {
        let mut edits = Edits::default();
        edits.remove(1..3);
        edits.remove(3..4);
        edits.remove(5..6);
        assert_eq!((edits.len(), edits.growth_since(0)), (2, -4));
        edits.replace(6..7, b"six".to_vec());
        edits.remove(7..9);
        assert_eq!(edits.apply(&Bytes::from_static(b"0123456789")).concat(), b"04six9");
    }

    #[test]
    fn without_edits_the_body_is_the_piece() {
        let body = Bytes::from_static(b"body");
        let pieces = Edits::default().apply(&body);
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].as_ptr(), body.as_ptr());
    }
}
