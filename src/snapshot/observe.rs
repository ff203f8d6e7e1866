//! From what a server says of its files to what this host sees of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::server::Session;
use crate::server::facts::ServerFacts;
use crate::server::private::{self, BootFacts};
use crate::server::session::READ_LIMIT;
use crate::snapshot::error::SnapshotError;
use crate::sys::{files, process};
use crate::volume::layout::{self, Layout, ServerPaths};

/// Where this host sees the server's paths. As configured; else, of a server in a container on this
/// host, as the container's own mount table tells: only a map that leads to this very server's data
/// directory counts.
pub fn path_map(
    session: Session,
    facts: &ServerFacts,
    configured: &BTreeMap<PathBuf, PathBuf>,
) -> Result<(Session, BTreeMap<PathBuf, PathBuf>), SnapshotError> {
    if !configured.is_empty() {
        return Ok((session, configured.clone()));
    }
    let none = BTreeMap::new();
    let own = host_data_dir(facts, &none);
    let (mut session, is_its) = is_its_data_dir(session, facts, &own)?;
    if is_its {
        return Ok((session, none));
    }
    let ours = layout::observe_mounts()?;
    for theirs in process::mounts_of_other_namespaces(&["mariadbd", "mysqld"]) {
        let map = layout::map_between(&layout::parse_mountinfo(&theirs), &ours);
        let data_dir = host_data_dir(facts, &map);
        let (back, is_its) = is_its_data_dir(session, facts, &data_dir)?;
        session = back;
        if is_its {
            return Ok((session, map));
        }
    }
    Ok((session, none))
}

/// Every place that must be in the snapshot, after making sure that the data directory on this
/// host really is this server's: a snapshot of somebody else's files would look good and be wrong.
pub fn layout(
    session: Session,
    facts: &ServerFacts,
    map: &BTreeMap<PathBuf, PathBuf>,
) -> Result<(Session, Layout), SnapshotError> {
    let layout = layout::observe_layout(&server_paths(facts), map)?;
    let name = session.target().server.clone();
    let (session, is_its) = is_its_data_dir(session, facts, &layout.data_dir)?;
    if is_its {
        return Ok((session, layout));
    }
    Err(SnapshotError::refused(
        format!(
            "{} on this host isn't the data directory of {name}",
            layout.data_dir.display()
        ),
        format!(
            "Run understudy on the host of {name}; for a server in a container, map its paths in \
             [server.{name}.snapshot] path_map."
        ),
    ))
}

fn server_paths(facts: &ServerFacts) -> ServerPaths {
    ServerPaths {
        data_dir: facts.path("datadir").unwrap_or_default(),
        innodb_data_home_dir: facts.path("innodb_data_home_dir"),
        innodb_data_files: facts
            .variable("innodb_data_file_path")
            .map(layout::parse_data_file_path)
            .unwrap_or_default(),
        innodb_log_group_home_dir: facts.path("innodb_log_group_home_dir"),
        innodb_undo_directory: facts.path("innodb_undo_directory"),
        innodb_doublewrite_dir: facts.path("innodb_doublewrite_dir"),
        aria_log_dir_path: facts.path("aria_log_dir_path"),
        binary_log_basename: facts.path("log_bin_basename"),
        relay_log_basenames: facts.path("relay_log_basename").into_iter().collect(),
        table_files: facts.outside_files.clone(),
        key_ring_files: ["keyring_file_data", "file_key_management_filename"]
            .into_iter()
            .filter_map(|name| facts.path(name))
            .collect(),
    }
}

/// How far a server's own idea of its start may be from its process's.
const START_TOLERANCE: Duration = Duration::from_secs(30);

/// MySQL's auto.cnf holds the server's uuid. MariaDB has nothing of the kind: there a process must
/// work in the directory, and the server must be of this host by name, or of that process's age (a
/// tunnel leads to another server with the same path; a container has another name).
fn is_its_data_dir(
    session: Session,
    facts: &ServerFacts,
    data_dir: &Path,
) -> Result<(Session, bool), SnapshotError> {
    if let Some(uuid) = &session.identity().server_uuid {
        let text = files::read_text(&data_dir.join("auto.cnf"))?.unwrap_or_default();
        let is_its = text.to_ascii_lowercase().contains(uuid.as_str());
        return Ok((session, is_its));
    }
    let processes = process::in_directory(data_dir);
    if !processes.is_empty() && facts.variable("hostname") == Some(process::host_name().as_str()) {
        return Ok((session, true));
    }
    let (session, rows) = session.query("SHOW GLOBAL STATUS LIKE 'Uptime'", READ_LIMIT)?;
    let up_s = rows.first().and_then(|row| row.at(1)?.parse().ok());
    let up = up_s.map(Duration::from_secs);
    let is_its = processes
        .into_iter()
        .filter_map(process::age)
        .any(|age| up.is_some_and(|up| age.abs_diff(up) <= START_TOLERANCE));
    Ok((session, is_its))
}

/// Where this host sees the data directory, without looking.
pub fn host_data_dir(facts: &ServerFacts, map: &BTreeMap<PathBuf, PathBuf>) -> PathBuf {
    layout::wanted(&server_paths(facts), map)
        .into_iter()
        .next()
        .map(|wanted| wanted.path)
        .unwrap_or_default()
}

/// A private server runs on this host, and finds the files where the host has them. The paths of
/// programs and their own files stay: it is the host's program that is run.
fn as_seen_here(mut boot: BootFacts, map: &BTreeMap<PathBuf, PathBuf>) -> BootFacts {
    const OF_PROGRAMS: [&str; 4] = [
        "basedir",
        "character_sets_dir",
        "lc_messages_dir",
        "plugin_dir",
    ];
    let here = |path: &PathBuf| layout::host_path(path, map);
    let data = boot.settings.iter_mut();
    for (_, value) in data.filter(|(name, _)| !OF_PROGRAMS.contains(&name.as_str())) {
        if value.starts_with('/') && !value.contains([':', ';']) {
            *value = here(&PathBuf::from(&*value)).display().to_string();
        }
    }
    boot.outside_files = boot.outside_files.iter().map(here).collect();
    boot.relay_log = boot.relay_log.as_ref().map(here);
    if let Some(log) = &mut boot.binary_log {
        (log.base, log.index) = (here(&log.base), here(&log.index));
    }
    boot
}

/// How a server is started on these files, with the program that runs on them now.
pub fn boot_facts(
    session: Session,
    facts: &ServerFacts,
    data_dir: &Path,
    map: &BTreeMap<PathBuf, PathBuf>,
) -> Result<(Session, BootFacts), SnapshotError> {
    let pids = process::in_directory(data_dir);
    let binary = pids.iter().copied().find_map(process::program_of);
    let (session, mut boot) = private::observe_boot_facts(session, data_dir, binary)?;
    boot.in_container = pids.into_iter().any(process::runs_apart);
    boot.outside_files.clone_from(&facts.outside_files);
    boot.relay_log = facts
        .path("relay_log_basename")
        .map(|path| data_dir.join(path));
    Ok((session, as_seen_here(boot, map)))
}
