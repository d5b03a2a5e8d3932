//! Certificates for tests, made by openssl when they run: no key is checked in.
#![allow(clippy::disallowed_methods, reason = "tests own their files")]

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::config::{ClientAuth, ClientTls, Keystore, Pem, ServerTls};

/// A certificate authority with a folder of its own.
pub(crate) struct Authority {
    folder: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        Self::named("authority")
    }

    pub(crate) fn named(name: &str) -> Self {
        let authority = Self { folder: tempfile::tempdir().unwrap() };
        let extension = "basicConstraints=critical,CA:TRUE";
        authority.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -subj /CN={name} -addext {extension} -keyout ca.key -out ca.pem"
        ));
        authority
    }

    /// Runs openssl in the folder. Arguments are separated by blanks.
    pub(crate) fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.current_dir(self.folder.path()).args(arguments.split_whitespace());
        let made = command.output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }

    /// A certificate for `alternatives` (`DNS:localhost,IP:127.0.0.1`) in `<name>.pem`, its key in
    /// `<name>.key`.
    pub(crate) fn issue(&self, name: &str, alternatives: &str) -> Keystore {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
             -CA ca.pem -CAkey ca.key -subj /CN={name} -addext subjectAltName={alternatives} \
             -addext basicConstraints=CA:FALSE -keyout {name}.key -out {name}.pem"
        ));
        self.keystore(&format!("{name}.pem"), &format!("{name}.key"))
    }

    pub(crate) fn keystore(&self, chain: &str, key: &str) -> Keystore {
        Keystore { chain: self.pem(chain), key: self.pem(key) }
    }

    pub(crate) fn pem(&self, file: &str) -> Pem {
        Pem::File(self.path(file))
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    pub(crate) fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.path(file), text).unwrap();
    }

    /// A server with a certificate of this authority for localhost, that asks clients for none.
    pub(crate) fn server(&self) -> ServerTls {
        let keystore = self.issue("server", "DNS:localhost,IP:127.0.0.1");
        ServerTls { keystore, truststore: None, client_auth: ClientAuth::None }
    }

    /// A client that trusts this authority and has no certificate.
    pub(crate) fn client(&self) -> ClientTls {
        ClientTls { truststore: Some(self.pem("ca.pem")), keystore: None, verify_hostname: true }
    }
}
