//! Telling an upstream's fault from the start of a blob. A wrong prefix poisons a containerd node for good, so what
//! is plainly no layer never reaches a client.

use super::Fault;

/// How many bytes are looked at: enough for `<!DOCTYPE html` behind white space.
pub(super) const INSPECTED_BYTES: usize = 64;

/// What is known of a blob before it is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expectation {
    /// The length in bytes that a verified manifest gives.
    pub length: Option<u64>,
    /// Whether a verified manifest says that this is a file system layer: a tar, compressed or not.
    pub is_layer: bool,
}

/// Judges the first bytes of a body. Only what a layer cannot start with is a fault, and only where a layer was
/// asked for, or upstream itself says that it sends a page or a JSON document.
pub(super) fn judge_start(start: &[u8], is_layer: bool, is_labelled_text: bool) -> Result<(), Fault> {
    if !is_layer && !is_labelled_text {
        return Ok(());
    }
    let text = start.trim_ascii_start().to_ascii_lowercase();
    let compact: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    if text.starts_with(b"<!doctype") || text.starts_with(b"<html") || text.starts_with(b"<?xml") {
        Err(Fault::WebPage)
    } else if compact.starts_with(b"{\"errors\":") {
        Err(Fault::ErrorDocument)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_error_documents_are_no_layers() {
        for page in [
            "<!DOCTYPE html>",
            "\r\n <HTML><head>",
            "<?xml version=\"1.0\"?><Error>",
        ] {
            assert_eq!(judge_start(page.as_bytes(), true, false), Err(Fault::WebPage));
        }
        assert_eq!(
            judge_start(b"{ \"errors\" : [", true, false),
            Err(Fault::ErrorDocument)
        );
        assert_eq!(
            judge_start(b"{\"errors\":[", false, true),
            Err(Fault::ErrorDocument)
        );
    }

    #[test]
    fn everything_else_is_none_of_our_business() {
        for start in [
            &b"\x1f\x8b"[..],
            b"\x28\xb5\x2f\xfd",
            b"",
            b"\0\0\0",
            b"{\"architecture\":",
            b"GGUF",
        ] {
            assert_eq!(judge_start(start, true, true), Ok(()));
        }
        assert_eq!(
            judge_start(b"<html>", false, false),
            Ok(()),
            "an artifact may be a page"
        );
    }
}
