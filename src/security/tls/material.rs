//! Certificates, keys and whom to trust: read from their files, parsed from PEM.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

use super::error::TlsError;
use super::expiry;
use crate::config::{Keystore, Pem};

/// The largest file that is read; the bundle of a whole system has a quarter of a mebibyte.
const FILE_BYTES_MAX: u64 = 4 << 20;

const CHAIN: &str = "keystore certificate chain";
const KEY: &str = "keystore key";
const TRUST: &str = "truststore";

/// Where the material comes from.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub(super) keystore: Option<Keystore>,
    pub(super) truststore: Option<Pem>,
}

/// PEM as it was read. Two that are equal give the same certificates.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    chain: Option<Text>,
    key: Option<Text>,
    trust: Option<Text>,
}

/// A file's bytes, or the configuration's text.
#[derive(Clone, PartialEq, Eq)]
struct Text {
    path: Option<PathBuf>,
    bytes: Vec<u8>,
}

impl Sources {
    /// Whether anything can change while the process runs.
    pub(super) fn has_files(&self) -> bool {
        let is_file = |pem: &Pem| matches!(pem, Pem::File(_));
        self.truststore.as_ref().is_some_and(is_file)
            || self.keystore.as_ref().is_some_and(|own| is_file(&own.chain) || is_file(&own.key))
    }

    /// Reads what there is to read. Blocks.
    pub(super) fn read(&self) -> Result<Material, TlsError> {
        let keystore = self.keystore.as_ref();
        let same = keystore.is_some_and(|keystore| keystore.chain == keystore.key);
        let (chain_setting, key_setting) = if same {
            ("ssl.keystore.location", "ssl.keystore.location")
        } else {
            ("ssl.keystore.certificate.chain", "ssl.keystore.key")
        };
        let chain = keystore.map(|keystore| read(&keystore.chain, CHAIN, chain_setting));
        let key = keystore.map(|keystore| read(&keystore.key, KEY, key_setting));
        let trust = self.truststore.as_ref();
        let trust = trust.map(|trust| read(trust, TRUST, "ssl.truststore.location"));
        Ok(Material { chain: chain.transpose()?, key: key.transpose()?, trust: trust.transpose()? })
    }
}

fn read(pem: &Pem, what: &'static str, setting: &'static str) -> Result<Text, TlsError> {
    let path = match pem {
        Pem::Text(text) => {
            let bytes = text.expose().as_bytes().to_vec();
            return Ok(Text { path: None, bytes });
        }
        Pem::File(path) => path,
    };
    let unreadable =
        |reason: String| TlsError::Unreadable { what, setting, path: path.clone(), reason };
    let bytes = read_file(path).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(Text { path: Some(path.clone()), bytes })
}

#[allow(clippy::disallowed_methods, reason = "certificates are this room's files")]
fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Material {
    /// The own chain with its key, if there is a keystore.
    pub(super) fn identity(
        &self,
        provider: &CryptoProvider,
    ) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
        let (Some(chain), Some(key)) = (&self.chain, &self.key) else { return Ok(None) };
        let certificates = chain.certificates(CHAIN)?;
        let loaded = provider.key_provider.load_private_key(key.private_key()?);
        let loaded = loaded.map_err(|_| {
            let kinds = "RSA from 2048 to 8192 bits, ECDSA with P-256 or P-384, Ed25519";
            key.unusable(KEY, format!("holds a key of a kind that is not supported; use {kinds}"))
        })?;
        let identity = CertifiedKey::new(certificates, loaded);
        match identity.keys_match() {
            // The provider cannot tell of some keys; a handshake will.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {
                Ok(Some(Arc::new(identity)))
            }
            Err(Error::InconsistentKeys(_)) => Err(chain.unusable(
                CHAIN,
                "its first certificate is not for the keystore's key; put the own certificate \
                 first, and check that the key is the one it was issued for",
            )),
            Err(error) => Err(chain.unusable(CHAIN, error.to_string())),
        }
    }

    /// The second since 1970 at which the own chain is of no more use: its certificate that ends
    /// first. Nothing without a keystore, or where no end can be read.
    pub(super) fn expiry(&self) -> Option<i64> {
        let certificates = self.chain.as_ref()?.certificates(CHAIN).ok()?;
        certificates.iter().filter_map(|certificate| expiry::not_after(certificate)).min()
    }

    /// The certificates that are trusted, if there is a truststore.
    pub(super) fn trusted(&self) -> Result<Option<Trusted>, TlsError> {
        let Some(trust) = &self.trust else { return Ok(None) };
        let certificates = trust.certificates(TRUST)?;
        let mut roots = RootCertStore::empty();
        for certificate in &certificates {
            let unusable = |error: Error| trust.unusable(TRUST, error.to_string());
            roots.add(certificate.clone()).map_err(unusable)?;
        }
        Ok(Some(Trusted { roots: Arc::new(roots), certificates }))
    }
}

/// Whom a side trusts.
#[derive(Debug)]
pub(super) struct Trusted {
    /// Those that sign others.
    pub(super) roots: Arc<RootCertStore>,
    /// The certificates themselves; of the system's none.
    pub(super) certificates: Vec<CertificateDer<'static>>,
}

/// Whom the system trusts.
pub(super) fn system_trusted() -> Result<Trusted, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A system's bundle may hold certificates that rustls does not read; the others do.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = found.errors.first();
        let reason = reason.map_or_else(|| "none is installed".to_owned(), ToString::to_string);
        return Err(TlsError::NoSystemRoots { reason });
    }
    Ok(Trusted { roots: Arc::new(roots), certificates: Vec::new() })
}

impl Text {
    fn unusable(&self, what: &'static str, reason: impl Into<String>) -> TlsError {
        TlsError::Unusable { what, path: self.path.clone(), reason: reason.into() }
    }

    fn has(&self, mark: &str) -> bool {
        self.bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
    }

    /// What to say when something is missing from the text.
    fn missing(&self, what: &'static str, thing: &str, mark: &str) -> TlsError {
        // JKS begins with FEEDFEED, PKCS#12 and every DER with a sequence.
        let binary = matches!(self.bytes.first(), Some(0xfe | 0x30)) && !self.has("-----BEGIN");
        if binary {
            return self.unusable(
                what,
                "is not PEM but JKS, PKCS#12 or DER; convert it (keytool -importkeystore to \
                 PKCS12, then openssl pkcs12 -nodes)",
            );
        }
        self.unusable(what, format!("holds no {thing} in PEM (-----BEGIN {mark}-----)"))
    }

    fn certificates(&self, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found = CertificateDer::pem_slice_iter(&self.bytes).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| self.unusable(what, pem_reason(&error)))?;
        if found.is_empty() {
            return Err(self.missing(what, "certificate", "CERTIFICATE"));
        }
        Ok(found)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let found = PrivateKeyDer::from_pem_slice(&self.bytes);
        found.map_err(|error| {
            if self.has("ENCRYPTED") {
                return self.unusable(
                    KEY,
                    "is encrypted; decrypt it (openssl pkey -in FILE -out FILE.plain) and protect \
                     the file by its permissions",
                );
            }
            match error {
                pem::Error::NoItemsFound => self.missing(KEY, "private key", "PRIVATE KEY"),
                error => self.unusable(KEY, pem_reason(&error)),
            }
        })
    }
}

/// The parser's words never quote what it read but for a line that marks a section.
fn pem_reason(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a PEM section has no END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a PEM section's BEGIN line is broken".to_owned(),
        pem::Error::Base64Decode(_) => "a PEM section is not base64".to_owned(),
        _ => "is not PEM".to_owned(),
    }
}
