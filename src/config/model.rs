//! The validated configuration: what the rest of the program may rely on.
//!
//! Values here have been checked; names are safe as file and volume names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failover::FailoverConfig;
use super::notify::NotifyConfig;
use super::reroute::RerouteConfig;

pub use super::address::Address;

/// A whole configuration file, validated.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// Where leases, journals and manifests live; mode 0700.
    pub state_dir: PathBuf,
    pub servers: BTreeMap<String, ServerConfig>,
    pub pairs: BTreeMap<String, PairConfig>,
    /// Who is told what came of a `run`.
    pub notify: NotifyConfig,
    /// Where `run` writes its metrics, for node_exporter.
    pub metrics_file: Option<PathBuf>,
}

impl Config {
    /// The first pair (by name) that names this server as source or replica.
    pub fn pair_of(&self, server: &str) -> Option<&PairConfig> {
        self.pairs
            .values()
            .find(|pair| pair.source == server || pair.replicas.iter().any(|r| r == server))
    }
}

/// One `[server.NAME]` table.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// `[A-Za-z0-9][A-Za-z0-9_.-]*`, at most 40 characters.
    pub name: String,
    pub address: Address,
    /// A MySQL option file that only its owner may read.
    pub credentials: Option<PathBuf>,
    pub tls: TlsMode,
    pub tls_ca: Option<PathBuf>,
    pub snapshot: SnapshotConfig,
    /// The table stands in the file, so that somebody counts on snapshots of this server.
    pub wants_snapshots: bool,
    pub service: Option<ServiceConfig>,
}

/// How the connection is protected; TLS asked for and not offered is always an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    #[default]
    Disabled,
    /// Encrypted, nobody verified.
    Required,
    /// The certificate chain is verified, the host name isn't.
    VerifyCa,
    /// Chain and host name are verified.
    VerifyFull,
}

/// `[server.NAME.snapshot]`; the default is what a server without that table gets.
#[derive(Debug, Clone)]
pub struct SnapshotConfig {
    pub backend: BackendChoice,
    pub consistency: Consistency,
    /// Past it the operation aborts and resumes replication. Default 30 s.
    pub max_pause: Duration,
    /// More than this behind: refuse. Default 1 h.
    pub max_lag: Duration,
    /// How long one lock statement may wait. Default 5 s, at most `max_pause`.
    pub lock_wait: Duration,
    /// How long to wait, before any pause, for replicated temporary tables to close. Default 60 s.
    pub temp_table_wait: Duration,
    /// Thick LVM only.
    pub cow_size: CowSize,
    /// Where reflink, copy and btrfs snapshots go.
    pub directory: Option<PathBuf>,
    /// The server's paths as seen from this host, longest prefix wins (containers).
    pub path_map: BTreeMap<PathBuf, PathBuf>,
    pub keep: KeepRules,
    /// How far `run` proves each night's snapshot.
    pub verify: VerifyChoice,
    /// And how often it looks at all tables, or compares all rows, besides.
    pub verify_tables_every: Option<Duration>,
    pub verify_rows_every: Option<Duration>,
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self {
            backend: BackendChoice::Auto,
            consistency: Consistency::Pause,
            max_pause: Duration::from_secs(30),
            max_lag: Duration::from_secs(3600),
            lock_wait: Duration::from_secs(5),
            temp_table_wait: Duration::from_secs(60),
            cow_size: CowSize::Percent(20),
            directory: None,
            path_map: BTreeMap::new(),
            keep: KeepRules::default(),
            verify: VerifyChoice::default(),
            verify_tables_every: None,
            verify_rows_every: None,
        }
    }
}

/// How far `run` proves what it has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VerifyChoice {
    Nothing,
    #[default]
    Boot,
    Tables,
    Rows,
}

/// What takes a server's snapshots; `Auto` looks at what the data directory lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BackendChoice {
    #[default]
    Auto,
    Zfs,
    Lvm,
    Btrfs,
    Reflink,
    Copy,
    Dump,
}

/// What keeps the data still while a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// SQL threads paused; for replicas.
    #[default]
    Pause,
    /// Writes locked; for a server that is no replica.
    Lock,
    /// The server stopped through its service.
    Stop,
}

/// Size of a thick LVM snapshot's copy-on-write area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CowSize {
    /// Of the origin's size, 1 to 100.
    Percent(u8),
    Bytes(u64),
}

/// Retention rules; all zero and `within` absent keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeepRules {
    pub last: u32,
    pub hourly: u32,
    pub daily: u32,
    pub weekly: u32,
    pub monthly: u32,
    pub yearly: u32,
    /// The newest ones that a server has come up on.
    pub verified: u32,
    /// Everything younger than this, in ms when serialised.
    pub within_ms: Option<u64>,
}

/// `[server.NAME.service]`: how to stop, start and boot this server.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    pub control: Option<ServiceControl>,
    pub server_binary: Option<ServerBinary>,
}

/// The program that a private server is booted with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerBinary {
    Path(PathBuf),
    /// That of the container in which the live server runs.
    Container,
}

impl ServerBinary {
    /// Where this host has it.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Container => None,
        }
    }
}

/// What stops and starts a server; argv without a shell, the program by absolute path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServiceControl {
    Unit(String),
    Commands {
        start: Vec<String>,
        stop: Vec<String>,
    },
    Container {
        runtime: Runtime,
        /// As the runtime knows it.
        name: String,
    },
}

/// What runs containers; both take the same commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    Docker,
    Podman,
}

impl Runtime {
    /// Its client's fixed path.
    pub fn program(self) -> &'static str {
        match self {
            Self::Docker => "/usr/bin/docker",
            Self::Podman => "/usr/bin/podman",
        }
    }

    /// Answers `true` or `false`, whether a container runs; fails where there is none of that name.
    pub fn is_up_argv(self, name: &str) -> Vec<String> {
        let format = "--format={{.State.Running}}";
        [self.program(), "container", "inspect", format, "--", name]
            .map(str::to_owned)
            .to_vec()
    }
}

/// A server that is still writing its buffers after ten seconds, which is how long the runtimes wait by
/// themselves, mustn't be killed. Less than a stop is waited for.
const CONTAINER_STOP_S: &str = "--time=840";

impl ServiceControl {
    /// The program and arguments that start the server.
    pub fn start_argv(&self) -> Vec<String> {
        match self {
            Self::Unit(unit) => systemctl("start", unit),
            Self::Commands { start, .. } => start.clone(),
            Self::Container { runtime, name } => {
                [runtime.program(), "container", "start", "--", name]
                    .map(str::to_owned)
                    .to_vec()
            }
        }
    }

    /// The program and arguments that stop the server.
    pub fn stop_argv(&self) -> Vec<String> {
        match self {
            Self::Unit(unit) => systemctl("stop", unit),
            Self::Commands { stop, .. } => stop.clone(),
            Self::Container { runtime, name } => {
                let words = [
                    runtime.program(),
                    "container",
                    "stop",
                    CONTAINER_STOP_S,
                    "--",
                    name,
                ];
                words.map(str::to_owned).to_vec()
            }
        }
    }
}

fn systemctl(verb: &str, unit: &str) -> Vec<String> {
    ["/usr/bin/systemctl", verb, unit]
        .map(str::to_owned)
        .to_vec()
}

/// One `[pair.NAME]` table.
#[derive(Debug, Clone)]
pub struct PairConfig {
    pub name: String,
    pub source: String,
    pub replicas: Vec<String>,
    /// How clients are led to the new source, in the order of the file.
    pub reroutes: Vec<RerouteConfig>,
    pub failover: FailoverConfig,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_started_and_stopped_by_its_runtime() {
        for (runtime, program) in [
            (Runtime::Docker, "/usr/bin/docker"),
            (Runtime::Podman, "/usr/bin/podman"),
        ] {
            let control = ServiceControl::Container {
                runtime,
                name: "db2".to_owned(),
            };
            let start = [program, "container", "start", "--", "db2"];
            assert_eq!(control.start_argv(), start);
            let stop = [program, "container", "stop", "--time=840", "--", "db2"];
            assert_eq!(control.stop_argv(), stop);
            let format = "--format={{.State.Running}}";
            let is_up = [program, "container", "inspect", format, "--", "db2"];
            assert_eq!(runtime.is_up_argv("db2"), is_up);
        }
    }
}
