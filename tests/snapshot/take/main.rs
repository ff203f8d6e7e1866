//! Snapshots of real replicas on real volumes: what is taken, what it holds, what becomes of it.
//!
//! One body per behaviour, run over every back-end and both flavours.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(
    dead_code,
    reason = "shared with the fault tests, which use other parts"
)]
#[path = "../../lab/mod.rs"]
mod lab;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use lab::left::Footprint;
use lab::load::Load;
use lab::pair::{Pair, Special};
use lab::restored::Restored;
use lab::runner::{self, Group};
use lab::server::Flavour;
use lab::storage::Storage;
use lab::{in_guest, limit, sh, try_sh};
use serde_json::Value;

fn main() -> ExitCode {
    let mut groups = Vec::new();
    for storage in runner::storages() {
        for flavour in [Flavour::Mariadb, Flavour::Mysql97] {
            let mut cases = cases![true restores_to_the_recorded_position_under_load];
            // What follows differs by storage; where all is slow, one flavour does.
            if flavour.is_mariadb() || !in_guest() {
                cases.extend(cases![
                    true holds_every_commit_whatever_the_commit_settings,
                    true lists_volumes_without_manifest_as_orphans,
                    true leaves_lookalikes_alone,
                    true leaves_an_applier_stopped_that_was_stopped,
                    false holds_deletes_and_finds_by_prefix,
                    false prunes_with_a_reason_for_each,
                    false dry_run_changes_nothing,
                ]);
            }
            groups.push(Group {
                flavour,
                storage,
                special: Special::default(),
                cases,
            });
        }
    }
    if !in_guest() {
        groups.extend(native_only());
    }
    runner::main(groups)
}

/// What doesn't depend on the back-end.
fn native_only() -> Vec<Group> {
    let mut groups = Vec::new();
    for flavour in [Flavour::Mariadb, Flavour::Mysql97] {
        groups.push(Group {
            flavour,
            storage: Storage::Btrfs,
            special: Special::default(),
            cases: cases![
                false refuses_a_source_without_leave,
                false locks_a_source_for_its_moment,
                false pauses_until_resumed,
                false proves_each_way_to_hold_the_moment,
                false keeps_odd_files_as_they_are,
                false finds_the_files_of_a_server_in_a_container,
                false lists_the_others_beside_a_spoilt_manifest,
                false refuses_a_backend_that_does_not_fit,
                false weighs_every_way_with_what_was_measured_here,
                false stops_and_starts_the_server_through_its_service,
                false counts_no_delay_on_purpose_as_lag,
                false keeps_one_of_two_channels_stopped,
                false cures_data_at_the_top_level_of_btrfs,
                // Leaves the replica with transactions of its own.
                false tells_what_fits_and_waits_for_no_source,
            ],
        });
    }
    groups.push(Group {
        flavour: Flavour::Mariadb,
        storage: Storage::Btrfs,
        special: Special::default(),
        cases: cases![
            false reports_every_configuration_error_with_its_line,
            false refuses_credentials_that_others_may_read,
            false believes_nothing_that_others_could_have_written,
            false keeps_to_one_json_document_on_failure,
            false never_calls_good_what_lies_behind_a_foreign_link,
        ],
    });
    groups.push(Group {
        flavour: Flavour::Mysql97,
        storage: Storage::Btrfs,
        special: Special::default(),
        cases: cases![
            false proves_with_the_program_of_a_container,
            false stops_and_starts_a_container,
        ],
    });
    // What a position is read from differs by role: without a binary log, or with one that holds only
    // what is written here, which an intermediate server's doesn't.
    for flavour in [Flavour::Mariadb, Flavour::Mysql97] {
        let updates = match flavour {
            Flavour::Mariadb | Flavour::MariadbOther | Flavour::Mysql56 => "--log-slave-updates=0",
            Flavour::Mysql97 => "--log-replica-updates=0",
        };
        for args in [&["--skip-log-bin", updates][..], &[updates]] {
            groups.push(Group {
                flavour,
                storage: Storage::Btrfs,
                special: Special {
                    replica_args: args.iter().map(|&arg| arg.to_owned()).collect(),
                    ..Special::default()
                },
                cases: cases![false proves_each_way_to_hold_the_moment],
            });
        }
    }
    // As Debian's and Ubuntu's packages suggest: log_bin = /var/log/mysql/….
    for flavour in [Flavour::Mariadb, Flavour::Mysql97] {
        groups.push(Group {
            flavour,
            storage: Storage::Btrfs,
            special: Special {
                logs_apart: true,
                ..Special::default()
            },
            cases: cases![
                false restores_to_the_recorded_position_under_load,
                false holds_every_commit_whatever_the_commit_settings,
                false proves_each_way_to_hold_the_moment,
                false restores_a_copy_without_the_logs_that_lie_apart,
            ],
        });
    }
    for storage in [Storage::Btrfs, Storage::Copy] {
        groups.push(Group {
            flavour: Flavour::Mysql56,
            storage,
            special: Special::default(),
            cases: cases![
                false restores_to_the_recorded_position_under_load,
                false holds_every_commit_whatever_the_commit_settings,
                false leaves_an_applier_stopped_that_was_stopped,
                false pauses_until_resumed,
            ],
        });
    }
    groups
}

fn id(snapshot: &Value) -> String {
    snapshot["id"].as_str().unwrap().to_owned()
}

fn restores_to_the_recorded_position_under_load(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let load = Load::start(&pair.source, Duration::from_millis(5));
    sleep(Duration::from_millis(500));
    let snapshot = pair.create(&["--label", "nightly", "--tag", "ticket=17"]);
    sleep(Duration::from_millis(300));
    let offset = load.offset;
    load.stop();
    assert_contract(pair, &snapshot);
    before.assert_nothing_left(pair);
    {
        let restored = Restored::boot(pair, &snapshot);
        restored.assert_is_at(&snapshot, offset);
        restored.assert_catches_up();
    }
    pair.wait_caught_up();
    assert_eq!(pair.list().len(), 1);
    pair.delete_all();
    assert_eq!(pair.volume.kept_of(&id(&snapshot)), Vec::<String>::new());
}

/// A database moved elsewhere, where it belongs to another account than the data: it isn't taken, and
/// neither a proof nor a restored copy may pass off the live files as the snapshot's.
fn never_calls_good_what_lies_behind_a_foreign_link(pair: &mut Pair) {
    pair.replica.execute_unlogged(&[
        "CREATE DATABASE moved".to_owned(),
        "CREATE TABLE moved.t (id INT PRIMARY KEY) ENGINE=InnoDB".to_owned(),
    ]);
    pair.replica.shut_down();
    let (at, to) = (
        pair.replica.data_dir.join("moved"),
        pair.base().join("moved"),
    );
    sh(&[
        "cp",
        "-a",
        &at.display().to_string(),
        &to.display().to_string(),
    ]);
    std::fs::remove_dir_all(&at).unwrap();
    sh(&["chown", "-R", "12345", &to.display().to_string()]);
    std::os::unix::fs::symlink(&to, &at).unwrap();
    pair.replica.restart();
    pair.wait_caught_up();
    let name = pair.name();
    let run = pair.tool.run(&["snapshot", "create", &name, "--verify"]);
    let failed = run.expect_code(1).json()["snapshot"].clone();
    assert_eq!(failed["proof"], "failed", "{failed}");
    let reason = failed["state_reason"].to_string();
    assert!(
        reason.contains("links lead out of the snapshot"),
        "{reason}"
    );
    assert!(
        failed["warnings"]
            .to_string()
            .contains("isn't the server's")
    );
    let copy = pair.base().join("to").display().to_string();
    sh(&["install", "-d", "-m", "0700", &copy]);
    let restore = ["snapshot", "restore", &id(&failed), "--to", &copy];
    let run = pair.tool.run(&restore);
    assert_ne!(run.code(), 0, "{}", run.stdout);
    sh(&["rm", "-rf", &copy]);
    pair.delete_all();
    never_calls_good_other_engines_there(pair, &to);
    // Given to the account of the data, it is taken, or refused, but never passed over.
    sh(&["chown", "-R", "0", &to.display().to_string()]);
    let run = pair.tool.run(&["snapshot", "create", &name]);
    let text = run.expect_code(4).stdout;
    assert!(text.contains(&to.display().to_string()), "{text}");
    pair.replica.shut_down();
    std::fs::remove_file(&at).unwrap();
    sh(&[
        "cp",
        "-a",
        &to.display().to_string(),
        &at.display().to_string(),
    ]);
    pair.replica.restart();
    pair.replica
        .execute_unlogged(&["DROP DATABASE moved".to_owned()]);
    pair.wait_caught_up();
}

/// Aria and MyISAM have no dictionary that names their files: single ones of them, and a whole database
/// without InnoDB.
fn never_calls_good_other_engines_there(pair: &mut Pair, elsewhere: &std::path::Path) {
    let name = pair.name();
    let own = pair.replica.data_dir.join("other");
    pair.replica.execute_unlogged(&[
        "CREATE DATABASE other".to_owned(),
        "CREATE TABLE other.m (id INT PRIMARY KEY) ENGINE=MyISAM".to_owned(),
        "CREATE TABLE other.a (id INT PRIMARY KEY) ENGINE=Aria".to_owned(),
    ]);
    // The other database is good meanwhile.
    let moved = pair.replica.data_dir.join("moved");
    let link = std::fs::read_link(&moved).unwrap();
    pair.replica.shut_down();
    std::fs::remove_file(&moved).unwrap();
    sh(&[
        "cp",
        "-a",
        &link.display().to_string(),
        &moved.display().to_string(),
    ]);
    sh(&["chown", "-R", "0", &moved.display().to_string()]);
    let away = |file: &str| {
        let (from, to) = (own.join(file), elsewhere.join(file));
        sh(&[
            "cp",
            "-a",
            &from.display().to_string(),
            &to.display().to_string(),
        ]);
        sh(&["chown", "12345", &to.display().to_string()]);
        std::fs::remove_file(&from).unwrap();
        std::os::unix::fs::symlink(&to, &from).unwrap();
    };
    for file in ["m.MYD", "a.MAI", "whole"] {
        match file {
            "whole" => {
                let to = elsewhere.join(file);
                sh(&[
                    "cp",
                    "-aL",
                    &own.display().to_string(),
                    &to.display().to_string(),
                ]);
                sh(&["chown", "-R", "12345", &to.display().to_string()]);
                std::fs::remove_dir_all(&own).unwrap();
                std::os::unix::fs::symlink(&to, &own).unwrap();
            }
            file => away(file),
        }
        pair.replica.restart();
        pair.wait_caught_up();
        let run = pair.tool.run(&["snapshot", "create", &name, "--verify"]);
        let failed = run.expect_code(1).json()["snapshot"].clone();
        let reason = failed["state_reason"].to_string();
        let led = match file {
            "whole" => "links lead out of the snapshot to other:".to_owned(),
            file => format!("other/{file}"),
        };
        assert!(reason.contains(&led), "{led}: {reason}");
        pair.delete_all();
        pair.replica.shut_down();
        if let Ok(target) = std::fs::read_link(own.join(file)) {
            std::fs::remove_file(own.join(file)).unwrap();
            sh(&[
                "cp",
                "-a",
                &target.display().to_string(),
                &own.join(file).display().to_string(),
            ]);
            sh(&["chown", "0", &own.join(file).display().to_string()]);
        }
    }
    std::fs::remove_file(&own).unwrap();
    std::fs::remove_dir_all(&moved).unwrap();
    std::os::unix::fs::symlink(&link, &moved).unwrap();
    sh(&["rm", "-rf", &elsewhere.join("whole").display().to_string()]);
    for file in ["m.MYD", "a.MAI"] {
        std::fs::remove_file(elsewhere.join(file)).unwrap();
    }
    pair.replica.restart();
    pair.wait_caught_up();
}

/// Its paths are those of its own mount namespace; the tool is told nothing of them.
fn finds_the_files_of_a_server_in_a_container(pair: &mut Pair) {
    let inside = pair.base().join("inside");
    std::fs::create_dir(&inside).unwrap();
    pair.replica.shut_down();
    pair.replica.inside = Some(inside.clone());
    pair.replica.restart();
    pair.wait_caught_up();
    let seen = pair.replica.value("SELECT @@GLOBAL.datadir");
    assert!(seen.starts_with(&inside.display().to_string()), "{seen}");
    assert!(std::fs::read_dir(&inside).unwrap().next().is_none());
    let before = Footprint::of(pair);
    let load = Load::start(&pair.source, Duration::from_millis(5));
    let offset = load.offset;
    sleep(Duration::from_millis(300));
    let snapshot = pair.create(&["--verify"]);
    load.stop();
    assert_eq!(snapshot["backend"], "btrfs");
    assert_eq!(snapshot["proof"], "booted", "{snapshot}");
    before.assert_nothing_left(pair);
    {
        let restored = Restored::boot(pair, &snapshot);
        restored.assert_is_at(&snapshot, offset);
        restored.assert_catches_up();
    }
    let to = pair.base().join("to").display().to_string();
    sh(&["install", "-d", "-m", "0700", &to]);
    pair.tool
        .run(&["snapshot", "restore", &id(&snapshot), "--to", &to])
        .ok();
    sh(&["rm", "-rf", &to]);
    pair.delete_all();
    pair.replica.shut_down();
    pair.replica.inside = None;
    pair.replica.restart();
    pair.wait_caught_up();
    std::fs::remove_dir(&inside).unwrap();
}

/// The server's program is nowhere on this host but in the container's root, with loader and libraries.
fn proves_with_the_program_of_a_container(pair: &mut Pair) {
    let name = pair.name();
    let root = pair.base().join("root");
    make_root(&root);
    let (data, place) = (pair.replica.data_dir.clone(), pair.replica.place.clone());
    let give = |owner: &str| {
        for path in [&data, &place] {
            sh(&["chown", "-R", owner, &path.display().to_string()]);
        }
    };
    let program = pair.replica.program.clone();
    pair.replica.shut_down();
    give("65534:65534");
    pair.replica.inside = Some("/var/lib/mysql".into());
    pair.replica.root = Some(root.clone());
    pair.replica.program = "/usr/sbin/mysqld".into();
    pair.replica.restart();
    pair.wait_caught_up();
    let before = Footprint::of(pair);
    let snapshot = pair.create(&[]);
    assert_eq!(snapshot["boot"]["in_container"], true, "{snapshot}");
    let verify = ["snapshot", "verify", &id(&snapshot)];

    // Not unless it is asked for, and the refusal says how to ask.
    let text = pair.tool.run(&verify).expect_code(4).stdout;
    assert!(text.contains("server_binary = \\\"container\\\""), "{text}");
    let asked = format!("[server.{name}.service]\nserver_binary = \"container\"");
    pair.configure(|settings| settings.snapshot.clone_from(&asked));
    let proven = pair.tool.run(&verify).ok().json()["snapshot"].clone();
    assert_eq!(proven["proof"], "booted", "{proven}");
    let verification = &proven["verification"];
    assert_eq!(verification["server_binary"], "container:/usr/sbin/mysqld");
    before.assert_nothing_left(pair);
    let to = pair.base().join("to").display().to_string();
    sh(&["install", "-d", "-m", "0700", &to]);
    pair.tool
        .run(&["snapshot", "restore", &id(&snapshot), "--to", &to])
        .ok();
    sh(&["rm", "-rf", &to]);
    uses_the_clients_of_a_container(pair, &root, &id(&snapshot));
    before.assert_nothing_left(pair);

    pair.replica.shut_down();
    let text = pair.tool.run(&verify).expect_code(4).stdout;
    assert!(
        text.contains(&format!("the container of {name} isn't running")),
        "{text}"
    );
    give("0:0");
    (pair.replica.inside, pair.replica.root) = (None, None);
    pair.replica.program = program;
    pair.replica.restart();
    pair.wait_caught_up();
    let text = pair.tool.run(&verify).expect_code(4).stdout;
    assert!(text.contains("never run as root"), "{text}");
    pair.configure(|settings| settings.snapshot.clear());
    pair.delete_all();
    sh(&["rm", "-rf", &root.display().to_string()]);
}

/// This host has MariaDB's under their names.
fn uses_the_clients_of_a_container(pair: &Pair, root: &std::path::Path, proven: &str) {
    pair.source
        .execute("CREATE TABLE lab.clients (id INT PRIMARY KEY)");
    pair.source.execute("INSERT INTO lab.clients VALUES (1)");
    pair.wait_caught_up();
    let second = id(&pair.create(&[]));
    let file = pair.base().join("t.sql").display().to_string();
    let extract = [
        "snapshot",
        "extract",
        &second,
        "--table",
        "lab.clients",
        "--to",
        &file,
    ];
    let verify = ["snapshot", "verify", &second, "--level", "rows"];
    let places = "in the container, or on this host";
    let refused = pair.tool.run(&extract).expect_code(4).json();
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains(places), "{message}");
    let checked = pair.tool.run(&verify).ok().json()["snapshot"].clone();
    assert_eq!(checked["proof"], "checked");
    let warnings = checked["verification"]["warnings"].to_string();
    assert!(warnings.contains(places), "{warnings}");

    for program in ["mysql", "mysqldump", "mysqlbinlog"] {
        put_program(root, program, "usr/bin");
    }
    pair.tool.run(&extract).ok();
    let sql = std::fs::read_to_string(&file).unwrap();
    assert!(sql.contains("INSERT INTO `clients`"), "{sql}");
    std::fs::remove_file(&file).unwrap();
    let compared = pair.tool.run(&verify).ok().json()["snapshot"].clone();
    assert_eq!(compared["proof"], "rows", "{compared}");
    assert_eq!(compared["verification"]["compared_with"], proven);
    pair.source.execute("DROP TABLE lab.clients");
    pair.wait_caught_up();
}

/// A container of podman's, stopped for the snapshot and started again; its own program proves it.
fn stops_and_starts_a_container(pair: &mut Pair) {
    const PODMAN: &str = "/usr/bin/podman";
    let name = pair.name();
    if !["/usr/sbin/runc", PODMAN]
        .iter()
        .all(|path| std::path::Path::new(path).exists())
    {
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!in_ci, "podman and runc are missing");
        eprintln!("SKIPPED: podman and runc are missing");
        return;
    }
    let root = pair.base().join("root");
    make_root(&root);
    let (data, place) = (pair.replica.data_dir.clone(), pair.replica.place.clone());
    let give = |owner: &str| {
        for path in [&data, &place] {
            sh(&["chown", "-R", owner, &path.display().to_string()]);
        }
    };
    pair.replica.shut_down();
    give("65534:65534");
    let argv: Vec<String> = pair.replica.argv();
    let own = format!("--datadir={}", data.display());
    let argv = argv.iter().skip(1).map(|word| match *word == own {
        true => "--datadir=/var/lib/mysql",
        false => word,
    });
    let volumes = [
        format!("--volume={}:/var/lib/mysql", data.display()),
        format!("--volume={0}:{0}", place.display()),
    ];
    // Limits that the machine of the test may give; the network is this host's, where the source is.
    let mut create = vec![
        PODMAN,
        "--runtime=/usr/sbin/runc",
        "create",
        "--name",
        &name,
    ];
    create.extend(["--network=host", "--user=65534:65534", "--log-driver=none"]);
    create.extend(["--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"]);
    create.extend(volumes.iter().map(String::as_str));
    let (rootfs, program) = (root.display().to_string(), "/usr/sbin/mysqld");
    create.extend(["--rootfs", &rootfs, program]);
    create.extend(argv);
    sh(&create);
    let container = Container(name.clone());
    let settings = format!(
        "consistency = \"stop\"\n[server.{name}.service]\nserver_binary = \"container\"\n\
         container = {name:?}\nruntime = \"podman\""
    );
    sh(&[PODMAN, "start", &name]);
    pair.replica.wait_ready();
    pair.wait_caught_up();
    pair.configure(|own| own.snapshot = settings);
    let doctor = pair.tool.run(&["doctor", &name]).stdout;
    assert!(doctor.contains("can be stopped and started"), "{doctor}");
    let load = Load::start(&pair.source, Duration::from_millis(5));
    let offset = load.offset;
    let snapshot = pair.create(&["--verify"]);
    load.stop();
    assert_eq!(snapshot["consistency"], "stop");
    assert_eq!(snapshot["proof"], "booted", "{snapshot}");
    let program = &snapshot["verification"]["server_binary"];
    assert_eq!(program, "container:/usr/sbin/mysqld");
    {
        let restored = Restored::boot(pair, &snapshot);
        restored.assert_is_at(&snapshot, offset);
    }
    pair.wait_caught_up();
    drop(container);
    let doctor = pair.tool.run(&["doctor", &name]).stdout;
    assert!(doctor.contains("no such container"), "{doctor}");
    give("0:0");
    pair.replica.restart();
    pair.configure_plain();
    pair.delete_all();
    sh(&["rm", "-rf", &root.display().to_string()]);
}

/// Removed with the test, also when it fails.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        let argv = ["/usr/bin/podman", "rm", "--force", "--time=60", &self.0];
        drop(
            std::process::Command::new(argv[0])
                .args(&argv[1..])
                .status(),
        );
    }
}

/// MySQL 9.7 where its packages would put it, and nothing else.
fn make_root(root: &std::path::Path) {
    let home = Flavour::Mysql97.home();
    let at = |path: &str| root.join(path).display().to_string();
    let of = |path: &str| home.join(path).display().to_string();
    sh(&[
        "mkdir",
        "-p",
        &at("usr/sbin"),
        &at("lib64"),
        &at("var/lib/mysql"),
    ]);
    sh(&[
        "cp",
        "-a",
        "--reflink=auto",
        &of("lib"),
        &of("share"),
        &at("usr"),
    ]);
    let loader = "ld-linux-x86-64.so.2";
    std::os::unix::fs::symlink(
        format!("../usr/lib/x86_64-linux-gnu/{loader}"),
        root.join("lib64").join(loader),
    )
    .unwrap();
    sh(&["mkdir", "-p", &at("usr/bin")]);
    put_program(root, "mysqld", "usr/sbin");
}

/// From the lab into a root.
fn put_program(root: &std::path::Path, name: &str, place: &str) {
    let from = Flavour::Mysql97.home().join("bin").join(name);
    let program = root.join(place).join(name).display().to_string();
    sh(&["cp", &from.display().to_string(), &program]);
    let interpreter = "/lib64/ld-linux-x86-64.so.2";
    sh(&["patchelf", "--set-interpreter", interpreter, &program]);
    sh(&["patchelf", "--remove-rpath", &program]);
}

/// Whatever people put into a data directory: none of it is followed, opened or in the way.
fn keeps_odd_files_as_they_are(pair: &mut Pair) {
    let data = pair.replica.data_dir.clone();
    let at = |name: &str| data.join(name);
    let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, at(name)).unwrap();
    link("/etc", "a-link-to-etc");
    link("/usr/bin/env", "lab/a-link-to-a-program");
    link("/nowhere/at/all", "a-dangling-link");
    sh(&["mkfifo", &at("a-fifo").display().to_string()]);
    let socket = std::os::unix::net::UnixListener::bind(at("a-socket")).unwrap();
    std::fs::write(at("two\nlines"), "x").unwrap();
    std::fs::create_dir_all(at("lost+found")).unwrap();
    let base = pair.base().to_owned();
    std::fs::create_dir_all(base.join("kept")).unwrap();
    let beside = pair.volume.mount.join("beside");
    std::fs::create_dir_all(&beside).unwrap();
    for backend in ["btrfs", "reflink", "copy"] {
        let kept = match backend {
            "reflink" => beside.clone(),
            _ => base.join("kept"),
        };
        pair.configure(|settings| {
            settings.backend = backend.to_owned();
            if backend != "btrfs" {
                settings.snapshot = format!("directory = \"{}\"", kept.display());
            }
        });
        let snapshot = pair.create(&["--verify"]);
        assert_eq!(snapshot["proof"], "booted", "{backend}: {snapshot}");
        let warnings = snapshot["warnings"].to_string();
        assert!(warnings.contains("a-link-to-etc"), "{backend}: {warnings}");
        let to = base.join("to");
        sh(&["install", "-d", "-m", "0700", &to.display().to_string()]);
        let restore = [
            "snapshot",
            "restore",
            &id(&snapshot),
            "--to",
            to.to_str().unwrap(),
        ];
        pair.tool.run(&restore).ok();
        let restored = std::fs::read_link(to.join("a-link-to-etc"));
        assert_eq!(restored.unwrap(), std::path::Path::new("/etc"), "{backend}");
        std::fs::remove_dir_all(&to).unwrap();
        pair.delete_all();
    }
    drop(socket);
    for name in [
        "a-link-to-etc",
        "lab/a-link-to-a-program",
        "a-dangling-link",
        "a-fifo",
        "a-socket",
        "two\nlines",
    ] {
        std::fs::remove_file(at(name)).unwrap();
    }
    std::fs::remove_dir(at("lost+found")).unwrap();
    pair.configure_plain();
    pair.wait_caught_up();
}

fn proves_each_way_to_hold_the_moment(pair: &mut Pair) {
    let service = pair.put_under_a_service();
    for consistency in ["pause", "lock", "stop"] {
        pair.configure(|settings| {
            settings.snapshot = service.replace("\"stop\"", &format!("\"{consistency}\""));
        });
        let load = Load::start(&pair.source, Duration::from_millis(5));
        let offset = load.offset;
        sleep(Duration::from_millis(300));
        let snapshot = pair.create(&["--verify"]);
        load.stop();
        assert_eq!(snapshot["consistency"], consistency);
        assert_eq!(snapshot["proof"], "booted", "{consistency}: {snapshot}");
        {
            let restored = Restored::boot(pair, &snapshot);
            restored.assert_is_at(&snapshot, offset);
            restored.assert_catches_up();
        }
        pair.wait_caught_up();
        pair.delete_all();
    }
    pair.configure_plain();
}

/// A btrfs of its own, unmounted when this is dropped.
struct TopLevel {
    device: String,
    at: PathBuf,
    again: PathBuf,
}

impl TopLevel {
    fn make(pair: &Pair) -> Self {
        let (at, again) = (pair.base().join("top"), pair.base().join("again"));
        let image = pair.base().join("top.image");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(2000 << 20).unwrap();
        for dir in [&at, &again] {
            std::fs::create_dir(dir).unwrap();
        }
        let (image, path) = (image.display().to_string(), at.display().to_string());
        sh(&["mkfs.btrfs", "-q", &image]);
        // Its own loop device, which outlives an unmounting.
        let device = sh(&["losetup", "--show", "-f", &image]).trim().to_owned();
        let top = Self { device, at, again };
        sh(&["mount", &top.device, &path]);
        top
    }
}

impl Drop for TopLevel {
    fn drop(&mut self) {
        for dir in [&self.again, &self.at] {
            drop(try_sh(&["umount", "-R", &dir.display().to_string()]));
        }
        drop(try_sh(&["losetup", "-d", &self.device]));
    }
}

/// Without a directory elsewhere it is refused, with one copied; and after the commands that the
/// refusals name it is a btrfs snapshot.
fn cures_data_at_the_top_level_of_btrfs(pair: &mut Pair) {
    let home = pair.replica.data_dir.clone();
    pair.replica.shut_down();
    let top = TopLevel::make(pair);
    let path = |path: &Path| path.display().to_string();
    sh(&["cp", "-a", &path(&home.join(".")), &path(&top.at)]);
    pair.replica.data_dir = top.at.clone();
    pair.replica.restart();
    pair.wait_caught_up();
    let set_directory = |pair: &Pair, directory: &Path| {
        std::fs::create_dir(directory).unwrap();
        let line = format!("directory = \"{}\"", directory.display());
        pair.configure(|settings| settings.snapshot = line);
    };
    let hint = |pair: &Pair| {
        let run = pair.tool.run(&["snapshot", "create", &pair.name()]);
        let error = run.expect_code(4).json()["error"].clone();
        assert!(error.to_string().contains("subvol"), "{error}");
        error.to_string()
    };
    let command = hint(pair).split('`').nth(1).unwrap().to_owned();
    set_directory(pair, &pair.base().join("elsewhere"));
    let snapshot = pair.create(&["--verify"]);
    assert_eq!(
        (&snapshot["backend"], &snapshot["proof"]),
        (&"copy".into(), &"booted".into())
    );
    pair.delete_all();
    pair.configure_plain();

    pair.replica.shut_down();
    sh(&["sh", "-c", &command]);
    pair.replica.restart();
    pair.wait_caught_up();
    let mount = hint(pair)
        .split('`')
        .nth(1)
        .unwrap()
        .replace("DIR", &path(&top.again));
    sh(&["sh", "-c", &mount]);
    set_directory(pair, &top.again.join("kept"));
    let snapshot = pair.create(&["--verify"]);
    assert_eq!(
        (&snapshot["backend"], &snapshot["proof"]),
        (&"btrfs".into(), &"booted".into())
    );
    pair.delete_all();
    pair.configure_plain();
    pair.replica.shut_down();
    pair.replica.data_dir = home;
    drop(top);
    pair.replica.restart();
    pair.wait_caught_up();
}

/// Every way to a snapshot's data that boots a server does without them; in place is refused.
fn restores_a_copy_without_the_logs_that_lie_apart(pair: &mut Pair) {
    let load = Load::start(&pair.source, Duration::ZERO);
    sleep(Duration::from_millis(300));
    let name = pair.name();
    let dry = pair
        .tool
        .run(&["snapshot", "create", &name, "--dry-run"])
        .ok();
    let takes = dry.json()["plan"]["takes"].clone();
    let of = |what: &str| {
        let all = takes.as_array().unwrap().iter();
        all.clone().find(|one| one["what"] == what).unwrap().clone()
    };
    assert_eq!(of("data")["filesystem"], "btrfs", "{takes}");
    assert_eq!(of("binary log")["from"], Value::Null, "{takes}");
    let snapshot = pair.create(&["--verify"]);
    load.stop();
    let chosen = id(&snapshot);
    assert_eq!(snapshot["proof"], "booted", "{snapshot}");
    assert!(snapshot["warnings"].to_string().contains("binlog"));
    let checked = pair
        .tool
        .run(&["snapshot", "verify", &chosen, "--level", "tables"]);
    assert_eq!(checked.ok().json()["snapshot"]["proof"], "checked");
    let to = pair.base().join("to").display().to_string();
    sh(&["install", "-d", "-m", "0700", &to]);
    pair.tool
        .run(&["snapshot", "restore", &chosen, "--to", &to])
        .ok();
    assert!(!std::path::Path::new(&to).join("binlog.index").exists());
    pair.configure(|settings| {
        settings.more =
            format!("[server.{name}.service]\nstart = [\"/bin/true\"]\nstop = [\"/bin/true\"]\n");
    });
    let in_place = ["snapshot", "restore", &chosen, "--in-place", "--yes"];
    let refused = pair.tool.run(&in_place).expect_code(4);
    assert!(
        refused.stdout.contains("another time"),
        "{}",
        refused.stdout
    );
    pair.configure_plain();
    sh(&["rm", "-rf", &to]);
    pair.wait_caught_up();
    pair.delete_all();
}

/// Whether a commit is in the files is a matter of two settings, and what we set for the moment is
/// set back. The usual 1 and 1 are what all other cases run with.
fn holds_every_commit_whatever_the_commit_settings(pair: &mut Pair) {
    const SETTINGS: [&str; 3] = [
        "innodb_flush_log_at_trx_commit",
        "innodb_flush_log_at_timeout",
        "sync_binlog",
    ];
    let set = |values: [u32; 3]| {
        for (name, value) in SETTINGS.iter().zip(values) {
            pair.replica
                .execute(&format!("SET GLOBAL {name} = {value}"));
        }
    };
    let now = || SETTINGS.map(|name| pair.replica.value(&format!("SELECT @@GLOBAL.{name}")));
    let before = now().map(|value| value.parse().unwrap());
    let all = [[0, 1, 0], [0, 2700, 1], [2, 1, 0], [2, 2700, 1]];
    let cells = match pair.storage {
        _ if in_guest() => &all[1..2],
        Storage::Btrfs => &all[..],
        // It is the server that matters; what it stands on is read in the same moment.
        _ => &all[..2],
    };
    for values in cells {
        set(*values);
        let load = Load::start(&pair.source, Duration::ZERO);
        sleep(Duration::from_millis(400));
        let snapshot = pair.create(&["--verify"]);
        assert_eq!(now(), values.map(|value| value.to_string()), "set back");
        let offset = load.offset;
        load.stop();
        assert_eq!(snapshot["proof"], "booted", "{values:?}: {snapshot}");
        {
            let restored = Restored::boot(pair, &snapshot);
            restored.assert_is_at(&snapshot, offset);
            restored.assert_catches_up();
        }
        pair.wait_caught_up();
        pair.delete_all();
    }
    set(before);
}

/// Every field that cli.md promises.
fn assert_contract(pair: &Pair, snapshot: &Value) {
    let (backend, kind) = pair.storage.backend();
    assert!(id(snapshot).starts_with(&format!("{}-20", pair.name())));
    assert_eq!(snapshot["server"], pair.name());
    assert!(snapshot["pair"].is_string());
    assert_eq!(snapshot["backend"], backend);
    assert_eq!(snapshot["backend_kind"], kind);
    assert_eq!(snapshot["consistency"], "pause");
    assert_eq!(snapshot["label"], "nightly");
    assert_eq!(snapshot["tags"], serde_json::json!({"ticket": "17"}));
    assert_eq!(snapshot["held"], false);
    assert_eq!(snapshot["proof"], "taken");
    assert_eq!(snapshot["proof_time"], Value::Null);
    assert_eq!(snapshot["state"], "complete");
    assert_eq!(snapshot["state_reason"], Value::Null);
    let created = snapshot["created"].as_str().unwrap();
    assert!(created.ends_with('Z') && created.len() == 24, "{created}");
    assert!(created.parse::<jiff::Timestamp>().is_ok(), "{created}");
    let version = snapshot["server_version"].as_str().unwrap();
    assert!(
        pair.replica.value("SELECT VERSION()").starts_with(version),
        "{version}"
    );
    assert!(snapshot["server_identity"].is_string());
    assert_position(pair, &snapshot["position"]);
    let volumes = snapshot["volumes"].as_array().unwrap();
    assert_eq!(volumes.len(), 1, "{volumes:?}");
    for field in ["origin", "name", "path"] {
        assert!(volumes[0][field].is_string(), "{field}: {volumes:?}");
    }
    assert!(volumes[0].get("bytes_used").is_some());
    let timing = &snapshot["timing"];
    let ms = |name: &str| {
        timing[name]
            .as_u64()
            .unwrap_or_else(|| panic!("{name}: {timing}"))
    };
    let inside = ms("stop_ms") + ms("settle_ms") + ms("snapshot_ms") + ms("start_ms");
    assert!(ms("pause_ms").abs_diff(inside) <= 3, "{timing}");
    assert!(ms("total_ms") >= ms("pause_ms"), "{timing}");
}

fn assert_position(pair: &Pair, position: &Value) {
    assert!(!position["gtid"].as_str().unwrap().is_empty());
    let channels = position["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 1);
    assert_eq!(channels[0]["name"], "");
    assert_eq!(channels[0]["source_host"], "127.0.0.1");
    assert_eq!(channels[0]["source_port"], pair.source.port);
    let file = channels[0]["source_log_file"].as_str().unwrap();
    assert!(file.starts_with("binlog."), "{file}");
    assert!(channels[0]["source_log_pos"].as_u64().unwrap() > 0);
    assert!(
        position["own_log_file"]
            .as_str()
            .unwrap()
            .starts_with("binlog.")
    );
    assert!(position["own_log_pos"].as_u64().unwrap() > 0);
}

fn holds_deletes_and_finds_by_prefix(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let first = id(&pair.create(&["--hold"]));
    let second = id(&pair.create(&[]));
    let listed: Vec<String> = pair.list().iter().map(id).collect();
    assert_eq!(listed, [second.clone(), first.clone()], "newest first");
    let show = |wanted: &str| pair.tool.run(&["snapshot", "show", wanted]);
    let latest = show(&format!("latest:{}", pair.name())).ok().json();
    assert_eq!(latest["snapshot"]["id"], second);
    let without_last = &first[..first.len() - 1];
    assert_eq!(show(without_last).ok().json()["snapshot"]["id"], first);
    let ambiguous = show(&pair.name()).expect_code(2);
    assert_eq!(ambiguous.error().0, "usage");
    show("no-such-snapshot").expect_code(2);

    let delete = |wanted: &str, more: &[&str]| {
        let args = [&["snapshot", "delete", wanted], more].concat();
        pair.tool.run(&args)
    };
    let held = delete(&first, &["--yes"]).expect_code(4);
    assert_eq!(held.error().0, "refused");
    assert!(held.stdout.contains("snapshot release"), "{}", held.stdout);
    let unconfirmed = delete(&second, &[]);
    assert!(unconfirmed.code() != 0, "deleted without being asked");
    delete(&second, &["--dry-run"]).ok();
    assert_eq!(pair.list().len(), 2);
    delete(&second, &["--yes"]).ok();
    assert_eq!(pair.volume.kept_of(&second), Vec::<String>::new());

    let released = pair.tool.run(&["snapshot", "release", &first]).ok().json();
    assert_eq!(released["changed"], true);
    let again = pair.tool.run(&["snapshot", "release", &first]).ok().json();
    assert_eq!(again["changed"], false);
    let hold = pair.tool.run(&["snapshot", "hold", &first]).ok().json();
    assert_eq!(hold["snapshot"]["held"], true);
    pair.tool.run(&["snapshot", "release", &first]).ok();
    delete(&format!("latest:{}", pair.name()), &["--yes"]).ok();
    assert_eq!(pair.list(), Vec::<Value>::new());
    before.assert_nothing_new(pair);
}

fn prunes_with_a_reason_for_each(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let held = id(&pair.create(&["--hold"]));
    let surplus = id(&pair.create(&[]));
    let newest = id(&pair.create(&[]));
    let prune = |more: &[&str]| {
        let name = pair.name();
        let args = [&["snapshot", "prune", &name], more].concat();
        pair.tool.run(&args).ok().json()
    };
    // No rule keeps everything.
    for one in prune(&["--dry-run"])["pruned"].as_array().unwrap() {
        assert_eq!(one["keep"], true, "{one}");
    }
    pair.configure(|settings| settings.snapshot = "keep = { last = 1 }".to_owned());
    let planned = prune(&["--dry-run"]);
    let planned = planned["pruned"].as_array().unwrap();
    assert_eq!(planned.len(), 3);
    for one in planned {
        let reasons = one["reasons"].as_array().unwrap();
        assert!(!reasons.is_empty(), "no reason: {one}");
        assert_eq!(one["keep"], one["id"] != surplus.as_str(), "{one}");
    }
    assert_eq!(pair.list().len(), 3, "a dry run deleted something");
    prune(&["--yes"]);
    let left: Vec<String> = pair.list().iter().map(id).collect();
    assert_eq!(left, [newest, held]);
    assert_eq!(pair.volume.kept_of(&surplus), Vec::<String>::new());
    pair.configure_plain();
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn lists_volumes_without_manifest_as_orphans(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let snapshot = pair.create(&["--label", "lost"]);
    let lost = id(&snapshot);
    let manifest = pair.state_dir().join(format!("snapshots/{lost}.json"));
    std::fs::remove_file(manifest).unwrap();
    let listed = pair.list();
    assert_eq!(listed.len(), 1, "{listed:?}");
    let orphan = &listed[0];
    assert_eq!(orphan["id"], lost);
    assert_eq!(orphan["state"], "orphan");
    assert_eq!(orphan["server"], pair.name());
    assert_eq!(orphan["volumes"][0]["name"], snapshot["volumes"][0]["name"]);
    // What it knows by itself.
    let gtid = |value: &Value| {
        let text = value["position"]["gtid"].as_str().unwrap_or_default();
        text.replace(char::is_whitespace, "")
    };
    assert_eq!(gtid(orphan), gtid(&snapshot));
    assert_eq!(orphan["server_version"], snapshot["server_version"]);
    // Neither is it taken for a leftover.
    pair.tool.run(&["recover", &pair.name()]).ok();
    pair.tool
        .run(&["snapshot", "prune", &pair.name(), "--yes"])
        .ok();
    assert_eq!(pair.list().len(), 1);
    pair.tool.run(&["snapshot", "delete", &lost, "--yes"]).ok();
    assert_eq!(pair.volume.kept_of(&lost), Vec::<String>::new());
    before.assert_nothing_new(pair);
}

/// A source that hangs, and a snapshot that is ahead of it by what was written to the replica.
fn tells_what_fits_and_waits_for_no_source(pair: &mut Pair) {
    use nix::sys::signal::Signal;
    let good = pair.create(&[]);
    assert_eq!(good["fit"], Value::Null);
    let of = |wanted: &str| {
        let listed = pair.list();
        listed.into_iter().find(|one| one["id"] == wanted).unwrap()
    };
    assert_eq!(of(&id(&good))["fit"], "fits");
    pair.source.signal(Signal::SIGSTOP);
    let since = std::time::Instant::now();
    let listed = of(&id(&good));
    let took = since.elapsed();
    let shown = pair
        .tool
        .run(&["snapshot", "show", &format!("latest:{}", pair.name())]);
    pair.source.signal(Signal::SIGCONT);
    assert!(took < limit(4), "{took:?}");
    assert_eq!(listed["fit"], "unknown", "{listed}");
    assert!(listed["fit_reason"].is_string(), "{listed}");
    assert_eq!(shown.ok().json()["snapshot"]["id"], good["id"]);

    pair.replica.execute("CREATE DATABASE here_only");
    let ahead = pair.create(&[]);
    let one = of(&id(&ahead));
    assert_eq!(one["fit"], "ahead", "{one}");
    assert_eq!(one["ahead_transactions"], 1, "{one}");
    assert_eq!(one["lost_in"], Value::Null, "{one}");
    let latest = format!("latest:{}", pair.name());
    let shown = pair.tool.run(&["snapshot", "show", &latest]).ok();
    assert_eq!(shown.json()["snapshot"]["id"], good["id"]);
    pair.tool
        .run(&["snapshot", "delete", &id(&good), "--yes"])
        .ok();
    pair.tool.run(&["snapshot", "show", &latest]).expect_code(4);
    pair.replica.execute("DROP DATABASE here_only");
}

/// A cut file, and a flipped byte that is no text any more.
fn lists_the_others_beside_a_spoilt_manifest(pair: &mut Pair) {
    let good = id(&pair.create(&[]));
    let spoilt = id(&pair.create(&["--label", "spoilt"]));
    let path = pair.state_dir().join(format!("snapshots/{spoilt}.json"));
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[20] ^= 0x80;
    for bytes in [&whole[..whole.len() / 2], &flipped, &[]] {
        std::fs::write(&path, bytes).unwrap();
        let listed = pair.list();
        let of = |wanted: &str| listed.iter().find(|one| one["id"] == wanted).unwrap();
        assert_eq!(listed.len(), 2, "{listed:?}");
        assert_eq!(of(&good)["state"], "complete");
        assert_eq!(of(&spoilt)["state"], "invalid");
        let reason = of(&spoilt)["state_reason"].to_string();
        assert!(reason.contains(&path.display().to_string()), "{reason}");
        pair.tool.run(&["snapshot", "show", &good]).ok();
        pair.tool.run(&["snapshot", "show", &spoilt]).ok();
        let name = pair.name();
        pair.tool.run(&["snapshot", "prune", &name, "--yes"]).ok();
        let delete = ["snapshot", "delete", &spoilt, "--yes"];
        pair.tool.run(&delete).expect_code(4);
        assert_eq!(pair.volume.kept_of(&spoilt).len(), 1);
    }
    // As the message says: without the file the volume itself tells.
    std::fs::remove_file(&path).unwrap();
    assert_eq!(pair.list()[0]["state"], "orphan");
    pair.delete_all();
    assert_eq!(pair.volume.kept_of(&spoilt), Vec::<String>::new());
    let name = pair.name();
    for args in [["--label", "a\u{1b}[2Jb"], ["--tag", "k=\n"]] {
        let create = [&["snapshot", "create", &name][..], &args].concat();
        pair.tool.run(&create).expect_code(2);
    }
}

/// Names like ours, made by others.
fn leaves_lookalikes_alone(pair: &mut Pair) {
    let name = format!("{}-20200101T000000Z-abcd", pair.name());
    let group = &pair.volume.name;
    let undo: Vec<String> = match pair.storage {
        Storage::Copy | Storage::Reflink | Storage::ReflinkBtrfs | Storage::Btrfs => {
            let dir = pair.volume.kept_dir().unwrap().join(&name);
            std::fs::create_dir_all(dir.join("data")).unwrap();
            std::fs::write(dir.join("data/precious"), "x").unwrap();
            vec!["rm".to_owned(), "-rf".to_owned(), dir.display().to_string()]
        }
        Storage::LvmThick | Storage::LvmThin => {
            let lv = format!("understudy-{name}");
            sh(&["lvcreate", "-q", "-y", "-L", "4m", "-n", &lv, group]);
            ["lvremove", "-q", "-f", &format!("{group}/{lv}")]
                .map(str::to_owned)
                .to_vec()
        }
        Storage::Zfs => {
            let snapshot = format!("{group}/mysql@understudy-{name}");
            sh(&["zfs", "snapshot", &snapshot]);
            ["zfs", "destroy", &snapshot].map(str::to_owned).to_vec()
        }
    };
    let kept: BTreeSet<String> = pair.volume.kept();
    assert!(kept.iter().any(|kept| kept.contains(&name)), "{kept:?}");
    let shown = pair.list();
    pair.tool.run(&["recover", &pair.name()]).ok();
    pair.configure(|settings| settings.snapshot = "keep = { last = 1 }".to_owned());
    pair.tool
        .run(&["snapshot", "prune", &pair.name(), "--yes"])
        .ok();
    let deleted = pair.tool.run(&["snapshot", "delete", &name, "--yes"]);
    let after = pair.volume.kept();
    let undo: Vec<&str> = undo.iter().map(String::as_str).collect();
    sh(&undo);
    pair.configure_plain();
    assert_eq!(shown, Vec::<Value>::new(), "a look-alike is listed");
    assert!(deleted.code() != 0, "a look-alike was deleted");
    assert_eq!(after, kept);
}

fn leaves_an_applier_stopped_that_was_stopped(pair: &mut Pair) {
    pair.replica
        .execute(&pair.flavour.replica_statement("STOP", "SQL_THREAD", ""));
    let before = Footprint::of(pair);
    assert_eq!(
        pair.replica.sql_threads(),
        [(String::new(), "No".to_owned())]
    );
    let snapshot = pair.create(&[]);
    let warnings = snapshot["warnings"].to_string();
    assert!(warnings.contains("stays stopped"), "{warnings}");
    before.assert_nothing_left(pair);
    assert_eq!(
        pair.replica.sql_threads(),
        [(String::new(), "No".to_owned())]
    );
    pair.replica
        .execute(&pair.flavour.replica_statement("START", "SQL_THREAD", ""));
    pair.wait_caught_up();
    pair.delete_all();
}

fn dry_run_changes_nothing(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let kept = pair.volume.kept();
    let run = pair
        .tool
        .run(&["snapshot", "create", &pair.name(), "--dry-run"])
        .ok();
    let plan = &run.json()["plan"];
    assert_eq!(plan["backend_kind"], pair.storage.backend().1);
    let steps: Vec<&str> = plan["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    let order = ["stop", "lock", "position", "snapshot", "start"];
    let found: Vec<&str> = steps
        .iter()
        .copied()
        .filter(|step| order.contains(step))
        .collect();
    assert_eq!(found, order);
    assert_eq!(steps.contains(&"quiet"), pair.storage.is_file_by_file());
    assert_eq!(pair.volume.kept(), kept);
    before.assert_nothing_new(pair);
}

fn refuses_a_source_without_leave(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let run = pair
        .tool
        .run(&["snapshot", "create", &pair.source_name()])
        .expect_code(4);
    let (kind, message) = run.error();
    assert_eq!(kind, "refused");
    assert!(message.contains("no replica"), "{message}");
    before.assert_nothing_new(pair);
}

fn locks_a_source_for_its_moment(pair: &mut Pair) {
    let load = Load::start(&pair.source, Duration::from_millis(5));
    let offset = load.offset;
    sleep(Duration::from_millis(300));
    let name = pair.source_name();
    let run = pair
        .tool
        .run(&["snapshot", "create", &name, "--allow-source", "--verify"])
        .ok();
    let snapshot = run.json()["snapshot"].clone();
    assert_eq!(snapshot["proof"], "booted", "{snapshot}");
    sleep(Duration::from_millis(300));
    load.stop();
    assert_eq!(snapshot["consistency"], "lock");
    assert_eq!(snapshot["backend"], "copy");
    assert_eq!(snapshot["position"]["channels"], serde_json::json!([]));
    {
        let restored = Restored::boot_as(pair, &snapshot, &pair.source, 0);
        let recorded = snapshot["position"]["gtid"].as_str().unwrap();
        let recorded = recorded.replace(char::is_whitespace, "");
        // It has no position of a replica, and another server_id than the one that wrote its log.
        let own = match pair.flavour {
            Flavour::Mariadb | Flavour::MariadbOther => {
                restored.server.value("SELECT @@GLOBAL.gtid_binlog_pos")
            }
            Flavour::Mysql97 | Flavour::Mysql56 => restored.server.gtid(),
        };
        assert_eq!(own, recorded);
        restored.assert_holds_the_load(&recorded, offset);
    }
    // Nothing is locked any more.
    pair.wait_caught_up();
    pair.tool
        .run(&["snapshot", "delete", &id(&snapshot), "--yes"])
        .ok();
}

/// A replica that is kept behind on purpose gets its nightly snapshot, and its delay is told as one.
fn counts_no_delay_on_purpose_as_lag(pair: &mut Pair) {
    let set_delay = |seconds: u32| {
        let change = match pair.flavour {
            Flavour::Mysql97 => format!("CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {seconds}"),
            Flavour::Mariadb | Flavour::MariadbOther | Flavour::Mysql56 => {
                format!("CHANGE MASTER TO MASTER_DELAY = {seconds}")
            }
        };
        let say = |verb| pair.flavour.replica_statement(verb, "", "");
        for statement in [say("STOP"), change, say("START")] {
            pair.replica.execute(&statement);
        }
    };
    set_delay(600);
    pair.configure(|settings| settings.snapshot = "max_lag = \"2s\"".to_owned());
    pair.source.execute("INSERT INTO lab.ping VALUES ()");
    lab::eventually(lab::limit(20), "the server counts the delay", || {
        let status = pair.replica.rows(pair.flavour.replica_status());
        let of = |name: &str| status[0].get(name).and_then(|v| v.parse::<u64>().ok());
        of("seconds_behind_master").or(of("seconds_behind_source")) > Some(3)
    });
    let snapshot = pair.create(&["--verify"]);
    assert_eq!(snapshot["proof"], "booted");
    let status = pair.tool.run(&["status", "--output", "json"]);
    let servers = status.json()["pairs"][0]["servers"].clone();
    let name = pair.name();
    let replica = servers.as_array().unwrap().iter();
    let replica = replica
        .clone()
        .find(|server| server["name"] == name)
        .unwrap();
    assert_eq!(replica["delay_ms"], 600_000, "{replica}");
    assert!(replica["lag_ms"].as_u64() < Some(60_000), "{replica}");
    let doctor = pair.tool.run(&["doctor"]).json()["checks"].to_string();
    assert!(doctor.contains("failover.delay"), "{doctor}");
    set_delay(0);
    pair.configure_plain();
    pair.wait_caught_up();
    pair.delete_all();
}

fn pauses_until_resumed(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let name = pair.name();
    let paused = pair.tool.run(&["pause", &name, "--for", "10m"]).ok().json();
    assert_eq!(paused["pause"]["changed"], true, "{paused}");
    assert_eq!(
        pair.replica.sql_threads(),
        [(String::new(), "No".to_owned())]
    );
    assert_eq!(pair.replica.channels()[0].1, "Yes", "the IO thread goes on");
    // A pause on purpose isn't recovered, nor run over.
    pair.tool.run(&["recover", &name]).ok();
    assert_eq!(
        pair.replica.sql_threads(),
        [(String::new(), "No".to_owned())]
    );
    let second = pair.tool.run(&["snapshot", "create", &name]).expect_code(6);
    assert!(
        second.stdout.contains("understudy resume"),
        "{}",
        second.stdout
    );
    let resumed = pair.tool.run(&["resume", &name]).ok().json();
    assert_eq!(resumed["resume"]["changed"], true, "{resumed}");
    before.assert_nothing_new(pair);
    let again = pair.tool.run(&["resume", &name]).ok().json();
    assert_eq!(again["resume"]["changed"], false);
    pair.wait_caught_up();
}

fn refuses_a_backend_that_does_not_fit(pair: &mut Pair) {
    let before = Footprint::of(pair);
    pair.configure(|settings| settings.backend = "lvm".to_owned());
    let run = pair
        .tool
        .run(&["snapshot", "create", &pair.name()])
        .expect_code(4);
    assert!(run.stdout.contains("btrfs"), "{}", run.stdout);
    pair.configure_plain();
    before.assert_nothing_new(pair);
}

fn weighs_every_way_with_what_was_measured_here(pair: &mut Pair) {
    pair.delete_all();
    let ways = |pair: &Pair| {
        let document = pair.tool.run(&["methods", &pair.name()]).ok().json();
        assert!(
            document["data_bytes"]
                .as_u64()
                .is_some_and(|bytes| bytes > 0)
        );
        document["methods"].as_array().unwrap().clone()
    };
    let of = |ways: &[Value], name: &str| {
        let way = ways.iter().find(|way| way["method"] == name);
        way.unwrap_or_else(|| panic!("{name}: {ways:?}")).clone()
    };
    let before = Footprint::of(pair);
    let none = ways(pair);
    for (name, possible) in [
        ("btrfs", true),
        ("zfs", false),
        ("lvm", false),
        ("dump", false),
    ] {
        let way = of(&none, name);
        assert_eq!(way["possible"], possible, "{way}");
        assert_eq!(way["cure"].is_string(), !possible, "{way}");
        assert_eq!(way["measured"], 0, "{way}");
        assert!(way["pause_ms"].is_null(), "{way}");
    }
    assert_eq!(of(&none, "btrfs")["configured"], true);
    before.assert_nothing_new(pair);

    let snapshot = pair.create(&["--verify"]);
    let btrfs = of(&ways(pair), "btrfs");
    assert_eq!(btrfs["pause_ms"], snapshot["timing"]["pause_ms"], "{btrfs}");
    assert!(
        btrfs["restore_ms"].as_u64().is_some_and(|ms| ms > 0),
        "{btrfs}"
    );
    assert_eq!(btrfs["measured"], 1);
    // Beside the data it goes with the data.
    let lost: Vec<&str> = btrfs["not_from"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(lost.len(), 2, "{lost:?}");
    let text = pair
        .tool
        .text(&["methods", &pair.name()], false)
        .ok()
        .stdout;
    assert!(text.contains("what `snapshot create` takes now"), "{text}");
    pair.delete_all();
}

fn stops_and_starts_the_server_through_its_service(pair: &mut Pair) {
    let service = pair.put_under_a_service();
    let before = Footprint::of(pair);
    pair.configure(|settings| settings.snapshot = service);
    let load = Load::start(&pair.source, Duration::from_millis(5));
    let offset = load.offset;
    let snapshot = pair.create(&[]);
    load.stop();
    assert_eq!(snapshot["consistency"], "stop");
    before.assert_nothing_left(pair);
    assert_eq!(
        pair.replica.channels()[0].1,
        "Yes",
        "the IO thread runs again"
    );
    {
        let restored = Restored::boot(pair, &snapshot);
        restored.assert_is_at(&snapshot, offset);
        restored.assert_catches_up();
    }
    pair.wait_caught_up();
    pair.configure_plain();
    pair.delete_all();
}

fn keeps_one_of_two_channels_stopped(pair: &mut Pair) {
    pair.add_source("second");
    let stop = pair
        .flavour
        .replica_statement("STOP", "SQL_THREAD", "second");
    lab::eventually(
        lab::limit(20),
        "the second channel has created its table",
        || {
            !pair.replica.rows("SHOW DATABASES LIKE 'other'").is_empty()
                && !pair.replica.rows("SHOW TABLES FROM other").is_empty()
        },
    );
    pair.replica.execute(&stop);
    let before = Footprint::of(pair);
    let wanted = [
        (String::new(), "Yes".to_owned()),
        ("second".to_owned(), "No".to_owned()),
    ];
    assert_eq!(pair.replica.sql_threads(), wanted);
    let snapshot = pair.create(&["--verify"]);
    assert_eq!(snapshot["proof"], "booted", "{snapshot}");
    let channels = snapshot["position"]["channels"].as_array().unwrap();
    let mut names: Vec<&str> = channels
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["", "second"]);
    before.assert_nothing_left(pair);
    assert_eq!(pair.replica.sql_threads(), wanted);
    // And both running come back both.
    pair.replica.execute(
        &pair
            .flavour
            .replica_statement("START", "SQL_THREAD", "second"),
    );
    let before = Footprint::of(pair);
    pair.create(&[]);
    before.assert_nothing_left(pair);
    pair.others[0].execute("INSERT INTO other.t VALUES (1)");
    lab::eventually(lab::limit(20), "the second channel applies", || {
        pair.replica.value("SELECT COUNT(*) FROM other.t") == "1"
    });
    pair.delete_all();
}

fn reports_every_configuration_error_with_its_line(pair: &mut Pair) {
    pair.configure(|settings| {
        settings.snapshot = "max_lagg = \"1h\"\ntemp_table_wait = \"soon\"".to_owned();
    });
    let file = std::fs::read_to_string(pair.base().join("understudy.toml")).unwrap();
    let line_of = |word: &str| file.lines().position(|line| line.contains(word)).unwrap() + 1;
    let run = pair.tool.run(&["config", "check"]).expect_code(3);
    let (kind, message) = run.error();
    assert_eq!(kind, "config");
    for word in ["max_lagg", "soon"] {
        let place = format!("understudy.toml:{}:", line_of(word));
        assert!(message.contains(&place), "{place} isn't in: {message}");
    }
    let before = Footprint::of(pair);
    pair.tool
        .run(&["snapshot", "create", &pair.name()])
        .expect_code(3);
    pair.configure_plain();
    before.assert_nothing_new(pair);
    pair.tool.run(&["config", "check"]).ok();
}

fn believes_nothing_that_others_could_have_written(pair: &mut Pair) {
    pair.create(&[]);
    let before = Footprint::of(pair);
    let config = pair.base().join("understudy.toml");
    let journal = pair.state_dir().join("journal");
    for path in [config, pair.state_dir(), journal] {
        let refused = |cure: &str| {
            for args in [&["snapshot", "create", &pair.name()][..], &["recover"]] {
                let run = pair.tool.run(args).expect_code(3);
                let text = run.json()["error"].to_string();
                assert!(text.contains(&path.display().to_string()), "{text}");
                assert!(text.contains(cure), "{text}");
            }
        };
        std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
        refused("chown");
        std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        let mode = path.metadata().unwrap().permissions().mode();
        let set = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        set(mode | 0o002);
        refused("chmod go-w");
        set(mode);
    }
    before.assert_nothing_new(pair);
    pair.delete_all();
}

fn refuses_credentials_that_others_may_read(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let file = pair.base().join("db.cnf");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    for args in [
        &["config", "check"][..],
        &["snapshot", "create", &pair.name()],
    ] {
        let run = pair.tool.run(args).expect_code(3);
        assert!(run.stdout.contains("chmod"), "{}", run.stdout);
        assert!(!run.stdout.contains("secret word"), "{}", run.stdout);
    }
    pair.configure_plain();
    before.assert_nothing_new(pair);
}

fn keeps_to_one_json_document_on_failure(pair: &mut Pair) {
    let failures: [(&[&str], i32, &str); 3] = [
        (&["snapshot", "create", "nobody"], 2, "usage"),
        (&["snapshot", "frobnicate"], 2, "usage"),
        (&["snapshot", "show", "nothing"], 2, "usage"),
    ];
    for (args, code, kind) in failures {
        let run = pair.tool.run(args).expect_code(code);
        assert_eq!(run.error().0, kind, "{args:?}: {}", run.stdout);
    }
    let file = pair.base().join("understudy.toml");
    std::fs::remove_file(&file).unwrap();
    let run = pair.tool.run(&["snapshot", "list"]).expect_code(3);
    assert_eq!(run.error().0, "config", "{}", run.stdout);
    pair.configure_plain();
}
