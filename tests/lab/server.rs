//! One private database server.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Value};

use super::{in_guest, limit, sh};

/// One row, by lower-case column name; NULL is absent.
pub type Row = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    Mariadb,
    /// 10.11 of another version than the machine's own.
    MariadbOther,
    Mysql97,
    Mysql56,
}

impl Flavour {
    pub fn name(self) -> &'static str {
        match self {
            Self::Mariadb => "mariadb",
            Self::MariadbOther => "mariadb-other",
            Self::Mysql97 => "mysql-9.7",
            Self::Mysql56 => "mysql-5.6",
        }
    }

    pub fn is_mariadb(self) -> bool {
        matches!(self, Self::Mariadb | Self::MariadbOther)
    }

    pub fn home(self) -> PathBuf {
        let lab = std::env::var_os("UNDERSTUDY_LAB")
            .map_or_else(|| PathBuf::from("/var/cache/understudy-lab"), PathBuf::from);
        lab.join(self.name())
    }

    pub fn program(self) -> PathBuf {
        match self {
            Self::Mariadb => PathBuf::from("/usr/sbin/mariadbd"),
            Self::MariadbOther => self.home().join("bin/mariadbd"),
            Self::Mysql97 | Self::Mysql56 => self.home().join("bin/mysqld"),
        }
    }

    /// Why it can't be used here.
    pub fn missing(self) -> Option<String> {
        let template = self.home().join("template/ibdata1");
        [template, self.program()]
            .into_iter()
            .find(|path| !path.exists())
            .map(|path| format!("{} is missing (scripts/lab/mysql makes it)", path.display()))
    }

    /// SHOW … STATUS of a replica, its word for replica, and how it names a channel.
    pub fn replica_status(self) -> &'static str {
        match self {
            Self::Mariadb | Self::MariadbOther => "SHOW ALL SLAVES STATUS",
            Self::Mysql97 => "SHOW REPLICA STATUS",
            Self::Mysql56 => "SHOW SLAVE STATUS",
        }
    }

    /// `verb` (START or STOP) of a whole channel or one of its threads.
    pub fn replica_statement(self, verb: &str, thread: &str, channel: &str) -> String {
        match self {
            Self::Mariadb | Self::MariadbOther => format!("{verb} SLAVE '{channel}' {thread}"),
            Self::Mysql97 => format!("{verb} REPLICA {thread} FOR CHANNEL '{channel}'"),
            Self::Mysql56 => format!("{verb} SLAVE {thread}"),
        }
    }
}

/// How a server is started beyond the ordinary.
#[derive(Debug, Clone, Default)]
pub struct Start {
    pub server_id: u32,
    pub extra: Vec<String>,
    /// No networking, no replication, no events: to look at restored data.
    pub aloof: bool,
}

pub struct Server {
    pub flavour: Flavour,
    pub data_dir: PathBuf,
    /// Socket, pid file, log and temporary files.
    pub place: PathBuf,
    pub port: u16,
    /// The flavour's own, unless a test has a copy with something beside it.
    pub program: PathBuf,
    /// In a mount namespace of its own, in which its data directory is here.
    pub inside: Option<PathBuf>,
    /// With `inside`: in this root, as nobody.
    pub root: Option<PathBuf>,
    start: Start,
    child: Option<Child>,
}

/// Below those that the kernel gives to connections: a server that is started later, or again, has to find
/// its port free still.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id() * 61;
    for _ in 0..2000 {
        let number = (first + NEXT.fetch_add(1, Ordering::SeqCst)) % 12_000;
        let port = 10_000 + u16::try_from(number).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

impl Server {
    /// A server on a fresh copy of its template. Not yet started.
    pub fn fresh(flavour: Flavour, data_dir: &Path, place: &Path, start: Start) -> Self {
        std::fs::create_dir_all(data_dir).unwrap();
        let from = flavour.home().join("template/.").display().to_string();
        let to = data_dir.display().to_string();
        sh(&["cp", "-a", "--reflink=auto", &from, &to]);
        Self::on(flavour, data_dir, place, start)
    }

    /// A server on data that is there.
    pub fn on(flavour: Flavour, data_dir: &Path, place: &Path, start: Start) -> Self {
        std::fs::create_dir_all(place.join("tmp")).unwrap();
        Self {
            flavour,
            data_dir: data_dir.to_owned(),
            place: place.to_owned(),
            port: free_port(),
            program: flavour.program(),
            inside: None,
            root: None,
            start,
            child: None,
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.place.join("sock")
    }

    pub fn log(&self) -> PathBuf {
        self.place.join("log")
    }

    /// Program and arguments.
    pub fn argv(&self) -> Vec<String> {
        let place = |name: &str| self.place.join(name).display().to_string();
        let mut argv = vec![
            self.program.display().to_string(),
            "--no-defaults".to_owned(),
            "--user=root".to_owned(),
            format!("--datadir={}", self.data_dir.display()),
            format!("--socket={}", place("sock")),
            format!("--pid-file={}", place("pid")),
            format!("--tmpdir={}", place("tmp")),
            format!("--port={}", self.port),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--server-id={}", self.start.server_id),
            "--log-bin=binlog".to_owned(),
            "--relay-log=relay".to_owned(),
            "--binlog-format=ROW".to_owned(),
            "--innodb-buffer-pool-size=64M".to_owned(),
            "--max-connections=60".to_owned(),
        ];
        let own: &[&str] = match self.flavour {
            Flavour::Mariadb | Flavour::MariadbOther => &[
                "--log-slave-updates=1",
                "--innodb-log-file-size=16M",
                "--report-host=lab",
            ],
            Flavour::Mysql97 => &[
                "--mysqlx=0",
                "--secure-file-priv=",
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=ON",
                "--innodb-redo-log-capacity=16M",
            ],
            Flavour::Mysql56 => &[
                "--gtid-mode=ON",
                "--enforce-gtid-consistency=1",
                "--log-slave-updates=1",
                "--explicit-defaults-for-timestamp=1",
            ],
        };
        argv.extend(own.iter().map(|&arg| arg.to_owned()));
        let home = self.flavour.home();
        if matches!(self.flavour, Flavour::MariadbOther | Flavour::Mysql56) {
            argv.push(format!("--basedir={}", home.display()));
        }
        if self.flavour == Flavour::Mysql56 {
            argv.push(format!("--lc-messages-dir={}/share", home.display()));
        }
        if in_guest() {
            argv.push("--innodb-use-native-aio=0".to_owned());
        }
        if self.start.aloof {
            let skip = match self.flavour {
                Flavour::Mysql97 => "--skip-replica-start",
                Flavour::Mariadb | Flavour::MariadbOther | Flavour::Mysql56 => "--skip-slave-start",
            };
            argv.extend([skip, "--skip-networking", "--event-scheduler=OFF"].map(str::to_owned));
        }
        argv.extend(self.start.extra.iter().cloned());
        argv
    }

    /// Starts it without waiting. It dies with the thread that starts it, should we be killed.
    pub fn spawn(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let mut argv = self.argv();
        let mut contained = Vec::new();
        if let Some(inside) = &self.inside {
            let (data, inside) = (self.data_dir.display(), inside.display());
            let own = format!("--datadir={data}");
            for word in argv.iter_mut().filter(|word| **word == own) {
                *word = format!("--datadir={inside}");
            }
            let script = match &self.root {
                None => format!("mount --bind {data} {inside} && exec \"$@\""),
                Some(root) => self.script_in_root(root),
            };
            contained = ["/usr/bin/unshare", "-m", "/bin/sh", "-c", &script, "sh"]
                .map(str::to_owned)
                .to_vec();
        }
        let child = Command::new("/usr/bin/setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(contained)
            .args(argv)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    /// As a container's runtime does it: the old root is left, with the loader of which the last
    /// program before the server is run.
    fn script_in_root(&self, root: &Path) -> String {
        let inside = self.inside.as_ref().unwrap().display();
        let (root, place) = (root.display(), self.place.display());
        let data = self.data_dir.display();
        format!(
            "set -e; mount --bind {root} {root}; mount --bind {data} {root}{inside}; \
             mkdir -p {root}{place} {root}/old; mount --bind {place} {root}{place}; \
             cd {root}; pivot_root . old; exec /old/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path \
             /old/lib/x86_64-linux-gnu:/old/usr/lib/x86_64-linux-gnu /old/usr/sbin/chroot \
             --userspec=+65534:+65534 / \"$@\""
        )
    }

    /// Waits until it answers.
    pub fn wait_ready(&mut self) {
        let since = Instant::now();
        let until = since + limit(60);
        while self.try_connect("root").is_none() {
            if let Some(child) = &mut self.child
                && let Ok(Some(status)) = child.try_wait()
            {
                panic!("the server ended with {status}:\n{}", self.log_tail());
            }
            assert!(
                Instant::now() < until,
                "the server doesn't start:\n{}",
                self.log_tail()
            );
            sleep(Duration::from_millis(30));
        }
        super::trace("waited for a server", since);
    }

    /// From its next start on it reads this option file. Without one (--no-defaults) MySQL forgets what
    /// of its plugins' variables is persisted (seen on 9.7).
    pub fn read_options_of(&mut self, main: &Path) {
        let script = self.place.join("with-options");
        let text = format!(
            "#!/bin/sh\nshift\nexec {} --defaults-file={} \"$@\"\n",
            self.program.display(),
            main.display()
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
        self.program = script;
    }

    /// Started again with more arguments.
    pub fn restart_with(&mut self, extra: &[String]) {
        self.shut_down();
        self.start.extra.extend_from_slice(extra);
        self.restart();
    }

    pub fn restart(&mut self) {
        self.spawn();
        self.wait_ready();
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// SIGKILL, as a crash.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        kill_servers_in(&self.data_dir);
    }

    /// An orderly shutdown; a server that takes too long is killed.
    pub fn shut_down(&mut self) {
        if let Some(mut conn) = self.try_connect("root") {
            drop(conn.query_drop("SHUTDOWN"));
        }
        let until = Instant::now() + limit(20);
        while self.is_there() && Instant::now() < until {
            sleep(Duration::from_millis(20));
        }
        self.kill();
    }

    /// Whether our child runs, or one that a service started on the same files: a new server would
    /// meet the old one's locks.
    fn is_there(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
            || understudy::sys::process::runs_in(&self.data_dir)
    }

    pub fn try_connect(&self, user: &str) -> Option<Conn> {
        let options = OptsBuilder::new()
            .socket(Some(self.socket().display().to_string()))
            .user(Some(user))
            .prefer_socket(false)
            .tcp_connect_timeout(Some(Duration::from_secs(5)))
            .read_timeout(Some(limit(60)));
        Conn::new(options).ok()
    }

    /// A connection of root, by the socket.
    pub fn connect(&self) -> Conn {
        let until = Instant::now() + limit(10);
        loop {
            match self.try_connect("root") {
                Some(conn) => return conn,
                None if Instant::now() < until => sleep(Duration::from_millis(50)),
                None => panic!("no connection:\n{}", self.log_tail()),
            }
        }
    }

    pub fn execute(&self, statement: &str) {
        self.connect()
            .query_drop(statement)
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    pub fn execute_in_mode(&self, mode: &str, statement: &str) {
        let mut conn = self.connect();
        for statement in [&format!("SET SESSION sql_mode = '{mode}'"), statement] {
            conn.query_drop(statement)
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    /// Several statements on one connection, none of them in the binary log.
    pub fn execute_unlogged(&self, statements: &[String]) {
        let mut conn = self.connect();
        conn.query_drop("SET SESSION sql_log_bin = 0").unwrap();
        for statement in statements {
            conn.query_drop(statement)
                .unwrap_or_else(|error| panic!("{statement}: {error}"));
        }
    }

    /// The anonymous accounts of old servers would come first for connections from this host.
    pub fn drop_anonymous(&self) {
        if self.flavour == Flavour::Mysql56 {
            self.execute_unlogged(&[
                "DELETE FROM mysql.user WHERE User = ''".to_owned(),
                "FLUSH PRIVILEGES".to_owned(),
            ]);
        }
    }

    pub fn rows(&self, statement: &str) -> Vec<Row> {
        try_rows(&mut self.connect(), statement)
            .unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// The first column of the first row; NULL and no row are empty.
    pub fn value(&self, statement: &str) -> String {
        let value: Option<mysql::Row> = self
            .connect()
            .query_first(statement)
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
        value.map_or_else(String::new, |row| text(row[0].clone()).unwrap_or_default())
    }

    /// What it has executed or applied, without white space.
    pub fn gtid(&self) -> String {
        let is_replica = !self.rows(self.flavour.replica_status()).is_empty();
        let statement = match (self.flavour, is_replica) {
            (Flavour::Mariadb | Flavour::MariadbOther, true) => "SELECT @@GLOBAL.gtid_slave_pos",
            (Flavour::Mariadb | Flavour::MariadbOther, false) => "SELECT @@GLOBAL.gtid_current_pos",
            (Flavour::Mysql97 | Flavour::Mysql56, _) => "SELECT @@GLOBAL.gtid_executed",
        };
        self.value(statement).replace(char::is_whitespace, "")
    }

    /// Restarts it under a service of ours: the programs in `dir` that start and stop it.
    pub fn put_under_a_service(&mut self, dir: &Path) -> (String, String) {
        let script = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
            path.display().to_string()
        };
        let place = self.place.display().to_string();
        let argv = self.argv().join("' '");
        let start = script(
            "start",
            &format!(
                "cd / && rm -f {place}/sock && setsid '{argv}' >>{place}/log 2>&1 </dev/null &\n\
                 for i in $(seq 900); do [ -S {place}/sock ] && exit 0; sleep 0.1; done; exit 1"
            ),
        );
        let stop = script(
            "stop",
            &format!(
                "pid=$(cat {place}/pid) || exit 0; kill $pid\n\
                 while [ -e /proc/$pid/exe ]; do sleep 0.1; done"
            ),
        );
        self.shut_down();
        sh(&[&start]);
        (start, stop)
    }

    /// Name, IO and SQL thread of each channel.
    pub fn channels(&self) -> Vec<(String, String, String)> {
        let get = |row: &Row, names: [&str; 2]| {
            names
                .iter()
                .find_map(|name| row.get(*name).cloned())
                .unwrap_or_default()
        };
        self.rows(self.flavour.replica_status())
            .iter()
            .map(|row| {
                (
                    get(row, ["channel_name", "connection_name"]),
                    get(row, ["replica_io_running", "slave_io_running"]),
                    get(row, ["replica_sql_running", "slave_sql_running"]),
                )
            })
            .collect()
    }

    /// The SQL threads: (channel, Yes or No).
    pub fn sql_threads(&self) -> Vec<(String, String)> {
        let mut threads: Vec<_> = self
            .channels()
            .into_iter()
            .map(|(name, _, sql)| (name, sql))
            .collect();
        threads.sort();
        threads
    }

    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last number of a GTID set of one source: how many transactions that source has made.
pub fn sequence(gtid: &str) -> u64 {
    let digits = gtid.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("no sequence number in {gtid:?}"))
}

pub fn try_rows(conn: &mut Conn, statement: &str) -> Result<Vec<Row>, mysql::Error> {
    let rows: Vec<mysql::Row> = conn.query(statement)?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let names: Vec<String> = row
                .columns_ref()
                .iter()
                .map(|column| column.name_str().to_ascii_lowercase())
                .collect();
            let values = row.unwrap();
            names
                .into_iter()
                .zip(values)
                .filter_map(|(name, value)| Some((name, text(value)?)))
                .collect()
        })
        .collect())
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true).trim_matches('\'').to_owned()),
    }
}

/// Ends every database server whose data directory is `dir`: those that a service script of ours
/// started are no children of ours.
fn kill_servers_in(dir: &Path) {
    for pid in servers_where(|data_dir| data_dir == dir) {
        kill(pid);
        let until = Instant::now() + Duration::from_secs(10);
        while Path::new(&format!("/proc/{pid}/cwd")).exists() && Instant::now() < until {
            sleep(Duration::from_millis(10));
            if std::fs::read_link(format!("/proc/{pid}/cwd")).is_err() {
                break;
            }
        }
    }
}

pub fn kill_servers_below(dir: &Path) {
    for pid in servers_where(|data_dir| data_dir.starts_with(dir)) {
        kill(pid);
    }
}

fn kill(pid: i32) {
    // It may be gone already.
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGKILL,
    );
}

/// Database servers work in their data directory.
fn servers_where(is_wanted: impl Fn(&Path) -> bool) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            matches!(name.trim(), "mariadbd" | "mysqld")
        })
        .filter(|pid| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| is_wanted(&cwd))
        })
        .collect()
}

const BOTH: [Flavour; 2] = [Flavour::Mariadb, Flavour::Mysql97];

/// The flavours that are here; where CI is set, both have to be.
pub fn flavours() -> Vec<Flavour> {
    BOTH.into_iter()
        .filter(|flavour| match flavour.missing() {
            None => true,
            Some(missing) => {
                assert!(std::env::var_os("CI").is_none(), "{missing}");
                eprintln!("\n!!! {} is SKIPPED: {missing}\n", flavour.name());
                false
            }
        })
        .collect()
}
