//! Which back-end fits where the data really is, and whether its volumes have a common moment.
//!
//! [`decide`] is pure; what it needs to know is observed first.

mod apart;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::btrfs::{Btrfs, check_not_top_level, refuse_nested};
use super::copy::{FileByFile, no_directory};
use super::kept::check_directory;
use super::layout::{Layout, Mount, Place, Volume, mount_of, observe_mounts};
use super::lvm::Lvm;
use super::mirror::Method;
use super::zfs::Zfs;
use super::{Backend, BackendKind, VolumeError, reflink};
use crate::config::BackendChoice;
use crate::sys::files;

/// What storage a volume is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Storage {
    Zfs,
    Btrfs,
    LvmThick,
    LvmThin,
    /// A filesystem that offers no snapshots of its own.
    Plain,
}

/// What was seen, for `decide`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Of each volume, in the layout's order.
    pub storage: Vec<Storage>,
    /// The configured directory: whether there is one, and whether clones can be made in it.
    pub directory: Option<Directory>,
}

impl Facts {
    /// Whether the data directory's own volume has snapshots.
    fn has_snapshots(&self) -> bool {
        self.storage
            .first()
            .is_some_and(|&data| data != Storage::Plain)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    /// On the filesystem of all places, which can clone.
    pub can_clone: bool,
}

/// What will be taken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub kind: BackendKind,
    pub layout: Layout,
    /// Logs of replication on volumes of their own, which are left out.
    pub logs_apart: Vec<Place>,
}

/// The back-end for this layout: the one asked for if it fits, else refused with what would. A
/// storage snapshot of the data alone goes before one that would have to freeze the logs' volume too,
/// or before none.
pub fn choose(
    choice: BackendChoice,
    layout: &Layout,
    directory: Option<&Path>,
    is_stopped: bool,
) -> Result<Chosen, VolumeError> {
    let facts = observe_facts(layout, directory)?;
    let whole = decide(choice, layout, &facts);
    let has_moment = |kind: BackendKind, layout: &Layout| {
        !kind.is_file_by_file() && (is_stopped || !needs_freeze(kind, layout))
    };
    let is_enough = whole.as_ref().is_ok_and(|kind| has_moment(*kind, layout));
    if !is_enough && let Some((data, logs_apart)) = layout.without_logs_apart() {
        let facts = observe_facts(&data, directory)?;
        if let Ok(kind) = decide(choice, &data, &facts)
            && has_moment(kind, &data)
        {
            return Ok(Chosen {
                kind,
                layout: data,
                logs_apart,
            });
        }
    }
    Ok(Chosen {
        kind: whole?,
        layout: layout.clone(),
        logs_apart: Vec::new(),
    })
}

/// The one list of back-ends.
pub fn open(kind: BackendKind) -> Result<Box<dyn Backend>, VolumeError> {
    match kind {
        BackendKind::Zfs => Ok(Box::new(Zfs::find()?)),
        BackendKind::LvmThick => Ok(Box::new(Lvm::find_thick()?)),
        BackendKind::LvmThin => Ok(Box::new(Lvm::find_thin()?)),
        BackendKind::Btrfs => Ok(Box::new(Btrfs)),
        BackendKind::Reflink => Ok(Box::new(FileByFile::new(Method::Reflink))),
        BackendKind::Copy => Ok(Box::new(FileByFile::new(Method::Copy))),
        BackendKind::Dump => Ok(Box::new(Archive)),
    }
}

/// Whether this machine has such a storage at all, told without starting a program.
pub fn is_in_use(kind: BackendKind) -> bool {
    match kind {
        BackendKind::Zfs => Path::new("/sys/module/zfs").exists(),
        BackendKind::LvmThick | BackendKind::LvmThin => files::list(Path::new("/sys/block"))
            .unwrap_or_default()
            .iter()
            .any(|device| observe_lvm(device) != Storage::Plain),
        BackendKind::Btrfs | BackendKind::Reflink | BackendKind::Copy | BackendKind::Dump => true,
    }
}

/// Decides from what was seen.
pub fn decide(
    choice: BackendChoice,
    layout: &Layout,
    facts: &Facts,
) -> Result<BackendKind, VolumeError> {
    let native = native(layout, facts);
    match choice {
        BackendChoice::Auto => match native {
            Ok(kind) => Ok(kind),
            Err(reason) => by_files(layout, facts, reason),
        },
        BackendChoice::Zfs | BackendChoice::Lvm | BackendChoice::Btrfs => {
            // Another refusal than "not snapshottable" is about this very back-end.
            let kind = native.map_err(|error| match error {
                Native::Refused(error) => error,
                Native::None(reason) => misfit(choice, &reason, layout, facts),
            })?;
            if fits(choice, kind) {
                Ok(kind)
            } else {
                let reason = format!("the data is on {}", describe(facts));
                Err(misfit(choice, &reason, layout, facts))
            }
        }
        BackendChoice::Reflink => match facts.directory {
            None => Err(no_directory()),
            Some(Directory { can_clone: true }) => Ok(BackendKind::Reflink),
            Some(Directory { can_clone: false }) => Err(misfit(
                choice,
                "files can't be cloned from the data to the snapshot directory",
                layout,
                facts,
            )),
        },
        BackendChoice::Copy | BackendChoice::Dump if facts.directory.is_none() => {
            Err(no_directory())
        }
        BackendChoice::Copy => Ok(BackendKind::Copy),
        BackendChoice::Dump => Ok(BackendKind::Dump),
    }
}

/// Why the storage itself can't take the snapshot.
enum Native {
    /// It has no snapshots, or not one kind of them: a fragment.
    None(String),
    Refused(VolumeError),
}

/// The storage's own snapshots, when all volumes are of one kind.
fn native(layout: &Layout, facts: &Facts) -> Result<BackendKind, Native> {
    let kinds: BTreeSet<Storage> = facts.storage.iter().copied().collect();
    let kind = match kinds.into_iter().collect::<Vec<_>>()[..] {
        [Storage::Zfs] => BackendKind::Zfs,
        [Storage::LvmThin] => BackendKind::LvmThin,
        // Thick and thin in one: the thick way is the one that works on both.
        [Storage::LvmThick] | [Storage::LvmThick, Storage::LvmThin] => BackendKind::LvmThick,
        [Storage::Btrfs] => {
            check_not_top_level(layout).map_err(Native::Refused)?;
            match layout.nested() {
                Some(nested) => return Err(Native::Refused(refuse_nested(&nested.path))),
                None => BackendKind::Btrfs,
            }
        }
        [Storage::Plain] => {
            return Err(Native::None(format!(
                "{} has no snapshots",
                describe_types(layout)
            )));
        }
        _ => {
            return Err(Native::None(format!(
                "the data is spread over {} ({})",
                describe(facts),
                apart::describe(layout)
            )));
        }
    };
    match kind {
        BackendKind::Zfs if pools(layout).len() > 1 => Err(Native::None(format!(
            "the data is spread over several zfs pools, which have no common moment ({})",
            apart::describe(layout)
        ))),
        kind => Ok(kind),
    }
}

/// The way that works everywhere, given a directory; else why the better way doesn't.
fn by_files(layout: &Layout, facts: &Facts, no_native: Native) -> Result<BackendKind, VolumeError> {
    match (facts.directory, no_native) {
        (Some(Directory { can_clone: true }), _) => Ok(BackendKind::Reflink),
        (Some(Directory { can_clone: false }), _) => Ok(BackendKind::Copy),
        (None, Native::Refused(error)) => Err(error),
        (None, Native::None(reason)) => Err(VolumeError::refused(
            format!("{reason}, and there is no directory to copy to"),
            match apart::cure(layout).filter(|_| facts.has_snapshots()) {
                Some(cure) => format!(
                    "{cure}. Or set directory in the server's [snapshot] table, on a disk with room for \
                     the data."
                ),
                None => {
                    "Set directory in the server's [snapshot] table, on a disk with room for the \
                         data; or move the data to ZFS, btrfs or an LVM volume."
                        .to_owned()
                }
            },
        )),
    }
}

fn fits(choice: BackendChoice, kind: BackendKind) -> bool {
    match choice {
        BackendChoice::Auto => true,
        BackendChoice::Zfs => kind == BackendKind::Zfs,
        BackendChoice::Lvm => matches!(kind, BackendKind::LvmThick | BackendKind::LvmThin),
        BackendChoice::Btrfs => kind == BackendKind::Btrfs,
        BackendChoice::Reflink => kind == BackendKind::Reflink,
        BackendChoice::Copy => kind == BackendKind::Copy,
        BackendChoice::Dump => kind == BackendKind::Dump,
    }
}

fn misfit(choice: BackendChoice, reason: &str, layout: &Layout, facts: &Facts) -> VolumeError {
    let kinds: BTreeSet<Storage> = facts.storage.iter().copied().collect();
    let better = match kinds.into_iter().collect::<Vec<_>>()[..] {
        [Storage::Zfs] if choice != BackendChoice::Zfs => "zfs",
        [Storage::Btrfs] if choice != BackendChoice::Btrfs => "btrfs",
        [Storage::LvmThick | Storage::LvmThin] if choice != BackendChoice::Lvm => "lvm",
        _ => "copy",
    };
    let hint = match (better, &facts.directory) {
        ("copy", None) => "Set backend = \"copy\" and a [snapshot] directory.".to_owned(),
        (better, _) => format!("Set backend = \"{better}\", or \"auto\"."),
    };
    // Then what is apart from the data is all that is in the way.
    let would_fit = match facts.storage.first() {
        Some(Storage::Zfs) => choice == BackendChoice::Zfs,
        Some(Storage::Btrfs) => choice == BackendChoice::Btrfs,
        Some(Storage::LvmThick | Storage::LvmThin) => choice == BackendChoice::Lvm,
        Some(Storage::Plain) | None => false,
    };
    let hint = match apart::cure(layout).filter(|_| would_fit) {
        Some(cure) => format!("{cure}. Or: {hint}"),
        None => hint,
    };
    VolumeError::refused(
        format!(
            "backend = \"{}\" doesn't fit: {reason}",
            choice_name(choice)
        ),
        hint,
    )
}

fn choice_name(choice: BackendChoice) -> &'static str {
    match choice {
        BackendChoice::Auto => "auto",
        BackendChoice::Zfs => "zfs",
        BackendChoice::Lvm => "lvm",
        BackendChoice::Btrfs => "btrfs",
        BackendChoice::Reflink => "reflink",
        BackendChoice::Copy => "copy",
        BackendChoice::Dump => "dump",
    }
}

/// "btrfs and thick LVM".
fn describe(facts: &Facts) -> String {
    let kinds: BTreeSet<Storage> = facts.storage.iter().copied().collect();
    let names: Vec<&str> = kinds
        .iter()
        .map(|kind| match kind {
            Storage::Zfs => "zfs",
            Storage::Btrfs => "btrfs",
            Storage::LvmThick => "thick LVM",
            Storage::LvmThin => "thin LVM",
            Storage::Plain => "a plain filesystem",
        })
        .collect();
    names.join(" and ")
}

fn describe_types(layout: &Layout) -> String {
    let types: BTreeSet<&str> = layout
        .volumes
        .iter()
        .map(|volume| &*volume.mount.fs_type)
        .collect();
    types.into_iter().collect::<Vec<_>>().join(" and ")
}

fn pools(layout: &Layout) -> BTreeSet<&str> {
    layout
        .volumes
        .iter()
        .filter_map(|volume| volume.mount.source.split(['/', '@']).next())
        .collect()
}

fn observe_facts(layout: &Layout, directory: Option<&Path>) -> Result<Facts, VolumeError> {
    let storage = layout.volumes.iter().map(observe_storage).collect();
    let directory = match directory {
        None => None,
        Some(directory) => {
            let place = check_directory(directory, layout)?;
            let can_clone = reflink::is_possible(layout, &place)?;
            Some(Directory { can_clone })
        }
    };
    Ok(Facts { storage, directory })
}

fn observe_storage(volume: &Volume) -> Storage {
    match &*volume.mount.fs_type {
        "zfs" => Storage::Zfs,
        "btrfs" => Storage::Btrfs,
        "ext3" | "ext4" | "xfs" | "f2fs" | "jfs" | "reiserfs" => {
            let (major, minor) = volume.mount.device;
            observe_lvm(&PathBuf::from(format!("/sys/dev/block/{major}:{minor}")))
        }
        _ => Storage::Plain,
    }
}

/// The device mapper names LVM's devices `LVM-…`, and a thin volume stands on its pool, whose name
/// ends in `-tpool`.
fn observe_lvm(device: &Path) -> Storage {
    let name = |device: &Path| files::read_text(&device.join("dm/uuid")).ok().flatten();
    if !name(device).is_some_and(|name| name.starts_with("LVM-")) {
        return Storage::Plain;
    }
    let is_thin = files::list(&device.join("slaves"))
        .unwrap_or_default()
        .iter()
        .any(|slave| name(slave).is_some_and(|name| name.trim_end().ends_with("-tpool")));
    if is_thin {
        Storage::LvmThin
    } else {
        Storage::LvmThick
    }
}

/// Whether the volumes have a common moment only while all of them are frozen. File by file it is
/// the server's quiet that makes the moment, and zfs has one for a whole pool.
pub fn needs_freeze(kind: BackendKind, layout: &Layout) -> bool {
    match kind {
        BackendKind::Zfs | BackendKind::Reflink | BackendKind::Copy | BackendKind::Dump => false,
        BackendKind::LvmThick | BackendKind::LvmThin | BackendKind::Btrfs => {
            layout.volumes.len() > 1
        }
    }
}

/// Why the volumes must not, or can't, be frozen for this snapshot: the refusal; `Ok(None)` when
/// they can. Ask only if [`needs_freeze`] says so and the server isn't stopped.
pub fn freeze_problem(
    kind: BackendKind,
    layout: &Layout,
    state_dir: &Path,
) -> Result<Option<VolumeError>, VolumeError> {
    let cure = match apart::cure(layout) {
        Some(cure) => format!("{cure}; or use consistency = \"stop\"."),
        None => "Use consistency = \"stop\".".to_owned(),
    };
    if kind == BackendKind::Btrfs {
        return Ok(Some(VolumeError::refused(
            format!(
                "the data is in several btrfs subvolumes ({}), and no snapshot can be taken while btrfs \
                 is frozen",
                apart::describe(layout)
            ),
            cure,
        )));
    }
    for volume in &layout.volumes {
        if !matches!(
            &*volume.mount.fs_type,
            "ext3" | "ext4" | "xfs" | "f2fs" | "jfs"
        ) {
            return Ok(Some(VolumeError::refused(
                format!(
                    "{} ({}) can't be frozen, and {}",
                    volume.mount.mount_point.display(),
                    volume.mount.fs_type,
                    apart::describe(layout)
                ),
                cure,
            )));
        }
    }
    let mounts = observe_mounts()?;
    let needed = observe_needed(state_dir)?;
    Ok(
        needed_on_frozen(layout, &needed, &mounts).map(|(path, mount_point)| {
            VolumeError::refused(
                format!(
                    "{} must be frozen for a common moment, and {} on it is needed meanwhile: {}",
                    mount_point.display(),
                    path.display(),
                    apart::describe(layout)
                ),
                cure,
            )
        }),
    )
}

/// What we, LVM's programs and the system need while volumes are frozen.
const NEEDED: [&str; 15] = [
    "/",
    "/bin",
    "/dev",
    "/etc",
    "/etc/lvm",
    "/lib",
    "/run",
    "/run/lock",
    "/run/lvm",
    "/sbin",
    "/tmp",
    "/usr",
    "/var",
    "/var/log",
    "/var/tmp",
];

/// Paths without links: the fixed ones, ours, swap files, and what we have open for writing to.
fn observe_needed(state_dir: &Path) -> Result<Vec<PathBuf>, VolumeError> {
    let mut paths: Vec<PathBuf> = NEEDED.iter().map(PathBuf::from).collect();
    paths.push(state_dir.to_owned());
    paths.extend(std::env::current_exe().ok());
    paths.extend(std::env::current_dir().ok());
    // stdout and stderr may be files, to which we log.
    paths.extend(["/proc/self/fd/1", "/proc/self/fd/2"].map(PathBuf::from));
    let swaps = files::read_text(Path::new("/proc/swaps"))?.unwrap_or_default();
    let swaps = swaps.lines().skip(1);
    paths.extend(swaps.filter_map(|line| Some(PathBuf::from(line.split_whitespace().next()?))));
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths {
        // A pipe or terminal has no path, and what isn't there isn't needed.
        let Ok(path) = path.canonicalize() else {
            continue;
        };
        let is_device = path.metadata().is_ok_and(|own| own.rdev() != 0);
        if !is_device && !found.contains(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The first needed path on a volume that would be frozen, with that volume's mount point.
fn needed_on_frozen<'a>(
    layout: &'a Layout,
    needed: &'a [PathBuf],
    mounts: &[Mount],
) -> Option<(&'a Path, &'a Path)> {
    needed.iter().find_map(|path| {
        let mount = mount_of(path, mounts)?;
        let volume = layout
            .volumes
            .iter()
            .find(|volume| volume.mount.device == mount.device)?;
        Some((&**path, &*volume.mount.mount_point))
    })
}

#[cfg(test)]
mod tests;
