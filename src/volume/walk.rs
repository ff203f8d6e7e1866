//! What a file-by-file copy takes: which directories, and which files in them.
//!
//! The server goes on living while they are walked: what vanishes is passed over, and no link is
//! followed, since the server's account could point one anywhere.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::{FileStat, SFlag, fstatat};

use super::VolumeError;
use super::layout::{Layout, Role};
use crate::sys::transfer;

/// One directory to copy, wholly or some files of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    pub from: PathBuf,
    /// Where it goes within the snapshot: `data`, `places/1`.
    pub name: String,
    pub take: Take,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Take {
    All,
    /// Only these directly in it.
    Some(Vec<Rule>),
}

/// Names that are taken or left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    Name(OsString),
    /// The files of a binary or relay log with this base name, and its index.
    Log(OsString),
}

impl Rule {
    fn fits(&self, name: &OsStr) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Log(base) => is_log_of(base, name),
        }
    }
}

/// What to walk, and what to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roots {
    pub roots: Vec<Root>,
    /// Directory and base name of each relay log: left out.
    relay_logs: Vec<(PathBuf, OsString)>,
    /// Of the binary log: kept, even where a relay log's name is a beginning of its.
    binary_logs: Vec<(PathBuf, OsString)>,
    /// Relative to a root: neither copied nor removed at the target.
    untouched: Vec<PathBuf>,
}

impl Roots {
    /// One directory with all in it, which becomes the target itself.
    pub fn whole(from: &Path) -> Self {
        Self {
            roots: vec![Root {
                from: from.to_owned(),
                name: String::new(),
                take: Take::All,
            }],
            relay_logs: Vec::new(),
            binary_logs: Vec::new(),
            untouched: Vec::new(),
        }
    }

    /// The files of one binary log, which become the target's.
    pub fn of_log(base: &Path) -> Option<Self> {
        let mut roots = Self::whole(base.parent()?);
        let rule = Rule::Log(base.file_name()?.to_owned());
        roots.roots[0].take = Take::Some(vec![rule]);
        Some(roots)
    }

    /// Without the relay logs of this base name.
    pub fn without_relay_log(mut self, base: &Path) -> Self {
        if let (Some(parent), Some(name)) = (base.parent(), base.file_name()) {
            self.relay_logs.push((parent.to_owned(), name.to_owned()));
        }
        self
    }

    /// The same, but these stay as they are at the target, and aren't copied.
    pub fn without(self, untouched: Vec<PathBuf>) -> Self {
        Self { untouched, ..self }
    }

    pub fn is_untouched(&self, relative: &Path) -> bool {
        self.untouched.iter().any(|path| path == relative)
    }
}

/// Decides the directories to copy. `is_dir` tells directories from files among the places.
pub fn plan_roots(layout: &Layout, is_dir: &dyn Fn(&Path) -> bool) -> Result<Roots, VolumeError> {
    let mut whole: Vec<PathBuf> = vec![layout.data_dir.clone()];
    let mut parts: BTreeMap<PathBuf, Vec<Rule>> = BTreeMap::new();
    let (mut relay_logs, mut binary_logs) = (Vec::new(), Vec::new());
    for place in layout.places() {
        let parent = place.path.parent().unwrap_or(Path::new("/")).to_owned();
        let name = place.path.file_name().unwrap_or_default().to_owned();
        match place.role {
            Role::RelayLog => relay_logs.push((parent, name)),
            Role::BinaryLog => {
                binary_logs.push((parent.clone(), name.clone()));
                parts.entry(parent).or_default().push(Rule::Log(name));
            }
            Role::Data
            | Role::InnodbData
            | Role::Redo
            | Role::Undo
            | Role::Doublewrite
            | Role::AriaLog
            | Role::Tables
            | Role::KeyRing => {
                if is_dir(&place.path) {
                    whole.push(place.path.clone());
                } else {
                    parts.entry(parent).or_default().push(Rule::Name(name));
                }
            }
        }
    }
    if let Some(around) = whole
        .iter()
        .find(|path| **path != layout.data_dir && layout.data_dir.starts_with(path))
    {
        return Err(VolumeError::refused(
            format!(
                "{} holds the data directory and more, and would be copied whole",
                around.display()
            ),
            "Keep the server's other files in a directory of their own, or beside the data.",
        ));
    }
    Ok(Roots {
        roots: number_roots(&whole, parts),
        relay_logs,
        binary_logs,
        untouched: Vec::new(),
    })
}

/// Leaves out what lies in another root, and numbers the rest; the data directory comes first.
fn number_roots(whole: &[PathBuf], parts: BTreeMap<PathBuf, Vec<Rule>>) -> Vec<Root> {
    let mut roots: Vec<(PathBuf, Take)> = Vec::new();
    for (index, path) in whole.iter().enumerate() {
        let covered = whole.iter().enumerate().any(|(other, around)| {
            let first_of_equals = around == path && other < index;
            first_of_equals || (around != path && path.starts_with(around))
        });
        if !covered {
            roots.push((path.clone(), Take::All));
        }
    }
    for (path, rules) in parts {
        if !whole.iter().any(|around| path.starts_with(around)) {
            roots.push((path, Take::Some(rules)));
        }
    }
    let name = |index| match index {
        0 => "data".to_owned(),
        other => format!("places/{other}"),
    };
    roots
        .into_iter()
        .enumerate()
        .map(|(index, (from, take))| Root {
            from,
            name: name(index),
            take,
        })
        .collect()
}

/// `base.000001`, `base.index`, and with a channel or connection `base-channel.000001`. Channel
/// names are written so that they hold no dot (MySQL manual, "Replication Channel Naming").
pub fn is_log_of(base: &OsStr, name: &OsStr) -> bool {
    let (base, name) = (base.as_bytes(), name.as_bytes());
    let Some(rest) = name.strip_prefix(base).filter(|_| !base.is_empty()) else {
        return false;
    };
    let Some(dot) = rest.iter().position(|&byte| byte == b'.') else {
        return false;
    };
    let (channel, end) = (&rest[..dot], &rest[dot + 1..]);
    let numbered = end.len() >= 6 && end.iter().all(u8::is_ascii_digit);
    (channel.is_empty() || channel[0] == b'-') && (numbered || end == b"index")
}

/// What a numbered log is named after: `mysql-bin` for `mysql-bin.000007`.
pub fn log_base(name: &OsStr) -> Option<&OsStr> {
    let path = Path::new(name);
    let number = path.extension()?.as_bytes();
    let is_number = number.len() >= 6 && number.iter().all(u8::is_ascii_digit);
    is_number.then(|| path.file_stem()).flatten()
}

/// Why an entry isn't copied; `None` when it is.
fn left_out(roots: &Roots, root: &Root, relative: &Path, kind: SFlag) -> Option<&'static str> {
    let name = relative.file_name().unwrap_or_default();
    let at_top = relative.components().count() == 1;
    if roots.is_untouched(relative) {
        return Some("");
    }
    if at_top
        && let Take::Some(rules) = &root.take
        && !rules.iter().any(|rule| rule.fits(name))
    {
        return Some("");
    }
    let text = name.to_string_lossy();
    match kind {
        SFlag::S_IFREG if at_top && is_temporary(&text) => Some("temporary tablespace"),
        SFlag::S_IFREG if at_top && text.ends_with(".pid") => Some("pid file"),
        SFlag::S_IFREG if at_top && text.ends_with(".sock.lock") => Some("socket's lock"),
        SFlag::S_IFREG if is_relay_log(roots, root, relative) => Some("relay log"),
        SFlag::S_IFDIR if at_top && text == "#innodb_temp" => Some("temporary tablespaces"),
        SFlag::S_IFDIR if at_top && text == "lost+found" => Some(""),
        SFlag::S_IFREG | SFlag::S_IFDIR | SFlag::S_IFLNK => None,
        SFlag::S_IFSOCK => Some("socket"),
        SFlag::S_IFIFO => Some("fifo"),
        _ => Some("device"),
    }
}

/// `ibtmp1` and its like.
fn is_temporary(name: &str) -> bool {
    name.strip_prefix("ibtmp")
        .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
}

fn is_relay_log(roots: &Roots, root: &Root, relative: &Path) -> bool {
    let path = root.from.join(relative);
    let (dir, name) = (path.parent(), path.file_name().unwrap_or_default());
    let of = |logs: &[(PathBuf, OsString)]| {
        logs.iter()
            .any(|(own, base)| Some(&**own) == dir && is_log_of(base, name))
    };
    let is_binary_log = roots.binary_logs.iter().any(|(own, base)| {
        let exact = name.as_bytes().strip_prefix(base.as_bytes());
        Some(&**own) == dir && exact.is_some_and(|rest| rest.first() == Some(&b'.'))
    });
    of(&roots.relay_logs) && !is_binary_log
}

/// Files that a quiet server still writes, and whose content needn't fit the rest: its own logs
/// and, beside the IO thread, MariaDB's replication files.
pub fn may_change(relative: &Path) -> bool {
    let name = relative.file_name().unwrap_or_default().to_string_lossy();
    let at_top = relative.components().count() == 1;
    let is_info = ["master", "relay-log", "multi-master"]
        .iter()
        .any(|start| name.starts_with(start))
        && name.ends_with(".info");
    let is_log = name.ends_with(".log") && name != "tc.log" && !name.starts_with("undo");
    at_top && (is_info || is_log || name.ends_with(".err"))
}

/// One thing met on the walk.
pub enum Met<'a> {
    /// Comes before what is in it; `names` are all that will be copied from it, sorted.
    Dir {
        relative: &'a Path,
        stat: &'a FileStat,
        names: &'a [OsString],
    },
    File {
        relative: &'a Path,
        stat: &'a FileStat,
    },
    Link {
        relative: &'a Path,
        stat: &'a FileStat,
        target: &'a Path,
    },
    /// Not copied, and worth a word.
    Left {
        relative: &'a Path,
        reason: &'static str,
    },
}

/// Walks one root, directories before their content. `dir` is the root, opened.
pub fn walk(
    roots: &Roots,
    root: &Root,
    dir: &File,
    visit: &mut dyn FnMut(Met<'_>) -> Result<(), VolumeError>,
) -> Result<(), VolumeError> {
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        walk_dir(roots, root, dir, &relative, &mut todo, visit)?;
    }
    Ok(())
}

fn walk_dir(
    roots: &Roots,
    root: &Root,
    top: &File,
    relative: &Path,
    todo: &mut Vec<PathBuf>,
    visit: &mut dyn FnMut(Met<'_>) -> Result<(), VolumeError>,
) -> Result<(), VolumeError> {
    let failed = |error| VolumeError::call("read directory", &root.from.join(relative), error);
    let opened = match transfer::open_dir_beneath(top, relative) {
        Ok(opened) => opened,
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    let mut dir = Dir::from_fd(opened).map_err(|errno| failed(errno.into()))?;
    let names = read_names(&mut dir).map_err(|errno| failed(errno.into()))?;
    let own = nix::sys::stat::fstat(&dir).map_err(|errno| failed(errno.into()))?;
    let kept = keep(roots, root, relative, names, visit, &dir)?;
    visit(Met::Dir {
        relative,
        stat: &own,
        names: &kept,
    })?;
    for name in &kept {
        let path = relative.join(name);
        let Some(stat) = stat_at(&dir, name).map_err(|errno| failed(errno.into()))? else {
            continue;
        };
        match kind_of(&stat) {
            SFlag::S_IFDIR => todo.push(path),
            SFlag::S_IFLNK => match readlinkat(&dir, name.as_os_str()) {
                Ok(target) => visit(Met::Link {
                    relative: &path,
                    stat: &stat,
                    target: Path::new(&target),
                })?,
                Err(Errno::ENOENT | Errno::EINVAL) => {}
                Err(errno) => return Err(failed(errno.into())),
            },
            _ => visit(Met::File {
                relative: &path,
                stat: &stat,
            })?,
        }
    }
    Ok(())
}

/// The names of a directory that are to be copied. Kinds come with the names where the filesystem
/// tells them, so that this costs no stat.
fn keep(
    roots: &Roots,
    root: &Root,
    relative: &Path,
    names: Vec<(OsString, Option<SFlag>)>,
    visit: &mut dyn FnMut(Met<'_>) -> Result<(), VolumeError>,
    dir: &Dir,
) -> Result<Vec<OsString>, VolumeError> {
    let mut kept = Vec::with_capacity(names.len());
    for (name, kind) in names {
        let kind = match kind {
            Some(kind) => kind,
            None => match stat_at(dir, &name) {
                Ok(Some(stat)) => kind_of(&stat),
                Ok(None) => continue,
                Err(errno) => return Err(VolumeError::call("look at", &root.from, errno)),
            },
        };
        let path = relative.join(&name);
        match left_out(roots, root, &path, kind) {
            None => kept.push(name),
            Some("") => {}
            Some(reason) => visit(Met::Left {
                relative: &path,
                reason,
            })?,
        }
    }
    kept.sort_unstable();
    Ok(kept)
}

fn read_names(dir: &mut Dir) -> Result<Vec<(OsString, Option<SFlag>)>, Errno> {
    use nix::dir::Type;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let kind = entry.file_type().map(|kind| match kind {
            Type::File => SFlag::S_IFREG,
            Type::Directory => SFlag::S_IFDIR,
            Type::Symlink => SFlag::S_IFLNK,
            Type::Socket => SFlag::S_IFSOCK,
            Type::Fifo => SFlag::S_IFIFO,
            Type::BlockDevice => SFlag::S_IFBLK,
            Type::CharacterDevice => SFlag::S_IFCHR,
        });
        names.push((OsStr::from_bytes(name).to_owned(), kind));
    }
    Ok(names)
}

fn stat_at(dir: impl AsFd, name: &OsStr) -> Result<Option<FileStat>, Errno> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn kind_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// Gone since its name was read, or no longer what it was.
pub fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::ELOOP | libc::ENOTDIR)
    )
}

#[cfg(test)]
mod tests;
