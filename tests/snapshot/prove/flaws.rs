//! Snapshots that aren't good: each is told with its own reason, and the reason is the right one.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::lab::kept::{self, Damage, SavedManifest, redo_logs, spoil_page, truncate};
use crate::lab::key_ring::key_ring;
use crate::lab::left::Footprint;
use crate::lab::pair::Pair;
use crate::lab::runner::Case;
use crate::lab::server::Flavour;
use crate::lab::storage::Storage;
use crate::lab::tool::Run;
use crate::{cases, id, kept_snapshot, show, verify};

/// Something wrong with the kept files, and what has to be said of it.
struct Fault {
    name: &'static str,
    /// Put back afterwards.
    files: &'static [&'static str],
    damage: fn(&Path),
    flaw: &'static str,
    /// In what is said.
    evidence: &'static str,
}

/// Seen when a server is started on them.
const OF_BOTH: [Fault; 9] = [
    Fault {
        name: "a_lost_table_file",
        files: &["lab/big.ibd"],
        damage: |dir| std::fs::remove_file(dir.join("lab/big.ibd")).unwrap(),
        flaw: "missing-file",
        evidence: "lab/big.ibd",
    },
    Fault {
        name: "an_emptied_table_file",
        files: &["lab/big.ibd"],
        damage: |dir| truncate(&dir.join("lab/big.ibd"), 0),
        flaw: "truncated-file",
        evidence: "lab/big.ibd",
    },
    Fault {
        name: "a_lost_system_tablespace",
        files: &["ibdata1"],
        damage: |dir| std::fs::remove_file(dir.join("ibdata1")).unwrap(),
        flaw: "missing-file",
        evidence: "ibdata1",
    },
    Fault {
        name: "a_truncated_system_tablespace",
        files: &["ibdata1"],
        damage: |dir| truncate(&dir.join("ibdata1"), 4 << 20),
        flaw: "truncated-file",
        evidence: "256 pages",
    },
    Fault {
        name: "a_spoilt_system_header",
        files: &["ibdata1"],
        damage: |dir| spoil_page(&dir.join("ibdata1"), 0),
        flaw: "corrupt-page",
        evidence: "ibdata1",
    },
    Fault {
        name: "a_spoilt_system_page",
        files: &["ibdata1"],
        damage: |dir| spoil_page(&dir.join("ibdata1"), 5),
        flaw: "corrupt-page",
        evidence: "5",
    },
    Fault {
        name: "a_lost_redo_log",
        files: &["ib_logfile0", "#innodb_redo"],
        damage: |dir| of_redo_logs(dir, |log| std::fs::remove_file(log).unwrap()),
        flaw: "missing-file",
        evidence: "ib_",
    },
    Fault {
        name: "a_spoilt_redo_header",
        files: &["ib_logfile0", "#innodb_redo"],
        damage: |dir| of_redo_logs(dir, |log| kept::overwrite(log, 16, &[0xA5; 32])),
        flaw: "damaged-log",
        evidence: "header",
    },
    Fault {
        name: "a_zeroed_redo_log",
        files: &["ib_logfile0", "#innodb_redo"],
        damage: |dir| of_redo_logs(dir, |log| kept::overwrite(log, 0, &[0; 65536])),
        flaw: "damaged-log",
        evidence: "redo log",
    },
];

const OF_MARIADB: [Fault; 3] = [
    Fault {
        name: "a_lost_table_definition",
        files: &["lab/big.frm"],
        damage: |dir| std::fs::remove_file(dir.join("lab/big.frm")).unwrap(),
        flaw: "missing-file",
        evidence: "lab/big.frm",
    },
    Fault {
        name: "a_lost_aria_log",
        files: &["aria_log_control"],
        damage: |dir| std::fs::remove_file(dir.join("aria_log_control")).unwrap(),
        flaw: "missing-file",
        evidence: "aria_log_control",
    },
    Fault {
        name: "a_truncated_redo_log",
        files: &["ib_logfile0"],
        damage: |dir| truncate(&dir.join("ib_logfile0"), 20480),
        flaw: "damaged-log",
        evidence: "FILE_CHECKPOINT",
    },
];

const OF_MYSQL: [Fault; 7] = [
    Fault {
        name: "a_lost_undo_tablespace",
        files: &["undo_001"],
        damage: |dir| std::fs::remove_file(dir.join("undo_001")).unwrap(),
        flaw: "missing-file",
        evidence: "undo_001",
    },
    Fault {
        name: "an_emptied_undo_tablespace",
        files: &["undo_002"],
        damage: |dir| truncate(&dir.join("undo_002"), 0),
        flaw: "truncated-file",
        evidence: "undo_002",
    },
    Fault {
        name: "a_truncated_undo_tablespace",
        files: &["undo_001"],
        damage: |dir| truncate(&dir.join("undo_001"), 65536),
        flaw: "truncated-file",
        evidence: "undo_001",
    },
    Fault {
        name: "a_lost_dictionary",
        files: &["mysql.ibd"],
        damage: |dir| std::fs::remove_file(dir.join("mysql.ibd")).unwrap(),
        flaw: "missing-file",
        evidence: "tablespace",
    },
    Fault {
        name: "a_truncated_dictionary",
        files: &["mysql.ibd"],
        damage: |dir| truncate(&dir.join("mysql.ibd"), 1 << 20),
        flaw: "truncated-file",
        evidence: "mysql",
    },
    Fault {
        name: "a_lost_schema_directory",
        files: &["mysql"],
        damage: |dir| std::fs::remove_dir_all(dir.join("mysql")).unwrap(),
        flaw: "missing-file",
        evidence: "directory",
    },
    Fault {
        name: "a_truncated_redo_log",
        files: &["#innodb_redo"],
        damage: |dir| of_redo_logs(dir, |log| truncate(log, 20480)),
        flaw: "damaged-log",
        evidence: "redo log file",
    },
];

/// Of files that nothing opens at the start.
const OF_TABLES: [Fault; 4] = [
    Fault {
        name: "a_spoilt_table_page",
        files: &["lab/big.ibd"],
        damage: |dir| spoil_page(&dir.join("lab/big.ibd"), 8),
        flaw: "corrupt-page",
        evidence: "8",
    },
    Fault {
        name: "a_truncated_table_file",
        files: &["lab/big.ibd"],
        damage: |dir| truncate(&dir.join("lab/big.ibd"), 65536),
        flaw: "truncated-file",
        evidence: "lab/big.ibd",
    },
    Fault {
        name: "a_truncated_old_table",
        files: &["lab/old.MYD"],
        damage: |dir| truncate(&dir.join("lab/old.MYD"), 1000),
        flaw: "corrupt-table",
        evidence: "lab.old",
    },
    Fault {
        name: "a_lost_old_table",
        files: &["lab/old.MYD"],
        damage: |dir| std::fs::remove_file(dir.join("lab/old.MYD")).unwrap(),
        flaw: "missing-file",
        evidence: "lab.old",
    },
];

fn of_redo_logs(data_dir: &Path, damage: impl Fn(&Path)) {
    for log in redo_logs(data_dir) {
        damage(&log);
    }
}

pub fn cases(flavour: Flavour, storage: Storage) -> Vec<Case> {
    let own: &'static [Fault] = match flavour.is_mariadb() {
        true => &OF_MARIADB,
        false => &OF_MYSQL,
    };
    let case = |fault: &'static Fault, body: fn(&mut Pair, &Fault)| Case {
        name: format!("finds_{}", fault.name),
        body: Box::new(move |pair| body(pair, fault)),
        in_guest: false,
    };
    let mut cases: Vec<Case> = OF_BOTH
        .iter()
        .chain(own)
        .map(|f| case(f, finds_at_boot))
        .collect();
    cases.extend(OF_TABLES.iter().map(|fault| case(fault, finds_at_tables)));
    if storage == Storage::Copy {
        // The server doesn't see what it stands on: a few do.
        let few = [
            "a_lost_redo_log",
            "a_truncated_system",
            "a_spoilt_table_page",
        ];
        cases.retain(|case| few.iter().any(|name| case.name.contains(name)));
    }
    cases.extend(cases![
        false tells_another_position,
        false tells_a_program_of_another_version,
        false lifts_a_failure_only_by_looking_there_again,
    ]);
    if storage == Storage::Btrfs {
        cases.extend(cases![
            false tells_settings_that_do_not_fit,
            false tells_a_lost_kept_volume,
            false finds_orphans_when_asked,
            false does_not_blame_the_snapshot_for_the_program,
            // It goes on with the encryption plugin loaded.
            false tells_lost_keys,
        ]);
    }
    cases
}

/// What every failed proof has to show, now and later.
#[track_caller]
fn assert_unproven(pair: &Pair, snapshot: &Value, run: Run, flaw: &str, evidence: &str) {
    let run = run.expect_code(1);
    let (kind, message) = run.error();
    assert_eq!(kind, "unproven", "{message}");
    let json = run.json();
    let shown = show(pair, snapshot);
    for snapshot in [&json["snapshot"], &shown] {
        assert_eq!(snapshot["verification"]["flaw"], flaw, "{message}");
        assert_eq!(snapshot["proof"], "failed");
        assert_eq!(snapshot["proof_time"], snapshot["verification"]["at"]);
        assert_eq!(snapshot["failure"], snapshot["verification"]);
        assert_eq!(snapshot["state"], "complete");
        let reason = snapshot["state_reason"].as_str().unwrap();
        let detail = snapshot["verification"]["detail"].as_str().unwrap();
        assert!(reason.ends_with(detail) && reason.len() > detail.len());
        assert!(detail.contains(evidence), "{detail}");
        assert!(message.ends_with(reason), "{message}");
    }
    assert_log_is_kept(pair, &json);
}

/// Where a server was started at all.
#[track_caller]
fn assert_log_is_kept(pair: &Pair, json: &Value) {
    let hints = json["error"]["hints"].to_string();
    let Some(log) = json["snapshot"]["verification"]["log"].as_str() else {
        assert!(!hints.contains(".log"), "{hints}");
        return;
    };
    assert!(hints.contains(log), "{hints}");
    let log = Path::new(log);
    assert_eq!(log.parent().unwrap(), pair.state_dir().join("journal/done"));
    let own = log.metadata().unwrap();
    assert_eq!(own.permissions().mode() & 0o777, 0o600);
    assert!(own.len() > 0, "nothing is in it");
    // So that fixtures can be made of what was really said.
    if let Some(dir) = std::env::var_os("UNDERSTUDY_TEST_LOGS") {
        let name = json["snapshot"]["verification"]["flaw"].as_str().unwrap();
        let name = format!("{name}.{}.{}", pair.flavour.name(), own.len());
        std::fs::copy(log, Path::new(&dir).join(name)).unwrap();
    }
}

fn finds_at_boot(pair: &mut Pair, fault: &Fault) {
    finds(pair, fault, "boot", "boot");
}

/// By a look at the tables and nothing before it.
fn finds_at_tables(pair: &mut Pair, fault: &Fault) {
    finds(pair, fault, "tables", "tables");
}

fn finds(pair: &mut Pair, fault: &Fault, level: &str, found_by: &str) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let pair = &*pair;
    let _saved = SavedManifest::of(pair, &snapshot);
    let dir = kept::data_dir(pair, &snapshot);
    let there: Vec<&str> = fault
        .files
        .iter()
        .copied()
        .filter(|file| dir.join(file).exists())
        .collect();
    let damage = Damage::to(pair, &snapshot, &there, fault.damage);
    // The page that nobody has asked for isn't claimed.
    if level == "tables" && fault.flaw == "corrupt-page" {
        let run = verify(pair, &snapshot, "boot").ok();
        assert_eq!(run.json()["snapshot"]["proof"], "booted");
    }
    let run = verify(pair, &snapshot, level);
    drop(damage);
    let by = run.json()["snapshot"]["verification"]["found_by"].clone();
    assert_unproven(pair, &snapshot, run, fault.flaw, fault.evidence);
    assert_eq!(by, found_by);
    before.assert_nothing_left(pair);
}

fn tells_another_position(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let saved = SavedManifest::of(pair, &snapshot);
    let recorded = snapshot["position"]["gtid"].as_str().unwrap();
    // One transaction more than there is.
    let (rest, last) = recorded.rsplit_once('-').unwrap();
    let other = format!("{rest}-{}", last.parse::<u64>().unwrap() + 1);
    saved.edit(|manifest| manifest["position"]["gtid"] = Value::from(other.as_str()));
    let run = verify(pair, &snapshot, "boot");
    assert_unproven(pair, &snapshot, run, "position-differs", &other);
    before.assert_nothing_left(pair);
}

fn tells_a_program_of_another_version(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let saved = SavedManifest::of(pair, &snapshot);
    let others = [Flavour::Mariadb, Flavour::Mysql97, Flavour::Mysql56];
    // Any of a series reads the files of all of it.
    let of_its_series = |other: &Flavour| match pair.flavour.is_mariadb() {
        true => other.is_mariadb(),
        false => *other == pair.flavour,
    };
    for other in others.into_iter().filter(|other| !of_its_series(other)) {
        boot_with(pair, &other.program());
        let run = verify(pair, &snapshot, "boot");
        assert_unproven(pair, &snapshot, run, "wrong-version", "");
    }
    // The files are as good as ever.
    pair.configure_plain();
    let run = verify(pair, &snapshot, "boot").ok();
    assert_eq!(run.json()["snapshot"]["proof"], "booted");
    assert_eq!(run.json()["snapshot"]["state_reason"], Value::Null);
    drop(saved);
    before.assert_nothing_left(pair);
}

fn boot_with(pair: &Pair, program: &Path) {
    let table = format!(
        "[server.{}.service]\nserver_binary = \"{}\"\n",
        pair.name(),
        program.display()
    );
    pair.configure(|settings| settings.more = table);
}

fn tells_settings_that_do_not_fit(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let saved = SavedManifest::of(pair, &snapshot);
    let other = match pair.flavour.is_mariadb() {
        true => ("aria_block_size", "4096"),
        false => ("lower_case_table_names", "1"),
    };
    for (name, value) in [("innodb_page_size", "8192"), other] {
        saved.edit(|manifest| manifest["boot"]["settings"][name] = Value::from(value));
        let run = verify(pair, &snapshot, "boot");
        assert_unproven(pair, &snapshot, run, "wrong-settings", name);
    }
    before.assert_nothing_left(pair);
}

fn tells_a_lost_kept_volume(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = pair.create(&[]);
    let volume = snapshot["volumes"][0]["name"].as_str().unwrap();
    crate::lab::sh(&["btrfs", "-q", "subvolume", "delete", volume]);
    let run = verify(pair, &snapshot, "boot").expect_code(1);
    assert_eq!(run.error().0, "unproven");
    let shown = show(pair, &snapshot);
    assert_eq!(shown["verification"]["flaw"], "missing-volume");
    assert_eq!(
        (&shown["proof"], &shown["state"]),
        (&Value::from("failed"), &Value::from("invalid"))
    );
    let delete = ["snapshot", "delete", id(&snapshot), "--yes"];
    pair.tool.run(&delete).ok();
    before.assert_nothing_new(pair);
}

fn finds_orphans_when_asked(pair: &mut Pair) {
    let before = Footprint::of(pair);
    for statement in [
        "CREATE TABLE lab.parent (a INT, b INT, PRIMARY KEY (a, b)) ENGINE=InnoDB",
        "CREATE TABLE lab.child (id INT PRIMARY KEY, a INT, b INT, \
         FOREIGN KEY (a, b) REFERENCES lab.parent (a, b)) ENGINE=InnoDB",
        "INSERT INTO lab.parent VALUES (1, 1)",
        // A NULL in it refers to nothing.
        "INSERT INTO lab.child VALUES (1, 1, 1), (2, NULL, 7)",
    ] {
        pair.source.execute(statement);
    }
    pair.wait_caught_up();
    let verify_keys = |snapshot: &Value| {
        pair.tool
            .run(&["snapshot", "verify", id(snapshot), "--foreign-keys"])
    };
    let whole = pair.create(&[]);
    let run = verify_keys(&whole).ok();
    assert_eq!(run.json()["snapshot"]["proof"], "booted");

    pair.replica.execute_unlogged(&[
        "SET SESSION foreign_key_checks = 0".to_owned(),
        "INSERT INTO lab.child VALUES (3, 1, 2), (4, 3, 1)".to_owned(),
    ]);
    let orphaned = pair.create(&[]);
    let run = verify(pair, &orphaned, "tables").ok();
    assert_eq!(run.json()["snapshot"]["proof"], "checked", "nobody asked");
    let run = verify_keys(&orphaned);
    assert_unproven(
        pair,
        &orphaned,
        run,
        "foreign-key-orphans",
        "`lab`.`child`: 2 rows",
    );
    let run = verify(pair, &orphaned, "tables").ok();
    assert_eq!(
        run.json()["snapshot"]["proof"],
        "failed",
        "nobody looked there"
    );
    pair.replica
        .execute_unlogged(&["DROP TABLE lab.child, lab.parent".to_owned()]);
    before.assert_nothing_left(pair);
    for snapshot in [whole, orphaned] {
        pair.tool
            .run(&["snapshot", "delete", id(&snapshot), "--yes"])
            .ok();
    }
}

/// A spoilt page that only a look at the tables finds isn't gone because a server comes up.
fn lifts_a_failure_only_by_looking_there_again(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let pair = &*pair;
    let _saved = SavedManifest::of(pair, &snapshot);
    let damage = Damage::to(pair, &snapshot, &["lab/big.ibd"], |dir| {
        spoil_page(&dir.join("lab/big.ibd"), 8);
    });
    let run = verify(pair, &snapshot, "tables");
    assert_unproven(pair, &snapshot, run, "corrupt-page", "");
    let failed = show(pair, &snapshot);
    let booted = verify(pair, &snapshot, "boot").ok().json()["snapshot"].clone();
    assert_eq!(booted["proof"], "failed", "a shorter look lifts nothing");
    for same in ["proof_time", "state_reason", "failure"] {
        assert_eq!(booted[same], failed[same], "{same}");
    }
    assert_eq!(booted["verification"]["flaw"], Value::Null);
    let warnings = booted["verification"]["warnings"].to_string();
    assert!(warnings.contains("stays failed"), "{warnings}");
    let list = pair.tool.run(&["snapshot", "list", &pair.name()]).ok();
    assert_eq!(list.json()["snapshots"][0]["proof"], "failed");

    drop(damage);
    let checked = verify(pair, &snapshot, "tables").ok().json()["snapshot"].clone();
    assert_eq!(checked["proof"], "checked");
    assert_eq!(checked["proof_time"], checked["verification"]["at"]);
    assert_eq!(checked["state_reason"], Value::Null);
    assert_eq!(checked["failure"], Value::Null);
    before.assert_nothing_left(pair);
}

/// A program that never got as far as the files, or was ended, tells nothing of them.
fn does_not_blame_the_snapshot_for_the_program(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = kept_snapshot(pair);
    let script = |name: &str, text: &str| {
        let path = pair.base().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
        path
    };
    let own = pair.flavour.program();
    let own = own.display();
    for program in [
        "/nowhere/mysqld".into(),
        "/bin/false".into(),
        script(
            "without-libraries",
            "echo 'x.so: cannot open shared object' >&2; exit 127",
        ),
        script(
            "with-few-files",
            &format!("ulimit -n 12; exec {own} \"$@\""),
        ),
        script("that-is-killed", "kill -9 $$"),
        script(
            "that-ends-by-itself",
            &format!("[ $# = 2 ] && exec {own} \"$@\"; exit 0"),
        ),
    ] {
        boot_with(pair, &program);
        let run = verify(pair, &snapshot, "boot").expect_code(1);
        let (kind, message) = run.error();
        assert_eq!(kind, "failed", "{}: {message}", program.display());
        let hints = run.json()["error"]["hints"].to_string();
        assert!(hints.len() > 10, "{}: no hint", program.display());
        assert_eq!(show(pair, &snapshot)["proof"], snapshot["proof"]);
        assert_eq!(
            show(pair, &snapshot)["verification"],
            snapshot["verification"]
        );
    }
    pair.configure_plain();
    before.assert_nothing_left(pair);
}

/// Tables encrypted with keys that are kept elsewhere, on purpose.
fn tells_lost_keys(pair: &mut Pair) {
    let base = pair.base().to_owned();
    let (keys, extra) = key_ring(&mut pair.replica, &base);
    pair.replica.restart_with(&extra);
    pair.replica.execute_unlogged(&[
        "CREATE DATABASE secret".to_owned(),
        match pair.flavour.is_mariadb() {
            true => "CREATE TABLE secret.t (id INT PRIMARY KEY) ENGINE=InnoDB ENCRYPTED=YES",
            false => "CREATE TABLE secret.t (id INT PRIMARY KEY) ENGINE=InnoDB ENCRYPTION='Y'",
        }
        .to_owned(),
        "INSERT INTO secret.t VALUES (1), (2)".to_owned(),
    ]);
    pair.wait_caught_up();
    let before = Footprint::of(pair);
    let snapshot = pair.create(&[]);
    let run = verify(pair, &snapshot, "tables").ok();
    assert_eq!(run.json()["snapshot"]["proof"], "checked", "with its keys");
    let away = keys.with_extension("away");
    std::fs::rename(&keys, &away).unwrap();
    let run = verify(pair, &snapshot, "tables");
    std::fs::rename(&away, &keys).unwrap();
    assert_unproven(pair, &snapshot, run, "missing-key-ring", "");
    let run = verify(pair, &snapshot, "tables").ok();
    assert_eq!(run.json()["snapshot"]["proof"], "checked", "keys are back");
    before.assert_nothing_left(pair);
}
