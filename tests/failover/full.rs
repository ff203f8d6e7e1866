//! The state directory has no byte of room from some place on: what can be undone is put back and said,
//! what can't is carried through, and `recover` finishes once there is room.

use crate::lab::server::{Flavour, flavours};
use crate::lab::small_state::SmallState;
use crate::lab::tool::Run;
use crate::lab::trio::{Trio, Watch};
use crate::lab::walk::{self, Place};

fn small(trio: &Trio) -> SmallState {
    SmallState::in_place_of(&trio.state_dir(), &trio.tool.base.join("aside"))
}

/// Before the point of no return: put back, and why is said. After it: nothing is left to be done by
/// hand but what needs the room.
#[track_caller]
fn says_so(flavour: Flavour, place: &Place, run: &Run) {
    eprintln!(
        "{}: full at {}: {} {}",
        flavour.name(),
        place.name,
        run.code(),
        run.stdout
    );
    if place.committed {
        assert!(matches!(run.code(), 0 | 5), "{place:?}: {run:?}");
    } else {
        assert_eq!(run.code(), 1, "{place:?}: {run:?}");
        let (_, message) = run.error();
        assert!(message.contains("No space left"), "{place:?}: {run:?}");
    }
}

#[track_caller]
fn recovered(trio: &Trio, small: &SmallState) {
    small.empty();
    trio.tool.run(&["recover"]).ok();
}

/// Given a state directory that fills up at any place of a switchover, expect roles as before or as
/// after, and never two that take writes.
#[test]
fn a_switchover_on_a_disk_that_fills_up_is_undone_or_carried_through() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        trio.switchover("b").ok();
        trio.switchover("a").ok();
        let small = small(&trio);
        let inside: (&[&str], &[&str]) = (&["fence:in", "wait:in"], &["open:in"]);
        let places = walk::places(&trio.state_dir(), "switchover-", inside);
        let (mut from, mut to) = ("a", "b");
        let watch = Watch::start(&trio);
        for place in walk::sample(places, 5) {
            let args = ["switchover", "lab", "--to", to, "--yes"];
            says_so(flavour, &place, &place.fill(&trio.tool, &small, &args));
            if place.committed {
                (from, to) = (to, from);
            }
            assert!(trio.is_writable(from) && !trio.is_writable(to), "{place:?}");
            recovered(&trio, &small);
            trio.assert_source(from, &[to]);
        }
        watch.end();
    }
}

/// Given a dead source and a state directory that fills up at a place of the failover, expect it undone
/// and said, or carried through with all that only the dead source had; with room it can be done again.
#[test]
fn a_failover_on_a_disk_that_fills_up_is_undone_or_carried_through() {
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
        let small = small(&trio);
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
                    says_so(flavour, &place, &place.fill(&trio.tool, &small, &args));
                    assert_eq!(trio.is_writable(to), place.committed, "{place:?}");
                    recovered(&trio, &small);
                    if !place.committed {
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

/// Given a state directory that fills up at any place of a repoint or a rejoin, expect the replica where
/// it was or where it should be; with room the same command ends it.
#[test]
fn a_repoint_or_rejoin_on_a_disk_that_fills_up_is_undone_or_carried_through() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 3);
        let (turn, back) = (["repoint", "c", "--to", "b"], ["repoint", "c", "--to", "a"]);
        trio.tool.run(&turn).ok();
        trio.tool.run(&back).ok();
        let small = small(&trio);
        let places = walk::places(&trio.state_dir(), "repoint-", (&[], &[]));
        for place in walk::sample(places, 3) {
            says_so(flavour, &place, &place.fill(&trio.tool, &small, &turn));
            recovered(&trio, &small);
            trio.assert_source("a", &["b", "c"]);
        }
        trio.tool.run(&turn).ok();
        trio.tool.run(&back).ok();

        let open = || trio.cut_off_and_open("b");
        open();
        trio.tool.run(&["rejoin", "b"]).ok();
        let places = walk::places(&trio.state_dir(), "rejoin-", (&[], &[]));
        for place in walk::sample(places, 3) {
            open();
            says_so(
                flavour,
                &place,
                &place.fill(&trio.tool, &small, &["rejoin", "b"]),
            );
            recovered(&trio, &small);
            if !place.committed {
                trio.tool.run(&["rejoin", "b"]).ok();
            }
            trio.assert_source("a", &["b", "c"]);
        }
    }
}
