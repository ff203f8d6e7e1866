//! Verifications that are killed, stopped, starved or not alone: nothing stays of them, nothing else
//! is disturbed, and no snapshot is blamed for it.

use std::os::unix::process::ExitStatusExt;
use std::thread::sleep;
use std::time::Instant;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::lab::left::Footprint;
use crate::lab::pair::Pair;
use crate::lab::private;
use crate::lab::runner::Case;
use crate::lab::storage::Storage;
use crate::lab::{eventually, limit, sh};
use crate::{cases, id, kept_snapshot, recover, show, verify_at};

pub fn killed_at(places: impl Iterator<Item = &'static str>) -> Vec<Case> {
    places
        .map(|place| Case {
            name: format!("leaves_nothing_when_killed_at_{place}"),
            body: Box::new(move |pair| leaves_nothing_when_killed_at(pair, place)),
            in_guest: true,
        })
        .collect()
}

pub fn cases(storage: Storage) -> Vec<Case> {
    let mut cases = cases![
        false ends_when_interrupted,
        false proves_several_at_once,
        false keeps_a_snapshot_that_is_being_verified,
    ];
    if storage == Storage::Btrfs {
        cases.extend(cases![
            false ends_when_interrupted_while_the_server_hangs,
            false blocks_nobody_while_it_is_stopped,
            false does_not_blame_the_snapshot_for_a_killed_server,
        ]);
    }
    cases
}

fn leaves_nothing_when_killed_at(pair: &mut Pair, place: &str) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let run = verify_at(pair, &snapshot, &format!("{place}=kill")).wait();
    assert_eq!(
        run.status.signal(),
        Some(Signal::SIGKILL as i32),
        "{place} wasn't reached: {} {}",
        run.stdout,
        run.stderr
    );
    // At once: a server that is still dying is no reason to fail.
    let recovered = recover(pair);
    let operations = recovered.as_array().unwrap();
    assert_eq!(operations.len(), 1, "{recovered}");
    let operation = operations[0]["operation"].as_str().unwrap();
    assert!(
        operation.starts_with(&format!("verify-{}", id(&snapshot))),
        "{operation}"
    );
    before.assert_nothing_left(pair);
    assert_eq!(recover(pair), json!([]), "nothing to do twice");
    assert_eq!(show(pair, &snapshot)["verification"], Value::Null);
    pair.wait_caught_up();
}

/// SIGTERM and SIGINT, at the steps that take long.
fn ends_when_interrupted(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    for (place, signal) in [
        ("cloned", Signal::SIGINT),
        ("booting", Signal::SIGTERM),
        ("position-compared", Signal::SIGTERM),
        ("asked", Signal::SIGINT),
    ] {
        let mut running = verify_at(pair, &snapshot, &format!("{place}=sleep:600"));
        running.wait_at(place);
        running.signal(signal);
        let run = running.wait().expect_code(1);
        let (kind, message) = run.error();
        assert_eq!(kind, "failed", "{place}: {message}");
        assert!(message.contains("interrupted"), "{place}: {message}");
        before.assert_nothing_left(pair);
        assert_eq!(
            show(pair, &snapshot)["verification"],
            Value::Null,
            "{place}"
        );
    }
}

/// It is in the middle of an answer that won't come.
fn ends_when_interrupted_while_the_server_hangs(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let mut running = verify_at(pair, &snapshot, "position-compared=sleep:700");
    running.wait_at("position-compared");
    private::server(pair).signal(Signal::SIGSTOP);
    sleep(limit(1));
    assert!(!running.has_ended());
    let since = Instant::now();
    running.signal(Signal::SIGTERM);
    let run = running.wait().expect_code(1);
    assert!(since.elapsed() < limit(8), "{:?}", since.elapsed());
    assert!(run.error().1.contains("interrupted"), "{}", run.stdout);
    before.assert_nothing_left(pair);
    assert_eq!(show(pair, &snapshot)["verification"], Value::Null);
}

/// The kernel ends what needs too much memory, and so may people.
fn does_not_blame_the_snapshot_for_a_killed_server(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    for place in ["booting", "position-compared", "asked"] {
        let mut running = verify_at(pair, &snapshot, &format!("{place}=sleep:600"));
        running.wait_at(place);
        private::server(pair).signal(Signal::SIGKILL);
        let run = running.wait().expect_code(1);
        let (kind, message) = run.error();
        assert_eq!(kind, "failed", "{place}: {message}");
        let hints = run.json()["error"]["hints"].to_string();
        assert!(hints.contains("memory"), "{place}: {hints}");
        assert_eq!(
            show(pair, &snapshot)["verification"],
            Value::Null,
            "{place}"
        );
        before.assert_nothing_left(pair);
    }
}

fn blocks_nobody_while_it_is_stopped(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let mut running = verify_at(pair, &snapshot, "position-compared=stop");
    running.wait_at("position-compared");
    eventually(limit(10), "it is stopped", || running.is_stopped());
    assert_eq!(recover(pair), json!([]), "it still lives");
    let other = pair.create(&[]);
    let delete = ["snapshot", "delete", id(&other), "--yes"];
    pair.tool.run(&delete).ok();
    assert_eq!(private::servers(pair).len(), 1, "its server was ended");
    running.signal(Signal::SIGCONT);
    let run = running.wait().ok();
    assert_eq!(run.json()["snapshot"]["proof"], "checked");
    before.assert_nothing_left(pair);
    forget_proof(pair, &snapshot);
}

/// Two of one snapshot, one of another, and a snapshot being taken meanwhile.
fn proves_several_at_once(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let one = kept_snapshot(pair);
    let other = pair.create(&[]);
    let mut running: Vec<_> = [&one, &one, &other]
        .into_iter()
        .map(|snapshot| verify_at(pair, snapshot, "asked=sleep:3000"))
        .collect();
    for running in &mut running {
        running.wait_at("asked");
    }
    assert_eq!(private::servers(pair).len(), 3);
    let third = pair.create(&[]);
    for running in running {
        let run = running.wait().ok();
        assert_eq!(run.json()["snapshot"]["proof"], "checked");
    }
    for snapshot in [&one, &other] {
        assert_eq!(show(pair, snapshot)["proof"], "checked");
    }
    before.assert_nothing_left(pair);
    for snapshot in [&other, &third] {
        pair.tool
            .run(&["snapshot", "delete", id(snapshot), "--yes"])
            .ok();
    }
    forget_proof(pair, &one);
}

fn keeps_a_snapshot_that_is_being_verified(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let mut running = verify_at(pair, &snapshot, "asked=sleep:5000");
    running.wait_at("asked");
    let delete = ["snapshot", "delete", id(&snapshot), "--yes"];
    let run = pair.tool.run(&delete);
    assert!(!running.has_ended(), "this machine is too slow");
    let run = run.expect_code(6);
    assert_eq!(run.error().0, "busy");
    assert!(run.error().1.contains("verified"), "{}", run.stdout);
    // Retention leaves it for the next time, and says so.
    pair.configure(|settings| settings.snapshot = "keep = { last = 1 }".to_owned());
    let newer = pair.create(&[]);
    let prune = ["snapshot", "prune", &pair.name(), "--yes"];
    let pruned = pair.tool.run(&prune);
    pair.configure_plain();
    let run = running.wait().ok();
    assert_eq!(run.json()["snapshot"]["proof"], "checked");
    assert_eq!(
        show(pair, &snapshot)["state"],
        "complete",
        "{}",
        pruned.stdout
    );
    before.assert_nothing_left(pair);
    let delete = ["snapshot", "delete", id(&newer), "--yes"];
    pair.tool.run(&delete).ok();
    forget_proof(pair, &snapshot);
}

/// For the cases after this one.
fn forget_proof(pair: &Pair, snapshot: &Value) {
    let path = pair
        .state_dir()
        .join(format!("snapshots/{}.json", id(snapshot)));
    std::fs::write(path, snapshot.to_string()).unwrap();
}

/// The live server is stopped (SIGSTOP), since it would end itself on the same full disk.
pub fn blames_a_full_disk_and_not_the_snapshot(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    pair.replica.signal(Signal::SIGSTOP);
    let mut outcomes = Vec::new();
    let free = pair.volume.free_bytes();
    for but_mb in [0, 8] {
        let mut running = verify_at(pair, &snapshot, "cloned=sleep:1500");
        running.wait_at("cloned");
        let filler = pair.volume.fill_up(but_mb);
        let run = running.wait();
        std::fs::remove_file(filler).unwrap();
        sh(&["sync", "-f", &pair.volume.mount.display().to_string()]);
        eventually(limit(30), "the space is free again", || {
            pair.volume.free_bytes() > free / 10 * 9
        });
        outcomes.push(run);
    }
    pair.replica.signal(Signal::SIGCONT);
    pair.wait_caught_up();
    for run in outcomes {
        // With some space it may come up all the same.
        if run.code() == 0 {
            continue;
        }
        let run = run.expect_code(1);
        let (kind, message) = run.error();
        assert_eq!(kind, "failed", "{message}");
        let hints = run.json()["error"]["hints"].to_string();
        assert!(hints.contains("room"), "{hints}");
    }
    assert_ne!(show(pair, &snapshot)["proof"], "failed");
    before.assert_nothing_left(pair);
}
