//! Runs the helper as a container would: by its arguments, and as the first process of a PID namespace.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is test code: what cannot work must fail the test at once and loudly"
)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

const HELPER: &str = env!("CARGO_BIN_EXE_helper");

fn helper(arguments: &[&str]) -> Output {
    Command::new(HELPER).args(arguments).output().unwrap()
}

/// Code, standard output and standard error of the helper with these arguments.
fn outcome(arguments: &[&str]) -> (i32, String, String) {
    let output = helper(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A helper that runs until it is dropped.
struct Running(Child);

impl Running {
    /// Starts the helper; returns it and the first line that it printed.
    fn start(arguments: &[&str]) -> (Self, String) {
        let mut child = Command::new(HELPER)
            .args(arguments)
            .env("COLOUR", "blue")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        (Self(child), line.trim_end().to_owned())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns what `look` finds, once it finds something.
fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let started = Instant::now();
    while started.elapsed() < SOON {
        if let Some(found) = look() {
            return found;
        }
        std::thread::yield_now();
    }
    panic!("not within {SOON:?}: {what}");
}

#[test]
fn wrong_arguments_are_one_line_and_2() {
    let (code, out, err) = outcome(&["serve"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert_eq!(err, "helper: usage: helper serve ADDR [TEXT]\n");
    assert_eq!(outcome(&[]).0, 2);
}

#[test]
fn exit_ends_with_its_code() {
    assert_eq!(outcome(&["exit", "0"]).0, 0);
    assert_eq!(outcome(&["exit", "42"]).0, 42);
}

#[test]
fn a_server_is_asked_by_get_and_connect() {
    let (server, line) = Running::start(&["serve", "127.0.0.1:0", "hello"]);
    let address = line.strip_prefix("listening on ").unwrap();
    let get = |path: &str| outcome(&["get", &format!("http://{address}{path}")]);
    assert_eq!(get(""), (0, "200\nhello\n".to_owned(), String::new()));
    assert!(get("/env").1.contains("\nCOLOUR=blue\n"));
    assert!(get("/peer").1.starts_with("200\n127.0.0.1:"));
    assert_eq!(get("/nothing"), (1, "404\n".to_owned(), String::new()));
    assert_eq!(outcome(&["connect", address]).0, 0);

    drop(server);
    for refused in [get("/"), outcome(&["connect", address, "--timeout", "5"])] {
        assert_eq!(refused.0, 1);
        assert!(refused.2.contains("ECONNREFUSED"), "{}", refused.2);
    }
}

#[test]
fn without_a_text_a_server_says_where_it_is() {
    let (_server, line) = Running::start(&["serve", "127.0.0.1:0"]);
    let address = line.strip_prefix("listening on ").unwrap();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(
        outcome(&["get", &format!("http://{address}/")]).1,
        format!("200\n{host}")
    );
}

#[test]
fn who_does_not_answer_is_given_up() {
    // Its backlog takes the connection, and nobody ever looks at it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let (code, out, err) = outcome(&["get", &url, "--timeout", "1"]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (1, "", "helper: not within 1s\n")
    );
}

#[test]
fn an_answer_that_is_cut_is_a_failure() {
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let request = BufReader::new(&stream).lines().map(Result::unwrap);
        assert!(request.take_while(|line| !line.is_empty()).count() > 0);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc")
            .unwrap();
    });
    let cut = (
        1,
        "200\nabc".to_owned(),
        "helper: cut after 3 of 5 bytes\n".to_owned(),
    );
    assert_eq!(outcome(&["get", &url]), cut);
    server.join().unwrap();
}

#[test]
fn a_lookup_prints_addresses() {
    assert_eq!(
        outcome(&["lookup", "127.0.0.1"]),
        (0, "127.0.0.1\n".to_owned(), String::new())
    );
    let (code, out, err) = outcome(&["lookup", &"x".repeat(300)]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(!err.is_empty());
}

#[test]
fn what_is_written_can_be_read() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = directory.join(format!("written-{}", std::process::id()));
    let path = path.to_str().unwrap();
    assert_eq!(outcome(&["write", path, "3000000"]).0, 0);
    assert_eq!(helper(&["read", path]).stdout.len(), 3_000_000);
    fs::remove_file(path).unwrap();
    assert!(outcome(&["read", path]).2.contains("ENOENT"));
    assert!(outcome(&["write", "/dev/full", "1"]).2.contains("ENOSPC"));
}

#[test]
fn memory_is_really_taken_and_sigterm_ends_it() {
    const BYTES: u64 = 32 << 20;
    let (mut child, line) = Running::start(&["allocate", &BYTES.to_string()]);
    assert_eq!(line, format!("allocated {BYTES}"));
    let status = fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    let resident = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let resident_kib: u64 = resident.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(resident_kib << 10 >= BYTES, "{resident}");
    kill_process(child.pid(), Signal::TERM).unwrap();
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    assert!(outcome(&["allocate", &u64::MAX.to_string()]).2.contains("ENOMEM"));
}

#[test]
fn as_pid_1_it_buries_orphans_and_ends_on_sigterm() {
    // The subshell's child outlives its parent, and so becomes a child of PID 1: the helper, after the `exec`.
    let script = format!("(cat <&3 & ) 3<&0; exec {HELPER} pause");
    let unshare = Command::new("unshare")
        .args([
            "--map-root-user",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-c",
            &script,
        ])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut unshare = Running(unshare);
    let children = |of: u32| {
        let listed = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
        let pids = listed.split_whitespace().map(|pid| pid.parse::<u32>().unwrap());
        pids.collect::<Vec<_>>()
    };
    let pause = until("the helper is PID 1", || {
        let first = *children(unshare.0.id()).first()?;
        let name = fs::read_to_string(format!("/proc/{first}/comm")).ok()?;
        (name == "helper\n").then_some(first)
    });
    until("it has an orphan", || (children(pause).len() == 1).then_some(()));
    // Its input ends, and so does `cat`.
    drop(unshare.0.stdin.take());
    until("the orphan is buried", || {
        children(pause).is_empty().then_some(())
    });
    kill_process(Pid::from_raw(pause.cast_signed()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(unshare.0.wait().unwrap().code(), Some(0));
}
