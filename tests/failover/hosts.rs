//! Each server on a host of its own, with an address and a name of its own, and a third host; each host
//! has a state directory of its own. What each of them can do, and what a cut between two of them does.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::lab::couple::account;
use crate::lab::network::Network;
use crate::lab::scratch::Scratch;
use crate::lab::server::{Flavour, Server, Start, flavours};
use crate::lab::tool::{Run, Tool};
use crate::lab::{eventually, limit};

const PORT: u16 = 23306;

// Dropped in this order.
struct Hosts {
    flavour: Flavour,
    /// `a` on host 1, `b` on host 2.
    servers: Vec<Server>,
    network: Network,
    scratch: Scratch,
}

impl Hosts {
    /// The pair is set up from the third host, which knows the password of the replication account; the
    /// others have a copy.
    fn start(flavour: Flavour) -> Self {
        let scratch = Scratch::new();
        let network = Network::start(&scratch);
        let servers = ["1", "2"].map(|name| {
            let place = scratch.path.join(format!("db{name}"));
            let start = Start {
                server_id: name.parse().unwrap(),
                extra: vec!["--bind-address=*".to_owned()],
                aloof: false,
            };
            let mut server = Server::fresh(flavour, &place.join("data"), &place, start);
            server.port = PORT;
            network.on(name, || server.spawn());
            server
        });
        let mut hosts = Self {
            flavour,
            servers: servers.into(),
            network,
            scratch,
        };
        for server in &mut hosts.servers {
            server.wait_ready();
            server.execute_unlogged(&account());
        }
        for statement in [
            "CREATE DATABASE lab",
            "CREATE TABLE lab.w (id INT PRIMARY KEY) ENGINE=InnoDB",
        ] {
            hosts.server("a").execute(statement);
        }
        for host in ["1", "2", "3"] {
            hosts.configure(host);
        }
        let args = ["setup", "lab", "--account-host", "192.0.2.%"];
        hosts.run("3", &args).ok();
        for host in ["1", "2"] {
            hosts.copy_account("3", host);
        }
        hosts
    }

    fn server(&self, name: &str) -> &Server {
        &self.servers[usize::from(name == "b")]
    }

    fn base(&self, host: &str) -> std::path::PathBuf {
        self.scratch.path.join(format!("host{host}"))
    }

    fn configure(&self, host: &str) {
        let base = self.base(host);
        std::fs::create_dir(&base).unwrap();
        let credentials = base.join("db.cnf");
        let text = "[client]\nuser = understudy\npassword = \"secret word\"\n";
        std::fs::write(&credentials, text).unwrap();
        std::fs::set_permissions(&credentials, PermissionsExt::from_mode(0o600)).unwrap();
        let (state, credentials) = (base.join("state"), credentials.display());
        let text = format!(
            "state_dir = \"{}\"\n\
             [server.a]\naddress = \"192.0.2.1:{PORT}\"\ncredentials = \"{credentials}\"\n\
             [server.b]\naddress = \"192.0.2.2:{PORT}\"\ncredentials = \"{credentials}\"\n\
             [pair.lab]\nsource = \"a\"\nreplicas = [\"b\"]\n",
            state.display()
        );
        std::fs::write(base.join("understudy.toml"), text).unwrap();
    }

    fn copy_account(&self, from: &str, to: &str) {
        let [from, to] = [from, to].map(|host| self.base(host).join("state/accounts"));
        std::fs::create_dir_all(&to).unwrap();
        for place in [to.parent().unwrap(), &to] {
            std::fs::set_permissions(place, PermissionsExt::from_mode(0o700)).unwrap();
        }
        std::fs::copy(from.join("lab.cnf"), to.join("lab.cnf")).unwrap();
    }

    /// The tool, run on that host.
    fn run(&self, host: &str, args: &[&str]) -> Run {
        let base = self.base(host);
        let run = Tool { base }.run_under(self.network.command(host), args);
        eprintln!(
            "{} on host{host} {}: {} after {:?}",
            args.join(" "),
            self.flavour.name(),
            run.code(),
            run.took
        );
        run
    }

    fn switchover(&self, host: &str, to: &str) {
        let args = ["switchover", "lab", "--to", to, "--yes"];
        let report = self.run(host, &args).ok().json()["failover"].clone();
        assert_eq!(report["result"], "done", "{report}");
        self.assert_source(to);
    }

    /// It takes writes, and the other one has what is written there.
    #[track_caller]
    fn assert_source(&self, source: &str) {
        let other = if source == "a" { "b" } else { "a" };
        let closed = |name: &str| self.server(name).value("SELECT @@GLOBAL.read_only");
        assert_eq!((closed(source), closed(other)), ("0".into(), "1".into()));
        let insert = "INSERT INTO lab.w SELECT COALESCE(MAX(id), 0) + 1 FROM lab.w w";
        self.server(source).execute(insert);
        let sum = |name: &str| self.server(name).value("SELECT COUNT(*) FROM lab.w");
        eventually(limit(20), &format!("{other} follows {source}"), || {
            sum(source) == sum(other)
        });
    }

    /// Refused, with nothing changed, and why.
    #[track_caller]
    fn refused(&self, host: &str, args: &[&str], words: &str) {
        let (_, message) = self.run(host, args).expect_code(4).error();
        assert!(message.contains(words), "{words:?} isn't in {message}");
    }

    /// Whoever was parted reads again at once.
    fn read_again(&self, name: &str) {
        for verb in ["STOP", "START"] {
            let statement = self.flavour.replica_statement(verb, "IO_THREAD", "");
            self.server(name).execute(&statement);
        }
    }

    fn status(&self, host: &str) -> Value {
        self.run(host, &["status", "lab"]).json()["pairs"][0].clone()
    }
}

/// Of both flavours at once: cuts are waited for.
fn with_both(story: impl Fn(Hosts) + Sync) {
    std::thread::scope(|scope| {
        for flavour in flavours() {
            let story = &story;
            scope.spawn(move || story(Hosts::start(flavour)));
        }
    });
}

const FAILOVER: [&str; 6] = ["failover", "lab", "--unfenced", "--confirm", "1s", "--yes"];

/// Given a pair on two hosts, set up from a third one, when roles move, commanded from each of the
/// three, expect that they do.
#[test]
fn roles_move_from_each_host() {
    for flavour in flavours() {
        let hosts = Hosts::start(flavour);
        hosts.assert_source("a");
        for (host, to) in [("1", "b"), ("2", "a"), ("3", "b"), ("2", "a")] {
            hosts.switchover(host, to);
        }
    }
}

/// Given a source that lives, and a cut between it and who asks, its clients, or its replica, expect no
/// failover, with who reaches whom; and that the others go on.
#[test]
fn a_cut_is_no_death() {
    with_both(|hosts| {
        // We don't reach it; nor do clients that are where we are. Its replica does.
        hosts.network.part("1", "3");
        hosts.refused("3", &FAILOVER, "b reaches a, which we don't");
        hosts.refused("2", &FAILOVER, "a answers");
        hosts.switchover("2", "b");
        hosts.network.heal("1", "3");
        hosts.switchover("3", "a");
        // Its replica doesn't reach it; clients do.
        hosts.network.part("1", "2");
        hosts.refused("3", &FAILOVER, "a answers");
        let asked = ["failover", "lab", "--confirm", "1s", "--yes"];
        hosts.refused("2", &asked, "nothing keeps it from coming back");
        hosts.network.heal("1", "2");
        hosts.read_again("b");
        hosts.assert_source("a");
    });
}

/// Given a source whose host is cut off with two transactions that nobody else has, a failover from the
/// replica's host, and the old source back, when it rejoins from a third host, which knows nothing of
/// the failover, expect it closed, the two told and kept as SQL there, read from the old source itself;
/// and that the first host sees that it has rejoined.
#[test]
fn a_failover_from_one_host_and_a_rejoin_from_another() {
    with_both(|hosts| {
        hosts.status("2");
        hosts.assert_source("a");
        hosts.network.part("1", "2");
        let count = "SELECT COUNT(*) FROM lab.w";
        let had = hosts.server("b").value(count);
        for id in [101, 102] {
            let insert = format!("INSERT INTO lab.w VALUES ({id})");
            hosts.server("a").execute(&insert);
        }
        hosts.network.cable("1", "down");
        hosts.network.heal("1", "2");
        let report = hosts.run("2", &FAILOVER).ok().json()["failover"].clone();
        assert_eq!(report["new_source"], "b", "{report}");
        assert_eq!(report["lost"]["known"], false, "{report}");
        let reason = report["lost"]["reason"].as_str().unwrap();
        assert!(
            reason.contains("are on host1, not on this host"),
            "{reason}"
        );
        assert_eq!(hosts.server("b").value(count), had);
        hosts.server("b").execute("INSERT INTO lab.w VALUES (201)");

        hosts.network.cable("1", "up");
        let status = hosts.status("3");
        let told = status["findings"].to_string();
        assert!(told.contains("pair.both-writable"), "{status}");
        assert!(told.contains("`understudy rejoin` the one"), "{status}");
        let (_, message) = hosts.run("3", &["rejoin", "a"]).expect_code(4).error();
        assert!(
            message.contains("a has transactions that b hasn't"),
            "{message}"
        );
        assert_eq!(hosts.server("a").value("SELECT @@GLOBAL.read_only"), "1");
        let receipts = std::fs::read_dir(hosts.base("3").join("state/receipts")).unwrap();
        let export = receipts
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|end| end == "sql"));
        let text = std::fs::read_to_string(export.unwrap()).unwrap();
        assert_eq!(text.matches("Write_rows").count(), 2, "{text}");
        let told = hosts.status("2").to_string();
        assert!(told.contains("hasn't rejoined"), "{told}");
        let args = ["rejoin", "a", "--provision", "dump", "--yes"];
        let report = hosts.run("3", &args).ok().json()["rejoin"].clone();
        assert_eq!(report["surplus"]["transactions"], 2, "{report}");
        hosts.assert_source("b");
        let told = hosts.status("2").to_string();
        assert!(!told.contains("hasn't rejoined"), "{told}");
    });
}
