//! Whatever is killed, hangs or is full in the middle.

use serde_json::json;

use crate::lab::server::flavours;
use crate::lab::small_state::SmallState;
use crate::lab::trio::{Trio, Watch};
use crate::lab::walk;

/// Given a pair, when the tool is killed at any place of a switchover, the recovery after each of its
/// acts as well, expect roles as before or as after.
#[test]
fn a_killed_switchover_is_undone_or_carried_through() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        trio.switchover("b").ok();
        trio.switchover("a").ok();
        let inside: (&[&str], &[&str]) = (&["fence:in", "wait:in"], &["open:in"]);
        let (mut from, mut to) = ("a", "b");
        for place in walk::places(&trio.state_dir(), "switchover-", inside) {
            let args = ["switchover", "lab", "--to", to, "--yes"];
            let watch = Watch::start(&trio);
            if !place.kill(&trio.tool, &args) {
                panic!("{place:?} isn't there");
            }
            place.recover(&trio.tool);
            watch.end();
            if place.committed {
                std::mem::swap(&mut from, &mut to);
            }
            eprintln!("{}: killed at {}", flavour.name(), place.name);
            trio.assert_source(from, &[to]);
        }
    }
}

/// No receipt calls lost what was brought in.
#[track_caller]
fn says_no_loss(trio: &Trio, place: &walk::Place) {
    let status = trio.status();
    let receipts = status["pairs"][0]["receipts"].as_array().unwrap().clone();
    let lost = &receipts.last().unwrap()["lost"];
    let count = lost["transactions"].as_u64();
    match lost["known"].as_bool().unwrap() {
        true => assert_eq!(count, Some(0), "{place:?}: {lost}"),
        false => assert_eq!(count, None, "{place:?}: {lost}"),
    }
}

/// Given a pair at rest whose source is killed, when the failover is killed at any place, expect it
/// undone or carried through; and the old source, with nothing of its own, rejoins.
#[test]
fn a_killed_failover_is_undone_or_carried_through() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let args = [
            "failover",
            "lab",
            "--unfenced",
            "--confirm",
            "0s",
            "--again",
            "--yes",
        ];
        let mut places = None;
        let mut turn = 0;
        loop {
            let (from, to) = [("a", "b"), ("b", "a")][turn % 2];
            trio.wait_same(from, to);
            // What it never sent is brought in from its binary logs.
            let stop = flavour.replica_statement("STOP", "IO_THREAD", "");
            trio.server(to).execute(&stop);
            let unsent = 1_000_000 * (1 + u64::try_from(turn).unwrap());
            let insert = format!("INSERT INTO lab.w VALUES ({unsent})");
            trio.server(from).execute(&insert);
            trio.kill(from);
            match &mut places {
                None => {
                    trio.tool.run(&args).ok();
                    let all = walk::places(
                        &trio.state_dir(),
                        "failover-",
                        (&[], &["bring:after", "open:in"]),
                    );
                    places = Some(all.into_iter());
                }
                Some(places) => {
                    let Some(place) = places.next() else { break };
                    assert!(place.kill(&trio.tool, &args), "{place:?} isn't there");
                    place.recover(&trio.tool);
                    eprintln!("{}: killed at {}", flavour.name(), place.name);
                    assert_eq!(trio.is_writable(to), place.committed, "{place:?}");
                    if place.committed {
                        says_no_loss(&trio, &place);
                    }
                    if !place.committed {
                        assert_eq!(
                            trio.status()["pairs"][0]["receipts"],
                            json!([]),
                            "{place:?}"
                        );
                        trio.tool.run(&args).ok();
                    }
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

/// Given a switchover whose source is closed, when the candidate or the source dies or hangs at that
/// moment, expect that clients write on the old source again as soon as it is there.
#[test]
fn a_server_that_dies_in_the_moment_leaves_the_old_source_as_it_was() {
    use nix::sys::signal::Signal;
    let args = ["switchover", "lab", "--to", "b", "--yes"];
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let mut run = trio.tool.spawn_at("fence:in=sleep:1500", &args);
        run.wait_at("fence:in");
        trio.kill("b");
        run.wait().expect_code(1);
        assert!(trio.is_writable("a"), "the candidate was killed");
        trio.revive("b");
        trio.close_again("b");
        trio.assert_source("a", &["b"]);

        let mut run = trio.tool.spawn_at("fence:in=sleep:1500", &args);
        run.wait_at("fence:in");
        trio.server("b").signal(Signal::SIGSTOP);
        let run = run.wait();
        trio.server("b").signal(Signal::SIGCONT);
        run.expect_code(1);
        assert!(trio.is_writable("a"), "the candidate hung");
        trio.assert_source("a", &["b"]);

        let mut run = trio.tool.spawn_at("fence:in=sleep:1500", &args);
        run.wait_at("fence:in");
        trio.kill("a");
        run.wait().expect_code(5);
        assert!(!trio.is_writable("b"), "the source was killed");
        trio.revive("a");
        trio.tool.run(&["recover"]).ok();
        trio.assert_source("a", &["b"]);
    }
}

/// Given a replica that is to be turned, and one that lost its link and is open, when the command is
/// killed at any place, expect it where it was or where it should be; a second try ends it.
#[test]
fn a_killed_repoint_or_rejoin_is_undone_or_carried_through() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 3);
        let turn = ["repoint", "c", "--to", "b"];
        trio.tool.run(&turn).ok();
        trio.tool.run(&["repoint", "c", "--to", "a"]).ok();
        for place in walk::places(&trio.state_dir(), "repoint-", (&[], &[])) {
            assert!(place.kill(&trio.tool, &turn), "{place:?} isn't there");
            place.recover(&trio.tool);
            trio.assert_source("a", &["b", "c"]);
        }

        let open = || trio.cut_off_and_open("b");
        open();
        trio.tool.run(&["rejoin", "b"]).ok();
        for place in walk::places(&trio.state_dir(), "rejoin-", (&[], &[])) {
            open();
            assert!(
                place.kill(&trio.tool, &["rejoin", "b"]),
                "{place:?} isn't there"
            );
            place.recover(&trio.tool);
            if !place.committed {
                trio.tool.run(&["rejoin", "b"]).ok();
            }
            trio.assert_source("a", &["b", "c"]);
        }
    }
}

/// Given a switchover past its commit, when the candidate dies before it is opened, or the tool and
/// then the old source do, expect that `recover` opens the candidate, and that the other one is closed.
#[test]
fn what_dies_between_commit_and_opening_leaves_one_source() {
    let args = ["switchover", "lab", "--to", "b", "--yes"];
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let mut run = trio.tool.spawn_at("commit:after=sleep:1500", &args);
        run.wait_at("commit:after");
        trio.kill("b");
        run.wait().expect_code(5);
        assert!(!trio.is_writable("a"));
        trio.revive("b");
        trio.tool.run(&["recover"]).ok();
        trio.assert_source("b", &["a"]);

        let back = ["switchover", "lab", "--to", "a", "--yes"];
        trio.tool.run_at("commit:after=kill", &back).expect_code(-1);
        trio.kill("b");
        trio.revive("b");
        let watch = Watch::start(&trio);
        trio.tool.run(&["recover"]).ok();
        watch.end();
        trio.assert_source("a", &["b"]);
    }
}

/// Given a state directory that is full when roles are to be committed, expect that they don't move,
/// and that a later `recover` doesn't think so either.
#[test]
fn a_full_disk_at_the_commit_leaves_roles_as_they_were() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        // So many that what remains doesn't fit into what is left of the journal's last page.
        for number in 0..30 {
            trio.server("a").execute(&format!(
                "CREATE EVENT lab.e{number} ON SCHEDULE EVERY 1 HOUR DO INSERT IGNORE INTO lab.w VALUES (1)"
            ));
        }
        let state = trio.state_dir();
        let small = SmallState::in_place_of(&state, &trio.tool.base.join("aside"));
        let args = ["switchover", "lab", "--to", "b", "--yes"];
        let mut run = trio.tool.spawn_at("wait:in=sleep:1000", &args);
        run.wait_at("wait:in");
        small.fill();
        let run = run.wait();
        assert!(matches!(run.code(), 1 | 5), "{run:?}");
        assert!(trio.is_writable("a") && !trio.is_writable("b"));
        small.empty();
        trio.tool.run(&["recover"]).ok();
        trio.assert_source("a", &["b"]);
        trio.switchover("b").ok();
        trio.assert_source("b", &["a"]);
    }
}
