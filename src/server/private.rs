//! A private server on somebody else's files: what it must be told to read them, and what keeps it
//! to itself.
//!
//! [`BootFacts`] are observed on the live server when a snapshot is taken, and travel in its
//! manifest; [`option_file`] turns them into the option file of the private one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::flavour::{Family, Flavour};
use super::session::{READ_LIMIT, Session, SessionError};

/// What a server must be started with to come up on these files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BootFacts {
    /// `@@version` and its comment.
    pub version: String,
    /// As this host sees it.
    pub data_dir: PathBuf,
    /// The program that ran the server, when this host could tell.
    pub binary: Option<PathBuf>,
    /// The server ran in a container: its program may not be on this host, and not be found once
    /// the container is gone.
    #[serde(default)]
    pub in_container: bool,
    /// Variables by name: those of [`SETTINGS`] that this server has.
    pub settings: BTreeMap<String, String>,
    /// Libraries of encryption plugins and storage engines that its configuration loads.
    #[serde(default)]
    pub plugins: Vec<String>,
    /// Files of tables that aren't in the data directory.
    #[serde(default)]
    pub outside_files: Vec<PathBuf>,
    /// Base name of its relay logs, when they are in the data directory.
    #[serde(default)]
    pub relay_log: Option<PathBuf>,
    /// The binary log that it writes, which is a part of its recovery: the last transaction may be
    /// only prepared in InnoDB and committed in the log (seen on MariaDB 10.11, which refuses to
    /// start without it), and MySQL's executed set has what changed MyISAM tables only there until
    /// the log is rotated (seen on 9.7).
    #[serde(default)]
    pub binary_log: Option<BinaryLog>,
    /// It writes one on a volume that isn't in the snapshot; nothing of it is needed to recover.
    #[serde(default)]
    pub log_apart: bool,
    /// Links among the files that aren't followed: they lead nowhere, or to what isn't the server's.
    #[serde(default)]
    pub links_apart: Vec<PathBuf>,
}

/// Absolute paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BinaryLog {
    /// Directory and beginning of the files' names.
    pub base: PathBuf,
    pub index: PathBuf,
}

impl BinaryLog {
    /// The two options that make a server go on with it.
    pub fn options(&self) -> [(&'static str, String); 2] {
        [
            ("log_bin", self.base.display().to_string()),
            ("log_bin_index", self.index.display().to_string()),
        ]
    }
}

/// What decides whether a server can read the files, and where they are.
const SETTINGS: [&str; 37] = [
    "aria_block_size",
    "aria_log_dir_path",
    "aria_log_file_size",
    "basedir",
    "character_set_server",
    "character_sets_dir",
    "collation_server",
    "enforce_gtid_consistency",
    "file_key_management_encryption_algorithm",
    "file_key_management_filekey",
    "file_key_management_filename",
    "gtid_mode",
    "innodb_buffer_pool_size",
    "innodb_checksum_algorithm",
    "innodb_compression_algorithm",
    "innodb_data_file_path",
    "innodb_data_home_dir",
    "innodb_directories",
    "innodb_doublewrite",
    "innodb_doublewrite_dir",
    "innodb_file_format",
    "innodb_large_prefix",
    "innodb_log_file_size",
    "innodb_log_files_in_group",
    "innodb_log_group_home_dir",
    "innodb_log_write_ahead_size",
    "innodb_page_size",
    "innodb_redo_log_capacity",
    "innodb_temp_data_file_path",
    "innodb_undo_directory",
    "innodb_undo_tablespaces",
    "innodb_use_native_aio",
    "keyring_file_data",
    "lc_messages_dir",
    "log_slave_updates",
    "lower_case_table_names",
    "plugin_dir",
];

/// The private server's own place and ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Private {
    /// Socket, pid file, log and temporary files; nobody else may look into it.
    pub place: PathBuf,
    /// Where the data is now.
    pub data_dir: PathBuf,
    pub server_id: u32,
    pub buffer_pool_bytes: u64,
    /// Statements run before anyone may connect.
    pub init_file: PathBuf,
    /// The files will be thrown away: a quick end is good enough.
    pub is_throwaway: bool,
    /// The files belong to root, as whom a server only runs when it is told so.
    pub as_root: bool,
}

impl Private {
    pub fn socket(&self) -> PathBuf {
        self.place.join("socket")
    }

    pub fn log(&self) -> PathBuf {
        self.place.join("log")
    }

    pub fn tmp(&self) -> PathBuf {
        self.place.join("tmp")
    }
}

/// Asks the live server. `data_dir` and `binary` are what this host sees.
pub fn observe_boot_facts(
    session: Session,
    data_dir: &Path,
    binary: Option<PathBuf>,
) -> Result<(Session, BootFacts), SessionError> {
    let names: Vec<String> = SETTINGS.iter().map(|name| format!("'{name}'")).collect();
    let statement = format!(
        "SHOW GLOBAL VARIABLES WHERE Variable_name IN \
         ({}, 'log_bin', 'log_bin_basename', 'log_bin_index')",
        names.join(", ")
    );
    let (session, rows) = session.query(&statement, READ_LIMIT)?;
    let mut settings: BTreeMap<String, String> = rows
        .iter()
        .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())))
        .filter(|(_, value)| !value.is_empty())
        .filter(|(name, value)| !is_secret(name, value))
        .collect();
    let log_bin = settings
        .remove("log_bin")
        .is_some_and(|value| value == "ON");
    let index = settings.remove("log_bin_index").map(PathBuf::from);
    let basename = settings.remove("log_bin_basename").map(PathBuf::from);
    let (session, plugins) = session.attempt(session_plugins(), READ_LIMIT)?;
    let plugins = plugins
        .unwrap_or_default()
        .iter()
        .filter_map(|row| row.at(0).map(str::to_owned))
        .collect();
    let facts = BootFacts {
        version: session.flavour().text.clone(),
        data_dir: data_dir.to_owned(),
        binary,
        in_container: false,
        settings,
        plugins,
        outside_files: Vec::new(),
        relay_log: None,
        log_apart: false,
        links_apart: Vec::new(),
        binary_log: basename.filter(|_| log_bin).map(|base| BinaryLog {
            index: index.unwrap_or_else(|| base.with_extension("index")),
            base,
        }),
    };
    Ok((session, facts))
}

/// A key file's password may stand in the variable itself; a manifest is no place for it.
fn is_secret(name: &str, value: &str) -> bool {
    name == "file_key_management_filekey" && !value.starts_with("FILE:")
}

/// Those loaded by configuration, since a private server reads mysql.plugin by itself.
fn session_plugins() -> &'static str {
    "SELECT DISTINCT PLUGIN_LIBRARY FROM information_schema.PLUGINS \
     WHERE PLUGIN_LIBRARY IS NOT NULL AND PLUGIN_STATUS = 'ACTIVE' \
     AND PLUGIN_TYPE IN ('ENCRYPTION', 'KEYRING', 'STORAGE ENGINE') \
     AND PLUGIN_NAME NOT IN (SELECT name FROM mysql.plugin)"
}

/// The private server's option file. Options that some versions lack are marked `loose`, which makes
/// an unknown one a warning.
pub fn option_file(flavour: &Flavour, facts: &BootFacts, private: &Private) -> String {
    let mut lines = vec!["[mysqld]".to_owned()];
    let mut set = |name: &str, value: &str| {
        lines.push(format!("{}={}", name.replace('_', "-"), quoted(value)));
    };
    for (name, value) in &facts.settings {
        // Its own are set below; the rest must be exactly what the files were made with.
        match name.as_str() {
            "innodb_buffer_pool_size" | "log_slave_updates" => {}
            _ => set(&format!("loose_{name}"), value),
        }
    }
    for library in &facts.plugins {
        match flavour.family {
            Family::Mariadb => set("plugin_load_add", library),
            Family::Mysql => set("early_plugin_load", library),
        }
    }
    let path = |path: PathBuf| path.display().to_string();
    set("datadir", &path(private.data_dir.clone()));
    set("socket", &path(private.socket()));
    set("pid_file", &path(private.place.join("pid")));
    set("tmpdir", &path(private.tmp()));
    set("init_file", &path(private.init_file.clone()));
    set("server_id", &private.server_id.to_string());
    set(
        "innodb_buffer_pool_size",
        &private.buffer_pool_bytes.to_string(),
    );
    if private.as_root {
        set("user", "root");
    }
    if private.is_throwaway {
        // Nothing of it has to outlive a crash, and each sync would hold up the live server on the
        // same disk.
        set("innodb_flush_method", "nosync");
        set("sync_binlog", "0");
    }
    match &facts.binary_log {
        Some(log) => {
            for (name, value) in log.options() {
                set(name, &value);
            }
            if let Some(updates) = facts.settings.get("log_slave_updates") {
                set("log_slave_updates", updates);
            }
        }
        None => lines.push("skip-log-bin".to_owned()),
    }
    lines.extend(
        flavour
            .private_options()
            .iter()
            .map(|line| (*line).to_owned()),
    );
    lines.push(String::new());
    lines.join("\n")
}

/// A value as an option file takes it: in quotes, or `#` would begin a comment in it.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What makes a new, empty data directory: a program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installer {
    /// Names to look for beside the server program, the best first; none where the server program
    /// itself does it.
    pub names: &'static [&'static str],
    pub args: Vec<String>,
}

/// How a server of that flavour gets an empty data directory: with the settings that can't be changed
/// later, and `root` without a password. `None` where that takes more than a program (MySQL before 5.7.6).
pub fn installer(flavour: &Flavour, facts: &BootFacts, private: &Private) -> Option<Installer> {
    let mut args = vec![
        "--no-defaults".to_owned(),
        format!("--datadir={}", private.data_dir.display()),
        format!("--tmpdir={}", private.tmp().display()),
    ];
    if private.as_root {
        args.push("--user=root".to_owned());
    }
    for name in [
        "basedir",
        "character_sets_dir",
        "innodb_page_size",
        "lc_messages_dir",
        "lower_case_table_names",
        "plugin_dir",
    ] {
        if let Some(value) = facts.settings.get(name) {
            args.push(format!("--{}={value}", name.replace('_', "-")));
        }
    }
    match flavour.family {
        Family::Mariadb => {
            args.extend(
                [
                    "--auth-root-authentication-method=normal",
                    "--skip-test-db",
                    "--skip-name-resolve",
                    "--innodb-flush-method=nosync",
                ]
                .map(str::to_owned),
            );
            Some(Installer {
                names: &["mariadb-install-db", "mysql_install_db"],
                args,
            })
        }
        Family::Mysql if flavour.version >= (5, 7, 6) => {
            args.extend(
                [
                    "--initialize-insecure",
                    "--innodb-flush-method=nosync",
                    "--loose-secure-file-priv=NULL",
                    "--loose-mysqlx=OFF",
                ]
                .map(str::to_owned),
            );
            Some(Installer { names: &[], args })
        }
        Family::Mysql => None,
    }
}

/// The statements that let `user` in with `password`, one a line, as an init file needs them.
pub fn account_statements(flavour: &Flavour, user: &str, password: &str) -> String {
    let account = format!("'{user}'@'localhost'");
    let lines = match flavour.family {
        // Before 5.7.6 there is no IF EXISTS; the name is new anyway.
        Family::Mysql | Family::Mariadb => [
            "SET SESSION sql_log_bin = 0;".to_owned(),
            format!("CREATE USER {account} IDENTIFIED BY '{password}';"),
            format!("GRANT ALL ON *.* TO {account} WITH GRANT OPTION;"),
        ],
    };
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> BootFacts {
        BootFacts {
            version: "10.11.19-MariaDB".to_owned(),
            data_dir: "/srv/my data".into(),
            settings: BTreeMap::from([
                ("innodb_page_size".to_owned(), "16384".to_owned()),
                (
                    "innodb_buffer_pool_size".to_owned(),
                    "99999999999".to_owned(),
                ),
                (
                    "innodb_data_file_path".to_owned(),
                    "ibdata1:12M:autoextend".to_owned(),
                ),
            ]),
            ..BootFacts::default()
        }
    }

    fn private() -> Private {
        Private {
            place: "/run/understudy/x".into(),
            data_dir: "/srv/my data#1".into(),
            server_id: 7,
            buffer_pool_bytes: 1 << 27,
            init_file: "/run/understudy/x/init".into(),
            is_throwaway: true,
            as_root: false,
        }
    }

    #[test]
    fn private_server_keeps_to_itself() {
        for version in ["10.11.19-MariaDB x", "9.7.1 x", "5.6.24 x", "8.0.20 x"] {
            let flavour = Flavour::of_version(version);
            let text = option_file(&flavour, &facts(), &private());
            let lines: Vec<&str> = text.lines().collect();
            for wanted in [
                "skip-networking",
                "skip-log-bin",
                "datadir=\"/srv/my data#1\"",
                "loose-innodb-page-size=\"16384\"",
                "innodb-buffer-pool-size=\"134217728\"",
            ] {
                assert!(lines.contains(&wanted), "{version}: {wanted} in {text}");
            }
            assert!(text.contains("event-scheduler=OFF"), "{version}");
            let starts = text.contains("skip-slave-start") || text.contains("skip-replica-start");
            assert!(starts, "{version}");
            assert!(!text.contains("99999999999"), "{version}");
        }
    }

    #[test]
    fn recovery_goes_on_with_the_binary_log() {
        let mut facts = facts();
        facts.binary_log = Some(BinaryLog {
            base: "/var/log/my/bin".into(),
            index: "/var/log/my/b.index".into(),
        });
        for version in ["10.11.19-MariaDB x", "9.7.1 x", "5.6.24 x"] {
            let text = option_file(&Flavour::of_version(version), &facts, &private());
            assert!(text.contains("\nlog-bin=\"/var/log/my/bin\"\n"), "{text}");
            let index = "\nlog-bin-index=\"/var/log/my/b.index\"\n";
            assert!(text.contains(index), "{text}");
            assert!(!text.contains("skip-log-bin"), "{text}");
        }
    }

    #[test]
    fn only_what_is_thrown_away_is_not_synced() {
        let flavour = Flavour::of_version("9.7.1 x");
        let mut private = private();
        for is_throwaway in [true, false] {
            private.is_throwaway = is_throwaway;
            let text = option_file(&flavour, &facts(), &private);
            for line in ["innodb-flush-method=\"nosync\"", "sync-binlog=\"0\""] {
                assert_eq!(text.contains(line), is_throwaway, "{line}");
            }
        }
    }

    #[test]
    fn secrets_stay_out() {
        assert!(is_secret("file_key_management_filekey", "hunter2"));
        assert!(!is_secret("file_key_management_filekey", "FILE:/etc/key"));
    }
}
