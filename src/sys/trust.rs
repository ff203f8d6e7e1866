//! Whom this process may believe: a file that nobody but root, or the account that runs it, can have
//! written or put in its place. What root reads decides what root runs.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

/// Somebody else could have written it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {reason}", path.display())]
pub struct Untrusted {
    pub path: PathBuf,
    /// A fragment: "belongs to the account 1000".
    pub reason: String,
    /// A sentence.
    pub hint: String,
}

/// Looks at what is there, at every directory on the way to it, and on the way to where a link leads.
/// What isn't there yet is as good as the directory that it would be made in.
pub fn check(path: &Path) -> Result<(), Untrusted> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Ok(target) = path.canonicalize() {
        check_entry(&target, false)?;
        check_way(&target)?;
    }
    check_way(&path)
}

/// As `check`, and what is in a directory of ours, `levels` deep.
pub fn check_tree(path: &Path, levels: usize) -> Result<(), Untrusted> {
    check(path)?;
    check_inside(path, levels)
}

fn check_inside(directory: &Path, levels: usize) -> Result<(), Untrusted> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    for entry in entries.flatten().map(|entry| entry.path()) {
        check_entry(&entry, false)?;
        if levels > 1 && entry.is_dir() {
            check_inside(&entry, levels - 1)?;
        }
    }
    Ok(())
}

fn check_way(path: &Path) -> Result<(), Untrusted> {
    let there = path.ancestors().skip(1);
    there
        .filter_map(|parent| parent.canonicalize().ok())
        .try_for_each(|parent| check_entry(&parent, true))
}

fn check_entry(path: &Path, on_the_way: bool) -> Result<(), Untrusted> {
    let Ok(found) = path.symlink_metadata() else {
        return Ok(());
    };
    let shown = path.display();
    let untrusted = |reason: String, hint: String| {
        Err(Untrusted {
            path: path.to_owned(),
            reason,
            hint,
        })
    };
    let me = geteuid().as_raw();
    if ![0, me].contains(&found.uid()) {
        return untrusted(
            format!("belongs to another account (uid {})", found.uid()),
            format!(
                "What stands there decides what is run. If it is right, give it to yourself: \
                 `chown {me} {shown}`."
            ),
        );
    }
    if is_open(&found) && !(on_the_way && found.mode() & libc::S_ISVTX != 0) {
        return untrusted(
            format!(
                "may be written by others (mode {:o})",
                found.mode() & 0o7777
            ),
            format!("Make sure that it is right, then: `chmod go-w {shown}`."),
        );
    }
    Ok(())
}

/// Others may write to it; root's group is root. A link's own mode means nothing.
fn is_open(found: &Metadata) -> bool {
    let by_group = found.mode() & 0o020 != 0 && found.gid() != 0;
    !found.is_symlink() && (by_group || found.mode() & 0o002 != 0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_what_nobody_else_can_write_is_believed() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("dir");
        std::fs::create_dir(&dir).unwrap();
        let file = dir.join("file");
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        mode(&dir, 0o755);
        mode(&file, 0o644);
        assert_eq!(check(&file), Ok(()));
        assert_eq!(check(&dir.join("not-there")), Ok(()));
        assert_eq!(check_tree(&dir, 1), Ok(()));
        for open in [0o646, 0o602] {
            mode(&file, open);
            assert_eq!(check(&file).unwrap_err().path, file.canonicalize().unwrap());
            assert!(check_tree(&dir, 1).is_err());
        }
        mode(&file, 0o600);
        // Others could put another file in its place, or where a link leads.
        let link = place.path().join("link");
        symlink(&file, &link).unwrap();
        mode(&dir, 0o757);
        for path in [&file, &link, &dir.join("not-there")] {
            let error = check(path).unwrap_err();
            assert_eq!(error.path, dir.canonicalize().unwrap());
            assert!(error.hint.contains("chmod go-w"), "{}", error.hint);
        }
        // In a sticky directory only the owner can.
        mode(&dir, 0o1777);
        assert_eq!(check(&file), Ok(()));
        mode(&dir, 0o755);
        if geteuid().is_root() {
            std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
            let error = check(&file).unwrap_err();
            assert!(error.to_string().contains("uid 12345"), "{error}");
        }
    }
}
