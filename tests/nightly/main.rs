//! The night: what `run` does, what is kept of it, who is told.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(
    dead_code,
    reason = "shared with the snapshot and fault tests, which use other parts"
)]
#[path = "../lab/mod.rs"]
mod lab;
mod metrics;
mod past;
mod receiver;
mod run;
mod told;

use std::process::ExitCode;

use lab::pair::{Pair, Special};
use lab::runner::{self, Group};
use lab::server::Flavour;
use lab::storage::Storage;
use serde_json::Value;

fn main() -> ExitCode {
    let storages = runner::storages();
    let groups = [Flavour::Mariadb, Flavour::Mysql97].map(|flavour| Group {
        flavour,
        storage: Storage::Btrfs,
        special: Special::default(),
        cases: run::cases(flavour)
            .into_iter()
            .chain(past::cases(flavour))
            .chain(told::cases(flavour))
            .chain(metrics::cases(flavour))
            .collect(),
    });
    let groups = groups
        .into_iter()
        .filter(|group| storages.contains(&group.storage));
    runner::main(groups.collect())
}

/// What a run tells of the replica.
fn of_replica(pair: &Pair, document: &Value) -> Value {
    let servers = document["run"]["servers"].as_array().unwrap();
    let name = pair.name();
    servers
        .iter()
        .find(|server| server["server"] == name.as_str())
        .unwrap_or_else(|| panic!("{name} isn't in {document}"))
        .clone()
}

/// The lines of a server's history.
fn history(pair: &Pair, server: &str) -> Vec<Value> {
    let path = pair
        .state_dir()
        .join("history")
        .join(format!("{server}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// No snapshot, no history, the plain configuration.
fn start_over(pair: &Pair) {
    pair.configure_plain();
    pair.delete_all();
    drop(std::fs::remove_dir_all(pair.state_dir().join("history")));
}
