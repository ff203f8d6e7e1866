//! Two hosts command one pair: each has a state directory of its own, and sees nothing of what the other
//! one has begun but what the servers tell.

use std::time::Duration;

use crate::lab::server::flavours;
use crate::lab::tool::{Run, Tool};
use crate::lab::trio::{Trio, Watch};

/// The tool of another host: the same configuration and account, a state directory of its own.
fn elsewhere(trio: &Trio) -> Tool {
    let base = trio.tool.base.join("elsewhere");
    let state = base.join("state");
    std::fs::create_dir_all(&state).unwrap();
    let text = std::fs::read_to_string(trio.tool.base.join("understudy.toml")).unwrap();
    let own = trio.state_dir().display().to_string();
    let text = text.replace(&own, &state.display().to_string());
    std::fs::write(base.join("understudy.toml"), text).unwrap();
    let accounts = trio.state_dir().join("accounts").display().to_string();
    crate::lab::sh(&["cp", "-a", &accounts, &state.display().to_string()]);
    Tool { base }
}

#[track_caller]
fn assert_busy(run: Run, words: &[&str]) {
    let run = run.expect_code(6);
    for word in words {
        assert!(
            run.stdout.contains(word),
            "{word:?} isn't in {}",
            run.stdout
        );
    }
}

fn fail_over(tool: &Tool, to: &str) -> Run {
    let args = [
        "failover",
        "lab",
        "--to",
        to,
        "--unfenced",
        "--again",
        "--confirm",
        "0s",
        "--yes",
    ];
    tool.run(&args)
}

/// Given a switchover that is under way, when another host begins one, or takes back or sets up a
/// server of the pair, expect exit 6 with what runs, as which process, on which host; and nothing changed.
#[test]
fn two_hosts_do_not_meet_in_the_middle() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        let other = elsewhere(&trio);
        let there = ["switchover", "lab", "--to", "b", "--yes"];
        let mut running = trio.tool.spawn_at("approach:before=sleep:7000", &there);
        running.wait_at("approach:before");
        let process = format!("switchover, process {} on ", running.id());
        let words = [process.as_str(), "KILL "];
        assert_busy(other.run(&there), &words);
        assert_busy(other.run(&["rejoin", "b"]), &words);
        assert_busy(other.run(&["setup", "lab"]), &words);
        running.wait().ok();
        trio.assert_source("b", &["a"]);

        // The connection that holds it is ended, and somebody else is at it.
        let back = ["switchover", "lab", "--to", "a", "--yes"];
        let mut running = trio.tool.spawn_at("approach:in=sleep:2000", &back);
        running.wait_at("approach:in");
        for name in ["a", "b"] {
            let holder = trio
                .server(name)
                .value("SELECT IS_USED_LOCK('understudy.pair')");
            trio.server(name).execute(&format!("KILL {holder}"));
        }
        let (_, message) = running.wait().expect_code(1).error();
        assert!(message.contains("was lost"), "{message}");
        trio.assert_source("b", &["a"]);
    }
}

/// Given a switchover that was killed before its commit, and one after it, when roles are moved from
/// another host in the meantime, expect that `recover` opens nobody any more, and tells that; while the
/// other host is at it, exit 6.
#[test]
fn a_journal_that_lay_while_roles_moved_opens_nobody() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 3);
        let other = elsewhere(&trio);
        let to_b = ["switchover", "lab", "--to", "b", "--yes"];
        trio.tool.run_at("fence:in=kill", &to_b).expect_code(-1);
        trio.kill("a");
        let args = [
            "failover",
            "lab",
            "--to",
            "c",
            "--unfenced",
            "--confirm",
            "0s",
            "--yes",
        ];
        let mut running = other.spawn_at("elect:in=sleep:3000", &args);
        running.wait_at("elect:in");
        assert_busy(trio.tool.run(&["recover", "b"]), &["failover, process "]);
        running.wait().ok();
        trio.revive("a");
        trio.close_again("a");
        let watch = Watch::start(&trio);
        let run = trio.tool.run(&["recover"]).expect_code(5);
        assert!(
            run.stdout.contains("c takes writes by now: a isn't opened"),
            "{run:?}"
        );
        other.run(&["rejoin", "a"]).ok();
        trio.tool.run(&["recover"]).ok();
        trio.assert_source("c", &["a", "b"]);

        trio.tool.run_at("commit:after=kill", &to_b).expect_code(-1);
        trio.kill("c");
        fail_over(&other, "a").ok();
        let run = trio.tool.run(&["recover"]).expect_code(5);
        assert!(
            run.stdout.contains("a takes writes by now: b isn't opened"),
            "{run:?}"
        );
        watch.end();
        trio.revive("c");
        other.run(&["rejoin", "c"]).ok();
        trio.assert_source("a", &["b", "c"]);
    }
}

/// Given one that was killed after its commit, and the old source opened again by hand, expect that
/// `recover` leaves it once it has been written to; and given a failover that was killed after its commit,
/// and the dead source back, that it leaves that one the source, with its replica following as before.
#[test]
fn a_source_that_is_used_again_stays_the_source() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let to_b = ["switchover", "lab", "--to", "b", "--yes"];
        trio.tool.run_at("commit:after=kill", &to_b).expect_code(-1);
        if !flavour.is_mariadb() {
            trio.server("a").execute("SET GLOBAL super_read_only = OFF");
        }
        trio.server("a").execute("SET GLOBAL read_only = OFF");
        let io = |verb: &str| flavour.replica_statement(verb, "IO_THREAD", "");
        trio.server("b").execute(&io("STOP"));
        trio.server("a").execute("INSERT INTO lab.w VALUES (1)");
        let run = trio.tool.run(&["recover"]).expect_code(5);
        let words = "a has been written to since, and b hasn't that";
        assert!(run.stdout.contains(words), "{run:?}");
        trio.tool.run(&["recover"]).ok();
        trio.server("b").execute(&io("START"));
        trio.assert_source("a", &["b"]);

        trio.wait_same("a", "b");
        trio.kill("a");
        let args = ["failover", "lab", "--unfenced", "--confirm", "0s", "--yes"];
        trio.tool.run_at("commit:after=kill", &args).expect_code(-1);
        trio.revive("a");
        std::thread::sleep(Duration::from_millis(100));
        let run = trio.tool.run(&["recover"]).expect_code(5);
        assert!(
            run.stdout.contains("a answers again, and takes writes"),
            "{run:?}"
        );
        for verb in ["STOP", "START"] {
            trio.server("b").execute(&io(verb));
        }
        trio.wait_same("a", "b");
        trio.assert_source("a", &["b"]);
        let status = trio.status().to_string();
        assert!(!status.contains("was given up"), "{status}");
    }
}
