//! The client's own programs: what dumps tables, and what loads SQL.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::flavour::{Family, Flavour};
use super::session::Target;
use crate::config::{Address, TlsMode};
use crate::sys::edit::Edit;
use crate::sys::exec::Program;

/// What becomes of tables that are there already where the SQL is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Loading fails.
    Fail,
    /// They are dropped first.
    Replace,
    /// They stay, and rows whose keys are missing are added.
    AddRows,
}

/// What the client's package has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    Dump,
    Client,
    LogReader,
}

const LOG_READER_OF_MARIADB: &str = "mariadb-binlog";

impl Tool {
    /// As each flavour names it, the best name first.
    fn names(self, family: Family) -> &'static [&'static str] {
        match (self, family) {
            (Self::Dump, Family::Mariadb) => &["mariadb-dump", "mysqldump"],
            (Self::Dump, Family::Mysql) => &["mysqldump"],
            (Self::Client, Family::Mariadb) => &["mariadb", "mysql"],
            (Self::Client, Family::Mysql) => &["mysql"],
            (Self::LogReader, Family::Mariadb) => &[LOG_READER_OF_MARIADB],
            (Self::LogReader, Family::Mysql) => &["mysqlbinlog"],
        }
    }

    /// Whether it runs, and is of that flavour: MariaDB installs its own under MySQL's names.
    fn fits(self, program: &Program, flavour: &Flavour) -> bool {
        let limit = std::time::Duration::from_secs(10);
        let Ok(version) = program.run(["--version"], limit) else {
            return false;
        };
        let is_of_mariadb = match self {
            Self::Dump | Self::Client => version.stdout.contains("MariaDB"),
            // It doesn't say whose it is.
            Self::LogReader => {
                let path = program.path().canonicalize().unwrap_or_default();
                path.ends_with(LOG_READER_OF_MARIADB)
            }
        };
        is_of_mariadb == flavour.is_mariadb()
    }

    /// One of that flavour and no other, at best as `beside` gives it by its name, else of the usual
    /// places. The error names what was looked for.
    pub fn find(
        self,
        flavour: &Flavour,
        beside: &dyn Fn(&str) -> Option<Program>,
    ) -> Result<Program, String> {
        let names = self.names(flavour.family);
        let near = names.iter().filter_map(|name| beside(name));
        let usual = names.iter().filter_map(|name| Program::find(name).ok());
        let found: Vec<Program> = near.chain(usual).collect();
        let good = found.iter().find(|program| self.fits(program, flavour));
        good.cloned().ok_or_else(|| match found.first() {
            Some(program) => format!(
                "{} is of the other flavour, or doesn't run",
                program.path().display()
            ),
            None => names.join(", "),
        })
    }
}

/// Programs of a directory.
pub fn in_directory(directory: Option<&Path>) -> impl Fn(&str) -> Option<Program> {
    move |name| {
        let path = directory?.join(name);
        path.is_file().then(|| Program::at(path))
    }
}

/// The dump program of that flavour, at best the one beside the server program. The error names
/// what was looked for.
pub fn find_dump(flavour: &Flavour, beside: Option<&Path>) -> Result<Program, String> {
    Tool::Dump.find(flavour, &in_directory(beside))
}

/// The client program: that flavour's, else the other one's, which loads SQL as well.
pub fn find_client(flavour: &Flavour) -> Result<Program, String> {
    let other = match flavour.family {
        Family::Mariadb => "mysql",
        Family::Mysql => "mariadb",
    };
    find_client_of(flavour, None).or_else(|names| Program::find(other).map_err(|_| names))
}

/// As `find_client`, and of that flavour only, at best the one beside the server program.
pub fn find_client_of(flavour: &Flavour, beside: Option<&Path>) -> Result<Program, String> {
    Tool::Client.find(flavour, &in_directory(beside))
}

/// What turns binary logs into SQL, of that flavour only, at best beside the server program.
pub fn find_log_reader(flavour: &Flavour, beside: Option<&Path>) -> Result<Program, String> {
    Tool::LogReader.find(flavour, &in_directory(beside))
}

/// Reads logs from an offset in the first to an offset in the last one.
pub fn read_logs_args(start: u64, stop: u64, logs: &[PathBuf]) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![
        "--no-defaults".into(),
        format!("--start-position={start}").into(),
        format!("--stop-position={stop}").into(),
        "--".into(),
    ];
    args.extend(logs.iter().map(|log| log.clone().into_os_string()));
    args
}

/// As `option_file`, for the reader of logs, which knows no character set.
pub fn log_reader_option_file(flavour: &Flavour, target: &Target) -> String {
    let text = option_file(flavour, target);
    text.replace("\ndefault-character-set=", "\nloose-default-character-set=")
}

/// Asks a server for its logs instead of reading files.
pub fn read_remote_logs_args(options: &Path) -> Vec<OsString> {
    vec![
        format!("--defaults-file={}", options.display()).into(),
        "--read-from-remote-server".into(),
        "--to-last-log".into(),
    ]
}

/// An option file with an account and nothing else.
pub fn account_file(target: &Target) -> String {
    let quoted = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{text}\"")
    };
    let (user, password) = (quoted(&target.user), quoted(target.password.reveal()));
    format!("[client]\nuser = {user}\npassword = {password}\n")
}

/// An option file for either program: whom to connect to, and as whom.
pub fn option_file(flavour: &Flavour, target: &Target) -> String {
    let quoted = |text: &str| {
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{text}\"")
    };
    let mut lines = vec![
        "[client]".to_owned(),
        format!("user={}", quoted(&target.user)),
        format!("password={}", quoted(target.password.reveal())),
        "default-character-set=utf8mb4".to_owned(),
    ];
    match &target.address {
        Address::Socket(path) => {
            lines.push(format!("socket={}", quoted(&path.display().to_string())))
        }
        Address::Tcp { host, port } => {
            lines.push(format!("host={}", quoted(host)));
            lines.push(format!("port={port}"));
            lines.push("protocol=tcp".to_owned());
        }
    }
    if let Some(ca) = &target.tls_ca {
        lines.push(format!("ssl-ca={}", quoted(&ca.display().to_string())));
    }
    let tls: &[&str] = match (flavour.family, target.tls) {
        (Family::Mysql, TlsMode::Disabled) => &["loose-ssl-mode=PREFERRED"],
        (Family::Mysql, TlsMode::Required) => &["ssl-mode=REQUIRED"],
        (Family::Mysql, TlsMode::VerifyCa) => &["ssl-mode=VERIFY_CA"],
        (Family::Mysql, TlsMode::VerifyFull) => &["ssl-mode=VERIFY_IDENTITY"],
        (Family::Mariadb, TlsMode::Disabled) => &[],
        // MariaDB's client knows no chain without host name; the host name is checked, too.
        (Family::Mariadb, TlsMode::Required) => &["ssl"],
        (Family::Mariadb, TlsMode::VerifyCa | TlsMode::VerifyFull) => {
            &["ssl", "ssl-verify-server-cert"]
        }
    };
    lines.extend(tls.iter().map(|line| (*line).to_owned()));
    lines.push(String::new());
    lines.join("\n")
}

/// Dumps tables of one schema, or all of it with routines and events; with a `condition`, the rows that
/// are so, as they are now, without what says when and how it was dumped.
pub fn dump_args(
    flavour: &Flavour,
    options: &Path,
    schema: &str,
    tables: Option<&[String]>,
    existing: Existing,
    condition: Option<&str>,
) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![format!("--defaults-file={}", options.display()).into()];
    let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    add(&[
        "--single-transaction",
        "--quick",
        "--hex-blob",
        "--max-allowed-packet=1G",
    ]);
    if flavour.family == Family::Mysql {
        add(&["--set-gtid-purged=OFF"]);
        if flavour.version >= (8, 0, 21) {
            add(&["--no-tablespaces"]);
        }
    }
    match existing {
        Existing::Fail => add(&["--skip-add-drop-table"]),
        Existing::Replace => add(&["--add-drop-table"]),
        Existing::AddRows => add(&["--no-create-info", "--insert-ignore", "--skip-triggers"]),
    }
    // Rows that are added to a table are new there: what they were before isn't its history.
    if flavour.dumps_history() && existing != Existing::AddRows && condition.is_none() {
        add(&["--dump-history"]);
    }
    if let Some(condition) = condition {
        add(&[&format!("--where={condition}"), "--skip-comments"]);
        if existing == Existing::AddRows {
            // These would end the transaction in which the rows are loaded. And no statement shall have
            // more rows than a server counts warnings (65535).
            add(&[
                "--skip-add-locks",
                "--skip-disable-keys",
                "--net-buffer-length=131072",
            ]);
        }
    }
    match tables {
        None if existing != Existing::AddRows => add(&["--routines", "--events"]),
        None | Some(_) => {}
    }
    add(&["--", schema]);
    for table in tables.unwrap_or_default() {
        add(&[table]);
    }
    args
}

/// Loads what comes on its standard input; ends at the first error.
pub fn client_args(options: &Path) -> Vec<OsString> {
    vec![
        format!("--defaults-file={}", options.display()).into(),
        "--max-allowed-packet=1G".into(),
        "--batch".into(),
        // Without it a client takes comments out of routines, triggers and events; MariaDB's then stops
        // at a trigger with one, since it ends the comment that the dump program wrote around it.
        "--comments".into(),
    ]
}

/// Dumps whole schemas with all that is in them, at one moment whose GTID position the dump says in
/// its beginning, but for the tables and views left out. `locked` holds up all writers for its whole
/// length.
pub fn pair_dump_args(
    flavour: &Flavour,
    options: &Path,
    schemas: &[String],
    left_out: &[(String, String)],
    locked: bool,
) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![format!("--defaults-file={}", options.display()).into()];
    let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    add(&[
        "--quick",
        "--hex-blob",
        "--max-allowed-packet=1G",
        "--routines",
        "--events",
        "--triggers",
    ]);
    add(match locked {
        true => &["--lock-all-tables"],
        false => &["--single-transaction"],
    });
    if flavour.dumps_history() {
        add(&["--dump-history"]);
    }
    match flavour.family {
        Family::Mariadb => add(&["--master-data=2"]),
        Family::Mysql if flavour.version >= (8, 0, 26) => add(&[
            "--source-data=2",
            "--set-gtid-purged=COMMENTED",
            "--no-tablespaces",
        ]),
        Family::Mysql if flavour.version >= (8, 0, 17) => {
            add(&["--master-data=2", "--set-gtid-purged=COMMENTED"])
        }
        Family::Mysql => add(&["--master-data=2", "--set-gtid-purged=ON"]),
    }
    for (schema, table) in left_out {
        add(&[&format!("--ignore-table={schema}.{table}")]);
    }
    add(&["--databases", "--"]);
    for schema in schemas {
        add(&[schema]);
    }
    args
}

/// A part of an archive, each written by a call of its own.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// The tables of these schemas but for those.
    AllTables {
        schemas: &'a [String],
        but: &'a [(String, String)],
    },
    /// These tables, and nothing but them.
    Tables {
        schema: &'a str,
        names: &'a [String],
    },
    Views {
        schema: &'a str,
        names: &'a [String],
    },
    RoutinesAndEvents {
        schema: &'a str,
    },
    Triggers {
        schema: &'a str,
        table: &'a str,
    },
}

/// Dumps a part of an archive. It touches no lock and no thread: whoever calls it has seen to the moment.
/// No comments, in which names could pass for statements.
pub fn archive_args(flavour: &Flavour, options: &Path, part: Part<'_>) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec![format!("--defaults-file={}", options.display()).into()];
    let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    add(&[
        "--single-transaction",
        "--quick",
        "--hex-blob",
        "--max-allowed-packet=1G",
        "--skip-comments",
    ]);
    if flavour.family == Family::Mysql {
        add(&["--set-gtid-purged=OFF"]);
        if flavour.version >= (8, 0, 21) {
            add(&["--no-tablespaces"]);
        }
    }
    let history = flavour.dumps_history();
    match part {
        Part::AllTables { schemas, but } => {
            add(&["--skip-triggers", "--no-create-db"]);
            if history {
                add(&["--dump-history"]);
            }
            for (schema, table) in but {
                add(&[&format!("--ignore-table={schema}.{table}")]);
            }
            add(&["--databases", "--"]);
            schemas.iter().for_each(|schema| add(&[schema]));
        }
        Part::Tables { schema, names } => {
            add(&["--skip-triggers"]);
            if history {
                add(&["--dump-history"]);
            }
            add(&["--", schema]);
            names.iter().for_each(|name| add(&[name]));
        }
        Part::Views { schema, names } => {
            add(&["--skip-triggers", "--no-data", "--", schema]);
            names.iter().for_each(|name| add(&[name]));
        }
        Part::RoutinesAndEvents { schema } => add(&[
            "--skip-triggers",
            "--no-data",
            "--no-create-info",
            "--routines",
            "--events",
            "--",
            schema,
        ]),
        Part::Triggers { schema, table } => add(&[
            "--triggers",
            "--no-data",
            "--no-create-info",
            "--",
            schema,
            table,
        ]),
    }
    args
}

/// Loads a whole dump, out of the binary log, and obeys no command of the client that stands in it.
pub fn pair_load_args(options: &Path) -> Vec<OsString> {
    let mut args = client_args(options);
    args.push("--binary-mode".into());
    args.push("--init-command=SET SESSION sql_log_bin = 0".into());
    args
}

/// In the beginning of a dump: what it lets the loading server do, and what it has to let it do. Else a
/// date like 2001-02-31, which ALLOW_INVALID_DATES lets in, becomes 0000-00-00 without a word.
pub const DUMP_MODE: Edit = Edit {
    find: "SQL_MODE='NO_AUTO_VALUE_ON_ZERO'",
    put: "SQL_MODE='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES'",
};

/// Rows are held to foreign keys while they are loaded, which a dump switches off.
pub const FOREIGN_KEYS_ON: Edit = Edit {
    find: "FOREIGN_KEY_CHECKS=0",
    put: "FOREIGN_KEY_CHECKS=1",
};

/// Rows are held to unique keys, which a dump lets InnoDB leave out where it is quicker: it thinks of tables
/// that were empty. MariaDB's doesn't where it makes no tables.
pub const UNIQUE_KEYS_ON: Edit = Edit {
    find: "UNIQUE_CHECKS=0",
    put: "UNIQUE_CHECKS=1",
};

/// Before rows are loaded whose warnings are counted (`heard_client_args`): all at once, or none.
pub const BEGIN_ROWS: &str = "SET max_error_count = 65535;\nSTART TRANSACTION;\n";

/// As `client_args`; and it tells each warning, and what it is asked, at once.
pub fn heard_client_args(options: &Path) -> Vec<OsString> {
    let mut args = client_args(options);
    args.extend(["--show-warnings", "--unbuffered", "--skip-column-names"].map(OsString::from));
    args
}

/// What the server must take in one statement while a dump is loaded: binary values are twice as long in
/// it as they are.
pub const LOAD_PACKET_BYTES: u64 = 1 << 30;

/// Where in its source's history a dump was taken, as its beginning says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DumpPosition {
    /// Without white space; empty before the first transaction.
    Gtid(String),
    /// A place in the binary log, which the source turns into GTIDs. MariaDB's dump says the GTIDs
    /// at its very end only.
    Log { file: String, offset: u64 },
}

pub fn dump_position(flavour: &Flavour, head: &[u8]) -> Option<DumpPosition> {
    let text = String::from_utf8_lossy(head);
    let quoted = |rest: &str| -> Option<String> {
        let (value, _) = rest.trim_start().strip_prefix('\'')?.split_once('\'')?;
        Some(value.replace(char::is_whitespace, ""))
    };
    match flavour.family {
        Family::Mariadb => {
            let rest = text.split_once("MASTER_LOG_FILE=")?.1;
            let digits = rest.split_once("MASTER_LOG_POS=")?.1;
            let end = digits.find(|c: char| !c.is_ascii_digit())?;
            Some(DumpPosition::Log {
                file: quoted(rest)?,
                offset: digits[..end].parse().ok()?,
            })
        }
        Family::Mysql => {
            let rest = text.split_once("SET @@GLOBAL.GTID_PURGED=")?.1.trim_start();
            // MySQL 8: /*!80000 '+'*/ 'uuid:1-5'
            let rest = match rest.strip_prefix("/*") {
                Some(comment) => comment.split_once("*/")?.1,
                None => rest,
            };
            Some(DumpPosition::Gtid(quoted(rest)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    #[test]
    fn the_position_is_read_from_the_beginning() {
        let gtid = |text: &str| Some(DumpPosition::Gtid(text.to_owned()));
        let mariadb = Flavour::of_version("10.11.19-MariaDB x");
        let head = b"-- CHANGE MASTER TO MASTER_LOG_FILE='b.000001', MASTER_LOG_POS=741;\nCREATE";
        assert_eq!(
            dump_position(&mariadb, head),
            Some(DumpPosition::Log {
                file: "b.000001".to_owned(),
                offset: 741
            })
        );
        assert_eq!(dump_position(&mariadb, b"-- nothing"), None);
        let mysql = Flavour::of_version("9.7.1 x");
        let head = b"/* SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ 'a:1-5,\nb:1-2';*/\n";
        assert_eq!(dump_position(&mysql, head), gtid("a:1-5,b:1-2"));
        let head = b"SET @@GLOBAL.GTID_PURGED='a:1-5';\n";
        assert_eq!(dump_position(&mysql, head), gtid("a:1-5"));
        let empty = b"SET @@GLOBAL.GTID_PURGED=/*!80000 '+'*/ '';\n";
        assert_eq!(dump_position(&mysql, empty), gtid(""));
    }

    #[test]
    fn secrets_stand_in_the_file_and_not_in_the_arguments() {
        let flavour = Flavour::of_version("10.11.19-MariaDB x");
        let target = Target {
            server: "db1".to_owned(),
            address: Address::Tcp {
                host: "db1.lab".to_owned(),
                port: 3307,
            },
            user: "u".to_owned(),
            password: Secret::new("p\"#1"),
            tls: TlsMode::VerifyFull,
            tls_ca: Some("/etc/ca.pem".into()),
        };
        let text = option_file(&flavour, &target);
        for line in [
            "password=\"p\\\"#1\"",
            "host=\"db1.lab\"",
            "port=3307",
            "ssl-verify-server-cert",
            "ssl-ca=\"/etc/ca.pem\"",
        ] {
            assert!(text.lines().any(|own| own == line), "{line} in {text}");
        }
        let text = log_reader_option_file(&flavour, &target);
        let lines = || text.lines();
        assert!(lines().any(|own| own == "loose-default-character-set=utf8mb4"));
        assert!(lines().any(|own| own == "password=\"p\\\"#1\""));
        let args = dump_args(&flavour, Path::new("/x"), "lab", None, Existing::Fail, None);
        assert!(
            args.iter()
                .all(|arg| !arg.to_string_lossy().contains("p\"#1"))
        );
    }

    #[test]
    fn what_is_there_is_only_dropped_when_told() {
        let flavour = Flavour::of_version("9.7.1 x");
        let args = |existing| {
            let tables = ["t".to_owned()];
            dump_args(
                &flavour,
                Path::new("/x"),
                "lab",
                Some(&tables),
                existing,
                None,
            )
            .into_iter()
            .map(|arg| arg.into_string().unwrap())
            .collect::<Vec<_>>()
        };
        assert!(args(Existing::Fail).contains(&"--skip-add-drop-table".to_owned()));
        assert!(args(Existing::Replace).contains(&"--add-drop-table".to_owned()));
        assert!(args(Existing::AddRows).contains(&"--insert-ignore".to_owned()));
        assert_eq!(
            args(Existing::Fail)[args(Existing::Fail).len() - 3..],
            ["--", "lab", "t"]
        );
    }
}
