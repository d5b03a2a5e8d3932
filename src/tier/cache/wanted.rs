//! What of an object to load for a reader.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::super::footer::{Footer, Section};
use super::super::reader::ObjectRef;
use super::held::Held;
use super::part::Part;
use super::streams::{FIRST_WINDOW, Place, Stream};
use super::{Age, ChunkKey};

/// Sections of a pack up to this size are loaded at once.
const SECTION_WINDOW: u64 = 32 << 20;

/// A chunk that somebody wants.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) object: ObjectRef,
    pub(super) footer: &'a Arc<Held<Footer>>,
    pub(super) section: &'a Section,
    pub(super) number: u32,
    pub(super) age: Age,
}

impl Wanted<'_> {
    pub(super) fn key(&self, number: u32) -> ChunkKey {
        (self.object.id, number)
    }

    pub(super) fn place(&self, number: u32) -> Place {
        place_of(self.footer, self.section, number)
    }

    /// Whether a section of a pack begins here. They are small, and who begins one reads all of it.
    pub(super) fn begins_small(&self) -> bool {
        self.footer.sections().len() > 1 && self.number == self.section.chunks.start
    }

    /// How many bytes to load for a reader that reads on and was expected here, or was not.
    pub(super) fn window(&self, stream: Option<Stream>, part: &Part<ChunkKey, Bytes>) -> u64 {
        let window = match stream {
            _ if self.begins_small() => SECTION_WINDOW,
            Some(stream) => stream.next_window(),
            None => FIRST_WINDOW,
        };
        window.min(part.headroom as u64)
    }

    /// Chunks of the section from `first` on that have at most `window` bytes together and are
    /// wanted, or the first alone.
    pub(super) fn run(&self, first: u32, window: u64, fits: impl Fn(u32) -> bool) -> Range<u32> {
        let (mut end, mut bytes) = (first, 0);
        while end < self.section.chunks.end
            && let Some(chunk) = self.footer.chunk(end)
        {
            bytes += u64::from(chunk.bytes);
            if end > first && (bytes > window || !fits(end)) {
                break;
            }
            end += 1;
        }
        first..end
    }

    pub(super) fn run_bytes(&self, run: &Range<u32>) -> usize {
        let chunks = run.clone().filter_map(|number| self.footer.chunk(number));
        chunks.map(|chunk| chunk.bytes as usize).sum()
    }
}

/// Where a chunk begins in its partition, or where its section ends.
pub(super) fn place_of(footer: &Footer, section: &Section, number: u32) -> Place {
    let chunk = footer.chunk(number).filter(|_| section.chunks.contains(&number));
    (section.of, chunk.map_or(section.end_offset, |chunk| chunk.first_offset))
}
