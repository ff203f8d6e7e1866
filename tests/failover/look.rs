//! What is looked at before roles move: what is open on the servers, and what the account may do.

use std::time::Duration;

use mysql::prelude::Queryable;

use super::told::{grant_only, printed};
use crate::lab;
use crate::lab::server::try_rows;
use crate::lab::server::{Flavour, flavours};
use crate::lab::trio::Trio;

const PLAN: [&str; 3] = ["switchover", "lab", "--dry-run"];

/// Given XA transactions, open ones, locks and temporary tables on the source, expect that they are told
/// beforehand, that what nobody could end afterwards is refused, and that the rest has its grace.
#[test]
fn what_is_open_is_told_and_has_its_grace() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        let warnings = || {
            let planned = trio.tool.run(&PLAN).ok().json();
            planned["failover"]["warnings"].to_string()
        };
        assert_eq!(warnings(), "[]");

        // Prepared, and its session is gone.
        let mut session = trio.server("a").connect();
        for statement in [
            "XA START 'q1'",
            "INSERT INTO lab.w VALUES (9001)",
            "XA END 'q1'",
            "XA PREPARE 'q1'",
        ] {
            session.query_drop(statement).unwrap();
        }
        for args in [&PLAN[..], &["switchover", "lab", "--yes"]] {
            let (_, message) = trio.tool.run(args).expect_code(4).error();
            assert!(message.contains("1 XA transaction prepared"), "{message}");
            assert!(message.contains("q1"), "{message}");
        }
        let doctor = trio.tool.run(&["doctor", "lab"]).expect_code(4).stdout;
        assert!(doctor.contains("1 XA transaction prepared"), "{doctor}");
        session.query_drop("XA ROLLBACK 'q1'").unwrap();
        drop(session);
        assert!(trio.is_writable("a"));

        // One that ends by itself keeps what it wrote.
        let mut open = trio.server("a").connect();
        open.query_drop("BEGIN").unwrap();
        open.query_drop("INSERT INTO lab.w VALUES (9002)").unwrap();
        let mut idle = trio.server("a").connect();
        std::thread::sleep(Duration::from_millis(2100));
        let told = warnings();
        assert!(told.contains("has a transaction open for"), "{told}");
        assert!(told.contains("has written 1 row"), "{told}");
        let args = ["switchover", "lab", "--grace", "30s", "--yes"];
        let mut run = trio.tool.spawn_at("grace:before=sleep:1", &args);
        run.wait_at("grace:before");
        std::thread::sleep(Duration::from_millis(700));
        assert!(
            try_rows(&mut idle, "SELECT 1").is_ok(),
            "nobody is ended yet"
        );
        open.query_drop("COMMIT").unwrap();
        run.wait().ok();
        assert!(trio.has("b", 9002));
        trio.assert_source("b", &["a"]);
        trio.switchover("a").ok();

        // What doesn't end is ended.
        let mut open = trio.server("a").connect();
        open.query_drop("BEGIN").unwrap();
        open.query_drop("INSERT INTO lab.w VALUES (9003)").unwrap();
        let mut lock = trio.server("a").connect();
        lock.query_drop("CREATE TABLE IF NOT EXISTS lab.x (id INT)")
            .unwrap();
        lock.query_drop("LOCK TABLES lab.x WRITE").unwrap();
        let mut backup = trio.server("a").connect();
        if !flavour.is_mariadb() {
            backup.query_drop("LOCK INSTANCE FOR BACKUP").unwrap();
            let told = warnings();
            assert!(told.contains("a lock on the table lab.x"), "{told}");
            assert!(told.contains("LOCK INSTANCE FOR BACKUP"), "{told}");
        }
        let args = ["switchover", "lab", "--grace", "1s", "--yes"];
        let report = trio.tool.run(&args).ok().json()["failover"].clone();
        let steps = report["steps"].to_string();
        assert!(steps.contains("ended with the fence: "), "{steps}");
        assert!(!trio.has("b", 9003));
        assert!(open.query_drop("COMMIT").is_err());
        trio.assert_source("b", &["a"]);
    }
}

/// Given a MariaDB with the plugin metadata_lock_info, expect locks that outlive their statements to be
/// told, each by its name.
#[test]
fn the_plugin_of_mariadb_tells_locks() {
    let flavour = Flavour::MariadbOther;
    let plugins = flavour.home().join("lib/mysql/plugin");
    if !plugins.join("metadata_lock_info.so").exists() {
        assert!(std::env::var_os("CI").is_none(), "no {}", plugins.display());
        eprintln!(
            "\n!!! SKIPPED: no metadata_lock_info in {}\n",
            plugins.display()
        );
        return;
    }
    let mut trio = Trio::start(flavour, 2);
    let directory = format!("--plugin-dir={}", plugins.display());
    let load = "--plugin-load-add=metadata_lock_info".to_owned();
    trio.servers[0].restart_with(&[directory, load]);
    trio.wait_same("a", "b");
    for (held, words) in [
        ("LOCK TABLES lab.w WRITE", "a lock on the table lab.w"),
        ("LOCK TABLES lab.w READ", "a lock on the table lab.w"),
        (
            "FLUSH TABLES WITH READ LOCK",
            "a lock on all tables (FLUSH TABLES WITH READ LOCK)",
        ),
        ("BACKUP STAGE START", "a lock on the server (BACKUP STAGE)"),
    ] {
        let mut session = trio.server("a").connect();
        session.query_drop(held).unwrap();
        let planned = trio.tool.run(&PLAN).ok().json();
        let told = planned["failover"]["warnings"].to_string();
        assert!(told.contains(words), "{held}: {told}");
    }
}

/// Given a session with a temporary table that is replicated, expect that a switchover waits for it and
/// gives up in time with everything as before; that a failover tells; and that with a grace it is ended.
#[test]
fn replicated_temporary_tables_are_waited_for() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let args = ["switchover", "lab", "--timeout", "1s", "--yes"];
        let with_table = |trio: &Trio| {
            let mut session = trio.server("a").connect();
            for statement in [
                "SET SESSION binlog_format = 'STATEMENT'",
                "CREATE TEMPORARY TABLE lab.t (id INT)",
                "INSERT INTO lab.t VALUES (1)",
            ] {
                session.query_drop(statement).unwrap();
            }
            trio.wait_same("a", "b");
            session
        };
        let session = with_table(&trio);
        let planned = trio.tool.run(&PLAN).ok().stdout;
        assert!(
            planned.contains("1 replicated temporary table"),
            "{planned}"
        );
        let (_, message) = trio.tool.run(&args).expect_code(4).error();
        assert!(
            message.contains("1 replicated temporary table"),
            "{message}"
        );
        trio.assert_source("a", &["b"]);

        let graced = ["switchover", "lab", "--grace", "1s", "--yes"];
        trio.tool.run(&graced).ok();
        trio.assert_source("b", &["a"]);
        drop(session);
        trio.switchover("a").ok();
        trio.assert_source("a", &["b"]);

        let session = with_table(&trio);
        trio.kill("a");
        drop(session);
        let report = trio.failover(&["--unfenced"]).ok().stdout;
        assert!(report.contains("1 replicated temporary table"), "{report}");
        assert!(trio.is_writable("b"));
    }
}

/// Given an account that lacks one privilege of those that `grants` prints, each in turn, expect that a
/// switchover names exactly that one, and changes nothing.
#[test]
fn a_missing_privilege_is_named_before_anything_changes() {
    // What only shows something, and what there is for `status` beside.
    const TOLD: [&str; 5] = [
        "REPLICATION MASTER ADMIN",
        "XA_RECOVER_ADMIN",
        "BINLOG MONITOR",
        "BINLOG_ADMIN",
        "BINLOG REPLAY",
    ];
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let all = printed(&trio, "understudy_failover");
        for left_out in &all {
            let but: Vec<_> = all.iter().filter(|one| *one != left_out).cloned().collect();
            grant_only(&trio, &but);
            let (name, on) = left_out;
            let words = match on.as_str() {
                "*.*" => format!("lacks {name} on "),
                on => format!("lacks {name} ON {on} on "),
            };
            if TOLD.contains(&name.as_str()) {
                let planned = trio.tool.run(&PLAN).ok().json();
                let told = planned["failover"]["warnings"].to_string();
                assert!(told.contains(&words), "{left_out:?}: {told}");
                continue;
            }
            let args = ["switchover", "lab", "--yes"];
            let (_, message) = trio.tool.run(&args).expect_code(4).error();
            assert_eq!(
                message.matches(" lacks ").count(),
                2,
                "{left_out:?}: {message}"
            );
            assert_eq!(
                message.matches(&words).count(),
                2,
                "{left_out:?}: {message}"
            );
            assert!(trio.is_writable("a") && trio.follows("b", "a"));
        }
        // An account that only looks isn't told that the pair is bad.
        let monitor = printed(&trio, "understudy_monitor");
        grant_only(&trio, &monitor);
        let doctor = trio.tool.run(&["doctor", "lab"]).ok().stdout;
        assert!(
            doctor.contains("no change of roles with this account"),
            "{doctor}"
        );
        // At night less is enough.
        let urgent: Vec<_> = all
            .iter()
            .filter(|(name, on)| name != "EVENT" && name != "PROCESS" && !on.contains("understudy"))
            .cloned()
            .collect();
        grant_only(&trio, &urgent);
        trio.kill("a");
        let report = trio.failover(&["--unfenced"]).ok().stdout;
        assert!(report.contains("lacks PROCESS on b"), "{report}");
        assert!(trio.is_writable("b"));

        // With a role that isn't active nobody knows.
        trio.server("b").execute("CREATE ROLE idle");
        trio.server("b").execute("GRANT idle TO 'understudy'@'%'");
        let planned = trio.tool.run(&["doctor", "lab"]);
        assert!(planned.stdout.contains("isn't active") || planned.code() == 4);
        lab::eventually(lab::limit(5), "it answers", || trio.is_writable("b"));
    }
}

/// Given an account that lacks one privilege of those that `repoint` or `rejoin` needs, each in turn,
/// expect it named with its cure, and nothing changed; with those alone, expect them done.
#[test]
fn a_missing_privilege_stops_a_repoint_and_a_rejoin_before_anything_changes() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 3);
        let all = printed(&trio, "understudy_failover");
        let of = |names: &[&str]| -> Vec<(String, String)> {
            let is_it = |(name, on): &&(String, String)| {
                names.contains(&name.as_str()) && (name != "SELECT" || on.contains("performance"))
            };
            all.iter().filter(is_it).cloned().collect()
        };
        let turns: &[&str] = match flavour.is_mariadb() {
            true => &["SLAVE MONITOR", "REPLICATION SLAVE ADMIN"],
            false => &["REPLICATION CLIENT", "REPLICATION_SLAVE_ADMIN", "SELECT"],
        };
        let closes = match flavour.is_mariadb() {
            true => "READ_ONLY ADMIN",
            false => "SYSTEM_VARIABLES_ADMIN",
        };
        let lacks = |args: &[&str], needed: &[(String, String)]| {
            for left_out in needed {
                let but: Vec<_> = all.iter().filter(|one| *one != left_out).cloned().collect();
                grant_only(&trio, &but);
                let (name, on) = left_out;
                let run = trio.tool.run(args).expect_code(4);
                let (_, message) = run.error();
                assert!(message.contains(&format!("lacks {name}")), "{run:?}");
                let cure = format!("GRANT {name} ON {on} TO `understudy`@`%`");
                assert!(run.stdout.contains(&cure), "{cure}: {run:?}");
            }
        };
        let turn = ["repoint", "c", "--to", "b"];
        let turns = of(turns);
        assert_eq!(turns.len(), if flavour.is_mariadb() { 2 } else { 3 });
        lacks(&turn, &turns);
        assert!(trio.follows("c", "a"));
        // That alone is enough.
        grant_only(&trio, &turns);
        trio.tool.run(&turn).ok();
        trio.tool.run(&["repoint", "c", "--to", "a"]).ok();

        trio.cut_off_and_open("b");
        let mut takes = turns.clone();
        takes.extend(of(&[closes]));
        // One that is cut off gets no statements of `a`.
        let takes_alone = [vec![takes[0].clone()], of(&[closes])].concat();
        for left_out in takes_alone {
            let but: Vec<_> = all
                .iter()
                .filter(|one| **one != left_out)
                .cloned()
                .collect();
            unlogged_grants(&trio, &but);
            let run = trio.tool.run(&["rejoin", "b"]).expect_code(4);
            let (name, on) = &left_out;
            assert!(run.error().1.contains(&format!("lacks {name}")), "{run:?}");
            let cure = format!("GRANT {name} ON {on} TO `understudy`@`%`");
            assert!(run.stdout.contains(&cure), "{cure}: {run:?}");
            assert!(trio.is_writable("b") && trio.server("b").channels().is_empty());
        }
        unlogged_grants(&trio, &all);
        trio.tool.run(&["rejoin", "b"]).ok();
        trio.assert_source("a", &["b", "c"]);
    }
}

/// The tool's account on `b` has these and nothing else.
fn unlogged_grants(trio: &Trio, privileges: &[(String, String)]) {
    let mut statements =
        vec!["REVOKE ALL PRIVILEGES, GRANT OPTION FROM 'understudy'@'%'".to_owned()];
    statements.extend(
        privileges
            .iter()
            .map(|(what, on)| format!("GRANT {what} ON {on} TO 'understudy'@'%'")),
    );
    trio.server("b").execute_unlogged(&statements);
}
