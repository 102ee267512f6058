//! Every command, on a running and on a stopped cache, for people and for programs.

use std::time::{Duration, SystemTime};

use super::*;

#[tokio::test]
async fn ls_shows_what_is_selected() {
    for is_live in [true, false] {
        let scene = Scene::start(is_live).await;
        let cache = scene.cache();
        let (app, tool) = (all_of(&scene.app), all_of(&scene.tool));
        let both = sorted([app.clone(), tool.clone()].concat());
        let layer = scene.app.blobs()[1].0.clone();
        for (selectors, expected) in [
            (&[][..], &both),
            (&["--registry", "up.test"], &both),
            (&["--registry", "other.test"], &vec![]),
            (&["--repository", "acme/*"], &app),
            (&["--repository", "acme/**"], &both),
            (&["--repository", "acme/**", "--tag", "v2*"], &tool),
            (&["--digest", &scene.app.digest], &app),
            (&["--digest", &layer], &vec![layer.clone()]),
            (&["--digest", &layer, "--tag", "v2"], &vec![]),
            (&["--older-than", "1h"], &vec![]),
            (&["--older-than", "0s"], &both),
        ] {
            assert_eq!(
                &listed(cache, selectors).await,
                expected,
                "{selectors:?} {is_live}"
            );
        }
        let rows = ask(cache, &["ls", "--digest", &layer]).await;
        assert_eq!(
            (&rows[0]["kind"], &rows[0]["inUse"]),
            (&"layer".into(), &false.into())
        );
        assert_eq!(rows[0]["bytes"], scene.app.blobs()[1].1.len());
        assert_eq!(rows[0]["names"], serde_json::json!(["up.test/acme/app:v1"]));
        let table = tell(cache, &["ls", "--digest", &scene.app.digest]).await.good();
        assert_eq!(table.lines().count(), 1 + app.len());
        assert!(table.starts_with("DIGEST "), "{table}");
        let manifest = table
            .lines()
            .find(|line| line.starts_with(&scene.app.digest))
            .unwrap();
        assert!(
            manifest.contains("  manifest  ") && manifest.ends_with("  up.test/acme/app:v1"),
            "{manifest}"
        );
    }
}

#[tokio::test]
async fn stat_tells_how_things_stand() {
    for is_live in [true, false] {
        let scene = Scene::start(is_live).await;
        let stat = ask(scene.cache(), &["stat"]).await;
        assert_eq!(stat["live"], is_live);
        assert_eq!(
            stat["objects"],
            all_of(&scene.app).len() + all_of(&scene.tool).len()
        );
        assert_eq!((&stat["names"], &stat["partials"]), (&2.into(), &0.into()));
        let kinds = stat["kinds"].as_array().unwrap();
        let layers = kinds.iter().find(|kind| kind["kind"] == "layer").unwrap();
        assert_eq!(layers["objects"], 2);
        assert!(stat["freeBytes"].as_u64().unwrap() > 0 && stat["layoutVersion"].as_u64().unwrap() > 0);
        let table = tell(scene.cache(), &["stat"]).await.good();
        let state = if is_live { "live" } else { "stopped" };
        assert!(table.starts_with(&format!("cache       {state}\n")), "{table}");
    }
}

#[tokio::test]
async fn verify_condemns_what_is_rotten() {
    for is_live in [true, false] {
        let mut scene = Scene::start(is_live).await;
        let layer = scene.app.blobs()[1].0.clone();
        let said = tell(scene.cache(), &["verify"]).await.good();
        assert!(said.ends_with("verified: 0 condemned\n"), "{said}");
        rot(scene.cache(), &layer);
        let elsewhere = ask(scene.cache(), &["verify", "--tag", "v2"]).await;
        assert_eq!(elsewhere["condemned"], serde_json::json!([]));
        let said = tell(scene.cache(), &["verify", "-o", "json"]).await;
        assert_eq!(said.code, 1, "{said:?}");
        let expected = serde_json::json!([{"digest": layer, "names": ["up.test/acme/app:v1"]}]);
        assert_eq!(said.json()["condemned"], expected);
        assert!(!listed(scene.cache(), &[]).await.contains(&layer));
        let said = tell(scene.cache(), &["verify"]).await.good();
        assert!(said.ends_with("verified: 0 condemned\n"), "{said}");
        if !is_live {
            scene.node.launch().await;
        }
        pull(&scene.node, "acme/app", "v1", &scene.app).await;
        assert_eq!(scene.up.count(on_blob(&layer)), 2, "fetched once more");
    }
}

#[tokio::test]
async fn evict_leaves_names_and_what_is_evicted_comes_back() {
    for is_live in [true, false] {
        let mut scene = Scene::start(is_live).await;
        let said = ask(scene.cache(), &["evict", "--repository", "acme/app"]).await;
        let removed = said["removed"].as_array().unwrap().iter().map(text);
        assert_eq!(sorted(removed), all_of(&scene.app));
        assert_eq!(listed(scene.cache(), &[]).await, all_of(&scene.tool));
        assert_eq!(ask(scene.cache(), &["stat"]).await["names"], 2);
        let said = tell(scene.cache(), &["evict", "--all"]).await.good();
        assert!(
            said.contains("3 objects") && said.ends_with("freed; 0 in use\n"),
            "{said}"
        );
        if !is_live {
            scene.node.launch().await;
        }
        pull(&scene.node, "acme/app", "v1", &scene.app).await;
    }
}

#[tokio::test]
async fn purge_removes_names_too_but_not_what_others_need() {
    for is_live in [true, false] {
        let mut scene = Scene::start(true).await;
        scene.app.push_to(&scene.up, "other/copy", "v9");
        pull(&scene.node, "other/copy", "v9", &scene.app).await;
        if !is_live {
            scene.node.terminate().await;
        }
        let said = ask(scene.cache(), &["purge", "--repository", "acme/**"]).await;
        assert_eq!(said["forgotten"].as_array().unwrap().len(), 2);
        assert_eq!(
            sorted(said["removed"].as_array().unwrap().iter().map(text)),
            all_of(&scene.tool)
        );
        assert_eq!(listed(scene.cache(), &["--tag", "v9"]).await, all_of(&scene.app));
        let said = tell(scene.cache(), &["purge", "--digest", &scene.app.digest])
            .await
            .good();
        assert!(said.contains("forgotten   up.test/other/copy:v9\n"), "{said}");
        assert_eq!(listed(scene.cache(), &[]).await, Vec::<String>::new());
        let stat = ask(scene.cache(), &["stat"]).await;
        assert_eq!((&stat["names"], &stat["objects"]), (&0.into(), &0.into()));
        // For good: a start finds nothing again.
        if is_live {
            scene.node.restart().await;
            assert_eq!(ask(scene.cache(), &["stat"]).await["names"], 0);
        }
    }
}

#[tokio::test]
async fn purge_goes_by_the_last_use() {
    let scene = Scene::start(false).await;
    let long_ago = SystemTime::now() - Duration::from_secs(40 * 24 * 3600);
    for digest in all_of(&scene.tool) {
        let file = fs::File::options()
            .write(true)
            .open(object(scene.cache(), &digest))
            .unwrap();
        file.set_times(fs::FileTimes::new().set_accessed(long_ago))
            .unwrap();
    }
    let said = ask(scene.cache(), &["purge", "--older-than", "720h"]).await;
    assert_eq!(
        said["forgotten"],
        serde_json::json!(["up.test/acme/team/tool:v2"])
    );
    assert_eq!(listed(scene.cache(), &[]).await, all_of(&scene.app));
}

/// One who reads what is purged reads on to the end.
#[tokio::test]
async fn a_purge_cuts_no_reader() {
    let (node, image) = node_with_large_image().await;
    let layer = image.blobs()[1].0.clone();
    let url = format!("{}/v2/acme/app/blobs/{layer}?ns=up.test", node.url());
    let client = reqwest::Client::new();
    let mut response = client.get(&url).send().await.unwrap();
    let mut read = response.chunk().await.unwrap().unwrap().to_vec();
    let said = ask(node.cache_dir(), &["purge", "--repository", "acme/app"]).await;
    assert_eq!(said["objects"], all_of(&image).len());
    assert!(!object(node.cache_dir(), &layer).try_exists().unwrap());
    while let Some(chunk) = response.chunk().await.unwrap() {
        read.extend_from_slice(&chunk);
    }
    assert_eq!(sha256(&read), layer);
}

#[tokio::test]
async fn wrong_words_are_refused_before_anything_is_done() {
    let scene = Scene::start(true).await;
    for (arguments, word) in [
        (&["purge"][..], "--all"),
        (&["evict"], "--all"),
        (&["purge", "--all", "--tag", "v1"], "cannot be used with"),
        (&["ls", "--digest", "sha256:abc"], "hex"),
        (&["ls", "--repository", "[a"], "--repository"),
        (&["ls", "--older-than", "5d"], "not a duration"),
        (&["ls", "--output", "xml"], "possible values"),
        (&["export"], "FILE"),
        (&["tidy"], "unrecognized subcommand"),
    ] {
        let said = tell(scene.cache(), arguments).await;
        assert!(
            said.code == 2 && said.err.contains(word),
            "{arguments:?} {said:?}"
        );
    }
    let expected = all_of(&scene.app).len() + all_of(&scene.tool).len();
    assert_eq!(listed(scene.cache(), &[]).await.len(), expected);
}

#[tokio::test]
async fn a_directory_that_is_no_cache_is_refused_and_left() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("nowhere")] {
        for arguments in [
            &["ls"][..],
            &["stat"],
            &["verify"],
            &["purge", "--all"],
            &["export", "-"],
        ] {
            let said = tell(&path, arguments).await;
            assert!(
                said.code == 2 && said.err.contains("is no cache directory"),
                "{said:?}"
            );
        }
    }
    let said = tell(&dir.path().join("nowhere"), &["import", "-"]).await;
    assert!(
        said.code == 2 && said.err.contains("is no cache directory"),
        "{said:?}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
