//! The layout is not ours alone: skopeo and crane read what is exported, and what they write is imported.

use larder_tests::real::{Crane, DockerRegistry, MirroredRegistry, Skopeo, docker_registry};
use tempfile::TempDir;

use super::*;

/// As skopeo and crane name the two forms.
fn exported(stick: &TempDir, name: &str) -> String {
    stick.path().join(name).to_str().unwrap().to_owned()
}

#[tokio::test]
async fn skopeo_reads_an_exported_archive() {
    for is_live in [true, false] {
        let scene = Scene::start(is_live).await;
        let stick = TempDir::new().unwrap();
        let file = exported(&stick, "images.tar");
        tell(scene.cache(), &["export", &file]).await.good();
        let skopeo = Skopeo::new(&[]).unwrap();
        let read = skopeo
            .copy_from(&format!("oci-archive:{file}:up.test/acme/app:v1"))
            .await
            .unwrap();
        assert_eq!(sorted(read), all_of(&scene.app));
    }
}

#[tokio::test]
async fn crane_pushes_an_exported_directory() {
    let registry = DockerRegistry::start(docker_registry::Options::default())
        .await
        .unwrap();
    for is_live in [true, false] {
        let scene = Scene::start(is_live).await;
        let stick = TempDir::new().unwrap();
        let layout = stick.path().to_str().unwrap();
        tell(scene.cache(), &["export", "--tag", "v1", layout])
            .await
            .good();
        let again = tell(scene.cache(), &["export", "--tag", "v1", layout])
            .await
            .bad();
        assert!(again.contains("is not empty"), "{again}");
        let reference = format!("{}/acme/app:v{}", registry.host(), u8::from(is_live));
        let crane = Crane::new().unwrap();
        crane.push(stick.path(), &reference).await.unwrap();
        let index = crane.manifest(&reference).await.unwrap();
        assert_eq!(index["manifests"][0]["digest"], scene.app.digest);
        crane
            .validate(&format!("{}/acme/app@{}", registry.host(), scene.app.digest))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_skopeo_writes_is_imported() {
    let up = FakeRegistry::builder().start().await;
    let image = image(1);
    image.push_to(&up, "acme/app", "v1");
    let host = up.url().replace("http://", "");
    let over_http = MirroredRegistry {
        prefix: host.clone(),
        location: host.clone(),
        mirrors: Vec::new(),
    };
    let skopeo = Skopeo::new(&[over_http]).unwrap();
    for form in ["oci-archive", "oci"] {
        let stick = TempDir::new().unwrap();
        let file = exported(&stick, "layout");
        let from = format!("docker://{host}/acme/app:v1");
        skopeo
            .copy_to(&from, &format!("{form}:{file}:up.test/acme/app:v1"))
            .await
            .unwrap();
        let mut node = NodeProcess::builder().config(&cache_only()).prepare();
        tell(node.cache_dir(), &["import", &file]).await.good();
        node.launch().await;
        pull(&node, "acme/app", "v1", &image).await;
    }
}

#[tokio::test]
async fn what_crane_writes_is_imported() {
    let up = FakeRegistry::builder().start().await;
    let image = image(1);
    image.push_to(&up, "acme/app", "v1");
    let host = up.url().replace("http://", "");
    let stick = TempDir::new().unwrap();
    let layout = stick.path().join("layout");
    let crane = Crane::new().unwrap();
    crane.pull(&format!("{host}/acme/app:v1"), &layout).await.unwrap();
    let node = NodeProcess::builder().config(&cache_only()).start().await;
    // crane gives no names, and without one nobody could be told who may have it.
    let refused = tell(node.cache_dir(), &["import", layout.to_str().unwrap()])
        .await
        .bad();
    assert!(
        refused.contains(&image.digest) && refused.contains("ref.name"),
        "{refused}"
    );
    let index = layout.join("index.json");
    let mut named: serde_json::Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    named["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "up.test/acme/app:v1".into();
    std::fs::write(&index, named.to_string()).unwrap();
    let said = ask(node.cache_dir(), &["import", layout.to_str().unwrap()]).await;
    assert_eq!(said["images"][0]["digest"], image.digest);
    pull(&node, "acme/app", "v1", &image).await;
}
