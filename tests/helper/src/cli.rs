//! The command line, by hand: the program is part of every test image and must stay small.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// How long `get`, `lookup` and `connect` may take where nothing else is said.
const TIMEOUT_DEFAULT_S: u64 = 10;

/// Every command and what it takes; a command with `TIMEOUT` in it also takes `--timeout SECONDS`.
const COMMANDS: [(&str, &str); 11] = [
    ("pause", ""),
    ("wait", ""),
    ("serve", "ADDR [TEXT]"),
    ("forward", "ADDR HOST:PORT"),
    ("get", "http://HOST[:PORT]/PATH [--timeout SECONDS]"),
    ("lookup", "NAME [--timeout SECONDS]"),
    ("connect", "HOST:PORT [--timeout SECONDS]"),
    ("write", "PATH BYTES"),
    ("read", "PATH"),
    ("allocate", "BYTES"),
    ("exit", "CODE"),
];

/// What the program is asked to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Stay until told to stop. `pause` and `wait` are one: either may be PID 1.
    Wait,
    /// Answer HTTP requests; `/` with `text`, or else with the host's name.
    Serve {
        address: SocketAddr,
        text: Option<String>,
    },
    /// Pass connections to `address` on to `HOST:PORT`.
    Forward { address: SocketAddr, target: String },
    /// Ask for a URL and print the status and the body.
    Get { url: Url, timeout: Duration },
    /// Print a name's addresses.
    Lookup { name: String, timeout: Duration },
    /// Open a TCP connection to `HOST:PORT`.
    Connect { address: String, timeout: Duration },
    /// Write this many bytes to a file.
    Write { path: PathBuf, bytes: u64 },
    /// Print a file.
    Read { path: PathBuf },
    /// Take memory, touch it and stay.
    Allocate { bytes: usize },
    /// End with this code.
    Exit { code: u8 },
}

/// A plain `http` URL.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Url {
    /// Host and port as the URL has them: what the `Host` header says.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) target: String,
}

impl Url {
    /// Where to connect to: host and port.
    pub(crate) fn address(&self) -> String {
        if has_port(&self.authority) {
            self.authority.clone()
        } else {
            format!("{}:80", self.authority)
        }
    }
}

impl FromStr for Url {
    type Err = ();

    fn from_str(url: &str) -> Result<Self, ()> {
        let rest = url.strip_prefix("http://").ok_or(())?;
        let (authority, target) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_plain = rest.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || authority.contains('@') || !is_plain {
            return Err(());
        }
        Ok(Self {
            authority: authority.to_owned(),
            target: if target.is_empty() { "/" } else { target }.to_owned(),
        })
    }
}

/// Whether `HOST[:PORT]` has a port; the colons of an IPv6 address are within brackets.
fn has_port(authority: &str) -> bool {
    let host_end = authority.rfind(']').unwrap_or(0);
    authority
        .rfind(':')
        .is_some_and(|colon| colon > host_end && authority[colon + 1..].parse::<u16>().is_ok())
}

/// The command that these arguments, without the program's name, stand for.
///
/// # Errors
/// One line that says what would have been right.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    let mut words = arguments
        .map(|argument| {
            argument
                .into_string()
                .map_err(|_| "arguments must be UTF-8".to_owned())
        })
        .collect::<Result<Vec<_>, _>>()?;
    let timeout = take_timeout(&mut words)?;
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let Some(&name) = words.first() else {
        let names: Vec<_> = COMMANDS.iter().map(|(name, _)| *name).collect();
        return Err(format!("a command is missing: one of {}", names.join(", ")));
    };
    let Some((_, takes)) = COMMANDS.iter().find(|(known, _)| *known == name) else {
        return Err(format!("no such command: {name}"));
    };
    let may_time_out = takes.ends_with("[--timeout SECONDS]");
    let command = if timeout.is_some() && !may_time_out {
        None
    } else {
        let timeout = timeout.unwrap_or(Duration::from_secs(TIMEOUT_DEFAULT_S));
        command_of(&words, timeout)
    };
    command.ok_or_else(|| format!("usage: helper {name} {takes}").trim_end().to_owned())
}

fn command_of(words: &[&str], timeout: Duration) -> Option<Command> {
    Some(match *words {
        ["pause" | "wait"] => Command::Wait,
        ["serve", address] => Command::Serve {
            address: address.parse().ok()?,
            text: None,
        },
        ["serve", address, text] => Command::Serve {
            address: address.parse().ok()?,
            text: Some(text.to_owned()),
        },
        ["forward", address, target] if has_port(target) => Command::Forward {
            address: address.parse().ok()?,
            target: target.to_owned(),
        },
        ["get", url] => Command::Get {
            url: url.parse().ok()?,
            timeout,
        },
        ["lookup", name] => Command::Lookup {
            name: name.to_owned(),
            timeout,
        },
        ["connect", address] if has_port(address) => Command::Connect {
            address: address.to_owned(),
            timeout,
        },
        ["write", path, bytes] => Command::Write {
            path: path.into(),
            bytes: bytes.parse().ok()?,
        },
        ["read", path] => Command::Read { path: path.into() },
        ["allocate", bytes] => Command::Allocate {
            bytes: bytes.parse().ok()?,
        },
        ["exit", code] => Command::Exit {
            code: code.parse().ok()?,
        },
        _ => return None,
    })
}

/// Takes `--timeout SECONDS` out of `words`, wherever it is.
fn take_timeout(words: &mut Vec<String>) -> Result<Option<Duration>, String> {
    let Some(at) = words.iter().position(|word| word == "--timeout") else {
        return Ok(None);
    };
    let seconds = words.get(at + 1).and_then(|seconds| seconds.parse().ok());
    let seconds = seconds
        .filter(|seconds| *seconds > 0)
        .ok_or("--timeout wants a number of seconds, 1 or more")?;
    words.drain(at..=at + 1);
    Ok(Some(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn url(authority: &str, target: &str) -> Url {
        Url {
            authority: authority.to_owned(),
            target: target.to_owned(),
        }
    }

    #[test]
    fn every_command_is_understood() {
        let timeout = Duration::from_secs(TIMEOUT_DEFAULT_S);
        let address: SocketAddr = "0.0.0.0:80".parse().unwrap();
        let expected = [
            (
                "forward 127.0.0.1:80 up.test:5000",
                Command::Forward {
                    address: "127.0.0.1:80".parse().unwrap(),
                    target: "up.test:5000".to_owned(),
                },
            ),
            ("pause", Command::Wait),
            ("wait", Command::Wait),
            ("serve 0.0.0.0:80", Command::Serve { address, text: None }),
            (
                "serve 0.0.0.0:80 hello",
                Command::Serve {
                    address,
                    text: Some("hello".to_owned()),
                },
            ),
            (
                "get http://a/b?c=d",
                Command::Get {
                    url: url("a", "/b?c=d"),
                    timeout,
                },
            ),
            (
                "lookup a.svc",
                Command::Lookup {
                    name: "a.svc".to_owned(),
                    timeout,
                },
            ),
            (
                "connect a:80",
                Command::Connect {
                    address: "a:80".to_owned(),
                    timeout,
                },
            ),
            (
                "write /a 12",
                Command::Write {
                    path: "/a".into(),
                    bytes: 12,
                },
            ),
            ("read /a", Command::Read { path: "/a".into() }),
            ("allocate 12", Command::Allocate { bytes: 12 }),
            ("exit 255", Command::Exit { code: 255 }),
        ];
        for (line, command) in expected {
            assert_eq!(parsed(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn a_timeout_may_stand_anywhere_behind_a_command_that_has_one() {
        let timeout = Duration::from_secs(3);
        let connect = Ok(Command::Connect {
            address: "a:80".to_owned(),
            timeout,
        });
        assert_eq!(parsed("connect a:80 --timeout 3"), connect);
        assert_eq!(parsed("connect --timeout 3 a:80"), connect);
        for wrong in [
            "connect a:80 --timeout",
            "connect a:80 --timeout x",
            "connect a:80 --timeout 0",
        ] {
            assert!(
                parsed(wrong).unwrap_err().starts_with("--timeout wants"),
                "{wrong}"
            );
        }
        assert_eq!(parsed("wait --timeout 3"), Err("usage: helper wait".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let usage = |name: &str| {
            let (name, takes) = COMMANDS.iter().find(|(known, _)| *known == name).unwrap();
            format!("usage: helper {name} {takes}")
        };
        for wrong in [
            "serve",
            "serve 80",
            "serve 0.0.0.0:80 a b",
            "get",
            "get a",
            "get https://a/",
            "get http://",
            "get http://u@a/",
            "lookup",
            "connect a",
            "connect a:b",
            "connect a:65536",
            "write /a",
            "write /a -1",
            "read",
            "allocate 1Gi",
            "exit 256",
            "exit",
            "lookup a b",
        ] {
            let name = wrong.split(' ').next().unwrap();
            assert_eq!(parsed(wrong), Err(usage(name)), "{wrong}");
        }
        assert!(parsed("").unwrap_err().ends_with("allocate, exit"));
        assert_eq!(parsed("reboot"), Err("no such command: reboot".to_owned()));
    }

    #[test]
    fn a_url_names_an_address_and_a_target() {
        for (text, authority, address, target) in [
            ("http://a", "a", "a:80", "/"),
            ("http://a:8080/b/c", "a:8080", "a:8080", "/b/c"),
            ("http://[::1]", "[::1]", "[::1]:80", "/"),
            ("http://[::1]:8080/", "[::1]:8080", "[::1]:8080", "/"),
        ] {
            let parsed: Url = text.parse().unwrap();
            assert_eq!(
                (&parsed, parsed.address().as_str()),
                (&url(authority, target), address)
            );
        }
    }
}
