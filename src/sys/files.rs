//! Files that are ours: written whole, durably, for their owner only.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A file operation that failed, with the path it failed on.
#[derive(Debug, thiserror::Error)]
#[error("{action} {}: {source}", path.display())]
pub struct FileError {
    pub action: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError {
        action,
        path,
        source,
    }
}

/// Makes a directory and its missing parents, mode 0700; one that exists is left as it is.
pub fn make_private_dir(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("make directory", path))
}

/// Takes everybody else's rights to a directory away, where there are any.
pub fn make_private(path: &Path) -> Result<(), FileError> {
    let permissions = path
        .metadata()
        .map_err(failed("look at", path))?
        .permissions();
    if permissions.mode() & 0o077 == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o700))
        .map_err(failed("make private", path))
}

/// Replaces a file durably: temporary file beside it (0600), fsync, rename, fsync of the directory.
/// After a crash the old content or the new one is there, never a part.
pub fn replace(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.{}.new", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    })();
    written
        .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
        .map_err(failed("write", path))
}

/// As `replace`, for a file that everybody may read; in a directory that may be somebody else's, nothing
/// is followed out of it.
pub fn publish(path: &Path, content: &[u8]) -> Result<(), FileError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.{}.new", std::process::id()));
    remove(&temporary)?;
    let mut file = create_private(&temporary)?;
    let written = (|| {
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    })();
    written
        .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
        .map_err(failed("write", path))
}

/// Whether a symbolic link stands there, wherever it leads.
pub fn is_link(path: &Path) -> bool {
    path.symlink_metadata()
        .is_ok_and(|there| there.is_symlink())
}

/// Whether `replace_alike` can do its work there.
pub fn check_replaceable(path: &Path) -> Result<(), FileError> {
    let refuse = |why: &'static str| failed("replace", path)(io::Error::other(why));
    let there = path.symlink_metadata().map_err(failed("look at", path))?;
    if there.is_symlink() {
        return Err(refuse(
            "it is a symbolic link; name the file that it leads to",
        ));
    }
    if !there.is_file() {
        return Err(refuse("it is no regular file"));
    }
    if there.nlink() > 1 {
        return Err(refuse(
            "it has several names (hard links), and only one would change",
        ));
    }
    let parent = path.parent().unwrap_or(Path::new("."));
    nix::unistd::access(parent, nix::unistd::AccessFlags::W_OK)
        .map_err(|errno| failed("write in", parent)(errno.into()))
}

/// As `replace`, for a file that isn't ours: it keeps its mode and owner. The directory may be
/// somebody else's, so nothing is followed out of it, and the new file is made under a new name.
pub fn replace_alike(path: &Path, content: &[u8]) -> Result<(), FileError> {
    check_replaceable(path)?;
    let there = path.symlink_metadata().map_err(failed("look at", path))?;
    let parent = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = parent.join(format!(".{name}.{}.new", std::process::id()));
    // One that a killed process with our number left; a link is removed, not followed.
    remove(&temporary)?;
    let mut file = create_private(&temporary)?;
    let written = (|| {
        file.write_all(content)?;
        std::os::unix::fs::fchown(&file, Some(there.uid()), Some(there.gid()))?;
        // After the owner, since that takes set-id bits away.
        file.set_permissions(Permissions::from_mode(there.mode() & 0o7777))?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(parent)?.sync_all()
    })();
    written
        .inspect_err(|_| drop(std::fs::remove_file(&temporary)))
        .map_err(failed("write", path))
}

/// What a `replace` that was killed has left: its process is gone. Older versions put no process into
/// the name.
pub fn is_left_by_replace(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some(inner) = name.strip_prefix('.').and_then(|n| n.strip_suffix(".new")) else {
        return false;
    };
    let pid = inner
        .rsplit_once('.')
        .and_then(|(_, pid)| pid.parse::<u32>().ok());
    pid.is_none_or(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// Removes what killed replacements have left in a directory of ours; their paths.
pub fn sweep_replacements(directory: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut left = list(directory)?;
    left.retain(|path| is_left_by_replace(path) && path.is_file());
    for path in &left {
        remove(path)?;
    }
    Ok(left)
}

/// A new file for its owner alone; an error when the name is taken.
pub fn create_private(path: &Path) -> Result<File, FileError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("create", path))
}

/// Syncs a file that was written under `partial`, and gives it its name unless that is taken.
pub fn finish(file: File, partial: &Path, path: &Path) -> Result<(), FileError> {
    (|| {
        file.sync_all()?;
        std::fs::hard_link(partial, path)?;
        std::fs::remove_file(partial)?;
        File::open(
            path.parent()
                .filter(|dir| !dir.as_os_str().is_empty())
                .unwrap_or(Path::new(".")),
        )?
        .sync_all()
    })()
    .map_err(failed("write", path))
}

/// Removes a file durably; `Ok(false)` when it wasn't there.
pub fn remove(path: &Path) -> Result<bool, FileError> {
    match std::fs::remove_file(path) {
        Ok(()) => {
            let parent = path.parent().unwrap_or(Path::new("."));
            File::open(parent)
                .and_then(|dir| dir.sync_all())
                .map_err(failed("sync directory", parent))?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

/// Removes a directory with all in it; `Ok(false)` when it wasn't there. Follows no link.
pub fn remove_tree(path: &Path) -> Result<bool, FileError> {
    match std::fs::remove_dir_all(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove", path)(error)),
    }
}

/// Removes a directory that has nothing in it; `Ok(false)` when it isn't there or isn't empty.
pub fn remove_empty_dir(path: &Path) -> Result<bool, FileError> {
    super::transfer::remove_empty_dir(path).map_err(failed("remove directory", path))
}

/// Makes a directory for one account alone, parents with it (those for everybody to pass through).
pub fn make_dir_for(path: &Path, owner: (u32, u32)) -> Result<(), FileError> {
    let make = |path: &Path, mode| {
        match DirBuilder::new().mode(mode).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
        .map_err(failed("make directory", path))
    };
    if let Some(parent) = path.parent() {
        make(parent, 0o711)?;
        // Whatever the umask was.
        std::fs::set_permissions(parent, Permissions::from_mode(0o711))
            .map_err(failed("make passable", parent))?;
    }
    make(path, 0o700)?;
    own(path, owner)
}

/// Hands a file or directory to an account; follows no link.
pub fn own(path: &Path, owner: (u32, u32)) -> Result<(), FileError> {
    std::os::unix::fs::lchown(path, Some(owner.0), Some(owner.1)).map_err(failed("own", path))
}

/// Hands a directory with all in it to an account; follows no link.
pub fn own_tree(path: &Path, owner: (u32, u32)) -> Result<(), FileError> {
    own(path, owner)?;
    let is_dir = path
        .symlink_metadata()
        .map_err(failed("look at", path))?
        .is_dir();
    if is_dir {
        for entry in list(path)? {
            own_tree(&entry, owner)?;
        }
    }
    Ok(())
}

/// Gives one directory the other's mode.
pub fn copy_mode(from: &Path, to: &Path) -> Result<(), FileError> {
    let there = std::fs::metadata(from).map_err(failed("look at", from))?;
    std::fs::set_permissions(to, there.permissions()).map_err(failed("set mode of", to))
}

/// Whether both are on one filesystem, as far as that can be told.
pub fn are_on_one_filesystem(one: &Path, other: &Path) -> bool {
    match (std::fs::metadata(one), std::fs::metadata(other)) {
        (Ok(one), Ok(other)) => one.dev() == other.dev(),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

/// A new file with this content for one account alone (0600).
pub fn write_for(path: &Path, content: &[u8], owner: (u32, u32)) -> Result<(), FileError> {
    (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        std::os::unix::fs::fchown(&file, Some(owner.0), Some(owner.1))?;
        file.write_all(content)
    })()
    .map_err(failed("write", path))
}

/// Gives a file another name on the same filesystem.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::rename(from, to).map_err(failed("rename", from))
}

/// Opens a log that is only ever appended to, mode 0600.
pub fn open_append(path: &Path) -> Result<File, FileError> {
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("open", path))?;
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent)
        .and_then(|dir| dir.sync_all())
        .map_err(failed("sync directory", parent))?;
    Ok(file)
}

/// Appends one line and waits until it is on disk. A torn one before it (a full disk, a power cut) is
/// ended first, or this one would be a part of it, and lost.
pub fn append_line(file: &mut File, path: &Path, line: &str) -> Result<(), FileError> {
    let mut bytes = Vec::with_capacity(line.len() + 2);
    if is_torn(file).map_err(failed("read the end of", path))? {
        bytes.push(b'\n');
    }
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    let length = file.metadata().map_err(failed("look at", path))?.len();
    let written = file.write_all(&bytes).and_then(|()| file.sync_data());
    if written.is_err() {
        // What was said to have failed must not be read later.
        drop(file.set_len(length));
    }
    written.map_err(failed("append to", path))
}

fn is_torn(file: &File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    Ok(last != [b'\n'])
}

/// The whole file as text; `Ok(None)` when it isn't there.
pub fn read_text(path: &Path) -> Result<Option<String>, FileError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// As `read_text`, what isn't UTF-8 replaced.
pub fn read_lossy(path: &Path) -> Result<Option<String>, FileError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

/// A file's text, what isn't UTF-8 replaced; of a longer one the first and the last `bytes_each`.
pub fn read_ends(path: &Path, bytes_each: u64) -> Result<String, FileError> {
    (|| {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        let length = file.metadata()?.len();
        let mut bytes = Vec::new();
        (&file).take(bytes_each).read_to_end(&mut bytes)?;
        if length > 2 * bytes_each {
            bytes.extend_from_slice(b"\n[...]\n");
            file.seek(SeekFrom::Start(length - bytes_each))?;
        }
        file.take(bytes_each).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    })()
    .map_err(failed("read", path))
}

/// How long a file is; `None` when it isn't there. Links followed; of a device it says 0.
pub fn length(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|there| there.len())
}

/// Where it really is, without links; `None` when that can't be told.
pub fn real_path(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok()
}

/// User and group of what is there; links followed.
pub fn owner_of(path: &Path) -> Result<(u32, u32), FileError> {
    let there = std::fs::metadata(path).map_err(failed("look at", path))?;
    Ok((there.uid(), there.gid()))
}

/// Bytes in all and bytes free for ordinary users, of the filesystem that a path lies on.
pub fn space(path: &Path) -> Option<(u64, u64)> {
    let stat = nix::sys::statfs::statfs(path).ok()?;
    let size = u64::try_from(stat.block_size()).ok()?;
    Some((stat.blocks() * size, stat.blocks_available() * size))
}

/// The entries of a directory by name, sorted; empty when the directory isn't there.
pub fn list(path: &Path) -> Result<Vec<PathBuf>, FileError> {
    let entries = match std::fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read directory", path)(error)),
    };
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(failed("read directory", path))?;
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_files_are_private_and_leave_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(read_text(&path).unwrap().as_deref(), Some("two"));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(list(dir.path()).unwrap(), vec![path]);
    }

    #[test]
    fn a_line_after_a_torn_one_stands_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log.jsonl");
        std::fs::write(&path, "{\"whole\":1}\n{\"to").unwrap();
        let mut file = open_append(&path).unwrap();
        append_line(&mut file, &path, "{\"next\":1}").unwrap();
        append_line(&mut file, &path, "{\"last\":1}").unwrap();
        let text = read_text(&path).unwrap().unwrap();
        assert_eq!(text, "{\"whole\":1}\n{\"to\n{\"next\":1}\n{\"last\":1}\n");
    }

    #[test]
    fn what_killed_replacements_leave_is_known_by_its_dead_process() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, "{").unwrap();
            path
        };
        let own = make(&format!(".a.json.{}.new", std::process::id()));
        // Above the highest number that Linux gives.
        let dead = make(".a.json.4194305.new");
        let old = make(".b.json.new");
        let file = make("a.json");
        assert_eq!(sweep_replacements(dir.path()).unwrap(), [dead, old]);
        assert_eq!(list(dir.path()).unwrap(), [own, file]);
    }

    #[test]
    fn of_a_long_file_both_ends_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        for (content, wanted) in [
            ("", ""),
            ("abc", "abc"),
            ("abcdef", "abcdef"),
            ("abcdefg", "abc\n[...]\nefg"),
        ] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(read_ends(&path, 3).unwrap(), wanted);
        }
    }

    #[test]
    fn removing_twice_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        replace(&path, b"").unwrap();
        assert!(remove(&path).unwrap());
        assert!(!remove(&path).unwrap());
    }
}
