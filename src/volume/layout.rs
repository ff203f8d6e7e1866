//! Where the data is: which paths of the server must be inside one snapshot, and which volumes
//! hold them.
//!
//! [`observe_layout`] asks the disk; [`plan_layout`] decides from what was seen, and is pure. The
//! running server's own values are what counts, never a configuration file of it.

mod mounts;
mod observe;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use mounts::{Mount, map_between, mount_of, parse_mountinfo, path_within};
pub use observe::{observe_layout, observe_mounts};

use super::VolumeError;

/// What a path holds, as the server names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Data,
    InnodbData,
    Redo,
    Undo,
    /// MySQL's `innodb_doublewrite_dir`: without it a torn page can't be mended.
    Doublewrite,
    AriaLog,
    Tables,
    /// The path is a directory and the base name of the log's files, not a file.
    BinaryLog,
    /// As `BinaryLog`.
    RelayLog,
    KeyRing,
}

impl Role {
    /// As people call it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::InnodbData => "system tablespace",
            Self::Redo => "redo log",
            Self::Undo => "undo log",
            Self::Doublewrite => "doublewrite buffer",
            Self::AriaLog => "Aria log",
            Self::Tables => "tables",
            Self::BinaryLog => "binary log",
            Self::RelayLog => "relay log",
            Self::KeyRing => "key ring",
        }
    }
}

impl Role {
    /// The server's variable that says where it is.
    pub fn setting(self) -> Option<&'static str> {
        match self {
            Self::Data => Some("datadir"),
            Self::InnodbData => Some("innodb_data_home_dir"),
            Self::Redo => Some("innodb_log_group_home_dir"),
            Self::Undo => Some("innodb_undo_directory"),
            Self::Doublewrite => Some("innodb_doublewrite_dir"),
            Self::AriaLog => Some("aria_log_dir_path"),
            Self::BinaryLog => Some("log_bin"),
            Self::RelayLog => Some("relay_log"),
            Self::Tables | Self::KeyRing => None,
        }
    }
}

/// One path that must be inside the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub role: Role,
    /// As this host sees it, symlinks resolved.
    pub path: PathBuf,
}

impl Place {
    /// Whether a path is within what this place covers.
    pub fn covers(&self, path: &Path) -> bool {
        match self.role {
            // Only a prefix of file names: the directory beside them is free.
            Role::BinaryLog | Role::RelayLog => false,
            Role::Data
            | Role::InnodbData
            | Role::Redo
            | Role::Undo
            | Role::Doublewrite
            | Role::AriaLog
            | Role::Tables
            | Role::KeyRing => path.starts_with(&self.path),
        }
    }
}

/// A filesystem with all the places on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// The mount that shows its first place.
    pub mount: Mount,
    pub places: Vec<Place>,
}

/// All that one snapshot must contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub data_dir: PathBuf,
    /// One entry per filesystem (for btrfs: per subvolume), the data directory's first.
    pub volumes: Vec<Volume>,
    /// What may be missing without harm, said to the user (a key ring kept elsewhere, tmpdir).
    pub warnings: Vec<String>,
    /// Links among the data that aren't followed: they lead nowhere, or to what isn't the server's.
    pub links_apart: Vec<PathBuf>,
}

impl Layout {
    /// All places of all volumes, the data directory's volume first.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.volumes.iter().flat_map(|volume| &volume.places)
    }

    /// The layout without the volumes that hold nothing but logs of replication, and those logs; `None`
    /// when there is no such volume beside the data's.
    pub fn without_logs_apart(&self) -> Option<(Self, Vec<Place>)> {
        let is_log = |place: &Place| matches!(place.role, Role::BinaryLog | Role::RelayLog);
        let (logs, data): (Vec<Volume>, Vec<Volume>) = self
            .volumes
            .iter()
            .cloned()
            .partition(|volume| volume.places.iter().all(is_log));
        let apart: Vec<Place> = logs.into_iter().flat_map(|volume| volume.places).collect();
        let layout = Self {
            volumes: data,
            ..self.clone()
        };
        (!apart.is_empty()).then_some((layout, apart))
    }

    /// A place that lies within another volume's place: a mount or subvolume nested in the data.
    pub fn nested(&self) -> Option<&Place> {
        self.volumes.iter().enumerate().find_map(|(index, volume)| {
            volume.places.iter().find(|inner| {
                self.volumes.iter().enumerate().any(|(other, around)| {
                    other != index && around.places.iter().any(|outer| outer.covers(&inner.path))
                })
            })
        })
    }
}

/// Paths as the server prints them: absolute, or relative to its data directory; empty is unset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerPaths {
    pub data_dir: PathBuf,
    pub innodb_data_home_dir: Option<PathBuf>,
    /// The file names in `innodb_data_file_path`; see [`parse_data_file_path`].
    pub innodb_data_files: Vec<PathBuf>,
    pub innodb_log_group_home_dir: Option<PathBuf>,
    pub innodb_undo_directory: Option<PathBuf>,
    pub innodb_doublewrite_dir: Option<PathBuf>,
    pub aria_log_dir_path: Option<PathBuf>,
    /// `log_bin_basename`.
    pub binary_log_basename: Option<PathBuf>,
    /// `relay_log_basename`; MariaDB has one per connection when they are named.
    pub relay_log_basenames: Vec<PathBuf>,
    /// Files of tables, general and undo tablespaces outside the data directory.
    pub table_files: Vec<PathBuf>,
    pub key_ring_files: Vec<PathBuf>,
}

/// What was seen of the paths on this host.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    pub mounts: Vec<Mount>,
    /// The uid of the data directory.
    pub account: u32,
    /// For each wanted path what is there, or `None`.
    pub spots: BTreeMap<PathBuf, Option<Spot>>,
    /// What the directories among them lead to: links, mounts, subvolumes.
    pub inside: Vec<Inside>,
}

/// A path that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// Without symlinks.
    pub path: PathBuf,
    /// `st_dev`: for btrfs one per subvolume.
    pub device: u64,
    /// Its uid.
    pub owner: u32,
}

/// Where nothing of a database server lies, also of one that runs as root.
const SYSTEM: [&str; 12] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/run", "/sbin", "/sys",
    "/usr",
];

impl Spot {
    /// Whether the account that the data belongs to put it there: a database or table moved elsewhere.
    /// A link can lead anywhere, and root, which we are, must not follow it.
    pub fn belongs_to(&self, account: u32) -> bool {
        let is_systems = || SYSTEM.iter().any(|place| self.path.starts_with(place));
        self.owner == account && !(account == 0 && is_systems())
    }
}

/// Something inside a place that is really elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// The link or directory within the place.
    pub at: PathBuf,
    pub how: How,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum How {
    /// A symlink; `None` when it leads nowhere.
    Link(Option<Spot>),
    /// Another filesystem's mount.
    Mount(Spot),
    /// A bind mount of a part of the same filesystem.
    Bind,
    /// A btrfs subvolume nested in the place's.
    Subvolume(Spot),
}

/// One path to look at, derived from the server's values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub role: Role,
    /// On this host: relative ones completed, the map applied.
    pub path: PathBuf,
}

impl Wanted {
    /// What must exist: of a log the directory, since its name is only the beginning of file names.
    pub fn look_at(&self) -> &Path {
        match self.role {
            Role::BinaryLog | Role::RelayLog => self.path.parent().unwrap_or(&self.path),
            Role::Data
            | Role::InnodbData
            | Role::Redo
            | Role::Undo
            | Role::Doublewrite
            | Role::AriaLog
            | Role::Tables
            | Role::KeyRing => &self.path,
        }
    }
}

/// The names in `innodb_data_file_path` (`ibdata1:12M;/big/ibdata2:1G:autoextend`).
pub fn parse_data_file_path(text: &str) -> Vec<PathBuf> {
    text.split(';')
        .filter_map(|part| part.split(':').next())
        .filter(|name| !name.is_empty())
        .map(PathBuf::from)
        .collect()
}

/// All paths to look at, the data directory first, each once.
pub fn wanted(paths: &ServerPaths, map: &BTreeMap<PathBuf, PathBuf>) -> Vec<Wanted> {
    let mut list: Vec<Wanted> = Vec::new();
    let mut add = |role, path: &Path| {
        if !path.as_os_str().is_empty() {
            let path = host_path(&paths.data_dir.join(path), map);
            let wanted = Wanted { role, path };
            if !list.contains(&wanted) {
                list.push(wanted);
            }
        }
    };
    add(Role::Data, &paths.data_dir);
    for (role, path) in [
        (Role::InnodbData, &paths.innodb_data_home_dir),
        (Role::Redo, &paths.innodb_log_group_home_dir),
        (Role::Undo, &paths.innodb_undo_directory),
        (Role::Doublewrite, &paths.innodb_doublewrite_dir),
        (Role::AriaLog, &paths.aria_log_dir_path),
        (Role::BinaryLog, &paths.binary_log_basename),
    ] {
        add(role, path.as_deref().unwrap_or(Path::new("")));
    }
    let home = paths
        .innodb_data_home_dir
        .as_deref()
        .unwrap_or(Path::new(""));
    for file in &paths.innodb_data_files {
        add(Role::InnodbData, &home.join(file));
    }
    for (role, files) in [
        (Role::RelayLog, &paths.relay_log_basenames),
        (Role::Tables, &paths.table_files),
        (Role::KeyRing, &paths.key_ring_files),
    ] {
        for file in files {
            add(role, file);
        }
    }
    list
}

/// The server's path as this host sees it: the longest mapped prefix is replaced.
pub fn host_path(path: &Path, map: &BTreeMap<PathBuf, PathBuf>) -> PathBuf {
    // Collecting components drops `.` and doubled slashes.
    let path: PathBuf = path.components().collect();
    let longest = map
        .iter()
        .filter_map(|(from, to)| Some((from, to, path.strip_prefix(from).ok()?)))
        .max_by_key(|(from, _, _)| from.components().count());
    match longest {
        Some((_, to, rest)) if rest.as_os_str().is_empty() => to.clone(),
        Some((_, to, rest)) => to.join(rest),
        None => path,
    }
}

/// Decides what one snapshot must contain from what was seen.
pub fn plan_layout(
    paths: &ServerPaths,
    map: &BTreeMap<PathBuf, PathBuf>,
    seen: &Observed,
) -> Result<Layout, VolumeError> {
    let mut plan = Plan {
        seen,
        volumes: Vec::new(),
        devices: Vec::new(),
        known: BTreeSet::new(),
        warnings: Vec::new(),
        links_apart: Vec::new(),
    };
    let wanted = wanted(paths, map);
    let (key_rings, data): (Vec<_>, Vec<_>) = wanted
        .into_iter()
        .partition(|wanted| wanted.role == Role::KeyRing);
    for wanted in &data {
        plan.add_wanted(wanted)?;
    }
    for inside in &seen.inside {
        plan.add_inside(inside)?;
    }
    for wanted in &key_rings {
        plan.add_key_ring(wanted)?;
    }
    let Some(data_dir) = plan.volumes.first().and_then(|first| first.places.first()) else {
        return Err(not_here(&paths.data_dir));
    };
    Ok(Layout {
        data_dir: data_dir.path.clone(),
        volumes: plan.volumes,
        warnings: plan.warnings,
        links_apart: plan.links_apart,
    })
}

struct Plan<'a> {
    seen: &'a Observed,
    volumes: Vec<Volume>,
    /// `st_dev` of each volume.
    devices: Vec<u64>,
    known: BTreeSet<(Role, PathBuf)>,
    warnings: Vec<String>,
    links_apart: Vec<PathBuf>,
}

impl Plan<'_> {
    fn spot(&self, wanted: &Wanted) -> Option<&Spot> {
        self.seen.spots.get(wanted.look_at())?.as_ref()
    }

    fn add_wanted(&mut self, wanted: &Wanted) -> Result<(), VolumeError> {
        let Some(spot) = self.spot(wanted).cloned() else {
            if wanted.role == Role::Tables {
                self.warnings.push(format!(
                    "{} is gone; its table was probably dropped just now",
                    wanted.path.display()
                ));
                return Ok(());
            }
            return Err(not_here(&wanted.path));
        };
        let path = match wanted.role {
            Role::BinaryLog | Role::RelayLog => {
                spot.path.join(wanted.path.file_name().unwrap_or_default())
            }
            Role::Data
            | Role::InnodbData
            | Role::Redo
            | Role::Undo
            | Role::Doublewrite
            | Role::AriaLog
            | Role::Tables
            | Role::KeyRing => spot.path,
        };
        self.add(wanted.role, path, spot.device)
    }

    fn add(&mut self, role: Role, path: PathBuf, device: u64) -> Result<(), VolumeError> {
        if !self.known.insert((role, path.clone())) {
            return Ok(());
        }
        let place = Place { role, path };
        if let Some(index) = self.devices.iter().position(|known| *known == device) {
            self.volumes[index].places.push(place);
            return Ok(());
        }
        let mount = mount_with(&place.path, device, &self.seen.mounts).ok_or_else(|| {
            VolumeError::refused(
                format!(
                    "no mount in /proc/self/mountinfo shows {}",
                    place.path.display()
                ),
                "Run understudy in the mount namespace of the server's host.",
            )
        })?;
        self.volumes.push(Volume {
            mount: mount.clone(),
            places: vec![place],
        });
        self.devices.push(device);
        Ok(())
    }

    fn add_inside(&mut self, inside: &Inside) -> Result<(), VolumeError> {
        match &inside.how {
            How::Mount(spot) | How::Subvolume(spot) => {
                self.add(Role::Tables, spot.path.clone(), spot.device)
            }
            How::Bind => Err(VolumeError::refused(
                format!(
                    "{} is a bind mount, which a snapshot would show as an empty directory",
                    inside.at.display()
                ),
                "Replace the bind mount by a symlink, or by a directory.",
            )),
            How::Link(None) => {
                self.links_apart.push(inside.at.clone());
                self.warnings
                    .push(format!("the link {} leads nowhere", inside.at.display()));
                Ok(())
            }
            How::Link(Some(spot)) if self.covers(spot) => Ok(()),
            How::Link(Some(spot)) if !holds_data(&inside.at, &spot.path) => {
                self.links_apart.push(inside.at.clone());
                self.warnings.push(format!(
                    "the link {} leads to {}, which isn't in the snapshot",
                    inside.at.display(),
                    spot.path.display()
                ));
                Ok(())
            }
            How::Link(Some(spot)) if !spot.belongs_to(self.seen.account) => {
                self.links_apart.push(inside.at.clone());
                self.warnings.push(format!(
                    "the link {} leads to {}, which isn't the server's: it stays a link, and what it \
                     leads to isn't in the snapshot",
                    inside.at.display(),
                    spot.path.display()
                ));
                Ok(())
            }
            How::Link(Some(spot)) => self.add(Role::Tables, spot.path.clone(), spot.device),
        }
    }

    /// Whether the spot lies in a place already and on the same volume as that place.
    fn covers(&self, spot: &Spot) -> bool {
        std::iter::zip(&self.devices, &self.volumes).any(|(device, volume)| {
            *device == spot.device
                && volume.places.iter().any(|place| match place.role {
                    Role::BinaryLog | Role::RelayLog => false,
                    Role::Data
                    | Role::InnodbData
                    | Role::Redo
                    | Role::Undo
                    | Role::Doublewrite
                    | Role::AriaLog
                    | Role::Tables
                    | Role::KeyRing => spot.path.starts_with(&place.path),
                })
        })
    }

    /// A key ring is often kept elsewhere on purpose: it joins a volume but never adds one.
    fn add_key_ring(&mut self, wanted: &Wanted) -> Result<(), VolumeError> {
        match self.spot(wanted).cloned() {
            Some(spot) if self.devices.contains(&spot.device) => {
                self.add(Role::KeyRing, spot.path, spot.device)
            }
            Some(_) | None => {
                self.warnings.push(format!(
                    "the key ring {} isn't in the snapshot; keep it, or the copy can't be opened",
                    wanted.path.display()
                ));
                Ok(())
            }
        }
    }
}

/// Of the mounts above the path the one of that device, since a later mount may hide a deeper one;
/// for filesystems whose files don't show the mount's device (btrfs, overlay), the deepest.
fn mount_with<'a>(path: &Path, device: u64, mounts: &'a [Mount]) -> Option<&'a Mount> {
    let number = (
        nix::sys::stat::major(device) as u32,
        nix::sys::stat::minor(device) as u32,
    );
    mounts
        .iter()
        .filter(|mount| mount.device == number && path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.components().count())
        .or_else(|| mount_of(path, mounts))
}

/// Whether what a link leads to is data. What isn't known to be something else counts as data.
fn holds_data(at: &Path, target: &Path) -> bool {
    let other = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        name != "tc.log"
            && matches!(
                &*extension,
                "pem" | "crt" | "key" | "cnf" | "sock" | "lock" | "pid" | "err" | "log" | "flag"
            )
    };
    !(other(at) || other(target))
}

fn not_here(path: &Path) -> VolumeError {
    VolumeError::refused(
        format!(
            "{}, which the server uses, isn't on this host",
            path.display()
        ),
        "Run understudy on the server's host; for a server in a container, give the host's paths \
         in its [snapshot] path_map.",
    )
}

#[cfg(test)]
mod tests;
