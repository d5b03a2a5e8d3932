//! What goes wrong with TLS, in words for whoever can mend it.

use std::io;
use std::path::PathBuf;

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// Why certificates, keys or trust cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{what} \"{}\" cannot be read: {reason}; check {setting}", .path.display())]
    Unreadable {
        /// What the file is for.
        what: &'static str,
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        reason: String,
    },
    /// A file, or a text in the configuration, is not what it has to be.
    #[error("{what}{}: {reason}", place(.path.as_ref()))]
    Unusable {
        /// What it is for.
        what: &'static str,
        /// The file; `None` for a text in the configuration.
        path: Option<PathBuf>,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// Clients are asked for certificates and nothing says who signs them.
    #[error(
        "ssl.client.auth asks clients for certificates and nothing says who signs them; set \
         ssl.truststore.location to the certificates of their CAs in PEM"
    )]
    NoTruststore,
    /// The system has no certificates to trust.
    #[error(
        "the system trusts no CA ({reason}); set ssl.truststore.location to the certificate of the \
         server's CA in PEM, or install the system's CA certificates"
    )]
    NoSystemRoots {
        /// Why none was found.
        reason: String,
    },
}

fn place(path: Option<&PathBuf>) -> String {
    path.map_or_else(
        || " in the configuration".to_owned(),
        |path| format!(" \"{}\"", path.display()),
    )
}

/// Why a client that connected to us has no TLS connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// What came first is not TLS.
    #[error("peer speaks plaintext to a TLS listener; set security.protocol=SSL in the client")]
    Plaintext,
    /// The client closed before the handshake was done; a probe does so at once.
    #[error("the peer closed the connection before TLS was agreed")]
    Closed,
    /// `ssl.client.auth=required`, and the client has no certificate.
    #[error(
        "the peer sent no certificate, which ssl.client.auth=required asks for; set ssl.keystore.* \
         in the client"
    )]
    NoCertificate,
    /// The client's certificate is not accepted.
    #[error("the peer's certificate is not accepted: {0}")]
    Certificate(String),
    /// The client ended the handshake and said why.
    #[error("the peer ended the TLS handshake: {0}")]
    Alert(String),
    /// The two sides have nothing in common, or the client breaks the protocol.
    #[error("TLS handshake failed: {0}")]
    Protocol(String),
    /// The socket failed.
    #[error("the connection failed in the TLS handshake: {0}")]
    Failed(io::ErrorKind),
}

impl AcceptError {
    pub(super) fn new(error: &io::Error) -> Self {
        let Some(fault) = fault(error) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Closed,
                kind => Self::Failed(kind),
            };
        };
        match fault {
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::Plaintext,
            Error::NoCertificatesPresented => Self::NoCertificate,
            Error::InvalidCertificate(refused) => Self::Certificate(refused.to_string()),
            Error::AlertReceived(alert) => Self::Alert(alert_in_words(*alert)),
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// Why a server that we connected to has no TLS connection with us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// What the server answered is not TLS.
    #[error(
        "the server speaks plaintext where TLS was expected; use the port of its TLS listener, or \
         set the security protocol to PLAINTEXT"
    )]
    Plaintext,
    /// The server closed without a word, as a plaintext Kafka does when it gets a `ClientHello`.
    #[error(
        "the server closed the connection in the TLS handshake, as a plaintext listener does; use \
         the port of its TLS listener, or set the security protocol to PLAINTEXT"
    )]
    Closed,
    /// Nobody whom we trust has signed the certificate.
    #[error(
        "the server's certificate is not trusted: no CA of the truststore has signed it; set \
         ssl.truststore.location to its CA's certificate"
    )]
    Untrusted,
    /// The certificate is for other names.
    #[error(
        "the server's certificate is not for \"{host}\" but for {}; connect by a name that it has, \
         or issue one with this name", names(.presented)
    )]
    WrongName {
        /// The host that was connected to.
        host: String,
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// The certificate's time is over.
    #[error("the server's certificate has expired: {0}; renew it, or check this machine's clock")]
    Expired(String),
    /// The certificate's time has not come.
    #[error("the server's certificate is not valid yet: {0}; check this machine's clock")]
    NotYetValid(String),
    /// The certificate is not accepted for another reason.
    #[error("the server's certificate is not accepted: {0}")]
    Certificate(String),
    /// The server ended the handshake and said why.
    #[error("the server ended the TLS handshake: {0}")]
    Alert(String),
    /// No certificate can be for such a name.
    #[error("\"{0}\" is neither a DNS name nor an IP address, so no certificate can be for it")]
    InvalidName(String),
    /// The two sides have nothing in common, or the server breaks the protocol.
    #[error("TLS handshake failed: {0}")]
    Protocol(String),
    /// The socket failed.
    #[error("the connection failed in the TLS handshake: {0}")]
    Failed(io::ErrorKind),
}

impl HandshakeError {
    pub(super) fn new(host: &str, error: &io::Error) -> Self {
        let Some(fault) = fault(error) else {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Closed,
                kind => Self::Failed(kind),
            };
        };
        match fault {
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => Self::Plaintext,
            Error::InvalidCertificate(refused) => Self::certificate(host, refused),
            Error::AlertReceived(alert) => Self::Alert(alert_in_words(*alert)),
            other => Self::Protocol(other.to_string()),
        }
    }

    fn certificate(host: &str, refused: &CertificateError) -> Self {
        use CertificateError as Refused;
        let host = host.to_owned();
        match refused {
            // A CA that was made anew under its old name shows as a signature that does not match.
            Refused::UnknownIssuer | Refused::BadSignature => Self::Untrusted,
            Refused::NotValidForName => Self::WrongName { host, presented: Vec::new() },
            Refused::NotValidForNameContext { presented, .. } => {
                Self::WrongName { host, presented: presented.clone() }
            }
            Refused::Expired | Refused::ExpiredContext { .. } => Self::Expired(refused.to_string()),
            Refused::NotValidYet | Refused::NotValidYetContext { .. } => {
                Self::NotYetValid(refused.to_string())
            }
            other => Self::Certificate(other.to_string()),
        }
    }
}

fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        "no name at all (the common name does not count)".to_owned()
    } else {
        presented.join(", ")
    }
}

/// What the other side said when it ended TLS, if that is why reading or writing failed. With TLS
/// 1.3 a client hears only so that its certificate is refused, or that one is asked for.
pub fn alert_in(error: &io::Error) -> Option<String> {
    match fault(error)? {
        Error::AlertReceived(alert) => Some(alert_in_words(*alert)),
        _ => None,
    }
}

fn fault(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

fn alert_in_words(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let words = match alert {
        Alert::CertificateRequired => "it requires a certificate of ours; set ssl.keystore.*",
        Alert::UnknownCA | Alert::DecryptError => "it does not trust the CA of our certificate",
        Alert::BadCertificate => "it does not accept our certificate (is it for another name?)",
        Alert::CertificateExpired => "our certificate has expired",
        Alert::CertificateUnknown => "it does not accept our certificate",
        Alert::ProtocolVersion => "it speaks no TLS version of ours, which are 1.2 and 1.3",
        Alert::HandshakeFailure => {
            "it found no cipher or certificate in common, or requires a certificate of ours"
        }
        Alert::UnrecognisedName => "it does not know the name that was asked for",
        other => return format!("alert {other:?}"),
    };
    words.to_owned()
}
