use super::super::record::Record;
use super::*;

const OURS: Identity = Identity([1; 16]);
const RUN: Incarnation = Incarnation([0xaa; 16]);

/// A cluster of three entries in which broker 1 has `identity` and last ran as `incarnation`.
fn cluster(identity: Identity, incarnation: Incarnation) -> ClusterImage {
    let mut image = ClusterImage::empty();
    let first = [
        Record::ClusterCreated { cluster_id: ClusterId([7; 16]) },
        Record::FeatureLevel { level: 1 },
        Record::BrokerBound { node_id: 1, identity },
        Record::BrokerIncarnation { node_id: 1, incarnation },
    ];
    image.apply_entry(1, &first).unwrap();
    image.apply_entry(2, &[]).unwrap();
    image.apply_entry(3, &[]).unwrap();
    image
}

const LAST: Incarnation = Incarnation([0x11; 16]);
const STRANGE: Incarnation = Incarnation([0x22; 16]);

fn judge(image: &ClusterImage, change: impl FnOnce(&mut Facts<'_>)) -> Result<Decision, Refusal> {
    let mut facts = Facts {
        node_id: 1,
        directory: "/data".to_owned(),
        bucket: "file:///bucket".to_owned(),
        identity: OURS,
        incarnation: RUN,
        noted: &[LAST],
        fenced: false,
        take_over: false,
        wal: WalState { identity: Some(OURS.0), has_records: true, metadata_number: 3 },
        image,
    };
    change(&mut facts);
    decide(&facts)
}

const NEW_WAL: WalState =
    WalState { identity: Some(OURS.0), has_records: false, metadata_number: 0 };

#[test]
fn a_new_directory_creates_the_cluster_in_an_empty_bucket() {
    let empty = ClusterImage::empty();
    for noted in [&[][..], &[LAST], &[LAST, RUN]] {
        let decision = judge(&empty, |f| {
            f.wal = NEW_WAL;
            f.noted = noted;
        });
        assert_eq!(decision, Ok(Decision::CreateCluster));
    }
}

#[test]
fn a_directory_with_data_refuses_an_empty_bucket() {
    let empty = ClusterImage::empty();
    let with_records = judge(&empty, |_| {});
    assert!(matches!(with_records, Err(Refusal::EmptyBucket { .. })));
    let dependent = judge(&empty, |f| f.wal = WalState { metadata_number: 1, ..NEW_WAL });
    assert!(matches!(dependent, Err(Refusal::EmptyBucket { .. })));
    let fenced = judge(&empty, |f| {
        f.wal = NEW_WAL;
        f.fenced = true;
        f.take_over = true;
    });
    assert!(matches!(fenced, Err(Refusal::EmptyBucket { .. })));
}

#[test]
fn the_bound_directory_begins_a_run_and_begins_it_once() {
    assert_eq!(judge(&cluster(OURS, LAST), |_| {}), Ok(Decision::BeginRun));
    assert_eq!(judge(&cluster(OURS, LAST), |f| f.wal = NEW_WAL), Ok(Decision::BeginRun));
    assert_eq!(judge(&cluster(OURS, RUN), |f| f.noted = &[LAST, RUN]), Ok(Decision::Begun));
}

#[test]
fn a_lost_or_foreign_wal_is_refused() {
    let image = cluster(OURS, LAST);
    let lost = judge(&image, |f| f.wal = WalState::default());
    assert!(matches!(lost, Err(Refusal::WalLost { .. })));
    let foreign = judge(&image, |f| f.wal.identity = Some([9; 16]));
    assert!(matches!(foreign, Err(Refusal::WalOfAnotherDirectory { .. })));
    let unmade = judge(&ClusterImage::empty(), |f| f.wal = WalState::default());
    assert!(matches!(unmade, Err(Refusal::WalLost { .. })));
}

#[test]
fn another_directory_is_refused_and_an_empty_one_is_called_so() {
    let image = cluster(Identity([2; 16]), LAST);
    let empty = judge(&image, |f| {
        f.wal = NEW_WAL;
        f.noted = &[];
    });
    assert!(matches!(empty, Err(Refusal::EmptyDirectory { .. })));
    for take_over in [false, true] {
        let used = judge(&image, |f| {
            f.fenced = true;
            f.take_over = take_over;
        });
        assert!(matches!(used, Err(Refusal::AnotherDirectory { .. })));
    }
}

#[test]
fn a_shorter_bucket_is_refused() {
    let shorter = judge(&cluster(OURS, LAST), |f| f.wal.metadata_number = 4);
    assert!(matches!(shorter, Err(Refusal::ShorterBucket { needed: 4, .. })));
}

#[test]
fn a_copy_is_refused_also_with_take_over() {
    for take_over in [false, true] {
        let copy = judge(&cluster(OURS, STRANGE), |f| f.take_over = take_over);
        assert!(matches!(copy, Err(Refusal::UnknownIncarnation { last: STRANGE, .. })));
    }
}

#[test]
fn a_fenced_directory_starts_only_with_take_over_or_after_one() {
    let image = cluster(OURS, STRANGE);
    let fenced = judge(&image, |f| f.fenced = true);
    assert!(matches!(fenced, Err(Refusal::Fenced { .. })));
    let taken = judge(&image, |f| {
        f.fenced = true;
        f.take_over = true;
    });
    assert_eq!(taken, Ok(Decision::BeginRun));
    // The take-over's entry was put and the process killed before the file was removed.
    assert_eq!(judge(&cluster(OURS, LAST), |f| f.fenced = true), Ok(Decision::BeginRun));
}

#[test]
fn an_unknown_broker_id_is_refused() {
    let refusal = judge(&cluster(OURS, LAST), |f| f.node_id = 2).unwrap_err();
    let Refusal::UnknownBroker { node_id: 2, known, .. } = refusal else { panic!("{refusal}") };
    assert_eq!(known, "1");
}

#[test]
fn every_refusal_names_the_directory_and_a_way_out() {
    let image = cluster(Identity([2; 16]), LAST);
    let refusals = [
        judge(&ClusterImage::empty(), |_| {}),
        judge(&image, |_| {}),
        judge(&image, |f| f.node_id = 2),
        judge(&cluster(OURS, LAST), |f| f.wal = WalState::default()),
        judge(&cluster(OURS, LAST), |f| f.wal.metadata_number = 4),
        judge(&cluster(OURS, STRANGE), |_| {}),
        judge(&cluster(OURS, STRANGE), |f| f.fenced = true),
    ];
    for refusal in refusals {
        let text = refusal.unwrap_err().to_string();
        assert!(text.contains("\"/data\""), "{text}");
        assert!(text.contains("start with") || text.contains("set "), "{text}");
    }
}
