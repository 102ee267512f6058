//! Reads a `Dockerfile`, as much of the language as Larder's use. What it does not know it refuses, so that no line
//! of one can go unheeded.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

/// What builders put into the environment of every image that starts from scratch.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a `Dockerfile` says, with its arguments filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Dockerfile {
    pub(super) copies: Vec<Copy>,
    labels: BTreeMap<String, String>,
    user: String,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
}

/// A file or the content of a folder, and where it goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Copy {
    /// Relative to the context.
    pub(super) from: String,
    /// Absolute.
    pub(super) to: String,
    /// User and group.
    pub(super) owner: (u64, u64),
}

impl Dockerfile {
    /// Reads `text`; `arguments` are what `ARG` lines may ask for.
    ///
    /// # Errors
    /// When there is anything that this cannot follow; the line is named.
    pub(super) fn parse(text: &str, arguments: &[(&str, &str)]) -> Result<Self> {
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let text = lines.join("\n").replace("\\\n", " ");
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        ensure!(
            lines.next() == Some("FROM scratch"),
            "it must start with FROM scratch"
        );
        let mut dockerfile = Self::default();
        let mut declared = Vec::new();
        for line in lines {
            dockerfile
                .follow(line, arguments, &mut declared)
                .with_context(|| line.to_owned())?;
        }
        Ok(dockerfile)
    }

    fn follow<'a>(
        &mut self,
        line: &str,
        arguments: &[(&'a str, &'a str)],
        declared: &mut Vec<(&'a str, &'a str)>,
    ) -> Result<()> {
        let (instruction, rest) = line.split_once(' ').context("no arguments")?;
        let rest = fill_in(rest.trim(), declared)?;
        match instruction {
            "ARG" => {
                let argument = arguments.iter().find(|(name, _)| *name == rest);
                declared.push(*argument.context("an argument that nobody gives")?);
            }
            "LABEL" => self.labels.extend(pairs(&rest)?),
            "COPY" => self.copies.push(Copy::parse(&rest)?),
            "USER" => self.user = rest,
            "ENTRYPOINT" => self.entrypoint = serde_json::from_str(&rest)?,
            "CMD" => self.cmd = serde_json::from_str(&rest)?,
            _ => bail!("an instruction that is not known here"),
        }
        Ok(())
    }

    /// The `config` of the image's configuration.
    pub(super) fn config(&self) -> Map<String, Value> {
        [
            ("User", json!(self.user)),
            ("Env", json!([PATH])),
            ("Entrypoint", json!(self.entrypoint)),
            ("Cmd", json!(self.cmd)),
            ("Labels", json!(self.labels)),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
    }
}

impl Copy {
    fn parse(rest: &str) -> Result<Self> {
        let (owner, rest) = match rest.strip_prefix("--chown=") {
            Some(rest) => {
                let (owner, rest) = rest.split_once(' ').context("no source")?;
                let (user, group) = owner.split_once(':').context("no group")?;
                ((user.parse()?, group.parse()?), rest)
            }
            None => ((0, 0), rest),
        };
        let words: Vec<_> = rest.split_whitespace().collect();
        let [from, to] = words[..] else {
            bail!("one source and one target are wanted");
        };
        ensure!(
            to.starts_with('/') && !to.ends_with('/'),
            "the target must be an absolute path"
        );
        Ok(Self {
            from: from.to_owned(),
            to: to.to_owned(),
            owner,
        })
    }
}

/// Replaces each `${NAME}`.
fn fill_in(text: &str, declared: &[(&str, &str)]) -> Result<String> {
    let text = declared.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("${{{name}}}"), value)
    });
    ensure!(!text.contains('$'), "a variable that no ARG before it declares");
    Ok(text)
}

/// `KEY="VALUE" …`, without anything escaped.
fn pairs(text: &str) -> Result<BTreeMap<String, String>> {
    let mut pairs = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"").context("KEY=\"VALUE\" is wanted")?;
        let (value, after) = after.split_once('"').context("a quote is open")?;
        ensure!(
            !key.contains([' ', '"']) && !value.contains('\\'),
            "KEY=\"VALUE\" is wanted"
        );
        pairs.insert(key.to_owned(), value.to_owned());
        rest = after.trim_start();
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARGUMENTS: [(&str, &str); 2] = [("TARGETARCH", "amd64"), ("VERSION", "1.2.3")];

    #[test]
    fn what_is_known_is_followed() {
        let text = "# x\nFROM scratch\nARG TARGETARCH\nARG VERSION\nLABEL a=\"b c\" \\\n  d=\"v${VERSION}\"\n\
                    COPY ${TARGETARCH}/p /p\nCOPY --chown=1:2 d /var/d\nUSER 3:4\nENTRYPOINT [\"/p\"]\nCMD [\"s\"]\n";
        let dockerfile = Dockerfile::parse(text, &ARGUMENTS).unwrap();
        let copy = |from: &str, to: &str, owner| Copy {
            from: from.to_owned(),
            to: to.to_owned(),
            owner,
        };
        assert_eq!(
            dockerfile.copies,
            [copy("amd64/p", "/p", (0, 0)), copy("d", "/var/d", (1, 2))]
        );
        let expected = json!({
            "User": "3:4", "Env": [PATH], "Entrypoint": ["/p"], "Cmd": ["s"], "Labels": {"a": "b c", "d": "v1.2.3"},
        });
        assert_eq!(Value::Object(dockerfile.config()), expected);
    }

    #[test]
    fn what_is_not_known_is_refused_by_its_line() {
        for line in [
            "RUN true",
            "ARG OTHER",
            "LABEL a=b",
            "LABEL a=\"b",
            "USER ${VERSION}",
            "USER $VERSION",
            "COPY a",
            "COPY a b",
            "COPY a b /c",
            "COPY a /c/",
            "COPY --chmod=755 a /c",
            "COPY --chown=root a /c",
            "ENTRYPOINT /p",
            "USER",
        ] {
            let error = Dockerfile::parse(&format!("FROM scratch\n{line}\n"), &ARGUMENTS).unwrap_err();
            assert_eq!(error.to_string(), line);
        }
        assert!(Dockerfile::parse("FROM debian\n", &ARGUMENTS).is_err());
    }
}
