//! Amazon S3 and what speaks its protocol.
//!
//! Credentials, the first of these that has some: `AWS_ACCESS_KEY_ID` and what belongs to it, the
//! profile ([`super::profile`]), web identity, the container's endpoint, the instance's metadata.

use std::path::Path;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

use super::http::{self, Connector};
use super::profile::Profile;
use super::{Bucket, OpenStoreError, Opening, files};
use crate::config::{Addressing, Encryption};

/// The variables that AWS's tools know, and what the client library calls them.
const VARIABLES: &[(&str, Key)] = &[
    ("AWS_DEFAULT_REGION", Key::Region),
    ("AWS_REGION", Key::Region),
    ("AWS_ENDPOINT_URL", Key::Endpoint),
    ("AWS_ENDPOINT_URL_S3", Key::S3Endpoint),
    ("AWS_ENDPOINT_URL_STS", Key::StsEndpoint),
    ("AWS_ACCESS_KEY_ID", Key::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", Key::SecretAccessKey),
    ("AWS_SESSION_TOKEN", Key::Token),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", Key::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", Key::RoleArn),
    ("AWS_ROLE_SESSION_NAME", Key::RoleSessionName),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Key::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Key::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Key::ContainerAuthorizationTokenFile),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", Key::MetadataEndpoint),
];

/// The bytes of a customer's key in base64: 32 of them.
const CUSTOMER_KEY_CHARS: usize = 44;

/// Opens a bucket, and says the endpoint if it is not AWS's own.
pub(super) fn open(opening: &Opening<'_>) -> Result<(Bucket, Option<String>), OpenStoreError> {
    let config = opening.config;
    let profile = Profile::load(opening.variables)?;
    let mut builder = AmazonS3Builder::new();
    for (setting, key) in [
        ("region", Key::Region),
        ("endpoint_url", Key::Endpoint),
        ("web_identity_token_file", Key::WebIdentityTokenFile),
        ("role_arn", Key::RoleArn),
        ("role_session_name", Key::RoleSessionName),
    ] {
        if let Some(value) = profile.get(setting) {
            builder = builder.with_config(key, value);
        }
    }
    for (name, key) in VARIABLES {
        if let Some(value) = opening.variables.get(name) {
            builder = builder.with_config(*key, value);
        }
    }
    if let Some(region) = &config.s3.region {
        builder = builder.with_region(region);
    }
    let own = builder.get_config_value(&Key::S3Endpoint);
    let own = own.or_else(|| builder.get_config_value(&Key::Endpoint));
    let endpoint = config.endpoint.clone().or(own);
    let has_keys = opening.variables.get("AWS_ACCESS_KEY_ID").is_some();
    if !has_keys && let Some(credentials) = profile.into_credentials(opening.clock)? {
        builder = builder.with_credentials(Arc::new(credentials));
    }
    builder = addressed(builder, opening, endpoint.as_deref())?;
    builder = encrypted(builder, opening, endpoint.as_deref())?;
    let built = builder
        .with_bucket_name(opening.bucket)
        // The checksums of our own formats guard what is in the object, TLS what is on its way.
        .with_unsigned_payload(true)
        .with_retry(http::no_retry())
        .with_client_options(http::options(opening, endpoint.as_deref())?)
        .with_http_connector(Connector::new(opening.throttles))
        .build();
    Ok((opening.bucket(opening.built(built)?), endpoint))
}

/// The client library takes an endpoint for virtual hosts with the bucket already in it.
fn addressed(
    builder: AmazonS3Builder,
    opening: &Opening<'_>,
    endpoint: Option<&str>,
) -> Result<AmazonS3Builder, OpenStoreError> {
    let in_host = match opening.config.s3.addressing {
        // A certificate for *.s3.amazonaws.com does not hold for a bucket with dots.
        Addressing::Auto => endpoint.is_none() && !opening.bucket.contains('.'),
        Addressing::Path => false,
        Addressing::Virtual => true,
    };
    let builder = builder.with_virtual_hosted_style_request(in_host);
    let Some(endpoint) = endpoint else {
        return Ok(builder);
    };
    if !in_host {
        return Ok(builder.with_config(Key::S3Endpoint, endpoint));
    }
    let Some((scheme, host)) = endpoint.split_once("://") else {
        let told = format!("endpoint \"{endpoint}\" is not an http:// or https:// URL");
        return Err(opening.unusable(told));
    };
    let endpoint = format!("{scheme}://{}.{host}", opening.bucket);
    Ok(builder.with_config(Key::S3Endpoint, endpoint))
}

fn encrypted(
    builder: AmazonS3Builder,
    opening: &Opening<'_>,
    endpoint: Option<&str>,
) -> Result<AmazonS3Builder, OpenStoreError> {
    // The library does not export the type of these keys, but it knows them by name.
    let kind = opening.built("aws_server_side_encryption".parse())?;
    Ok(match &opening.config.s3.encryption {
        Encryption::Bucket => builder,
        Encryption::S3 => builder.with_config(kind, "AES256"),
        Encryption::Kms { key_id: None } => builder.with_config(kind, "sse:kms"),
        Encryption::Kms { key_id: Some(id) } => builder.with_sse_kms_encryption(id),
        Encryption::Customer { key_file } => {
            if endpoint.is_some_and(|url| url.starts_with("http://")) {
                let told = "object.s3.sse.type=sse-c would send the key in the clear to an http:// \
                            endpoint; use https://";
                return Err(opening.unusable(told));
            }
            builder.with_ssec_encryption(customer_key(key_file)?)
        }
    })
}

fn customer_key(path: &Path) -> Result<String, OpenStoreError> {
    let refused = |reason: String| OpenStoreError::File {
        setting: "object.s3.sse.customer.key.file",
        path: path.to_owned(),
        reason,
    };
    let text = files::read(path).map_err(|error| refused(error.to_string()))?;
    let key = text.trim();
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
    let digits = key.strip_suffix('=').unwrap_or("");
    if key.len() != CUSTOMER_KEY_CHARS || !digits.bytes().all(is_base64) {
        let told = "must hold 32 bytes in base64 (openssl rand -base64 32)";
        return Err(refused(told.to_owned()));
    }
    Ok(key.to_owned())
}
