//! What only a dead source's binary logs have is brought into the new source before it is opened.

use std::path::{Path, PathBuf};

use crate::lab::key_ring::key_ring;
use crate::lab::server::{Flavour, flavours};
use crate::lab::small_state::SmallState;
use crate::lab::trio::Trio;
use crate::steps::assert_steps;

/// A source that is killed with rows that it sent to nobody, spread over two of its logs.
fn killed_with_unsent(flavour: Flavour) -> Trio {
    let mut trio = Trio::start(flavour, 2);
    die_with_unsent(&mut trio);
    trio
}

fn die_with_unsent(trio: &mut Trio) {
    trio.status();
    trio.wait_same("a", "b");
    let stop = trio.flavour.replica_statement("STOP", "IO_THREAD", "");
    trio.server("b").execute(&stop);
    for statement in [
        "INSERT INTO lab.w VALUES (101)",
        "FLUSH BINARY LOGS",
        "CREATE TABLE lab.made (id INT PRIMARY KEY, b VARBINARY(100)) ENGINE=InnoDB",
        "INSERT INTO lab.made VALUES (1, UNHEX('00ff0a27'))",
        "INSERT INTO lab.w VALUES (102)",
    ] {
        trio.server("a").execute(statement);
    }
    trio.kill("a");
}

/// The logs of the dead source, oldest first.
fn logs(trio: &Trio) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> = std::fs::read_dir(&trio.server("a").data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end != "index"))
        .filter(|path| file_name(path).contains("binlog.0"))
        .collect();
    logs.sort();
    logs
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// What is left in the state directory's room for work.
fn left(trio: &Trio) -> Vec<String> {
    match std::fs::read_dir(trio.state_dir().join("work")) {
        Ok(entries) => entries
            .map(|entry| file_name(&entry.unwrap().path()))
            .collect(),
        Err(_) => Vec::new(),
    }
}

/// Given a source that dies with rows that it sent to nobody, when a failover may lose nothing, expect
/// them on the new source under their own GTIDs: the old one comes back as it is.
#[test]
fn brings_in_what_only_the_dead_source_had() {
    for flavour in flavours() {
        let mut trio = killed_with_unsent(flavour);
        let planned = trio.failover(&["--unfenced", "--dry-run"]).ok().stdout;
        assert!(
            planned.contains("what only its binary logs in"),
            "{planned}"
        );
        assert!(!trio.has("b", 101));
        let report = trio
            .failover(&["--unfenced", "--max-loss", "0"])
            .ok()
            .json();
        let lost = &report["failover"]["lost"];
        assert_steps("failover", &report["failover"]);
        assert_eq!(lost["known"], true, "{report}");
        assert_eq!(lost["transactions"], 0, "{report}");
        assert!(lost["export"].is_null(), "{report}");
        assert!(trio.has("b", 101) && trio.has("b", 102));
        let made = "SELECT COUNT(*) FROM lab.made WHERE b = UNHEX('00ff0a27')";
        assert_eq!(trio.server("b").value(made), "1");
        assert!(left(&trio).is_empty());
        trio.revive("a");
        trio.tool.run(&["rejoin", "a"]).ok();
        trio.assert_source("b", &["a"]);
    }
}

/// Given a last transaction that the crash tore off, expect the others, and that it isn't called lost:
/// its own server would roll it back.
#[test]
fn a_torn_end_is_no_transaction() {
    for flavour in flavours() {
        let trio = killed_with_unsent(flavour);
        let last = logs(&trio).pop().unwrap();
        let file = std::fs::File::options().write(true).open(&last).unwrap();
        file.set_len(file.metadata().unwrap().len() - 3).unwrap();
        let report = trio
            .failover(&["--unfenced", "--max-loss", "0"])
            .ok()
            .json();
        assert_eq!(report["failover"]["lost"]["transactions"], 0, "{report}");
        assert!(trio.has("b", 101) && !trio.has("b", 102));
        let made = "SELECT COUNT(*) FROM lab.made";
        assert_eq!(trio.server("b").value(made), "1");
    }
}

/// Given a row on the new source that is in the way, expect it opened all the same, with what wasn't
/// brought in named, counted and kept.
#[test]
fn what_cannot_be_brought_in_is_kept_and_told() {
    for flavour in flavours() {
        let trio = killed_with_unsent(flavour);
        let replica = trio.server("b");
        if !flavour.is_mariadb() {
            replica.execute("SET GLOBAL super_read_only = OFF");
        }
        replica.execute_unlogged(&["INSERT INTO lab.w VALUES (102)".to_owned()]);
        let report = trio.failover(&["--unfenced"]).expect_code(5).json();
        let told = report["failover"]["warnings"][0].as_str().unwrap();
        assert!(told.contains("aren't all in"), "{report}");
        assert_eq!(report["failover"]["lost"]["transactions"], 1, "{report}");
        let export = report["failover"]["lost"]["export"].as_str().unwrap();
        assert!(Path::new(export).is_file(), "{report}");
        trio.assert_source("b", &[]);
        assert!(trio.has("b", 101));
    }
}

/// Given logs that this host can't read, when a program brings them, expect the same; one that fails
/// is told, and doesn't keep the failover from going on; one that isn't there is refused beforehand.
#[test]
fn a_program_brings_the_logs_of_another_host() {
    for (turn, flavour) in flavours().into_iter().enumerate() {
        let mut trio = killed_with_unsent(flavour);
        let elsewhere = trio.tool.base.join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        for log in logs(&trio) {
            std::fs::rename(&log, elsewhere.join(file_name(&log))).unwrap();
        }
        trio.more = "[pair.lab.failover]\nsalvage = [\"/nowhere/fetch\"]".to_owned();
        trio.configure();
        let run = trio.failover(&["--unfenced"]).expect_code(4);
        assert!(run.error().1.contains("/nowhere/fetch"), "{run:?}");
        let works = turn == 0;
        let what = match works {
            true => r#"cp "$0"/*.0* "$UNDERSTUDY_DIRECTORY"; test $UNDERSTUDY_SERVER = a"#,
            false => "echo no route >&2; exit 1",
        };
        trio.more = format!(
            "[pair.lab.failover]\nsalvage = [\"/bin/sh\", \"-c\", '{what}', {elsewhere:?}]"
        );
        trio.configure();
        let report = trio.failover(&["--unfenced"]).ok().json();
        let lost = &report["failover"]["lost"];
        assert_eq!(lost["known"], works, "{report}");
        assert_eq!(trio.has("b", 101), works);
        let reason = lost["reason"].as_str().unwrap_or_default();
        assert_eq!(reason.contains("no route"), !works, "{report}");
        assert!(left(&trio).is_empty());
    }
}

/// Given a program that would bring the logs, when nothing is to be salvaged, expect that it isn't run.
#[test]
fn without_salvage_no_program_is_run() {
    for flavour in flavours() {
        let mut trio = killed_with_unsent(flavour);
        let elsewhere = trio.tool.base.join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        for log in logs(&trio) {
            std::fs::rename(&log, elsewhere.join(file_name(&log))).unwrap();
        }
        let ran = trio.tool.base.join("ran");
        trio.more = format!(
            "[pair.lab.failover]\nsalvage = [\"/bin/sh\", \"-c\", 'touch \"$0\"; cp {}/*.0* \
             \"$UNDERSTUDY_DIRECTORY\"', {ran:?}]",
            elsewhere.display()
        );
        trio.configure();
        let report = trio.failover(&["--unfenced", "--no-salvage"]).ok().json();
        assert_eq!(report["failover"]["lost"]["known"], false, "{report}");
        assert!(!ran.exists() && !trio.has("b", 101));
    }
}

/// Given a disk on which the SQL of what was never sent has no room, expect it brought in all the same;
/// without salvage counted, and that it isn't kept is said.
#[test]
fn a_full_disk_does_not_stop_a_failover() {
    for (flavour, salvage) in flavours().into_iter().zip([true, false]) {
        let mut trio = Trio::start(flavour, 2);
        trio.status();
        trio.wait_same("a", "b");
        let stop = flavour.replica_statement("STOP", "IO_THREAD", "");
        trio.server("b").execute(&stop);
        for statement in [
            "CREATE TABLE lab.big (b LONGBLOB) ENGINE=InnoDB",
            // Long in the log in either format.
            &format!("INSERT INTO lab.big VALUES ('{}')", "x".repeat(900_000)),
            "INSERT INTO lab.w VALUES (101)",
        ] {
            trio.server("a").execute(statement);
        }
        trio.kill("a");
        let receipts = trio.state_dir().join("receipts");
        let _small = SmallState::mount(&receipts);
        let filler = receipts.join("filler");
        std::fs::write(&filler, vec![0; 200_000]).unwrap();
        let args: &[&str] = match salvage {
            true => &["--unfenced"],
            false => &["--unfenced", "--no-salvage"],
        };
        let report = trio.failover(args).ok().json();
        let lost = &report["failover"]["lost"];
        assert_eq!(lost["known"], true, "{report}");
        assert!(lost["export"].is_null(), "{report}");
        assert_eq!(
            lost["transactions"],
            if salvage { 0 } else { 3 },
            "{report}"
        );
        assert_eq!(trio.has("b", 101), salvage);
        let told = lost["reason"].as_str().unwrap_or_default();
        assert_eq!(told.contains("not kept as SQL"), !salvage, "{report}");
        let left: Vec<PathBuf> = std::fs::read_dir(&receipts)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(
            !left.iter().any(|path| file_name(path).contains(".sql")),
            "{left:?}"
        );
    }
}

/// Given a source that encrypts its binary logs, from some moment on, when it dies with rows that it
/// sent to nobody, expect that nothing is said of what is lost but why that can't be told; and that the
/// source itself, when it is back, gives it out.
#[test]
fn encrypted_logs_are_told_as_unknown() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let base = trio.tool.base.clone();
        let (_, mut extra) = key_ring(&mut trio.servers[0], &base);
        extra.push(match flavour.is_mariadb() {
            true => "--encrypt-binlog=ON".to_owned(),
            false => "--binlog-encryption=ON".to_owned(),
        });
        trio.servers[0].restart_with(&extra);
        // By itself it tries again in ten seconds.
        for verb in ["STOP", "START"] {
            let statement = flavour.replica_statement(verb, "IO_THREAD", "");
            trio.server("b").execute(&statement);
        }
        die_with_unsent(&mut trio);
        let planned = trio.failover(&["--unfenced", "--dry-run"]).ok().stdout;
        assert!(planned.contains("encrypted"), "{planned}");
        let run = trio.failover(&["--unfenced", "--max-loss", "100"]);
        let (_, message) = run.expect_code(4).error();
        assert!(message.contains("what is lost can't be told"), "{message}");
        assert!(!trio.is_writable("b"));

        let report = trio.failover(&["--unfenced"]).ok().json();
        let lost = &report["failover"]["lost"];
        assert_eq!(lost["known"], false, "{report}");
        assert!(lost["transactions"].is_null(), "{report}");
        let reason = lost["reason"].as_str().unwrap();
        for words in ["is encrypted", "understudy rejoin"] {
            assert!(reason.contains(words), "{reason}");
        }
        assert!(!report.to_string().contains("nothing is lost"), "{report}");
        assert!(!trio.has("b", 101) && left(&trio).is_empty());

        trio.revive("a");
        let (_, message) = trio.tool.run(&["rejoin", "a"]).expect_code(4).error();
        let receipts = std::fs::read_dir(trio.state_dir().join("receipts")).unwrap();
        let exports: Vec<PathBuf> = receipts
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "sql"))
            .collect();
        assert_eq!(exports.len(), 1, "{message}");
        let export = String::from_utf8_lossy(&std::fs::read(&exports[0]).unwrap()).into_owned();
        assert!(export.contains("CREATE TABLE lab.made"), "{message}");
    }
}
