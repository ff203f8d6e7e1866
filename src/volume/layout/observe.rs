//! What is on the disk: the one part of the layout that does I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{
    How, Inside, Layout, Mount, Observed, Role, ServerPaths, Spot, VolumeError, Wanted, mount_of,
    parse_mountinfo, plan_layout, wanted,
};
use crate::sys::files;
use crate::sys::ioctl::SUBVOLUME_ROOT_INODE;

/// Asks the disk about the server's paths and decides what a snapshot of it must contain.
pub fn observe_layout(
    paths: &ServerPaths,
    map: &BTreeMap<PathBuf, PathBuf>,
) -> Result<Layout, VolumeError> {
    let wanted = wanted(paths, map);
    let mounts = observe_mounts()?;
    let mut spots = BTreeMap::new();
    for wanted in &wanted {
        let path = wanted.look_at();
        if !spots.contains_key(path) {
            spots.insert(path.to_owned(), observe_spot(path)?);
        }
    }
    let data = spots.get(&paths_data(&wanted)).cloned().flatten();
    let account = data.map_or(0, |data| data.owner);
    let inside = observe_inside(&wanted, &spots, &mounts, account)?;
    let seen = Observed {
        mounts,
        account,
        spots,
        inside,
    };
    plan_layout(paths, map, &seen)
}

/// The data directory is the first of all.
fn paths_data(wanted: &[Wanted]) -> PathBuf {
    wanted
        .first()
        .map(|first| first.look_at().to_owned())
        .unwrap_or_default()
}

/// The mounts of this process's mount namespace.
pub fn observe_mounts() -> Result<Vec<Mount>, VolumeError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = files::read_text(path)?.ok_or_else(|| VolumeError::NotFound {
        name: path.display().to_string(),
    })?;
    Ok(parse_mountinfo(&text))
}

/// `Ok(None)` when nothing is there.
fn observe_spot(path: &Path) -> Result<Option<Spot>, VolumeError> {
    let spot = path.canonicalize().and_then(|path| {
        let found = path.metadata()?;
        let (device, owner) = (found.dev(), found.uid());
        Ok(Spot {
            path,
            device,
            owner,
        })
    });
    match spot {
        Ok(spot) => Ok(Some(spot)),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(VolumeError::call("look at", path, error)),
    }
}

/// Gone, or a link that leads to itself.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ELOOP))
        || error.kind() == io::ErrorKind::NotADirectory
}

/// Walks the directories among the places, and those that links in them lead to.
fn observe_inside(
    wanted: &[Wanted],
    spots: &BTreeMap<PathBuf, Option<Spot>>,
    mounts: &[Mount],
    account: u32,
) -> Result<Vec<Inside>, VolumeError> {
    let mut todo: Vec<PathBuf> = wanted
        .iter()
        .filter(|wanted| {
            !matches!(
                wanted.role,
                Role::BinaryLog | Role::RelayLog | Role::KeyRing
            )
        })
        .filter_map(|wanted| spots.get(wanted.look_at())?.as_ref())
        .map(|spot| spot.path.clone())
        .filter(|path| path.is_dir())
        .collect();
    let mut visited = BTreeSet::new();
    let mut found = Vec::new();
    while let Some(dir) = todo.pop() {
        if !visited.insert(dir.clone()) {
            continue;
        }
        let look = look_into(&dir, mounts)?;
        todo.extend(look.dirs);
        for inside in look.inside {
            if let How::Link(Some(spot)) = &inside.how
                && spot.belongs_to(account)
                && spot.path.is_dir()
            {
                todo.push(spot.path.clone());
            }
            if !found.contains(&inside) {
                found.push(inside);
            }
        }
    }
    found.sort_by(|a, b| a.at.cmp(&b.at));
    Ok(found)
}

struct Look {
    dirs: Vec<PathBuf>,
    inside: Vec<Inside>,
}

/// One directory. Only its directories cost a stat; the kinds of the others come with their names.
fn look_into(dir: &Path, mounts: &[Mount]) -> Result<Look, VolumeError> {
    let mut look = Look {
        dirs: Vec::new(),
        inside: Vec::new(),
    };
    let failed = |error| VolumeError::call("read directory", dir, error);
    let (device, entries) = match dir
        .metadata()
        .and_then(|own| Ok((own.dev(), dir.read_dir()?)))
    {
        Ok(pair) => pair,
        Err(error) if is_gone(&error) => return Ok(look),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        let at = entry.path();
        if kind.is_symlink() {
            let spot = observe_spot(&at)?;
            if spot.as_ref().is_none_or(|spot| is_file_or_dir(&spot.path)) {
                look.inside.push(Inside {
                    at,
                    how: How::Link(spot),
                });
            }
        } else if kind.is_dir() {
            if let Some(how) = observe_dir(&at, device, mounts)? {
                look.inside.push(Inside {
                    at: at.clone(),
                    how,
                });
            }
            look.dirs.push(at);
        }
    }
    Ok(look)
}

fn is_file_or_dir(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|target| target.is_file() || target.is_dir())
}

/// Whether a directory inside a place is really something else.
fn observe_dir(at: &Path, outer: u64, mounts: &[Mount]) -> Result<Option<How>, VolumeError> {
    let own = match at.symlink_metadata() {
        Ok(own) => own,
        Err(error) if is_gone(&error) => return Ok(None),
        Err(error) => return Err(VolumeError::call("look at", at, error)),
    };
    let spot = Spot {
        path: at.to_owned(),
        device: own.dev(),
        owner: own.uid(),
    };
    let mounted = mount_of(at, mounts).is_some_and(|mount| mount.mount_point == at);
    Ok(match (mounted, own.dev() == outer) {
        (true, true) => Some(How::Bind),
        (true, false) => Some(How::Mount(spot)),
        (false, false) if own.ino() == SUBVOLUME_ROOT_INODE => Some(How::Subvolume(spot)),
        (false, _) => None,
    })
}
