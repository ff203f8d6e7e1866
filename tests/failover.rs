//! Moving roles, on real pairs and trios: each test is a story. Given, fault, when, expect.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

#[expect(
    dead_code,
    reason = "shared with the other integration tests, which use other parts"
)]
mod lab;

use lab::server::Flavour;
use lab::trio::{Trio, Watch, Writer};
use lab::walk;

const BOTH: [Flavour; 2] = [Flavour::Mariadb, Flavour::Mysql97];

/// The flavours that are here; where CI is set, both have to be.
fn flavours() -> Vec<Flavour> {
    BOTH.into_iter()
        .filter(|flavour| match flavour.missing() {
            None => true,
            Some(missing) => {
                assert!(std::env::var_os("CI").is_none(), "{missing}");
                eprintln!("\n!!! {} is SKIPPED: {missing}\n", flavour.name());
                false
            }
        })
        .collect()
}

/// Given a trio and a client that writes without a pause, when roles move there and back, expect that
/// nothing acknowledged is lost, that two are never writable, and that everybody follows.
#[test]
fn switches_over_and_back_under_load() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 3);
        let watch = Watch::start(&trio);
        let writer = Writer::start(&trio, 0);
        writer.wait_more(50);
        let planned = trio
            .tool
            .run(&["switchover", "lab", "--to", "b", "--dry-run"])
            .ok()
            .json();
        assert_eq!(planned["failover"]["new_source"], "b");
        assert!(trio.is_writable("a"));
        for (to, others) in [("b", ["a", "c"]), ("c", ["a", "b"]), ("a", ["b", "c"])] {
            let report = trio.switchover(to).ok().json()["failover"].clone();
            assert_eq!(report["result"], "done", "{report}");
            assert_eq!(report["new_source"], to);
            assert_eq!(report["lost"]["transactions"], 0);
            assert_eq!(report["repointed"].as_array().unwrap().len(), 2, "{report}");
            let outage = report["write_outage_ms"].as_u64().unwrap();
            assert!(outage < 5000, "{report}");
            eprintln!(
                "{} to {to}: nobody could write for {outage} ms",
                flavour.name()
            );
            writer.wait_more(50);
            let _ = others;
        }
        let (acknowledged, gap) = writer.end();
        watch.end();
        eprintln!("{}: the client's longest gap {gap:?}", flavour.name());
        trio.assert_source("a", &["b", "c"]);
        for id in acknowledged {
            assert!(trio.has("a", id), "{id} was acknowledged and is lost");
        }
        let status = trio.status();
        assert_eq!(status["pairs"][0]["source"], "a", "{status}");
    }
}

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
