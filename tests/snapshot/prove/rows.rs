//! The rows themselves: the previous snapshot, brought forward by the binary logs in this one, must be
//! equal to it.

use std::time::Duration;

use serde_json::Value;

use crate::lab::left::Footprint;
use crate::lab::load::Load;
use crate::lab::pair::Pair;
use crate::lab::runner::Case;
use crate::lab::{eventually, limit};
use crate::{cases, id, verify};

pub fn cases() -> Vec<Case> {
    cases![
        false compares_rows_with_the_snapshot_before,
        false says_why_rows_cannot_be_compared,
        false leaves_nothing_of_a_killed_comparison,
    ]
}

fn some_load(pair: &Pair) {
    let load = Load::start(&pair.source, Duration::ZERO);
    std::thread::sleep(Duration::from_millis(400));
    load.stop();
    pair.wait_caught_up();
}

fn rotate(pair: &Pair) {
    pair.replica.execute("FLUSH LOCAL BINARY LOGS");
}

fn verified(pair: &Pair, snapshot: &Value) -> Value {
    let run = verify(pair, snapshot, "rows").ok();
    run.json()["snapshot"].clone()
}

fn compares_rows_with_the_snapshot_before(pair: &mut Pair) {
    let before = Footprint::of(pair);
    some_load(pair);
    let first = pair.create(&["--verify"]);
    // A schema that comes and goes, DDL, and several logs between the two.
    pair.source.execute("CREATE DATABASE between_them");
    pair.source
        .execute("CREATE TABLE between_them.`odd ``name` (id INT PRIMARY KEY, t TEXT, j DOUBLE)");
    some_load(pair);
    rotate(pair);
    pair.source
        .execute("INSERT INTO between_them.`odd ``name` VALUES (1, 'x', 1e100), (2, NULL, -0.5)");
    pair.source
        .execute("ALTER TABLE between_them.`odd ``name` ADD COLUMN more INT DEFAULT 7");
    of_hidden_columns(pair);
    some_load(pair);
    rotate(pair);
    let second = pair.create(&[]);
    some_load(pair);
    let proven = verified(pair, &second);
    assert_eq!(proven["proof"], "rows", "{proven}");
    assert_eq!(proven["verification"]["compared_with"], first["id"]);
    assert!(proven["verification"]["tables"].as_u64() > Some(3));

    // A row that went without the log: as when the engine loses what the log names.
    let unlogged = |statement: &str| pair.replica.execute_unlogged(&[statement.to_owned()]);
    unlogged("CREATE TABLE lab.kept AS SELECT * FROM lab.t WHERE id = 3");
    unlogged("DELETE FROM lab.t WHERE id = 3");
    unlogged("CREATE TABLE lab.kept_too AS SELECT * FROM `SYS`.h");
    unlogged("DELETE FROM `SYS`.h WHERE id = 1");
    let third = pair.create(&["--verify"]);
    assert_eq!(third["proof"], "booted", "the position lies: {third}");
    let run = verify(pair, &third, "rows").expect_code(1);
    let failed = run.json()["snapshot"].clone();
    assert_eq!(failed["proof"], "failed", "{failed}");
    assert_eq!(failed["verification"]["flaw"], "rows-differ");
    assert_eq!(failed["verification"]["found_by"], "rows");
    let detail = failed["verification"]["detail"].as_str().unwrap();
    assert!(detail.contains("lab.t has other rows"), "{detail}");
    assert!(detail.contains("SYS.h has other rows"), "{detail}");
    assert!(detail.contains("lab.kept is in no binary log"), "{detail}");
    // A shorter look doesn't lift it.
    let shorter = verify(pair, &third, "tables").ok().json()["snapshot"].clone();
    assert_eq!(shorter["proof"], "failed", "{shorter}");

    unlogged("INSERT INTO lab.t SELECT * FROM lab.kept");
    unlogged("INSERT INTO `SYS`.h SELECT * FROM lab.kept_too WHERE id = 1");
    unlogged("DROP TABLE lab.kept, lab.kept_too");
    some_load(pair);
    let fourth = pair.create(&[]);
    let proven = verified(pair, &fourth);
    assert_eq!(proven["proof"], "rows", "{proven}");
    assert_eq!(
        proven["verification"]["compared_with"], second["id"],
        "not with one that failed"
    );
    pair.source.execute("DROP DATABASE between_them");
    pair.source.execute("DROP DATABASE `SYS`");
    pair.wait_caught_up();
    pair.delete_all();
    before.assert_nothing_new(pair);
}

/// What servers keep beside the columns that were asked for, under schemas' names that only case tells
/// from their own.
fn of_hidden_columns(pair: &Pair) {
    pair.source.execute("CREATE DATABASE `SYS`");
    let of_flavour: &[&str] = match pair.source.flavour.is_mariadb() {
        true => &[
            "CREATE TABLE `SYS`.v (id INT PRIMARY KEY, b BLOB, UNIQUE (b)) WITH SYSTEM VERSIONING",
            "INSERT INTO `SYS`.v VALUES (1, 'x'), (2, NULL)",
            "DELETE FROM `SYS`.v WHERE id = 2",
            "CREATE TABLE `SYS`.h (id INT PRIMARY KEY)",
            "INSERT INTO `SYS`.h VALUES (1), (2)",
        ],
        // CHECKSUM TABLE says another number of it each time.
        false => &[
            "CREATE TABLE `SYS`.h (id INT PRIMARY KEY, j JSON, f FLOAT, g GEOMETRY, v VECTOR (3), \
             n BIT (5), KEY ((CAST(j->'$.a' AS UNSIGNED ARRAY))), KEY ((id + 1)))",
            "INSERT INTO `SYS`.h VALUES (1, '{\"a\": [1, 2]}', 0.1, POINT(1, 2), \
             TO_VECTOR('[1, 2, 3]'), b'101'), (2, NULL, 2, NULL, NULL, NULL)",
        ],
    };
    for statement in of_flavour {
        pair.source.execute(statement);
    }
}

fn says_why_rows_cannot_be_compared(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let reason = |snapshot: &Value, words: &str| {
        let checked = verified(pair, snapshot);
        assert_eq!(checked["proof"], "checked", "{checked}");
        assert_eq!(checked["verification"]["compared_with"], Value::Null);
        let warnings = checked["verification"]["warnings"].to_string();
        assert!(warnings.contains(words), "{words}: {warnings}");
    };
    let first = pair.create(&[]);
    reason(&first, "no older proven snapshot");
    some_load(pair);
    let ends_in = first["position"]["own_log_file"].as_str().unwrap();
    // A log that recovery may need stays for a while.
    eventually(limit(20), "the first snapshot's log is purged", || {
        rotate(pair);
        let logs = pair.replica.rows("SHOW BINARY LOGS");
        let last = &logs.last().unwrap()["log_name"];
        pair.replica
            .execute(&format!("PURGE BINARY LOGS TO '{last}'"));
        !logs.iter().any(|log| log["log_name"] == ends_in)
    });
    let second = pair.create(&[]);
    reason(&second, "is purged");
    pair.delete_all();
    before.assert_nothing_new(pair);
}

fn leaves_nothing_of_a_killed_comparison(pair: &mut Pair) {
    let before = Footprint::of(pair);
    let first = pair.create(&["--verify"]);
    some_load(pair);
    let second = pair.create(&[]);
    for place in ["previous-booted", "replayed"] {
        let args = ["snapshot", "verify", id(&second), "--level", "rows"];
        pair.tool
            .run_at(&format!("{place}=kill"), &args)
            .expect_code(-1);
        pair.tool.run(&["recover", &pair.name()]).ok();
        before.assert_nothing_left(pair);
    }
    assert_eq!(verified(pair, &second)["proof"], "rows");
    assert_eq!(crate::show(pair, &first)["proof"], "booted");
    pair.delete_all();
    before.assert_nothing_new(pair);
}
