//! The bucket's part of the configuration: which store has it, and how that is reached.

use std::fmt;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// The bucket and the way to it. Credentials are not configuration: they come from the standard
/// places of each cloud (`object/backend`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectConfig {
    /// `object.url`.
    pub url: ObjectUrl,
    /// `object.endpoint`: an http or https URL; `None` is the cloud's own, or what the cloud's
    /// environment variables say.
    pub endpoint: Option<String>,
    /// `object.tls.ca.file`: certificates in PEM that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// `object.requests.per.second`; `None` is unlimited.
    pub requests_per_second: Option<NonZeroU32>,
    /// What only S3 has.
    pub s3: S3Config,
    /// `object.azure.account`; `None` is what the environment says.
    pub azure_account: Option<String>,
}

impl ObjectConfig {
    /// The bucket at `url` with everything else at its default.
    pub fn at(url: ObjectUrl) -> Self {
        Self {
            url,
            endpoint: None,
            ca_file: None,
            requests_per_second: None,
            s3: S3Config::default(),
            azure_account: None,
        }
    }

    /// The same with the directory that was derived from a relative `data.dir` in `data_dir`, its
    /// absolute form.
    pub fn within(&self, data_dir: &Path) -> Self {
        let mut absolute = self.clone();
        if let ObjectUrl::File(path) = &mut absolute.url
            && !path.is_absolute()
        {
            *path = data_dir.join(path.file_name().unwrap_or_default());
        }
        absolute
    }
}

/// Where the bucket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectUrl {
    /// A directory. Relative only if it was derived from a relative `data.dir`.
    File(PathBuf),
    /// Memory: gone when the process stops.
    Memory,
    /// A bucket of a service.
    Service {
        /// The service.
        service: Service,
        /// The bucket (Azure: container); never empty.
        bucket: String,
        /// What all names begin with, without slashes at its ends; empty is nothing.
        prefix: String,
    },
}

/// Who keeps the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3, and whatever speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure,
}

impl Service {
    const ALL: [Self; 3] = [Self::S3, Self::Gcs, Self::Azure];

    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }
}

impl ObjectUrl {
    /// What `object.url` has to be.
    pub const FORM: &'static str = "must be file:// and an absolute path, memory://, or \
         s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; the prefix is optional";

    /// Reads a URL of one of the forms in [`ObjectUrl::FORM`].
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        match (scheme, rest) {
            ("memory", "" | "/") => return Some(Self::Memory),
            ("file", path) if path.starts_with('/') => return Some(Self::File(path.into())),
            _ => {}
        }
        let service = Service::ALL.into_iter().find(|service| service.scheme() == scheme)?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_matches('/');
        if !is_bucket(bucket) || !is_prefix(prefix) {
            return None;
        }
        Some(Self::Service { service, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// The characters that the services allow in names of buckets; a `?`, `@` or `:` is part of
/// something else that was meant.
fn is_bucket(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !name.is_empty() && name.len() <= 222 && name.bytes().all(allowed)
}

/// Names that no service and no client library changes on their way.
fn is_prefix(prefix: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'=');
    let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(allowed);
    prefix.is_empty() || (prefix.len() <= 512 && prefix.split('/').all(part))
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ObjectUrl::File(path) => write!(f, "file://{}", path.display()),
            ObjectUrl::Memory => f.write_str("memory://"),
            ObjectUrl::Service { service, bucket, prefix } if prefix.is_empty() => {
                write!(f, "{}://{bucket}", service.scheme())
            }
            ObjectUrl::Service { service, bucket, prefix } => {
                write!(f, "{}://{bucket}/{prefix}", service.scheme())
            }
        }
    }
}

/// What only S3 has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3Config {
    /// `object.s3.region`; `None` is what the environment or the profile says, else us-east-1.
    pub region: Option<String>,
    /// `object.s3.addressing.style`.
    pub addressing: Addressing,
    /// `object.s3.sse.type` and the keys it needs.
    pub encryption: Encryption,
}

/// Where requests to S3 name the bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Addressing {
    /// In the path if there is an endpoint, else in the host.
    #[default]
    Auto,
    /// In the path.
    Path,
    /// In the host.
    Virtual,
}

/// Encryption by the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// What the bucket does by itself.
    #[default]
    Bucket,
    /// SSE-S3.
    S3,
    /// SSE-KMS.
    Kms {
        /// `object.s3.sse.kms.key.id`; `None` is the account's default key.
        key_id: Option<String>,
    },
    /// SSE-C.
    Customer {
        /// `object.s3.sse.customer.key.file`: 32 bytes in base64.
        key_file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_read_and_printed_without_its_superfluous_slashes() {
        for (given, printed) in [
            ("memory://", "memory://"),
            ("memory:///", "memory://"),
            ("file:///var/x", "file:///var/x"),
            ("s3://b", "s3://b"),
            ("s3://my.bucket-1/", "s3://my.bucket-1"),
            ("s3://b/p/q/", "s3://b/p/q"),
            ("gs://b_1/p", "gs://b_1/p"),
            ("az://container/a=b", "az://container/a=b"),
        ] {
            assert_eq!(
                ObjectUrl::parse(given).map(|url| url.to_string()).as_deref(),
                Some(printed)
            );
        }
    }

    #[test]
    fn what_is_no_url_of_a_bucket_is_not_read() {
        for wrong in [
            "",
            "bucket",
            "file://relative",
            "memory://x",
            "ftp://x",
            "s3://",
            "s3:///p",
            "s3://key:secret@b",
            "s3://b?region=x",
            "s3://b/a//b",
            "s3://b/../c",
            "s3://b/a b",
            "S3://b",
            "https://b.s3.amazonaws.com",
        ] {
            assert_eq!(ObjectUrl::parse(wrong), None, "{wrong:?}");
        }
    }
}
