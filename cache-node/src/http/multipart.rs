//! The layout of a `multipart/byteranges` answer (RFC 9110, section 14.6), without its content.

use bytes::Bytes;

use super::range::ByteRange;
use crate::oci::Digest;

/// RFC 2046 allows 70 characters.
const BOUNDARY_CHARS_MAX: usize = 64;

/// Everything of the answer but the content's bytes. The body is each part's head and range in turn, then the end.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The value of `Content-Type`, which tells the boundary.
    pub content_type: String,
    /// The body's length in bytes, for `Content-Length`.
    pub content_length: u64,
    /// The parts, in the order that the client asked for.
    pub parts: Vec<Part>,
    /// The last bytes of the body.
    pub end: Bytes,
}

/// One part of the body.
#[derive(Clone, Debug)]
pub struct Part {
    /// What precedes the content: boundary and headers.
    pub head: Bytes,
    /// Which bytes of the content follow.
    pub range: ByteRange,
}

impl Layout {
    /// Lays out `ranges` of the content of `length` bytes that has this `digest`.
    pub fn new(digest: &Digest, length: u64, ranges: &[ByteRange]) -> Self {
        // No content can be made to hold its own digest, so this boundary needs no search through the content,
        // and the same request always has the same answer.
        let mut boundary = digest.hex();
        boundary.truncate(BOUNDARY_CHARS_MAX);
        let parts: Vec<_> = ranges
            .iter()
            .map(|range| Part {
                head: Bytes::from(format!(
                    "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: {}\r\n\r\n",
                    range.content_range(length)
                )),
                range: *range,
            })
            .collect();
        let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
        let parts_length: u64 = parts.iter().map(Part::length).sum();
        Self {
            content_type: format!("multipart/byteranges; boundary={boundary}"),
            content_length: parts_length + end.len() as u64,
            parts,
            end,
        }
    }
}

impl Part {
    fn length(&self) -> u64 {
        self.head.len() as u64 + self.range.length()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn the_body_is_as_long_as_it_says_and_reads_back() {
        let content = b"0123456789";
        for algorithm in Algorithm::ALL {
            let digest = Digest::of(algorithm, content);
            let ranges = [ByteRange { start: 7, end: 10 }, ByteRange { start: 0, end: 1 }];
            let layout = Layout::new(&digest, 10, &ranges);
            let mut body = Vec::new();
            for part in &layout.parts {
                body.extend_from_slice(&part.head);
                body.extend_from_slice(&content[part.range.start as usize..part.range.end as usize]);
            }
            body.extend_from_slice(&layout.end);
            assert_eq!(body.len() as u64, layout.content_length);

            let boundary = layout
                .content_type
                .strip_prefix("multipart/byteranges; boundary=")
                .unwrap();
            assert!(boundary.len() <= 70);
            let body = String::from_utf8(body).unwrap();
            let pieces: Vec<_> = body.split(&format!("\r\n--{boundary}")).collect();
            let head = "\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes";
            let expected = [
                "",
                &format!("{head} 7-9/10\r\n\r\n789"),
                &format!("{head} 0-0/10\r\n\r\n0"),
                "--\r\n",
            ];
            assert_eq!(pieces, expected);
        }
    }
}
