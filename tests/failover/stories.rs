//! Stories that happened to somebody, each told once: given, fault, when, expect.

use std::time::Duration;

use serde_json::json;

use crate::lab;
use crate::lab::server::{Flavour, flavours};
use crate::lab::small_state::SmallState;
use crate::lab::trio::Trio;
use crate::lab::trio::Watch;

fn receipts(trio: &Trio) -> Vec<String> {
    let status = trio.status();
    let receipts = status["pairs"][0]["receipts"].as_array().unwrap().clone();
    let of = |receipt: &serde_json::Value| receipt["old_source"].as_str().unwrap().to_owned();
    receipts.iter().map(of).collect()
}

fn fail_over(trio: &Trio, to: &str) {
    let args = [
        "failover",
        "lab",
        "--to",
        to,
        "--unfenced",
        "--confirm",
        "0s",
        "--again",
        "--yes",
    ];
    let report = trio.tool.run(&args).ok().json();
    assert_eq!(report["failover"]["result"], "done", "{report}");
}

/// Given three failovers in a row, each old source rejoining before the next, expect one source that
/// everybody follows after each. Then a second one before the first old source is back: both receipts
/// are kept until each has rejoined.
#[test]
fn failovers_in_a_row_keep_their_receipts() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 3);
        for (from, to, other) in [("a", "b", "c"), ("b", "c", "a"), ("c", "a", "b")] {
            trio.wait_same(from, to);
            trio.wait_same(from, other);
            trio.kill(from);
            fail_over(&trio, to);
            trio.assert_source(to, &[other]);
            assert_eq!(receipts(&trio), [from]);
            trio.revive(from);
            trio.tool.run(&["rejoin", from]).ok();
            trio.assert_source(to, &[other, from]);
            assert_eq!(receipts(&trio), [""; 0]);
        }
        for (from, to) in [("a", "b"), ("b", "c")] {
            trio.wait_same(from, to);
            if from == "a" {
                trio.wait_same(from, "c");
            }
            trio.kill(from);
            fail_over(&trio, to);
        }
        assert_eq!(receipts(&trio), ["a", "b"]);
        for (name, left) in [("a", &["b"][..]), ("b", &[])] {
            trio.revive(name);
            trio.tool.run(&["rejoin", name]).ok();
            assert_eq!(receipts(&trio), left);
        }
        trio.assert_source("c", &["a", "b"]);
    }
}

/// Given a source that comes back while a failover is at it, before or after its commit, expect that it isn't
/// given up, and that replicas fetch from it again; one that comes back after the opening is told, and closed by its rejoin.
#[test]
fn an_old_source_that_comes_back_meanwhile() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        let args = ["failover", "lab", "--unfenced", "--confirm", "0s", "--yes"];
        trio.wait_same("a", "b");
        trio.kill("a");
        let mut run = trio.tool.spawn_at("fence:before=sleep:6000", &args);
        run.wait_at("fence:before");
        trio.revive("a");
        let (_, message) = run.wait().expect_code(4).error();
        assert!(message.contains("answers again"), "{message}");
        assert!(!trio.is_writable("b"));
        trio.wait_same("a", "b");
        trio.assert_source("a", &["b"]);
        assert_eq!(receipts(&trio), [""; 0]);

        trio.kill("a");
        let mut run = trio.tool.spawn_at("commit:after=sleep:6000", &args);
        run.wait_at("commit:after");
        trio.revive("a");
        let (_, message) = run.wait().expect_code(5).error();
        assert!(message.contains("a answers again"), "{message}");
        trio.wait_same("a", "b");
        trio.assert_source("a", &["b"]);
        assert_eq!(receipts(&trio), [""; 0]);

        trio.kill("a");
        trio.tool.run(&args).ok();
        trio.revive("a");
        assert!(trio.is_writable("a") && trio.is_writable("b"));
        let check = ["check", "lab", "--rule", "server.demoted-writable"];
        trio.tool.run(&check).expect_code(2);
        trio.tool.run(&["rejoin", "a"]).ok();
        trio.assert_source("b", &["a"]);
    }
}

/// Given a failover that is at its fence when another replica dies, expect that it goes on without that one.
#[test]
fn a_replica_that_dies_meanwhile_stops_no_failover() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 3);
        let args = [
            "failover",
            "lab",
            "--to",
            "b",
            "--unfenced",
            "--confirm",
            "0s",
            "--yes",
        ];
        trio.wait_same("a", "b");
        trio.wait_same("a", "c");
        trio.kill("a");
        let mut run = trio.tool.spawn_at("fence:before=sleep:3000", &args);
        run.wait_at("fence:before");
        trio.kill("c");
        let report = run.wait().expect_code(5).json()["failover"].clone();
        assert!(trio.is_writable("b"), "{report}");
        assert_eq!(report["not_repointed"][0]["server"], "c", "{report}");
    }
}

/// Given a replica that can't log in to its source any more while clients write there, expect that a
/// failover is refused, since the source answers, and a switchover, since nothing would arrive.
#[test]
fn replication_is_cut_off_and_clients_are_not() {
    for flavour in flavours() {
        let trio = Trio::start(flavour, 2);
        trio.wait_same("a", "b");
        let word = match flavour.is_mariadb() {
            true => "SLAVE",
            false => "REPLICA",
        };
        let a = trio.server("a");
        a.execute_unlogged(&["RENAME USER 'understudy_repl'@'%' TO 'away'@'%'".to_owned()]);
        trio.server("b").execute(&format!("STOP {word} IO_THREAD"));
        trio.server("b").execute(&format!("START {word} IO_THREAD"));
        a.execute("INSERT INTO lab.w VALUES (7001)");
        let (_, message) = trio.failover(&["--unfenced"]).expect_code(4).error();
        assert!(message.contains("answers"), "{message}");
        let args = ["switchover", "lab", "--yes"];
        lab::eventually(lab::limit(10), "it is told why", || {
            let (_, message) = trio.tool.run(&args).expect_code(4).error();
            message.contains("receives nothing from its source")
        });
        assert!(trio.is_writable("a") && !trio.is_writable("b"));
        a.execute_unlogged(&["RENAME USER 'away'@'%' TO 'understudy_repl'@'%'".to_owned()]);
        trio.server("b").execute(&format!("STOP {word} IO_THREAD"));
        trio.server("b").execute(&format!("START {word} IO_THREAD"));
        trio.assert_source("a", &["b"]);
        trio.switchover("b").ok();
        trio.assert_source("b", &["a"]);
    }
}

/// Given three domains of MariaDB, in one of which somebody wrote to the replica, expect that this one
/// alone is named, and that nobody moves.
#[test]
fn one_errant_domain_of_three_is_named() {
    let flavour = Flavour::Mariadb;
    if !flavours().contains(&flavour) {
        return;
    }
    let trio = Trio::start(flavour, 2);
    let write = |name: &str, domain: u32, id: u32| {
        use mysql::prelude::Queryable;
        let mut session = trio.server(name).connect();
        let statements = [
            format!("SET SESSION gtid_domain_id = {domain}"),
            format!("INSERT INTO lab.w VALUES ({id})"),
        ];
        for statement in statements {
            session.query_drop(statement).unwrap();
        }
    };
    for domain in 1..3 {
        write("a", domain, 100 + domain);
    }
    trio.wait_same("a", "b");
    trio.switchover("b").ok();
    trio.switchover("a").ok();
    trio.assert_source("a", &["b"]);
    trio.server("b").execute("SET GLOBAL read_only = OFF");
    write("b", 2, 999);
    trio.server("b").execute("SET GLOBAL read_only = ON");
    for args in [
        &["switchover", "lab", "--yes"][..],
        &["switchover", "lab", "--dry-run"],
    ] {
        let (_, message) = trio.tool.run(args).expect_code(4).error();
        assert!(message.contains("of its own: 2-22-"), "{message}");
        assert!(!message.contains(','), "{message}");
    }
    assert!(trio.is_writable("a") && !trio.is_writable("b"));
}

/// Given links of which one is encrypted and has a heartbeat of its own, expect both kept as roles move.
#[test]
fn each_link_keeps_its_encryption() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 3);
        let mariadb = flavour.is_mariadb();
        if mariadb {
            // MariaDB 10.11 makes no certificates; MySQL's do.
            let home = Flavour::Mysql97.home().join("template");
            if !home.join("server-cert.pem").exists() {
                continue;
            }
            let option = |name: &str, file: &str| format!("--{name}={}", home.join(file).display());
            let extra = [
                option("ssl-cert", "server-cert.pem"),
                option("ssl-key", "server-key.pem"),
                option("ssl-ca", "ca.pem"),
            ];
            for server in &mut trio.servers {
                server.restart_with(&extra);
            }
            for name in ["b", "c"] {
                trio.close_again(name);
            }
        }
        let (stop, start, change) = match mariadb {
            true => (
                "STOP SLAVE",
                "START SLAVE",
                "CHANGE MASTER TO MASTER_SSL = 1, MASTER_SSL_VERIFY_SERVER_CERT = 0, \
                 MASTER_HEARTBEAT_PERIOD = 1.5",
            ),
            false => (
                "STOP REPLICA",
                "START REPLICA",
                "CHANGE REPLICATION SOURCE TO SOURCE_SSL = 1, SOURCE_HEARTBEAT_PERIOD = 1.5",
            ),
        };
        for statement in [stop, change, start] {
            trio.server("c").execute(statement);
        }
        trio.wait_same("a", "c");
        let is_encrypted = |name: &str| {
            let rows = trio.server(name).rows(flavour.replica_status());
            let named = |own: &&str| rows[0].get(*own).cloned();
            let names = ["source_ssl_allowed", "master_ssl_allowed"];
            names.iter().find_map(named).unwrap()
        };
        let heartbeat = match mariadb {
            true => "SHOW GLOBAL STATUS LIKE 'Slave_heartbeat_period'",
            false => {
                "SELECT 'x', HEARTBEAT_INTERVAL FROM \
                 performance_schema.replication_connection_configuration"
            }
        };
        let beats = || format!("{:?}", trio.server("c").rows(heartbeat)).contains("1.5");
        for to in ["b", "a"] {
            trio.switchover(to).ok();
            let old = if to == "b" { "a" } else { "b" };
            trio.assert_source(to, &[old, "c"]);
            assert_eq!(is_encrypted("c"), "Yes", "c follows {to}");
            assert_eq!(is_encrypted(old), "No", "{old} follows {to}");
            assert!(beats(), "c follows {to}");
        }
    }
}

/// Given a replica below the candidate, expect that it stays there, planned or not; and that it is turned
/// when its source becomes a replica again.
#[test]
fn a_replica_below_the_candidate_stays_there() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 3);
        trio.tool.run(&["repoint", "c", "--to", "b"]).ok();
        trio.wait_same("a", "c");
        let watch = Watch::start(&trio);
        let report = trio.switchover("b").ok().json()["failover"].clone();
        assert_eq!(report["repointed"], json!(["a"]), "{report}");
        trio.assert_source("b", &["a", "c"]);
        let (_, message) = trio.switchover("d").expect_code(4).error();
        assert!(message.contains("isn't a server"), "{message}");
        trio.switchover("a").ok();
        watch.end();
        trio.assert_source("a", &["b", "c"]);
        trio.tool.run(&["repoint", "c", "--to", "b"]).ok();
        trio.wait_same("a", "c");
        // It isn't asked: it would come to follow its own source.
        let (_, message) = trio.switchover("c").expect_code(4).error();
        assert!(message.contains("doesn't follow a"), "{message}");
        trio.kill("a");
        fail_over(&trio, "b");
        trio.assert_source("b", &["c"]);
    }
}

/// Given a candidate whose disk is full, expect that a switchover gives up in time with everything as
/// before, and that no failover hangs.
#[test]
fn a_candidate_whose_disk_is_full_costs_its_time_only() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 2);
        trio.wait_same("a", "b");
        let dir = trio.tool.base.join("small");
        let small = SmallState::mount(&dir);
        let log = format!("--log-bin={}", dir.join("binlog").display());
        trio.servers[1].restart_with(&[log]);
        trio.close_again("b");
        trio.wait_same("a", "b");
        trio.server("a")
            .execute("CREATE TABLE lab.big (b LONGBLOB)");
        trio.wait_same("a", "b");
        small.fill();
        trio.server("a")
            .execute("INSERT INTO lab.big VALUES (REPEAT('x', 100000))");
        let since = std::time::Instant::now();
        let args = ["switchover", "lab", "--timeout", "2s", "--yes"];
        let run = trio.tool.run(&args);
        assert!(matches!(run.code(), 1 | 4), "{run:?}");
        assert!(trio.is_writable("a") && !trio.is_writable("b"));
        trio.kill("a");
        let args = ["--unfenced", "--drain", "2s"];
        let run = trio.failover(&args);
        let (_, message) = run.expect_code(4).error();
        assert!(
            message.contains("has all that the others have"),
            "{message}"
        );
        assert!(since.elapsed() < Duration::from_secs(60), "{message}");
        assert!(!trio.is_writable("b"));
        small.empty();
    }
}
