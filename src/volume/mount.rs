//! Mounting clones and kept volumes, and who has something mounted from a directory of ours.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::layout::{Mount, mount_of, observe_mounts, parse_mountinfo, path_within};
use super::{Mountable, VolumeError};

/// Whether what is mounted may be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    ReadOnly,
    ReadWrite,
}

/// Mounts on an existing directory, in the mount namespace of the calling thread. Nothing on it can
/// be executed, nor gain rights, nor be a device.
pub fn mount(what: &Mountable, at: &Path, access: Access) -> Result<(), VolumeError> {
    let safe = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let flags = match access {
        Access::ReadOnly => safe | MsFlags::MS_RDONLY,
        Access::ReadWrite => safe,
    };
    let failed = |errno: Errno| VolumeError::call("mount on", at, errno);
    let none = None::<&Path>;
    match what {
        Mountable::Directory(path) => {
            nix::mount::mount(Some(path), at, none, MsFlags::MS_BIND, none).map_err(failed)?;
            // A bind mount takes its flags only when it is mounted again.
            let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
            nix::mount::mount(none, at, none, again, none).map_err(failed)
        }
        Mountable::Device { path, fs_type } => {
            // Of a clone, its origin with the same UUID is mounted too, which XFS refuses.
            let options = (fs_type == "xfs").then_some(Path::new("nouuid"));
            nix::mount::mount(Some(path), at, Some(Path::new(fs_type)), flags, options)
                .map_err(failed)
        }
        Mountable::Dataset(name) => {
            let name = Path::new(name);
            nix::mount::mount(Some(name), at, Some(Path::new("zfs")), flags, none).map_err(failed)
        }
    }
}

/// Whether what is mounted on `at` bears one of these names of ours in its source or root.
/// Device-mapper doubles the hyphens of a name.
pub fn is_ours_at(at: &Path, names: &[&str]) -> Result<bool, VolumeError> {
    let mounts = observe_mounts()?;
    let Some(mount) = mounts.iter().rfind(|mount| mount.mount_point == at) else {
        return Ok(false);
    };
    let source = mount.source.replace("--", "-");
    let root = mount.root.to_string_lossy();
    Ok(names
        .iter()
        .any(|name| source.contains(name) || root.contains(name)))
}

/// Unmounts what is mounted on `at`; `Ok(false)` when nothing is.
pub fn unmount(at: &Path) -> Result<bool, VolumeError> {
    match nix::mount::umount2(at, MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(false),
        Err(Errno::EBUSY) => Err(VolumeError::Busy {
            name: at.display().to_string(),
            reason: "something is open in it, or is working in it".to_owned(),
        }),
        Err(errno) => Err(VolumeError::call("unmount", at, errno)),
    }
}

/// Mount points, in any mount namespace that we may look into, that lie below `path` or show a part
/// of it. Namespaces count since a clone may be mounted in a private one.
pub fn mounted_from(path: &Path) -> Result<Vec<PathBuf>, VolumeError> {
    let here = observe_mounts()?;
    let mut found: BTreeSet<PathBuf> = BTreeSet::new();
    for mounts in std::iter::once(here.clone()).chain(observe_other_namespaces()) {
        found.extend(users(path, &here, &mounts));
    }
    Ok(found.into_iter().collect())
}

/// Refuses with Busy when anything is mounted from `path`.
pub fn refuse_mounted(path: &Path) -> Result<(), VolumeError> {
    refuse_any(&path.display().to_string(), &mounted_from(path)?)
}

/// Refuses with Busy when the dataset or snapshot `name`, or a snapshot of it, is mounted.
pub fn refuse_mounted_dataset(name: &str) -> Result<(), VolumeError> {
    let is_it = |source: &str| {
        let rest = source.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('@'))
    };
    let mounts = mounts_where(&|mount| mount.fs_type == "zfs" && is_it(&mount.source))?;
    refuse_any(name, &mounts)
}

/// Mount points of a block device, in any mount namespace that we may look into.
pub fn mounted_device(device: (u32, u32)) -> Result<Vec<PathBuf>, VolumeError> {
    mounts_where(&|mount| mount.device == device)
}

pub(super) fn mounts_where(shows: &dyn Fn(&Mount) -> bool) -> Result<Vec<PathBuf>, VolumeError> {
    let here = observe_mounts()?;
    let found: BTreeSet<PathBuf> = std::iter::once(here)
        .chain(observe_other_namespaces())
        .flatten()
        .filter(|mount| shows(mount))
        .map(|mount| mount.mount_point)
        .collect();
    Ok(found.into_iter().collect())
}

fn refuse_any(name: &str, mounts: &[PathBuf]) -> Result<(), VolumeError> {
    match mounts.first() {
        None => Ok(()),
        Some(first) => Err(VolumeError::Busy {
            name: name.to_owned(),
            reason: format!("it is mounted at {}", first.display()),
        }),
    }
}

/// Those of `mounts` that use `path`, which is seen through `here`.
fn users(path: &Path, here: &[Mount], mounts: &[Mount]) -> Vec<PathBuf> {
    let own = mount_of(path, here);
    let within = own.and_then(|own| Some((own.device, path_within(path, own)?)));
    mounts
        .iter()
        .filter(|mount| {
            let shows = within.as_ref().is_some_and(|(device, within)| {
                mount.device == *device && mount.root.starts_with(within)
            });
            shows || mount.mount_point.starts_with(path)
        })
        .map(|mount| mount.mount_point.clone())
        .collect()
}

/// The mounts of each other namespace, once each. Threads count, since one may have a namespace of
/// its own. What ends meanwhile is left out.
fn observe_other_namespaces() -> Vec<Vec<Mount>> {
    let namespace = |task: &Path| Some(task.join("ns/mnt").metadata().ok()?.ino());
    let mut seen: BTreeSet<u64> = namespace(Path::new("/proc/self")).into_iter().collect();
    numbered(Path::new("/proc"))
        .flat_map(|process| numbered(&process.join("task")))
        .filter(|task| namespace(task).is_some_and(|inode| seen.insert(inode)))
        .filter_map(|task| std::fs::read_to_string(task.join("mountinfo")).ok())
        .map(|text| parse_mountinfo(&text))
        .collect()
}

/// The entries of a directory whose names begin with a digit.
fn numbered(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = dir.read_dir().into_iter().flatten();
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_mounts_below_and_mounts_of_parts() {
        let here = parse_mountinfo(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
             2 1 0:39 / /srv rw - btrfs /dev/sdb rw\n\
             3 1 0:39 /snaps/id-1/data /mnt/look rw - btrfs /dev/sdb rw\n\
             4 1 0:50 / /srv/snaps/id-2/data/x rw - tmpfs none rw\n\
             5 1 8:2 /snaps/id-3 /mnt/other rw - ext4 /dev/sdc rw\n",
        );
        let of = |path: &str| users(Path::new(path), &here, &here);
        assert_eq!(of("/srv/snaps/id-1/data"), [Path::new("/mnt/look")]);
        assert_eq!(of("/srv/snaps/id-1"), [Path::new("/mnt/look")]);
        assert_eq!(of("/srv/snaps/id-2"), [Path::new("/srv/snaps/id-2/data/x")]);
        assert!(of("/srv/snaps/id-3").is_empty());
        assert!(of("/srv/snaps/id").is_empty());
    }
}
