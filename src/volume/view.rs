//! The machine as a server on clones sees it: the clones stand where their origins are, and nothing
//! else can be written to.
//!
//! So every path in the files (tables with a DATA DIRECTORY, links, redo logs elsewhere) leads to a
//! clone, and the live server's files are out of reach. For a thread in a room of its own
//! (`sys::room`) only.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};

use super::layout::{Mount, parse_mountinfo};
use super::mount::{Access, mount};
use super::{Mountable, NAME_PREFIX, VolumeError};
use crate::sys::{files, transfer};

/// A clone and the path of its origin, where it is to be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    pub clone: Mountable,
    pub at: PathBuf,
}

/// Makes everything read-only, puts the clones in place, and lets `writable` directories be.
pub fn arrange(stands: &[Stand], writable: &[PathBuf]) -> Result<(), VolumeError> {
    // Opened first: what is mounted below may hide where they lie.
    let opened: Vec<Opened> = stands.iter().map(Opened::new).collect::<Result<_, _>>()?;
    let kept: Vec<(File, &PathBuf)> = writable
        .iter()
        .map(|path| {
            let failed = |error| VolumeError::call("open", path, error);
            Ok((transfer::open_path(path).map_err(failed)?, path))
        })
        .collect::<Result<_, VolumeError>>()?;
    // A directory's clone is on its origin's filesystem, which is in use either way.
    let is_apart = |stand: &&Stand| !matches!(stand.clone, Mountable::Directory(_));
    let origins = stands.iter().filter(is_apart);
    let origins: Vec<&Path> = origins.map(|stand| stand.at.as_path()).collect();
    let_go(&origins)?;
    for seen in observe_own_mounts()? {
        make_read_only(&seen)?;
    }
    let mut order: Vec<&Opened> = opened.iter().collect();
    order.sort_by_key(|opened| opened.at.components().count());
    // Before the clones: some stand in these, and would be hidden.
    for (file, path) in &kept {
        let source = Mountable::Directory(descriptor_path(file));
        mount(&source, path, Access::ReadWrite)?;
    }
    for opened in order {
        mount(&opened.clone, &opened.at, Access::ReadWrite)?;
    }
    Ok(())
}

/// Ends, in this thread's view, the mounts of origins and of clones: a new mount namespace begins with
/// a copy of every mount, and each would keep its volume busy for everybody else as long as the room
/// is there. What is mounted below them goes along.
pub fn let_go(origins: &[&Path]) -> Result<(), VolumeError> {
    // The last one first: it lies on top.
    for seen in observe_own_mounts()?.iter().rev() {
        let is_origin = origins.contains(&seen.mount_point.as_path());
        if is_origin || is_of_ours(seen) {
            match nix::mount::umount2(&seen.mount_point, MntFlags::MNT_DETACH) {
                Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
                Err(errno) => {
                    let action = "let go, in a view of its own, of";
                    return Err(VolumeError::call(action, &seen.mount_point, errno));
                }
            }
        }
    }
    Ok(())
}

/// By the names that only we give; device-mapper doubles the hyphens in them.
fn is_of_ours(seen: &Mount) -> bool {
    let root = seen.root.to_string_lossy();
    let source = seen.source.replace("--", "-");
    root.contains("/.use-") || source.contains(NAME_PREFIX)
}

struct Opened {
    clone: Mountable,
    at: PathBuf,
    _held: Option<File>,
}

impl Opened {
    fn new(stand: &Stand) -> Result<Self, VolumeError> {
        let (clone, held) = match &stand.clone {
            Mountable::Directory(path) => {
                let file = transfer::open_path(path)
                    .map_err(|error| VolumeError::call("open", path, error))?;
                (Mountable::Directory(descriptor_path(&file)), Some(file))
            }
            other => (other.clone(), None),
        };
        Ok(Self {
            clone,
            at: stand.at.clone(),
            _held: held,
        })
    }
}

fn descriptor_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn observe_own_mounts() -> Result<Vec<Mount>, VolumeError> {
    // `self` would be the process's first thread, which isn't in this namespace.
    let text = files::read_text(Path::new("/proc/thread-self/mountinfo"))?.unwrap_or_default();
    Ok(parse_mountinfo(&text))
}

/// A mount of the kernel's own (proc, sysfs) that can't be changed holds no data.
fn make_read_only(seen: &Mount) -> Result<(), VolumeError> {
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    for option in &seen.options {
        flags |= match option.as_str() {
            "nosuid" => MsFlags::MS_NOSUID,
            "nodev" => MsFlags::MS_NODEV,
            "noexec" => MsFlags::MS_NOEXEC,
            "noatime" => MsFlags::MS_NOATIME,
            "nodiratime" => MsFlags::MS_NODIRATIME,
            "relatime" => MsFlags::MS_RELATIME,
            _ => MsFlags::empty(),
        };
    }
    let none = None::<&Path>;
    match nix::mount::mount(none, &seen.mount_point, none, flags, none) {
        Ok(()) => Ok(()),
        // Hidden below a later mount, or gone since.
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(VolumeError::call(
            "make read-only for the clone's server:",
            &seen.mount_point,
            errno,
        )),
    }
}
