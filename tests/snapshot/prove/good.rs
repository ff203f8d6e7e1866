//! Snapshots that are good, and what is shown of them.

use std::os::unix::fs::MetadataExt;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::alone::touches_nothing_else;
use crate::lab::kept::{self, Damage, SavedManifest};
use crate::lab::left::Footprint;
use crate::lab::load::Load;
use crate::lab::pair::Pair;
use crate::lab::private;
use crate::lab::runner::Case;
use crate::lab::sh;
use crate::lab::storage::Storage;
use crate::{cases, kept_snapshot, verify, verify_at};

pub fn cases(storage: Storage) -> Vec<Case> {
    let mut cases = cases![
        false climbs_from_taken_to_checked_under_load,
        false touches_nothing_else,
    ];
    match storage {
        Storage::Copy => cases.extend(cases![
            false follows_files_that_lie_elsewhere,
            false runs_as_the_owner_of_the_files,
        ]),
        _ => cases.extend(cases![
            false looks_at_every_kind_of_table,
            false asks_the_live_server_what_was_not_recorded,
        ]),
    }
    cases
}

pub fn climbs_from_taken_to_checked_under_load(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let load = Load::start(&pair.source, Duration::from_millis(5));
    sleep(Duration::from_millis(500));
    let snapshot = pair.create(&[]);
    let booted = verify(pair, &snapshot, "boot").ok().json()["snapshot"].clone();
    let newer = pair.create(&[]);
    load.stop();
    assert_eq!(booted["proof"], "booted");
    assert_eq!(booted["state_reason"], Value::Null);
    assert_verification(pair, &booted, "boot");
    assert_eq!(booted["verification"]["tables"], Value::Null);

    let checked = verify(pair, &snapshot, "tables").ok().json()["snapshot"].clone();
    assert_eq!(checked["proof"], "checked");
    assert!(proof_time(&checked) > proof_time(&booted));
    assert_verification(pair, &checked, "tables");
    let count = |name: &str| checked["verification"][name].as_u64().unwrap();
    assert!(count("tables") > 20, "{checked}");
    assert!(count("unchecked_tables") < count("tables") / 2, "{checked}");

    let again = verify(pair, &snapshot, "boot").ok().json()["snapshot"].clone();
    assert_eq!(again["proof"], "checked", "a shorter look lowers nothing");
    assert_eq!(again["proof_time"], checked["proof_time"]);
    assert_eq!(again["verification"]["level"], "boot");
    let listed = pair.list();
    assert_eq!(listed[1]["proof"], "checked", "{listed:?}");
    assert_eq!(listed[0]["proof"], "taken");

    // No rule wants the older one but for its proof.
    pair.configure(|settings| settings.snapshot = "keep = { last = 1, verified = 1 }".to_owned());
    let prune = ["snapshot", "prune", &pair.name(), "--yes"];
    let pruned = pair.tool.run(&prune).ok().json();
    let decisions = pruned["pruned"].as_array().unwrap();
    let older = decisions.iter().find(|one| one["id"] == snapshot["id"]);
    assert_eq!(older.unwrap()["keep"], true, "{pruned}");
    assert_eq!(older.unwrap()["reasons"], serde_json::json!(["verified 1"]));
    pair.configure_plain();
    assert_eq!(pair.list()[0]["id"], newer["id"]);
    before.assert_nothing_left(pair);
    pair.delete_all();
    pair.wait_caught_up();
}

fn proof_time(snapshot: &Value) -> jiff::Timestamp {
    let text = snapshot["proof_time"].as_str().unwrap();
    assert_eq!(text, snapshot["verification"]["at"].as_str().unwrap());
    text.parse().unwrap()
}

#[track_caller]
fn assert_verification(pair: &Pair, snapshot: &Value, level: &str) {
    let record = &snapshot["verification"];
    assert_eq!(record["level"], level);
    for nothing in ["flaw", "detail", "found_by", "log"] {
        assert_eq!(record[nothing], Value::Null, "{nothing}");
    }
    assert_eq!(snapshot["failure"], Value::Null);
    let ms = |name: &str| record[name].as_u64().unwrap();
    assert!(ms("boot_ms") > 0);
    assert!(ms("clone_ms") + ms("boot_ms") <= ms("total_ms"), "{record}");
    let program = pair.flavour.program().canonicalize().unwrap();
    assert_eq!(record["server_binary"], program.display().to_string());
    let version = record["server_version"].as_str().unwrap();
    assert!(
        pair.replica.value("SELECT VERSION()").starts_with(version),
        "{version}"
    );
}

/// Names that have to be quoted, partitions, full text, files elsewhere, versioned rows, sequences:
/// all are looked at, and none is missed by a file's name.
fn looks_at_every_kind_of_table(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let mut statements = vec![
        "CREATE DATABASE `we-ird ü`".to_owned(),
        "CREATE TABLE `we-ird ü`.`a``b.c/ d#e` (id INT PRIMARY KEY) ENGINE=InnoDB".to_owned(),
        "CREATE TABLE `we-ird ü`.parts (id INT PRIMARY KEY) ENGINE=InnoDB \
         PARTITION BY HASH (id) PARTITIONS 3"
            .to_owned(),
        "CREATE TABLE `we-ird ü`.words (id INT PRIMARY KEY, v TEXT, FULLTEXT (v)) ENGINE=InnoDB"
            .to_owned(),
        "CREATE TABLE `we-ird ü`.nothing (id INT) ENGINE=MEMORY".to_owned(),
        "CREATE TABLE `we-ird ü`.rows_of (id INT NOT NULL) ENGINE=CSV".to_owned(),
        "CREATE VIEW `we-ird ü`.seen AS SELECT * FROM `we-ird ü`.parts".to_owned(),
    ];
    // Of base tables, as information_schema counts them.
    let mut wanted = 5;
    if pair.flavour.is_mariadb() {
        statements.extend([
            "CREATE TABLE `we-ird ü`.versions (id INT PRIMARY KEY) WITH SYSTEM VERSIONING"
                .to_owned(),
            "CREATE SEQUENCE `we-ird ü`.counter ENGINE=InnoDB".to_owned(),
            // Flushes: MariaDB 10.11 loses the row of a sequence that it has just made in a crash.
            "INSERT INTO `we-ird ü`.parts VALUES (1)".to_owned(),
        ]);
        wanted += 2;
    } else {
        statements
            .push("CREATE TABLESPACE common ADD DATAFILE 'common.ibd' ENGINE=InnoDB".to_owned());
        statements.push(
            "CREATE TABLE `we-ird ü`.shared (id INT PRIMARY KEY) TABLESPACE common".to_owned(),
        );
        wanted += 1;
    }
    pair.replica.execute_unlogged(&statements);
    let count = |snapshot: &Value| snapshot["verification"]["tables"].as_u64().unwrap();
    let snapshot = pair.create(&[]);
    let with = verify(pair, &snapshot, "tables").ok().json()["snapshot"].clone();
    let dropped = [
        "DROP DATABASE `we-ird ü`".to_owned(),
        match pair.flavour.is_mariadb() {
            true => "DO 0".to_owned(),
            false => "DROP TABLESPACE common".to_owned(),
        },
    ];
    pair.replica.execute_unlogged(&dropped);
    let later = pair.create(&[]);
    let without = verify(pair, &later, "tables").ok().json()["snapshot"].clone();
    assert_eq!(
        count(&with) - count(&without),
        wanted,
        "{}",
        with["verification"]
    );
    assert_eq!(
        with["verification"]["warnings"],
        without["verification"]["warnings"]
    );
    before.assert_nothing_left(pair);
    pair.delete_all();
}

/// The live server's file is gone by then, so it can only be the clone's that is read.
fn follows_files_that_lie_elsewhere(pair: &mut Pair) {
    let elsewhere = pair.base().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    if !pair.flavour.is_mariadb() {
        let known = format!("--innodb-directories={}", elsewhere.display());
        pair.replica.restart_with(&[known]);
        pair.wait_caught_up();
    }
    let before = Footprint::of(pair);
    pair.replica.execute_unlogged(&[
        format!(
            "CREATE TABLE lab.away (id INT PRIMARY KEY) ENGINE=InnoDB DATA DIRECTORY='{}'",
            elsewhere.display()
        ),
        "INSERT INTO lab.away VALUES (1)".to_owned(),
    ]);
    let snapshot = pair.create(&[]);
    assert_eq!(snapshot["volumes"].as_array().unwrap().len(), 2);
    pair.replica
        .execute_unlogged(&["DROP TABLE lab.away".to_owned()]);
    let live = kept::identities(&elsewhere);
    let run = verify(pair, &snapshot, "tables").ok();
    assert_eq!(run.json()["snapshot"]["proof"], "checked");
    assert_eq!(kept::identities(&elsewhere), live);
    // Also where it isn't even there any more.
    std::fs::remove_dir_all(&elsewhere).unwrap();
    verify(pair, &snapshot, "tables").ok();
    assert!(!elsewhere.exists(), "a directory was left");
    before.assert_nothing_left(pair);
    pair.delete_all();
}

/// Not as root: whatever is wrong with the files, or with the server program, has that account's
/// rights only.
fn runs_as_the_owner_of_the_files(pair: &mut Pair) {
    const NOBODY: u32 = 65534;
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let pair = &*pair;
    let _saved = SavedManifest::of(pair, &snapshot);
    let dir = kept::data_dir(pair, &snapshot).display().to_string();
    let owned = Damage::to(pair, &snapshot, &[], |_| {
        sh(&["chown", "-R", &NOBODY.to_string(), &dir]);
    });
    let mut running = verify_at(pair, &snapshot, "asked=sleep:1000");
    running.wait_at("asked");
    let server = private::server(pair);
    assert_eq!(
        server.status("Uid"),
        [NOBODY; 4].map(|id| id.to_string()).join("\t")
    );
    assert_eq!(server.status("CapEff"), "0000000000000000");
    let place = server.place().metadata().unwrap();
    assert_eq!((place.uid(), place.mode() & 0o7777), (NOBODY, 0o700));
    let run = running.wait().ok();
    drop(owned);
    sh(&["chown", "-R", "0", &dir]);
    assert_eq!(run.json()["snapshot"]["proof"], "checked");
    before.assert_nothing_left(pair);
}

/// As for snapshots from before it was recorded, and for orphans.
fn asks_the_live_server_what_was_not_recorded(pair: &mut Pair) {
    let snapshot = kept_snapshot(pair);
    let saved = SavedManifest::of(pair, &snapshot);
    saved.edit(|manifest| drop(manifest.as_object_mut().unwrap().remove("boot")));
    let run = verify(pair, &snapshot, "boot").ok();
    assert_eq!(run.json()["snapshot"]["proof"], "booted");

    saved.edit(|manifest| drop(manifest.as_object_mut().unwrap().remove("boot")));
    pair.replica.shut_down();
    let run = verify(pair, &snapshot, "boot");
    let shown = crate::show(pair, &snapshot);
    saved.edit(|_| {});
    let verified = verify(pair, &snapshot, "boot");
    drop(saved);
    pair.replica.restart();
    pair.wait_caught_up();
    let run = run.expect_code(4);
    assert_eq!(run.error().0, "refused");
    let hints = run.json()["error"]["hints"].to_string();
    assert!(hints.contains(&format!("Start {}", pair.name())), "{hints}");
    assert_eq!(shown["proof"], "taken");
    assert_eq!(shown["verification"], Value::Null);
    // With the record it needs nobody.
    assert_eq!(verified.ok().json()["snapshot"]["proof"], "booted");
}
