//! What the charts have from other files is what these make.

use larder_tests::charts;

/// Set to any value, the test writes the files instead.
const REGENERATE: &str = "LARDER_REGENERATE";

#[test]
fn the_charts_have_what_their_sources_make() {
    if std::env::var_os(REGENERATE).is_some() {
        charts::generate().unwrap();
    }
    let generated = charts::generated().unwrap();
    for (path, text) in &generated {
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        let path = path.display();
        assert!(&kept == text, "{path} is stale; `make generate` writes it anew");
    }
    let vendored = charts::files_below(&charts::vendored()).unwrap();
    let unknown: Vec<_> = vendored
        .iter()
        .filter(|path| !generated.contains_key(*path))
        .collect();
    assert!(unknown.is_empty(), "of no source: {unknown:?}");
}
