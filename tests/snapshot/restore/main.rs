//! Getting data back: mounted, as a copy that boots, as SQL; and what a killed command leaves.
//!
//! One body per behaviour, run over the back-ends and both flavours.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(
    dead_code,
    reason = "shared with the other integration tests, which use other parts"
)]
#[path = "../../lab/mod.rs"]
mod lab;

mod lineage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use lab::left::{Footprint, half_written};
use lab::load::{Load, Progress};
use lab::pair::{Pair, Special};
use lab::runner::{self, Group};
use lab::server::{Flavour, Server, Start, sequence};
use lab::storage::Storage;
use lab::strikes::Strikes;
use lab::walk;
use lab::{eventually, in_guest, limit};
use lineage::{
    brings_back_what_datajoint_deleted, brings_deleted_rows_back_or_none,
    extracts_a_lineage_that_loads, refuses_a_lineage_that_is_none,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use understudy::sys::failpoint::INSIDE_RESTORE;

fn main() -> ExitCode {
    let mut groups = Vec::new();
    for storage in runner::storages() {
        for flavour in [Flavour::Mariadb, Flavour::Mysql97] {
            // Emulated servers take half a minute to start, and what differs there is the storage.
            if in_guest() && !flavour.is_mariadb() {
                continue;
            }
            let mut cases = cases![true restores_a_copy_that_becomes_a_replica];
            if !in_guest() || storage == Storage::LvmThin {
                cases.extend(cases![
                    true mounts_read_only_and_as_a_clone,
                    false extracts_what_was_lost,
                    false extracts_what_a_careless_dump_loses,
                ]);
            }
            // The same on every storage.
            if !in_guest() && storage == Storage::Btrfs {
                cases.extend(cases![
                    false extracts_a_lineage_that_loads,
                    false brings_deleted_rows_back_or_none,
                ]);
                if flavour.is_mariadb() {
                    cases.extend(cases![
                        false brings_back_what_datajoint_deleted,
                        false refuses_a_lineage_that_is_none,
                    ]);
                }
            }
            if flavour.is_mariadb() {
                cases.extend(cases![
                    false puts_back_a_killed_mount,
                    false goes_on_with_an_interrupted_restore,
                    false leaves_nothing_of_a_killed_extract,
                    false refuses_to_restore_where_something_is,
                ]);
            }
            groups.push(Group {
                flavour,
                storage,
                special: special(),
                cases,
            });
            // Under a service, so on a pair of their own.
            let mut cases = cases![true puts_a_snapshot_in_place_and_the_undo_back];
            if !in_guest() && (flavour.is_mariadb() || storage == Storage::Copy) {
                cases.extend(cases![false ends_a_killed_restore_as_before_or_as_restored]);
            }
            if !in_guest() && flavour.is_mariadb() && storage == Storage::Btrfs {
                cases.extend(cases![false ends_so_when_killed_inside_a_step]);
            }
            if !in_guest() && storage == Storage::Btrfs {
                cases.extend(cases![
                    false refuses_to_lose_what_is_nowhere_else,
                    false refuses_in_place_without_a_service,
                ]);
            }
            if flavour.is_mariadb() || !in_guest() {
                groups.push(Group {
                    flavour,
                    storage,
                    special: special(),
                    cases,
                });
            }
        }
    }
    // The main job once more on another 10.11.
    if runner::storages().contains(&Storage::Btrfs) {
        for cases in [
            cases![false restores_a_copy_that_becomes_a_replica],
            cases![false puts_a_snapshot_in_place_and_the_undo_back],
        ] {
            groups.push(Group {
                flavour: Flavour::MariadbOther,
                storage: Storage::Btrfs,
                special: special(),
                cases,
            });
        }
    }
    runner::main(groups)
}

/// An emulated machine takes minutes to read all of a large volume, as a thick one is put back.
fn special() -> Special {
    Special {
        size_mb: in_guest().then_some(1500),
        ..Special::default()
    }
}

fn id(snapshot: &Value) -> String {
    snapshot["id"].as_str().unwrap().to_owned()
}

fn new_dir(pair: &Pair, name: &str) -> PathBuf {
    let dir = pair.base().join(name);
    drop(std::fs::remove_dir_all(&dir));
    std::fs::create_dir(&dir).unwrap();
    dir
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Of all use directories, private places and work directories: those of this pair that are there.
fn leavings(pair: &Pair) -> Vec<String> {
    let mut left = Vec::new();
    let places = [
        Some(PathBuf::from("/run/understudy")),
        Some(pair.state_dir().join("work")),
        Some(pair.state_dir().join("mounts")),
        pair.volume.kept_dir(),
    ];
    for place in places.into_iter().flatten() {
        let Ok(entries) = std::fs::read_dir(&place) else {
            continue;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_kept =
                !name.starts_with(".use-") && Some(&place) == pair.volume.kept_dir().as_ref();
            if name.contains(&pair.name()) && !is_kept {
                left.push(place.join(name).display().to_string());
            }
        }
    }
    left
}

/// A server on a restored copy, without replication.
fn boot(pair: &Pair, dir: &Path) -> Server {
    let place = pair.base().join("r");
    drop(std::fs::remove_dir_all(&place));
    let start = Start {
        server_id: 99,
        extra: Vec::new(),
        aloof: true,
    };
    let mut server = Server::on(pair.flavour, dir, &place, start);
    server.restart();
    server
}

fn mounts_read_only_and_as_a_clone(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = id(&pair.create(&[]));
    let dir = new_dir(pair, "mnt");
    let mount = |more: &[&str]| {
        let path = text(&dir);
        let args = [&["snapshot", "mount", &snapshot, &path], more].concat();
        pair.tool.run(&args)
    };
    assert_eq!(mount(&["--dry-run"]).ok().json()["changed"], true);
    assert_eq!(
        std::fs::read_dir(&dir).unwrap().count(),
        0,
        "a dry run mounted"
    );
    let mounted = mount(&[]).ok().json();
    assert_eq!(mounted["changed"], true);
    let data = PathBuf::from(mounted["mount"]["data_dir"].as_str().unwrap());
    assert!(data.join("ibdata1").exists(), "{}", data.display());
    assert!(
        std::fs::write(data.join("x"), "").is_err(),
        "it could be written to"
    );
    assert_eq!(mount(&[]).ok().json()["changed"], false);
    mount(&["--writable"]).expect_code(4);
    let shown = pair.list();
    assert_eq!(shown[0]["mounts"][0]["directory"], text(&dir));
    assert_eq!(shown[0]["mounts"][0]["mounted"], true);
    let refused = pair.tool.run(&["snapshot", "delete", &snapshot, "--yes"]);
    assert!(refused.expect_code(4).stdout.contains("snapshot unmount"));
    // What was mounted on purpose is nothing to recover.
    let recovered = pair.tool.run(&["recover"]).ok().json();
    assert_eq!(recovered["recovered"], serde_json::json!([]));
    assert!(data.join("ibdata1").exists());
    let unmount = |more: &[&str]| {
        let args = [&["snapshot", "unmount", &snapshot], more].concat();
        pair.tool.run(&args)
    };
    assert_eq!(
        unmount(&[]).ok().json()["unmounted"][0]["directory"],
        text(&dir)
    );
    assert_eq!(unmount(&[]).ok().json()["unmounted"], serde_json::json!([]));
    before.assert_nothing_left(pair);

    mount(&["--writable"]).ok();
    std::fs::write(data.join("mine"), "x").unwrap();
    // Busy while somebody works in it.
    let open = std::fs::File::open(data.join("mine")).unwrap();
    unmount(&["--yes"]).expect_code(4);
    drop(open);
    unmount(&[]).expect_code(4);
    assert!(
        data.join("mine").exists(),
        "thrown away without being asked"
    );
    unmount(&["--yes"]).ok();
    mount(&[]).ok();
    assert!(
        !data.join("mine").exists(),
        "what was written to a clone is in the snapshot"
    );
    unmount(&[]).ok();
    assert_eq!(leavings(pair), Vec::<String>::new());
    std::fs::write(dir.join("something"), "").unwrap();
    mount(&[]).expect_code(4);
    std::fs::remove_dir_all(&dir).unwrap();
    mount(&[]).expect_code(4);
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn puts_back_a_killed_mount(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = id(&pair.create(&[]));
    let dir = new_dir(pair, "mnt");
    let path = text(&dir);
    let args = ["snapshot", "mount", &snapshot, &path, "--writable"];
    for place in [
        "use-begun",
        "clone-planned",
        "cloned",
        "mounting",
        "mounted",
    ] {
        pair.tool
            .run_at(&format!("{place}=kill"), &args)
            .expect_code(-1);
        let recovered = pair.tool.run(&["recover"]).ok().json();
        let actions = recovered["recovered"][0]["operation"]
            .as_str()
            .unwrap_or_default();
        assert!(actions.starts_with("mount-"), "{place}: {recovered}");
        assert_eq!(leavings(pair), Vec::<String>::new(), "{place}");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "{place}");
        before.assert_nothing_left(pair);
    }
    // From its record on it is mounted.
    pair.tool
        .run_at("mount-recorded=kill", &args)
        .expect_code(-1);
    pair.tool.run(&["recover"]).ok();
    assert_eq!(pair.list()[0]["mounts"][0]["mounted"], true);
    // Unmounted by half: the next one ends it.
    pair.tool
        .run_at(
            "unmounted=kill",
            &["snapshot", "unmount", &snapshot, "--yes"],
        )
        .expect_code(-1);
    assert_eq!(pair.list()[0]["mounts"][0]["mounted"], false);
    pair.tool
        .run(&["snapshot", "unmount", &snapshot, "--yes"])
        .ok();
    assert_eq!(leavings(pair), Vec::<String>::new());
    std::fs::remove_dir_all(&dir).unwrap();
    pair.delete_all();
    before.assert_nothing_new(pair);
}

/// `restore --to`, and its document.
fn restore(pair: &Pair, snapshot: &str, dir: &Path) -> Value {
    let path = text(dir);
    let args = ["snapshot", "restore", snapshot, "--to", &path];
    pair.tool.run(&args).ok().json()["restore"].clone()
}

fn restores_a_copy_that_becomes_a_replica(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let load = Load::start(&pair.source, Duration::from_millis(5));
    sleep(Duration::from_millis(500));
    let snapshot = pair.create(&[]);
    let offset = load.offset;
    load.stop();
    let dir = new_dir(pair, "whole");
    let restored = restore(pair, &id(&snapshot), &dir);
    assert!(restored["bytes"].as_u64().unwrap() > 10 << 20, "{restored}");
    assert_eq!(leavings(pair), Vec::<String>::new());
    assert!(!dir.join("auto.cnf").exists(), "it has the replica's uuid");
    assert!(std::fs::read_dir(&dir).unwrap().flatten().all(|entry| {
        !entry
            .file_name()
            .to_string_lossy()
            .starts_with(".understudy")
    }));

    let server = boot(pair, &dir);
    let progress = Progress::of(&server);
    assert!(progress.is_a_state_of_the_load(), "{progress:?}");
    let recorded = snapshot["position"]["gtid"].as_str().unwrap();
    assert_eq!(
        progress.transactions() + offset,
        sequence(recorded),
        "{progress:?}"
    );
    assert_eq!(server.channels(), [], "it still knows its source");
    let ours = "SELECT COUNT(*) FROM mysql.user WHERE User LIKE 'understudy____'";
    assert_eq!(server.value(ours), "0", "the private account stayed");

    // The printed statements, with the account filled in, make a replica of it.
    for statement in restored["statements"].as_array().unwrap() {
        let statement = statement.as_str().unwrap().replacen("'…'", "'repl'", 2);
        let statement = match pair.flavour {
            Flavour::Mysql97 => statement.replace(
                "SOURCE_AUTO_POSITION",
                "GET_SOURCE_PUBLIC_KEY = 1, SOURCE_AUTO_POSITION",
            ),
            Flavour::Mariadb | Flavour::MariadbOther | Flavour::Mysql56 => statement,
        };
        server.execute(&statement);
    }
    pair.source.execute("INSERT INTO lab.ping VALUES ()");
    pair.wait_equal(&server, limit(30));
    for table in ["t", "m", "c", "ping"] {
        let statement = format!("CHECKSUM TABLE lab.{table}");
        assert_eq!(
            server.rows(&statement),
            pair.source.rows(&statement),
            "lab.{table}"
        );
    }
    drop(server);
    std::fs::remove_dir_all(&dir).unwrap();
    pair.wait_caught_up();
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn goes_on_with_an_interrupted_restore(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = id(&pair.create(&[]));
    let other = id(&pair.create(&[]));
    let dir = new_dir(pair, "whole");
    let path = text(&dir);
    let args = ["snapshot", "restore", &snapshot, "--to", &path];
    // Stopped politely in the middle.
    let mut running = pair.tool.spawn_at("copied=sleep:3000", &args);
    eventually(limit(20), "the copy is whole", || {
        let note = std::fs::read_to_string(dir.join(".understudy-restore.json"));
        note.is_ok_and(|note| note.contains("true")) || running.has_ended()
    });
    running.signal(Signal::SIGTERM);
    running.wait().expect_code(1);
    assert_eq!(leavings(pair), Vec::<String>::new());
    assert!(std::fs::read_dir(&dir).unwrap().count() > 0);
    let dir = new_dir(pair, "whole");
    for (place, resumes) in [
        ("use-begun", false),
        ("copied", true),
        ("moved", true),
        ("booting", true),
        ("booted", true),
    ] {
        pair.tool
            .run_at(&format!("{place}=kill"), &args)
            .expect_code(-1);
        pair.tool.run(&["recover"]).ok();
        assert_eq!(leavings(pair), Vec::<String>::new(), "{place}");
        before.assert_nothing_left(pair);
        let whole_too_early = dir.join("ibdata1").exists() && place == "copied";
        assert!(!whole_too_early, "half a copy looks like a data directory");
        let dry = [&args[..], &["--dry-run"]].concat();
        let planned = pair.tool.run(&dry).ok().json();
        assert_eq!(planned["restore"]["resumed"], resumes, "{place}: {planned}");
        if resumes {
            let wrong = ["snapshot", "restore", &other, "--to", &path];
            assert!(
                pair.tool
                    .run(&wrong)
                    .expect_code(4)
                    .stdout
                    .contains(&snapshot)
            );
        }
    }
    restore(pair, &snapshot, &dir);
    let server = boot(pair, &dir);
    assert!(Progress::of(&server).is_a_state_of_the_load());
    drop(server);
    std::fs::remove_dir_all(&dir).unwrap();
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn refuses_to_restore_where_something_is(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = id(&pair.create(&[]));
    let dir = new_dir(pair, "whole");
    std::fs::write(dir.join("mine"), "x").unwrap();
    let path = text(&dir);
    let args = ["snapshot", "restore", &snapshot, "--to", &path];
    pair.tool.run(&args).expect_code(4);
    assert_eq!(std::fs::read_to_string(dir.join("mine")).unwrap(), "x");
    std::fs::remove_dir_all(&dir).unwrap();
    let missing = pair.tool.run(&args).expect_code(4);
    assert!(missing.stdout.contains("install -d"), "{}", missing.stdout);
    assert_eq!(leavings(pair), Vec::<String>::new());
    pair.delete_all();
    before.assert_nothing_new(pair);
}

/// Dates that no strict mode takes, what rows were before, and schemas that only case tells apart.
fn extracts_what_a_careless_dump_loses(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let is_mariadb = pair.source.flavour.is_mariadb();
    let source = pair.source_name();
    let versioned = ["", "WITH SYSTEM VERSIONING"][usize::from(is_mariadb)];
    let rows = [
        ("delicate", "(1, '2001-02-31'), (2, '2001-02-00')"),
        ("DELICATE", "(1, '0000-00-00')"),
    ];
    for (schema, values) in rows {
        pair.source.execute(&format!("CREATE DATABASE {schema}"));
        pair.source.execute(&format!(
            "CREATE TABLE {schema}.t (id INT PRIMARY KEY, d DATE) {versioned}"
        ));
        let insert = format!("INSERT INTO {schema}.t VALUES {values}");
        pair.source.execute_in_mode("ALLOW_INVALID_DATES", &insert);
    }
    pair.source.execute("DELETE FROM delicate.t WHERE id = 2");
    pair.wait_caught_up();
    let snapshot = id(&pair.create(&[]));
    let content = |server: &Server| {
        let rows = |schema: &str| {
            let of_all = ["", "FOR SYSTEM_TIME ALL"][usize::from(is_mariadb)];
            server.rows(&format!(
                "SELECT id, CAST(d AS CHAR) FROM {schema}.t {of_all} ORDER BY id"
            ))
        };
        (rows("delicate"), rows("DELICATE"))
    };
    let wanted = content(&pair.source);
    assert_eq!(wanted.0.len(), [1, 2][usize::from(is_mariadb)]);
    pair.source.execute("DROP DATABASE delicate");
    pair.source.execute("DROP TABLE DELICATE.t");
    let args = [
        "snapshot",
        "extract",
        &snapshot,
        "--schema",
        "delicate",
        "--table",
        "DELICATE.t",
        "--into",
        &source,
        "--yes",
    ];
    pair.tool.run(&args).ok();
    assert_eq!(content(&pair.source), wanted);
    pair.source.execute("DELETE FROM delicate.t");
    let rows_only = [&args[..], &["--missing-rows"]].concat();
    pair.tool.run(&rows_only).ok();
    let now = "SELECT CONCAT(id, ' ', CAST(d AS CHAR)) FROM delicate.t";
    assert_eq!(pair.source.value(now), "1 2001-02-31");
    for (schema, _) in rows {
        pair.source.execute(&format!("DROP DATABASE {schema}"));
    }
    pair.wait_caught_up();
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn extracts_what_was_lost(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let source = pair.source_name();
    pair.source
        .execute("CREATE TABLE lab.`odd.name` (id INT PRIMARY KEY, b LONGBLOB)");
    pair.source
        .execute("INSERT INTO lab.`odd.name` VALUES (1, UNHEX('00FF27225C')), (2, NULL)");
    pair.source
        .execute("INSERT INTO lab.t SELECT COALESCE(MAX(id), 0) + 1, 'row' FROM lab.t");
    pair.wait_caught_up();
    let snapshot = id(&pair.create(&[]));
    let sums = |server: &Server| server.rows("CHECKSUM TABLE lab.t, lab.`odd.name`");
    let wanted = sums(&pair.source);
    let extract = |more: &[&str]| {
        let tables = ["--table", "lab.t", "--table", "lab.odd.name"];
        let args = [&["snapshot", "extract", &snapshot], &tables[..], more].concat();
        pair.tool.run(&args)
    };
    // Into a file: for its owner alone, and never over another.
    let file = pair.base().join("lost.sql");
    drop(std::fs::remove_file(&file));
    let path = text(&file);
    let done = extract(&["--to", &path]).ok().json();
    let bytes = done["extract"]["bytes"].as_u64().unwrap();
    let meta = std::fs::metadata(&file).unwrap();
    assert_eq!(meta.len(), bytes);
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o777,
        0o600
    );
    extract(&["--to", &path]).expect_code(4);

    pair.source.execute("DROP TABLE lab.t, lab.`odd.name`");
    pair.wait_caught_up();
    extract(&["--into", &source]).expect_code(4);
    extract(&["--into", &pair.name(), "--yes"]).expect_code(4);
    extract(&["--into", &source, "--yes"]).ok();
    assert_eq!(sums(&pair.source), wanted);
    pair.wait_caught_up();
    assert_eq!(sums(&pair.replica), wanted, "the replica didn't follow");
    // Once more: the tables are there.
    let there = extract(&["--into", &source, "--yes"]).expect_code(1);
    assert!(there.stdout.contains("--missing-rows"), "{}", there.stdout);
    pair.source
        .execute("DELETE FROM lab.`odd.name` WHERE id = 1");
    pair.source
        .execute("UPDATE lab.t SET v = 'mine' ORDER BY id LIMIT 1");
    extract(&["--into", &source, "--missing-rows", "--yes"]).ok();
    let rows = "SELECT COUNT(*) FROM lab.`odd.name`";
    assert_eq!(pair.source.value(rows), "2");
    let mine = "SELECT COUNT(*) FROM lab.t WHERE v = 'mine'";
    assert_eq!(
        pair.source.value(mine),
        "1",
        "a row that was there was changed"
    );
    extract(&["--into", &source, "--replace", "--yes"]).ok();
    assert_eq!(sums(&pair.source), wanted);

    let unknown = [
        "snapshot",
        "extract",
        &snapshot,
        "--table",
        "lab.nothing",
        "--to",
        "/x",
    ];
    assert!(
        pair.tool
            .run(&unknown)
            .expect_code(4)
            .stdout
            .contains("lab.nothing")
    );
    pair.tool
        .run(&["snapshot", "extract", &snapshot])
        .expect_code(2);
    assert_eq!(leavings(pair), Vec::<String>::new());
    std::fs::remove_file(&file).unwrap();
    pair.source.execute("DELETE FROM lab.t WHERE v = 'row'");
    pair.source.execute("DROP TABLE lab.`odd.name`");
    pair.wait_caught_up();
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn leaves_nothing_of_a_killed_extract(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = id(&pair.create(&[]));
    let out = new_dir(pair, "out");
    let file = text(&out.join("t.sql"));
    let args = [
        "snapshot", "extract", &snapshot, "--table", "lab.t", "--to", &file,
    ];
    for place in ["clone-planned", "booted", "dumped"] {
        pair.tool
            .run_at(&format!("{place}=kill"), &args)
            .expect_code(-1);
        pair.tool.run(&["recover"]).ok();
        assert_eq!(leavings(pair), Vec::<String>::new(), "{place}");
        assert_eq!(
            std::fs::read_dir(&out).unwrap().count(),
            0,
            "{place}: half a file"
        );
        before.assert_nothing_left(pair);
    }
    let running = pair.tool.spawn_at("dumped=sleep:20000", &args);
    let private = || {
        let mark = format!("extract-{snapshot}");
        lab::try_sh(&["pgrep", "-f", &mark]).is_ok()
    };
    eventually(limit(20), "the private server runs", private);
    running.signal(Signal::SIGKILL);
    running.wait().expect_code(-1);
    eventually(
        limit(10),
        "the private server died with its command",
        || !private(),
    );
    pair.tool.run(&["recover"]).ok();
    assert_eq!(leavings(pair), Vec::<String>::new());
    std::fs::remove_dir_all(&out).unwrap();
    pair.delete_all();
    before.assert_nothing_new(pair);
}

/// The replica is stopped and started by the tool from now on.
fn under_a_service(pair: &mut Pair) {
    let scripts = ["start", "stop"].map(|name| text(&pair.base().join(name)));
    if !Path::new(&scripts[0]).exists() {
        pair.put_under_a_service();
    }
    let [start, stop] = scripts;
    let service = format!(
        "[server.{}.service]\nstart = [\"{start}\"]\nstop = [\"{stop}\"]",
        pair.name()
    );
    pair.configure(|settings| settings.more = service);
}

fn in_place(pair: &Pair, snapshot: &str) -> Value {
    let args = ["snapshot", "restore", snapshot, "--in-place", "--yes"];
    pair.tool.run(&args).ok().json()["restore"].clone()
}

/// A table on the replica alone, in no binary log: what is there before, and not after.
fn mark(pair: &Pair) {
    pair.replica
        .execute_unlogged(&["CREATE TABLE lab.mark (id INT PRIMARY KEY) ENGINE=InnoDB".to_owned()]);
}

fn is_marked(pair: &Pair) -> bool {
    !pair
        .replica
        .rows("SHOW TABLES FROM lab LIKE 'mark'")
        .is_empty()
}

#[track_caller]
fn assert_equal_to_source(pair: &Pair) {
    pair.wait_caught_up();
    for table in ["t", "m", "c", "ping"] {
        let statement = format!("CHECKSUM TABLE lab.{table}");
        assert_eq!(
            pair.replica.rows(&statement),
            pair.source.rows(&statement),
            "lab.{table}"
        );
    }
}

fn puts_a_snapshot_in_place_and_the_undo_back(pair: &mut Pair) {
    under_a_service(pair);
    let before = Footprint::of(pair);
    let load = Load::start(&pair.source, Duration::from_millis(5));
    sleep(Duration::from_millis(300));
    let older = id(&pair.create(&[]));
    let chosen = id(&pair.create(&[]));
    let newer = id(&pair.create(&[]));
    mark(pair);
    // An emulated replica would be minutes behind.
    let mut load = Some(load);
    if in_guest() {
        load.take().into_iter().for_each(Load::stop);
    }
    let done = in_place(pair, &chosen);
    load.into_iter().for_each(Load::stop);
    let undo = done["undo"].as_str().unwrap().to_owned();
    assert!(!is_marked(pair), "the data wasn't put back");
    assert_equal_to_source(pair);
    // Every other snapshot is still good under its record, and so is what was restored.
    let listed = pair.list();
    for wanted in [&older, &chosen, &newer, &undo] {
        let found = listed.iter().find(|one| id(one) == **wanted);
        let found = found.unwrap_or_else(|| panic!("{wanted} is gone: {listed:?}"));
        assert_eq!(found["state"], "complete", "{found}");
    }
    let undone = listed.iter().find(|one| id(one) == undo).unwrap();
    assert_eq!(undone["held"], true, "{undone}");
    for one in [&older, &newer] {
        pair.tool.run(&["snapshot", "verify", one]).ok();
    }
    before.assert_nothing_left(pair);
    assert_eq!(leavings(pair), Vec::<String>::new());

    let back = in_place(pair, &undo);
    assert!(
        is_marked(pair),
        "the undo didn't bring back the state before"
    );
    assert_equal_to_source(pair);
    pair.replica
        .execute_unlogged(&["DROP TABLE lab.mark".to_owned()]);
    for held in [undo.as_str(), back["undo"].as_str().unwrap()] {
        pair.tool.run(&["snapshot", "release", held]).ok();
    }
    assert_equal_to_source(pair);
    pair.delete_all();
    before.assert_nothing_new(pair);
    pair.configure(|settings| settings.more = String::new());
}

fn ends_a_killed_restore_as_before_or_as_restored(pair: &mut Pair) {
    under_a_service(pair);
    let before = Footprint::of(pair);
    let chosen = id(&pair.create(&[]));
    pair.tool.run(&["snapshot", "verify", &chosen]).ok();
    let args = ["snapshot", "restore", &chosen, "--in-place", "--yes"];
    in_place(pair, &chosen);
    for one in pair.list().iter().map(id).filter(|one| *one != chosen) {
        pair.tool.run(&["snapshot", "release", &one]).ok();
        pair.tool.run(&["snapshot", "delete", &one, "--yes"]).ok();
    }
    let mut places = walk::places(&pair.state_dir(), "inplace-", (&[], &INSIDE_RESTORE));
    // The snapshot that it takes of the state before comes there first.
    places.retain(|place| place.name != "end:before");
    assert!(places.len() > 10, "{places:?}");
    for place in places {
        let restored = place.committed;
        if !is_marked(pair) {
            mark(pair);
        }
        set_at_run_time(pair, "ON");
        assert!(place.kill(&pair.tool, &args), "{place:?} isn't there");
        let recovered = place.recover(&pair.tool);
        let word = match place.name.as_str() {
            "stop:in" => "on its data as it was before",
            "put-one" => "on the restored data",
            "rest-0:after" => "the state before is kept",
            _ => "",
        };
        assert!(recovered.contains(word), "{place:?}: {recovered}");
        let tells_all = place.tells_all() && place.name != "rest-3:after";
        let place = place.name;
        assert_eq!(forgotten(pair), Vec::<String>::new(), "{place}");
        set_at_run_time(pair, "OFF");
        assert_eq!(is_marked(pair), !restored, "{place}");
        // Kept where it is the only way back, and said; else gone.
        let undo: Vec<String> = pair
            .list()
            .iter()
            .map(id)
            .filter(|one| *one != chosen)
            .collect();
        assert_eq!(undo.len(), usize::from(restored), "{place}");
        for one in undo {
            assert!(
                !tells_all || recovered.contains(&one),
                "{place}: {recovered}"
            );
            pair.tool.run(&["snapshot", "release", &one]).ok();
            pair.tool.run(&["snapshot", "delete", &one, "--yes"]).ok();
        }
        assert_equal_to_source(pair);
        before.assert_nothing_left(pair);
        assert_eq!(leavings(pair), Vec::<String>::new(), "{place}");
    }
    // Politely, before the data is touched.
    mark(pair);
    let mut running = pair.tool.spawn_at("stop:in=sleep:1500", &args);
    eventually(limit(30), "the server is down", || {
        pair.replica.try_connect("root").is_none() || running.has_ended()
    });
    running.signal(Signal::SIGTERM);
    running.wait().expect_code(1);
    assert!(is_marked(pair));
    assert_eq!(pair.list().len(), 1, "the undo snapshot wasn't needed");
    assert_equal_to_source(pair);
    pair.replica
        .execute_unlogged(&["DROP TABLE lab.mark".to_owned()]);
    for one in pair.list() {
        pair.tool.run(&["snapshot", "release", &id(&one)]).ok();
    }
    pair.delete_all();
    before.assert_nothing_new(pair);
    pair.configure(|settings| settings.more = String::new());
}

/// The same between any two system calls that change something, of it and of the recovery after it.
fn ends_so_when_killed_inside_a_step(pair: &mut Pair) {
    under_a_service(pair);
    let before = Footprint::of(pair);
    let chosen = id(&pair.create(&[]));
    // Else only the first one would prove it.
    pair.tool.run(&["snapshot", "verify", &chosen]).ok();
    let args = ["snapshot", "restore", &chosen, "--in-place", "--yes"];
    let on_the_volume = || {
        let entries = std::fs::read_dir(&pair.volume.mount).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let there = on_the_volume();
    // Where it was killed, when the recovery is, and how that has to end.
    for recovery in [None, Some(("stop:in", false)), Some(("put-one", true))] {
        let strikes = Strikes {
            sample: if recovery.is_none() { 2 } else { 1 },
            alone: true,
            only: &[],
        };
        let kills = strikes.walk(|strike| {
            let what = format!("{recovery:?}, {}", strike.what());
            if !is_marked(pair) {
                mark(pair);
            }
            let run = match recovery {
                None => strike.run(&pair.tool, &args),
                Some((place, _)) => {
                    let restore = pair.tool.run_at(&format!("{place}=kill"), &args);
                    restore.expect_code(-1);
                    strike.run(&pair.tool, &["recover"])
                }
            };
            let recovered = pair.tool.run(&["recover"]).ok().stdout;
            before.assert_nothing_left(pair);
            assert_equal_to_source(pair);
            let restored = !is_marked(pair);
            match recovery {
                None => assert!(restored || run.code() != 0, "{what}: nothing was restored"),
                Some((_, wanted)) => assert_eq!(restored, wanted, "{what}: {recovered}"),
            }
            let listed = pair.list();
            for one in &listed {
                assert_eq!(one["state"], "complete", "{what}: {one}");
            }
            let undo: Vec<String> = listed.iter().map(id).filter(|one| *one != chosen).collect();
            assert_eq!(undo.len(), usize::from(restored), "{what}: {recovered}");
            assert_eq!(undo.len() + 1, listed.len(), "{what}: {chosen} is gone");
            for one in undo {
                pair.tool.run(&["snapshot", "release", &one]).ok();
                pair.tool.run(&["snapshot", "delete", &one, "--yes"]).ok();
            }
            assert_eq!(leavings(pair), Vec::<String>::new(), "{what}");
            assert_eq!(on_the_volume(), there, "{what}");
            let half = half_written(pair.state_dir());
            assert_eq!(half, Vec::<String>::new(), "{what}");
            run
        });
        println!("restore in place, {recovery:?}: killed {kills} times");
    }
    if is_marked(pair) {
        pair.replica
            .execute_unlogged(&["DROP TABLE lab.mark".to_owned()]);
    }
    pair.delete_all();
    before.assert_nothing_new(pair);
    pair.configure(|settings| settings.more = String::new());
}

/// What a restart forgets: as these servers are started, each is off.
fn run_time_variables(pair: &Pair) -> &'static [&'static str] {
    match pair.flavour {
        Flavour::Mysql97 => &["super_read_only", "offline_mode"],
        Flavour::Mariadb | Flavour::MariadbOther | Flavour::Mysql56 => {
            &["event_scheduler", "rpl_semi_sync_master_enabled"]
        }
    }
}

fn set_at_run_time(pair: &Pair, value: &str) {
    for name in run_time_variables(pair) {
        pair.replica
            .execute(&format!("SET GLOBAL {name} = {value}"));
    }
}

/// Those and read_only that aren't on.
fn forgotten(pair: &Pair) -> Vec<String> {
    let is_on = |name: &str| {
        let value = pair.replica.value(&format!("SELECT @@GLOBAL.{name}"));
        value == "1" || value == "ON"
    };
    let names = run_time_variables(pair).iter().chain(&["read_only"]);
    let off = names.filter(|name| !is_on(name));
    off.map(|name| (*name).to_owned()).collect()
}

fn refuses_to_lose_what_is_nowhere_else(pair: &mut Pair) {
    under_a_service(pair);
    let before = Footprint::of(pair);
    let chosen = id(&pair.create(&[]));
    let try_it = |more: &[&str]| {
        let args = [
            &["snapshot", "restore", &chosen, "--in-place", "--yes"],
            more,
        ]
        .concat();
        pair.tool.run(&args)
    };
    try_it(&["--dry-run"]).ok();
    let unasked = ["snapshot", "restore", &chosen, "--in-place"];
    pair.tool.run(&unasked).expect_code(4);
    pair.replica.execute("CREATE DATABASE here_only");
    let refused = try_it(&[]).expect_code(4);
    assert!(
        refused.stdout.contains("--accept-loss"),
        "{}",
        refused.stdout
    );
    assert_eq!(pair.list().len(), 1, "an undo snapshot was taken");
    try_it(&["--accept-loss"]).ok();
    let here = "SHOW DATABASES LIKE 'here_only'";
    assert!(pair.replica.rows(here).is_empty());
    assert_equal_to_source(pair);

    // The source has purged what the replica would need.
    let logs = "FLUSH BINARY LOGS";
    pair.source.execute(logs);
    pair.source.execute("INSERT INTO lab.ping VALUES ()");
    pair.source.execute(logs);
    pair.wait_caught_up();
    let last = pair.source.rows("SHOW BINARY LOGS").pop().unwrap();
    let name = &last["log_name"];
    eventually(limit(20), "the old binary logs are purged", || {
        pair.source
            .execute(&format!("PURGE BINARY LOGS TO '{name}'"));
        pair.source.rows("SHOW BINARY LOGS").len() == 1
    });
    let refused = try_it(&[]).expect_code(4);
    assert!(refused.stdout.contains("purged"), "{}", refused.stdout);
    for one in pair.list() {
        pair.tool.run(&["snapshot", "release", &id(&one)]).ok();
    }
    pair.delete_all();
    before.assert_nothing_new(pair);
    pair.configure(|settings| settings.more = String::new());
}

fn refuses_in_place_without_a_service(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let chosen = id(&pair.create(&[]));
    let args = ["snapshot", "restore", &chosen, "--in-place", "--yes"];
    let refused = pair.tool.run(&args).expect_code(4);
    assert!(refused.stdout.contains("service"), "{}", refused.stdout);
    assert_eq!(pair.list().len(), 1);
    pair.delete_all();
    before.assert_nothing_new(pair);
}
