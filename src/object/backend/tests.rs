//! What goes over the wire to a service, against a fake one on loopback.

use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::error::ObjectError;
use super::super::key::Key;
use super::super::store::Store;
use super::*;
use crate::clock::Random;
use crate::config::{Addressing, Encryption};
use crate::metrics::Registry;
use crate::task;

/// A request as the service sees it.
#[derive(Clone, Debug)]
struct Seen {
    /// Method and path with its query.
    line: String,
    /// The head, names in lower case.
    head: String,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| *found == name).map(|(_, value)| value)
    }
}

type Answer = (u16, String);
type Script = Arc<dyn Fn(&Seen) -> Answer + Send + Sync>;

/// A service on loopback that answers as its script says.
struct Fake {
    endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (script, noted): (Script, _) = (Arc::new(script), Arc::clone(&seen));
        task::spawn("fake", async move {
            while let Ok((stream, _)) = listener.accept().await {
                task::spawn("fake connection", serve(stream, script.clone(), noted.clone()));
            }
        });
        Self { endpoint, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn at(&self, url: &str) -> ObjectConfig {
        let config = ObjectConfig::at(ObjectUrl::parse(url).unwrap());
        ObjectConfig { endpoint: Some(self.endpoint.clone()), ..config }
    }
}

async fn serve(mut stream: TcpStream, script: Script, noted: Arc<Mutex<Vec<Seen>>>) {
    let mut got = Vec::new();
    loop {
        let head_end = loop {
            if let Some(at) = got.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            match stream.read_buf(&mut got).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let head = String::from_utf8(got[..head_end].to_vec()).unwrap();
        let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
        let lower = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            format!("{}: {value}\n", name.to_ascii_lowercase())
        };
        let head: String = head.lines().skip(1).map(lower).collect();
        let mut seen = Seen { line, head, body: String::new() };
        let length = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
        while got.len() < head_end + 4 + length {
            stream.read_buf(&mut got).await.unwrap();
        }
        seen.body = String::from_utf8_lossy(&got[head_end + 4..][..length]).into_owned();
        got.drain(..head_end + 4 + length);
        let (status, body) = script(&seen);
        noted.lock().unwrap().push(seen);
        let answer = format!(
            "HTTP/1.1 {status} .\r\ncontent-length: {}\r\netag: \"e\"\r\n\
             x-goog-generation: 1\r\nlast-modified: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn connect(config: &ObjectConfig, variables: &Variables) -> Result<Store, OpenStoreError> {
    let registry = Registry::new();
    Store::connect(config, variables, &Clock::system(), &Random::seeded(1), &registry)
}

fn with_keys() -> Variables {
    [("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "secret")].into()
}

fn ok(_: &Seen) -> Answer {
    (200, String::new())
}

fn write(path: &Path, text: &str) -> String {
    #[allow(clippy::disallowed_methods, reason = "the test's own file")]
    std::fs::write(path, text).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn s3_gets_a_signed_conditional_write_with_an_unsigned_payload() {
    let fake = Fake::start(ok).await;
    let mut config = fake.at("s3://bkt/a/b");
    config.s3.region = Some("eu-north-1".to_owned());
    config.s3.encryption = Encryption::Kms { key_id: Some("key-7".to_owned()) };
    let store = connect(&config, &with_keys()).unwrap();
    assert_eq!(store.place(), format!("s3://bkt/a/b at {}", fake.endpoint));
    store.create(&Key::numbered("meta", 1), "body".into()).await.unwrap();
    let [seen] = fake.seen().try_into().unwrap();
    assert_eq!(seen.line, "PUT /bkt/a/b/meta/00000000000000000001");
    assert_eq!(seen.body, "body");
    assert_eq!(seen.header("if-none-match"), Some("*"));
    assert_eq!(seen.header("x-amz-content-sha256"), Some("UNSIGNED-PAYLOAD"));
    assert_eq!(seen.header("x-amz-server-side-encryption"), Some("aws:kms"));
    assert_eq!(seen.header("x-amz-server-side-encryption-aws-kms-key-id"), Some("key-7"));
    let authorization = seen.header("authorization").unwrap();
    assert!(authorization.contains("Credential=AKID/"), "{authorization}");
    assert!(authorization.contains("/eu-north-1/s3/aws4_request"), "{authorization}");
    assert!(seen.header("user-agent").unwrap().starts_with("tidegate/"));
}

#[tokio::test]
async fn the_bucket_stands_in_the_host_where_that_is_asked_for() {
    let fake = Fake::start(ok).await;
    let mut config = fake.at("s3://bkt");
    // Names below localhost are loopback everywhere.
    let port = fake.endpoint.rsplit(':').next().unwrap().to_owned();
    config.endpoint = Some(format!("http://localhost:{port}"));
    config.s3.addressing = Addressing::Virtual;
    let store = connect(&config, &with_keys()).unwrap();
    let Ok(()) = store.put(&Key::new("k"), "b".into()).await else { return };
    let [seen] = fake.seen().try_into().unwrap();
    assert_eq!(seen.line, "PUT /k");
    assert_eq!(seen.header("host"), Some(format!("bkt.localhost:{port}").as_str()));
}

#[tokio::test]
async fn a_profile_gives_keys_region_and_endpoint() {
    let fake = Fake::start(ok).await;
    let temp = tempfile::tempdir().unwrap();
    let settings = format!("[profile p]\nregion = r-9\nendpoint_url = {}\n", fake.endpoint);
    let config_file = write(&temp.path().join("config"), &settings);
    let keys = "[p]\naws_access_key_id = PK\naws_secret_access_key = s\naws_session_token = tok\n";
    let keys_file = write(&temp.path().join("credentials"), keys);
    let variables = [
        ("AWS_PROFILE", "p"),
        ("AWS_CONFIG_FILE", config_file.as_str()),
        ("AWS_SHARED_CREDENTIALS_FILE", keys_file.as_str()),
    ];
    let config = ObjectConfig::at(ObjectUrl::parse("s3://bkt").unwrap());
    let store = connect(&config, &variables.into()).unwrap();
    store.put(&Key::new("k"), "b".into()).await.unwrap();
    let [seen] = fake.seen().try_into().unwrap();
    let authorization = seen.header("authorization").unwrap();
    assert!(authorization.contains("Credential=PK/"), "{authorization}");
    assert!(authorization.contains("/r-9/s3/"), "{authorization}");
    assert_eq!(seen.header("x-amz-security-token"), Some("tok"));
}

const CREDENTIALS: &str = r#"{"AccessKeyId":"IK","SecretAccessKey":"s","Token":"itok",
    "Expiration":"2099-01-01T00:00:00Z"}"#;

#[tokio::test]
async fn the_instances_metadata_give_keys_where_nothing_else_does() {
    let fake = Fake::start(|seen| match seen.line.as_str() {
        "PUT /latest/api/token" => (200, "session".to_owned()),
        "GET /latest/meta-data/iam/security-credentials/" => (200, "role".to_owned()),
        "GET /latest/meta-data/iam/security-credentials/role" => (200, CREDENTIALS.to_owned()),
        _ => (200, String::new()),
    })
    .await;
    let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", fake.endpoint.as_str())].into();
    let store = connect(&fake.at("s3://bkt"), &variables).unwrap();
    store.put(&Key::new("k"), "b".into()).await.unwrap();
    store.put(&Key::new("l"), "b".into()).await.unwrap();
    let seen = fake.seen();
    assert_eq!(seen.len(), 5, "keys are asked for once: {seen:#?}");
    assert_eq!(seen[2].header("x-aws-ec2-metadata-token"), Some("session"));
    assert!(seen[3].header("authorization").unwrap().contains("Credential=IK/"));
    assert_eq!(seen[3].header("x-amz-security-token"), Some("itok"));
}

#[tokio::test]
async fn a_containers_endpoint_gives_keys_for_its_token() {
    let fake = Fake::start(|seen| match seen.line.as_str() {
        "GET /creds" => (200, CREDENTIALS.to_owned()),
        _ => (200, String::new()),
    })
    .await;
    let temp = tempfile::tempdir().unwrap();
    let token = write(&temp.path().join("token"), "pod-token");
    let uri = format!("{}/creds", fake.endpoint);
    let variables = [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", uri.as_str()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.as_str()),
    ];
    let store = connect(&fake.at("s3://bkt"), &variables.into()).unwrap();
    store.put(&Key::new("k"), "b".into()).await.unwrap();
    let seen = fake.seen();
    assert_eq!(seen[0].header("authorization"), Some("pod-token"));
    assert!(seen[1].header("authorization").unwrap().contains("Credential=IK/"));
}

#[tokio::test]
async fn google_and_azure_get_conditional_writes_with_their_tokens() {
    let fake = Fake::start(|seen| match seen.header("x-goog-if-generation-match") {
        Some(_) => (200, String::new()),
        None => (201, String::new()),
    })
    .await;
    let gcs = connect(&fake.at("gs://bkt/p"), &[("GOOGLE_BEARER_TOKEN", "gtok")].into()).unwrap();
    gcs.create(&Key::new("k"), "b".into()).await.unwrap();
    let mut config = fake.at("az://box/p");
    config.azure_account = Some("acct".to_owned());
    let azure = connect(&config, &[("AZURE_STORAGE_TOKEN", "atok")].into()).unwrap();
    azure.create(&Key::new("k"), "b".into()).await.unwrap();
    let [google, azure] = fake.seen().try_into().unwrap();
    assert_eq!(google.line, "PUT /bkt/p%2Fk");
    assert_eq!(google.header("authorization"), Some("Bearer gtok"));
    assert_eq!(google.header("x-goog-if-generation-match"), Some("0"));
    assert_eq!(azure.line, "PUT /box/p/k");
    assert_eq!(azure.header("authorization"), Some("Bearer atok"));
    assert_eq!(azure.header("if-none-match"), Some("*"));
}

#[tokio::test]
async fn a_throttled_request_is_counted_and_tried_again_by_the_layer_above() {
    let calls = Mutex::new(0);
    let fake = Fake::start(move |_| {
        let mut calls = calls.lock().unwrap();
        *calls += 1;
        if *calls < 3 { (503, "<Code>SlowDown</Code>".to_owned()) } else { (200, "x".to_owned()) }
    })
    .await;
    let registry = Registry::new();
    let (clock, random) = (Clock::system(), Random::seeded(1));
    let config = fake.at("s3://bkt");
    let store = Store::connect(&config, &with_keys(), &clock, &random, &registry).unwrap();
    store.put(&Key::new("k"), "b".into()).await.unwrap();
    assert_eq!(fake.seen().len(), 3);
    let text = registry.encode();
    for line in [
        "tidegate_object_throttles_total 2",
        r#"tidegate_object_retries_total{operation="put"} 2"#,
        r#"tidegate_object_billed_requests_total{class="write"} 3"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_not_an_empty_one() {
    let fake = Fake::start(|_| (404, "<Error><Code>NoSuchBucket</Code></Error>".to_owned())).await;
    let store = connect(&fake.at("s3://bkt"), &with_keys()).unwrap();
    for error in [
        store.get(&Key::new("k"), 10).await.unwrap_err(),
        store.get_range(&Key::new("k"), 0..1).await.unwrap_err(),
        store.put(&Key::new("k"), "b".into()).await.unwrap_err(),
        store.delete(&Key::new("k")).await.unwrap_err(),
    ] {
        assert!(matches!(&error, ObjectError::Denied { .. }), "{error}");
        assert!(error.to_string().contains("NoSuchBucket"), "{error}");
    }
    let fake = Fake::start(|_| (404, "<Error><Code>NoSuchKey</Code></Error>".to_owned())).await;
    let store = connect(&fake.at("s3://bkt"), &with_keys()).unwrap();
    let error = store.get(&Key::new("k"), 10).await.unwrap_err();
    assert!(matches!(error, ObjectError::NotFound { .. }), "{error}");
    let error = store.put(&Key::new("k"), "b".into()).await.unwrap_err();
    assert!(matches!(error, ObjectError::Denied { .. }), "{error}");
}

#[tokio::test]
async fn files_that_do_not_hold_what_they_should_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("file");
    let mut config = ObjectConfig::at(ObjectUrl::parse("s3://bkt").unwrap());
    let refusal = |config: &ObjectConfig| connect(config, &with_keys()).unwrap_err().to_string();
    config.ca_file = Some(path.clone());
    assert!(refusal(&config).contains("object.tls.ca.file"), "{}", refusal(&config));
    write(&path, "nothing");
    assert!(refusal(&config).contains("holds no certificate"), "{}", refusal(&config));
    config.ca_file = None;
    config.s3.encryption = Encryption::Customer { key_file: path.clone() };
    assert!(refusal(&config).contains("32 bytes in base64"), "{}", refusal(&config));
    write(&path, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n");
    connect(&config, &with_keys()).unwrap();
    config.endpoint = Some("http://127.0.0.1:1".to_owned());
    assert!(refusal(&config).contains("in the clear"), "{}", refusal(&config));
    let azure = ObjectConfig::at(ObjectUrl::parse("az://box").unwrap());
    assert!(refusal(&azure).contains("set object.azure.account"), "{}", refusal(&azure));
}

#[tokio::test]
async fn a_service_is_listed_page_by_page_below_the_prefix() {
    let object = |name: &str| {
        format!(
            "<Contents><Key>{name}</Key><Size>7</Size><ETag>\"e\"</ETag>\
             <LastModified>2026-01-01T00:00:01.000Z</LastModified></Contents>"
        )
    };
    let page = |objects: &str, next: &str| {
        let next = match next {
            "" => String::new(),
            token => format!("<NextContinuationToken>{token}</NextContinuationToken>"),
        };
        format!("<ListBucketResult>{objects}{next}</ListBucketResult>")
    };
    let busy = Mutex::new(true);
    let fake = Fake::start(move |seen| {
        if seen.line.contains("continuation-token=t1") {
            // The same page is asked for again.
            if std::mem::take(&mut *busy.lock().unwrap()) {
                return (503, String::new());
            }
            (200, page("", "t2"))
        } else if seen.line.contains("continuation-token=t2") {
            (200, page(&object("a/b/t/2"), ""))
        } else {
            (200, page(&[object("a/b/t/1"), object("a/b/t/x/1")].concat(), "t1"))
        }
    })
    .await;
    let registry = Registry::new();
    let (clock, random) = (Clock::system(), Random::seeded(1));
    let config = fake.at("s3://bkt/a/b");
    let store = Store::connect(&config, &with_keys(), &clock, &random, &registry).unwrap();
    let mut listing = store.list("t");
    let first = listing.next_page().await.unwrap().unwrap();
    assert_eq!(first[0].key, Key::new("t/1"));
    assert_eq!((first[0].bytes, first[0].modified_ms), (7, 1_767_225_601_000));
    let second = listing.next_page().await.unwrap().unwrap();
    assert_eq!((first.len(), second.len(), &second[0].key), (2, 1, &Key::new("t/2")));
    assert_eq!(listing.next_page().await.unwrap(), None);
    let seen = fake.seen();
    assert_eq!(seen.len(), 4, "{seen:#?}");
    let asked = &seen[0].line;
    assert!(asked.contains("prefix=a%2Fb%2Ft%2F") && asked.contains("max-keys=1000"), "{asked}");
    let text = registry.encode();
    let billed = r#"tidegate_object_billed_requests_total{class="write"} 4"#;
    assert!(text.contains(billed), "{text}");
}

#[tokio::test]
async fn a_listing_of_a_bucket_that_is_gone_is_not_empty() {
    for (status, code) in [(404, "NoSuchBucket"), (403, "AccessDenied")] {
        let answer = format!("<Error><Code>{code}</Code></Error>");
        let fake = Fake::start(move |_| (status, answer.clone())).await;
        let store = connect(&fake.at("s3://bkt"), &with_keys()).unwrap();
        let error = store.list("").next_page().await.unwrap_err();
        assert!(matches!(&error, ObjectError::Denied { .. }), "{error}");
        assert!(error.to_string().contains(code), "{error}");
    }
}
