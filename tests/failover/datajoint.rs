//! A DataJoint worker in the middle of `populate()` when its server stops being the source.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::lab::program::datajoint;
use crate::lab::server::flavours;
use crate::lab::trio::Trio;

fn worker(trio: &Trio, python: &Path, what: &str, server: &str) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/datajoint/worker.py");
    let mut command = Command::new(python);
    command
        .args([script, what, &trio.server(server).port.to_string()])
        .env("HOME", &trio.tool.base)
        .current_dir(&trio.tool.base);
    command
}

fn said(trio: &Trio, python: &Path, what: &str, server: &str) -> String {
    let output = worker(trio, python, what, server).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// One that makes its second task.
fn at_work(
    trio: &Trio,
    python: &Path,
    server: &str,
) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = worker(trio, python, "work", server);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..2 {
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert!(line.starts_with("making"), "{line}");
    }
    (child, out)
}

/// Given a worker that makes something in a transaction, when roles move as planned, and when the
/// source dies, expect that it ends with one error, that its reservation is found on the new source, and
/// that a new worker does what is left: once each.
#[test]
fn a_populate_ends_and_another_goes_on() {
    let Some(python) = datajoint() else { return };
    // Seen on both in both ways; each way once in every run.
    for (flavour, planned) in flavours().into_iter().zip([true, false]) {
        let mut trio = Trio::start(flavour, 2);
        for statement in [
            "CREATE USER 'lab'@'%' IDENTIFIED BY 'lab at work'",
            "GRANT ALL ON `lab\\_%`.* TO 'lab'@'%'",
        ] {
            trio.server("a").execute(statement);
        }
        said(&trio, &python, "init", "a");
        trio.status();
        let (mut child, out) = at_work(&trio, &python, "a");
        if planned {
            trio.switchover("b").ok();
        } else {
            trio.kill("a");
            trio.failover(&["--unfenced"]).ok();
        }
        let rest: Vec<String> = out.lines().map(Result::unwrap).collect();
        assert_eq!(child.wait().unwrap().code(), Some(1), "{rest:?}");
        let last = rest.last().unwrap();
        eprintln!("{} planned {planned}: {rest:?}", flavour.name());
        assert!(last.starts_with("ended by"), "{rest:?}");
        assert_eq!(said(&trio, &python, "done", "b").trim(), "1");
        let jobs = said(&trio, &python, "jobs", "b");
        eprintln!("{jobs}");
        assert!(jobs.contains(" 2"), "{jobs}");
        said(&trio, &python, "clear", "b");
        said(&trio, &python, "work", "b");
        assert_eq!(said(&trio, &python, "done", "b").trim(), "1 2 3 4 5");
    }
}
