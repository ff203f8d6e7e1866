//! Two servers that don't know each other yet, with a configuration that makes a pair of them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::load;
use super::scratch::Scratch;
use super::server::{Flavour, Server, Start};
use super::tool::{Run, Tool};

// Dropped in this order.
pub struct Couple {
    pub flavour: Flavour,
    pub source: Server,
    pub replica: Server,
    pub tool: Tool,
    /// Lines of `[server.src]` and `[server.rep]`, and whole tables at the end.
    pub of_source: String,
    pub of_replica: String,
    pub more: String,
    scratch: Scratch,
}

/// The tool's account on either server, out of the binary log.
pub fn account() -> Vec<String> {
    [
        "CREATE USER 'understudy'@'%' IDENTIFIED BY 'secret word'",
        "GRANT ALL ON *.* TO 'understudy'@'%' WITH GRANT OPTION",
    ]
    .map(str::to_owned)
    .to_vec()
}

impl Couple {
    pub fn start(flavour: Flavour) -> Self {
        Self::start_with(flavour, &[], &[])
    }

    pub fn start_with(flavour: Flavour, source_args: &[&str], replica_args: &[&str]) -> Self {
        Self::start_across(flavour, source_args, replica_args, None)
    }

    /// The replica's server of another version, which is at home there.
    pub fn start_across(
        flavour: Flavour,
        source_args: &[&str],
        replica_args: &[&str],
        other: Option<&Path>,
    ) -> Self {
        let scratch = Scratch::new();
        let base = scratch.path.clone();
        let server = |name: &str, server_id, extra: &[&str]| {
            let start = Start {
                server_id,
                extra: extra.iter().map(|&arg| arg.to_owned()).collect(),
                aloof: false,
            };
            let data_dir = base.join(format!("{name}data"));
            Server::fresh(flavour, &data_dir, &base.join(name), start)
        };
        let mut source = server("s", 11, source_args);
        let mut replica = match other {
            None => server("p", 12, replica_args),
            Some(home) => {
                let data_dir = base.join("pdata");
                let template = home.join("template").display().to_string();
                super::sh(&["cp", "-a", &template, &data_dir.display().to_string()]);
                let share = home.join("share/mariadb").display().to_string();
                let extra = vec![
                    format!("--basedir={}", home.display()),
                    format!("--lc-messages-dir={share}"),
                    format!("--character-sets-dir={share}/charsets"),
                ];
                let start = Start {
                    server_id: 12,
                    extra,
                    aloof: false,
                };
                let mut server = Server::on(flavour, &data_dir, &base.join("p"), start);
                server.program = home.join("bin/mariadbd");
                server
            }
        };
        source.spawn();
        replica.spawn();
        source.wait_ready();
        replica.wait_ready();
        source.execute_unlogged(&account());
        replica.execute_unlogged(&account());
        let couple = Self {
            flavour,
            source,
            replica,
            tool: Tool { base },
            of_source: String::new(),
            of_replica: String::new(),
            more: String::new(),
            scratch,
        };
        couple.configure();
        couple
    }

    pub fn base(&self) -> &Path {
        &self.scratch.path
    }

    pub fn state_dir(&self) -> PathBuf {
        self.base().join("state")
    }

    pub fn password_file(&self) -> PathBuf {
        self.state_dir().join("accounts/lab.cnf")
    }

    pub fn configure(&self) {
        let credentials = self.base().join("db.cnf");
        let text = "[client]\nuser = understudy\npassword = \"secret word\"\n";
        std::fs::write(&credentials, text).unwrap();
        std::fs::set_permissions(&credentials, PermissionsExt::from_mode(0o600)).unwrap();
        let text = format!(
            "state_dir = \"{state}\"\n\
             [server.src]\naddress = \"127.0.0.1:{port}\"\ncredentials = \"{cnf}\"\n{of_source}\n\
             [server.rep]\nsocket = \"{socket}\"\ncredentials = \"{cnf}\"\n{of_replica}\n\
             [pair.lab]\nsource = \"src\"\nreplicas = [\"rep\"]\n{more}\n",
            state = self.state_dir().display(),
            port = self.source.port,
            cnf = credentials.display(),
            of_source = self.of_source,
            socket = self.replica.socket().display(),
            of_replica = self.of_replica,
            more = self.more,
        );
        std::fs::write(self.base().join("understudy.toml"), text).unwrap();
    }

    pub fn setup(&self, more: &[&str]) -> Run {
        self.tool.run(&[&["setup", "lab"], more].concat())
    }

    pub fn setup_at(&self, failpoint: &str, more: &[&str]) -> Run {
        self.tool
            .run_at(failpoint, &[&["setup", "lab"], more].concat())
    }

    /// Restarts the replica under a service of ours, and configures it.
    pub fn put_under_a_service(&mut self) {
        let base = self.base().to_owned();
        let (start, stop) = self.replica.put_under_a_service(&base);
        drop(self.replica.connect());
        self.of_replica =
            format!("[server.rep.service]\nstart = [\"{start}\"]\nstop = [\"{stop}\"]");
        self.configure();
    }

    /// Gives the source data of every kind. `forgetful`: also a table without transactions.
    pub fn fill(&self, forgetful: bool) {
        for statement in load::tables(self.flavour) {
            if forgetful || !statement.contains("lab.m ") {
                self.source.execute(&statement);
            }
        }
        for statement in [
            "CREATE DATABASE `odd ``name` CHARACTER SET latin1",
            "CREATE TABLE `odd ``name`.`t.1` (id INT PRIMARY KEY AUTO_INCREMENT, \
             b LONGBLOB, t TEXT CHARACTER SET utf8mb4, d DECIMAL(20,10), g BIT(9))",
            "INSERT INTO `odd ``name`.`t.1` (b, t, d, g) VALUES \
             (UNHEX('00FF0A0D1A27225C'), 'caf\u{e9} \u{1f600}\r\n\\\\''', 3.1415926535, b'101010101'), \
             (REPEAT(UNHEX('0001'), 300000), REPEAT('x\r\n', 1000), NULL, NULL)",
            "CREATE VIEW lab.v AS SELECT id, n FROM lab.c",
            "CREATE TABLE lab.audit (id INT PRIMARY KEY AUTO_INCREMENT, n INT)",
            "CREATE TRIGGER lab.tr AFTER UPDATE ON lab.c FOR EACH ROW \
             INSERT INTO lab.audit (n) VALUES (NEW.n)",
            "CREATE PROCEDURE lab.p() SELECT COUNT(*) FROM lab.t",
            "CREATE FUNCTION lab.f(a INT) RETURNS INT DETERMINISTIC RETURN a + 1",
            "CREATE EVENT lab.e ON SCHEDULE EVERY 1 SECOND DO INSERT INTO lab.audit (n) VALUES (-1)",
            "CREATE USER 'worker'@'localhost' IDENTIFIED BY 'at work'",
            "GRANT SELECT, INSERT ON lab.* TO 'worker'@'localhost'",
            "GRANT EXECUTE ON FUNCTION lab.f TO 'worker'@'localhost'",
            // After it in the alphabet, so that it comes later.
            "CREATE ROLE zookeeper",
            "GRANT SELECT ON lab.* TO zookeeper",
            "CREATE USER 'apprentice'@'localhost' IDENTIFIED BY 'at work'",
            "GRANT zookeeper TO 'apprentice'@'localhost'",
            "INSERT INTO lab.t SELECT seq.n, REPEAT('y', 200) FROM (SELECT a.i + 10 * b.i + \
             100 * c.i + 1000000 n FROM (SELECT 0 i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 \
             UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION \
             SELECT 9) a, (SELECT 0 i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 \
             UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) b, \
             (SELECT 0 i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT \
             5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) c) seq",
        ] {
            self.source.execute(statement);
        }
        self.source.execute(match self.flavour {
            Flavour::Mariadb | Flavour::MariadbOther => {
                "SET DEFAULT ROLE zookeeper FOR 'apprentice'@'localhost'"
            }
            Flavour::Mysql97 | Flavour::Mysql56 => {
                "SET DEFAULT ROLE zookeeper TO 'apprentice'@'localhost'"
            }
        });
    }

    /// Both servers have the same tables with the same content, the same views, routines, triggers.
    #[track_caller]
    pub fn assert_equal(&self) {
        assert_eq!(content(&self.replica), content(&self.source));
    }

    /// The steps of a report, as `name: result`.
    pub fn steps(report: &Value) -> Vec<String> {
        report["setup"]["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| {
                format!(
                    "{}: {}",
                    step["name"].as_str().unwrap(),
                    step["result"].as_str().unwrap()
                )
            })
            .collect()
    }

    /// All of a server that a set-up may change, to be compared later.
    pub fn state(&self, server: &Server) -> Vec<String> {
        let mut state = content(server);
        let values = |statement: &str| {
            server
                .rows(statement)
                .iter()
                .map(|row| format!("{row:?}"))
                .collect::<Vec<_>>()
        };
        state.extend(values(
            "SELECT User, Host FROM mysql.user ORDER BY User, Host",
        ));
        state.push(format!("{:?}", server.channels()));
        let mut variables = vec!["read_only", "event_scheduler"];
        let gtid = match self.flavour {
            Flavour::Mariadb | Flavour::MariadbOther => "SELECT @@GLOBAL.gtid_slave_pos",
            Flavour::Mysql97 | Flavour::Mysql56 => "SELECT @@GLOBAL.gtid_executed",
        };
        if self.flavour == Flavour::Mysql97 {
            variables.extend(["super_read_only", "clone_valid_donor_list"]);
            state.extend(values(
                "SELECT * FROM performance_schema.persisted_variables",
            ));
            state.extend(values(
                "SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_NAME = 'clone'",
            ));
        }
        for name in variables {
            let rows = server.rows(&format!("SHOW GLOBAL VARIABLES LIKE '{name}'"));
            state.push(format!("{rows:?}"));
        }
        state.push(server.value(gtid));
        state
    }

    /// No journal without an end, no work directory.
    #[track_caller]
    pub fn assert_nothing_in_hand(&self) {
        for place in ["journal", "work"] {
            let left: Vec<String> = std::fs::read_dir(self.state_dir().join(place))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .filter(|name| name != "done")
                .collect();
            assert_eq!(left, Vec::<String>::new(), "{place}");
        }
    }
}

impl Drop for Couple {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the replica's log:\n{}", self.replica.log_tail());
            println!("the source's log:\n{}", self.source.log_tail());
        }
    }
}

/// Every table with its checksum, every view, routine, trigger and event with its text.
pub fn content(server: &Server) -> Vec<String> {
    let users = "NOT IN ('information_schema', 'performance_schema') AND BINARY";
    let own = "NOT IN ('mysql', 'sys')";
    let mut lines = Vec::new();
    let tables = server.rows(&format!(
        "SELECT CONCAT('`', REPLACE(TABLE_SCHEMA, '`', '``'), '`.`', \
         REPLACE(TABLE_NAME, '`', '``'), '`') AS t FROM information_schema.TABLES \
         WHERE TABLE_SCHEMA {users} TABLE_SCHEMA {own} AND TABLE_TYPE = 'BASE TABLE' ORDER BY 1"
    ));
    for table in tables {
        let name = &table["t"];
        let sums = server.rows(&format!("CHECKSUM TABLE {name}"));
        let create = server.rows(&format!("SHOW CREATE TABLE {name}"));
        lines.push(format!(
            "{name} {} {}",
            sums[0]["checksum"], create[0]["create table"]
        ));
    }
    for statement in [
        format!(
            "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME FROM information_schema.SCHEMATA \
             WHERE SCHEMA_NAME {users} SCHEMA_NAME {own} ORDER BY 1"
        ),
        format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, VIEW_DEFINITION, DEFINER FROM \
             information_schema.VIEWS WHERE TABLE_SCHEMA {users} TABLE_SCHEMA {own} ORDER BY 1, 2"
        ),
        format!(
            "SELECT ROUTINE_SCHEMA, ROUTINE_NAME, ROUTINE_DEFINITION, DEFINER, SQL_MODE FROM \
             information_schema.ROUTINES WHERE ROUTINE_SCHEMA {users} ROUTINE_SCHEMA {own} ORDER BY 1, 2"
        ),
        format!(
            "SELECT TRIGGER_SCHEMA, TRIGGER_NAME, ACTION_STATEMENT, DEFINER FROM \
             information_schema.TRIGGERS WHERE TRIGGER_SCHEMA {users} TRIGGER_SCHEMA {own} ORDER BY 1, 2"
        ),
        format!(
            "SELECT EVENT_SCHEMA, EVENT_NAME, EVENT_DEFINITION, DEFINER, SQL_MODE FROM \
             information_schema.EVENTS WHERE EVENT_SCHEMA {users} EVENT_SCHEMA {own} ORDER BY 1, 2"
        ),
    ] {
        lines.extend(server.rows(&statement).iter().map(|row| format!("{row:?}")));
    }
    lines
}
