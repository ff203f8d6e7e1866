//! Taking a volume off its mount point and mounting another there in the same way.
//!
//! How it was mounted is one line of text, which a back-end writes down with its volume, so that
//! it outlives a kill in between.

use std::path::Path;

use nix::mount::MsFlags;

use super::layout::{Mount, observe_mounts};
use super::mount::{mounts_where, unmount};
use super::{Mountable, VolumeError};

/// The words of mount(8) that are flags of mount(2); others go to the filesystem as they are.
const FLAGS: [(&str, MsFlags); 9] = [
    ("ro", MsFlags::MS_RDONLY),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
];

/// What is mounted on exactly this path, last.
pub(super) fn mounted_at(path: &Path) -> Result<Option<Mount>, VolumeError> {
    let mounts = observe_mounts()?;
    Ok(mounts
        .into_iter()
        .rev()
        .find(|mount| mount.mount_point == path))
}

/// As one line, for `mount_again`.
pub(super) fn render_options(mount: &Mount) -> String {
    mount.options.join(",")
}

/// Refuses a volume that isn't wholly mounted at `path`, or that `check_free_of` refuses.
pub(super) fn check_only_at(
    name: &str,
    path: &Path,
    is_it: &dyn Fn(&Mount) -> bool,
) -> Result<(), VolumeError> {
    let mount = mounted_at(path)?;
    if !mount.is_some_and(|mount| is_it(&mount) && mount.root == Path::new("/")) {
        return Err(not_mounted(name, path));
    }
    check_free_of(name, path, is_it)
}

pub(super) fn not_mounted(name: &str, path: &Path) -> VolumeError {
    VolumeError::refused(
        format!("{name} isn't mounted at {}", path.display()),
        "Mount it there, as it was when the snapshot was taken.",
    )
}

/// Refuses a path with something else mounted at it or below it, and a volume that is mounted
/// elsewhere in this namespace.
pub(super) fn check_free_of(
    name: &str,
    path: &Path,
    is_it: &dyn Fn(&Mount) -> bool,
) -> Result<(), VolumeError> {
    if path == Path::new("/") {
        return Err(VolumeError::refused(
            format!("{name} is the root of the running system"),
            "Restore to another directory, and copy from there.",
        ));
    }
    refuse_elsewhere(name, path, is_it)?;
    refuse_below(name, path, is_it)
}

/// Unmounts snapshots of a dataset that are mounted in it, which its `.zfs` does by itself.
pub(super) fn take_down_snapshots(dataset: &str, path: &Path) -> Result<(), VolumeError> {
    let start = format!("{dataset}@");
    for mount in observe_mounts()?.iter().rev() {
        if mount.source.starts_with(&start) && mount.mount_point.starts_with(path) {
            unmount(&mount.mount_point)?;
        }
    }
    Ok(())
}

/// Unmounts a volume from `path`, if it is mounted there. Busy when it stays in use.
pub(super) fn take_down(
    name: &str,
    path: &Path,
    is_it: &dyn Fn(&Mount) -> bool,
) -> Result<(), VolumeError> {
    refuse_elsewhere(name, path, is_it)?;
    while mounted_at(path)?.is_some_and(|mount| is_it(&mount)) {
        unmount(path)?;
    }
    match mounts_where(is_it)?.first() {
        None => Ok(()),
        Some(place) => Err(VolumeError::Busy {
            name: name.to_owned(),
            reason: format!(
                "it is mounted at {} in another mount namespace",
                place.display()
            ),
        }),
    }
}

/// Mounts on `path` with what `render_options` told.
pub(super) fn mount_again(what: &Mountable, path: &Path, options: &str) -> Result<(), VolumeError> {
    let (flags, rest) = parse_options(options);
    let (source, fs_type) = match what {
        Mountable::Device { path, fs_type } => (path.clone(), fs_type.as_str()),
        Mountable::Dataset(name) => (name.into(), "zfs"),
        Mountable::Directory(_) => {
            return Err(VolumeError::refused(
                format!("{} is no volume to mount", path.display()),
                "Mount it by hand.",
            ));
        }
    };
    let rest = (!rest.is_empty()).then_some(Path::new(&rest).to_owned());
    nix::mount::mount(
        Some(&source),
        path,
        Some(Path::new(fs_type)),
        flags,
        rest.as_ref(),
    )
    .map_err(|errno| VolumeError::call("mount again on", path, errno))
}

fn refuse_elsewhere(
    name: &str,
    path: &Path,
    is_it: &dyn Fn(&Mount) -> bool,
) -> Result<(), VolumeError> {
    let elsewhere = observe_mounts()?
        .into_iter()
        .find(|mount| is_it(mount) && mount.mount_point != path);
    match elsewhere {
        None => Ok(()),
        Some(mount) => Err(VolumeError::Busy {
            name: name.to_owned(),
            reason: format!("it is mounted at {} too", mount.mount_point.display()),
        }),
    }
}

fn refuse_below(
    name: &str,
    path: &Path,
    is_it: &dyn Fn(&Mount) -> bool,
) -> Result<(), VolumeError> {
    let snapshots = format!("{name}@");
    let below = observe_mounts()?.into_iter().find(|mount| {
        // What mounts on demand lies below what it mounted.
        let is_there = mount.mount_point.starts_with(path) && mount.fs_type != "autofs";
        is_there && !is_it(mount) && !mount.source.starts_with(&snapshots)
    });
    match below {
        None => Ok(()),
        Some(mount) => Err(VolumeError::refused(
            format!(
                "{} is mounted at {}",
                mount.source,
                mount.mount_point.display()
            ),
            "Restore to another directory, and copy from there; \
             or keep that filesystem outside of the data.",
        )),
    }
}

/// Flags, and what is for the filesystem.
fn parse_options(options: &str) -> (MsFlags, String) {
    let mut flags = MsFlags::empty();
    let mut rest = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        match FLAGS.iter().find(|(name, _)| *name == word) {
            Some((_, flag)) => flags |= *flag,
            None if word == "rw" => {}
            None => rest.push(word),
        }
    }
    // What mountinfo shows for it is nothing; and relatime is what no word at all gives.
    if !options.is_empty() && !flags.intersects(MsFlags::MS_NOATIME | MsFlags::MS_RELATIME) {
        flags |= MsFlags::MS_STRICTATIME;
    }
    (flags, rest.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let (flags, rest) = parse_options("rw,noatime,attr2,logbufs=8,nodev");
        assert_eq!(flags, MsFlags::MS_NOATIME | MsFlags::MS_NODEV);
        assert_eq!(rest, "attr2,logbufs=8");
        let (flags, rest) = parse_options("rw,relatime,ro");
        let expected = MsFlags::MS_RDONLY | MsFlags::MS_RELATIME;
        assert_eq!((flags, rest.as_str()), (expected, ""));
        assert_eq!(parse_options("rw").0, MsFlags::MS_STRICTATIME);
        assert_eq!(parse_options("").0, MsFlags::empty());
    }
}
