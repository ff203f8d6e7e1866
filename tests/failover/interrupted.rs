//! Ctrl-C ends the programs that a change of roles waits for, and what was changed is put back.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::lab::server::flavours;
use crate::lab::trio::Trio;
use crate::lab::{eventually, limit};

/// It says who it is in `$0.pid`, and hangs.
const HANGS: &str = r#"echo $$ >"$0.pid"; exec sleep 600"#;

/// Interrupts the command once the program `at` hangs: it ends soon, the program with it, with 1.
#[track_caller]
fn ends_soon(trio: &Trio, args: &[&str], at: &Path, signal: Signal) {
    let pid_file = at.with_extension("pid");
    let run = trio.tool.spawn(args, &[]);
    let mut pid = String::new();
    eventually(limit(30), "the program runs", || {
        pid = std::fs::read_to_string(&pid_file).unwrap_or_default();
        pid.ends_with('\n')
    });
    let since = Instant::now();
    run.signal(signal);
    let run = run.wait().expect_code(1);
    assert!(since.elapsed() < Duration::from_secs(4), "{run:?}");
    assert!(run.error().1.contains("interrupted"), "{run:?}");
    assert!(!Path::new("/proc").join(pid.trim()).exists());
    std::fs::remove_file(&pid_file).unwrap();
}

/// Given programs that hang, when a failover or a switchover that waits for one is interrupted before
/// its point of no return, expect both to end within seconds, and everything as before.
#[test]
fn an_interruption_ends_the_programs_that_are_waited_for() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let program = trio.tool.base.join("program");
        let hangs = format!("[\"/bin/sh\", \"-c\", '{HANGS}', {program:?}]");
        trio.more =
            format!("[[pair.lab.reroute]]\nway = \"exec\"\nargv = {hangs}\ntimeout = \"1m\"");
        trio.configure();
        ends_soon(
            &trio,
            &["switchover", "lab", "--yes"],
            &program,
            Signal::SIGTERM,
        );
        trio.assert_source("a", &["b"]);

        trio.wait_same("a", "b");
        trio.kill("a");
        let aside = trio.tool.base.join("aside");
        std::fs::rename(&trio.server("a").data_dir, &aside).unwrap();
        let args = ["failover", "lab", "--confirm", "1s", "--yes"];
        for key in ["salvage", "fence"] {
            let unfenced: &[&str] = match key {
                "salvage" => &["--unfenced"],
                _ => &[],
            };
            trio.more = format!("[pair.lab.failover]\n{key} = {hangs}");
            trio.configure();
            ends_soon(&trio, &[&args, unfenced].concat(), &program, Signal::SIGINT);
            assert!(!trio.is_writable("b"), "{key}");
        }
        std::fs::rename(&aside, &trio.server("a").data_dir).unwrap();
        trio.revive("a");
        trio.assert_source("a", &["b"]);
    }
}
