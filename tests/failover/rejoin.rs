//! A server comes back that has transactions of its own; and what snapshots of before a failover are
//! said to be.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::lab;
use super::lab::server::{Flavour, flavours};
use super::lab::trio::Trio;
use super::steps::assert_steps;

/// A pair whose source `a` has a service, and a place for its snapshots.
fn pair(flavour: Flavour) -> Trio {
    let mut trio = Trio::start(flavour, 2);
    let base = trio.tool.base.clone();
    for place in ["a-service", "a-kept"] {
        std::fs::create_dir(base.join(place)).unwrap();
    }
    let (start, stop) = trio.servers[0].put_under_a_service(&base.join("a-service"));
    trio.more = format!(
        "[server.a.service]\nstart = [\"{start}\"]\nstop = [\"{stop}\"]\n\
         [server.a.snapshot]\nbackend = \"copy\"\ndirectory = \"{}/a-kept\"\nkeep = {{ last = 1 }}\n",
        base.display()
    );
    trio.configure();
    for verb in ["STOP", "START"] {
        trio.server("b")
            .execute(&flavour.replica_statement(verb, "IO_THREAD", ""));
    }
    trio.wait_same("a", "b");
    trio
}

fn take(trio: &Trio) -> String {
    let run = trio
        .tool
        .run(&["snapshot", "create", "a", "--allow-source"])
        .ok();
    let snapshot = run.json()["snapshot"].clone();
    assert_eq!(snapshot["fit"], Value::Null, "{snapshot}");
    snapshot["id"].as_str().unwrap().to_owned()
}

fn listed(trio: &Trio, id: &str) -> Value {
    let list = trio.tool.run(&["snapshot", "list", "a"]).ok().json();
    let all = list["snapshots"].as_array().unwrap().clone();
    all.into_iter().find(|one| one["id"] == id).unwrap()
}

/// `a` dies with rows 101 to 103, which nobody else has; `b` is the source.
fn lose_three(trio: &mut Trio) -> String {
    let stop = trio.flavour.replica_statement("STOP", "IO_THREAD", "");
    trio.server("b").execute(&stop);
    for id in 101..104 {
        trio.server("a")
            .execute(&format!("INSERT INTO lab.w VALUES ({id})"));
    }
    let ahead = take(trio);
    trio.kill("a");
    trio.failover(&["--unfenced", "--no-salvage"]).ok();
    trio.server("b").execute("INSERT INTO lab.w VALUES (201)");
    ahead
}

/// The transactions of a server's export.
#[track_caller]
fn assert_export(lost: &Value, count: u64) {
    assert_eq!(lost["transactions"], count, "{lost}");
    let path = Path::new(lost["export"].as_str().unwrap());
    let text = std::fs::read_to_string(path).unwrap();
    let last = lost["gtid"].as_str().unwrap().split(',').next().unwrap();
    let origin = last.split([':', '-']).next().unwrap();
    assert!(text.contains(origin), "{last} isn't in {text}");
}

/// Given a source that dies with three transactions and comes back, and a snapshot of before and one
/// of after them, when it rejoins, expect it refused with them kept as SQL; then back to the first
/// snapshot, by name of the other refused, following the new source; and that the snapshot of lost
/// transactions is still told after `a` has given their GTIDs to others.
#[test]
fn goes_back_to_a_snapshot_that_fits_and_follows() {
    for flavour in flavours() {
        let mut trio = pair(flavour);
        let before = take(&trio);
        assert_eq!(listed(&trio, &before)["fit"], "fits");
        let ahead = lose_three(&mut trio);
        let one = listed(&trio, &ahead);
        assert_eq!(one["fit"], "ahead", "{one}");
        assert_eq!(one["ahead_transactions"], 3, "{one}");
        let lost_in = one["lost_in"].as_str().unwrap();
        assert!(lost_in.starts_with("failover-"), "{one}");
        assert_eq!(listed(&trio, &before)["fit"], "fits");

        trio.revive("a");
        // Whom it has to fit isn't clear; what the receipt knows is.
        assert_eq!(listed(&trio, &before)["fit"], "fits");
        let one = listed(&trio, &ahead);
        assert_eq!(one["fit"], "unknown", "{one}");
        let reason = one["fit_reason"].as_str().unwrap();
        assert!(reason.contains("2 servers of lab take writes"), "{one}");
        let (_, message) = trio.tool.run(&["rejoin", "a"]).expect_code(4).error();
        assert!(message.contains("transactions that b hasn't"), "{message}");
        assert!(!trio.is_writable("a"));
        let (_, message) = trio
            .tool
            .run(&["rejoin", "a", "--rollback"])
            .expect_code(4)
            .error();
        assert!(message.contains("not confirmed"), "{message}");
        let in_place = ["snapshot", "restore", &ahead, "--in-place", "--yes"];
        let (_, message) = trio.tool.run(&in_place).expect_code(4).error();
        assert!(
            message.contains("is ahead of the present source b by 3"),
            "{message}"
        );
        let latest = trio.tool.run(&["snapshot", "show", "latest:a"]).ok().json();
        assert_eq!(latest["snapshot"]["id"], before);
        let planned = trio
            .tool
            .run(&["rejoin", "a", "--rollback", "--dry-run"])
            .ok()
            .json()["rejoin"]
            .clone();
        assert_eq!(planned["snapshot"], before, "{planned}");
        assert!(trio.has("a", 103));

        let run = trio.tool.run(&["rejoin", "a", "--rollback", "--yes"]).ok();
        let report = run.json()["rejoin"].clone();
        assert_eq!(report["snapshot"], before, "{report}");
        assert_eq!(report["warnings"].as_array().unwrap().len(), 0, "{report}");
        assert_export(&report["surplus"], 3);
        assert_steps("rejoin", &report);
        trio.assert_source("b", &["a"]);
        assert!(!trio.has("a", 101) && trio.has("a", 201));
        assert_eq!(
            trio.status()["pairs"][0]["receipts"]
                .as_array()
                .unwrap()
                .len(),
            0
        );
        let undo = report["undo"].as_str().unwrap();
        assert_eq!(listed(&trio, undo)["held"], true);
        assert_eq!(listed(&trio, undo)["fit"], "ahead");

        // It is the source again, and numbers its transactions on from where it was.
        trio.switchover("a").ok();
        for id in 301..310 {
            trio.server("a")
                .execute(&format!("INSERT INTO lab.w VALUES ({id})"));
        }
        let one = listed(&trio, &ahead);
        assert_eq!(one["fit"], "ahead", "{one}");
        assert_eq!(one["lost_in"], lost_in, "{one}");
        assert_eq!(listed(&trio, &before)["fit"], "fits");
        // Both are proven; the one that fits stays, beside what the rules keep.
        trio.tool.run(&["snapshot", "verify", &ahead]).ok();
        let pruned = trio.tool.run(&["snapshot", "prune", "a", "--dry-run"]).ok();
        let pruned = pruned.json()["pruned"].clone();
        let of = |id: &str| {
            let all = pruned.as_array().unwrap().iter();
            all.clone().find(|one| one["id"] == id).unwrap().clone()
        };
        assert_eq!(of(&before)["keep"], true, "{pruned}");
        let reasons = of(&before)["reasons"].to_string();
        assert!(reasons.contains("that fits the source"), "{pruned}");
    }
}

/// Given a replica that somebody wrote to, when it rejoins with --rollback and is killed in any of the
/// three operations, expect it closed, and that `recover` and the same command end with it following.
#[test]
fn a_killed_rollback_goes_on() {
    for flavour in flavours() {
        let trio = pair(flavour);
        trio.switchover("b").ok();
        trio.wait_same("b", "a");
        let before = take(&trio);
        let args = ["rejoin", "a", "--rollback", "--yes"];
        for (number, place) in ["stop:in", "commit:after", "rest-4:after"]
            .into_iter()
            .enumerate()
        {
            let id = 401 + number;
            trio.write_at("a", &format!("INSERT INTO lab.w VALUES ({id})"));
            trio.tool
                .run_at(&format!("{place}=kill"), &args)
                .expect_code(-1);
            trio.tool.run(&["recover"]).ok();
            assert!(!trio.is_writable("a"), "{place}");
            let report = trio.tool.run(&args).ok().json()["rejoin"].clone();
            eprintln!("{}: killed at {place}", flavour.name());
            trio.assert_source("b", &["a"]);
            assert!(!trio.has("a", u64::try_from(id).unwrap()), "{place}");
            if report["snapshot"].is_string() {
                assert_eq!(report["snapshot"], before, "{report}");
            }
        }
        // With nothing of its own it just follows.
        let report = trio.tool.run(&args).ok().json()["rejoin"].clone();
        assert!(
            report["warnings"].to_string().contains("isn't needed"),
            "{report}"
        );
    }
}

/// Given a source that comes back with transactions of its own, when it is provisioned again, expect
/// them kept, its data that of the source that is one now, and not of the configured one.
#[test]
fn is_provisioned_again_from_the_present_source() {
    for flavour in flavours() {
        let way = if flavour.is_mariadb() {
            "dump"
        } else {
            "clone"
        };
        let mut trio = pair(flavour);
        lose_three(&mut trio);
        trio.revive("a");
        let planned = trio
            .tool
            .run(&["rejoin", "a", "--provision", way, "--dry-run"])
            .ok()
            .json()["rejoin"]
            .clone();
        assert_eq!(planned["provision"], way, "{planned}");
        assert!(trio.is_writable("a"));
        let run = trio.tool.run(&["rejoin", "a", "--provision", way, "--yes"]);
        let report = run.ok().json()["rejoin"].clone();
        assert_eq!(report["source"], "b", "{report}");
        assert_export(&report["surplus"], 3);
        trio.assert_source("b", &["a"]);
        assert!(!trio.has("a", 101) && trio.has("a", 201));
        assert_eq!(
            trio.status()["pairs"][0]["receipts"]
                .as_array()
                .unwrap()
                .len(),
            0
        );
    }
}

/// Given a server on another host, as far as the tool can tell, expect that what it has of its own is
/// read over SQL.
#[test]
fn exports_over_sql_from_another_host() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        trio.wait_same("a", "b");
        trio.write_at("b", "INSERT INTO lab.w VALUES (101)");
        let mut elsewhere = Command::new("/usr/bin/unshare");
        let script = "hostname elsewhere && exec \"$@\"";
        elsewhere.args(["--uts", "/bin/sh", "-c", script, "sh"]);
        let run = trio
            .tool
            .run_under(elsewhere, &["rejoin", "b"])
            .expect_code(4);
        let (_, message) = run.error();
        assert!(message.contains("transactions that a hasn't"), "{message}");
        let left = std::fs::read_dir(trio.state_dir().join("receipts")).unwrap();
        let export = left
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|end| end == "sql"))
            .unwrap_or_else(|| panic!("no export: {message}"));
        let text = std::fs::read_to_string(export).unwrap();
        assert!(text.contains("BINLOG '"), "{text}");
        let work = std::fs::read_dir(trio.state_dir().join("work"));
        assert!(
            work.is_ok_and(|mut left| left.next().is_none()),
            "left: credentials"
        );
        lab::eventually(lab::limit(10), "it is closed", || !trio.is_writable("b"));
    }
}
