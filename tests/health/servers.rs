//! Servers that don't answer, aren't who they were, or are alike.

use std::time::Instant;

use nix::sys::signal::Signal;

use super::*;
use crate::lab::runner::Case;

pub fn cases() -> Vec<Case> {
    crate::cases![
        false a_server_that_hangs_costs_its_own_row,
        false a_server_that_is_gone_is_seen,
        false a_cut_network_is_seen,
        false two_servers_with_one_id_are_seen,
        false another_server_under_the_name_is_seen,
        false one_server_under_two_names_is_seen,
    ]
}

pub fn disk_cases() -> Vec<Case> {
    crate::cases![false a_disk_that_fills_is_seen]
}

fn a_server_that_hangs_costs_its_own_row(pair: &mut Pair) {
    close(pair);
    is_silent(pair);
    pair.source.signal(Signal::SIGSTOP);
    let began = Instant::now();
    let run = pair
        .tool
        .run(&["status", &pair_name(pair), "--timeout", "2s"]);
    let took = began.elapsed();
    pair.source.signal(Signal::SIGCONT);
    let status = run.ok().json()["pairs"][0].clone();
    assert!(took < Duration::from_secs(5), "{took:?}");
    let found = findings(&status);
    assert!(
        found.contains(&("server.unreachable".to_owned(), "critical".to_owned())),
        "{found:?}"
    );
    assert_eq!(replica(pair, &status)["reachable"], true);
    let source = &status["servers"][0];
    assert_eq!(source["reachable"], false);
    assert!(
        source["reason"].as_str().unwrap().contains("no answer"),
        "{source}"
    );
    assert_eq!(status["source"], pair.source_name().as_str());
    pair.wait_caught_up();
    is_silent(pair);
}

fn a_server_that_is_gone_is_seen(pair: &mut Pair) {
    pair.source.kill();
    sees(pair, "server.unreachable", "critical");
    eventually(limit(30), "the replica has noticed", || {
        let found = findings(&status(pair));
        found.contains(&("pair.no-source".to_owned(), "critical".to_owned()))
    });
    sees(pair, "replica.io-error", "critical");
    pair.source.restart();
    pair.wait_caught_up();
    is_silent(pair);
    pair.replica.kill();
    let status = sees(pair, "server.unreachable", "critical");
    assert_eq!(replica(pair, &status)["lag_ms"], Value::Null);
    pair.replica.restart();
    close(pair);
    is_silent(pair);
}

/// From a machine without a network the replica can be asked by its socket, and says that its
/// source lives.
fn a_cut_network_is_seen(pair: &mut Pair) {
    let run = pair.tool.text(&["check", &pair_name(pair)], true);
    let run = run.expect_code(2);
    assert!(run.stdout.contains("server.unreachable"), "{}", run.stdout);
    assert!(!run.stdout.contains("pair.no-source"), "{}", run.stdout);
    is_silent(pair);
}

fn two_servers_with_one_id_are_seen(pair: &mut Pair) {
    pair.replica.execute("SET GLOBAL server_id = 11");
    sees(pair, "pair.duplicate-server-id", "critical");
    pair.replica.execute("SET GLOBAL server_id = 12");
    is_silent(pair);
}

fn another_server_under_the_name_is_seen(pair: &mut Pair) {
    is_silent(pair);
    let name = pair.name();
    match pair.flavour {
        Flavour::Mariadb | Flavour::MariadbOther => {
            pair.replica.execute("SET GLOBAL server_id = 77")
        }
        Flavour::Mysql97 | Flavour::Mysql56 => {
            pair.replica.shut_down();
            std::fs::remove_file(pair.volume.data_dir().join("auto.cnf")).unwrap();
            pair.replica.restart();
        }
    }
    close(pair);
    sees(pair, "server.identity-changed", "critical");
    pair.tool.run(&["status", "--accept", &name]).ok();
    is_silent(pair);
}

fn one_server_under_two_names_is_seen(pair: &mut Pair) {
    let credentials = pair.base().join("db.cnf");
    let more = format!(
        "[server.again]\naddress = \"127.0.0.1:{}\"\ncredentials = \"{}\"\n\
         [pair.twice]\nsource = \"{}\"\nreplicas = [\"again\"]\n",
        pair.replica.port,
        credentials.display(),
        pair.name()
    );
    pair.configure(|settings| settings.more.clone_from(&more));
    let run = pair
        .tool
        .run(&["check", "twice", "--rule", "pair.duplicate-server-id"]);
    run.expect_code(2);
    pair.configure_plain();
    is_silent(pair);
}

/// All but a little of the volume, by a file that isn't written.
fn a_disk_that_fills_is_seen(pair: &mut Pair) {
    close(pair);
    let path = pair.volume.data_dir().parent().unwrap().join("fill");
    let stat = nix::sys::statvfs::statvfs(path.parent().unwrap()).unwrap();
    let (size, free) = (stat.fragment_size(), stat.blocks_available());
    let fill = |share_left: f64| {
        let left = (stat.blocks() as f64 * share_left) as u64;
        let bytes = (free - left) * size;
        crate::lab::sh(&[
            "fallocate",
            "-l",
            &bytes.to_string(),
            path.to_str().unwrap(),
        ]);
    };
    is_silent(pair);
    fill(0.08);
    sees(pair, "server.disk-runway", "warning");
    std::fs::remove_file(&path).unwrap();
    fill(0.04);
    sees(pair, "server.disk-runway", "critical");
    std::fs::remove_file(&path).unwrap();
    is_silent(pair);
}
