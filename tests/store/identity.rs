//! The way to credentials that needs a TLS server: others are tested beside `object/backend`.

use tidegate::config::ObjectConfig;
use tidegate::object::{Key, Variables};

use crate::harness::servers::Server;
use crate::{connect, run};

const TOKEN: &str = "a.web.token";

/// moto takes any keys, but there are none without the exchange; versitygw takes no session tokens.
#[test]
fn a_web_identity_is_exchanged_for_keys() {
    let Some(server) = Server::moto_with_tls() else { return };
    let sts = Server::security_tokens(TOKEN);
    server.make_bucket("bkt");
    let folder = tempfile::tempdir().unwrap();
    let (token, authorities) = (folder.path().join("token"), folder.path().join("ca.pem"));
    let both = [&server, &sts].map(|it| std::fs::read_to_string(it.ca_file().unwrap()).unwrap());
    std::fs::write(&authorities, both.concat()).unwrap();
    let config = ObjectConfig { ca_file: Some(authorities), ..server.config("s3://bkt") };
    let variables: Variables = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/tidegate"),
        ("AWS_ENDPOINT_URL_STS", &sts.endpoint()),
    ]
    .into();
    std::fs::write(&token, TOKEN).unwrap();
    let store = connect(&config, &variables);
    run(async {
        store.put(&Key::new("k"), "body".into()).await.unwrap();
        assert_eq!(store.get(&Key::new("k"), 10).await.unwrap(), "body");
    });
    std::fs::write(&token, "another.token").unwrap();
    let store = connect(&config, &variables);
    run(async {
        let error = store.get(&Key::new("k"), 10).await.unwrap_err();
        assert!(error.to_string().contains("InvalidIdentityToken"), "{error}");
    });
}
