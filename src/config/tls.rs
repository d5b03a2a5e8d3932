//! TLS as plain data: which certificates, whom to trust. `security` reads the files.

use std::path::PathBuf;

use super::secret::Secret;

/// Certificates or keys in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// In this file, which is looked at again while the process runs.
    File(PathBuf),
    /// The text itself, written into the configuration.
    Text(Secret),
}

/// Who a process says it is: a chain of certificates and the key of the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keystore {
    /// The certificates, the process's own first.
    pub chain: Pem,
    /// The private key; the same file as `chain` with `ssl.keystore.location`.
    pub key: Pem,
}

/// Whether clients are asked for a certificate: Kafka's `ssl.client.auth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not.
    None,
    /// They may have none; one that is sent must be trusted.
    Requested,
    /// Without one there is no connection.
    Required,
}

/// TLS on a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// `ssl.keystore.*`.
    pub keystore: Keystore,
    /// `ssl.truststore.*`: who signs clients' certificates. There is one unless `client_auth` is
    /// [`ClientAuth::None`].
    pub truststore: Option<Pem>,
    /// `ssl.client.auth`.
    pub client_auth: ClientAuth,
}

/// TLS towards another server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// Who signs the server's certificate; `None` is whom the system trusts.
    pub truststore: Option<Pem>,
    /// The certificate to show, if any.
    pub keystore: Option<Keystore>,
    /// Whether the server's certificate must be for the host that was connected to.
    pub verify_hostname: bool,
}
