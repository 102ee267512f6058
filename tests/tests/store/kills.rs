//! `kill -9` again and again, under load and with an eviction going on, always on the same directory.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cache_node::oci::{Algorithm, Digest};
use larder_tests::program;
use tokio::process::Command;
use tokio::sync::watch;

use super::*;

/// How long it goes on.
const LOOP: Duration = Duration::from_secs(120);
/// A process lives at most so long.
const LIFE_MS_MAX: u64 = 1500;
/// Every so many ends is one by SIGTERM.
const TERMINATE_EVERY: usize = 6;
const CLIENTS: usize = 6;
const IMAGES: usize = 12;
const CAPACITY: &str = "48Mi";

/// Where the node is; none while there is none.
type Place = watch::Receiver<Option<String>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_minutes_of_kills_cost_no_wrong_byte() {
    let up = FakeRegistry::builder().start().await;
    let images: Arc<Vec<_>> = (0..IMAGES)
        .map(|n| {
            let layers: Vec<_> = (0..10).map(|layer| (layer + 1) * 130_000 + n * 1000).collect();
            let tag = format!("v{n}");
            let image = publish(&up, &tag, &layers);
            (tag, image)
        })
        .collect::<Vec<_>>()
        .into();
    let mut node = NodeProcess::builder()
        .config(&mirror(&up).capacity(CAPACITY))
        .prepare();
    let (sender, place) = watch::channel(None);
    let clients = (0..CLIENTS).map(|_| tokio::spawn(client(place.clone(), Arc::clone(&images))));
    let clients: Vec<_> = clients.collect();
    let until = Instant::now() + LOOP;
    let mut ends = 0;
    while Instant::now() < until {
        node.launch().await;
        sender.send_replace(Some(node.url()));
        // Wherever this finds it.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(..LIFE_MS_MAX))).await;
        sender.send_replace(None);
        ends += 1;
        if ends % TERMINATE_EVERY == 0 {
            assert!(node.terminate().await.success(), "{}", node.output());
        } else {
            node.kill9().await;
        }
    }
    drop(sender);
    let mut right = 0;
    for client in clients {
        right += client.await.unwrap();
    }
    assert!(
        ends > 30 && right > 10 * ends,
        "{ends} ends, {right} right answers"
    );

    node.launch().await;
    until_counted(&node, node.cache_dir()).await;
    let leftovers = fs::read_dir(node.cache_dir().join("tmp")).unwrap().count();
    assert_eq!(leftovers, 0);
    assert_eq!(
        fs::read_dir(node.cache_dir().join("quarantine")).unwrap().count(),
        0
    );
    assert_eq!(metric(&node.admin_url(), "larder_store_condemned_total").await, 0);
    assert!(!node.output().contains("ERROR"), "{}", node.output());
    node.terminate().await;
    everything_is_sound(node.cache_dir());
    let verify = Command::new(program::cache_node())
        .args(["store", "verify", "--cache-dir"])
        .arg(node.cache_dir())
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&verify.stdout);
    assert!(
        verify.status.success() && said.ends_with("verified: 0 condemned\n"),
        "{verify:?}"
    );
}

/// Pulls images until there is no node any more. Returns how many answers ended cleanly, each of which was right.
async fn client(mut place: Place, images: Arc<Vec<(String, Image)>>) -> usize {
    let mut right = 0;
    while place.wait_for(Option::is_some).await.is_ok() {
        let (tag, image) = &images[fastrand::usize(..images.len())];
        let manifest = (image.digest.clone(), image.manifest.len() as u64);
        let path = format!("manifests/{tag}");
        let blobs = image.contents();
        let blobs = blobs.map(|(digest, content)| (format!("blobs/{digest}"), (digest, content.len())));
        for (path, (digest, length)) in std::iter::once((path, manifest)).chain(blobs) {
            let Some(base) = place.borrow().clone() else { break };
            let url = format!("{base}/v2/acme/app/{path}?ns=up.test");
            // Nobody may listen there any more.
            let Ok(answer) = Call::get(&url).discard_body().try_send().await else {
                break;
            };
            match answer.end {
                End::Complete if answer.status == 200 => {
                    assert_eq!((&answer.digest, answer.received), (&digest, length), "{path}");
                    right += 1;
                }
                End::Complete => assert!(answer.status >= 500, "{} for {path}", answer.status),
                End::FinShort | End::Rst | End::NoHead => break,
                other => unreachable!("{other:?}"),
            }
        }
    }
    right
}

/// What lies in a stopped node's directory is what its name says.
fn everything_is_sound(cache_dir: &Path) {
    let names = |folder: &str| -> HashSet<String> {
        let entries = fs::read_dir(cache_dir.join(folder)).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let mut found = HashSet::new();
    for shard in names("blobs/sha256") {
        for name in names(&format!("blobs/sha256/{shard}")) {
            let path = cache_dir.join("blobs/sha256").join(&shard).join(&name);
            let digest = Digest::of(Algorithm::Sha256, &fs::read(path).unwrap());
            assert_eq!(digest.hex(), name);
            found.insert(name);
        }
    }
    assert!(found.len() > IMAGES, "{}", found.len());
    let manifests = names("manifests/sha256");
    assert!(manifests.is_subset(&found), "{manifests:?}");
    let partials = names("partials/sha256");
    for data in partials.iter().filter_map(|name| name.strip_suffix(".data")) {
        assert!(!found.contains(data), "{data} is complete and unfinished");
        assert!(partials.contains(&format!("{data}.journal")), "{data}");
    }
}
