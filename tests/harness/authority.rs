//! Certificates for tests, made by openssl when they run: no key is checked in.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use tidegate::config::{ClientTls, Keystore, Pem};

/// A certificate authority with a folder of its own, which holds `ca.pem`.
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let authority = Self { folder: tempfile::tempdir().unwrap() };
        openssl(
            authority.folder.path(),
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=tests \
             -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.pem",
        );
        authority
    }

    /// A certificate for `alternatives` (`DNS:localhost,IP:127.0.0.1`) with its key in one file,
    /// which takes the place of what was there before at once.
    pub fn issue(&self, name: &str, alternatives: &str) -> PathBuf {
        self.issue_for_days(name, alternatives, 2)
    }

    /// The same of so many days.
    pub fn issue_for_days(&self, name: &str, alternatives: &str, days: u32) -> PathBuf {
        let folder = self.folder.path();
        openssl(
            folder,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days {days} \
                 -CA ca.pem -CAkey ca.key -subj /CN={name} -addext subjectAltName={alternatives} \
                 -addext basicConstraints=CA:FALSE -keyout {name}.new.key -out {name}.new"
            ),
        );
        let read = |file: String| std::fs::read_to_string(folder.join(file)).unwrap();
        let both = read(format!("{name}.new.key")) + &read(format!("{name}.new"));
        let (fresh, path) = (folder.join(format!("{name}.new")), self.path(&format!("{name}.pem")));
        std::fs::write(&fresh, both).unwrap();
        std::fs::rename(fresh, &path).unwrap();
        path
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// A client that trusts this authority, with the certificate in `keystore` if one is given.
    pub fn client(&self, keystore: Option<PathBuf>) -> ClientTls {
        let keystore = keystore.map(Pem::File);
        ClientTls {
            truststore: Some(Pem::File(self.path("ca.pem"))),
            keystore: keystore.map(|pem| Keystore { chain: pem.clone(), key: pem }),
            verify_hostname: true,
        }
    }
}

/// Runs openssl in `folder`. Arguments are separated by blanks.
fn openssl(folder: &Path, arguments: &str) {
    let mut command = Command::new("openssl");
    let made = command.current_dir(folder).args(arguments.split_whitespace()).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
