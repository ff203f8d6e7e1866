//! Whether the data could be had back.

use std::thread::sleep;

use super::*;
use crate::lab::runner::Case;

pub fn cases() -> Vec<Case> {
    crate::cases![
        false age_and_proof_are_judged,
        false an_orphan_is_seen,
        false a_damaged_snapshot_is_seen,
        false an_interrupted_operation_is_seen,
        false doctor_tells_what_would_fail_tonight,
        false doctor_compares_the_replica_with_its_source,
    ]
}

fn check(pair: &Pair, more: &[&str], code: i32) -> Value {
    let name = pair.name();
    let mut args = vec!["check", &name];
    args.extend(more);
    pair.tool.run(&args).expect_code(code).json()
}

fn age_and_proof_are_judged(pair: &mut Pair) {
    close(pair);
    is_silent(pair);
    // Without any, the clock runs since the server is known.
    sleep(Duration::from_millis(3100));
    let age = ["--rule", "snapshot.age", "--warning-snapshot-age", "3s"];
    check(pair, &age, 1);
    let snapshot = pair.create(&[]);
    check(pair, &age, 0);
    let status = status(pair);
    assert_eq!(replica(pair, &status)["last_snapshot"], snapshot["id"]);
    assert_eq!(replica(pair, &status)["last_proof"], Value::Null);
    sleep(Duration::from_millis(3100));
    check(pair, &age, 1);
    check(
        pair,
        &[&age[..], &["--critical-snapshot-age", "3s"]].concat(),
        2,
    );
    let proof = ["--rule", "snapshot.proof-age", "--warning-proof-age", "3s"];
    check(pair, &proof, 1);
    pair.tool
        .run(&["snapshot", "verify", snapshot["id"].as_str().unwrap()])
        .ok();
    let status = super::status(pair);
    assert_eq!(replica(pair, &status)["last_proof"], snapshot["id"]);
    check(
        pair,
        &["--rule", "snapshot.proof-age", "--warning-proof-age", "1h"],
        0,
    );
    sleep(Duration::from_millis(3100));
    check(pair, &proof, 1);
    is_silent(pair);
    pair.delete_all();
}

fn an_orphan_is_seen(pair: &mut Pair) {
    close(pair);
    let snapshot = pair.create(&[]);
    let id = snapshot["id"].as_str().unwrap();
    let manifest = pair
        .state_dir()
        .join("snapshots")
        .join(format!("{id}.json"));
    let text = std::fs::read(&manifest).unwrap();
    std::fs::remove_file(&manifest).unwrap();
    sees(pair, "snapshot.orphans", "warning");
    std::fs::write(&manifest, text).unwrap();
    is_silent(pair);
    pair.delete_all();
}

fn a_damaged_snapshot_is_seen(pair: &mut Pair) {
    close(pair);
    let good = pair.create(&[]);
    let snapshot = pair.create(&[]);
    let name = snapshot["volumes"][0]["name"].as_str().unwrap();
    let aside = format!("{name}.aside");
    std::fs::rename(name, &aside).unwrap();
    sees(pair, "snapshot.bad", "critical");
    std::fs::rename(&aside, name).unwrap();
    is_silent(pair);
    let name = good["volumes"][0]["name"].as_str().unwrap();
    let aside = format!("{name}.aside");
    std::fs::rename(name, &aside).unwrap();
    sees(pair, "snapshot.bad", "warning");
    std::fs::rename(&aside, name).unwrap();
    is_silent(pair);
    pair.delete_all();
}

fn an_interrupted_operation_is_seen(pair: &mut Pair) {
    close(pair);
    let name = pair.name();
    let run = pair
        .tool
        .run_at("taken=kill", &["snapshot", "create", &name]);
    assert_eq!(run.code(), -1, "{}", run.stderr);
    sees(pair, "server.unfinished-operation", "warning");
    pair.tool.run(&["recover", &name]).ok();
    pair.wait_caught_up();
    is_silent(pair);
}

/// The checks of one id, as (status, message).
fn doctor(pair: &Pair, code: i32, id: &str) -> Vec<(String, String)> {
    let run = pair
        .tool
        .run(&["doctor", &pair_name(pair)])
        .expect_code(code);
    let document = run.json();
    document["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["id"] == id)
        .map(|check| {
            let text = |name: &str| check[name].as_str().unwrap().to_owned();
            assert!(
                text("status") == "ok" || !text("hint").is_empty(),
                "{check}"
            );
            (text("status"), text("message"))
        })
        .collect()
}

#[track_caller]
fn has(checks: &[(String, String)], status: &str, words: &str) {
    assert!(
        checks
            .iter()
            .any(|(s, message)| s == status && message.contains(words)),
        "{status} {words:?} isn't in {checks:?}"
    );
}

fn doctor_tells_what_would_fail_tonight(pair: &mut Pair) {
    close(pair);
    let_roles_move(pair);
    has(
        &doctor(pair, 0, "snapshot.ready"),
        "ok",
        "could be taken now",
    );
    pair.configure(|settings| settings.backend = "zfs".to_owned());
    let checks = doctor(pair, 4, "snapshot.ready");
    has(&checks, "fail", "");
    pair.configure_plain();
    threads(pair, "STOP", "SQL_THREAD");
    let run = pair.tool.run(&["doctor", &pair.name()]).expect_code(4);
    assert!(run.stdout.contains("replica.sql-stopped"), "{}", run.stdout);
    threads(pair, "START", "SQL_THREAD");
    pair.wait_caught_up();
    has(
        &doctor(pair, 0, "restore.service"),
        "warn",
        "isn't configured",
    );
}

fn doctor_compares_the_replica_with_its_source(pair: &mut Pair) {
    close(pair);
    let_roles_move(pair);
    has(&doctor(pair, 0, "failover.gtid"), "ok", "GTID");
    has(&doctor(pair, 0, "failover.binary-log"), "ok", "");
    has(&doctor(pair, 0, "datajoint.packets"), "ok", "");
    has(&doctor(pair, 0, "datajoint.charset"), "ok", "");
    // Set by hand, as the lab does for MySQL; on MariaDB it stands on the command line.
    let boot = doctor(pair, 0, "failover.boot-read-only");
    has(&boot, "ok", "comes up read-only");

    let before = pair.source.value("SELECT @@GLOBAL.max_allowed_packet");
    pair.source
        .execute("SET GLOBAL max_allowed_packet = 1073741824");
    has(&doctor(pair, 4, "datajoint.packets"), "fail", "");
    pair.source
        .execute(&format!("SET GLOBAL max_allowed_packet = {before}"));

    let charset = pair.source.value("SELECT @@GLOBAL.character_set_server");
    pair.source
        .execute("SET GLOBAL character_set_server = 'ascii'");
    has(
        &doctor(pair, 0, "datajoint.charset"),
        "warn",
        "character_set_server",
    );
    pair.source
        .execute(&format!("SET GLOBAL character_set_server = '{charset}'"));

    pair.source
        .execute_unlogged(&["CREATE USER 'alice'@'%' IDENTIFIED BY 'x'".to_owned()]);
    has(&doctor(pair, 0, "datajoint.accounts"), "warn", "alice@%");
    pair.source
        .execute_unlogged(&["DROP USER 'alice'@'%'".to_owned()]);
    has(&doctor(pair, 0, "datajoint.accounts"), "ok", "");

    pair.source
        .execute("CREATE TABLE lab.blobs (id INT PRIMARY KEY, b LONGBLOB) ENGINE=InnoDB");
    has(&doctor(pair, 0, "datajoint.row-image"), "warn", "lab.blobs");
    pair.source
        .execute("SET GLOBAL binlog_row_image = 'NOBLOB'");
    has(&doctor(pair, 0, "datajoint.row-image"), "ok", "NOBLOB");
    pair.source.execute("SET GLOBAL binlog_row_image = 'FULL'");
    pair.source.execute("DROP TABLE lab.blobs");
    pair.wait_caught_up();
    is_silent(pair);
}
