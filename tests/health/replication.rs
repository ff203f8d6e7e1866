//! What a replica does.

use std::thread::sleep;

use nix::sys::signal::Signal;

use super::*;
use crate::lab::runner::Case;

pub fn cases() -> Vec<Case> {
    crate::cases![
        false a_healthy_pair_is_silent,
        false stopped_threads_are_seen,
        false an_unreachable_source_is_an_io_error,
        false a_row_that_is_there_already_is_an_sql_error,
        false a_blocked_applier_lags_by_heartbeat,
        false half_of_the_logs_life_spent_is_seen,
        false a_heartbeat_is_refused_where_it_would_be_errant,
        false a_writable_replica_is_seen,
        false a_pause_is_no_fault_until_its_deadline,
        false gaps_can_be_left,
        false semi_sync_that_nobody_answers_is_seen,
        false a_server_that_follows_nobody_is_seen,
    ]
}

/// What a pair doesn't get over.
pub fn last_cases() -> Vec<Case> {
    crate::cases![
        false a_write_on_the_replica_is_errant,
        false purged_binary_logs_are_seen,
    ]
}

fn a_healthy_pair_is_silent(pair: &mut Pair) {
    close(pair);
    is_silent(pair);
    let status = status(pair);
    let replica = replica(pair, &status);
    assert_eq!(replica["role"], "replica");
    assert_eq!(replica["reachable"], true);
    assert_eq!(replica["read_only"], true);
    assert_eq!(replica["io_running"], true);
    assert_eq!(replica["sql_running"], true);
    assert_eq!(replica["lag_ms"], 0);
    assert_eq!(replica["lag_method"], "gtid");
    assert_eq!(replica["errant_gtid"], "");
    assert_eq!(replica["paused_by"], Value::Null);
    assert_eq!(replica["follows"], pair.source_name().as_str());
    assert_eq!(status["servers"][0]["role"], "source");
    assert_eq!(status["servers"][0]["read_only"], false);
    let gtid = replica["gtid_executed"].as_str().unwrap();
    assert_eq!(gtid, pair.replica.gtid().replace(['\n', ' '], ""));
}

fn stopped_threads_are_seen(pair: &mut Pair) {
    threads(pair, "STOP", "IO_THREAD");
    let status = sees(pair, "replica.io-stopped", "critical");
    assert_eq!(replica(pair, &status)["io_running"], false);
    threads(pair, "START", "IO_THREAD");
    threads(pair, "STOP", "SQL_THREAD");
    let status = sees(pair, "replica.sql-stopped", "critical");
    assert_eq!(replica(pair, &status)["sql_running"], false);
    threads(pair, "START", "SQL_THREAD");
    is_silent(pair);
}

fn an_unreachable_source_is_an_io_error(pair: &mut Pair) {
    pair.source
        .execute_unlogged(&["ALTER USER 'repl'@'%' IDENTIFIED BY 'another'".to_owned()]);
    threads(pair, "STOP", "IO_THREAD");
    threads(pair, "START", "IO_THREAD");
    eventually(limit(20), "the IO thread has tried", || {
        findings(&status(pair)).contains(&("replica.io-error".to_owned(), "critical".to_owned()))
    });
    sees(pair, "replica.io-error", "critical");
    pair.source
        .execute_unlogged(&["ALTER USER 'repl'@'%' IDENTIFIED BY 'repl'".to_owned()]);
    pair.wait_caught_up();
    is_silent(pair);
}

fn a_row_that_is_there_already_is_an_sql_error(pair: &mut Pair) {
    pair.source
        .execute("CREATE TABLE lab.twice (id INT PRIMARY KEY) ENGINE=InnoDB");
    pair.wait_caught_up();
    open(pair);
    pair.replica
        .execute_unlogged(&["INSERT INTO lab.twice VALUES (1)".to_owned()]);
    close_quietly(pair);
    pair.source.execute("INSERT INTO lab.twice VALUES (1)");
    eventually(limit(20), "the applier has stopped", || {
        pair.replica
            .channels()
            .iter()
            .any(|(_, _, sql)| sql == "No")
    });
    let status = sees(pair, "replica.sql-error", "critical");
    let text = replica(pair, &status)["findings"].to_string();
    assert!(text.contains("twice") || text.contains("Worker"), "{text}");
    open(pair);
    pair.replica
        .execute_unlogged(&["DELETE FROM lab.twice".to_owned()]);
    close_quietly(pair);
    threads(pair, "START", "SQL_THREAD");
    pair.wait_caught_up();
    is_silent(pair);
}

/// Lets a test write on the replica, in sessions without binary log.
fn open(pair: &Pair) {
    pair.replica.execute("SET GLOBAL read_only = 0");
}

fn close_quietly(pair: &Pair) {
    pair.replica.execute("SET GLOBAL read_only = 1");
    if !pair.flavour.is_mariadb() {
        pair.replica.execute("SET GLOBAL super_read_only = 1");
    }
}

fn a_blocked_applier_lags_by_heartbeat(pair: &mut Pair) {
    let source = pair.source_name();
    let beats = ["heartbeat", &source, "--for", "3s", "--every", "200ms"];
    let report = pair.tool.run(&beats).ok().json();
    assert!(
        report["heartbeat"]["beats"].as_u64().unwrap() >= 5,
        "{report}"
    );
    pair.wait_caught_up();
    is_silent(pair);
    // A lock on the table that the next transaction needs.
    let mut lock = pair.replica.connect();
    mysql::prelude::Queryable::query_drop(&mut lock, "LOCK TABLES lab.ping READ").unwrap();
    pair.source.execute("INSERT INTO lab.ping VALUES ()");
    pair.tool.run(&beats).ok();
    let check = pair.tool.run(&[
        "check",
        &pair_name(pair),
        "--rule",
        "replica.lag",
        "--warning-lag",
        "1s",
        "--critical-lag",
        "1h",
    ]);
    let document = check.expect_code(1).json();
    let servers = document["check"]["pairs"][0]["servers"]
        .as_array()
        .unwrap()
        .clone();
    let own = servers
        .iter()
        .find(|server| server["name"] == pair.name().as_str())
        .unwrap();
    let lag_ms = own["lag_ms"].as_u64().unwrap();
    assert_eq!(own["lag_method"], "heartbeat", "{own}");
    assert!((1000..60_000).contains(&lag_ms), "{own}");
    // Not when it is allowed.
    pair.tool
        .run(&[
            "check",
            &pair_name(pair),
            "--rule",
            "replica.lag",
            "--warning-lag",
            "1h",
        ])
        .expect_code(0);
    drop(lock);
    pair.wait_caught_up();
    is_silent(pair);
}

fn half_of_the_logs_life_spent_is_seen(pair: &mut Pair) {
    close(pair);
    let source = pair.source_name();
    let life = "binlog_expire_logs_seconds";
    let kept = pair.source.value(&format!("SELECT @@GLOBAL.{life}"));
    let beats = ["heartbeat", &source, "--for", "2s", "--every", "200ms"];
    pair.tool.run(&beats).ok();
    pair.wait_caught_up();
    threads(pair, "STOP", "SQL_THREAD");
    // The log that is written to goes never, so that nothing is lost.
    pair.source.execute(&format!("SET GLOBAL {life} = 3"));
    pair.tool.run(&beats).ok();
    sees(pair, "source.binlog-expiry", "warning");
    pair.source.execute(&format!("SET GLOBAL {life} = {kept}"));
    threads(pair, "START", "SQL_THREAD");
    pair.wait_caught_up();
    is_silent(pair);
}

fn a_heartbeat_is_refused_where_it_would_be_errant(pair: &mut Pair) {
    let (name, source) = (pair.name(), pair.source_name());
    pair.tool
        .run(&["heartbeat", &name, "--for", "1s"])
        .expect_code(4);
    // Also on one that could be written to.
    open(pair);
    let before = pair.replica.gtid();
    pair.tool
        .run(&["heartbeat", &name, "--for", "1s"])
        .expect_code(4);
    let run = pair.tool.spawn(&["heartbeat", &name, "--forever"], &[]);
    sleep(Duration::from_secs(2));
    run.signal(Signal::SIGTERM);
    let report = run.wait().ok().json();
    assert_eq!(report["heartbeat"]["beats"], 0, "{report}");
    assert!(
        report["heartbeat"]["left_out"].as_u64().unwrap() >= 1,
        "{report}"
    );
    close_quietly(pair);
    assert_eq!(pair.replica.gtid(), before);
    // A source that loses its replicas is perhaps none any more.
    threads(pair, "STOP", "");
    pair.replica
        .execute(&pair.flavour.replica_statement("RESET", "ALL", ""));
    pair.tool
        .run(&["heartbeat", &source, "--for", "1s"])
        .expect_code(4);
    pair.follow(&pair.replica, &pair.source, "");
    pair.wait_caught_up();
    is_silent(pair);
}

fn a_writable_replica_is_seen(pair: &mut Pair) {
    open(pair);
    sees(pair, "replica.writable", "warning");
    sees(pair, "pair.both-writable", "critical");
    pair.replica.execute("SET GLOBAL read_only = 1");
    if !pair.flavour.is_mariadb() {
        sees(pair, "replica.writable", "warning");
    }
    close_quietly(pair);
    is_silent(pair);
    pair.source.execute("SET GLOBAL read_only = 1");
    sees(pair, "pair.no-source", "critical");
    pair.source.execute("SET GLOBAL read_only = 0");
    if !pair.flavour.is_mariadb() {
        pair.source.execute("SET GLOBAL super_read_only = 0");
    }
    is_silent(pair);
}

fn a_pause_is_no_fault_until_its_deadline(pair: &mut Pair) {
    let name = pair.name();
    pair.tool.run(&["pause", &name, "--for", "1h"]).ok();
    let seen = sees(pair, "replica.paused", "info");
    assert_eq!(seen["state"], "healthy");
    assert_eq!(replica(pair, &seen)["paused_by"], "pause");
    pair.tool.run(&["check", &pair_name(pair)]).expect_code(0);
    pair.tool.run(&["resume", &name]).ok();
    is_silent(pair);
    // Past its deadline, with nobody left to end it.
    pair.tool.run(&["pause", &name, "--for", "2s"]).ok();
    for pid in pair.tool.watchdogs() {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    }
    sleep(Duration::from_secs(2) + MOMENT);
    sees(pair, "replica.paused", "critical");
    sees(pair, "replica.sql-stopped", "critical");
    pair.tool.run(&["recover", &name]).ok();
    pair.wait_caught_up();
    is_silent(pair);
}

fn gaps_can_be_left(pair: &mut Pair) {
    let statements: (&[&str], &[&str]) = match pair.flavour {
        Flavour::Mariadb | Flavour::MariadbOther => (
            &[
                "STOP SLAVE",
                "CHANGE MASTER TO MASTER_USE_GTID=no",
                "START SLAVE",
            ],
            &[
                "STOP SLAVE",
                "CHANGE MASTER TO MASTER_USE_GTID=slave_pos",
                "START SLAVE",
            ],
        ),
        Flavour::Mysql97 | Flavour::Mysql56 => (
            &[
                "STOP REPLICA SQL_THREAD",
                "SET GLOBAL replica_preserve_commit_order = 0",
                "START REPLICA SQL_THREAD",
            ],
            &[
                "STOP REPLICA SQL_THREAD",
                "SET GLOBAL replica_preserve_commit_order = 1",
                "START REPLICA SQL_THREAD",
            ],
        ),
    };
    statements
        .0
        .iter()
        .for_each(|one| pair.replica.execute(one));
    sees(pair, "replica.gap-risk", "warning");
    statements
        .1
        .iter()
        .for_each(|one| pair.replica.execute(one));
    pair.wait_caught_up();
    is_silent(pair);
}

fn semi_sync_that_nobody_answers_is_seen(pair: &mut Pair) {
    let (on, off): (&[&str], &[&str]) = match pair.flavour {
        Flavour::Mariadb | Flavour::MariadbOther => (
            &["SET GLOBAL rpl_semi_sync_master_enabled = 1"],
            &["SET GLOBAL rpl_semi_sync_master_enabled = 0"],
        ),
        Flavour::Mysql97 | Flavour::Mysql56 => (
            &[
                "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'",
                "SET GLOBAL rpl_semi_sync_source_enabled = 1",
            ],
            &[
                "SET GLOBAL rpl_semi_sync_source_enabled = 0",
                "UNINSTALL PLUGIN rpl_semi_sync_source",
            ],
        ),
    };
    on.iter().for_each(|one| pair.source.execute(one));
    sees(pair, "source.semi-sync-degraded", "warning");
    off.iter().for_each(|one| pair.source.execute(one));
    is_silent(pair);
}

fn a_server_that_follows_nobody_is_seen(pair: &mut Pair) {
    threads(pair, "STOP", "");
    pair.replica
        .execute(&pair.flavour.replica_statement("RESET", "ALL", ""));
    let status = sees(pair, "replica.not-following", "critical");
    assert_eq!(status["source"], pair.source_name().as_str());
    assert_eq!(replica(pair, &status)["role"], "alone");
    assert_eq!(replica(pair, &status)["lag_ms"], Value::Null);
    // Both writable and no replication: nothing tells which one it is.
    open(pair);
    let status = sees(pair, "pair.no-source", "critical");
    assert_eq!(status["source"], Value::Null);
    sees(pair, "pair.both-writable", "critical");
    close_quietly(pair);
    pair.follow(&pair.replica, &pair.source, "");
    pair.wait_caught_up();
    is_silent(pair);
}

fn a_write_on_the_replica_is_errant(pair: &mut Pair) {
    close(pair);
    // Under a load: what only looks errant, since servers are asked one beside the other, isn't.
    let load = crate::lab::load::Load::start(&pair.source, Duration::from_millis(2));
    for _ in 0..20 {
        let found = findings(&status(pair));
        let is_errant = |(rule, _): &(String, String)| rule == "replica.errant-gtids";
        assert!(!found.iter().any(is_errant), "{found:?}");
    }
    load.stop();
    pair.wait_caught_up();
    is_silent(pair);
    open(pair);
    pair.replica.execute("CREATE DATABASE errant");
    close_quietly(pair);
    let status = sees(pair, "replica.errant-gtids", "warning");
    let errant = replica(pair, &status)["errant_gtid"]
        .as_str()
        .unwrap()
        .to_owned();
    let own = match pair.flavour {
        Flavour::Mariadb | Flavour::MariadbOther => "-12-".to_owned(),
        Flavour::Mysql97 | Flavour::Mysql56 => pair.replica.value("SELECT @@server_uuid"),
    };
    assert!(errant.contains(&own), "{errant} isn't of {own}");
    pair.source.execute("INSERT INTO lab.ping VALUES ()");
    sees(pair, "replica.errant-gtids", "warning");
}

fn purged_binary_logs_are_seen(pair: &mut Pair) {
    threads(pair, "STOP", "IO_THREAD");
    pair.source.execute("INSERT INTO lab.ping VALUES ()");
    pair.source.execute("FLUSH BINARY LOGS");
    let first = pair.source.rows("SHOW BINARY LOGS");
    let last = first.last().unwrap()["log_name"].clone();
    eventually(limit(20), "the logs are gone", || {
        // Not while the thread is there that sent them.
        pair.source
            .execute(&format!("PURGE BINARY LOGS TO '{last}'"));
        pair.source.execute("INSERT INTO lab.ping VALUES ()");
        pair.source.rows("SHOW BINARY LOGS").len() == 1
    });
    sees(pair, "source.binlog-expiry", "critical");
}
