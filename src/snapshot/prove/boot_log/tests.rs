//! What was really said, per server. A fixture holds many logs, each below a line
//! `### CAUSE | what the evidence has in it | what had been done to the files`.

use super::*;

const MARIADB: &str = include_str!("../../../../tests/fixtures/server-log/mariadb-10.11.19.log");
const MARIADB_OLD: &str =
    include_str!("../../../../tests/fixtures/server-log/mariadb-10.11.14.log");
const MYSQL_97: &str = include_str!("../../../../tests/fixtures/server-log/mysql-9.7.4.log");
const MYSQL_56: &str = include_str!("../../../../tests/fixtures/server-log/mysql-5.6.24.log");

fn parse_cause(word: &str) -> Cause {
    match word {
        "room" => Cause::Machine(Lack::Room),
        "memory" => Cause::Machine(Lack::Memory),
        "open-files" => Cause::Machine(Lack::OpenFiles),
        "program" => Cause::Machine(Lack::Program),
        flaw => Cause::Flaw(serde_json::from_value(flaw.into()).unwrap()),
    }
}

#[test]
fn real_logs_are_told_apart() {
    for (writer, fixture) in [
        ("10.11.19-MariaDB-0+deb12u1-log", MARIADB),
        ("10.11.14-MariaDB-0+deb12u2-log", MARIADB_OLD),
        ("9.7.4-2", MYSQL_97),
        ("5.6.24-log", MYSQL_56),
    ] {
        let writer = Flavour::of_version(writer);
        let logs: Vec<&str> = fixture.split("\n### ").skip(1).collect();
        assert!(logs.len() >= 8, "{}: the fixture wasn't read", writer.text);
        for log in logs {
            let (heading, log) = log.split_once('\n').unwrap();
            let wanted: Vec<&str> = heading.split(" | ").collect();
            let found = diagnose(log, &writer, None);
            assert_eq!(found.cause, parse_cause(wanted[0]), "{heading}: {found:?}");
            assert!(found.evidence.contains(wanted[1]), "{heading}: {found:?}");
            assert!(!found.evidence.starts_with('['), "{heading}: {found:?}");
        }
    }
}

/// Whatever they say of the files, they can't know.
#[test]
fn programs_of_other_releases_are_never_evidence_against_the_files() {
    let mariadb = Flavour::of_version("10.11.19-MariaDB");
    let wrong_version = |log: &str, writer: &Flavour, program: Option<&Flavour>| {
        let found = diagnose(log, writer, program);
        assert_eq!(found.cause, Cause::Flaw(Flaw::WrongVersion), "{found:?}");
    };
    for log in MYSQL_97.split("\n### ").skip(1) {
        if log.contains(" as process ") {
            wrong_version(log, &mariadb, None);
        }
    }
    // Older than the files, and newer but stopped by its options.
    let started = "[Note] mysqld (mysqld 5.6.24) starting as process 7\n[ERROR] x is corrupted\n";
    wrong_version(started, &Flavour::of_version("5.7.1"), None);
    let program = Flavour::of_version("9.7.4");
    let stopped = "[ERROR] [MY-000067] [Server] unknown option '--x'.\n";
    wrong_version(stopped, &Flavour::of_version("8.0.40"), Some(&program));
    wrong_version(stopped, &mariadb, Some(&program));
    // Newer, and the files' format is what it can't read.
    let unsupported = "mysqld (mysqld 9.7.4-2) starting as process 2\n\
         1 [ERROR] [MY-013090] [InnoDB] Unsupported redo log format (v0). The redo log was \
         created before MySQL 5.7.9\n";
    wrong_version(unsupported, &Flavour::of_version("5.6.24"), None);
    // The same release can read what it wrote: then it is the log that is damaged, or nothing known.
    let same = diagnose(unsupported, &Flavour::of_version("9.7.1"), None);
    assert_eq!(same.cause, Cause::Flaw(Flaw::DidNotStart));
}

#[test]
fn a_program_that_says_nothing_of_itself_is_to_blame() {
    let writer = Flavour::of_version("9.7.4");
    for log in [
        "",
        "x.so: cannot open shared object file: No such file or directory\n",
    ] {
        let found = diagnose(log, &writer, None);
        assert_eq!(found.cause, Cause::Machine(Lack::Program), "{found:?}");
    }
}

#[test]
fn only_errors_are_complaints_and_relay_logs_are_none() {
    let log = "2026 0 [ERROR] [MY-010544] [Repl] Failed to open the relay log './relay.000002'.\n\
         2026 0 [ERROR] Failed to initialize the master info structure\n\
         2026 0 [Warning] InnoDB: x\n\
         2026 1 [ERROR] InnoDB: Expected tablespace flags 0x15 but found 0x45 in ./lab/t.ibd\n\
         2026 5 [ERROR] InnoDB: Expected tablespace flags 0x15 but found 0x45 in ./lab/t.ibd\n";
    let wanted = "InnoDB: Expected tablespace flags 0x15 but found 0x45 in ./lab/t.ibd";
    assert_eq!(complaints(log), [wanted]);
}

/// 5.6 then takes the page from the doublewrite buffer.
#[test]
fn what_is_mended_is_no_flaw() {
    let log = "[Note] mysqld (mysqld 5.6.24) starting as process 7\n\
         InnoDB: Warning: database page corruption or a failed\n\
         InnoDB: file read of space 7 page 8.\n[ERROR] Aborting\n";
    let found = diagnose(log, &Flavour::of_version("5.6.24"), None);
    assert_eq!(found.cause, Cause::Flaw(Flaw::DidNotStart));
}

#[test]
fn lacks_are_seen_in_a_table_check_too() {
    let said = "lab.t: Got error 28 \"No space left on device\" from storage engine InnoDB";
    assert_eq!(lack_in(said), Some(Lack::Room));
    let said = "File './lab/m.MYD' not found (Errcode: 24 \"Too many open files\")";
    assert_eq!(lack_in(said), Some(Lack::OpenFiles));
    assert_eq!(lack_in("lab.t: Corrupt"), None);
    let waiting = "[ERROR] mariadbd: Disk is full writing './aria_log.00000001' (Errcode: 28 \"No \
         space left on device\"). Waiting for someone to free space... (Expect up to 60 secs)";
    assert!(waits_for_room(waiting).is_some_and(|text| text.starts_with("mariadbd: Disk is full")));
    let trying = "2026-11-26 22:50:23 0 [Note] InnoDB: IO Error: 28 during write of 16384 bytes, for \
         file ./ibdata1(14), returned 0";
    assert!(waits_for_room(trying).is_some_and(|text| text.starts_with("InnoDB: IO Error")));
    assert_eq!(waits_for_room("[Note] ready"), None);
}

#[test]
fn versions_of_programs_are_read() {
    for (text, version) in [
        (
            "/usr/sbin/mariadbd  Ver 10.11.19-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (x)",
            "10.11.19-MariaDB-0+deb12u1",
        ),
        (
            "/x/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))",
            "9.7.4-2",
        ),
        (
            "./mysqld  Ver 5.6.24 for linux-glibc2.5 on x86_64 (MySQL Community Server (GPL))",
            "5.6.24",
        ),
    ] {
        assert_eq!(parse_version(text).unwrap().text, version);
    }
    assert!(parse_version("false (GNU coreutils) 9.1").is_none());
}

#[test]
fn last_word_on_recovery_is_shown() {
    let log = "2026 [Note] InnoDB: Starting crash recovery from checkpoint LSN=1\n\
               2026 [Note] InnoDB: To recover: 200 pages\nother\n";
    assert_eq!(
        recovery_progress(log),
        Some("InnoDB: To recover: 200 pages")
    );
    assert_eq!(recovery_progress("nothing"), None);
}
