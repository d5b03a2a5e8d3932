//! The binary over a bucket of a real server.

use std::process::{Command, Output, Stdio};

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::harness::servers::{ACCESS_KEY, SECRET_KEY, Server};
use crate::harness::{Broker, Options};

#[test]
fn a_broker_that_is_killed_finds_its_topics_in_the_bucket() {
    let Some(server) = Server::versitygw_with_tls() else { return };
    server.make_bucket("bkt");
    let mut broker = Broker::start_with(server.options("s3://bkt/prod/a", Options::new()));
    let name = TopicName(StrBytes::from_static_str("kept"));
    let topic = CreatableTopic::default().with_name(name.clone()).with_num_partitions(3);
    let topic = topic.with_replication_factor(1);
    let create = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(30_000);
    let created = broker.connect().call(7, &create);
    assert_eq!(created.topics[0].error_code, 0, "{created:?}");
    broker.kill();
    broker.restart();
    let metadata = broker.connect().call(12, &MetadataRequest::default().with_topics(None));
    let [topic] = metadata.topics.as_slice() else { panic!("{metadata:?}") };
    assert_eq!((topic.name.as_ref(), topic.partitions.len()), (Some(&name), 3));
    assert!(server.buckets().join("bkt/prod/a/meta").is_dir(), "the objects are below the prefix");
    assert!(broker.metric("tidegate_object_billed_requests_total{class=\"write\"}") > 0.0);
    assert_eq!(broker.stop(), Some(0));
}

fn doctor(server: &Server, bucket: &str, secret: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(Options::new().binary);
    command.env_clear().env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", secret);
    command.current_dir(folder.path()).stdin(Stdio::null()).arg("doctor").args(arguments);
    command.args(["--set", "listeners=PLAINTEXT://127.0.0.1:0"]);
    command.args(["--set", &format!("object.url=s3://{bucket}")]);
    command.args(["--set", &format!("object.endpoint={}", server.endpoint())]);
    command.output().unwrap()
}

#[test]
fn the_doctor_finds_a_sound_bucket_a_wrong_key_and_no_bucket() {
    let Some(server) = Server::versitygw() else { return };
    server.make_bucket("bkt");
    let sound = doctor(&server, "bkt", SECRET_KEY, &["--json"]);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let told: serde_json::Value = serde_json::from_slice(&sound.stdout).unwrap();
    let findings = told["findings"].as_array().unwrap();
    let of_bucket = findings.iter().filter(|finding| finding["part"] == "bucket");
    assert!(of_bucket.clone().count() >= 3, "{findings:#?}");
    assert!(of_bucket.clone().all(|finding| finding["status"] == "ok"), "{findings:#?}");
    for (bucket, secret, words) in
        [("bkt", "wrong", "SignatureDoesNotMatch"), ("none", SECRET_KEY, "NoSuchBucket")]
    {
        let sick = doctor(&server, bucket, secret, &[]);
        assert_eq!(sick.status.code(), Some(1), "{sick:?}");
        let text = String::from_utf8(sick.stdout).unwrap();
        assert!(text.contains("problem  bucket: ") && text.contains(words), "{text}");
        assert!(text.contains("1 problems"), "{text}");
    }
}
