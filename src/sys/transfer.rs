//! Trees of files: opening without following links, and one file's content and metadata.
//!
//! The names below a server's directories belong to the server's account, which could put a link
//! to anything there: nothing here follows one below the root it was given.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, FileTimes, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{
    DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown, symlink,
};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, copy_file_range, fallocate, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek64};

use super::ioctl;

/// Bytes between two looks at whether to go on.
const CHUNK_BYTES: u64 = 8 * 1024 * 1024;
/// Size of the buffer where the kernel can't copy by itself.
const BUFFER_BYTES: usize = 256 * 1024;

/// Opens a directory by its own path, links in it followed: for roots only.
pub fn open_root(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC)
        .open(path)
}

/// Holds on to a path without opening what is there; links followed.
pub fn open_path(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_CLOEXEC)
        .open(path)
}

/// Opens the file `relative` to a root for reading, following no link on the way. ELOOP or ENOTDIR
/// when there is one.
pub fn open_file_beneath(root: &File, relative: &Path) -> io::Result<File> {
    open_beneath(root, relative, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
}

/// Opens the directory `relative` to a root; the empty path is the root itself.
pub fn open_dir_beneath(root: &File, relative: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    if relative.as_os_str().is_empty() {
        return Ok(openat(root, ".", flags | OFlag::O_CLOEXEC, Mode::empty())?);
    }
    open_beneath(root, relative, flags).map(OwnedFd::from)
}

fn open_beneath(root: &File, relative: &Path, last: OFlag) -> io::Result<File> {
    let steps: Vec<&OsStr> = relative
        .components()
        .map(|component| match component {
            Component::Normal(name) => Ok(name),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => Err(io::Error::from(Errno::EINVAL)),
        })
        .collect::<Result<_, _>>()?;
    let Some((name, parents)) = steps.split_last() else {
        return Err(Errno::EINVAL.into());
    };
    let always = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut parent: Option<OwnedFd> = None;
    for step in parents {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | always;
        parent = Some(match &parent {
            Some(dir) => openat(dir, *step, flags, Mode::empty())?,
            None => openat(root, *step, flags, Mode::empty())?,
        });
    }
    let opened = match &parent {
        Some(dir) => openat(dir, *name, last | always, Mode::empty())?,
        None => openat(root, *name, last | always, Mode::empty())?,
    };
    Ok(opened.into())
}

/// A new empty file for its owner alone; whatever had the name is removed first.
pub fn create_file(path: &Path) -> io::Result<File> {
    let open = || {
        OpenOptions::new()
            .write(true)
            .read(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            remove_entry(path)?;
            open()
        }
        other => other,
    }
}

/// Opens the copy made of `from` before, to be written over in place, which is several times
/// quicker than a new file; a new one where that can't give an equal file.
pub fn reopen_file(path: &Path, from: &File) -> io::Result<File> {
    let there = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path);
    let Ok(file) = there else {
        return create_file(path);
    };
    let own = file.metadata()?;
    // An attribute that the source has lost meanwhile would stay.
    let wanted = ioctl::xattrs(from)?;
    let has_more = ioctl::xattrs(&file)?
        .iter()
        .any(|(name, _)| wanted.iter().all(|(other, _)| other != name));
    if own.is_file() && own.nlink() == 1 && !has_more {
        Ok(file)
    } else {
        create_file(path)
    }
}

/// A directory with this owner and mode; one that is there is kept, anything else is replaced.
pub fn make_dir(path: &Path, owner: (u32, u32), mode: u32) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => {}
        Ok(_) => {
            std::fs::remove_file(path)?;
            DirBuilder::new().mode(0o700).create(path)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).create(path)?;
        }
        Err(error) => return Err(error),
    }
    let there = std::fs::symlink_metadata(path)?;
    if (there.uid(), there.gid()) != owner {
        lchown(path, Some(owner.0), Some(owner.1))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(mode & 0o7777))
}

/// A new private directory (0700); AlreadyExists when anything has the name.
pub fn make_new_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// A symlink with this owner, replacing what had the name unless it is the same link.
pub fn make_link(path: &Path, target: &Path, owner: (u32, u32)) -> io::Result<()> {
    match std::fs::read_link(path) {
        Ok(there) if there == target => return Ok(()),
        Ok(_) => remove_entry(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => remove_entry(path)?,
    }
    symlink(target, path)?;
    lchown(path, Some(owner.0), Some(owner.1))
}

/// Removes a file, link or whole directory; what is gone already is fine. Follows no link.
pub fn remove_entry(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes a whole tree, which is moved aside first (`.NAME.deleting`), so that half of one never
/// bears the name of a whole one. Takes up an interrupted removal; what is gone is fine.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}.deleting"));
    remove_entry(&aside)?;
    match std::fs::rename(path, &aside) {
        Ok(()) => remove_entry(&aside),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes an empty directory; `Ok(false)` when it isn't there or isn't empty.
pub fn remove_empty_dir(path: &Path) -> io::Result<bool> {
    match std::fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Copies `size` bytes, holes as holes, over what is in `to`, and sets the length. `step` hears of each chunk's bytes
/// and says whether to go on; Interrupted when it said no. A file that ends early is no error: the
/// caller compares its stat.
pub fn copy_content(
    from: &File,
    to: &File,
    size: u64,
    step: &dyn Fn(u64) -> bool,
) -> io::Result<()> {
    let old_size = to.metadata()?.len();
    let mut position = 0;
    while position < size {
        let (start, end) = next_data(from, position, size)?.unwrap_or((size, size));
        if start > position {
            make_hole(to, position..start.min(old_size))?;
            step(start - position);
        }
        copy_range(from, to, start..end, step)?;
        position = end;
    }
    to.set_len(size)
}

/// An empty range is fine: nothing was there.
fn make_hole(file: &File, range: std::ops::Range<u64>) -> io::Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let length = range.end - range.start;
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    match fallocate(file, flags, range.start as i64, length as i64) {
        Ok(()) => Ok(()),
        Err(Errno::EOPNOTSUPP) => {
            let zeros = vec![0; BUFFER_BYTES];
            let mut at = range.start;
            while at < range.end {
                let want = (range.end - at).min(zeros.len() as u64);
                file.write_all_at(&zeros[..want as usize], at)?;
                at += want;
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The next stretch of data at or after `position`; `None` when only a hole is left.
fn next_data(file: &File, position: u64, size: u64) -> io::Result<Option<(u64, u64)>> {
    let start = match lseek64(file, position as i64, Whence::SeekData) {
        Ok(start) => (start as u64).min(size),
        Err(Errno::ENXIO) => return Ok(None),
        // A filesystem that doesn't know of holes: all is data.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some((position, size))),
        Err(errno) => return Err(errno.into()),
    };
    let end = lseek64(file, start as i64, Whence::SeekHole)? as u64;
    Ok((start < size).then_some((start, end.min(size))))
}

fn copy_range(
    from: &File,
    to: &File,
    range: std::ops::Range<u64>,
    step: &dyn Fn(u64) -> bool,
) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let want = (range.end - at).min(CHUNK_BYTES);
        let (mut read_at, mut write_at) = (at as i64, at as i64);
        let done = copy_file_range(
            from,
            Some(&mut read_at),
            to,
            Some(&mut write_at),
            want as usize,
        );
        let done = match done {
            Ok(done) => done as u64,
            Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS) => {
                copy_through_buffer(from, to, at, want)?
            }
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        if done == 0 {
            return Ok(());
        }
        at += done;
        if !step(done) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
    Ok(())
}

fn copy_through_buffer(from: &File, to: &File, at: u64, want: u64) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES.min(want as usize)];
    let mut done = 0;
    while done < want {
        let length = buffer.len().min((want - done) as usize);
        let read = from.read_at(&mut buffer[..length], at + done)?;
        if read == 0 {
            break;
        }
        to.write_all_at(&buffer[..read], at + done)?;
        done += read as u64;
    }
    Ok(done)
}

/// Makes the empty file `to` share `from`'s blocks. A file without checksums (`chattr +C`, usual
/// for databases on btrfs) can only be cloned into one that is marked so while it is empty.
pub fn clone_content(from: &File, to: &File) -> io::Result<()> {
    if ioctl::is_nocow(from) {
        ioctl::set_nocow(to)?;
    }
    ioctl::clone_file(from, to)
}

/// Gives `to` the owner, mode, extended attributes and times of `from`. Attributes that the target
/// filesystem doesn't know are left out.
pub fn copy_metadata(from: &File, to: &File) -> io::Result<()> {
    let (source, target) = (from.metadata()?, to.metadata()?);
    if (source.uid(), source.gid()) != (target.uid(), target.gid()) {
        fchown(to, Some(source.uid()), Some(source.gid()))?;
    }
    to.set_permissions(Permissions::from_mode(source.mode() & 0o7777))?;
    for (name, value) in ioctl::xattrs(from)? {
        match ioctl::set_xattr(to, &name, &value) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            other => other?,
        }
    }
    to.set_times(
        FileTimes::new()
            .set_accessed(source.accessed()?)
            .set_modified(source.modified()?),
    )
}

/// As `copy_metadata`, for a directory: its times and attributes, once its content is complete.
pub fn copy_dir_metadata(from: &File, to: &Path) -> io::Result<()> {
    copy_metadata(from, &File::open(to)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_stay_holes_and_content_is_equal() {
        let dir = tempfile::tempdir().unwrap();
        let from = create_file(&dir.path().join("a")).unwrap();
        from.write_all_at(&[1; 5000], 3 << 20).unwrap();
        from.write_all_at(&[2; 70_000], 20 << 20).unwrap();
        from.set_len(64 << 20).unwrap();
        let to = create_file(&dir.path().join("b")).unwrap();
        let seen = std::cell::Cell::new(0);
        copy_content(&from, &to, 64 << 20, &|bytes| {
            seen.set(seen.get() + bytes);
            true
        })
        .unwrap();
        assert_eq!(seen.get(), 64 << 20);
        let (a, b) = (
            std::fs::read(dir.path().join("a")).unwrap(),
            std::fs::read(dir.path().join("b")).unwrap(),
        );
        assert!(a == b);
        assert!(to.metadata().unwrap().blocks() * 512 < 1 << 20);
    }

    #[test]
    fn writing_over_an_older_copy_gives_an_equal_file() {
        let dir = tempfile::tempdir().unwrap();
        let from = create_file(&dir.path().join("a")).unwrap();
        from.write_all_at(&[1; 5000], 1 << 20).unwrap();
        from.set_len(2 << 20).unwrap();
        let path = dir.path().join("b");
        std::fs::write(&path, vec![9; 3 << 20]).unwrap();
        let inode = path.metadata().unwrap().ino();
        let to = reopen_file(&path, &from).unwrap();
        copy_content(&from, &to, 2 << 20, &|_| true).unwrap();
        let equal = std::fs::read(dir.path().join("a")).unwrap() == std::fs::read(&path).unwrap();
        assert!(equal);
        let own = path.metadata().unwrap();
        assert_eq!(own.ino(), inode);
        assert!(own.blocks() * 512 < 1 << 20, "the hole is filled");
    }

    #[test]
    fn link_in_place_of_an_older_copy_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "keep").unwrap();
        symlink(&victim, dir.path().join("b")).unwrap();
        let from = create_file(&dir.path().join("a")).unwrap();
        from.write_all_at(b"new!", 0).unwrap();
        let to = reopen_file(&dir.path().join("b"), &from).unwrap();
        copy_content(&from, &to, 4, &|_| true).unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"keep");
        assert_eq!(std::fs::read(dir.path().join("b")).unwrap(), b"new!");
    }

    #[test]
    fn links_below_the_root_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::fs::write(dir.path().join("real/t.ibd"), b"x").unwrap();
        symlink("real", dir.path().join("schema")).unwrap();
        symlink("/etc/passwd", dir.path().join("real/link")).unwrap();
        let root = open_root(dir.path()).unwrap();
        assert!(open_file_beneath(&root, Path::new("real/t.ibd")).is_ok());
        for path in ["schema/t.ibd", "real/link", "../etc", "/etc/passwd", ""] {
            assert!(
                open_file_beneath(&root, Path::new(path)).is_err(),
                "{path:?}"
            );
        }
    }
}
