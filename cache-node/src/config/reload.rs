//! Notices a changed configuration file and publishes what it says, if that is valid.
//!
//! The content is compared, not events or times: that notices kubelet's symlink swap, a rename and a write in
//! place alike, on every file system. A change counts once two readings agree, so that a file that is just
//! being written is not taken for a shorter configuration.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{Config, ConfigErrors, DOCUMENT_BYTES_MAX};

/// How often files are read again. Two readings must agree, and a change must be noticed within 10 s.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// What became of a changed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is in force.
    Applied,
    /// It is unreadable or invalid; the old configuration stays in force.
    Refused,
}

/// A value that changes once two successive observations agree.
#[derive(Debug)]
pub(crate) struct Settled<T> {
    current: Option<T>,
    candidate: Option<T>,
}

impl<T: PartialEq> Settled<T> {
    /// Starts with a value; `None` differs from every observation.
    pub(crate) fn new(current: Option<T>) -> Self {
        Self {
            current,
            candidate: None,
        }
    }

    /// The new value, once, when it differs from the current one and was observed twice in a row.
    pub(crate) fn observe(&mut self, seen: T) -> Option<&T> {
        if self.current.as_ref() == Some(&seen) {
            self.candidate = None;
            None
        } else if self.candidate.as_ref() == Some(&seen) {
            self.candidate = None;
            self.current = Some(seen);
            self.current.as_ref()
        } else {
            self.candidate = Some(seen);
            None
        }
    }
}

/// Reads the configuration file; on failure, everything that is wrong with it.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    Config::parse(&read(path).map_err(ConfigErrors::one)?)
}

/// Reads `path` every `interval` and publishes each new valid configuration; never returns. A file that is
/// missing, unreadable or invalid leaves the published one in force. Each distinct problem is logged once, and
/// `report` is told of each change.
pub async fn watch(
    path: PathBuf,
    interval: Duration,
    publish: watch::Sender<Arc<Config>>,
    report: impl Fn(Reload) + Send,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first reading is compared by generation below: the file may have changed since it was loaded.
    let mut content = Settled::new(None);
    let mut last = Reload::Applied;
    loop {
        ticks.tick().await;
        let path_read = path.clone();
        let Ok(seen) = tokio::task::spawn_blocking(move || read(&path_read)).await else {
            continue;
        };
        let Some(changed) = content.observe(seen) else {
            continue;
        };
        let parsed = match changed {
            Ok(text) if super::generation_of(text) == publish.borrow().generation() => {
                // The file says again what is in force, which mends one that was refused.
                if last == Reload::Refused {
                    last = Reload::Applied;
                    report(last);
                }
                continue;
            }
            Ok(text) => Config::parse(text),
            Err(message) => Err(ConfigErrors::one(message.clone())),
        };
        last = match parsed {
            Ok(config) => {
                tracing::info!(path = %path.display(), generation = config.generation(), "configuration reloaded");
                publish.send_replace(Arc::new(config));
                Reload::Applied
            }
            Err(errors) => {
                log_refusal(&path, &errors);
                Reload::Refused
            }
        };
        report(last);
    }
}

fn log_refusal(path: &Path, errors: &ConfigErrors) {
    for error in errors {
        tracing::error!(path = %path.display(), field = error.path, error = error.message,
            "configuration not reloaded; the old one stays in force");
    }
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    // Opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("cannot read {}: not a file", path.display()));
    }
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    // One byte more than allowed, so that `Config::parse` sees that it is too large.
    let limit = u64::try_from(DOCUMENT_BYTES_MAX + 1).unwrap_or(u64::MAX);
    file.take(limit).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tokio::sync::mpsc;

    use super::*;

    const FIRST: &str = include_str!("embedded.yaml");

    fn second() -> String {
        FIRST.replace("name: default", "name: second")
    }

    struct Watched {
        dir: tempfile::TempDir,
        config: watch::Receiver<Arc<Config>>,
        reloads: mpsc::UnboundedReceiver<Reload>,
    }

    /// A watched `dir/config.yaml`, which `prepare` makes.
    fn watched(prepare: impl Fn(&Path)) -> Watched {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let path = dir.path().join("config.yaml");
        let (publish, config) = watch::channel(Arc::new(load(&path).unwrap()));
        let (report, reloads) = mpsc::unbounded_channel();
        // The task ends with the test's runtime.
        tokio::spawn(super::watch(
            path,
            Duration::from_millis(1),
            publish,
            move |reload| {
                let _ = report.send(reload);
            },
        ));
        Watched { dir, config, reloads }
    }

    fn in_place(dir: &Path) {
        fs::write(dir.join("config.yaml"), FIRST).unwrap();
    }

    #[test]
    fn a_change_counts_once_two_observations_agree() {
        let mut settled = Settled::new(Some(1));
        assert_eq!(settled.observe(2), None);
        assert_eq!(settled.observe(3), None);
        assert_eq!(settled.observe(3), Some(&3));
        assert_eq!(settled.observe(3), None);
        assert_eq!(settled.observe(1), None);
        assert_eq!(settled.observe(3), None);
        assert_eq!(settled.observe(1), None, "seen twice, but not in a row");
    }

    #[tokio::test]
    async fn notices_a_write_in_place() {
        let mut watched = watched(in_place);
        fs::write(watched.dir.path().join("config.yaml"), second()).unwrap();
        assert_eq!(watched.reloads.recv().await, Some(Reload::Applied));
        assert_eq!(watched.config.borrow_and_update().name, "second");
    }

    #[tokio::test]
    async fn notices_a_symlink_swap() {
        let mut watched = watched(|dir| {
            for (version, text) in [("..v1", FIRST.to_owned()), ("..v2", second())] {
                fs::create_dir(dir.join(version)).unwrap();
                fs::write(dir.join(version).join("config.yaml"), text).unwrap();
            }
            symlink("..v1", dir.join("..data")).unwrap();
            symlink("..data/config.yaml", dir.join("config.yaml")).unwrap();
        });
        let dir = watched.dir.path();
        symlink("..v2", dir.join("..data_tmp")).unwrap();
        fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        fs::remove_dir_all(dir.join("..v1")).unwrap();
        watched.config.changed().await.unwrap();
        assert_eq!(watched.config.borrow_and_update().name, "second");
        assert_eq!(watched.reloads.recv().await, Some(Reload::Applied));
    }

    #[tokio::test]
    async fn a_bad_or_missing_file_keeps_the_old_configuration() {
        let mut watched = watched(in_place);
        let path = watched.dir.path().join("config.yaml");
        fs::write(&path, "kind: Nonsense").unwrap();
        assert_eq!(watched.reloads.recv().await, Some(Reload::Refused));
        fs::remove_file(&path).unwrap();
        assert_eq!(watched.reloads.recv().await, Some(Reload::Refused));
        assert_eq!(watched.config.borrow().name, "default");
        assert!(!watched.config.has_changed().unwrap());
        // Each problem is reported once: the next report is of the next change.
        fs::write(&path, FIRST).unwrap();
        assert_eq!(watched.reloads.recv().await, Some(Reload::Applied));
        assert!(!watched.config.has_changed().unwrap(), "the old one never went");
        fs::write(path, second()).unwrap();
        assert_eq!(watched.reloads.recv().await, Some(Reload::Applied));
        assert_eq!(watched.config.borrow().name, "second");
    }

    #[test]
    fn only_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap_err().to_string().ends_with("not a file"));
        let absent = load(&dir.path().join("absent")).unwrap_err().to_string();
        assert!(
            absent.starts_with("cannot read ") && absent.contains("absent: "),
            "{absent}"
        );
    }
}
