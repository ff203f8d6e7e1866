//! The tool is stopped in the middle (SIGSTOP), somebody else comes meanwhile, and then it goes on.

use std::thread::sleep;
use std::time::Duration;

use crate::lab::server::{Flavour, flavours};
use crate::lab::trio::{Trio, Watch, Writer};
use crate::lab::walk::{self, Place, stop};

/// Whoever comes meanwhile is told who is at it, and does nothing.
#[track_caller]
fn others_wait(trio: &Trio, holder: &str, second: &[&str]) {
    for other in [&["recover"], second] {
        let run = trio.tool.run(other).expect_code(6);
        let (_, message) = run.error();
        assert!(message.contains(&format!("{holder}, pid ")), "{run:?}");
        assert!(run.stdout.contains("kill -CONT"), "{run:?}");
    }
}

/// Longer than a moment: what comes then is seen to be late.
const LONG: Duration = Duration::from_millis(2500);

fn told(flavour: Flavour, place: &Place) {
    eprintln!("{}: stopped at {}", flavour.name(), place.name);
}

/// Given clients that write, when a switchover is stopped at any place and goes on after others were
/// sent away, expect it done, nothing that was acknowledged lost, and never two that take writes.
#[test]
fn a_stopped_switchover_keeps_others_out_and_goes_on() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        trio.switchover("b").ok();
        trio.switchover("a").ok();
        let inside: (&[&str], &[&str]) = (&["fence:in", "wait:in"], &["open:in"]);
        let places = walk::places(&trio.state_dir(), "switchover-", inside);
        let (mut from, mut to) = ("a", "b");
        let watch = Watch::start(&trio);
        let writer = Writer::start(&trio, 1_000_000);
        for place in walk::sample(places, 5) {
            let args = ["switchover", "lab", "--to", to, "--yes"];
            let run = place.stop(&trio.tool, &args, || {
                others_wait(&trio, "switchover", &["switchover", "lab", "--yes"]);
            });
            run.ok();
            told(flavour, &place);
            (from, to) = (to, from);
            writer.wait_more(5);
        }
        let (acknowledged, _) = writer.end();
        watch.end();
        trio.assert_source(from, &[to]);
        for id in acknowledged {
            assert!(trio.has(from, id), "{id} was acknowledged");
        }
    }
}

/// Given a dead source, when the failover is stopped at a place and goes on after others were sent
/// away, expect it done with all that only the dead source had.
#[test]
fn a_stopped_failover_keeps_others_out_and_goes_on() {
    let args = [
        "failover",
        "lab",
        "--unfenced",
        "--confirm",
        "0s",
        "--again",
        "--yes",
    ];
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let mut places = None;
        let mut turn = 0;
        loop {
            let (from, to) = [("a", "b"), ("b", "a")][turn % 2];
            trio.wait_same(from, to);
            let stop = flavour.replica_statement("STOP", "IO_THREAD", "");
            trio.server(to).execute(&stop);
            let unsent = 1_000_000 * (1 + u64::try_from(turn).unwrap());
            let insert = format!("INSERT INTO lab.w VALUES ({unsent})");
            trio.server(from).execute(&insert);
            trio.kill(from);
            match &mut places {
                None => {
                    trio.tool.run(&args).ok();
                    let inside: (&[&str], &[&str]) = (&[], &["bring:after", "open:in"]);
                    let all = walk::places(&trio.state_dir(), "failover-", inside);
                    places = Some(walk::sample(all, 2).into_iter());
                }
                Some(places) => {
                    let Some(place) = places.next() else { break };
                    let run = place.stop(&trio.tool, &args, || {
                        others_wait(&trio, "failover", &args);
                    });
                    let report = run.ok().json();
                    let lost = &report["failover"]["lost"]["transactions"];
                    assert_eq!(lost, 0, "{place:?}: {report}");
                    told(flavour, &place);
                }
            }
            trio.assert_source(to, &[]);
            assert!(trio.has(to, unsent));
            trio.revive(from);
            trio.tool.run(&["rejoin", from]).ok();
            trio.assert_source(to, &[from]);
            turn += 1;
        }
    }
}

/// Given a replica that is to be turned, and one that lost its link and is open, when the command is
/// stopped at any place and goes on, expect it done.
#[test]
fn a_stopped_repoint_or_rejoin_keeps_others_out_and_goes_on() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 3);
        let (turn, back) = (["repoint", "c", "--to", "b"], ["repoint", "c", "--to", "a"]);
        trio.tool.run(&turn).ok();
        trio.tool.run(&back).ok();
        let places = walk::places(&trio.state_dir(), "repoint-", (&[], &[]));
        for place in walk::sample(places, 3) {
            let run = place.stop(&trio.tool, &turn, || others_wait(&trio, "repoint", &back));
            run.ok();
            assert!(trio.follows("c", "b"));
            trio.tool.run(&back).ok();
            told(flavour, &place);
        }

        let open = || trio.cut_off_and_open("b");
        open();
        trio.tool.run(&["rejoin", "b"]).ok();
        let places = walk::places(&trio.state_dir(), "rejoin-", (&[], &[]));
        for place in walk::sample(places, 3) {
            open();
            let run = place.stop(&trio.tool, &["rejoin", "b"], || {
                others_wait(&trio, "rejoin", &["switchover", "lab", "--yes"]);
            });
            run.ok();
            trio.assert_source("a", &["b", "c"]);
            told(flavour, &place);
        }
    }
}

/// Given a switchover that is stopped or killed while nobody takes writes, when somebody opens a third
/// server by hand meanwhile, expect that neither the command nor `recover` opens another one.
#[test]
fn a_switchover_that_comes_late_opens_nobody_beside_another_source() {
    let args = ["switchover", "lab", "--to", "b", "--yes"];
    for flavour in flavours() {
        let trio = Trio::start(flavour, 3);
        let watch = Watch::start(&trio);
        for place in ["wait:in", "commit:after"] {
            let run = stop(&trio.tool, place, &args, || {
                trio.open_by_hand("c");
                sleep(LONG);
            });
            let (_, message) = run.expect_code(5).error();
            assert!(message.contains("c takes writes"), "{message}");
            assert!(!trio.is_writable("a") && !trio.is_writable("b") && trio.is_writable("c"));
            // As before.
            trio.close_again("c");
            trio.tool.run(&["recover"]).ok();
            trio.open_by_hand("a");
            trio.assert_source("a", &["b", "c"]);
        }

        trio.tool.run_at("wait:in=kill", &args).expect_code(-1);
        trio.open_by_hand("c");
        let recovered = trio.tool.run(&["recover"]).stdout;
        assert!(recovered.contains("c takes writes"), "{recovered}");
        assert!(!trio.is_writable("a") && !trio.is_writable("b"));
        watch.end();
    }
}

/// Given a failover that is stopped just before the opening, when the old source comes back as its option
/// file has it, open, expect that it stays the source. (Killed after the commit: two_tools.rs.)
#[test]
fn a_failover_that_comes_late_sees_the_old_source_come_back() {
    let args = ["failover", "lab", "--unfenced", "--confirm", "0s", "--yes"];
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        trio.status();
        trio.wait_same("a", "b");
        let watch = Watch::start(&trio);
        trio.kill("a");
        let tool = trio.tool.clone();
        let run = stop(&tool, "opening:before", &args, || {
            trio.revive("a");
            sleep(LONG);
        });
        let (_, message) = run.expect_code(4).error();
        assert!(message.contains("a answers again"), "{message}");
        trio.assert_source("a", &["b"]);
        watch.end();
    }
}
