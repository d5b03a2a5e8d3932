//! Partitions whose log goes from memory over the WAL to a bucket, against a model that forgets
//! nothing.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::object::testing::FaultStore;
use crate::protocol::batch::BatchHeader;
use crate::tier::{
    Cache, CacheOptions, Head, ObjectId, ObjectRef, Origin, SectionEnd, Sizes, Upload,
};

const PARTITIONS: i32 = 3;

/// Chunks of a few batches.
const SIZES: Sizes = Sizes { chunk: 12_000, part: 1 << 20 };

/// A WAL, the partitions over it, and a bucket.
struct Rig {
    broker: Broker,
    bucket: FaultStore,
    cache: Cache,
    /// The objects that were made.
    sequence: u64,
}

/// A section on its way: its partition, its first offset, the one behind its last, and its batches
/// with the times of their appends.
type Piece = (Arc<Partition>, i64, i64, Vec<(Bytes, i64)>);

impl Rig {
    fn new() -> Self {
        let bucket = FaultStore::memory();
        let cache = cache(&bucket);
        Self { broker: Broker::new(), bucket, cache, sequence: 0 }
    }

    /// What there is to bring of a partition up to `to`, or all that there is.
    fn local(partition: &Arc<Partition>, to: Option<i64>) -> Option<Piece> {
        let untiered = partition.untiered(u64::MAX)?;
        let (from, to) = (untiered.from, to.unwrap_or(untiered.to));
        let mut batches = Vec::new();
        let visit = |bytes: Bytes, append_ms| {
            batches.push((bytes, append_ms));
            Ok::<_, LogError>(())
        };
        partition.visit_local(from, to, visit).unwrap();
        Some((Arc::clone(partition), from, to, batches))
    }

    /// The batches of neighbouring sections.
    async fn merged(&self, partition: &Arc<Partition>, refs: &[TierRef]) -> Piece {
        let (start, end) = (refs[0].start_offset, refs[refs.len() - 1].end_offset);
        let mut batches = Vec::new();
        for section in refs {
            let mut next = section.start_offset;
            while next < section.end_offset {
                let read =
                    self.cache.read(&section.object, partition.id(), next, crate::tier::Age::Hot);
                let found = read.await.unwrap().unwrap();
                let all = BatchIter::new(found.batches).map(|batch| batch.unwrap().bytes().clone());
                batches.extend(all.map(|batch| (batch, section.append_time_ms)));
                next = found.next_offset;
            }
        }
        (Arc::clone(partition), start, end, batches)
    }

    /// Uploads sections as one object and gives the references to them.
    async fn upload(&mut self, pieces: &[Piece]) -> Vec<TierRef> {
        self.sequence += 1;
        let id = ObjectId { incarnation: [9; 16], sequence: self.sequence };
        let head = Head { cluster: [1; 16], id, created_ms: 0, origin: Origin::Flushed };
        let store = self.bucket.store();
        let mut upload = Upload::new(&store, head, SIZES);
        for (partition, start, end, batches) in pieces {
            upload.begin(partition.id(), *start).unwrap();
            for (batch, _) in batches {
                upload.push(batch).await.unwrap();
            }
            let epochs = partition.epochs_within(*start, *end);
            let end =
                SectionEnd { end_offset: *end, aborted: &[], epochs: &epochs, producers: &[] };
            upload.end(&end).unwrap();
        }
        let uploaded = upload.finish().await.unwrap();
        let kind = if pieces.len() > 1 { TierKind::Pack } else { TierKind::Segment };
        let tier = |(partition, start_offset, end_offset, batches): &Piece| {
            let section = uploaded.footer.section(partition.id()).unwrap();
            TierRef {
                object: uploaded.object,
                start_offset: *start_offset,
                end_offset: *end_offset,
                bytes: uploaded.footer.section_bytes(section),
                max_timestamp: uploaded.footer.max_timestamp(section),
                append_time_ms: batches.iter().map(|(_, at)| *at).max().unwrap(),
                kind,
            }
        };
        pieces.iter().map(tier).collect()
    }

    async fn commit(
        &self,
        partition: &Arc<Partition>,
        change: TierChange,
    ) -> Result<(), CommitTierError> {
        let len = Partition::commit_len(&change);
        let lsn = loop {
            let mut admission = self.broker.stream.admit(len).await.unwrap();
            match partition.commit_tier(&mut admission, change.clone(), 1) {
                Err(CommitTierError::NoRoom) => {}
                other => break other?,
            }
            drop(admission);
            self.broker.stream.wait_for_room(Class::Housekeeping, len).await.unwrap();
        };
        self.broker.stream.wait_durable(lsn).await.unwrap();
        Ok(())
    }

    /// Brings all that there is of a partition into the bucket.
    async fn tier(&mut self, partition: &Arc<Partition>) {
        let piece = Self::local(partition, None).unwrap();
        let added = self.upload(&[piece]).await;
        self.commit(partition, added_only(added[0])).await.unwrap();
    }

    fn checkpoint(&self) {
        let (stream, kind) = (&self.broker.stream, self.broker.stream.next_checkpoint());
        let all = self.broker.partitions.all();
        let parts: Vec<_> = all.iter().map(|p| Bytes::from(p.checkpoint_part().1)).collect();
        stream.checkpoint(kind, stream.reserved(), parts.into_iter()).unwrap();
    }

    /// Gives back the WAL files that the bucket makes unneeded, as the broker does.
    async fn give_back(&self) {
        let (stream, partitions) = (&self.broker.stream, &self.broker.partitions);
        self.broker.flush().await;
        self.checkpoint();
        let bound = stream.reserved().next();
        let floor = partitions.oldest_needed().map_or(bound, |needed| needed.lsn.min(bound));
        let (file, floor) = stream.file_at(floor);
        partitions.forget_files(file);
        stream.trim(floor).await.unwrap();
    }

    /// Everything leaves memory.
    fn evict(&self) {
        for partition in self.broker.partitions.all() {
            partition.owner.evict(self.broker.stream.durable());
        }
    }

    async fn restart(self) -> Self {
        let Self { broker, bucket, sequence, .. } = self;
        let cache = cache(&bucket);
        let broker = broker.restart().await;
        // A checkpoint may know of files that were given back after it.
        broker.partitions.forget_files(broker.stream.oldest_file().0);
        Self { broker, bucket, cache, sequence }
    }

    /// Reads and resolves, as a Fetch does; with the number of GETs.
    async fn read(&self, partition: &Arc<Partition>, request: &ReadRequest) -> Vec<Bytes> {
        let mut plan = partition.read(request).unwrap();
        let mut places = 0;
        let plan = loop {
            places += 1;
            assert!(places < 100, "{partition:?} at {} moves for ever", request.offset);
            plan = match plan {
                Plan::Done(plan) => break plan,
                Plan::NeedsDisk(disk) => match disk.run() {
                    Err(ReadError::Moved) => partition.read(request).unwrap(),
                    done => break done.unwrap(),
                },
                Plan::Tiered(tier) => match tier.run(&self.cache).await.unwrap() {
                    TierStep::Done(plan) => break plan,
                    TierStep::Next(next) => next,
                },
            };
        };
        let mut all = Vec::new();
        for piece in plan.pieces {
            match piece {
                ReadPiece::Ready(bytes) => all.push(bytes),
                ReadPiece::Later(later) => all.push(self.resolve(&later).await),
            }
        }
        assert_eq!(plan.bytes, all.iter().map(Bytes::len).sum::<usize>());
        BatchIter::new(all.concat().into()).map(|batch| batch.unwrap().bytes().clone()).collect()
    }

    async fn resolve(&self, later: &LaterRead) -> Bytes {
        match later.read() {
            Ok(batches) => batches.concat().into(),
            Err(error) if error.may_have_moved() => {
                later.bring_moved(&self.cache).await.unwrap();
                later.read_moved(&self.cache).await.unwrap()
            }
            Err(error) => panic!("{error}"),
        }
    }

    async fn look_up(&self, partition: &Arc<Partition>, query: TimeQuery) -> Option<(i64, i64)> {
        let mut lookup = partition.look_up(query);
        loop {
            match lookup.find(MOST).unwrap() {
                Look::Found(found) => return found.map(|found| (found.offset, found.timestamp)),
                Look::NeedsBucket => lookup.bring(&self.cache).await.unwrap(),
            }
        }
    }
}

fn cache(bucket: &FaultStore) -> Cache {
    let pool = |bytes| BytePool::new(Pool::Hot, bytes);
    let options = CacheOptions {
        hot: pool(200_000),
        catch_up: pool(200_000),
        footers: pool(200_000),
        readers: pool(1 << 20),
        catch_up_loads: 2,
    };
    Cache::new(bucket.store(), options, &Registry::new())
}

fn header(batch: &Bytes) -> BatchHeader {
    BatchHeader::parse(batch).unwrap()
}

fn added_only(tier: TierRef) -> TierChange {
    TierChange { removed: Vec::new(), added: vec![tier] }
}

/// A partition as the model knows it.
#[derive(Debug, Default)]
struct Known {
    batches: Vec<Bytes>,
    /// Every record's timestamp.
    timestamps: Vec<i64>,
    log_start: i64,
    refs: Vec<TierRef>,
}

impl Known {
    fn end(&self) -> i64 {
        self.timestamps.len() as i64
    }

    /// Whole batches from the one on that holds the offset, as many as fit, the first in any case.
    fn from(&self, offset: i64, max_bytes: usize) -> Vec<Bytes> {
        let mut taken: Vec<Bytes> = Vec::new();
        let mut room = max_bytes;
        for batch in self.batches.iter().filter(|batch| header(batch).next_offset() > offset) {
            if batch.len() > room && !taken.is_empty() {
                break;
            }
            room = room.saturating_sub(batch.len());
            taken.push(batch.clone());
        }
        taken
    }

    fn readable(&self) -> impl Iterator<Item = (i64, i64)> {
        (0..).zip(self.timestamps.iter().copied()).skip(self.log_start as usize)
    }

    fn answer(&self, query: TimeQuery) -> Option<(i64, i64)> {
        match query {
            TimeQuery::Since(timestamp) => self.readable().find(|(_, at)| *at >= timestamp),
            TimeQuery::Greatest => {
                let greatest = self.readable().map(|(_, at)| at).max().filter(|at| *at >= 0)?;
                self.readable().find(|(_, at)| *at == greatest)
            }
        }
    }
}

/// What the model knows of all.
#[derive(Debug, Default)]
struct Model {
    partitions: BTreeMap<i32, Known>,
    objects: BTreeSet<ObjectId>,
    has_restarted: bool,
}

impl Model {
    fn known(&mut self, partition: i32) -> &mut Known {
        self.partitions.entry(partition).or_default()
    }

    fn used(&self) -> BTreeSet<ObjectId> {
        let refs = self.partitions.values().flat_map(|known| &known.refs);
        refs.map(|tier| tier.object.id).collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// A partition appends a batch of records with these timestamps, of so many bytes in all.
    Append(i32, Vec<i64>, usize, Compression),
    /// What these partitions have goes into one object; of the first only a share of it.
    Tier(Vec<i32>, usize),
    /// So many sections of a partition from the one at this share on become one.
    Merge(i32, usize, usize),
    /// What is refused: a gap, an overlap, a section that nobody knows.
    Stale(i32),
    GiveBack,
    Evict,
    /// Records below this share of a log are deleted.
    Delete(i32, usize),
    Checkpoint,
    Restart,
    /// A log is read from the offset at this share on.
    Read(i32, usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let partition = 0..PARTITIONS;
    let size = prop_oneof![10..400usize, 2_000..6_000usize, 15_000..60_000usize];
    let codec = prop::sample::select(vec![Compression::None, Compression::Lz4]);
    let timestamps = prop::collection::vec(-1..60i64, 1..5);
    let several = prop::sample::subsequence((0..PARTITIONS).collect::<Vec<_>>(), 1..4);
    let share = 0..101usize;
    let step = prop_oneof![
        12 => (partition.clone(), timestamps, size, codec)
            .prop_map(|(at, times, size, codec)| Step::Append(at, times, size, codec)),
        4 => (several, 1..101usize).prop_map(|(of, share)| Step::Tier(of, share)),
        1 => (partition.clone(), share.clone(), 1..4usize)
            .prop_map(|(at, share, count)| Step::Merge(at, share, count)),
        1 => partition.clone().prop_map(Step::Stale),
        3 => Just(Step::GiveBack),
        2 => Just(Step::Evict),
        1 => (partition.clone(), share.clone()).prop_map(|(at, share)| Step::Delete(at, share)),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        3 => (partition, share, prop_oneof![1..500usize, 1_000..200_000usize])
            .prop_map(|(at, share, bytes)| Step::Read(at, share, bytes)),
    ];
    prop::collection::vec(step, 1..60)
}

async fn play(mut rig: Rig, step: &Step, model: &mut Model) -> Rig {
    match step {
        Step::Append(at, timestamps, size, codec) => {
            let partition = rig.broker.partition(*at);
            let sent = timed(timestamps, size / timestamps.len(), *codec);
            let appended = rig.broker.append(&partition, &sent).await;
            let mut bytes = sent.bytes().to_vec();
            crate::protocol::batch::patch_in_place(&mut bytes, appended.base_offset, EPOCH);
            model.known(*at).batches.push(bytes.into());
            model.known(*at).timestamps.extend(timestamps);
            rig.broker.flush().await;
        }
        Step::Tier(of, share) => tier(&mut rig, of, *share, model).await,
        Step::Merge(at, share, count) => merge(&mut rig, *at, *share, *count, model).await,
        Step::Stale(at) => stale(&rig, *at).await,
        Step::GiveBack => rig.give_back().await,
        Step::Evict => rig.evict(),
        Step::Delete(at, share) => {
            let known = model.known(*at);
            let before = known.end() * *share as i64 / 100;
            rig.broker.delete_records(&rig.broker.partition(*at), before).await;
            known.log_start = known.log_start.max(before);
            known.refs.retain(|tier| tier.end_offset > known.log_start);
        }
        Step::Checkpoint => rig.checkpoint(),
        Step::Restart => {
            model.has_restarted = true;
            return rig.restart().await;
        }
        Step::Read(at, share, max_bytes) => {
            let known = model.known(*at);
            let offset = known.log_start + (known.end() - known.log_start) * *share as i64 / 100;
            check_reads(&rig, *at, known, offset, *max_bytes).await;
        }
    }
    rig
}

async fn tier(rig: &mut Rig, of: &[i32], share: usize, model: &mut Model) {
    let mut pieces = Vec::new();
    for at in of {
        let (partition, known) = (rig.broker.partition(*at), model.known(*at));
        let tiered_end = known.refs.last().map_or(known.log_start, |last| last.end_offset);
        let untiered = partition.untiered(u64::MAX).map(|untiered| (untiered.from, untiered.to));
        let from = tiered_end.max(known.log_start);
        assert_eq!(untiered.is_some(), from < known.end());
        // The log may start inside of a batch.
        let is_whole = |(begins, end)| {
            end == known.end() && begins <= from && (begins == from || known.refs.is_empty())
        };
        assert!(untiered.is_none_or(is_whole), "{untiered:?} {from}");
        // Up to the end of a batch.
        let cut = from + (known.end() - from) * share as i64 / 100;
        let mut ends = known.batches.iter().map(|batch| header(batch).next_offset());
        let to = ends.find(|end| *end >= cut && *end > from);
        let to = if Some(at) == of.first() { to } else { None };
        pieces.extend(untiered.and_then(|_| Rig::local(&partition, to)));
    }
    if pieces.is_empty() {
        return;
    }
    let added = rig.upload(&pieces).await;
    for ((partition, ..), added) in pieces.iter().zip(added) {
        model.objects.insert(added.object.id);
        rig.commit(partition, added_only(added)).await.unwrap();
        model.known(partition.id().partition).refs.push(added);
    }
}

async fn merge(rig: &mut Rig, at: i32, share: usize, count: usize, model: &mut Model) {
    let (partition, known) = (rig.broker.partition(at), model.known(at));
    let first = known.refs.len() * share / 101;
    let old: Vec<TierRef> = known.refs.iter().skip(first).take(count).copied().collect();
    if old.is_empty() {
        return;
    }
    let piece = rig.merged(&partition, &old).await;
    let added = rig.upload(&[piece]).await[0];
    let removed = old.iter().map(TierRef::id).collect();
    let change = TierChange { removed, added: vec![added] };
    rig.commit(&partition, change.clone()).await.unwrap();
    // What was removed is not there to be removed again.
    assert_eq!(rig.commit(&partition, change).await, Err(CommitTierError::Stale));
    let known = model.known(at);
    known.refs.splice(first..first + old.len(), [added]);
    model.objects.insert(added.object.id);
}

async fn stale(rig: &Rig, at: i32) {
    let partition = rig.broker.partition(at);
    let (end, high_watermark) = (
        partition.tiered_end().unwrap_or(partition.offsets().log_start),
        partition.offsets().high_watermark,
    );
    let id = ObjectId { incarnation: [8; 16], sequence: 1 };
    let object = ObjectRef { id, bytes: 100, end_bytes: 10 };
    let section = |start_offset, end_offset| TierRef {
        object,
        start_offset,
        end_offset,
        bytes: 10,
        max_timestamp: 1,
        append_time_ms: 1,
        kind: TierKind::Segment,
    };
    let unknown = TierChange { removed: vec![(id, 0)], added: Vec::new() };
    let mut refused = vec![
        added_only(section(end + 1, end + 2)),
        added_only(section(end, high_watermark + 1)),
        unknown,
    ];
    if let Some(last) = partition.tier_refs().last() {
        refused.push(added_only(section(last.start_offset, end + 1)));
        refused.push(TierChange { removed: vec![last.id()], added: Vec::new() });
    }
    for change in refused {
        let committed = rig.commit(&partition, change.clone()).await;
        assert_eq!(committed, Err(CommitTierError::Stale), "{change:?}");
    }
}

/// Reads on from an offset to the end, as a consumer does.
async fn check_reads(rig: &Rig, at: i32, known: &Known, offset: i64, max_bytes: usize) {
    let (partition, mut next) = (rig.broker.partition(at), offset);
    while next < known.end() {
        let got = rig.read(&partition, &from(next, max_bytes)).await;
        let all = known.from(next, max_bytes);
        // An answer may end early, never before its first batch.
        assert!(!got.is_empty() && all.starts_with(&got), "{at} from {next}");
        next = header(got.last().unwrap()).next_offset();
    }
}

async fn check(rig: &Rig, model: &Model) {
    for (at, known) in &model.partitions {
        let partition = rig.broker.partition(*at);
        let offsets = partition.offsets();
        assert_eq!((offsets.log_start, offsets.log_end), (known.log_start, known.end()));
        assert_eq!(partition.tier_refs(), known.refs);
        assert_eq!(partition.tiered_end(), known.refs.last().map(|last| last.end_offset));
        let local_start = partition.local_start();
        assert!((known.log_start..=known.end()).contains(&local_start));
        // What is not in the bucket is here.
        let tiered_end = known.refs.last().map_or(known.log_start, |last| last.end_offset);
        assert!(local_start <= tiered_end.max(known.log_start), "{local_start} {tiered_end}");
    }
    let objects = &rig.broker.partitions.shared().objects;
    let used = model.used();
    assert_eq!(objects.used(), used.len());
    assert!(used.iter().all(|id| objects.is_used(*id)));
    let garbage: BTreeSet<_> = objects.garbage().iter().map(|garbage| garbage.object.id).collect();
    let unused: BTreeSet<_> = model.objects.difference(&used).copied().collect();
    // Garbage is kept by the bucket's checkpoints, which are another room's.
    assert!(garbage == unused || model.has_restarted && garbage.is_subset(&unused));
}

async fn check_all(rig: &Rig, model: &Model) {
    check(rig, model).await;
    for (at, known) in &model.partitions {
        let ends = known.batches.iter().map(|batch| header(batch).base_offset);
        for offset in ends.filter(|offset| *offset >= known.log_start) {
            check_reads(rig, *at, known, offset, 1).await;
        }
        check_reads(rig, *at, known, known.log_start, 30_000).await;
        let partition = rig.broker.partition(*at);
        let since = (0..62).step_by(7).map(TimeQuery::Since);
        for query in since.chain([TimeQuery::Greatest]) {
            assert_eq!(rig.look_up(&partition, query).await, known.answer(query), "{at} {query:?}");
        }
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_log_is_the_same_wherever_it_is(steps in steps()) {
        run(async {
            let (mut rig, mut model) = (Rig::new(), Model::default());
            for step in &steps {
                rig = play(rig, step, &mut model).await;
                check(&rig, &model).await;
            }
            check_all(&rig, &model).await;
            rig.give_back().await;
            rig.evict();
            check_all(&rig, &model).await;
            model.has_restarted = true;
            let rig = rig.restart().await;
            check_all(&rig, &model).await;
        });
    }
}

/// A log of batches of two records, a millisecond apart, over several files; nothing in memory.
async fn filled(rig: &Rig, batches: i64, size: usize) -> Arc<Partition> {
    let partition = rig.broker.partition(0);
    for at in 0..batches {
        let sent = timed(&[2 * at, 2 * at + 1], size / 2, Compression::None);
        rig.broker.append(&partition, &sent).await;
    }
    rig.broker.flush().await;
    rig.evict();
    partition
}

#[tokio::test]
async fn a_time_in_the_bucket_is_found_with_one_footer_and_one_chunk() {
    let mut rig = Rig::new();
    let partition = filled(&rig, 40, 4_000).await;
    rig.tier(&partition).await;
    rig.give_back().await;
    filled(&rig, 2, 200_000).await;
    for _ in 0..2 {
        rig.tier(&partition).await;
        rig.give_back().await;
        filled(&rig, 1, 200_000).await;
    }
    assert!(partition.tier_refs().len() == 3 && partition.local_start() > 80);
    let (cold, queries) = (rig.bucket.clone(), [TimeQuery::Since(41), TimeQuery::Greatest]);
    for (query, found) in queries.into_iter().zip([(41, 41), (79, 79)]) {
        rig.cache = cache(&cold);
        let before = cold.gets();
        assert_eq!(rig.look_up(&partition, query).await, Some(found));
        assert_eq!(cold.gets() - before, 2, "{query:?}");
    }
    assert_eq!(rig.look_up(&partition, TimeQuery::Since(80)).await, None);
    // The chunk that holds the log start has only earlier records in its first half.
    rig.broker.delete_records(&partition, 43).await;
    assert_eq!(rig.look_up(&partition, TimeQuery::Since(0)).await, Some((43, 43)));
}

#[tokio::test]
async fn what_moves_while_an_answer_waits_for_its_socket_is_sent_from_the_bucket() {
    let mut rig = Rig::new();
    let partition = filled(&rig, 30, 20_000).await;
    let request = ReadRequest { at_hand_bytes: 0, ..from(0, 1 << 20) };
    let Plan::Done(plan) = partition.read(&request).unwrap() else { panic!("all of it is later") };
    let expected = read(&partition, &from(0, 1 << 20)).unwrap().concat();
    rig.tier(&partition).await;
    rig.give_back().await;
    let mut moved = 0;
    let mut all = Vec::new();
    for piece in plan.pieces {
        let ReadPiece::Later(later) = piece else { panic!("it was in memory") };
        moved += usize::from(later.read().is_err());
        all.push(rig.resolve(&later).await);
    }
    assert!(moved > 0 && all.concat() == expected);
}

#[tokio::test]
async fn a_read_that_loses_the_next_file_on_its_way_leaves_no_gap() {
    let mut rig = Rig::new();
    filled(&rig, 4, 1_000).await;
    let partition = filled(&rig, 200, 8_000).await;
    // From inside of a stretch, so that a file has to be read.
    let Plan::NeedsDisk(disk) = partition.read(&from(2, 1 << 20)).unwrap() else {
        panic!("a stretch is cut")
    };
    rig.tier(&partition).await;
    let files = partition.lock().index.runs().map(|run| run.file).collect::<Vec<_>>();
    assert!(files.len() > 3);
    rig.broker.partitions.forget_files(files[files.len() - 1]);
    let plan = disk.run().unwrap();
    let mut next = 2;
    for piece in plan.pieces {
        let ReadPiece::Ready(bytes) = piece else { panic!("of another file") };
        assert_eq!(header(&bytes).base_offset, next);
        next = header(&bytes).next_offset();
    }
    assert!(next > 2);
}

#[tokio::test]
async fn a_log_start_that_passes_a_read_by_is_told() {
    let mut rig = Rig::new();
    let partition = filled(&rig, 40, 8_000).await;
    rig.tier(&partition).await;
    rig.give_back().await;
    rig.bucket.hold_gets(true);
    let Plan::Tiered(tier) = partition.read(&from(0, 1 << 20)).unwrap() else {
        panic!("it is in the bucket")
    };
    let cache = rig.cache.clone();
    let reading = crate::task::spawn("read", async move { tier.run(&cache).await });
    rig.bucket.gets_made(rig.bucket.gets() + 1).await;
    rig.broker.delete_records(&partition, 9).await;
    rig.bucket.hold_gets(false);
    let read = reading.await.unwrap();
    assert!(matches!(read, Err(ReadError::OutOfRange(error)) if error.offsets.log_start == 9));
}

#[tokio::test]
async fn what_nobody_has_is_not_passed_over() {
    let rig = Rig::new();
    let partition = filled(&rig, 40, 20_000).await;
    let last = partition.lock().index.runs().last().map(|run| run.file).unwrap();
    // As if the bucket had it.
    {
        let mut state = partition.lock();
        let end = state.log_end();
        state.index.forget_files(last, end, end);
    }
    let read = partition.read(&from(0, 1 << 20));
    assert!(matches!(read, Err(ReadError::Log(LogError::Gap { offset: 0, .. }))), "{read:?}");
    let visited = partition.visit_local::<LogError>(0, 10, |_, _| Ok(()));
    assert!(matches!(visited, Err(LogError::Gap { .. })), "{visited:?}");
    assert_eq!(partition.load::<LogError>(0, 10, |_, _| Ok(())).unwrap(), 0);
    partition.close();
    let Ok(Plan::Done(plan)) = partition.read(&from(0, 1 << 20)) else { panic!("it is closed") };
    assert_eq!(plan.bytes, 0);
}
