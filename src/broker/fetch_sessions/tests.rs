use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::metrics::Registry;

const CONNECTION: u64 = 1;
const OTHER_CONNECTION: u64 = 2;
const BUDGET: usize = 64 << 20;

fn sessions(slots: usize) -> FetchSessions {
    let budget = Budget::new(BUDGET);
    let metrics = BrokerMetrics::new(&Registry::new());
    FetchSessions::new(slots, &budget, Clock::system(), Random::seeded(7), metrics)
}

fn topic(name: &str) -> SessionTopic {
    SessionTopic { id: TopicId::ZERO, name: Some(name.into()) }
}

fn asked(index: i32, fetch_offset: i64) -> SessionPartition {
    SessionPartition {
        fetch_offset,
        index,
        max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
    }
}

fn list<P>(name: &str, partitions: impl IntoIterator<Item = P>) -> Listed<P> {
    Listed { topic: topic(name), partitions: partitions.into_iter().collect() }
}

/// A session of `count` partitions of topic t that were all answered with a high watermark of 0.
fn create(sessions: &FetchSessions, count: i32) -> i32 {
    let fetched =
        |index| FetchedPartition { asked: asked(index, 0), high_watermark: 0, log_start_offset: 0 };
    sessions.create(false, CONNECTION, std::iter::once(list("t", (0..count).map(fetched))))
}

fn step(id: i32, epoch: i32) -> Step {
    Step { id, epoch, by_ids: false, connection: CONNECTION }
}

/// A request that changes nothing.
fn advance(sessions: &FetchSessions, step: Step) -> Result<Option<FetchTurn>, FetchSessionError> {
    sessions.advance(step, std::iter::empty(), std::iter::empty())
}

fn answer(index: i32, high_watermark: i64) -> FetchPartitionResponse {
    FetchPartitionResponse {
        high_watermark,
        log_start_offset: 0,
        ..FetchPartitionResponse::error(index, 0)
    }
}

fn indexes(turn: &FetchTurn) -> Vec<i32> {
    let listed = turn.partitions(|_| None).unwrap();
    listed.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.index).collect()
}

#[test]
fn a_session_goes_on_only_with_the_next_epoch() {
    let sessions = sessions(10);
    let id = create(&sessions, 1);
    assert!(id > 0);
    assert_eq!(advance(&sessions, step(id, 2)).unwrap_err(), FetchSessionError::Epoch);
    assert!(advance(&sessions, step(id, 1)).unwrap().is_some());
    assert_eq!(advance(&sessions, step(id, 1)).unwrap_err(), FetchSessionError::Epoch);
    assert!(advance(&sessions, step(id, 2)).unwrap().is_some());
    assert_eq!(advance(&sessions, step(id, -7)).unwrap_err(), FetchSessionError::Epoch);
    let unknown = if id == 5 { 6 } else { 5 };
    assert_eq!(advance(&sessions, step(unknown, 1)).unwrap_err(), FetchSessionError::NotFound);
}

#[test]
fn a_turn_is_overtaken_by_the_next_and_by_no_refused_request() {
    let sessions = sessions(10);
    let id = create(&sessions, 1);
    let turn = advance(&sessions, step(id, 1)).unwrap().unwrap();
    let mut waits = std::pin::pin!(turn.overtaken());
    assert!(waits.as_mut().now_or_never().is_none());
    assert_eq!(advance(&sessions, step(id, 1)).unwrap_err(), FetchSessionError::Epoch);
    assert!(waits.as_mut().now_or_never().is_none());
    let next = advance(&sessions, step(id, 2)).unwrap().unwrap();
    assert!(waits.as_mut().now_or_never().is_some());
    assert!(turn.overtaken().now_or_never().is_some(), "also for one who asks later");
    assert!(next.overtaken().now_or_never().is_none());
}

#[test]
fn the_epoch_after_the_greatest_is_1() {
    let sessions = sessions(10);
    let fetched = FetchedPartition { asked: asked(0, 0), high_watermark: 0, log_start_offset: 0 };
    let partitions = PartitionList::fetched(false, std::iter::once(list("t", [fetched])));
    let session = Session::new(9, partitions, i32::MAX, CONNECTION, Charge::none());
    sessions.lock().insert(9, Arc::new(session), 1, sessions.clock.now());
    assert!(advance(&sessions, step(9, i32::MAX)).unwrap().is_some());
    assert!(advance(&sessions, step(9, 1)).unwrap().is_some());
}

#[test]
fn a_session_of_names_does_not_go_on_with_ids_nor_one_of_ids_with_names() {
    let sessions = sessions(10);
    let of_names = create(&sessions, 1);
    let by_ids = Step { by_ids: true, ..step(of_names, 1) };
    assert_eq!(advance(&sessions, by_ids).unwrap_err(), FetchSessionError::TopicIds);
    let known = SessionTopic { id: TopicId(uuid::Uuid::from_u128(1)), name: None };
    let fetched = FetchedPartition { asked: asked(0, 0), high_watermark: 0, log_start_offset: 0 };
    let all = Listed { topic: known, partitions: vec![fetched] };
    let of_ids = sessions.create(true, CONNECTION, std::iter::once(all));
    assert_eq!(advance(&sessions, step(of_ids, 1)).unwrap_err(), FetchSessionError::TopicIds);
    assert!(advance(&sessions, step(of_names, 1)).unwrap().is_some());
}

#[test]
fn partitions_with_records_go_to_the_end_and_new_ones_behind_them() {
    let sessions = sessions(10);
    let id = create(&sessions, 5);
    let turn = advance(&sessions, step(id, 1)).unwrap().unwrap();
    assert_eq!(indexes(&turn), [0, 1, 2, 3, 4]);
    let answers: Vec<_> = (0..5)
        .map(|index| FetchPartitionResponse {
            records_len: usize::from(index == 1 || index == 3),
            ..answer(index, 0)
        })
        .collect();
    let kept = turn.conclude(answers.iter()).unwrap().unwrap();
    assert_eq!(kept, [false, true, false, true, false]);
    let new = std::iter::once(list("t", [asked(7, 0), asked(2, 50)]));
    let turn = sessions.advance(step(id, 2), new, std::iter::empty()).unwrap().unwrap();
    assert_eq!(indexes(&turn), [0, 2, 4, 1, 3, 7]);
    let listed = turn.partitions(|_| None).unwrap();
    assert_eq!(listed[0].partitions[1].fetch_offset, 50, "partition 2 is asked for further on");
}

#[test]
fn a_session_without_partitions_ends() {
    let sessions = sessions(10);
    let id = create(&sessions, 2);
    let forgotten = std::iter::once(list("t", [0, 1, 1, 9]));
    assert!(sessions.advance(step(id, 1), std::iter::empty(), forgotten).unwrap().is_none());
    assert_eq!(advance(&sessions, step(id, 2)).unwrap_err(), FetchSessionError::NotFound);
    assert_eq!(sessions.metrics.fetch_sessions.get(), 0);
    assert_eq!(sessions.metrics.fetch_session_partitions.get(), 0);
    assert_eq!(sessions.pool.used(), 0);
}

#[test]
fn what_is_listed_twice_counts_once_and_forgotten_topics_leave_nothing() {
    let sessions = sessions(10);
    let id = create(&sessions, 1);
    let used = sessions.pool.used();
    let twice = [list("u", [asked(4, 1), asked(3, 1)]), list("u", [asked(4, 2)])];
    let turn =
        sessions.advance(step(id, 1), twice.into_iter(), std::iter::empty()).unwrap().unwrap();
    let listed = turn.partitions(|_| None).unwrap();
    let expected = [list("t", [asked(0, 0)]), list("u", [asked(4, 2), asked(3, 1)])];
    assert_eq!(listed, expected);
    assert!(sessions.pool.used() > used);
    let forgotten = std::iter::once(list("u", [3, 4]));
    let turn = sessions.advance(step(id, 2), std::iter::empty(), forgotten).unwrap().unwrap();
    assert_eq!(turn.partitions(|_| None).unwrap(), [list("t", [asked(0, 0)])]);
    assert_eq!(sessions.pool.used(), used);
}

#[test]
fn another_connection_takes_a_session_over_and_the_same_one_may_pipeline() {
    let sessions = sessions(10);
    let id = create(&sessions, 1);
    let first = advance(&sessions, step(id, 1)).unwrap().unwrap();
    let second = advance(&sessions, step(id, 2)).unwrap().unwrap();
    assert_eq!(first.conclude([answer(0, 0)].iter()).unwrap(), None, "all is told");
    let elsewhere = Step { connection: OTHER_CONNECTION, ..step(id, 3) };
    let third = advance(&sessions, elsewhere).unwrap().unwrap();
    assert_eq!(second.conclude([answer(0, 0)].iter()), Err(FetchSessionError::Epoch));
    assert_eq!(second.partitions(|_| None), Err(FetchSessionError::Epoch));
    assert_eq!(third.conclude([answer(0, 0)].iter()).unwrap().unwrap(), [false]);
}

#[test]
fn an_id_keeps_the_name_that_it_once_had() {
    let sessions = sessions(10);
    let id = TopicId(uuid::Uuid::from_u128(5));
    let unknown = SessionTopic { id, name: None };
    let fetched = FetchedPartition { asked: asked(0, 0), high_watermark: -1, log_start_offset: -1 };
    let all = Listed { topic: unknown.clone(), partitions: vec![fetched] };
    let session = sessions.create(true, CONNECTION, std::iter::once(all));
    let next = |epoch| Step { by_ids: true, ..step(session, epoch) };
    let turn = advance(&sessions, next(1)).unwrap().unwrap();
    assert_eq!(turn.partitions(|_| None).unwrap()[0].topic, unknown);
    let turn = advance(&sessions, next(2)).unwrap().unwrap();
    turn.partitions(|asked| (asked == id).then(|| "late".into())).unwrap();
    let turn = advance(&sessions, next(3)).unwrap().unwrap();
    let known = SessionTopic { id, name: Some("late".into()) };
    assert_eq!(turn.partitions(|_| None).unwrap()[0].topic, known);
}

#[tokio::test(start_paused = true)]
async fn a_full_cache_makes_room_by_kafkas_rules() {
    let sessions = sessions(2);
    let old = create(&sessions, 3);
    let _other = create(&sessions, 5);
    assert_eq!(create(&sessions, 100), NO_SESSION, "nobody is pushed out in the first minutes");
    assert_eq!(sessions.metrics.fetch_sessions_refused.get(), 1);

    // Both are used again when they are old enough to be compared by size.
    sessions.clock.sleep(Duration::from_secs(119)).await;
    let mut epochs = 1..;
    let mut use_again = |id| {
        let epoch = epochs.next().unwrap();
        assert!(advance(&sessions, step(id, epoch)).unwrap().is_some(), "epoch {epoch}");
    };
    use_again(old);
    sessions.clock.sleep(Duration::from_secs(2)).await;
    use_again(old);
    assert_eq!(sessions.lock().len(), 2);
    let fresh = create(&sessions, 1);
    assert!(fresh > 0, "the other one has not been used for two minutes");
    assert_eq!(create(&sessions, 3), NO_SESSION, "as large as the old one is not larger");
    let larger = create(&sessions, 4);
    assert!(larger > 0, "larger than the old one, which is older than two minutes");
    assert_eq!(advance(&sessions, step(old, 3)).unwrap_err(), FetchSessionError::NotFound);
    assert!(advance(&sessions, step(fresh, 1)).unwrap().is_some());
    assert_eq!(sessions.metrics.fetch_session_evictions.get(), 2);
    assert_eq!(sessions.metrics.fetch_sessions.get(), 2);
    assert_eq!(sessions.metrics.fetch_session_partitions.get(), 1 + 4);
}

#[tokio::test(start_paused = true)]
async fn sessions_stay_within_their_pool_whatever_is_asked_for() {
    let sessions = sessions(1_000);
    let capacity = sessions.pool.capacity();
    assert_eq!(create(&sessions, 20_000), NO_SESSION, "more than a quarter of the pool");
    let count = 9_000;
    let first = create(&sessions, count);
    let with_room = (0..100).take_while(|_| create(&sessions, count) > 0).count();
    assert!((3..10).contains(&with_room), "{with_room} more sessions");
    assert!(sessions.pool.used() <= capacity && sessions.pool.used() > capacity / 2);

    // What has no memory to grow ends, and gives back what it had.
    let grown = list("t", (count..3 * count).map(|index| asked(index, 0)));
    let grown = sessions.advance(step(first, 1), std::iter::once(grown), std::iter::empty());
    assert_eq!(grown.unwrap_err(), FetchSessionError::NotFound);
    assert!(create(&sessions, count) > 0);

    // Those that nobody uses give way, as many as are needed.
    sessions.clock.sleep(Duration::from_secs(121)).await;
    assert!(create(&sessions, count) > 0);
    *sessions.lock() = Cache::default();
    assert_eq!(sessions.pool.used(), 0);
}

/// What a partition is like at one moment.
#[derive(Clone, Copy, Debug)]
struct Truth {
    high_watermark: i64,
    log_start_offset: i64,
    error_code: i16,
    records_len: usize,
}

impl Truth {
    fn answer(self, index: i32) -> FetchPartitionResponse {
        if self.error_code != 0 {
            return FetchPartitionResponse::error(index, self.error_code);
        }
        FetchPartitionResponse {
            high_watermark: self.high_watermark,
            log_start_offset: self.log_start_offset,
            records_len: self.records_len,
            ..FetchPartitionResponse::error(index, 0)
        }
    }
}

fn truths() -> impl Strategy<Value = Vec<Truth>> {
    let truth = (0..3_i64, 0..2_i64, prop_oneof![4 => Just(0_i16), 1 => Just(3)], 0..2_usize);
    let truth = truth.prop_map(|(high_watermark, log_start_offset, error_code, records_len)| {
        Truth { high_watermark, log_start_offset, error_code, records_len }
    });
    prop::collection::vec(truth, 8)
}

type Change = (Vec<(i32, i64)>, Vec<i32>, Vec<Truth>);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let asked = prop::collection::vec((0..8_i32, 0..100_i64), 0..4);
    let forgotten = prop::collection::vec(0..8_i32, 0..3);
    prop::collection::vec((asked, forgotten, truths()), 1..12)
}

proptest! {
    /// A client that knows only what its session told it knows what a full fetch of the same
    /// moment would tell, and gets its partitions in the order in which Kafka would give them.
    #[test]
    fn incremental_replies_add_up_to_a_full_fetch(start in truths(), changes in changes()) {
        let sessions = sessions(10);
        let fetched = start.iter().zip(0..).map(|(truth, index)| {
            let answer = truth.answer(index);
            FetchedPartition {
                asked: asked(index, 0),
                high_watermark: answer.high_watermark,
                log_start_offset: answer.log_start_offset,
            }
        });
        let id = sessions.create(false, CONNECTION, std::iter::once(list("t", fetched)));
        let mut order: Vec<(i32, i64)> = (0..8).map(|index| (index, 0)).collect();
        let mut told: BTreeMap<i32, FetchPartitionResponse> =
            start.iter().zip(0..).map(|(truth, index)| (index, truth.answer(index))).collect();

        for ((changed, forgotten, truth), epoch) in changes.into_iter().zip(1..) {
            for (index, offset) in &changed {
                match order.iter_mut().find(|(known, _)| known == index) {
                    Some(known) => known.1 = *offset,
                    None => order.push((*index, *offset)),
                }
            }
            order.retain(|(index, _)| !forgotten.contains(index));
            told.retain(|index, _| order.iter().any(|(known, _)| known == index));

            let changed = list("t", changed.into_iter().map(|(index, at)| asked(index, at)));
            let turn = sessions
                .advance(
                    step(id, epoch),
                    std::iter::once(changed),
                    std::iter::once(list("t", forgotten)),
                )
                .unwrap();
            let Some(turn) = turn else {
                prop_assert!(order.is_empty());
                return Ok(());
            };
            let listed = turn.partitions(|_| None).unwrap();
            let listed: Vec<(i32, i64)> = listed
                .iter()
                .flat_map(|topic| &topic.partitions)
                .map(|partition| (partition.index, partition.fetch_offset))
                .collect();
            prop_assert_eq!(&listed, &order);

            let now = |index: i32| truth[index as usize].answer(index);
            let answers: Vec<_> = order.iter().map(|(index, _)| now(*index)).collect();
            let kept = turn.conclude(answers.iter()).unwrap().unwrap();
            for (answer, _) in answers.iter().zip(&kept).filter(|(_, kept)| **kept) {
                told.insert(answer.index, answer.clone());
            }
            for (answer, kept) in answers.iter().zip(kept) {
                let known = &told[&answer.index];
                prop_assert_eq!(known.error_code, answer.error_code);
                prop_assert_eq!(known.high_watermark, answer.high_watermark);
                prop_assert_eq!(known.log_start_offset, answer.log_start_offset);
                prop_assert!(kept || (answer.records_len == 0 && answer.error_code == 0));
            }
            let has_records = |(index, _): &(i32, i64)| now(*index).records_len > 0;
            let served: Vec<_> = order.iter().copied().filter(has_records).collect();
            order.retain(|partition| !has_records(partition));
            order.extend(served);
        }
    }
}
