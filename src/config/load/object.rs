//! `object.url` and what belongs to it.

use std::num::NonZeroU32;
use std::path::PathBuf;

use super::super::object::{Addressing, Encryption, ObjectConfig, ObjectUrl, S3Config, Service};
use super::values::Values;

const URL: &str = "object.url";
const ENDPOINT: &str = "object.endpoint";
const SSE: &str = "object.s3.sse.type";
const KMS_KEY: &str = "object.s3.sse.kms.key.id";
const CUSTOMER_KEY: &str = "object.s3.sse.customer.key.file";

/// Keys that have an effect with one service only.
const OF_SERVICE: &[(Service, &[&str])] = &[
    (Service::S3, &["object.s3.region", "object.s3.addressing.style", SSE]),
    (Service::Azure, &["object.azure.account"]),
];

/// The bucket's part of the configuration.
pub(super) fn object(values: &mut Values) -> ObjectConfig {
    let url = url(values);
    let endpoint = endpoint(values);
    let service = match &url {
        ObjectUrl::Service { service, .. } => Some(*service),
        ObjectUrl::File(_) | ObjectUrl::Memory => None,
    };
    refuse_what_has_no_effect(values, service);
    let encryption = encryption(values);
    let is_plain = endpoint.as_deref().is_some_and(|url| url.starts_with("http://"));
    if matches!(encryption, Encryption::Customer { .. }) && is_plain {
        let what = values.both(SSE, ENDPOINT);
        values.conflict(what, "the key would cross the network in the clear: use https://");
    }
    let rate = values.number("object.requests.per.second");
    if rate == 0 {
        values.refuse("object.requests.per.second", "must be -1 for unlimited, or at least 1");
    }
    ObjectConfig {
        url,
        endpoint,
        ca_file: some(values.text("object.tls.ca.file")).map(PathBuf::from),
        requests_per_second: u32::try_from(rate).ok().and_then(NonZeroU32::new),
        s3: S3Config {
            region: values.text_if_set("object.s3.region").and_then(some),
            addressing: match values.text("object.s3.addressing.style") {
                "path" => Addressing::Path,
                "virtual" => Addressing::Virtual,
                _ => Addressing::Auto,
            },
            encryption,
        },
        azure_account: values.text_if_set("object.azure.account").and_then(some),
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn url(values: &mut Values) -> ObjectUrl {
    let in_data_dir = ObjectUrl::File(PathBuf::from(values.text("data.dir")).join("bucket"));
    let Some(url) = values.text_if_set(URL).map(ObjectUrl::parse) else {
        return in_data_dir;
    };
    url.unwrap_or_else(|| {
        values.refuse(URL, ObjectUrl::FORM);
        in_data_dir
    })
}

/// The endpoint without a slash at its end. It must hold nothing but scheme, host and port,
/// because clients disagree on what a path in it would mean; Azure's emulator alone has one.
fn endpoint(values: &mut Values) -> Option<String> {
    let endpoint = values.text_if_set(ENDPOINT)?.trim_end_matches('/').to_owned();
    let rest = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]/".contains(&b);
    if rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(allowed)) {
        return Some(endpoint);
    }
    values.refuse(ENDPOINT, "must be an http:// or https:// URL, such as http://minio:9000");
    None
}

/// A key for another service than the bucket's is a mistake in one of the two.
fn refuse_what_has_no_effect(values: &mut Values, service: Option<Service>) {
    if !values.are_good(&[URL]) {
        return;
    }
    for (of, keys) in OF_SERVICE {
        for key in keys.iter().filter(|_| service != Some(*of)) {
            if values.is_set(key) {
                let fix = format!("has an effect with {}:// only: leave it out", of.scheme());
                values.refuse(key, &fix);
            }
        }
    }
    if service.is_none() {
        for key in [ENDPOINT, "object.tls.ca.file"] {
            if values.is_set(key) {
                values.refuse(key, "has an effect with s3://, gs:// and az:// only: leave it out");
            }
        }
    }
}

fn encryption(values: &mut Values) -> Encryption {
    let kind = values.text(SSE).to_owned();
    for (key, wanted) in [(KMS_KEY, "sse-kms"), (CUSTOMER_KEY, "sse-c")] {
        if values.is_set(key) && kind != wanted {
            let what = values.both(key, SSE);
            values.conflict(what, format!("set {SSE}={wanted}, or leave out {key}"));
        }
    }
    match kind.as_str() {
        "sse-s3" => Encryption::S3,
        "sse-kms" => Encryption::Kms { key_id: some(values.text(KMS_KEY)) },
        "sse-c" => {
            let key_file = PathBuf::from(values.text(CUSTOMER_KEY));
            if key_file.as_os_str().is_empty() {
                let what = format!("{SSE} = \"sse-c\" without {CUSTOMER_KEY}");
                values.conflict(what, "give the file that holds the key");
            }
            Encryption::Customer { key_file }
        }
        _ => Encryption::Bucket,
    }
}
