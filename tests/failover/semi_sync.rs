//! Semi-synchronous replication through changes of roles: it moves along, a commit that waits for an
//! acknowledgement holds nothing up for long, and what was acknowledged is never lost.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::lab::server::Server;
use super::lab::server::{Flavour, flavours};
use super::lab::trio::{Trio, Watch, Writer};
use super::lab::{eventually, limit};
use super::steps::assert_steps;
use super::told::{grant_only, printed};

/// All of them wait for each other.
fn waiting(flavour: Flavour, count: usize) -> Trio {
    let trio = Trio::start(flavour, count);
    let args = ["setup", "lab", "--account-host", "%", "--semi-sync"];
    trio.tool.run(&args).ok();
    trio
}

/// It comes up with what it has persisted.
fn revive(trio: &mut Trio) {
    let main = trio.state_dir().join("empty.cnf");
    std::fs::write(&main, "").unwrap();
    trio.servers[0].read_options_of(&main);
    trio.revive("a");
}

/// A variable of semi-synchronous replication, by its new name's end.
fn name(flavour: Flavour, what: &str) -> String {
    let own = match flavour.is_mariadb() {
        true => what.replace("source", "master").replace("replica", "slave"),
        false => what.to_owned(),
    };
    format!("rpl_semi_sync_{own}")
}

fn value(server: &Server, what: &str) -> String {
    server.value(&format!("SELECT @@GLOBAL.{}", name(server.flavour, what)))
}

fn set(server: &Server, what: &str, value: &str) {
    let name = name(server.flavour, what);
    server.execute(&format!("SET GLOBAL {name} = {value}"));
}

/// How many commits of a server were acknowledged.
fn acknowledged(server: &Server) -> u64 {
    let rows = server.rows("SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_%_yes_tx'");
    rows[0]["value"].parse().unwrap()
}

/// `source` waits for acknowledgements and gets them; of each server one side is on.
#[track_caller]
fn assert_waits(trio: &Trio, source: &str, others: &[&str]) {
    let own = trio.server(source);
    let sides = |name: &str| {
        let server = trio.server(name);
        (
            value(server, "source_enabled"),
            value(server, "replica_enabled"),
        )
    };
    let is = |source: &str, replica: &str| (source.to_owned(), replica.to_owned());
    assert_eq!(sides(source), is("1", "0"), "{source}");
    for name in others {
        assert_eq!(sides(name), is("0", "1"), "{name}");
    }
    until_acknowledged(own);
}

/// Where it fell back before, a transaction or two bring it into force.
#[track_caller]
fn until_acknowledged(source: &Server) {
    let words = "it is acknowledged to";
    eventually(limit(10), words, || {
        let before = acknowledged(source);
        source.execute("INSERT INTO lab.w SELECT LEAST(MIN(id), 0) - 1 FROM lab.w w");
        acknowledged(source) > before
    });
}

/// Given a trio whose commits wait, with an account that may just what is printed, when roles move
/// there and back, and the source dies under load, expect that it moves along, that nothing that was
/// acknowledged is lost, and that the old source comes back to acknowledge.
#[test]
fn it_moves_with_the_roles() {
    for flavour in flavours() {
        let mut trio = waiting(flavour, 3);
        grant_only(&trio, &printed(&trio, "understudy_failover"));
        set(trio.server("a"), "source_timeout", "4000");
        let watch = Watch::start(&trio);
        let writer = Writer::start(&trio, 0);
        writer.wait_more(20);
        for (to, others) in [("b", ["a", "c"]), ("a", ["b", "c"])] {
            let report = trio.switchover(to).ok().json()["failover"].clone();
            assert_eq!(report["result"], "done", "{report}");
            assert_steps("switchover", &report);
            writer.wait_more(20);
            assert_waits(&trio, to, &others);
            // The setting went along.
            assert_eq!(value(trio.server(to), "source_timeout"), "4000");
        }
        watch.end();
        trio.kill("a");
        let report = trio.failover(&["--unfenced"]).ok().json()["failover"].clone();
        assert_steps("failover", &report);
        writer.wait_more(20);
        let (all, _) = writer.end();
        let source = report["new_source"].as_str().unwrap().to_owned();
        let other = if source == "b" { "c" } else { "b" };
        for id in all {
            assert!(trio.has(&source, id), "{id} was acknowledged and is lost");
        }
        assert_waits(&trio, &source, &[other]);
        revive(&mut trio);
        if flavour == Flavour::Mysql97 {
            assert_eq!(value(trio.server("a"), "source_enabled"), "1", "persisted");
        }
        // It may have written what it could tell nobody of.
        let run = trio.tool.run(&["rejoin", "a"]);
        if run.code() == 0 {
            assert_steps("rejoin", &run.json()["rejoin"]);
            assert_waits(&trio, &source, &[other, "a"]);
            trio.assert_source(&source, &[other, "a"]);
        } else {
            let (_, message) = run.expect_code(4).error();
            assert!(message.contains("transactions that"), "{message}");
        }
    }
}

/// `c` alone acknowledges, and is waited for without an end; its IO thread is stopped.
fn only_c_acknowledges(trio: &Trio) {
    set(trio.server("b"), "replica_enabled", "OFF");
    set(trio.server("a"), "source_timeout", "3600000");
    io_thread(trio, "b", "STOP");
    io_thread(trio, "b", "START");
    trio.wait_same("a", "b");
    trio.wait_same("a", "c");
}

fn io_thread(trio: &Trio, name: &str, verb: &str) {
    let statement = trio.flavour.replica_statement(verb, "IO_THREAD", "");
    trio.server(name).execute(&statement);
}

/// A commit of a client; whether it was acknowledged to it.
fn commit(trio: &Trio, id: u64) -> JoinHandle<bool> {
    let mut connection = trio.server("a").connect();
    let thread = std::thread::spawn(move || {
        let statement = format!("INSERT INTO lab.w VALUES ({id})");
        super::lab::server::try_rows(&mut connection, &statement).is_ok()
    });
    eventually(limit(10), "it waits for its acknowledgement", || {
        let waits = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
                     WHERE STATE LIKE 'Waiting for semi-sync ACK%'";
        trio.server("a").value(waits) == "1"
    });
    thread
}

/// Given a commit that waits for an acknowledgement which doesn't come, when roles move to another
/// replica, expect that it goes on, and that its row is there; killed in between, expect that the
/// old source waits as before.
#[test]
fn a_commit_that_waits_for_ever_holds_nothing_up() {
    for flavour in flavours() {
        let trio = waiting(flavour, 3);
        only_c_acknowledges(&trio);
        io_thread(&trio, "c", "STOP");
        let waits = commit(&trio, 5001);
        let args = ["switchover", "lab", "--to", "b", "--yes"];
        trio.tool.run_at("table:before=kill", &args).expect_code(-1);
        assert!(waits.join().unwrap());
        trio.tool.run(&["recover"]).ok();
        assert_eq!(value(trio.server("a"), "source_enabled"), "1");
        assert!(trio.is_writable("a"));

        io_thread(&trio, "c", "START");
        trio.wait_same("a", "c");
        until_acknowledged(trio.server("a"));
        io_thread(&trio, "c", "STOP");
        let waits = commit(&trio, 6002);
        let since = Instant::now();
        let watch = Watch::start(&trio);
        let run = trio.switchover("b");
        let took = since.elapsed();
        watch.end();
        eprintln!("{}: {} after {took:?}", flavour.name(), run.code());
        run.ok();
        assert!(took < limit(15), "{took:?}");
        assert!(waits.join().unwrap(), "it was acknowledged");
        assert!(trio.has("b", 6002), "and isn't lost");
        trio.assert_source("b", &["a", "c"]);
        assert_waits(&trio, "b", &["a", "c"]);
    }
}

/// Given one that begins to wait only when the fence comes, expect the fence taken away and everything
/// as before, soon.
#[test]
fn a_fence_that_an_acknowledgement_holds_up_is_taken_away() {
    for flavour in flavours() {
        let trio = waiting(flavour, 3);
        only_c_acknowledges(&trio);
        let args = ["switchover", "lab", "--to", "b", "--yes"];
        let mut running = trio.tool.spawn_at("approach:in=sleep:2500", &args);
        running.wait_at("approach:in");
        io_thread(&trio, "c", "STOP");
        let waits = commit(&trio, 6001);
        let since = Instant::now();
        running.wait().expect_code(1);
        assert!(since.elapsed() < limit(20));
        assert!(trio.is_writable("a") && !trio.is_writable("b"));
        assert_eq!(value(trio.server("a"), "source_enabled"), "1");
        io_thread(&trio, "c", "START");
        assert!(waits.join().unwrap());
        trio.assert_source("a", &["b", "c"]);
        assert!(trio.has("c", 6001));
    }
}

/// Given sources that wait for long, and not enough who would acknowledge to a new one, expect that it
/// takes writes without, that this is told, and that a rejoin brings it back.
#[test]
fn writers_of_a_new_source_go_on_where_nobody_acknowledges() {
    for flavour in flavours() {
        let mut trio = waiting(flavour, 2);
        for name in ["a", "b"] {
            set(trio.server(name), "source_timeout", "3600000");
        }
        trio.wait_same("a", "b");
        trio.kill("a");
        let report = trio.failover(&["--unfenced"]).expect_code(5).json();
        let told = report["failover"]["warnings"].to_string();
        assert!(told.contains("isn't on at b"), "{report}");
        let since = Instant::now();
        trio.server("b").execute("INSERT INTO lab.w VALUES (7001)");
        assert!(since.elapsed() < Duration::from_secs(5));
        revive(&mut trio);
        trio.tool.run(&["rejoin", "a"]).ok();
        if flavour == Flavour::Mysql97 {
            // MariaDB's old source doesn't know any more that it had it.
            assert_waits(&trio, "b", &["a"]);
        }
        trio.assert_source("b", &["a"]);
    }
}

/// Given a trio of MySQL whose commits wait for two replicas, and for long, expect that doctor tells
/// what a failover would leave, that the count moves along, and that with one of the replicas gone
/// roles move soon, to a server that doesn't wait for what can't come, which is told; and that a rejoin
/// brings it back, once there are two again.
#[test]
fn two_acknowledgements_and_one_replica_gone() {
    // MariaDB waits for one.
    for flavour in flavours().into_iter().filter(|own| !own.is_mariadb()) {
        let mut trio = waiting(flavour, 3);
        trio.wait_same("a", "b");
        for setting in ["wait_for_replica_count = 2", "timeout = 3600000"] {
            let statement = format!("SET PERSIST rpl_semi_sync_source_{setting}");
            trio.server("a").execute(&statement);
        }
        until_acknowledged(trio.server("a"));
        let doctor = trio.tool.run(&["doctor", "lab"]).json().to_string();
        let words = "wait for 2 replicas, 2 acknowledge, and after a failover 1 would";
        assert!(doctor.contains(words), "{doctor}");
        trio.switchover("b").ok();
        assert_eq!(
            value(trio.server("b"), "source_wait_for_replica_count"),
            "2"
        );
        assert_waits(&trio, "b", &["a", "c"]);

        trio.kill("c");
        eventually(limit(20), "one acknowledges", || {
            let count = "SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync_source_clients'";
            trio.server("b").rows(count)[0]["value"] == "1"
        });
        let since = Instant::now();
        let report = trio.switchover("a").expect_code(5).json();
        assert!(since.elapsed() < limit(10), "{:?}", since.elapsed());
        let told = report["failover"]["warnings"].to_string();
        let words = "isn't on at a: 2 replicas would have to acknowledge, 1 would";
        assert!(told.contains(words), "{report}");
        trio.server("a").execute("INSERT INTO lab.w VALUES (7001)");
        trio.assert_source("a", &["b"]);
        assert_eq!(value(trio.server("b"), "source_enabled"), "0");

        trio.revive("c");
        trio.close_again("c");
        set(trio.server("c"), "replica_enabled", "ON");
        trio.tool.run(&["repoint", "c", "--to", "a"]).ok();
        let on = "SET PERSIST rpl_semi_sync_source_enabled = ON";
        trio.server("a").execute(on);
        until_acknowledged(trio.server("a"));
        trio.wait_same("a", "b");
        trio.wait_same("a", "c");
        trio.kill("a");
        let report = trio
            .failover(&["--unfenced", "--to", "b"])
            .expect_code(5)
            .json();
        assert!(report.to_string().contains("isn't on at b"), "{report}");
        revive(&mut trio);
        trio.tool.run(&["rejoin", "a"]).ok();
        assert_waits(&trio, "b", &["a", "c"]);
        trio.assert_source("b", &["a", "c"]);
    }
}
