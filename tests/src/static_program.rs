//! Finds the programs that go into images: static ones, in contrast to those that the other tests run.

use std::path::PathBuf;

/// The static `cache-node`. Panics when it has not been built.
pub fn cache_node() -> PathBuf {
    find("cache-node")
}

/// The static `operator`. Panics when it has not been built.
pub fn operator() -> PathBuf {
    find("operator")
}

/// The static `helper`, the one program in test images. Panics when it has not been built.
pub fn helper() -> PathBuf {
    find("helper")
}

/// `target/<profile>/deps/<test>` has it in `target/<architecture>-unknown-linux-musl/release/`.
fn find(name: &str) -> PathBuf {
    let below_target = format!("{}-unknown-linux-musl/release/{name}", std::env::consts::ARCH);
    let this = std::env::current_exe().expect("the path of this executable");
    let mut places = this.ancestors().map(|dir| dir.join(&below_target));
    places.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "no {below_target} in any directory above {}: build it first (make static)",
            this.display()
        )
    })
}
