//! A node without its kubelet, its container runtime or its kube-proxy.

use larder_tests::cluster::Component;

use super::*;

pub(crate) async fn pods_outlive_their_kubelet(scene: &Scene) {
    let node = scene.cluster.node(2);
    for hard in [true, false] {
        // Programs in a pod are started by the kubelet.
        let works = async || {
            scene
                .cluster
                .exec("server", &["/helper", "lookup", "localhost"])
                .await
                .is_ok()
        };
        assert!(works().await);
        end(scene, Component::Kubelet, hard).await;
        assert!(!works().await);
        assert_eq!(scene.get_server(1).await.unwrap(), "200\nhello");
        node.start(Component::Kubelet).await.unwrap();
        assert!(node.start(Component::Kubelet).await.is_err(), "it runs already");
        until("the kubelet works again", works).await;
        scene.cluster.ready().await.unwrap();
    }
}

pub(crate) async fn a_killed_runtime_fails_its_pulls(scene: &Scene) {
    let (node, up) = (scene.cluster.node(2), &scene.up);
    for hard in [true, false] {
        let (name, image) = scene.image(if hard { "killed" } else { "stopped" }, 1 << 20);
        let layer = &image.layers[0].digest;
        up.script(on_blob(layer), Action::stall_after(1000));
        let asked = up.count(on_blob(layer));
        let (pulled, ()) = tokio::join!(node.pull(&name), async {
            up.wait_for_count(on_blob(layer), asked + 1, SOON).await;
            end(scene, Component::Containerd, hard).await;
        });
        assert!(pulled.is_err(), "{pulled:?}");
        assert!(node.images().await.is_err());
        assert_eq!(scene.get_server(1).await.unwrap(), "200\nhello");
        up.clear_script();
        node.start(Component::Containerd).await.unwrap();
        assert_eq!(node.pull(&name).await.unwrap().id, image.config_digest);
        let images = node.images().await.unwrap();
        assert!(
            images.iter().any(|image| image.tags == [name.clone()]),
            "{images:?}"
        );
        node.remove_image(&name).await.unwrap();
        let images = node.images().await.unwrap();
        assert!(
            images.iter().all(|image| image.tags != [name.clone()]),
            "{images:?}"
        );
    }
    assert_eq!(scene.get_server(1).await.unwrap(), "200\nhello");
}

pub(crate) async fn services_outlive_kube_proxy(scene: &Scene) {
    end(scene, Component::KubeProxy, true).await;
    assert_eq!(scene.get_server(2).await.unwrap(), "200\nhello");
    let new = format!(
        "http://{}:{SERVER_PORT}/",
        expose_server(&scene.cluster, "new").await
    );
    let works_on = async |number| {
        scene
            .helper(number, &["get", &new, "--timeout", "1"])
            .await
            .is_ok()
    };
    // Then node 2, too, would have it by now.
    until("the new Service works on node 1", async || works_on(1).await).await;
    assert!(!works_on(2).await);
    scene.cluster.node(2).start(Component::KubeProxy).await.unwrap();
    until("the new Service works on node 2", async || works_on(2).await).await;
    scene.cluster.node(2).stop(Component::KubeProxy).await.unwrap();
    scene.cluster.node(2).start(Component::KubeProxy).await.unwrap();
}

/// Kills or stops a component of node 2, which does not run then.
async fn end(scene: &Scene, component: Component, hard: bool) {
    let node = scene.cluster.node(2);
    match hard {
        true => node.kill(component).await.unwrap(),
        false => node.stop(component).await.unwrap(),
    }
    assert!(node.kill(component).await.is_err(), "{component:?} runs");
    assert!(node.stop(component).await.is_err(), "{component:?} runs");
}
