//! Google Cloud Storage and Azure Blob Storage.
//!
//! Credentials are found by the client library as these clouds' own tools do. Google: service
//! account or application default credentials, else the metadata server. Azure: key, SAS, client
//! secret or workload identity, else the managed identity.

use std::str::FromStr;

use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

use super::http::{self, Connector};
use super::{Bucket, OpenStoreError, Opening};

/// Variables of Azure's App Service and Container Apps that have no prefix.
const IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";

/// Opens a bucket of Google's, and says the endpoint if it is not Google's own.
pub(super) fn gcs(opening: &Opening<'_>) -> Result<(Bucket, Option<String>), OpenStoreError> {
    let endpoint = opening.config.endpoint.clone();
    let mut builder = GoogleCloudStorageBuilder::new();
    for (name, value) in opening.variables.with_prefix("GOOGLE_") {
        match GoogleConfigKey::from_str(&name.to_ascii_lowercase()) {
            // These are the configuration's.
            Err(_)
            | Ok(GoogleConfigKey::Bucket | GoogleConfigKey::BaseUrl | GoogleConfigKey::Client(_)) =>
                {}
            Ok(key) => builder = builder.with_config(key, value),
        }
    }
    if let Some(endpoint) = &endpoint {
        builder = builder.with_base_url(endpoint);
    }
    let built = builder
        .with_bucket_name(opening.bucket)
        .with_retry(http::no_retry())
        .with_client_options(http::options(opening, endpoint.as_deref())?)
        .with_http_connector(Connector::new(opening.throttles))
        .build();
    Ok((opening.bucket(opening.built(built)?), endpoint))
}

/// Opens a container of Azure's, and says the account or the endpoint.
pub(super) fn azure(opening: &Opening<'_>) -> Result<(Bucket, Option<String>), OpenStoreError> {
    let endpoint = opening.config.endpoint.clone();
    let mut builder = MicrosoftAzureBuilder::new();
    for (name, value) in opening.variables.with_prefix("AZURE_") {
        match AzureConfigKey::from_str(&name.to_ascii_lowercase()) {
            // These are the configuration's.
            Err(_)
            | Ok(
                AzureConfigKey::ContainerName
                | AzureConfigKey::Endpoint
                | AzureConfigKey::Client(_),
            ) => {}
            Ok(key) => builder = builder.with_config(key, value),
        }
    }
    if let Some(value) = opening.variables.get(IDENTITY_ENDPOINT) {
        builder = builder.with_msi_endpoint(value);
    }
    if let Some(account) = &opening.config.azure_account {
        builder = builder.with_account(account);
    }
    let account = builder.get_config_value(&AzureConfigKey::AccountName);
    let Some(account) = account else {
        let told = "the storage account is not known; set object.azure.account";
        return Err(opening.unusable(told));
    };
    if let Some(endpoint) = &endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let built = builder
        .with_container_name(opening.bucket)
        .with_retry(http::no_retry())
        .with_client_options(http::options(opening, endpoint.as_deref())?)
        .with_http_connector(Connector::new(opening.throttles))
        .build();
    // The same container's name is another container in another account.
    let place = endpoint.unwrap_or_else(|| format!("https://{account}.blob.core.windows.net"));
    Ok((opening.bucket(opening.built(built)?), Some(place)))
}
