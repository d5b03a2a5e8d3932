//! AWS's shared files: `~/.aws/config` and `~/.aws/credentials`.
//!
//! The client library reads neither. Keys, region, endpoint and web identity of a profile are
//! taken from here. Ways to credentials that would run programs or ask other services
//! (`credential_process`, single sign-on, roles by way of another profile) are refused by name.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;

use super::{OpenStoreError, Variables, files};
use crate::clock::{Clock, Instant};
use crate::task;

/// How long keys are used before the files are read again: tools that hand out keys for some hours
/// replace them there.
const REREAD_AFTER: Duration = Duration::from_mins(1);

/// Settings that lead to credentials in a way that is not carried out here.
const UNSUPPORTED: [&str; 5] =
    ["credential_process", "sso_session", "sso_start_url", "source_profile", "credential_source"];

/// Which profile of which files.
#[derive(Clone, Debug)]
struct Source {
    name: String,
    /// Whether somebody asked for it by name.
    is_named: bool,
    config: Option<PathBuf>,
    credentials: Option<PathBuf>,
}

/// A profile as it stands in the files.
pub(super) struct Profile {
    source: Source,
    settings: BTreeMap<String, String>,
}

impl Profile {
    /// The profile of `AWS_PROFILE`, or the one named default; empty if there is none.
    pub(super) fn load(variables: &Variables) -> Result<Self, OpenStoreError> {
        let home = variables.get("HOME").map(PathBuf::from);
        let file = |variable, name: &str| {
            let named = variables.get(variable).map(PathBuf::from);
            named.or_else(|| home.as_ref().map(|home| home.join(".aws").join(name)))
        };
        let name = variables.get("AWS_PROFILE");
        let source = Source {
            name: name.unwrap_or("default").to_owned(),
            is_named: name.is_some(),
            config: file("AWS_CONFIG_FILE", "config"),
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        };
        let settings = source.read()?;
        Ok(Self { source, settings })
    }

    pub(super) fn get(&self, setting: &str) -> Option<&str> {
        self.settings.get(setting).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Its keys, if it has some.
    pub(super) fn into_credentials(
        self,
        clock: &Clock,
    ) -> Result<Option<ProfileCredentials>, OpenStoreError> {
        if let Some(credential) = credential(&self.settings) {
            let held = Mutex::new((clock.now(), Arc::new(credential)));
            return Ok(Some(ProfileCredentials {
                source: self.source,
                clock: clock.clone(),
                held,
            }));
        }
        match UNSUPPORTED.into_iter().find(|setting| self.get(setting).is_some()) {
            Some(setting) => Err(self.source.refused(format!(
                "its {setting} is not supported; give it aws_access_key_id and \
                 aws_secret_access_key, or set AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN"
            ))),
            None => Ok(None),
        }
    }
}

fn credential(settings: &BTreeMap<String, String>) -> Option<AwsCredential> {
    Some(AwsCredential {
        key_id: settings.get("aws_access_key_id")?.clone(),
        secret_key: settings.get("aws_secret_access_key")?.clone(),
        token: settings.get("aws_session_token").cloned(),
    })
}

impl Source {
    fn refused(&self, reason: impl Into<String>) -> OpenStoreError {
        OpenStoreError::Profile { profile: self.name.clone(), reason: reason.into() }
    }

    /// The settings of the profile; where both files have one, that of the credentials counts.
    fn read(&self) -> Result<BTreeMap<String, String>, OpenStoreError> {
        let mut settings = BTreeMap::new();
        let mut found = false;
        for (path, prefix) in [(&self.config, "profile "), (&self.credentials, "")] {
            let Some(path) = path else { continue };
            let text = match files::read(path) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => {
                    let reason = format!("could not read \"{}\": {error}", path.display());
                    return Err(self.refused(reason));
                }
            };
            let section = match self.name.as_str() {
                "default" => "default".to_owned(),
                name => format!("{prefix}{name}"),
            };
            if let Some(read) = section_of(&text, &section) {
                found = true;
                settings.extend(read);
            }
        }
        if self.is_named && !found {
            let told = |path: &Option<PathBuf>| {
                path.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string())
            };
            return Err(self.refused(format!(
                "neither the config file ({}) nor the credentials file ({}) has it; correct \
                 AWS_PROFILE",
                told(&self.config),
                told(&self.credentials)
            )));
        }
        Ok(settings)
    }
}

/// The settings of one section; `None` if there is no such section. Lines that are indented belong
/// to a setting with parts of its own, of which none is needed here.
fn section_of(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found: Option<BTreeMap<String, String>> = None;
    let mut inside = false;
    for line in text.lines() {
        if let Some(header) = line.trim().strip_prefix('[') {
            let header = header.split(']').next().unwrap_or("");
            inside = header.split_whitespace().eq(name.split_whitespace());
            if inside {
                found.get_or_insert_default();
            }
            continue;
        }
        let indented = line.starts_with([' ', '\t']);
        if !inside || indented || line.starts_with(['#', ';']) {
            continue;
        }
        if let (Some(found), Some((setting, value))) = (&mut found, line.split_once('=')) {
            found.insert(setting.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

/// The keys of a profile, read again every minute that they are used.
pub(super) struct ProfileCredentials {
    source: Source,
    clock: Clock,
    /// The keys, and when they were read.
    held: Mutex<(Instant, Arc<AwsCredential>)>,
}

impl std::fmt::Debug for ProfileCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProfileCredentials")
            .field("profile", &self.source.name)
            .finish_non_exhaustive()
    }
}

impl ProfileCredentials {
    async fn current(&self) -> Arc<AwsCredential> {
        let mut held = self.held.lock().await;
        let now = self.clock.now();
        if now.saturating_duration_since(held.0) >= REREAD_AFTER {
            let source = self.source.clone();
            let read = task::blocking(move || source.read()).await;
            // A file that is being replaced leaves the keys that there are.
            if let Ok(Ok(settings)) = read
                && let Some(credential) = credential(&settings)
            {
                held.1 = Arc::new(credential);
            }
            held.0 = now;
        }
        Arc::clone(&held.1)
    }
}

/// The trait's method is async through a boxed future; this is what its macro would write.
impl CredentialProvider for ProfileCredentials {
    type Credential = AwsCredential;

    fn get_credential<'s, 'a>(
        &'s self,
    ) -> Pin<Box<dyn Future<Output = object_store::Result<Arc<AwsCredential>>> + Send + 'a>>
    where
        's: 'a,
        Self: 'a,
    {
        Box::pin(async move { Ok(self.current().await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "# mine\n[default]\nregion = eu-west-1\n\n[profile  work]\n\
        region=us-west-2 \ns3 =\n    max_concurrent_requests = 20\nendpoint_url = http://s3.test\n";

    #[test]
    fn a_section_is_read_without_comments_and_nested_parts() {
        let work = section_of(CONFIG, "profile work").unwrap();
        assert_eq!(work["region"], "us-west-2");
        assert_eq!(work["endpoint_url"], "http://s3.test");
        assert!(!work.contains_key("max_concurrent_requests"), "{work:?}");
        assert_eq!(section_of(CONFIG, "default").unwrap().len(), 1);
        assert_eq!(section_of(CONFIG, "work"), None);
    }

    #[test]
    fn a_profile_that_is_asked_for_must_exist_and_lead_to_keys() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("config");
        #[allow(clippy::disallowed_methods, reason = "the test's own file")]
        std::fs::write(&file, "[profile sso]\nsso_session = x\n").unwrap();
        let file = file.display().to_string();
        let load = |name| {
            let variables = [("AWS_CONFIG_FILE", file.as_str()), ("AWS_PROFILE", name)];
            Profile::load(&variables.into())?.into_credentials(&Clock::system())
        };
        let missing = load("gone").unwrap_err().to_string();
        assert!(missing.contains("AWS profile \"gone\": neither the config file"), "{missing}");
        let unsupported = load("sso").unwrap_err().to_string();
        assert!(unsupported.contains("its sso_session is not supported"), "{unsupported}");
        let nothing = Profile::load(&Variables::default()).unwrap();
        assert!(nothing.into_credentials(&Clock::system()).unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_were_replaced_are_taken_within_a_minute() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("credentials");
        let write = |key: &str| {
            let text = format!("[default]\naws_access_key_id={key}\naws_secret_access_key=s\n");
            #[allow(clippy::disallowed_methods, reason = "the test's own file")]
            std::fs::write(&file, text).unwrap();
        };
        write("one");
        let path = file.display().to_string();
        let clock = Clock::manual(0);
        let variables = [("AWS_SHARED_CREDENTIALS_FILE", path.as_str())].into();
        let profile = Profile::load(&variables).unwrap();
        let credentials = profile.into_credentials(&clock).unwrap().unwrap();
        write("two");
        assert_eq!(credentials.get_credential().await.unwrap().key_id, "one");
        clock.sleep(REREAD_AFTER).await;
        assert_eq!(credentials.get_credential().await.unwrap().key_id, "two");
    }
}
