//! Rerouting for real: HAProxy, a name server, hosts of a network, files and programs, with two
//! database servers behind them. What was done is undone by an act that went through JSON, as a
//! journal carries it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod dns;
mod haproxy;
#[expect(
    dead_code,
    reason = "shared with the snapshot tests, which use other parts"
)]
#[path = "../lab/mod.rs"]
mod lab;
mod local;
mod vip;

use std::path::{Path, PathBuf};

use lab::program::{Ended, lab_program, start, write};
use lab::scratch::Scratch;
use lab::server::{Flavour, Server, Start};
use understudy::config::{Address, RerouteConfig, TlsMode, parse};
use understudy::reroute::{
    Checked, Destination, Origin, Outcome, RerouteAct, check, perform, undo,
};
use understudy::server::{Identity, Session, Target};

/// Two running servers of different flavours, `db1` and `db2`.
fn two_servers(scratch: &Scratch) -> [Server; 2] {
    [(Flavour::Mariadb, 1), (Flavour::Mysql97, 2)].map(|(flavour, server_id)| {
        let place = scratch.path.join(format!("db{server_id}"));
        let start = Start {
            server_id,
            ..Start::default()
        };
        let mut server = Server::fresh(flavour, &place.join("data"), &place, start);
        server.spawn();
        server.wait_ready();
        server.execute_unlogged(&lab::couple::account());
        server
    })
}

fn address(port: u16) -> Address {
    let host = "127.0.0.1".to_owned();
    Address::Tcp { host, port }
}

fn credentials(scratch: &Scratch) -> PathBuf {
    let path = scratch.path.join("db.cnf");
    write(
        &path,
        "[client]\nuser = understudy\npassword = \"secret word\"\n",
        0o600,
    );
    path
}

fn identity(server: &Server) -> Identity {
    let target = Target {
        server: "db".to_owned(),
        address: Address::Socket(server.socket()),
        user: "root".to_owned(),
        password: understudy::config::Secret::default(),
        tls: TlsMode::Disabled,
        tls_ca: None,
    };
    Session::connect(&target).unwrap().identity().clone()
}

/// The way that these lines configure, for db1 and db2.
fn configured(lines: &str, ports: [u16; 2]) -> RerouteConfig {
    let text = format!(
        "server.db1.address = \"127.0.0.1:{}\"\nserver.db2.address = \"127.0.0.1:{}\"\n\
         [pair.lab]\nsource = \"db1\"\nreplicas = [\"db2\"]\n[[pair.lab.reroute]]\n{lines}\n",
        ports[0], ports[1]
    );
    let config = parse(&text, Path::new("u.toml")).unwrap_or_else(|error| panic!("{error}"));
    config.pairs["lab"].reroutes[0].clone()
}

/// From db1 to db2, where nobody connects.
fn act(lines: &str, ports: [u16; 2]) -> RerouteAct {
    RerouteAct {
        pair: "lab".to_owned(),
        reroute: configured(lines, ports),
        from: Origin {
            server: "db1".to_owned(),
            address: address(ports[0]),
        },
        to: Destination {
            server: "db2".to_owned(),
            address: address(ports[1]),
            credentials: None,
            tls: TlsMode::Disabled,
            tls_ca: None,
            identity: Identity::default(),
        },
        before: None,
    }
}

/// As `act`, with two servers and who db2 is.
fn act_on(lines: &str, servers: &[Server; 2], scratch: &Scratch) -> RerouteAct {
    let mut act = act(lines, [servers[0].port, servers[1].port]);
    act.to.credentials = Some(credentials(scratch));
    act.to.identity = identity(&servers[1]);
    act
}

/// Checked, with what was seen noted.
#[track_caller]
fn checked(act: &mut RerouteAct) -> Checked {
    let found = check(act).unwrap_or_else(|error| panic!("{error}; {}", error.hint));
    act.before = Some(found.before.clone());
    found
}

/// As a later process has it.
fn later(act: &RerouteAct) -> RerouteAct {
    let text = serde_json::to_string(act).unwrap();
    let act_again: RerouteAct = serde_json::from_str(&text).unwrap();
    assert_eq!(&act_again, act);
    act_again
}

#[track_caller]
fn performs(act: &RerouteAct) {
    let done = perform(act).unwrap_or_else(|error| panic!("{error}; {}", error.hint));
    assert!(matches!(done.outcome, Outcome::Changed(_)), "{done:?}");
    let again = perform(&later(act)).unwrap();
    assert_eq!(again.outcome, Outcome::AlreadySo);
}

#[track_caller]
fn undoes(act: &RerouteAct) {
    let act = later(act);
    let done = undo(&act).unwrap_or_else(|error| panic!("{error}; {}", error.hint));
    assert!(matches!(done.outcome, Outcome::Changed(_)), "{done:?}");
    assert_eq!(undo(&act).unwrap().outcome, Outcome::AlreadySo);
}
