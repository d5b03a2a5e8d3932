use proptest::prelude::*;

use super::*;

fn summary() -> Summary {
    Summary { identity: [0x1d; 16], covers: 9, metadata_number: 4, wall_ms: 1_000 }
}

fn encoded(items: &[Item]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        out.extend_from_slice(&item_head(item));
        if let Item::Part { part, .. } = item {
            out.extend_from_slice(part);
        }
    }
    out
}

#[test]
fn the_frozen_sample_is_written_and_read() {
    let items =
        [Item::Part { key: "k".into(), part: "part".into() }, Item::Removal { key: "gone".into() }];
    let place = Place { first: 7, base: 5, previous: 6 };
    let head = Head { place, end: Some(End { summary: summary(), items: 2 }) };
    let payload = Bytes::from(head.encode(&encoded(&items)));
    let mut frozen =
        b"\x01\0\0\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\x01".to_vec();
    frozen.extend_from_slice(&[0x1d; 16]);
    frozen.extend_from_slice(b"\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\x03\xe8");
    frozen.extend_from_slice(b"\0\0\0\0\0\0\0\x02");
    assert_eq!(frozen.len(), HEAD_BYTES);
    frozen.extend_from_slice(b"\x01\0\x01k\0\0\0\x04part\x02\0\x04gone");
    assert_eq!(payload, frozen);
    let (found, bytes) = Head::decode(&payload).unwrap();
    assert_eq!(found, head);
    let mut decoder = Items::default();
    decoder.feed(&bytes);
    assert_eq!([decoder.next().unwrap().unwrap(), decoder.next().unwrap().unwrap()], items);
    assert_eq!(read_alone(&payload), Ok(2));
}

#[test]
fn the_frozen_sample_of_an_entry_that_is_not_the_last_is_read() {
    let frozen = Bytes::from_static(
        b"\x01\0\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\x01\0\x01k\0\0\0\x04pa",
    );
    let (head, items) = Head::decode(&frozen).unwrap();
    assert!(head.place.is_base());
    assert_eq!(head, Head { place: Place { first: 5, base: 5, previous: 0 }, end: None });
    assert_eq!(head.encode(&items), frozen);
}

#[test]
fn what_a_newer_release_wrote_and_what_nobody_wrote_is_refused() {
    let place = Place { first: 1, base: 1, previous: 0 };
    let good = Head { place, end: None }.encode(b"");
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        Head::decode(&bytes.into()).map(|(head, _)| head)
    };
    assert_eq!(with(0, 2), Err(EntryError::Newer { found: 2 }));
    assert_eq!(with(2, 1), Err(EntryError::RequiredFlags { flags: 1 }));
    assert_eq!(with(28, 2), Err(EntryError::Field { field: "end", value: 2 }));
    assert!(with(1, 9).is_ok() && with(3, 9).is_ok());
    assert!(matches!(with(28, 1), Err(EntryError::Truncated(_))));
    let items = |bytes: &'static [u8]| {
        let mut items = Items::default();
        items.feed(bytes);
        items.next()
    };
    assert_eq!(items(b"\x03"), Err(EntryError::Field { field: "tag", value: 3 }));
    let larger = PART_BYTES_MAX as u64 + 1;
    assert_eq!(
        items(b"\x01\0\0\x10\0\0\x01"),
        Err(EntryError::Field { field: "part", value: larger })
    );
}

#[test]
fn a_checkpoint_that_ends_elsewhere_than_it_says_is_refused() {
    let mut items = Items::default();
    items.feed(b"\x02\0\x01k");
    items.next().unwrap().unwrap();
    assert_eq!(items.end(2), Err(EntryError::ItemCount { found: 1, said: 2 }));
    items.feed(b"\x02\0");
    assert_eq!(items.next(), Ok(None));
    assert_eq!(items.end(0), Err(EntryError::CutItem));
}

fn any_item() -> impl Strategy<Value = Item> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    prop_oneof![
        (bytes(), bytes()).prop_map(|(key, part)| Item::Part { key, part }),
        bytes().prop_map(|key| Item::Removal { key }),
    ]
}

proptest! {
    #[test]
    fn items_survive_being_cut_anywhere(
        items in proptest::collection::vec(any_item(), 0..20),
        cuts in proptest::collection::vec(1..50_usize, 1..40),
    ) {
        let bytes = encoded(&items);
        let (mut decoder, mut found) = (Items::default(), Vec::new());
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at(rest.len().min(*cut));
            decoder.feed(now);
            while let Some(item) = decoder.next().unwrap() {
                found.push(item);
            }
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(decoder.end(items.len() as u64), Ok(()));
        prop_assert_eq!(found, items);
    }

    #[test]
    fn a_head_survives(
        first in any::<u64>(),
        base in any::<u64>(),
        previous in any::<u64>(),
        end in proptest::option::of((any::<[u8; 16]>(), any::<u64>(), any::<u64>(), any::<i64>())),
        items in any::<u64>(),
    ) {
        let summary = |(identity, covers, metadata_number, wall_ms)| {
            Summary { identity, covers, metadata_number, wall_ms }
        };
        let end = end.map(|end| End { summary: summary(end), items });
        let head = Head { place: Place { first, base, previous }, end };
        let payload = Bytes::from(head.encode(b"rest"));
        prop_assert_eq!(Head::decode(&payload).unwrap(), (head, Bytes::from_static(b"rest")));
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..120),
        valid in any::<bool>(),
    ) {
        let start: &[u8] = if valid { &[1, 0, 0, 0] } else { &[] };
        let _ = read_alone(&Bytes::from([start, &bytes].concat()));
    }
}
