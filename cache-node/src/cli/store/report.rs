//! What was found or done, as text. Pure.

use std::fmt::Write as _;

use serde::Serialize;

use crate::store_tools::{Event, Operation, Row, Stat};

/// A digest with its algorithm's name, of the kind that nearly all content has.
const DIGEST_WIDTH: usize = 71;

/// Everything that a command has told.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    /// Verified, removed, or taken in.
    objects: u64,
    /// Their lengths together; of removed ones what they took on the disk.
    bytes: u64,
    condemned: Vec<Condemned>,
    removed: Vec<String>,
    in_use: Vec<String>,
    forgotten: Vec<String>,
    images: Vec<Image>,
    left_out: Vec<Image>,
    kept_newer: Vec<Image>,
}

#[derive(Debug, Serialize)]
struct Condemned {
    digest: String,
    names: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
struct Image {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
}

impl Report {
    pub(super) fn add(&mut self, event: Event) {
        let image = |name, digest, missing| Image {
            name,
            digest,
            missing,
        };
        match event {
            Event::Sound { bytes, .. } | Event::Added { bytes, .. } => self.count(bytes),
            Event::Removed { digest, bytes } => {
                self.count(bytes);
                self.removed.push(digest);
            }
            Event::Condemned { digest, names } => {
                self.objects += 1;
                self.condemned.push(Condemned { digest, names });
            }
            Event::InUse { digest } => self.in_use.push(digest),
            Event::Forgotten { name } => self.forgotten.push(name),
            Event::Exported {
                name,
                digest,
                missing,
            } => self.images.push(image(name, digest, missing)),
            Event::LeftOut { name, missing } => self.left_out.push(image(name, String::new(), missing)),
            Event::Imported { name, digest } => self.images.push(image(name, digest, Vec::new())),
            Event::KeptNewer { name, digest } => self.kept_newer.push(image(name, digest, Vec::new())),
            Event::Stat(_) | Event::Object(_) | Event::Bytes { .. } | Event::Done | Event::Failed { .. } => {}
        }
    }

    fn count(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }

    /// Whether what was asked for is not, or content was not what it should be.
    pub(super) fn is_bad(&self) -> bool {
        !self.condemned.is_empty() || !self.left_out.is_empty()
    }

    /// A line for each thing that a person should know, and a last one with the sum.
    pub(super) fn table(&self, operation: &Operation) -> String {
        let mut text = String::new();
        let mut line = |words: &str, what: &str, rest: &[String]| {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{}",
                format!("{words:<11} {what}  {}", rest.join(" ")).trim_end()
            );
        };
        for Condemned { digest, names } in &self.condemned {
            line("condemned", digest, names);
        }
        for digest in &self.removed {
            line("removed", digest, &[]);
        }
        for digest in &self.in_use {
            line("in use", digest, &[]);
        }
        for name in &self.forgotten {
            line("forgotten", name, &[]);
        }
        for image in &self.images {
            let digest = std::slice::from_ref(&image.digest);
            line(
                if *operation == Operation::Import {
                    "imported"
                } else {
                    "exported"
                },
                &image.name,
                digest,
            );
            for missing in &image.missing {
                line("  without", missing, &[]);
            }
        }
        for image in &self.left_out {
            line("left out", &image.name, &[]);
            for missing in &image.missing {
                line("  without", missing, &[]);
            }
        }
        for image in &self.kept_newer {
            line("kept newer", &image.name, std::slice::from_ref(&image.digest));
        }
        text + &self.sum(operation)
    }

    fn sum(&self, operation: &Operation) -> String {
        let objects = format!("{}, {}", counted(self.objects, "object"), size(self.bytes));
        let images = counted(self.images.len() as u64, "image");
        match operation {
            Operation::Verify(_) => format!("{objects} verified: {} condemned\n", self.condemned.len()),
            Operation::Evict(_) => format!("{objects} freed; {} in use\n", self.in_use.len()),
            Operation::Purge(_) => format!(
                "{objects} removed; {} forgotten\n",
                counted(self.forgotten.len() as u64, "name")
            ),
            Operation::Export(_) => format!("{images} exported; {} left out\n", self.left_out.len()),
            Operation::Import => format!("{images} imported; {objects} added\n"),
            Operation::Stat | Operation::List(_) => String::new(),
        }
    }
}

/// Above the rows of `ls`.
pub(super) fn header() -> String {
    let (digest, kind, size, used, names) = ("DIGEST", "KIND", "SIZE", "LAST USED", "NAMES");
    format!("{digest:<DIGEST_WIDTH$}  {kind:<8}  {size:>10}  {used:<20}  {names}\n")
}

/// A row of `ls`.
pub(super) fn row(row: &Row) -> String {
    let Row {
        digest,
        kind,
        last_used,
        ..
    } = row;
    let (size, names) = (size(row.bytes), row.names.join(" "));
    let text = format!("{digest:<DIGEST_WIDTH$}  {kind:<8}  {size:>10}  {last_used:<20}  {names}");
    format!("{}\n", text.trim_end())
}

fn counted(count: u64, one: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {one}{ending}")
}

/// The answer to `stat`.
pub(super) fn stat(stat: &Stat) -> String {
    let mut lines = vec![
        (
            "cache".to_owned(),
            if stat.live { "live" } else { "stopped" }.to_owned(),
        ),
        ("layout".to_owned(), stat.layout_version.to_string()),
        (
            "content".to_owned(),
            format!(
                "{}, {}, {} on the disk",
                counted(stat.objects, "object"),
                size(stat.bytes),
                size(stat.stored_bytes)
            ),
        ),
    ];
    for kind in &stat.kinds {
        let text = format!("{}, {}", counted(kind.objects, "object"), size(kind.bytes));
        lines.push((format!("  {}", kind.kind), text));
    }
    let unfinished = format!("{}, {}", counted(stat.partials, "fill"), size(stat.partial_bytes));
    let free = format!("{}, {} files", size(stat.free_bytes), stat.free_inodes);
    let budget = format!(
        "{}, with {} free",
        size(stat.capacity_bytes),
        size(stat.min_free_bytes)
    );
    lines.extend([
        ("names".to_owned(), stat.names.to_string()),
        ("unfinished".to_owned(), unfinished),
        ("budget".to_owned(), budget),
        ("free".to_owned(), free),
    ]);
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<12}{value}");
        text
    })
}

/// Bytes in the largest unit of which there is one, to a tenth.
fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    match UNITS.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => {
            let tenths = u128::from(bytes) * 10 / u128::from(*unit);
            format!("{}.{} {name}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store_tools::Selection;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (u64::from(u32::MAX), "3.9 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn rows_stand_under_their_header() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let shown = row(&Row {
            digest: digest.clone(),
            kind: "layer".into(),
            bytes: 3 << 20,
            stored_bytes: 3 << 20,
            last_used: "2026-01-02T03:04:05Z".into(),
            in_use: false,
            names: vec!["quay.io/a/b:v1".into(), "quay.io/a/b:v2".into()],
        });
        assert_eq!(header().find("NAMES"), shown.find("quay.io"));
        assert_eq!(header().find("LAST USED"), shown.find("2026"));
        assert!(shown.starts_with(&digest) && shown.contains("3.0 MiB"), "{shown}");
    }

    #[test]
    fn a_condemned_object_is_named_and_bad() {
        let mut report = Report::default();
        let sound = Event::Sound {
            digest: "sha256:aa".into(),
            bytes: 2048,
        };
        report.add(sound);
        assert!(!report.is_bad());
        report.add(Event::Condemned {
            digest: "sha256:bb".into(),
            names: vec!["quay.io/a/b:v1".into()],
        });
        assert!(report.is_bad());
        assert_eq!(
            report.table(&Operation::Verify(Selection::default())),
            "condemned   sha256:bb  quay.io/a/b:v1\n2 objects, 2.0 KiB verified: 1 condemned\n"
        );
    }
}
