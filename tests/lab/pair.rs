//! A source and its replica, with a configuration that names them.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use super::scratch::Scratch;
use super::server::{Flavour, Server, Start};
use super::storage::{Storage, Volume};
use super::tool::Tool;
use super::{eventually, limit, load, sh};

/// Enough for the data, the copies of a test, and the margin that the tool insists on.
const SIZE_MB: u64 = 3000;

/// What the configuration says of the replica beyond where it is.
#[derive(Debug, Clone)]
pub struct Settings {
    pub backend: String,
    pub max_pause: Duration,
    /// More lines of `[server.X.snapshot]`.
    pub snapshot: String,
    /// More lines at the end of the file.
    pub more: String,
}

// Dropped in this order: the servers, then what they stand on.
pub struct Pair {
    pub flavour: Flavour,
    pub storage: Storage,
    pub source: Server,
    pub replica: Server,
    /// More sources, of a replica with several channels.
    pub others: Vec<Server>,
    pub volume: Volume,
    pub tool: Tool,
    pub settings: Mutex<Settings>,
    scratch: Scratch,
}

/// What of a pair isn't ordinary.
#[derive(Debug, Clone, Default)]
pub struct Special {
    /// Of the volume, when it shall be small.
    pub size_mb: Option<u64>,
    pub replica_args: Vec<String>,
    /// The redo log on a volume of its own (LVM only), so that both have to be frozen.
    pub redo_apart: bool,
    pub source_args: Vec<String>,
    /// Its binary and relay logs on another filesystem than its data.
    pub logs_apart: bool,
}

impl Pair {
    pub fn start(flavour: Flavour, storage: Storage, special: &Special) -> Self {
        let scratch = Scratch::new();
        let base = scratch.path.clone();
        let size_mb = special.size_mb.unwrap_or(SIZE_MB);
        let mut volume = Volume::make(storage, &base, &scratch.name, size_mb);
        let mut extra = vec!["--read-only=1".to_owned()];
        extra.extend(special.replica_args.iter().cloned());
        if special.logs_apart {
            let logs = base.join("logs");
            std::fs::create_dir(&logs).unwrap();
            let logs = logs.display();
            extra.push(format!("--log-bin={logs}/binlog"));
            extra.push(format!("--relay-log={logs}/relay"));
        }
        let redo = special
            .redo_apart
            .then(|| volume.add_second(&base.join("redo")));
        if let Some(redo) = &redo {
            extra.push(format!("--innodb-log-group-home-dir={}", redo.display()));
        }
        let directories = [Some(base.join("skept")), volume.directory()];
        for directory in directories.into_iter().flatten() {
            std::fs::create_dir(directory).unwrap();
        }
        let server = |name: &str, data_dir: &Path, server_id, extra: &[String]| {
            let start = Start {
                server_id,
                extra: extra.to_vec(),
                aloof: false,
            };
            Server::fresh(flavour, data_dir, &base.join(name), start)
        };
        let mut source = server("s", &base.join("sdata"), 11, &special.source_args);
        let mut replica = server("p", &volume.data_dir(), 12, &extra);
        if let Some(redo) = &redo {
            let log = volume.data_dir().join("ib_logfile0");
            sh(&[
                "mv",
                &log.display().to_string(),
                &redo.display().to_string(),
            ]);
        }
        source.spawn();
        replica.spawn();
        source.wait_ready();
        replica.wait_ready();
        let pair = Self {
            flavour,
            storage,
            source,
            replica,
            others: Vec::new(),
            tool: Tool { base },
            settings: Mutex::new(Settings {
                backend: storage.configured().to_owned(),
                max_pause: limit(30),
                snapshot: String::new(),
                more: String::new(),
            }),
            volume,
            scratch,
        };
        pair.replica.execute_unlogged(&accounts(flavour));
        pair.source.execute_unlogged(&accounts(flavour));
        for statement in load::tables(flavour) {
            pair.source.execute(&statement);
        }
        pair.follow(&pair.replica, &pair.source, "");
        pair.configure(|_| {});
        pair.wait_caught_up();
        pair
    }

    pub fn base(&self) -> &Path {
        &self.scratch.path
    }

    /// The replica as the configuration names it: unique, since zfs and lvm show all there is.
    pub fn name(&self) -> String {
        format!("rep-{}", self.scratch.name)
    }

    pub fn source_name(&self) -> String {
        format!("src-{}", self.scratch.name)
    }

    pub fn state_dir(&self) -> PathBuf {
        self.base().join("state")
    }

    /// `snapshot create` of the replica, which must succeed: its JSON.
    pub fn create(&self, more: &[&str]) -> serde_json::Value {
        let name = self.name();
        let mut args = vec!["snapshot", "create", &name];
        args.extend(more);
        let run = self.tool.run(&args).ok();
        run.json()["snapshot"].clone()
    }

    /// Everything in the catalogue of the replica.
    pub fn list(&self) -> Vec<serde_json::Value> {
        let run = self.tool.run(&["snapshot", "list", &self.name()]).ok();
        run.json()["snapshots"].as_array().unwrap().clone()
    }

    /// Deletes all snapshots, held ones too.
    pub fn delete_all(&self) {
        for snapshot in self.list() {
            let id = snapshot["id"].as_str().unwrap();
            if snapshot["held"] == true {
                self.tool.run(&["snapshot", "release", id]).ok();
            }
            self.tool.run(&["snapshot", "delete", id, "--yes"]).ok();
        }
    }

    /// Restarts the replica under a service of ours; the lines that configure it, with
    /// `consistency = "stop"`.
    pub fn put_under_a_service(&mut self) -> String {
        let base = self.base().to_owned();
        let (start, stop) = self.replica.put_under_a_service(&base);
        self.wait_caught_up();
        format!(
            "consistency = \"stop\"\n[server.{}.service]\nstart = [\"{start}\"]\n\
             stop = [\"{stop}\"]",
            self.name()
        )
    }

    /// Adds a source with its own channel on the replica, and starts it.
    pub fn add_source(&mut self, channel: &str) {
        let number = u32::try_from(self.others.len()).unwrap() + 1;
        let place = self.base().join(format!("s{number}"));
        let extra = match self.flavour {
            Flavour::Mariadb | Flavour::MariadbOther => vec![format!("--gtid-domain-id={number}")],
            Flavour::Mysql97 | Flavour::Mysql56 => Vec::new(),
        };
        let start = Start {
            server_id: 20 + number,
            extra,
            aloof: false,
        };
        let data_dir = self.base().join(format!("sdata{number}"));
        let mut source = Server::fresh(self.flavour, &data_dir, &place, start);
        source.restart();
        source.execute_unlogged(&accounts(self.flavour));
        source.execute("CREATE DATABASE other");
        source.execute("CREATE TABLE other.t (id INT PRIMARY KEY) ENGINE=InnoDB");
        self.follow(&self.replica, &source, channel);
        self.others.push(source);
    }

    /// Points `replica` at `source` and starts both threads.
    pub fn follow(&self, replica: &Server, source: &Server, channel: &str) {
        let statement = match self.flavour {
            Flavour::Mariadb | Flavour::MariadbOther => format!(
                "CHANGE MASTER '{channel}' TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, \
                 MASTER_USER='repl', MASTER_PASSWORD='repl', MASTER_CONNECT_RETRY=1, \
                 MASTER_USE_GTID=slave_pos",
                source.port
            ),
            Flavour::Mysql97 => format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={}, \
                 SOURCE_USER='repl', SOURCE_PASSWORD='repl', SOURCE_CONNECT_RETRY=1, \
                 GET_SOURCE_PUBLIC_KEY=1, SOURCE_AUTO_POSITION=1 FOR CHANNEL '{channel}'",
                source.port
            ),
            Flavour::Mysql56 => format!(
                "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={}, MASTER_USER='repl', \
                 MASTER_PASSWORD='repl', MASTER_CONNECT_RETRY=1, MASTER_AUTO_POSITION=1",
                source.port
            ),
        };
        replica.execute(&statement);
        replica.execute(&self.flavour.replica_statement("START", "", channel));
    }

    /// Waits until the replica has applied what the source has written up to now, which also shows
    /// that nothing on it is stopped or locked.
    #[track_caller]
    pub fn wait_caught_up(&self) {
        self.source.execute("INSERT INTO lab.ping VALUES ()");
        self.wait_equal(&self.replica, limit(20));
    }

    /// Waits until a server has what the source has.
    #[track_caller]
    pub fn wait_equal(&self, server: &Server, within: Duration) {
        let highest = "SELECT MAX(id) FROM lab.ping";
        let wanted = self.source.value(highest);
        eventually(within, "the replica has what the source has", || {
            server.rows("SHOW DATABASES LIKE 'lab'").len() == 1
                && !server.rows("SHOW TABLES FROM lab LIKE 'ping'").is_empty()
                && server.value(highest) == wanted
        });
    }

    /// Changes the settings and writes the configuration.
    pub fn configure(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.settings.lock().unwrap();
        change(&mut settings);
        let credentials = self.base().join("db.cnf");
        let text = "[client]\nuser = understudy\npassword = \"secret word\"\n";
        std::fs::write(&credentials, text).unwrap();
        std::fs::set_permissions(&credentials, PermissionsExt::from_mode(0o600)).unwrap();
        let text = self.render(&settings, &credentials);
        std::fs::write(self.base().join("understudy.toml"), text).unwrap();
    }

    /// Everything back to how `start` left it.
    pub fn configure_plain(&self) {
        self.configure(|settings| {
            *settings = Settings {
                backend: self.storage.configured().to_owned(),
                max_pause: limit(30),
                snapshot: String::new(),
                more: String::new(),
            };
        });
    }

    fn render(&self, settings: &Settings, credentials: &Path) -> String {
        let (name, source) = (self.name(), self.source_name());
        let credentials = credentials.display();
        let mut text = format!(
            "state_dir = \"{state}\"\n\
             [server.{source}]\naddress = \"127.0.0.1:{port}\"\ncredentials = \"{credentials}\"\n\
             [server.{source}.snapshot]\ndirectory = \"{base}/skept\"\n\
             [server.{name}]\nsocket = \"{socket}\"\ncredentials = \"{credentials}\"\n\
             [server.{name}.snapshot]\nbackend = \"{backend}\"\nmax_pause = \"{pause_ms}ms\"\n",
            state = self.state_dir().display(),
            base = self.base().display(),
            port = self.source.port,
            socket = self.replica.socket().display(),
            backend = settings.backend,
            pause_ms = settings.max_pause.as_millis(),
        );
        if let Some(directory) = self.volume.directory() {
            writeln!(text, "directory = \"{}\"", directory.display()).unwrap();
        }
        write!(
            text,
            "{}\n[pair.{pair}]\nsource = \"{source}\"\nreplicas = [\"{name}\"]\n{}",
            settings.snapshot,
            settings.more,
            pair = self.scratch.name,
        )
        .unwrap();
        text
    }

    /// What a failure needs to be understood.
    pub fn last_words(&self) -> String {
        format!(
            "replica's log:\n{}\nsource's log:\n{}",
            self.replica.log_tail(),
            self.source.log_tail()
        )
    }
}

/// One for replication that may do nothing else, one for the tool. 5.6 has anonymous ones, which
/// would come first for connections from this host.
fn accounts(flavour: Flavour) -> Vec<String> {
    let mut statements = Vec::new();
    if flavour == Flavour::Mysql56 {
        statements.push("DELETE FROM mysql.user WHERE User = ''".to_owned());
        statements.push("FLUSH PRIVILEGES".to_owned());
    }
    statements.extend(
        [
            "CREATE USER 'repl'@'%' IDENTIFIED BY 'repl'",
            "GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%'",
            "CREATE USER 'understudy'@'%' IDENTIFIED BY 'secret word'",
            "GRANT ALL ON *.* TO 'understudy'@'%'",
        ]
        .map(str::to_owned),
    );
    statements
}
