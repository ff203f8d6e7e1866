//! Who has something mounted from a directory of ours.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::VolumeError;
use super::layout::{Mount, mount_of, observe_mounts, parse_mountinfo, path_within};

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
    let mounts = mounted_from(path)?;
    match mounts.first() {
        None => Ok(()),
        Some(first) => Err(VolumeError::Busy {
            name: path.display().to_string(),
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

/// The mounts of each other namespace, once each. Processes that end meanwhile are left out.
fn observe_other_namespaces() -> Vec<Vec<Mount>> {
    let namespace = |process: &Path| Some(process.join("ns/mnt").metadata().ok()?.ino());
    let mut seen: BTreeSet<u64> = namespace(Path::new("/proc/self")).into_iter().collect();
    let Ok(processes) = Path::new("/proc").read_dir() else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.as_encoded_bytes()[0].is_ascii_digit())
        })
        .filter(|path| namespace(path).is_some_and(|inode| seen.insert(inode)))
        .filter_map(|path| std::fs::read_to_string(path.join("mountinfo")).ok())
        .map(|text| parse_mountinfo(&text))
        .collect()
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
