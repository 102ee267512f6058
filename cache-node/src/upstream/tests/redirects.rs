//! Redirects: whom they may lead to, and what goes along.

use super::*;

#[tokio::test]
async fn a_redirect_loses_the_token_and_an_expired_one_is_asked_for_again() {
    let cdn_requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&cdn_requests);
    let cdn = Server::start(move |_, headers, _| match count.fetch_add(1, Ordering::Relaxed) {
        0 => reply(403, &[], "expired"),
        _ if headers.contains_key("range") => reply(206, &[("content-range", "bytes 3-6/7")], "tent"),
        _ => reply(200, &[("etag", "\"md5\"")], "content"),
    })
    .await;
    let location = format!("http://{}/data?Signature=%2Fa%3D", cdn.address);
    let server = Server::start(
        move |line, headers, address| match token_registry(line, headers, address) {
            response if response.status() == 200 && !line.contains("/token?") => {
                reply(307, &[("location", &location)], "<html>moved</html>")
            }
            response => response,
        },
    )
    .await;
    let upstream = upstream(&server, None);
    let blob = upstream.open_blob(&repo(), &digest(), None).await.unwrap();
    let validator = blob.validator.clone().unwrap();
    assert_eq!((blob.offset, blob.total), (0, Some(7)));
    assert_eq!(validator.origin, format!("http://{}", cdn.address));
    assert_eq!(whole(blob).await.unwrap(), b"content");
    assert_eq!(cdn.seen(), ["GET /data?Signature=%2Fa%3D"; 2]);
    assert_eq!(server.seen().len(), 4, "challenge, token, and two redirects");

    let range = RangeRequest {
        start: 3,
        end: None,
        if_range: Some(validator),
    };
    let blob = upstream.open_blob(&repo(), &digest(), Some(range)).await.unwrap();
    assert_eq!((blob.offset, blob.total), (3, Some(7)));
    assert_eq!(whole(blob).await.unwrap(), b"tent");
}

#[tokio::test]
async fn the_registrys_404_is_final_and_a_cdns_is_not() {
    let server = Server::start(|line, _, _| match line {
        line if line.contains("/manifests/") => reply(404, &[], ""),
        line if line.contains("/blobs/") => reply(302, &[("location", "/cdn/data")], ""),
        _ => reply(404, &[], ""),
    })
    .await;
    let upstream = upstream(&server, None);
    let error = upstream.get_manifest(&repo(), &tag()).await.unwrap_err();
    assert_eq!((error.kind(), error.retryable()), (Kind::NotFound, false));
    assert_eq!(server.seen().len(), 1);
    let error = upstream.open_blob(&repo(), &digest(), None).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.retryable()),
        (Kind::RedirectRefused(404), true)
    );
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn another_registry_behind_a_redirect_is_asked_anonymously() {
    let other = Server::start(token_registry).await;
    let location = format!("http://{}/v2/other/name/manifests/latest", other.address);
    let server = Server::start(move |_, _, _| reply(307, &[("location", &location)], "")).await;
    upstream(&server, Some(basic("good")))
        .get_manifest(&repo(), &tag())
        .await
        .unwrap();
    assert_eq!(
        other.seen(),
        [
            "GET /v2/other/name/manifests/latest",
            "GET /token?service=s&scope=repository%3Aother%2Fname%3Apull",
            "GET /v2/other/name/manifests/latest Bearer anonymous",
        ]
    );
}

#[tokio::test]
async fn redirects_into_other_networks_and_without_end_are_refused() {
    for (location, kind, requests) in [
        ("http://169.254.169.254/latest/meta-data", Kind::Blocked, 1),
        ("http://10.0.0.1/", Kind::Blocked, 1),
        ("/again", Kind::Protocol, 18),
    ] {
        let server = Server::start(move |_, _, _| reply(302, &[("location", location)], "")).await;
        let error = upstream(&server, None)
            .open_blob(&repo(), &digest(), None)
            .await
            .unwrap_err();
        assert_eq!(
            (error.kind(), server.seen().len()),
            (kind, requests),
            "{location}"
        );
    }
}
