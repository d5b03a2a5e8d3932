//! Kafka's client properties, right and wrong.

use super::*;

fn load(pairs: &[(&str, &str)]) -> Result<ClientConfig, Errors> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    ClientConfig::load(None, &pairs.iter().map(owned).collect::<Vec<_>>())
}

fn refused(pairs: &[(&str, &str)]) -> String {
    load(pairs).unwrap_err().to_string()
}

#[test]
fn a_file_of_kafkas_client_is_read_and_the_command_line_wins() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("client.properties");
    let text = "security.protocol=SSL\nssl.truststore.location=/ca.pem\n\
                ssl.truststore.type=PEM\nssl.truststore.password=unused\n\
                request.timeout.ms=5000\nclient.id=file\nacks=all\n\
                ssl.endpoint.identification.algorithm=\n";
    std::fs::write(&path, text).unwrap();
    let flag = ("client.id".to_owned(), "flag".to_owned());
    let config = ClientConfig::load(Some(&path), &[flag]).unwrap();
    let tls = config.tls.unwrap();
    assert_eq!(tls.truststore, Some(Pem::File("/ca.pem".into())));
    assert_eq!((tls.keystore, tls.verify_hostname), (None, false));
    assert_eq!(config.client_id.as_deref(), Some("flag"));
    assert_eq!(config.timeout, Some(Duration::from_secs(5)));
    assert_eq!(config.ignored, ["acks", "ssl.truststore.password"]);
    let missing = temp.path().join("not-there");
    let error = ClientConfig::load(Some(&missing), &[]).unwrap_err().to_string();
    assert!(error.contains("not-there") && error.contains("--command-config"), "{error}");
}

#[test]
fn nothing_is_plaintext_and_tls_verifies_names() {
    assert_eq!(load(&[]).unwrap(), ClientConfig::default());
    assert_eq!(load(&[("security.protocol", "plaintext")]).unwrap().tls, None);
    let tls = load(&[("security.protocol", "ssl")]).unwrap().tls.unwrap();
    assert_eq!(tls, ClientTls { truststore: None, keystore: None, verify_hostname: true });
}

#[test]
fn a_keystore_is_a_file_or_its_two_parts() {
    let ssl = ("security.protocol", "SSL");
    let tls = load(&[ssl, (KEYSTORE, "/me.pem")]).unwrap().tls.unwrap();
    let file = Pem::File("/me.pem".into());
    assert_eq!(tls.keystore, Some(Keystore { chain: file.clone(), key: file }));
    let tls = load(&[ssl, (CHAIN, "/chain.pem"), (KEY, "/key.pem")]).unwrap().tls.unwrap();
    let (chain, key) = (Pem::File("/chain.pem".into()), Pem::File("/key.pem".into()));
    assert_eq!(tls.keystore, Some(Keystore { chain, key }));
    assert!(refused(&[ssl, (CHAIN, "/chain.pem")]).contains("without ssl.keystore.key"));
    assert!(refused(&[ssl, (KEYSTORE, "/a"), (KEY, "/b")]).contains("both set"));
    assert!(refused(&[ssl, (TRUSTSTORE, "/a"), (TRUSTED, "/b")]).contains("both set"));
}

#[test]
fn what_cannot_be_done_is_named_with_its_fix() {
    let sasl = refused(&[("security.protocol", "SASL_SSL")]);
    assert!(sasl.contains("SASL_SSL") && sasl.contains("cannot authenticate"), "{sasl}");
    assert!(refused(&[("security.protocol", "TLS")]).contains("must be PLAINTEXT or SSL"));
    assert!(refused(&[(TRUSTSTORE, "/ca.pem")]).contains("set security.protocol=SSL"));
    let ssl = ("security.protocol", "SSL");
    assert!(refused(&[ssl, ("ssl.truststore.type", "JKS")]).contains("must be PEM"));
    let key = refused(&[ssl, ("ssl.key.password", "hunter2")]);
    assert!(key.contains("openssl pkey") && !key.contains("hunter2"), "{key}");
    assert!(refused(&[ssl, (IDENTIFICATION, "ldap")]).contains("must be https"));
    let both = refused(&[("security.protocol", "x"), ("request.timeout.ms", "soon")]);
    assert!(both.starts_with("2 configuration errors"), "{both}");
}

#[test]
fn a_duration_is_milliseconds_or_has_a_unit() {
    assert_eq!(duration("1500"), Ok(Duration::from_millis(1500)));
    assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
    for wrong in ["", "0", "-1s", "2d", "soon"] {
        assert!(duration(wrong).is_err(), "{wrong}");
    }
}
