//! TLS: the same keys for what listens and for what connects, which has a prefix before them.

use std::path::PathBuf;

use super::super::secret::Secret;
use super::super::{ClientAuth, ClientTls, Keystore, Pem, ServerTls};
use super::values::Values;

const CLIENT_AUTH: &str = "ssl.client.auth";
const IDENTIFICATION: &str = "upstream.ssl.endpoint.identification.algorithm";

/// The keys of one side.
pub(super) struct TlsKeys {
    /// Which protocol is spoken.
    pub(super) protocol: &'static str,
    /// What has an effect with TLS only, beside the stores.
    own: &'static str,
    keystore: &'static str,
    chain: &'static str,
    key: &'static str,
    truststore: &'static str,
    certificates: &'static str,
}

/// The keys of what listens.
pub(super) const LISTENER: TlsKeys = TlsKeys {
    protocol: "listener.security.protocol",
    own: CLIENT_AUTH,
    keystore: "ssl.keystore.location",
    chain: "ssl.keystore.certificate.chain",
    key: "ssl.keystore.key",
    truststore: "ssl.truststore.location",
    certificates: "ssl.truststore.certificates",
};

/// The keys of what connects to the upstream.
pub(super) const UPSTREAM: TlsKeys = TlsKeys {
    protocol: "upstream.security.protocol",
    own: IDENTIFICATION,
    keystore: "upstream.ssl.keystore.location",
    chain: "upstream.ssl.keystore.certificate.chain",
    key: "upstream.ssl.keystore.key",
    truststore: "upstream.ssl.truststore.location",
    certificates: "upstream.ssl.truststore.certificates",
};

impl TlsKeys {
    /// All that have an effect with TLS only.
    pub(super) fn names(&self) -> [&'static str; 6] {
        [self.keystore, self.chain, self.key, self.truststore, self.certificates, self.own]
    }

    /// Whether the protocol has TLS.
    pub(super) fn has_tls(&self, values: &Values) -> bool {
        matches!(values.text(self.protocol), "SSL" | "SASL_SSL")
    }

    /// Whether the protocol has SASL.
    pub(super) fn has_sasl(&self, values: &Values) -> bool {
        matches!(values.text(self.protocol), "SASL_PLAINTEXT" | "SASL_SSL")
    }

    /// A key of these that is set though the protocol has no TLS is a mistake in one of the two.
    pub(super) fn refuse_without_tls(&self, values: &mut Values) {
        if self.has_tls(values) || !values.are_good(&[self.protocol]) {
            return;
        }
        for key in self.names() {
            if values.is_own(key) {
                let what = values.both(key, self.protocol);
                let tls = if self.has_sasl(values) { "SASL_SSL" } else { "SSL" };
                let fix = format!("set {}={tls}, or leave out {key}", self.protocol);
                values.conflict(what, fix);
            }
        }
    }

    fn keystore(&self, values: &mut Values) -> Option<Keystore> {
        let file = values.text_if_given(self.keystore).map(PathBuf::from);
        let parts = [self.chain, self.key].map(|key| values.text_if_given(key).map(pem));
        if file.is_some() {
            for (key, _) in [self.chain, self.key].iter().zip(&parts).filter(|(_, it)| it.is_some())
            {
                let what = values.both(self.keystore, key);
                values.conflict(what, format!("the file holds both: leave out {key}, or the file"));
            }
        }
        match (file, parts) {
            (Some(file), _) => {
                Some(Keystore { chain: Pem::File(file.clone()), key: Pem::File(file) })
            }
            (None, [Some(chain), Some(key)]) => Some(Keystore { chain, key }),
            (None, [None, None]) => None,
            (None, [chain, _]) => {
                let (given, lacking) =
                    if chain.is_some() { (self.chain, self.key) } else { (self.key, self.chain) };
                if values.are_good(&[lacking]) {
                    let what = format!("{} without {lacking}", values.told(given));
                    let fix = format!("give both, or {} for a file that has both", self.keystore);
                    values.conflict(what, fix);
                }
                None
            }
        }
    }

    fn truststore(&self, values: &mut Values) -> Option<Pem> {
        let file = values.text_if_given(self.truststore).map(PathBuf::from);
        let text = values.text_if_given(self.certificates).map(pem);
        if file.is_some() && text.is_some() {
            let what = values.both(self.truststore, self.certificates);
            values.conflict(what, "give one of them");
        }
        file.map(Pem::File).or(text)
    }
}

/// A value of a key of the kind PEM: the loader has looked at its form.
fn pem(value: &str) -> Pem {
    if value.starts_with("-----") {
        Pem::Text(Secret::new(value))
    } else {
        Pem::File(PathBuf::from(value))
    }
}

/// TLS on a proxy's listeners, if they have it.
pub(super) fn server(values: &mut Values) -> Option<ServerTls> {
    LISTENER.refuse_without_tls(values);
    if !LISTENER.has_tls(values) {
        return None;
    }
    let speaker = values.told(LISTENER.protocol);
    accepting(values, &speaker, "")
}

/// TLS on a broker's listener of this name, whose own settings win over those of all.
pub(super) fn of_listener(values: &mut Values, name: &str) -> Option<ServerTls> {
    let mut own = values.of_listener(name);
    let prefix = format!("listener.name.{}.", name.to_ascii_lowercase());
    let found = accepting(&mut own, &format!("listener {name} speaks SSL"), &prefix);
    values.absorb(own.take_problems());
    found
}

/// TLS with whoever connects; `speaker` says where. Settings may have `prefix` before them.
fn accepting(values: &mut Values, speaker: &str, prefix: &str) -> Option<ServerTls> {
    let client_auth = match values.text(CLIENT_AUTH) {
        "requested" => ClientAuth::Requested,
        "required" => ClientAuth::Required,
        _ => ClientAuth::None,
    };
    let truststore = LISTENER.truststore(values);
    if client_auth != ClientAuth::None && truststore.is_none() {
        let what = format!("{} without a truststore", values.told(CLIENT_AUTH));
        values.conflict(what, "give who signs clients' certificates: ssl.truststore.location");
    }
    let is_good = values.are_good(&[LISTENER.keystore, LISTENER.chain, LISTENER.key]);
    let found = values.count_problems();
    let keystore = LISTENER.keystore(values);
    if keystore.is_none() && is_good && values.count_problems() == found {
        let what = format!("{speaker} without a certificate");
        let or_own = if prefix.is_empty() {
            String::new()
        } else {
            format!("; with {prefix} before them they are this listener's alone")
        };
        let fix = format!(
            "give ssl.keystore.location, a file with certificates and key in PEM, or \
             ssl.keystore.certificate.chain and ssl.keystore.key{or_own}"
        );
        values.conflict(what, fix);
    }
    Some(ServerTls { keystore: keystore?, truststore, client_auth })
}

/// TLS towards the upstream, if that has it.
pub(super) fn client(values: &mut Values) -> Option<ClientTls> {
    UPSTREAM.refuse_without_tls(values);
    if !UPSTREAM.has_tls(values) {
        return None;
    }
    let identification = values.text(IDENTIFICATION).to_ascii_lowercase();
    if !matches!(identification.as_str(), "https" | "") {
        let expected = "must be https, or empty to take any host's certificate";
        values.refuse(IDENTIFICATION, expected);
    }
    Some(ClientTls {
        truststore: UPSTREAM.truststore(values),
        keystore: UPSTREAM.keystore(values),
        verify_hostname: !identification.is_empty(),
    })
}
