//! Proofs.
#![expect(clippy::unwrap_used, reason = "tests")]

#[expect(
    dead_code,
    reason = "shared with the snapshot and fault tests, which use other parts"
)]
mod lab;

use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use lab::load::Load;
use lab::pair::{Pair, Special};
use lab::runner::{self, Group};
use lab::server::Flavour;

fn main() -> ExitCode {
    let mut groups = Vec::new();
    for storage in runner::storages() {
        for flavour in [Flavour::Mariadb, Flavour::Mysql97, Flavour::Mysql56] {
            groups.push(Group {
                flavour,
                storage,
                special: Special::default(),
                cases: cases![true explore],
            });
        }
    }
    runner::main(groups)
}

fn explore(pair: &mut Pair) {
    let load = Load::start(&pair.source, Duration::from_millis(5));
    sleep(Duration::from_millis(500));
    let snapshot = pair.create(&[]);
    let id = snapshot["id"].as_str().unwrap();
    let run = pair.tool.spawn_at(
        "asked=sleep:3000",
        &["-vv", "snapshot", "verify", id, "--level", "tables"],
    );
    sleep(Duration::from_millis(4500));
    let name = format!("verify-{id}");
    for entry in std::fs::read_dir("/run/understudy").unwrap().flatten() {
        if entry.file_name().to_str().unwrap().contains(&name) {
            println!(
                "{}",
                std::fs::read_to_string(entry.path().join("options")).unwrap()
            );
            println!(
                "{}",
                std::fs::read_to_string(entry.path().join("log")).unwrap()
            );
        }
    }
    let run = run.wait();
    println!("{} {}", run.stdout, run.stderr);
    load.stop();
}
