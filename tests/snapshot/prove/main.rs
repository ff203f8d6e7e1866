//! Proofs: what `snapshot verify` calls good is good, what isn't it tells why, and whatever happens
//! to it, nothing else is touched and nothing stays.
//!
//! Real private servers on clones of real snapshots; every fault is caused for real.
#![expect(clippy::unwrap_used, reason = "tests")]

mod alone;
mod flaws;
mod good;
mod interrupted;
#[expect(
    dead_code,
    reason = "shared with the snapshot and fault tests, which use other parts"
)]
#[path = "../../lab/mod.rs"]
mod lab;
mod rows;

use std::process::ExitCode;

use good::climbs_from_taken_to_checked_under_load;
use interrupted::blames_a_full_disk_and_not_the_snapshot;
use lab::in_guest;
use lab::pair::{Pair, Special};
use lab::runner::{self, Case, Group};
use lab::server::Flavour;
use lab::storage::Storage;
use lab::tool::{Run, Running};
use serde_json::Value;
use understudy::sys::failpoint::USE_PLACES;

fn main() -> ExitCode {
    let storages = runner::storages();
    let groups = match in_guest() {
        true => guest_groups(),
        false => native_groups(),
    };
    let wanted = groups
        .into_iter()
        .filter(|group| storages.contains(&group.storage));
    runner::main(wanted.collect())
}

fn group(flavour: Flavour, storage: Storage, cases: Vec<Case>) -> Group {
    Group {
        flavour,
        storage,
        special: Special::default(),
        cases,
    }
}

fn small(flavour: Flavour, storage: Storage, cases: Vec<Case>) -> Group {
    Group {
        special: Special {
            size_mb: Some(1500),
            ..Special::default()
        },
        ..group(flavour, storage, cases)
    }
}

/// The slower ones first, so that both threads end together.
fn native_groups() -> Vec<Group> {
    let mut groups = Vec::new();
    for flavour in [Flavour::Mysql97, Flavour::Mariadb] {
        let mut cases = good::cases(Storage::Btrfs);
        cases.extend(interrupted::killed_at(USE_PLACES.into_iter()));
        cases.extend(interrupted::cases(Storage::Btrfs));
        groups.push(group(flavour, Storage::Btrfs, cases));
        groups.push(group(flavour, Storage::Btrfs, rows::cases()));
        let flaws = flaws::cases(flavour, Storage::Btrfs);
        groups.push(group(flavour, Storage::Btrfs, flaws));
        let mut cases = good::cases(Storage::Copy);
        let places = ["clone-planned", "cloned", "booted", "proven"];
        cases.extend(interrupted::killed_at(places.into_iter()));
        cases.extend(interrupted::cases(Storage::Copy));
        cases.extend(flaws::cases(flavour, Storage::Copy));
        groups.push(group(flavour, Storage::Copy, cases));
        let cases = cases![
            false climbs_from_taken_to_checked_under_load,
            false blames_a_full_disk_and_not_the_snapshot,
        ];
        groups.push(small(flavour, Storage::Reflink, cases));
        let cases = cases![false blames_a_full_disk_and_not_the_snapshot];
        groups.push(small(flavour, Storage::Btrfs, cases));
    }
    let climbs = || cases![false climbs_from_taken_to_checked_under_load];
    groups.push(group(Flavour::Mysql56, Storage::Copy, climbs()));
    // Within 10.11, what a server says of damage differs, and what it does on a full disk.
    let (flavour, storage) = (Flavour::MariadbOther, Storage::Btrfs);
    let mut cases = climbs();
    cases.extend(flaws::cases(flavour, storage));
    groups.push(group(flavour, storage, cases));
    for storage in [Storage::Reflink, Storage::Btrfs] {
        let cases = cases![false blames_a_full_disk_and_not_the_snapshot];
        groups.push(small(flavour, storage, cases));
    }
    groups
}

/// One flavour: what differs here is the storage.
fn guest_groups() -> Vec<Group> {
    [Storage::Zfs, Storage::LvmThin, Storage::LvmThick]
        .into_iter()
        .map(|storage| {
            let mut cases = cases![true climbs_from_taken_to_checked_under_load];
            cases.extend(interrupted::killed_at(["cloned", "booted"].into_iter()));
            small(Flavour::Mariadb, storage, cases)
        })
        .collect()
}

fn id(snapshot: &Value) -> &str {
    snapshot["id"].as_str().unwrap()
}

fn verify(pair: &Pair, snapshot: &Value, level: &str) -> Run {
    pair.tool
        .run(&["snapshot", "verify", id(snapshot), "--level", level])
}

/// At level `tables`, with a failpoint.
fn verify_at(pair: &Pair, snapshot: &Value, failpoint: &str) -> Running {
    let args = ["snapshot", "verify", id(snapshot), "--level", "tables"];
    pair.tool.spawn_at(failpoint, &args)
}

/// As the catalogue shows it now.
fn show(pair: &Pair, snapshot: &Value) -> Value {
    let run = pair.tool.run(&["snapshot", "show", id(snapshot)]).ok();
    run.json()["snapshot"].clone()
}

fn recover(pair: &Pair) -> Value {
    let run = pair.tool.run(&["recover", &pair.name()]).ok();
    run.json()["recovered"].clone()
}

/// A snapshot that several cases of a pair use, with tables of many pages whose changes are no longer
/// in the redo log: recovery would mend damage to them.
fn kept_snapshot(pair: &mut Pair) -> Value {
    let label = "for-proofs";
    let found = pair
        .list()
        .into_iter()
        .find(|snapshot| snapshot["label"] == label);
    if let Some(snapshot) = found {
        return snapshot;
    }
    pair.source.execute(
        "CREATE TABLE IF NOT EXISTS lab.big \
         (id INT PRIMARY KEY AUTO_INCREMENT, v CHAR(250) NOT NULL) ENGINE=InnoDB",
    );
    pair.source
        .execute("INSERT INTO lab.big (v) VALUES ('a'), ('b'), ('c'), ('d')");
    for _ in 0..8 {
        pair.source
            .execute("INSERT INTO lab.big (v) SELECT v FROM lab.big");
    }
    pair.source
        .execute("CREATE TABLE IF NOT EXISTS lab.old (id INT, v CHAR(250)) ENGINE=MyISAM");
    pair.source
        .execute("INSERT INTO lab.old SELECT id, v FROM lab.big");
    pair.wait_caught_up();
    // With all purged, too: purging resets what insertions leave in the pages (seen on 10.11.14).
    pair.replica.execute("SET GLOBAL innodb_fast_shutdown = 0");
    pair.replica.shut_down();
    pair.replica.restart();
    pair.wait_caught_up();
    pair.create(&["--label", label])
}
