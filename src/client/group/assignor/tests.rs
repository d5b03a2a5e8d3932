//! Shares as Apache Kafka's `RangeAssignor` (4.3) makes them, and the bytes between members.

use super::*;

fn counts(topics: &[(&str, i32)]) -> BTreeMap<String, i32> {
    topics.iter().map(|(topic, count)| ((*topic).to_owned(), *count)).collect()
}

/// A member: its id, the id of a static one, and its topics.
type Row<'a> = (&'a str, Option<&'a str>, &'a [&'a str]);

fn members(rows: &[Row<'_>]) -> Vec<Subscriber> {
    let member = |(id, instance, topics): &Row<'_>| Subscriber {
        member_id: (*id).to_owned(),
        instance_id: instance.map(str::to_owned),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
    };
    rows.iter().map(member).collect()
}

/// Each member's partitions as the Java client prints them.
fn shared(rows: &[Row<'_>], topics: &[(&str, i32)]) -> Vec<String> {
    let shares = range(&members(rows), &counts(topics));
    let of = |(id, _, _): &Row<'_>| {
        let places = shares[*id].iter().map(|(topic, index)| format!("{topic}-{index}"));
        format!("{id}: {}", places.collect::<Vec<String>>().join(" "))
    };
    rows.iter().map(of).collect()
}

#[test]
fn partitions_are_shared_out_as_kafkas_range_assignor_does() {
    let both: &[&str] = &["t", "u"];
    let of = |id| (id, None, &["t"][..]);
    assert_eq!(shared(&[of("a"), of("b")], &[("t", 4)]), ["a: t-0 t-1", "b: t-2 t-3"]);
    assert_eq!(
        shared(&[of("c"), of("a"), of("b")], &[("t", 7)]),
        ["c: t-5 t-6", "a: t-0 t-1 t-2", "b: t-3 t-4"]
    );
    assert_eq!(shared(&[of("a"), of("b"), of("c")], &[("t", 2)]), ["a: t-0", "b: t-1", "c: "]);
    assert_eq!(
        shared(&[("a", None, both), ("b", None, both)], &[("t", 3), ("u", 5)]),
        ["a: t-0 t-1 u-0 u-1 u-2", "b: t-2 u-3 u-4"]
    );
    let mixed: [Row<'_>; 3] = [("a", None, both), ("b", None, &["u", "v"]), ("c", None, &["u"])];
    assert_eq!(
        shared(&mixed, &[("t", 3), ("u", 5), ("v", 2)]),
        ["a: t-0 t-1 t-2 u-0 u-1", "b: u-2 u-3 v-0 v-1", "c: u-4"]
    );
    let statics: [Row<'_>; 4] =
        [of("a"), ("b", Some("i2"), &["t"]), ("z", Some("i1"), &["t"]), of("y")];
    assert_eq!(shared(&statics, &[("t", 5)]), ["a: t-3", "b: t-2", "z: t-0 t-1", "y: t-4"]);
    let gone: [Row<'_>; 2] = [("a", None, &["t", "gone"]), ("b", None, &["gone"])];
    assert_eq!(shared(&gone, &[("t", 1)]), ["a: t-0", "b: "]);
    assert!(range(&[], &counts(&[("t", 1)])).is_empty());
}

#[test]
fn what_members_say_is_what_they_read() {
    let topics: BTreeSet<String> = ["b", "a"].map(str::to_owned).into();
    let bytes = subscription(&topics);
    // As the Java client writes version 0.
    assert_eq!(&bytes[..], b"\0\0\0\0\0\x02\0\x01a\0\x01b\xff\xff\xff\xff");
    assert_eq!(read_subscription(bytes.clone()), Some(topics));
    // A later version goes on behind that.
    let mut later = BytesMut::from(&bytes[..]);
    later[1] = 3;
    later.put_i32(0);
    assert_eq!(read_subscription(later.freeze()), read_subscription(bytes));

    let places: BTreeSet<Place> =
        [("a", 1), ("a", 0), ("b", 7)].map(|(topic, index)| (topic.to_owned(), index)).into();
    let bytes = assignment(&places);
    assert_eq!(
        &bytes[..],
        b"\0\0\0\0\0\x02\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x01\0\x01b\0\0\0\x01\0\0\0\x07\
          \xff\xff\xff\xff"
    );
    assert_eq!(read_assignment(bytes), Some(places));
    assert_eq!(read_assignment(Bytes::new()), Some(BTreeSet::new()));
}

#[test]
fn bytes_that_lie_are_no_message() {
    for wrong in [
        &b"\0"[..],
        b"\0\0\0\0\0",
        b"\0\0\x7f\xff\xff\xff",
        b"\0\0\0\0\0\x01\x7f\xffa",
        b"\0\0\0\0\0\x01\xff\xff",
        b"\0\0\0\0\0\x01\0\x01\xff",
    ] {
        assert_eq!(read_subscription(Bytes::copy_from_slice(wrong)), None, "{wrong:?}");
        assert_eq!(read_assignment(Bytes::copy_from_slice(wrong)), None, "{wrong:?}");
    }
    let partitions = b"\0\0\0\0\0\x01\0\x01a\x7f\xff\xff\xff\0\0\0\0";
    assert_eq!(read_assignment(Bytes::copy_from_slice(partitions)), None);
    assert_eq!(read_subscription(Bytes::new()), None);
}

#[test]
fn a_name_that_no_topic_can_have_makes_it_none() {
    let named = |length: usize| {
        let places = BTreeSet::from([("t".repeat(length), 0), ("t".repeat(length), 1)]);
        (read_assignment(assignment(&places)), places)
    };
    let (read, longest) = named(249);
    assert_eq!(read, Some(longest));
    assert_eq!(named(250).0, None);
    let topics = |length: usize| BTreeSet::from(["t".repeat(length)]);
    assert_eq!(read_subscription(subscription(&topics(249))), Some(topics(249)));
    assert_eq!(read_subscription(subscription(&topics(250))), None);
}
