//! Fetch where the bucket has what is asked for, and takes its time (DESIGN §6): the reads of the
//! bucket are held until a test lets them go, so nothing here depends on how long anything takes.

use bytes::Bytes;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{DeleteRecordsRequest, FetchRequest, FetchResponse};

use crate::cold::{COLD, Cold, fetch, has_records, of, records};
use crate::harness::Wire;
use crate::requests::{FETCH, KAFKA_STORAGE_ERROR, NONE, topic_name};
use crate::tiering::TIERED;

const OFFSET_OUT_OF_RANGE: i16 = 1;
/// No test runs so long.
const FOR_EVER: i32 = i32::MAX;

/// The footer of an object and the chunk, in two requests.
const GETS: u64 = 2;

fn is_empty(response: &FetchResponse) -> bool {
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.all(|answer| {
        answer.error_code == NONE && answer.records.as_ref().is_none_or(Bytes::is_empty)
    })
}

/// The partitions that a session's answer tells of.
fn told(response: &FetchResponse) -> Vec<i32> {
    assert_eq!(response.error_code, NONE);
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|answer| answer.partition_index).collect()
}

fn delete_before(wire: &mut Wire, offset: i64) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic =
        DeleteRecordsTopic::default().with_name(topic_name("a")).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let answer = wire.call(2, &request).topics.remove(0).partitions.remove(0);
    assert_eq!((answer.error_code, answer.low_watermark), (NONE, offset));
}

/// Offsets beside the records: high watermark, last stable offset, log start.
fn offsets(answer: &PartitionData) -> [i64; 3] {
    [answer.high_watermark, answer.last_stable_offset, answer.log_start_offset]
}

/// Whatever a Fetch waits for, what it began is brought to its end: the footer, and the chunk after
/// it, which nobody had asked the bucket for when the answer left.
#[test]
fn a_fetch_leaves_with_nothing_when_its_time_is_up_and_the_next_one_asks_the_bucket_for_nothing() {
    let cold = Cold::start(3);
    let mut wire = cold.broker.connect();
    for (partition, (min_bytes, max_wait_ms)) in [(0, 0), (1, 0), (1, 100)].into_iter().enumerate()
    {
        let (log, index) = (&cold.logs[partition], partition as i32);
        let (loads, before) = (cold.loads(), cold.gets());
        let hold = cold.bucket.hold(&cold.objects[partition]);
        let request = fetch(&[(index, 0)], min_bytes, max_wait_ms);
        let first = wire.call(FETCH, &request);
        assert!(is_empty(&first), "the bucket has not answered");
        assert_eq!(offsets(of(&first, index)), [COLD, COLD, 0]);
        hold.wait_for(1);
        hold.let_go(1);
        hold.wait_for(GETS);
        assert!(is_empty(&wire.call(FETCH, &request)), "the bucket has answered half of it");
        assert_eq!(hold.came(), GETS, "a second request waits for the same load");
        drop(hold);
        cold.wait_for_loads(loads + 1.0);
        let found = wire.call(FETCH, &fetch(&[(index, 0)], 0, 0));
        assert!(log.compare(0, &records(&found, index)) > 0);
        assert_eq!(cold.gets(), before + GETS, "the cache has it");
    }
}

#[test]
fn a_load_goes_on_when_the_connection_that_wanted_it_is_closed() {
    const OPEN: &str = "tidegate_server_connections_open";
    let cold = Cold::start(1);
    let mut wire = cold.broker.connect();
    let hold = cold.bucket.hold(&cold.objects[0]);
    wire.send(FETCH, &fetch(&[(0, 0)], 1, FOR_EVER));
    hold.let_go(1);
    hold.wait_for(GETS);
    let open = cold.broker.metric(OPEN);
    drop(wire);
    cold.broker.wait_until("it is closed", |broker| broker.metric(OPEN) < open);
    assert_eq!(cold.loads(), 0.0);
    drop(hold);
    cold.wait_for_loads(1.0);
    let before = cold.gets();
    let found = cold.broker.connect().call(FETCH, &fetch(&[(0, 0)], 0, 0));
    assert!(cold.logs[0].compare(0, &records(&found, 0)) > 0);
    assert_eq!(cold.gets(), before);
}

#[test]
fn both_isolation_levels_read_the_bucket_and_many_readers_wait_for_one_load() {
    let cold = Cold::start(1);
    let hold = cold.bucket.hold(&cold.objects[0]);
    let before = cold.gets();
    let address = cold.broker.address();
    let readers: Vec<_> = (0..8)
        .map(|reader| {
            let mut wire = Wire::connect(&address);
            let request = fetch(&[(0, 0)], 1, FOR_EVER).with_isolation_level(reader % 2);
            let id = wire.send(FETCH, &request);
            (reader % 2, wire, id)
        })
        .collect();
    // All of them are there: what each would ask for comes once.
    let waiting = "tidegate_server_requests_in_flight";
    cold.broker.wait_until("all of them wait", |broker| broker.metric(waiting) >= 8.0);
    hold.let_go(1);
    hold.wait_for(GETS);
    drop(hold);
    for (isolation, mut wire, id) in readers {
        let found = wire.receive::<FetchRequest>(FETCH, id);
        let answer = of(&found, 0);
        assert_eq!(offsets(answer), [COLD, COLD, 0]);
        let aborted = answer.aborted_transactions.as_ref().map(Vec::len);
        assert_eq!(aborted, (isolation == 1).then_some(0));
        assert!(cold.logs[0].compare(0, &records(&found, 0)) > 0);
    }
    assert_eq!(cold.gets(), before + GETS);
}

/// A session tells of a partition when there is news, and keeps it in mind while there is none.
#[test]
fn a_session_keeps_a_partition_that_waits_for_the_bucket_and_tells_of_it_when_it_is_there() {
    let mut cold = Cold::start(2);
    let mut wire = cold.broker.connect();
    cold.logs[1].write(&mut wire, 1);
    let hold = cold.bucket.hold(&cold.objects[0]);
    let first = wire.call(
        FETCH,
        &fetch(&[(0, 0), (1, COLD)], 1, FOR_EVER).with_session_id(0).with_session_epoch(0),
    );
    let id = first.session_id;
    assert!(id > 0);
    assert!(!has_records(&first, 0), "it is answered without the bucket");
    assert_eq!(cold.logs[1].compare(COLD, &records(&first, 1)), COLD + 1);
    let next = |asked: &[(i32, i64)], epoch, max_wait_ms| {
        fetch(asked, 1, max_wait_ms).with_session_id(id).with_session_epoch(epoch)
    };
    let empty = wire.call(FETCH, &next(&[(1, COLD + 1)], 1, 0));
    assert_eq!((told(&empty), empty.session_id), (Vec::new(), id), "there is no news");

    // A request that waits is answered when the load is done, and one that comes later, too.
    let waiting = wire.send(FETCH, &next(&[], 2, FOR_EVER));
    hold.let_go(1);
    hold.wait_for(GETS);
    drop(hold);
    let found = wire.receive::<FetchRequest>(FETCH, waiting);
    assert_eq!(told(&found), [0]);
    let end = cold.logs[0].compare(0, &records(&found, 0));
    assert!(end > 0);
    let again = wire.call(FETCH, &next(&[], 3, 0));
    assert_eq!(told(&again), [0], "what was not acknowledged by a newer offset is told again");
    let rest = wire.call(FETCH, &next(&[(0, COLD)], 4, 0));
    assert_eq!((told(&rest), rest.session_id), (Vec::new(), id));
}

/// One waits for an object that does not come; the others do not wait for that one.
#[test]
fn of_many_partitions_those_that_the_bucket_has_brought_do_not_wait_for_one_that_it_has_not() {
    let cold = Cold::start(3);
    let mut wire = cold.broker.connect();
    let asked = [(0, 0), (1, 0), (2, 0)];
    let hold = cold.bucket.hold(&cold.objects[0]);
    let first = wire.call(FETCH, &fetch(&asked, 1, FOR_EVER));
    assert!(!has_records(&first, 0));
    let brought: Vec<i32> = (1..3).filter(|index| has_records(&first, *index)).collect();
    assert!(!brought.is_empty(), "what is brought ends the wait");
    for index in brought {
        assert!(cold.logs[index as usize].compare(0, &records(&first, index)) > 0);
    }
    // The rest of an answer of a MiB is for the next one.
    cold.wait_for_loads(2.0);
    for index in 1..3 {
        let found = wire.call(FETCH, &fetch(&[(0, 0), (index, 0)], 1, FOR_EVER));
        assert!(!has_records(&found, 0));
        assert!(cold.logs[index as usize].compare(0, &records(&found, index)) > 0);
    }
    drop(hold);
    cold.wait_for_loads(3.0);
    let found = wire.call(FETCH, &fetch(&asked, 0, 0));
    assert!(cold.logs[0].compare(0, &records(&found, 0)) > 0);
}

#[test]
fn records_that_arrive_end_the_wait_for_the_bucket() {
    let mut cold = Cold::start(2);
    let (mut wire, mut other) = (cold.broker.connect(), cold.broker.connect());
    let hold = cold.bucket.hold(&cold.objects[0]);
    let waiting = wire.send(FETCH, &fetch(&[(0, 0), (1, COLD)], 1, FOR_EVER));
    hold.wait_for(1);
    cold.logs[1].write(&mut other, 1);
    let found = wire.receive::<FetchRequest>(FETCH, waiting);
    assert!(!has_records(&found, 0));
    assert_eq!(cold.logs[1].compare(COLD, &records(&found, 1)), COLD + 1);
}

/// The log start passes a reader by while it waits for what is deleted: also when the object is
/// gone by then, which alone would be a loss.
#[test]
fn records_that_are_deleted_while_their_load_is_under_way_are_out_of_range() {
    let cold = Cold::start(2);
    let mut other = cold.broker.connect();
    for (gone, deleted) in [(false, 3), (true, COLD)] {
        let mut wire = cold.broker.connect();
        let from = if gone { COLD - 1 } else { 0 };
        let hold = cold.bucket.hold(&cold.objects[0]);
        let waiting = wire.send(FETCH, &fetch(&[(0, from)], 1, FOR_EVER));
        hold.wait_for(1);
        delete_before(&mut other, deleted);
        if gone {
            cold.bucket.remove(&cold.objects[0]);
        }
        drop(hold);
        let found = wire.receive::<FetchRequest>(FETCH, waiting);
        assert_eq!(of(&found, 0).error_code, OFFSET_OUT_OF_RANGE, "the object is gone: {gone}");
        if !gone {
            let rest = wire.call(FETCH, &fetch(&[(0, 3)], 1, FOR_EVER));
            assert!(cold.logs[0].compare(3, &records(&rest, 0)) > 3);
        }
    }
}

/// What is damaged is never served, the error is of that partition alone, and nobody remembers it:
/// an object that is whole again is read again. (A repair is the same damage once more.)
#[test]
fn damage_is_an_error_of_its_partition_alone_for_as_long_as_it_lasts() {
    let cold = Cold::start(2);
    let mut wire = cold.broker.connect();
    let mut objects = cold.bucket.objects(TIERED).into_iter();
    let (_, bytes) = objects.find(|(name, _)| *name == cold.objects[0]).unwrap();
    // Its end, and the middle of the batch at half of the log.
    for (at, from) in [(bytes - 40, 0), (bytes / 2 + bytes / COLD as u64 / 2, COLD / 2)] {
        cold.bucket.damage(&cold.objects[0], at);
        cold.broker.wait_until("the other one is served", |_| {
            let answer = wire.call(FETCH, &fetch(&[(0, from), (1, 0)], 1, FOR_EVER));
            assert!(!has_records(&answer, 0), "damaged bytes are served");
            cold.logs[1].compare(0, &records(&answer, 1)) > 0
        });
        for _ in 0..2 {
            let answer = wire.call(FETCH, &fetch(&[(0, from)], 1, FOR_EVER));
            assert_eq!(of(&answer, 0).error_code, KAFKA_STORAGE_ERROR, "at {at} of {bytes}");
        }
        cold.bucket.damage(&cold.objects[0], at);
        let mut answer = wire.call(FETCH, &fetch(&[(0, from)], 1, FOR_EVER));
        if of(&answer, 0).error_code == KAFKA_STORAGE_ERROR {
            // The one load that the answer with the other partition began for later may have been
            // under way still: it is told what that found.
            answer = wire.call(FETCH, &fetch(&[(0, from)], 1, FOR_EVER));
        }
        assert!(cold.logs[0].compare(from, &records(&answer, 0)) > from);
    }
}

#[test]
fn an_object_that_is_lost_is_an_error_of_what_it_holds() {
    let cold = Cold::start(2);
    let mut wire = cold.broker.connect();
    cold.bucket.remove(&cold.objects[0]);
    for max_wait_ms in [0, FOR_EVER] {
        let answer = wire.call(FETCH, &fetch(&[(0, 0)], 1, max_wait_ms));
        let code = of(&answer, 0).error_code;
        assert!(code == KAFKA_STORAGE_ERROR || (code == NONE && max_wait_ms == 0), "{code}");
        assert!(!has_records(&answer, 0));
    }
    let sound = wire.call(FETCH, &fetch(&[(1, 0)], 1, FOR_EVER));
    assert!(cold.logs[1].compare(0, &records(&sound, 1)) > 0);
}
