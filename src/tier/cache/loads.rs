//! Loads from the bucket, and how far they run ahead of their readers.
//!
//! A reader that is known to read on has two runs of chunks: the one it is in, which may be on its
//! way still, and the next, begun when it came to the first. Near the end of an object the next is
//! in another one.

use std::ops::Range;
use std::sync::Arc;

use crate::budget::Charge;
use crate::protocol::types::TopicPartition;
use crate::task;

use super::super::footer::Footer;
use super::super::name::ObjectId;
use super::super::reader::{End, ObjectRef, Reader};
use super::flights::{Flight, Landing};
use super::streams::Stream;
use super::wanted::Wanted;
use super::{Age, Cache, Chunk, ChunkKey, ChunkTower, Held, Inner};

impl Cache {
    /// To be called when a reader has been given something of an object in which its partition ends
    /// at `offset`. If that reader has come near there, begins to load the object in which the
    /// partition goes on, which `next` tells.
    pub fn read_on(
        &self,
        of: TopicPartition,
        offset: i64,
        next: impl FnOnce() -> Option<(ObjectRef, Age)>,
    ) {
        let place = (of, offset);
        if !self.inner.streams.is_leaving(place) {
            return;
        }
        let Some((object, age)) = next() else { return };
        let Ok(permit) = Arc::clone(&self.inner.unasked_places).try_acquire_owned() else { return };
        if !self.inner.streams.leave(place) {
            return;
        }
        let this = self.clone();
        task::spawn("tier load in the next object", async move {
            // Whoever comes for it is told what went wrong.
            if let Ok(footer) = this.footer(&object).await
                && let Some(section) = footer.section(of)
                && let Some(number) = footer.chunk_at(section, offset)
                && let Some(stream) = this.inner.streams.take(place)
            {
                let wanted = Wanted { object, footer: &footer, section, number, age };
                this.inner.load_next(&wanted, number, stream);
            }
            drop(permit);
        });
    }
}

impl Inner {
    /// Starts the load of a chunk that somebody waits for, and of those behind it for a reader that
    /// reads on.
    pub(super) fn start(
        self: &Arc<Self>,
        tower: &mut ChunkTower<'_>,
        wanted: &Wanted<'_>,
        stream: Option<Stream>,
        reads_on: bool,
    ) -> Flight<Chunk> {
        let part = self.part(wanted.age);
        let window = if reads_on { wanted.window(stream, part) } else { 1 };
        let fits = |number| self.is_wanting(tower, wanted.key(number));
        let mut run = wanted.run(wanted.number, window, fits);
        let reach = part.reach(wanted.run_bytes(&run));
        if reach < wanted.run_bytes(&run) {
            run = wanted.run(wanted.number, reach as u64, fits);
        }
        if reads_on {
            let is_known = stream.is_some() || wanted.begins_small();
            let at = if is_known { run.end.min(run.start + 1) } else { run.end };
            self.expect(wanted, at, Stream { window, loaded_to: run.end, is_left: !is_known });
        }
        let (landing, flight) = Self::start_run(tower, wanted, &run);
        self.load(wanted, run, landing, None);
        flight
    }

    fn start_run(
        tower: &mut ChunkTower<'_>,
        wanted: &Wanted<'_>,
        run: &Range<u32>,
    ) -> (Landing<ChunkKey, Chunk>, Flight<Chunk>) {
        let others = (run.start + 1..run.end).map(|number| wanted.key(number));
        tower.start(wanted.key(run.start), others)
    }

    /// Expects the reader for whom `stream` was loaded at the chunk `at`, or where its section
    /// ends.
    fn expect(&self, wanted: &Wanted<'_>, at: u32, stream: Stream) {
        let ends = at == wanted.section.chunks.end;
        // There it goes on in another object, whose chunks have other numbers.
        let loaded_to = if ends { 0 } else { stream.loaded_to };
        self.streams.expect(wanted.place(at), Stream { loaded_to, ..stream });
    }

    /// Loads what a reader will want behind what was loaded for it, if there is room now.
    pub(super) fn load_ahead(self: &Arc<Self>, wanted: &Wanted<'_>, stream: Stream) {
        let next = stream.loaded_to.max(wanted.number + 1);
        if next < wanted.section.chunks.end {
            self.load_next(wanted, next, stream);
        } else {
            self.expect(wanted, next, Stream { is_left: false, ..stream });
        }
    }

    /// Loads from the chunk `next` on, if there is room now.
    fn load_next(self: &Arc<Self>, wanted: &Wanted<'_>, next: u32, stream: Stream) {
        let part = self.part(wanted.age);
        let mut tower = self.chunk_flights.lock();
        let fits = |number| self.is_wanting(&tower, wanted.key(number));
        let first = Wanted { number: next, ..*wanted };
        let window = first.window(Some(stream), part);
        let run = wanted.run(next, window, fits);
        let charge = part.pool.try_take(wanted.run_bytes(&run).min(part.headroom));
        let (Some(charge), true) = (charge, fits(next)) else {
            // At the next chunk there may be.
            let at = next.min(wanted.number + 1);
            self.expect(wanted, at, Stream { loaded_to: next, ..stream });
            return;
        };
        self.expect(wanted, run.start, Stream { window, loaded_to: run.end, is_left: false });
        let (landing, _) = Self::start_run(&mut tower, wanted, &run);
        self.load(wanted, run, landing, Some(charge));
    }

    fn load(
        self: &Arc<Self>,
        wanted: &Wanted<'_>,
        run: Range<u32>,
        mut landing: Landing<ChunkKey, Chunk>,
        charge: Option<Charge>,
    ) {
        let (this, object, age) = (Arc::clone(self), wanted.object, wanted.age);
        let (footer, bytes) = (Arc::clone(wanted.footer), wanted.run_bytes(&run));
        task::spawn("tier load", async move {
            let part = this.part(age);
            let mut charge = match charge {
                Some(charge) => charge,
                None => part.take(bytes).await,
            };
            // Whoever has a place waits for no bytes: those who have bytes wait for places.
            let place = match age {
                Age::Hot => None,
                Age::CatchUp => this.catch_up_places.acquire().await.ok(),
            };
            let mut loaded = 0;
            let keep = |number, chunk: bytes::Bytes| {
                loaded += chunk.len();
                let key = (object.id, number);
                landing.land(&key, part.keep_chunk(key, chunk, &mut charge));
            };
            let read = Reader::new(&this.store, object).each_chunk(&footer, run, keep).await;
            drop((place, charge));
            part.settle();
            part.metrics.loaded(loaded, read.as_ref().err());
            if let Err(error) = read {
                landing.fail(&error);
            }
        });
    }

    pub(super) async fn load_footer(
        self: Arc<Self>,
        object: ObjectRef,
        mut landing: Landing<ObjectId, Arc<Held<Footer>>>,
    ) {
        let part = &self.footers;
        let reader = Reader::new(&self.store, object);
        let mut bytes = object.end_bytes;
        let mut charge = part.take(2 * bytes as usize).await;
        let mut read = reader.end(bytes).await;
        if let Ok(End::Longer(needed)) = read {
            bytes = needed;
            drop(charge);
            charge = part.take(2 * bytes as usize).await;
            read = reader.end(bytes).await;
        }
        let footer = read.and_then(|end| reader.whole(end));
        let loaded = footer.as_ref().map_or(0, Footer::memory_bytes);
        part.metrics.loaded(loaded, footer.as_ref().err());
        match footer {
            Ok(footer) => {
                let rest = charge.split(loaded).unwrap_or(charge);
                let held = part.keep(object.id, footer, loaded, rest);
                part.settle();
                landing.land(&object.id, held);
            }
            Err(error) => landing.fail(&error),
        }
    }
}
