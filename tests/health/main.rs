//! Health: each rule sees the real condition that it is for, within one run, and is silent
//! otherwise; what can't be seen is never called good.
#![expect(clippy::unwrap_used, reason = "tests")]

mod hostile;
#[expect(
    dead_code,
    reason = "shared with the snapshot and fault tests, which use other parts"
)]
#[path = "../lab/mod.rs"]
mod lab;
mod output;
mod replication;
mod servers;
mod snapshots;

use std::process::ExitCode;
use std::time::Duration;

use lab::pair::{Pair, Special};
use lab::runner::{self, Group};
use lab::server::Flavour;
use lab::storage::Storage;
use lab::{eventually, limit};
use serde_json::Value;

fn main() -> ExitCode {
    let storages = runner::storages();
    let groups = [Flavour::Mysql97, Flavour::Mariadb]
        .into_iter()
        .flat_map(groups)
        .filter(|group| storages.contains(&group.storage));
    runner::main(groups.collect())
}

fn groups(flavour: Flavour) -> Vec<Group> {
    let group = |storage, cases| Group {
        flavour,
        storage,
        special: Special {
            size_mb: Some(1500),
            ..Special::default()
        },
        cases,
    };
    vec![
        group(Storage::Copy, replication::cases()),
        group(Storage::Copy, replication::last_cases()),
        group(Storage::Copy, servers::cases()),
        group(Storage::Copy, snapshots::cases()),
        group(Storage::Copy, hostile::cases()),
        group(Storage::Copy, output::cases()),
        // A volume of its own, to be filled.
        group(Storage::Reflink, servers::disk_cases()),
    ]
}

/// What `start` leaves open on a replica.
fn close(pair: &Pair) {
    if !pair.flavour.is_mariadb() {
        pair.replica.execute("SET GLOBAL super_read_only = 1");
    }
    pair.wait_caught_up();
}

/// As `setup` leaves a pair whose roles may be moved: with the account that the old source follows by.
fn let_roles_move(pair: &Pair) {
    pair.source
        .execute("CREATE USER IF NOT EXISTS 'understudy_repl'@'%' IDENTIFIED BY 'pa55 Word'");
    pair.wait_caught_up();
    let dir = pair.state_dir().join("accounts");
    std::fs::create_dir_all(&dir).unwrap();
    let text = "[client]\nuser = understudy_repl\npassword = \"pa55 Word\"\n";
    std::fs::write(dir.join(format!("{}.cnf", pair_name(pair))), text).unwrap();
}

fn pair_name(pair: &Pair) -> String {
    pair.name().trim_start_matches("rep-").to_owned()
}

/// `status` of the pair.
fn status(pair: &Pair) -> Value {
    let run = pair.tool.run(&["status", &pair_name(pair)]).ok();
    run.json()["pairs"][0].clone()
}

/// Rule and severity of all findings, sorted.
fn findings(status: &Value) -> Vec<(String, String)> {
    let of = |value: &Value| value["findings"].as_array().unwrap().clone();
    let servers = status["servers"].as_array().unwrap();
    let mut found: Vec<(String, String)> = of(status)
        .into_iter()
        .chain(servers.iter().flat_map(of))
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap().to_owned();
            assert!(
                !text("message").is_empty() && !text("hint").is_empty(),
                "{finding}"
            );
            (text("rule"), text("severity"))
        })
        .collect();
    found.sort();
    found
}

/// No rule has anything to say, and `check` says OK.
#[track_caller]
fn is_silent(pair: &Pair) {
    let mut last = Vec::new();
    // A thread that was just started needs a moment.
    eventually(limit(20), "every rule is silent", || {
        last = findings(&status(pair));
        last.is_empty()
    });
    let status = status(pair);
    assert_eq!(status["state"], "healthy", "{last:?}");
    assert_eq!(status["source"], pair.source_name().as_str());
    pair.tool.run(&["check", &pair_name(pair)]).expect_code(0);
}

/// Seen by the next run of both commands, with this severity.
#[track_caller]
fn sees(pair: &Pair, rule: &str, severity: &str) -> Value {
    let status = status(pair);
    let found = findings(&status);
    let wanted = (rule.to_owned(), severity.to_owned());
    assert!(found.contains(&wanted), "{wanted:?} isn't among {found:?}");
    let code = match severity {
        "info" => 0,
        "warning" => 1,
        "critical" => 2,
        _ => 3,
    };
    let check = pair.tool.run(&["check", &pair_name(pair), "--rule", rule]);
    check.expect_code(code);
    status
}

/// The replica's row.
fn replica<'s>(pair: &Pair, status: &'s Value) -> &'s Value {
    let servers = status["servers"].as_array().unwrap();
    servers
        .iter()
        .find(|server| server["name"] == pair.name().as_str())
        .unwrap()
}

/// As `START` and `STOP` are spelled, of both threads or one.
fn threads(pair: &Pair, verb: &str, thread: &str) {
    let statement = pair.flavour.replica_statement(verb, thread, "");
    pair.replica.execute(&statement);
}

const MOMENT: Duration = Duration::from_millis(300);
