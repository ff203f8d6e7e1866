//! A source and two replicas, set up by the tool itself; a writer that keeps what was acknowledged to
//! it, and a watch over who can be written to.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder};
use serde_json::Value;

use super::couple::account;
use super::scratch::Scratch;
use super::server::{Flavour, Server, Start};
use super::tool::{Run, Tool};
use super::{eventually, limit};

pub const NAMES: [&str; 3] = ["a", "b", "c"];

// Dropped in this order.
pub struct Trio {
    pub flavour: Flavour,
    /// By the names of [`NAMES`].
    pub servers: Vec<Server>,
    pub tool: Tool,
    /// Whole tables at the end of the configuration.
    pub more: String,
    scratch: Scratch,
}

impl Trio {
    /// `a` is the source of the others.
    pub fn start(flavour: Flavour, count: usize) -> Self {
        let scratch = Scratch::new();
        let base = scratch.path.clone();
        let mut servers: Vec<Server> = NAMES[..count]
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let start = Start {
                    server_id: 21 + u32::try_from(index).unwrap(),
                    extra: Vec::new(),
                    aloof: false,
                };
                let data_dir = base.join(format!("{name}-data"));
                Server::fresh(flavour, &data_dir, &base.join(name), start)
            })
            .collect();
        for server in &mut servers {
            server.spawn();
        }
        for server in &mut servers {
            server.wait_ready();
            server.drop_anonymous();
            server.execute_unlogged(&account());
        }
        let trio = Self {
            flavour,
            servers,
            tool: Tool { base },
            more: String::new(),
            scratch,
        };
        trio.configure();
        for statement in [
            "CREATE DATABASE lab",
            "CREATE TABLE lab.w (id INT PRIMARY KEY) ENGINE=InnoDB",
            "CREATE USER 'writer'@'%' IDENTIFIED BY 'writes'",
            "GRANT SELECT, INSERT ON lab.* TO 'writer'@'%'",
        ] {
            trio.servers[0].execute(statement);
        }
        trio.tool.run(&["setup", "lab", "--account-host", "%"]).ok();
        trio
    }

    pub fn server(&self, name: &str) -> &Server {
        let index = NAMES.iter().position(|own| *own == name).unwrap();
        &self.servers[index]
    }

    pub fn state_dir(&self) -> std::path::PathBuf {
        self.scratch.path.join("state")
    }

    pub fn configure(&self) {
        let credentials = self.scratch.path.join("db.cnf");
        let text = "[client]\nuser = understudy\npassword = \"secret word\"\n";
        std::fs::write(&credentials, text).unwrap();
        std::fs::set_permissions(&credentials, PermissionsExt::from_mode(0o600)).unwrap();
        let mut text = format!("state_dir = \"{}\"\n", self.state_dir().display());
        for (name, server) in NAMES.iter().zip(&self.servers) {
            text += &format!(
                "[server.{name}]\naddress = \"127.0.0.1:{}\"\ncredentials = \"{}\"\n",
                server.port,
                credentials.display()
            );
        }
        let replicas = &NAMES[1..self.servers.len()];
        text += &format!(
            "[pair.lab]\nsource = \"a\"\nreplicas = {replicas:?}\n{}\n",
            self.more
        );
        std::fs::write(self.scratch.path.join("understudy.toml"), text).unwrap();
    }

    pub fn switchover(&self, to: &str) -> Run {
        self.tool.run(&["switchover", "lab", "--to", to, "--yes"])
    }

    /// `source` can be written to, alone; the others follow it and have the same.
    #[track_caller]
    pub fn assert_source(&self, source: &str, others: &[&str]) {
        assert!(self.is_writable(source), "{source} is read-only");
        let wanted = self.checksum(source);
        for name in others {
            assert!(!self.is_writable(name), "{name} can be written to");
            eventually(limit(20), &format!("{name} follows {source}"), || {
                self.follows(name, source) && self.checksum(name) == wanted
            });
        }
        assert!(
            self.server(source).channels().is_empty(),
            "{source} follows"
        );
        let left = std::fs::read_dir(self.state_dir().join("journal")).unwrap();
        let left: Vec<_> = left
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| name != "done")
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }

    pub fn is_writable(&self, name: &str) -> bool {
        self.server(name).value("SELECT @@GLOBAL.read_only") == "0"
    }

    pub fn failover(&self, more: &[&str]) -> Run {
        let args = ["failover", "lab", "--confirm", "1s", "--yes"];
        self.tool.run(&[&args, more].concat())
    }

    /// Keeps a replica behind on purpose.
    pub fn set_delay(&self, name: &str, delay_s: u32) {
        let server = self.server(name);
        let mariadb = self.flavour.is_mariadb();
        let word = if mariadb { "SLAVE" } else { "REPLICA" };
        server.execute(&format!("STOP {word}"));
        server.execute(&match mariadb {
            true => format!("CHANGE MASTER TO MASTER_DELAY = {delay_s}"),
            false => format!("CHANGE REPLICATION SOURCE TO SOURCE_DELAY = {delay_s}"),
        });
        server.execute(&format!("START {word}"));
    }

    /// What somebody does to a replica that shouldn't.
    pub fn write_at(&self, name: &str, statement: &str) {
        let server = self.server(name);
        let closed = server.value("SELECT @@GLOBAL.read_only");
        assert_eq!(closed, "1");
        server.execute("SET GLOBAL read_only = OFF");
        server.execute(statement);
        server.execute(match self.flavour.is_mariadb() {
            true => "SET GLOBAL read_only = ON",
            false => "SET GLOBAL super_read_only = ON",
        });
    }

    /// A replica that follows nobody any more, and can be written to.
    pub fn cut_off_and_open(&self, name: &str) {
        let server = self.server(name);
        let word = match self.flavour.is_mariadb() {
            true => "SLAVE",
            false => "REPLICA",
        };
        server.execute(&format!("STOP {word}"));
        server.execute(&format!("RESET {word} ALL"));
        self.open_by_hand(name);
    }

    pub fn open_by_hand(&self, name: &str) {
        let server = self.server(name);
        if !self.flavour.is_mariadb() {
            server.execute("SET GLOBAL super_read_only = OFF");
        }
        server.execute("SET GLOBAL read_only = OFF");
    }

    fn index(name: &str) -> usize {
        NAMES.iter().position(|own| *own == name).unwrap()
    }

    pub fn kill(&mut self, name: &str) {
        self.servers[Self::index(name)].kill();
    }

    pub fn revive(&mut self, name: &str) {
        let server = &mut self.servers[Self::index(name)];
        server.spawn();
        server.wait_ready();
    }

    /// A replica that restarted is as its option file says.
    pub fn close_again(&self, name: &str) {
        let server = self.server(name);
        server.execute(match self.flavour.is_mariadb() {
            true => "SET GLOBAL read_only = ON",
            false => "SET GLOBAL super_read_only = ON",
        });
    }

    /// Gives a server, which is closed, the data and the position of another one, as an operator would.
    pub fn renew(&mut self, name: &str, source: &str) {
        let server = self.server(name);
        let open: &[&str] = match self.flavour.is_mariadb() {
            true => &["SET GLOBAL read_only = OFF"],
            false => &[
                "SET GLOBAL super_read_only = OFF",
                "SET GLOBAL read_only = OFF",
            ],
        };
        for statement in open {
            server.execute(statement);
        }
        let rows = self.server(source).rows("SELECT id FROM lab.w");
        server.execute_unlogged(&["DELETE FROM lab.w".to_owned()]);
        for chunk in rows.chunks(500) {
            let values: Vec<String> = chunk.iter().map(|row| format!("({})", row["id"])).collect();
            let insert = format!("INSERT INTO lab.w VALUES {}", values.join(", "));
            server.execute_unlogged(&[insert]);
        }
        let gtid = self.server(source).gtid();
        match self.flavour.is_mariadb() {
            true => {
                server.execute("RESET MASTER");
                server.execute(&format!("SET GLOBAL gtid_slave_pos = '{gtid}'"));
            }
            false => {
                server.execute("RESET BINARY LOGS AND GTIDS");
                server.execute(&format!("SET GLOBAL gtid_purged = '{gtid}'"));
            }
        }
        self.close_again(name);
    }

    /// A row more, and both have it.
    #[track_caller]
    pub fn wait_same(&self, source: &str, replica: &str) {
        self.server(source)
            .execute("INSERT INTO lab.w SELECT COALESCE(MAX(id), 0) + 1 FROM lab.w w");
        let wanted = self.checksum(source);
        eventually(limit(20), &format!("{replica} has all of {source}"), || {
            self.checksum(replica) == wanted
        });
    }

    pub fn follows(&self, name: &str, source: &str) -> bool {
        let rows = self.server(name).rows(self.flavour.replica_status());
        let port = self.server(source).port.to_string();
        let is_it = |row: &super::server::Row| {
            ["source_port", "master_port"]
                .iter()
                .any(|own| row.get(*own) == Some(&port))
        };
        rows.len() == 1 && rows.iter().all(is_it)
    }

    fn checksum(&self, name: &str) -> String {
        let rows = self.server(name).rows("CHECKSUM TABLE lab.w");
        format!("{rows:?}")
    }

    pub fn highest(&self, name: &str) -> u64 {
        let highest = "SELECT COALESCE(MAX(id), 0) FROM lab.w";
        self.server(name).value(highest).parse().unwrap()
    }

    /// The bare statements of a switchover on open connections, and back again: how long nobody could
    /// write, by a write before and one after.
    pub fn switch_bare(&self, from: &str, to: &str) -> Duration {
        let [mut source, mut lock, mut candidate] =
            [from, from, to].map(|n| self.server(n).connect());
        let mariadb = self.flavour.is_mariadb();
        let (close, open) = match mariadb {
            true => ("SET GLOBAL read_only = ON", "SET GLOBAL read_only = OFF"),
            false => (
                "SET GLOBAL super_read_only = ON",
                "SET GLOBAL super_read_only = OFF",
            ),
        };
        let own = [&source, &lock].map(Conn::connection_id);
        let clients = format!(
            "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'writer' \
             AND ID NOT IN ({}, {})",
            own[0], own[1]
        );
        let mark = |connection: &mut Conn, id: u32| {
            let statement = format!("INSERT INTO understudy.marker VALUES ('bare{id}', '')");
            connection.query_drop(statement).unwrap();
        };
        mark(&mut source, 1);
        let since = Instant::now();
        source.query_drop(close).unwrap();
        let ids: Vec<u64> = source.query(&clients).unwrap();
        for id in ids {
            drop(source.query_drop(format!("KILL {id}")));
        }
        let position = match mariadb {
            true => {
                lock.query_drop("FLUSH TABLES WITH READ LOCK").unwrap();
                "SELECT @@GLOBAL.gtid_binlog_pos"
            }
            false => "SELECT @@GLOBAL.gtid_executed",
        };
        let position: String = source.query_first(position).unwrap().unwrap();
        let wait = match mariadb {
            true => "MASTER_GTID_WAIT",
            false => "WAIT_FOR_EXECUTED_GTID_SET",
        };
        let wait = format!("SELECT {wait}('{position}', 30)");
        let came: Option<u8> = candidate.query_first(wait).unwrap();
        assert_eq!(came, Some(0));
        candidate.query_drop(open).unwrap();
        if !mariadb {
            candidate.query_drop("SET GLOBAL read_only = OFF").unwrap();
        }
        candidate.query_drop("SET SESSION sql_log_bin = 0").unwrap();
        mark(&mut candidate, 2);
        let took = since.elapsed();
        // Back, with nothing of it left.
        candidate
            .query_drop("DELETE FROM understudy.marker WHERE id = 'bare2'")
            .unwrap();
        candidate.query_drop(close).unwrap();
        if mariadb {
            lock.query_drop("UNLOCK TABLES").unwrap();
        }
        source.query_drop(open).unwrap();
        source.query_drop("SET GLOBAL read_only = OFF").unwrap();
        mark(&mut source, 3);
        source
            .query_drop("DELETE FROM understudy.marker WHERE id LIKE 'bare%'")
            .unwrap();
        took
    }

    pub fn status(&self) -> Value {
        self.tool.run(&["status", "lab"]).json()
    }

    /// Whether `name` has this row.
    pub fn has(&self, name: &str, id: u64) -> bool {
        self.server(name)
            .value(&format!("SELECT COUNT(*) FROM lab.w WHERE id = {id}"))
            == "1"
    }
}

/// A client that writes to whichever server takes it, and reconnects at once.
pub struct Writer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
}

#[derive(Clone, Copy)]
struct Acknowledged {
    id: u64,
    at: Instant,
    port: u16,
}

impl Writer {
    /// Ids from `first` on.
    pub fn start(trio: &Trio, first: u64) -> Self {
        Self::start_at(&NAMES[..trio.servers.len()], trio, first)
    }

    /// To these servers only.
    pub fn start_at(names: &[&str], trio: &Trio, first: u64) -> Self {
        let ports: Vec<u16> = names.iter().map(|name| trio.server(name).port).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Vec::new()));
        let (stops, keeps) = (stop.clone(), acknowledged.clone());
        let until = Instant::now() + Duration::from_secs(300);
        let thread = std::thread::spawn(move || {
            let mut id = first;
            while !stops.load(Ordering::SeqCst) && Instant::now() < until {
                for port in &ports {
                    let Some(mut connection) = connect(*port) else {
                        continue;
                    };
                    while !stops.load(Ordering::SeqCst) {
                        id += 1;
                        let statement = format!("INSERT INTO lab.w VALUES ({id})");
                        if connection.query_drop(&statement).is_err() {
                            break;
                        }
                        let (at, port) = (Instant::now(), *port);
                        keeps.lock().unwrap().push(Acknowledged { id, at, port });
                        // What replicas can follow, on a busy machine too.
                        sleep(Duration::from_millis(2));
                    }
                }
                sleep(Duration::from_micros(300));
            }
        });
        Self {
            stop,
            thread,
            acknowledged,
        }
    }

    pub fn count(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until it has written again.
    #[track_caller]
    pub fn wait_more(&self, count: usize) {
        let wanted = self.count() + count;
        eventually(limit(20), "the writer goes on", || self.count() >= wanted);
    }

    /// What was acknowledged, and the longest time between two of them.
    pub fn end(self) -> (Vec<u64>, Duration) {
        self.end_among(|_, _| true)
    }

    /// What was acknowledged, and the longest time between two of them of which two servers took one.
    pub fn end_moved(self) -> (Vec<u64>, Duration) {
        self.end_among(|one, next| one.port != next.port)
    }

    fn end_among(self, counts: fn(&Acknowledged, &Acknowledged) -> bool) -> (Vec<u64>, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        let all = self.acknowledged.lock().unwrap().clone();
        let gap = all
            .windows(2)
            .filter(|pair| counts(&pair[0], &pair[1]))
            .map(|pair| pair[1].at - pair[0].at)
            .max()
            .unwrap_or_default();
        (all.into_iter().map(|one| one.id).collect(), gap)
    }
}

fn connect(port: u16) -> Option<Conn> {
    let options = OptsBuilder::new()
        .ip_or_hostname(Some("127.0.0.1"))
        .tcp_port(port)
        .prefer_socket(false)
        .user(Some("writer"))
        .pass(Some("writes"))
        .tcp_connect_timeout(Some(Duration::from_millis(500)))
        .read_timeout(Some(Duration::from_secs(20)));
    Conn::new(options).ok()
}

/// Looks as fast as the servers answer whether two of them can be written to at one moment.
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Watch {
    pub fn start(trio: &Trio) -> Self {
        let ports: Vec<u16> = trio.servers.iter().map(|server| server.port).collect();
        let stop = Arc::new(AtomicBool::new(false));
        let stops = stop.clone();
        let until = Instant::now() + Duration::from_secs(300);
        let thread = std::thread::spawn(move || {
            let mut connections: Vec<Option<Conn>> = ports.iter().map(|_| None).collect();
            let mut seen = Vec::new();
            let mut ask = |index: usize| -> bool {
                let slot = &mut connections[index];
                if slot.is_none() {
                    *slot = connect(ports[index]);
                }
                let answer = slot
                    .as_mut()
                    .and_then(|one| one.query_first::<u8, _>("SELECT @@GLOBAL.read_only").ok());
                if answer.is_none() {
                    *slot = None;
                }
                answer.flatten() == Some(0)
            };
            while !stops.load(Ordering::SeqCst) && Instant::now() < until {
                for (one, other) in [(0, 1), (0, 2), (1, 2)] {
                    // Before and after the other was: at that moment, too.
                    if other < ports.len() && ask(one) && ask(other) && ask(one) {
                        seen.push(format!("{one} and {other}"));
                    }
                }
            }
            seen
        });
        Self { stop, thread }
    }

    #[track_caller]
    pub fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        let seen = self.thread.join().unwrap();
        assert!(seen.is_empty(), "two can be written to: {seen:?}");
    }
}
