//! Objects of others, of before, and of other versions.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_object_of_the_same_name_is_never_taken_over() {
    let server = server();
    let config_map = path("configmaps", "simple");
    let theirs = json!({
        "kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "larder-mirror-simple", "namespace": "pantry", "uid": "theirs"},
        "data": {"a": "b"},
    });
    server.put(&config_map, theirs);
    let _leading = server.lead();
    settle().await;
    let (status, message) = server.condition("Ready").unwrap();
    assert_eq!(status, "False");
    assert!(
        message.contains("ConfigMap larder-mirror-simple exists and was not made by this operator"),
        "{message}"
    );
    assert_eq!(server.applied(&config_map), 0);
    assert_eq!(server.get(&config_map).unwrap()["data"], json!({"a": "b"}));
    assert!(server.get(&path("daemonsets", "simple")).is_none());
}

#[tokio::test(start_paused = true)]
async fn objects_of_a_former_mirror_are_waited_for() {
    let server = server();
    let service = path("services", "simple");
    server.put(
        &service,
        json!({
            "kind": "Service", "apiVersion": "v1",
            "metadata": {"name": "larder-mirror-simple", "namespace": "pantry", "uid": "former", "ownerReferences": [{
                "apiVersion": "larder.dev/v1alpha1", "kind": "RegistryMirror", "name": "simple",
                "uid": "uid-former", "controller": true,
            }]},
        }),
    );
    let _leading = server.lead();
    settle().await;
    assert_eq!(server.applied(&service), 0);
    server.remove(&service);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(server.get(&path("daemonsets", "simple")).is_some());
}

#[tokio::test(start_paused = true)]
async fn objects_of_no_mirror_are_removed_and_others_left() {
    let server = server();
    let labelled = |name: &str, labels: Value| {
        json!({"kind": "Service", "apiVersion": "v1", "metadata": {
            "name": name, "namespace": "pantry", "uid": name, "labels": labels}})
    };
    let ours = |mirror: &str| json!({"larder.dev/mirror": mirror, "app.kubernetes.io/managed-by": "larder-operator"});
    let at = |name: &str| format!("/api/v1/namespaces/pantry/services/{name}");
    server.put(
        &at("larder-mirror-gone"),
        labelled("larder-mirror-gone", ours("gone")),
    );
    server.put(&at("older-name"), labelled("older-name", ours("simple")));
    let theirs = json!({"larder.dev/mirror": "gone"});
    server.put(&at("a-persons"), labelled("a-persons", theirs));
    let _leading = server.lead();
    carried_out(&server).await;
    assert_eq!(server.get(&at("larder-mirror-gone")), None);
    assert_eq!(server.get(&at("older-name")), None);
    assert!(server.get(&at("a-persons")).is_some());
    assert!(server.get(&path("services", "simple")).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_mirror_of_a_newer_definition_is_said_to_be_one_and_stops_no_other() {
    let server = server();
    let mut newer = document(json!({"registries": [{"host": "gcr.io", "mode": "Psychic"}]}));
    newer["metadata"]["name"] = "newer".into();
    newer["metadata"]["uid"] = "uid-newer".into();
    server.put(&format!("{MIRRORS}/newer"), newer);
    let _leading = server.lead();
    carried_out(&server).await;
    let newer = server.get(&format!("{MIRRORS}/newer")).unwrap();
    let status = newer["status"].to_string();
    assert!(
        status.contains("cannot read it") && status.contains("Psychic"),
        "{status}"
    );
    assert!(server.get(&path("daemonsets", "newer")).is_none());
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_are_no_obstacle() {
    let server = Server::default();
    let mut newer = document(spec("quay.io"));
    newer["spec"]["peers"] = json!({"enabled": true});
    newer["status"] = json!({"conditions": [], "shoeSize": 44});
    server.put(&simple(), newer);
    let _leading = server.lead();
    carried_out(&server).await;
    assert_eq!(server.get(&simple()).unwrap()["spec"]["peers"]["enabled"], true);
}

#[tokio::test(start_paused = true)]
async fn objects_of_no_mirror_are_removed_where_there_is_no_mirror_at_all() {
    let server = Server::default();
    let labels = json!({"larder.dev/mirror": "gone", "app.kubernetes.io/managed-by": "larder-operator"});
    let name = "larder-mirror-gone";
    let gone = ["serviceaccounts", "configmaps", "services", "daemonsets"].map(|plural| path(plural, "gone"));
    for path in &gone {
        server.put(
            path,
            json!({"metadata": {"name": name, "namespace": "pantry", "uid": path, "labels": labels}}),
        );
    }
    let _leading = server.lead();
    settle().await;
    assert_eq!(gone.map(|path| server.get(&path)), [const { None }; 4]);
}
