//! Snapshots of ZFS datasets: one atomic call for all of them, matched by guid ever after.
//!
//! Owns only snapshots named `@understudy-ID` that bear the local user property
//! `understudy:id=ID`, which is set by the very call that makes them, and clones of them (`clone`).
//! Never runs a recursive destroy. In the pause nothing but the snapshot call
//! happens: through libzfs_core when it loads (see `zfs_core`), else through `zfs snapshot`.

mod clone;
mod lines;
mod put;
mod take;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use lines::{
    ID_PROPERTY, ORIGIN_PROPERTY, PATH_PROPERTY, POOL_CAPACITY_PERCENT_MAX, Pool, Properties,
};

use super::layout::Volume;
use super::mount::refuse_mounted_dataset;
use super::zfs_core::ZfsCore;
use super::{
    Backend, BackendKind, CloneRequest, Filling, FoundVolume, Mountable, PlannedVolume, Prepared,
    PutRequest, Renamed, Scan, TakeRequest, VolumeError, VolumeRecord, VolumeState, snapshot_name,
};
use crate::sys::Fact;
use crate::sys::exec::{ExecError, Output, Program};

/// Reading is quick, unless the pool hangs.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Destroying and setting properties wait for a transaction group.
const CHANGE_LIMIT: Duration = Duration::from_secs(120);
/// So many names go into one argv.
const NAMES_MAX: usize = 200;

/// The ZFS back-end.
#[derive(Debug, Clone)]
pub struct Zfs {
    zfs: Program,
    zpool: Program,
    core: Option<ZfsCore>,
}

impl Zfs {
    /// Finds the programs; libzfs_core is taken along when it is there.
    pub fn find() -> Result<Self, VolumeError> {
        Ok(Self {
            zfs: Program::find("zfs")?,
            zpool: Program::find("zpool")?,
            core: ZfsCore::load(),
        })
    }

    /// The same without libzfs_core, so that every snapshot goes through the program.
    pub fn without_library(self) -> Self {
        Self { core: None, ..self }
    }

    /// True when snapshots are taken through libzfs_core.
    pub fn has_library(&self) -> bool {
        self.core.is_some()
    }

    fn zfs(&self, args: &[&str], limit: Duration) -> Result<Output, ExecError> {
        self.zfs.run(args, limit)
    }

    /// The properties of one snapshot or dataset; `None` when it isn't there although its pool is.
    fn properties(&self, name: &str) -> Result<Option<Properties>, VolumeError> {
        let columns = "name,property,source,value";
        match self.zfs(&["get", "-Hp", "-o", columns, "all", name], READ_LIMIT) {
            Ok(output) => Ok(lines::parse_properties(&output.stdout).remove(name)),
            Err(error) if says(&error, "does not exist") => {
                // A pool that isn't imported says the same of all that is in it.
                self.pool(lines::pool_of(name))?;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn pool(&self, name: &str) -> Result<Pool, VolumeError> {
        let args = ["list", "-Hp", "-o", "name,health,capacity", name];
        let output = self.zpool.run(args, READ_LIMIT)?;
        lines::parse_pools(&output.stdout)?
            .into_iter()
            .find(|pool| pool.name == name)
            .ok_or_else(|| VolumeError::NotFound {
                name: name.to_owned(),
            })
    }

    /// Where a snapshot with this guid is now, if it was renamed or its dataset promoted.
    fn find_by_guid(&self, pool: &str, guid: &str) -> Result<Option<String>, VolumeError> {
        let args = [
            "list",
            "-Hp",
            "-r",
            "-t",
            "snapshot",
            "-o",
            "guid,name",
            pool,
        ];
        let output = self.zfs(&args, READ_LIMIT)?;
        Ok(output
            .stdout
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .find(|(found, _)| *found == guid)
            .map(|(_, name)| name.to_owned()))
    }

    fn state(&self, volume: &VolumeRecord) -> Result<VolumeState, VolumeError> {
        let pool = lines::pool_of(&volume.name);
        let Some(properties) = self.properties(&volume.name)? else {
            return Ok(match self.find_by_guid(pool, &volume.uuid)? {
                Some(name) => VolumeState::Invalid(format!("it is called {name} now")),
                None => VolumeState::Missing,
            });
        };
        if properties.value("guid") != Some(&volume.uuid) {
            let reason = "another snapshot bears its name (the guid differs)";
            return Ok(VolumeState::Invalid(reason.to_owned()));
        }
        if properties.value("defer_destroy") == Some("on") {
            return Ok(VolumeState::Missing);
        }
        Ok(VolumeState::Good {
            bytes_used: properties.number("used"),
        })
    }

    /// Who keeps a snapshot from being destroyed, if anyone does.
    fn check_unused(&self, name: &str, properties: &Properties) -> Result<(), VolumeError> {
        let busy = |reason| VolumeError::Busy {
            name: name.to_owned(),
            reason,
        };
        let mut clones = Vec::new();
        for clone in properties.clones() {
            if !self.is_aside(clone)? {
                clones.push(clone);
            }
        }
        if !clones.is_empty() {
            return Err(busy(format!("it has the clones {}", clones.join(", "))));
        }
        if properties.number("userrefs").unwrap_or(0) > 0 {
            let output = self.zfs(&["holds", "-H", name], READ_LIMIT)?;
            let holds = lines::parse_holds(&output.stdout).join(", ");
            return Err(busy(format!("it is held (zfs hold) as {holds}")));
        }
        refuse_mounted_dataset(name)
    }

    /// Destroys one snapshot; `Ok(false)` when it was gone already. What a put has set aside may
    /// stand on it: then ZFS destroys it with that (`-d`), and for us it is gone at once.
    fn destroy(&self, name: &str, properties: &Properties) -> Result<bool, VolumeError> {
        if lines::split_name(name).is_none() {
            return Err(VolumeError::NotOurs {
                name: name.to_owned(),
                reason: "its name isn't that of a snapshot of ours".to_owned(),
            });
        }
        let args: &[&str] = match properties.clones().is_empty() {
            true => &["destroy", name],
            false => &["destroy", "-d", name],
        };
        match self.zfs(args, CHANGE_LIMIT) {
            Ok(_) => Ok(true),
            Err(error)
                if says(&error, "could not find any snapshots")
                    || says(&error, "does not exist") =>
            {
                Ok(false)
            }
            Err(error) if says(&error, "busy") || says(&error, "dependent clones") => {
                // It may have been cloned or held since we looked.
                if let Some(properties) = self.properties(name)? {
                    self.check_unused(name, &properties)?;
                }
                Err(VolumeError::Busy {
                    name: name.to_owned(),
                    reason: error.to_string(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Backend for Zfs {
    fn kind(&self) -> BackendKind {
        BackendKind::Zfs
    }

    fn prepare(&self, request: &TakeRequest) -> Result<Box<dyn Prepared>, VolumeError> {
        let origins = origins_of(&request.layout.volumes)?;
        self.check_mounted(&origins)?;
        let pools: BTreeSet<_> = origins.keys().map(|name| lines::pool_of(name)).collect();
        if pools.len() > 1 {
            let pools: Vec<_> = pools.into_iter().collect();
            return Err(VolumeError::refused(
                format!("the data is spread over the pools {}", pools.join(", ")),
                "Move all of it into one pool (zfs send, zfs receive): \
                 only within a pool can several datasets be snapshotted in one moment.",
            ));
        }
        for pool in pools {
            check_pool(&self.pool(pool)?)?;
        }
        let snapshot = snapshot_name(&request.id)?;
        let targets: Vec<_> = origins
            .into_iter()
            .map(|(origin, path)| take::Target {
                name: format!("{origin}@{snapshot}"),
                origin,
                path,
            })
            .collect();
        for target in &targets {
            self.check_free_name(&target.name)?;
        }
        Ok(Box::new(take::PreparedZfs::new(
            self.clone(),
            request,
            targets,
        )))
    }

    fn discover_in(&self, _scan: &Scan) -> Result<Vec<FoundVolume>, VolumeError> {
        let (columns, all) = (
            "name,value",
            ["get", "-Hp", "-t", "snapshot", "-s", "local", "-o"],
        );
        let output = self.zfs(&[&all[..], &[columns, ID_PROPERTY]].concat(), READ_LIMIT)?;
        let names = lines::parse_ours(&output.stdout);
        let mut found = Vec::with_capacity(names.len());
        for names in names.chunks(NAMES_MAX) {
            let mut args = vec!["get", "-Hp", "-o", "name,property,source,value", "all"];
            args.extend(names.iter().map(String::as_str));
            let output = self.zfs(&args, READ_LIMIT)?;
            let properties = lines::parse_properties(&output.stdout);
            let is_left = |of: &Properties| of.value("defer_destroy") != Some("on");
            found.extend(
                properties
                    .iter()
                    .filter(|(_, of)| is_left(of))
                    .filter_map(|(name, of)| found_volume(name, of)),
            );
        }
        Ok(found)
    }

    fn fillings(&self, volumes: &[VolumeRecord]) -> Result<Vec<Filling>, VolumeError> {
        let pools: BTreeSet<&str> = volumes.iter().map(|v| lines::pool_of(&v.name)).collect();
        let filling = |name: &str| {
            Ok(Filling {
                name: name.to_owned(),
                what: "pool",
                percent: self.pool(name)?.capacity_percent as f64,
                cure: format!("Add disks to {name}, or `understudy snapshot prune`."),
            })
        };
        pools.into_iter().map(filling).collect()
    }

    fn probe(&self, volume: &VolumeRecord) -> Fact<VolumeState> {
        match self.state(volume) {
            Ok(state) => Fact::Known(state),
            Err(error) => Fact::unknown(error),
        }
    }

    fn delete(&self, id: &str, volume: &VolumeRecord) -> Result<bool, VolumeError> {
        let (dataset, _) = volume.name.split_once('@').unwrap_or_default();
        let Some(properties) = self.properties(&volume.name)? else {
            self.destroy_if_emptied(dataset)?;
            return Ok(false);
        };
        check_is_recorded(id, volume, &properties)?;
        if properties.value("defer_destroy") == Some("on") {
            return Ok(false);
        }
        self.check_unused(&volume.name, &properties)?;
        let is_destroyed = self.destroy(&volume.name, &properties)?;
        self.destroy_if_emptied(dataset)?;
        Ok(is_destroyed)
    }

    fn sweep(&self, id: &str, planned: &[PlannedVolume]) -> Result<Vec<String>, VolumeError> {
        let mut removed = Vec::new();
        for PlannedVolume { name, .. } in planned {
            if lines::split_name(name).is_none_or(|(_, named)| named != id) {
                continue;
            }
            let is_ours = |of: &Properties| of.local(ID_PROPERTY) == Some(id);
            let Some(properties) = self.properties(name)?.filter(is_ours) else {
                continue;
            };
            self.check_unused(name, &properties)?;
            if self.destroy(name, &properties)? {
                removed.push(format!("removed the snapshot {name}"));
            }
        }
        Ok(removed)
    }

    fn plan_clone(&self, request: &CloneRequest) -> Result<PlannedVolume, VolumeError> {
        self.plan_clone_of(request)
    }

    fn make_clone(
        &self,
        request: &CloneRequest,
        planned: &PlannedVolume,
        _progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Mountable, VolumeError> {
        self.make_clone_of(request, planned)
    }

    fn readable(&self, volume: &VolumeRecord) -> Result<Option<Mountable>, VolumeError> {
        Ok(Some(Mountable::Dataset(volume.name.clone())))
    }

    fn probe_clone(&self, planned: &PlannedVolume) -> Fact<VolumeState> {
        match self.clone_state(planned) {
            Ok(state) => Fact::Known(state),
            Err(error) => Fact::unknown(error),
        }
    }

    fn drop_clones(
        &self,
        use_id: &str,
        planned: &[PlannedVolume],
    ) -> Result<Vec<String>, VolumeError> {
        let mut removed = Vec::new();
        for PlannedVolume { name, .. } in planned {
            if self.drop_clone(use_id, name)? {
                removed.push(format!("removed the clone {name}"));
            }
        }
        Ok(removed)
    }

    fn plan_put(&self, request: &PutRequest) -> Result<Vec<PlannedVolume>, VolumeError> {
        self.plan_put_of(request)
    }

    fn put(
        &self,
        request: &PutRequest,
        _progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<Renamed>, VolumeError> {
        self.put_of(request)
    }
}

/// Name, guid and property must all be the recorded ones.
fn check_is_recorded(
    id: &str,
    volume: &VolumeRecord,
    properties: &Properties,
) -> Result<(), VolumeError> {
    let reason = if lines::split_name(&volume.name).is_none_or(|(_, named)| named != id) {
        "its name doesn't bear the snapshot's id"
    } else if properties.value("guid") != Some(&volume.uuid) {
        "its guid differs"
    } else if properties.local(ID_PROPERTY) != Some(id) {
        "its property understudy:id isn't the snapshot's id"
    } else {
        return Ok(());
    };
    Err(VolumeError::NotOurs {
        name: volume.name.clone(),
        reason: reason.to_owned(),
    })
}

/// What `prepare` makes sure of.
impl Zfs {
    /// That each dataset is mounted where the layout saw it, by its own property.
    fn check_mounted(&self, origins: &BTreeMap<String, PathBuf>) -> Result<(), VolumeError> {
        let mut args = vec![
            "list",
            "-Hp",
            "-t",
            "filesystem",
            "-o",
            "name,mounted,mountpoint",
        ];
        args.extend(origins.keys().map(String::as_str));
        let output = self.zfs(&args, READ_LIMIT)?;
        let datasets = lines::parse_datasets(&output.stdout)?;
        for (origin, path) in origins {
            let dataset = datasets.iter().find(|dataset| dataset.name == *origin);
            let dataset = dataset.ok_or_else(|| VolumeError::NotFound {
                name: origin.clone(),
            })?;
            let is_there =
                dataset.mountpoint == "legacy" || std::path::Path::new(&dataset.mountpoint) == path;
            if !dataset.is_mounted || !is_there {
                return Err(VolumeError::refused(
                    format!(
                        "{origin} is seen at {}, but its mountpoint is {} (mounted: {})",
                        path.display(),
                        dataset.mountpoint,
                        dataset.is_mounted
                    ),
                    format!(
                        "Set it with `zfs set mountpoint={} {origin}`, \
                         or map the server's path to the dataset's mountpoint in the configuration.",
                        path.display()
                    ),
                ));
            }
        }
        Ok(())
    }

    fn check_free_name(&self, name: &str) -> Result<(), VolumeError> {
        check_length(name)?;
        match self.properties(name)? {
            None => Ok(()),
            Some(_) => Err(VolumeError::refused(
                format!("{name} exists already"),
                format!("Try again; if it persists, look at it with `zfs get all {name}`."),
            )),
        }
    }
}

fn check_length(name: &str) -> Result<(), VolumeError> {
    if name.len() <= lines::NAME_BYTES_MAX {
        return Ok(());
    }
    Err(VolumeError::refused(
        format!("the name {name} would be longer than ZFS allows (255 bytes)"),
        "Give the server a shorter name in the configuration.",
    ))
}

/// The datasets of a layout with where each is mounted. Anything that isn't a whole mounted
/// dataset is refused.
fn origins_of(volumes: &[Volume]) -> Result<BTreeMap<String, PathBuf>, VolumeError> {
    let mut origins = BTreeMap::new();
    for Volume { mount, .. } in volumes {
        let path = &mount.mount_point;
        if mount.fs_type != "zfs" {
            return Err(VolumeError::refused(
                format!("{} is on {}, not on ZFS", path.display(), mount.fs_type),
                "Move it into the pool that holds the data directory, or set another `backend`.",
            ));
        }
        if mount.source.contains('@') {
            return Err(VolumeError::refused(
                format!("{} is itself a snapshot ({})", path.display(), mount.source),
                "Point the server at a writable dataset.",
            ));
        }
        if mount.root != std::path::Path::new("/") {
            return Err(VolumeError::refused(
                format!(
                    "{} is a bind mount of {} in {}",
                    path.display(),
                    mount.root.display(),
                    mount.source
                ),
                "Map the server's path to the dataset's own mountpoint in the configuration.",
            ));
        }
        origins.insert(mount.source.clone(), path.clone());
    }
    Ok(origins)
}

fn check_pool(pool: &Pool) -> Result<(), VolumeError> {
    let Pool { name, health, .. } = pool;
    if !pool.is_working() {
        return Err(VolumeError::refused(
            format!("the pool {name} is {health}"),
            format!("Repair it first: see `zpool status -x {name}`."),
        ));
    }
    if pool.capacity_percent >= POOL_CAPACITY_PERCENT_MAX {
        return Err(VolumeError::refused(
            format!(
                "the pool {name} is {} % full (the limit is {POOL_CAPACITY_PERCENT_MAX} %), \
                 and a snapshot keeps what the server overwrites from now on",
                pool.capacity_percent
            ),
            "Free space with `understudy snapshot prune`, or add a device to the pool.",
        ));
    }
    Ok(())
}

fn found_volume(name: &str, properties: &Properties) -> Option<FoundVolume> {
    let (dataset, id) = lines::split_name(name)?;
    // Of one that a put has set aside, its snapshots have this from it.
    let origin = properties.value(ORIGIN_PROPERTY).unwrap_or(dataset);
    let bytes_used = properties.number("used");
    Some(FoundVolume {
        id: id.to_owned(),
        record: record(origin, name, properties.local(PATH_PROPERTY), properties)?,
        tags: properties.tags(),
        state: VolumeState::Good { bytes_used },
    })
}

fn record(
    origin: &str,
    name: &str,
    path: Option<&str>,
    properties: &Properties,
) -> Option<VolumeRecord> {
    Some(VolumeRecord {
        origin: origin.to_owned(),
        name: name.to_owned(),
        path: path.map(PathBuf::from).unwrap_or_default(),
        bytes_used: properties.number("used"),
        uuid: properties.value("guid")?.to_owned(),
    })
}

/// True when the program failed and said so; LC_ALL=C keeps the words.
fn says(error: &ExecError, words: &str) -> bool {
    matches!(error, ExecError::Failed { stderr, .. } if stderr.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::layout::Mount;

    fn volume(fs_type: &str, source: &str, root: &str) -> Volume {
        Volume {
            mount: Mount {
                mount_point: format!("/{source}").into(),
                root: root.into(),
                device: (0, 41),
                fs_type: fs_type.to_owned(),
                source: source.to_owned(),
                options: Vec::new(),
            },
            places: Vec::new(),
        }
    }

    #[test]
    fn only_whole_datasets_are_taken() {
        let ok = [volume("zfs", "tank/a", "/"), volume("zfs", "tank/b", "/")];
        assert_eq!(origins_of(&ok).unwrap().len(), 2);
        for bad in [
            volume("ext4", "/dev/sda1", "/"),
            volume("zfs", "tank/a@old", "/"),
            volume("zfs", "tank/a", "/sub"),
        ] {
            let error = origins_of(&[bad]).unwrap_err();
            assert!(matches!(error, VolumeError::Refused { .. }), "{error}");
        }
    }

    #[test]
    fn sick_and_full_pools_are_refused() {
        let pool = |health: &str, capacity_percent| Pool {
            name: "tank".to_owned(),
            health: health.to_owned(),
            capacity_percent,
        };
        assert!(check_pool(&pool("ONLINE", 94)).is_ok());
        assert!(check_pool(&pool("DEGRADED", 10)).is_ok());
        assert!(check_pool(&pool("ONLINE", 95)).is_err());
        assert!(check_pool(&pool("SUSPENDED", 10)).is_err());
        assert!(check_pool(&pool("FAULTED", 10)).is_err());
    }
}
