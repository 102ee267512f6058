//! Private certificate authorities, bad certificates, and what `insecureSkipVerify` is for and what not.

use larder_tests::prelude::*;

use super::support::*;

const CA: &str = "corp-ca";

fn write_ca(node: &InProcessNode, authority: &CertificateAuthority) {
    secrets::write_ca(&node.credentials_dir(), CA, &authority.pem());
}

/// D.9: a private CA through caBundle, for the registry, for its token server and for its store.
#[tokio::test]
async fn d9_a_private_ca_is_good_for_registry_realm_and_store() {
    let authority = CertificateAuthority::new();
    let tokens = TokenServer::builder().tls_by(&authority).start().await;
    let auth = Auth::bearer(&tokens);
    let up = FakeRegistry::builder()
        .tls_by(&authority)
        .http2()
        .auth(auth)
        .start()
        .await;
    let cdn = Cdn::builder().bind("127.0.0.2").tls_by(&authority).start().await;
    up.redirect_blobs(307, &cdn);
    let image = push_image(&up);
    let node = node(at(&up).ca(CA)).await;
    write_ca(&node, &authority);
    assert_eq!(manifest(&node, "v1").await.status, 200);
    let layer = &image.layers[0].digest;
    blob(&node, layer).await.assert_whole(layer);
    assert_eq!(cdn.requests().len(), 1);
}

/// The bundle may come after the node, and may change: no restart.
#[tokio::test]
async fn a_ca_bundle_may_come_later_and_change() {
    let authority = CertificateAuthority::new();
    let up = FakeRegistry::builder().tls_by(&authority).start().await;
    let node = node(at(&up).ca(CA)).await;
    pull_until(&node, &up, 502).await;
    write_ca(&node, &authority);
    pull_until(&node, &up, 200).await;
    write_ca(&node, &CertificateAuthority::new());
    pull_until(&node, &up, 502).await;
    write_ca(&node, &authority);
    pull_until(&node, &up, 200).await;
}

/// A bundle that is none takes nothing but its own registry, and may be mended.
#[tokio::test]
async fn a_broken_ca_bundle_is_mended_by_a_good_one() {
    let authority = CertificateAuthority::new();
    let up = FakeRegistry::builder().tls_by(&authority).start().await;
    let node = node(at(&up).ca(CA)).await;
    let broken = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
    secrets::write_ca(&node.credentials_dir(), CA, broken);
    pull_until(&node, &up, 502).await;
    write_ca(&node, &authority);
    pull_until(&node, &up, 200).await;
}

/// Unknown authority, expired certificate, another name: 502 at once, by one handshake for each client's request.
#[tokio::test]
async fn a_certificate_that_cannot_be_trusted_is_a_bad_gateway() {
    let authority = CertificateAuthority::new();
    let bad = [
        FakeRegistry::builder().tls(),
        FakeRegistry::builder().tls_by(&authority).tls_expired(),
        FakeRegistry::builder()
            .tls_by(&authority)
            .tls_names(&["other.test"]),
    ];
    for (index, builder) in bad.into_iter().enumerate() {
        let up = builder.start().await;
        push_image(&up);
        let careful = node(at(&up).ca(CA)).await;
        write_ca(&careful, &authority);
        let answer = manifest(&careful, "v1").await;
        assert_eq!(answer.status, 502, "{index}: {}", answer.text());
        assert_eq!((up.requests().len(), up.connections()), (0, 1), "{index}");
        let metrics = metrics(&careful).await;
        assert!(metrics.contains(r#"outcome="tls""#), "{index}\n{metrics}");

        let careless = node(at(&up).ca(CA).insecure()).await;
        assert_eq!(manifest(&careless, "v1").await.status, 200, "{index}");
    }
}

/// `insecureSkipVerify` is about the endpoint: what it redirects to is verified as ever.
#[tokio::test]
async fn insecure_skip_verify_is_for_the_endpoint_alone() {
    let up = FakeRegistry::builder().tls().start().await;
    let cdn = Cdn::builder().bind("127.0.0.2").tls().start().await;
    let digest = up.add_blob(REPO, random(1000));
    let node = node(Endpoint::new(up.url()).insecure()).await;
    up.redirect_blobs(307, &cdn);
    assert_eq!(blob(&node, &digest).await.status, 502);
    assert_eq!(cdn.requests().len(), 0);
}

/// A redirect from https to http would give up what TLS proves.
#[tokio::test]
async fn a_redirect_from_https_to_http_is_not_followed() {
    let up = FakeRegistry::builder().tls().start().await;
    let cdn = Cdn::builder().start().await;
    let digest = up.add_blob(REPO, random(1000));
    let node = node(at(&up).insecure()).await;
    blob(&node, &digest).await.assert_whole(&digest);
    up.redirect_blobs(307, &cdn);
    let digest = up.add_blob(REPO, random(1000));
    assert_eq!(blob(&node, &digest).await.status, 502);
    assert_eq!(cdn.requests().len(), 0);
}
