//! Power cuts.

use larder_tests::cluster::{CACHE_DIR, Peer};

use super::*;

pub(crate) async fn a_node_comes_back_from_a_power_cut(scene: &Scene) {
    let (cluster, node) = (&scene.cluster, scene.cluster.node(2));
    let (image, _) = scene.image("before", 1 << 10);
    node.pull(&image).await.unwrap();
    node.mount_cache_disk(64 << 20).await.unwrap();
    let kept = format!("{CACHE_DIR}/kept");
    scene.helper(2, &["write", &kept, "1000"]).await.unwrap();
    let images = node.images().await.unwrap();
    for cycle in ["first", "second"] {
        let (cut_off, image) = scene.image(cycle, 1 << 20);
        let layer = &image.layers[0].digest;
        scene.up.script(on_blob(layer), Action::stall_after(1000));
        let (pulled, ()) = tokio::join!(node.pull(&cut_off), async {
            scene.up.wait_for_count(on_blob(layer), 1, SOON).await;
            node.power_off().await;
        });
        assert!(pulled.is_err(), "{pulled:?}");
        scene.up.clear_script();
        node.power_off().await;
        assert!(node.run("true", &[]).await.is_err());
        let server = format!("http://{}:{SERVER_PORT}/", scene.service);
        let get = ["get", &server, "--timeout", "1"];
        assert!(scene.helper(1, &get).await.is_err());

        node.cut(Peer::Upstream).await.unwrap();
        node.power_on().await.unwrap();
        assert!(node.power_on().await.is_err());
        cluster.ready().await.unwrap();
        until("the pod runs again", async || {
            scene.get_server(1).await.is_ok_and(|text| text == "200\nhello")
        })
        .await;
        assert_eq!(node.images().await.unwrap(), images);
        assert_eq!(scene.helper(2, &["read", &kept]).await.unwrap().len(), 1000);
        let connect = ["connect", &scene.up.host(), "--timeout", "1"];
        assert!(scene.helper(2, &connect).await.is_err(), "the cut lasts");
        node.heal(Peer::Upstream).await.unwrap();
        assert_eq!(node.pull(&cut_off).await.unwrap().id, image.config_digest);
        node.remove_image(&cut_off).await.unwrap();
    }
}
