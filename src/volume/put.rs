//! Putting kept files back into the directory that they came from: made equal file by file, by
//! reference where the filesystem can. Called again it goes on, whatever ended it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::kept::{self, Kept};
use super::layout::{Place, Role, mount_of, observe_mounts};
use super::mirror::{Method, Mirror, Strangers};
use super::walk::{Roots, is_log_of};
use super::{VolumeError, btrfs, reflink};
use crate::sys::{failpoint, files};

/// A page that was dirty when its file was copied can be stored to without a new time for the file,
/// until it is written out. A file that was at rest for this long before the note was written had no
/// such page.
const AT_REST: Duration = Duration::from_secs(3600);

/// Names that belong to no server and to nobody else.
const NOBODYS_NAMES: [&str; 3] = ["lost+found", ".zfs", btrfs::PLACE_NAME];

/// What else a volume holds: an entry below `dir`, where it is mounted, that is none of the server's
/// places and leads to none, nor to one of `spared` (a directory of snapshots). A put of the whole
/// volume would take it back in time with the data.
pub fn foreign_entry(
    dir: &Path,
    places: &[Place],
    spared: &[PathBuf],
) -> Result<Option<PathBuf>, VolumeError> {
    if is_claimed(dir, places, spared) {
        return Ok(None);
    }
    for entry in files::list(dir)? {
        let name = entry.file_name().unwrap_or_default();
        let is_nobodys = NOBODYS_NAMES.iter().any(|own| name == *own);
        if is_nobodys || is_claimed(&entry, places, spared) {
            continue;
        }
        let mut wanted = places.iter().map(|place| &place.path).chain(spared);
        let is_dir = entry.symlink_metadata().is_ok_and(|own| own.is_dir());
        if !is_dir || !wanted.any(|path| path.starts_with(&entry)) {
            return Ok(Some(entry));
        }
        if let Some(found) = foreign_entry(&entry, places, spared)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn is_claimed(path: &Path, places: &[Place], spared: &[PathBuf]) -> bool {
    let is_log = |place: &Place| {
        matches!(place.role, Role::BinaryLog | Role::RelayLog)
            && path.parent() == place.path.parent()
            && match (place.path.file_name(), path.file_name()) {
                (Some(base), Some(name)) => is_log_of(base, name),
                (Some(_) | None, _) => false,
            }
    };
    places
        .iter()
        .any(|place| place.covers(path) || is_log(place))
        || spared.iter().any(|spared| path.starts_with(spared))
}

/// What goes where.
pub(super) struct FilesPut {
    pub from: PathBuf,
    pub to: PathBuf,
    pub strangers: Strangers,
    /// Relative to both: neither brought nor removed.
    pub untouched: Vec<PathBuf>,
    pub kept: Kept,
}

/// Refuses what can't work.
pub(super) fn plan(put: &FilesPut) -> Result<(), VolumeError> {
    check_target(&put.to)?;
    if method(put)? == Method::Reflink {
        return kept::check_free_space(&put.to, 0);
    }
    let (bytes, inodes) = put.mirror(Method::Copy)?.measure()?;
    let (there_bytes, there_inodes) =
        Mirror::open(put.roots(&put.to), PathBuf::new(), Method::Copy)?.measure()?;
    // What is overwritten stays in the snapshots of a filesystem that never overwrites.
    let there_bytes = match overwrites(&put.to)? {
        true => there_bytes,
        false => 0,
    };
    kept::check_free_space(&put.to, bytes.saturating_sub(there_bytes))?;
    kept::check_free_inodes(&put.to, inodes.saturating_sub(there_inodes))
}

pub(super) fn put(put: &FilesPut, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
    check_target(&put.to)?;
    let method = method(put)?;
    let looks_count_before_ns = match method {
        // As quick as to look.
        Method::Reflink => i128::MIN,
        Method::Copy => at_rest_before_ns(&put.kept)?,
    };
    put.mirror(method)?
        .onto(put.strangers, looks_count_before_ns)
        .copy_still(&|| false, &mut |done, all| {
            failpoint::hit("put-copying");
            progress(done, all);
        })?;
    failpoint::hit("put-copied");
    Ok(())
}

impl FilesPut {
    fn roots(&self, dir: &Path) -> Roots {
        let mut untouched = self.untouched.clone();
        untouched.push("lost+found".into());
        Roots::whole(dir).without(untouched)
    }

    fn mirror(&self, method: Method) -> Result<Mirror, VolumeError> {
        Mirror::open(self.roots(&self.from), self.to.clone(), method)
    }
}

fn check_target(path: &Path) -> Result<(), VolumeError> {
    let own = path.symlink_metadata();
    if !own.is_ok_and(|own| own.is_dir()) {
        return Err(VolumeError::NotFound {
            name: path.display().to_string(),
        });
    }
    refuse_system(path)
}

/// Refuses to replace the root of the running system.
pub(super) fn refuse_system(path: &Path) -> Result<(), VolumeError> {
    if path != Path::new("/") {
        return Ok(());
    }
    Err(VolumeError::refused(
        "the snapshot is of the running system's root",
        "Restore to another directory, and copy from there.",
    ))
}

/// By reference if the note beside the kept files can be cloned there.
fn method(put: &FilesPut) -> Result<Method, VolumeError> {
    let note = put.kept.dir.join(kept::NOTE);
    Ok(match reflink::can_clone_to(&note, &put.to)? {
        true => Method::Reflink,
        false => Method::Copy,
    })
}

fn at_rest_before_ns(kept: &Kept) -> Result<i128, VolumeError> {
    let note = kept.dir.join(kept::NOTE);
    let own = note
        .metadata()
        .map_err(|error| VolumeError::call("look at", &note, error))?;
    let written_ns = i128::from(own.mtime()) * 1_000_000_000;
    Ok(written_ns - AT_REST.as_nanos() as i128)
}

fn overwrites(path: &Path) -> Result<bool, VolumeError> {
    let mounts = observe_mounts()?;
    let fs_type = mount_of(path, &mounts).map(|mount| mount.fs_type.as_str());
    Ok(!matches!(fs_type, Some("btrfs" | "zfs") | None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_servers_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let place = |role, name: &str| Place {
            role,
            path: at(name),
        };
        for name in ["lib/mysql/shop", "lost+found/x", "logs", "snapshots/id-1"] {
            std::fs::create_dir_all(at(name)).unwrap();
        }
        std::fs::write(at("logs/binlog.000001"), "").unwrap();
        std::fs::write(at("logs/binlog.index"), "").unwrap();
        let places = [
            place(Role::Data, "lib/mysql"),
            place(Role::BinaryLog, "logs/binlog"),
        ];
        let spared = [at("snapshots")];
        let foreign = |places: &[Place]| foreign_entry(dir.path(), places, &spared).unwrap();
        assert_eq!(foreign(&places), None);
        assert_eq!(foreign(&places[..1]), Some(at("logs")));
        std::fs::write(at("logs/syslog"), "").unwrap();
        assert_eq!(foreign(&places), Some(at("logs/syslog")));
        std::fs::write(at("lib/other"), "").unwrap();
        assert_eq!(foreign(&places), Some(at("lib/other")));
        // The whole volume is the server's.
        let data = place(Role::Data, "");
        assert_eq!(foreign(&[data]), None);
    }
}
