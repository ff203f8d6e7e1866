//! A replica that follows its pair and something else: the other channel goes on, whatever roles do.

use crate::lab;
use crate::lab::server::flavours;
use crate::lab::server::{Flavour, Server, Start};
use crate::lab::trio::Trio;

/// A server outside of the pair, and what replicas follow it with.
fn outsider(trio: &Trio) -> Server {
    let base = trio.tool.base.clone();
    let start = Start {
        server_id: 77,
        extra: match trio.flavour.is_mariadb() {
            true => vec!["--gtid-domain-id=7".to_owned()],
            false => Vec::new(),
        },
        aloof: false,
    };
    let mut server = Server::fresh(trio.flavour, &base.join("o-data"), &base.join("o"), start);
    server.spawn();
    server.wait_ready();
    server.execute_unlogged(&[
        "CREATE USER 'east'@'%' IDENTIFIED BY 'follows'".to_owned(),
        "GRANT REPLICATION SLAVE ON *.* TO 'east'@'%'".to_owned(),
    ]);
    server.execute("CREATE DATABASE east");
    server.execute("CREATE TABLE east.o (id INT PRIMARY KEY)");
    server
}

/// `b` follows `a` by the channel zz, and the outsider by the default one, which comes first.
fn follow_both(trio: &Trio, outsider: &Server) {
    let b = trio.server("b");
    let file = trio.state_dir().join("accounts/lab.cnf");
    let text = std::fs::read_to_string(file).unwrap();
    let password = text
        .lines()
        .find_map(|line| line.strip_prefix("password"))
        .map(|rest| rest.trim_start_matches([' ', '=']).trim_matches('"'))
        .unwrap();
    let a = trio.server("a").port;
    let statements = match trio.flavour.is_mariadb() {
        true => vec![
            "STOP SLAVE".to_owned(),
            "RESET SLAVE ALL".to_owned(),
            format!(
                "CHANGE MASTER 'zz' TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {a}, \
                 MASTER_USER = 'understudy_repl', MASTER_PASSWORD = '{password}', \
                 MASTER_USE_GTID = slave_pos"
            ),
            format!(
                "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {}, \
                 MASTER_USER = 'east', MASTER_PASSWORD = 'follows', MASTER_USE_GTID = slave_pos",
                outsider.port
            ),
            "START SLAVE".to_owned(),
            "START SLAVE 'zz'".to_owned(),
        ],
        false => vec![
            "STOP REPLICA".to_owned(),
            "RESET REPLICA ALL".to_owned(),
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {a}, \
                 SOURCE_USER = 'understudy_repl', SOURCE_PASSWORD = '{password}', \
                 SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1 FOR CHANNEL 'zz'"
            ),
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {}, \
                 SOURCE_USER = 'east', SOURCE_PASSWORD = 'follows', SOURCE_AUTO_POSITION = 1, \
                 GET_SOURCE_PUBLIC_KEY = 1 FOR CHANNEL ''",
                outsider.port
            ),
            "START REPLICA FOR CHANNEL ''".to_owned(),
            "START REPLICA FOR CHANNEL 'zz'".to_owned(),
        ],
    };
    for statement in statements {
        b.execute(&statement);
    }
}

/// By which channel `name` follows whom: (channel, port), with both threads running.
fn links(trio: &Trio, name: &str) -> Vec<(String, String)> {
    let rows = trio.server(name).rows(trio.flavour.replica_status());
    let get = |row: &lab::server::Row, names: [&str; 2]| {
        let found = names.iter().find_map(|own| row.get(*own).cloned());
        found.unwrap_or_default()
    };
    let runs = |row: &&lab::server::Row| {
        get(row, ["replica_io_running", "slave_io_running"]) == "Yes"
            && get(row, ["replica_sql_running", "slave_sql_running"]) == "Yes"
    };
    rows.iter()
        .filter(runs)
        .map(|row| {
            (
                get(row, ["channel_name", "connection_name"]),
                get(row, ["source_port", "master_port"]),
            )
        })
        .collect()
}

/// `b` still gets what the outsider writes, by the channel that it had, and follows `source` by `link`.
#[track_caller]
fn assert_both(trio: &Trio, outsider: &Server, id: u32, source: Option<(&str, &str)>) {
    outsider.execute(&format!("INSERT INTO east.o VALUES ({id})"));
    let arrived = format!("SELECT COUNT(*) FROM east.o WHERE id = {id}");
    lab::eventually(lab::limit(20), &format!("{id} arrives"), || {
        trio.server("b").value(&arrived) == "1"
    });
    let mut wanted = vec![(String::new(), outsider.port.to_string())];
    wanted.extend(
        source.map(|(link, source)| (link.to_owned(), trio.server(source).port.to_string())),
    );
    wanted.sort();
    let until = std::time::Instant::now() + lab::limit(20);
    loop {
        let mut all = links(trio, "b");
        all.sort();
        if all == wanted {
            break;
        }
        let rows = trio.server("b").rows(trio.flavour.replica_status());
        assert!(std::time::Instant::now() < until, "{wanted:?}: {rows:?}");
    }
}

/// Given a replica whose first channel leads out of the pair, when roles move there and back, when it is
/// turned and when its source dies, expect that only the pair's channel is touched.
#[test]
fn the_other_channel_goes_on() {
    for flavour in flavours() {
        let mut trio = Trio::start(flavour, 3);
        let outsider = outsider(&trio);
        follow_both(&trio, &outsider);
        trio.wait_same("a", "b");
        assert_both(&trio, &outsider, 1, Some(("zz", "a")));

        if flavour.is_mariadb() {
            let (_, message) = trio.switchover("b").expect_code(4).error();
            assert!(message.contains("gtid_ignore_duplicates"), "{message}");
            for statement in [
                "STOP ALL SLAVES",
                "SET GLOBAL gtid_ignore_duplicates = ON",
                "START ALL SLAVES",
            ] {
                trio.server("b").execute(statement);
            }
            trio.wait_same("a", "b");
        }
        let report = trio.switchover("b").ok().json()["failover"].clone();
        assert_eq!(report["result"], "done", "{report}");
        assert!(trio.is_writable("b") && !trio.is_writable("a"));
        assert_both(&trio, &outsider, 2, None);
        for name in ["a", "c"] {
            assert!(trio.follows(name, "b"), "{name}");
            lab::eventually(lab::limit(20), "it comes through", || {
                trio.server(name).value("SELECT COUNT(*) FROM east.o") == "2"
            });
        }

        let report = trio.switchover("a").ok().json()["failover"].clone();
        assert_eq!(report["result"], "done", "{report}");
        assert_both(&trio, &outsider, 3, Some(("lab", "a")));
        trio.wait_same("a", "b");
        trio.wait_same("a", "c");

        trio.tool.run(&["repoint", "b", "--to", "c"]).ok();
        assert_both(&trio, &outsider, 4, Some(("lab", "c")));
        trio.tool.run(&["repoint", "b", "--to", "a"]).ok();
        assert_both(&trio, &outsider, 5, Some(("lab", "a")));

        // What comes from elsewhere makes nobody a better candidate.
        trio.wait_same("a", "b");
        trio.wait_same("a", "c");
        trio.kill("a");
        let report = trio.failover(&["--unfenced", "--to", "c"]).ok().json();
        assert_eq!(report["failover"]["result"], "done", "{report}");
        assert_both(&trio, &outsider, 6, Some(("lab", "c")));
        assert!(trio.is_writable("c") && !trio.is_writable("b"));
        if flavour == Flavour::Mariadb {
            assert!(
                trio.server("b")
                    .value("SELECT @@GLOBAL.gtid_slave_pos")
                    .contains("7-77-")
            );
        }
    }
}
