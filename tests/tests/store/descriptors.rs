//! A process that may open few files: clients wait their turn, and nobody is turned away or cut off.

use super::*;

const CLIENTS: usize = 300;

#[tokio::test]
async fn clients_beyond_the_descriptors_wait_their_turn() {
    for open_files in [64, 128, 256] {
        let up = FakeRegistry::builder().start().await;
        let sizes = (0..40).map(|n| if n % 4 == 0 { 9 << 20 } else { 100 << 10 });
        let digests: Vec<_> = sizes.map(|size| up.add_blob("acme/app", random(size))).collect();
        let builder = NodeProcess::builder()
            .config(&mirror(&up))
            .open_files_max(open_files);
        let node = builder.start().await;
        // Once filled, and once stored.
        for _ in 0..2 {
            let calls = (0..CLIENTS).map(|n| {
                let digest = digests[n % digests.len()].clone();
                let call = blob(&node.url(), &digest).discard_body().timeout(2 * SOON);
                tokio::spawn(async move { call.send().await.assert_whole(&digest) })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await.unwrap();
            }
        }
        let output = node.output();
        assert!(!output.contains("Too many open files"), "{open_files}: {output}");
        assert_eq!(ready(&node).await, "ok\n");
    }
}
