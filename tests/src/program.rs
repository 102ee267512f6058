//! Finds the programs that tests run: those of the same build, in contrast to the [static ones](crate::static_program).

use std::path::PathBuf;

/// `cache-node`. Panics when it has not been built.
pub fn cache_node() -> PathBuf {
    find("cache-node")
}

/// `operator`. Panics when it has not been built.
pub fn operator() -> PathBuf {
    find("operator")
}

/// Beside this test's own executable: `target/<profile>/deps/<test>` has it in `target/<profile>/`.
fn find(name: &str) -> PathBuf {
    let this = std::env::current_exe().expect("the path of this executable");
    let mut places = this.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    places.find(|path| path.is_file()).unwrap_or_else(|| {
        panic!(
            "no {name} beside {}: build it first (cargo build --workspace --bins)",
            this.display()
        )
    })
}
