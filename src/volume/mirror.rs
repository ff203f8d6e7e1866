//! A tree that is made equal to others in rounds: the engine of copy, reflink and restore.
//!
//! The invariant, for a source that is in use: a file is passed over only if its copy is *settled*. That is, its stat was the
//! same before and after it was read, and its times are older, by a margin, than a sync of its
//! filesystem that came before the reading. So neither a store through a mapping can hide (after
//! the sync the next store to its page faults, and sets a new time), nor a write in the same tick,
//! nor one of direct I/O that was still under way.

mod stamp;
mod workers;

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, F2FS_SUPER_MAGIC, XFS_SUPER_MAGIC, fstatfs,
};
use nix::unistd::syncfs;

use self::stamp::Marker;
use self::workers::{Mode, Workers};
use super::walk::{Met, Roots, walk};
use super::{VolumeError, kept};
use crate::sys::{clock, transfer};

/// How content gets across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Copy,
    Reflink,
}

/// What becomes of entries at the target that the source hasn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strangers {
    /// They are removed.
    Go,
    /// They stay, but for logs of the same series: a part of a directory was copied.
    Stay,
}

/// Times nearer than this to the sync count as just written. Ticks are 1-10 ms, some filesystems
/// keep whole seconds, and a direct write gets its time when it begins.
pub const RACY_MARGIN: Duration = Duration::from_secs(5);
/// So many rounds before the pause at most, and another only while it has this much to gain.
const ROUNDS_MAX: u32 = 4;
const ROUND_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// What one round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    pub files: u64,
    pub bytes: u64,
    /// Of files that will have to be copied again.
    pub unsettled_bytes: u64,
}

/// The tree being made.
pub struct Mirror {
    roots: Roots,
    /// The roots, opened.
    dirs: Vec<File>,
    /// Devices whose times tell of every change, and which `settle_point` syncs. On others (tmpfs,
    /// network, overlay) and on those nested in a root, nothing settles.
    trusted: HashSet<u64>,
    /// The kept directory.
    target: PathBuf,
    method: Method,
    strangers: Strangers,
    /// A still file that has older times than this (ns of the epoch) is passed over when what is at
    /// the target looks the same.
    looks_count_before_ns: i128,
    marker: Marker,
    /// Of files whose copy is known to be good: 16 bytes for each.
    settled: HashSet<u128>,
    expected_bytes: u64,
    /// Directories of the last round, for their times.
    made: Vec<(usize, PathBuf)>,
    left_out: Vec<String>,
}

impl Mirror {
    /// Opens the roots; makes nothing yet.
    pub fn open(roots: Roots, target: PathBuf, method: Method) -> Result<Self, VolumeError> {
        let mut dirs = Vec::new();
        let mut trusted = HashSet::new();
        for root in &roots.roots {
            let failed = |error| VolumeError::call("open", &root.from, error);
            let dir = transfer::open_root(&root.from).map_err(failed)?;
            if tells_every_change(&dir).map_err(failed)? {
                trusted.insert(dir.metadata().map_err(failed)?.dev());
            }
            dirs.push(dir);
        }
        Ok(Self {
            roots,
            dirs,
            trusted,
            target,
            method,
            strangers: Strangers::Go,
            looks_count_before_ns: i128::MAX,
            marker: Marker::default(),
            settled: HashSet::new(),
            expected_bytes: 0,
            made: Vec::new(),
            left_out: Vec::new(),
        })
    }

    /// For a target that isn't of our own making: what looks the same there may have been written to
    /// through a mapping since, which shows only in files that were at rest for a while.
    pub fn onto(self, strangers: Strangers, looks_count_before_ns: i128) -> Self {
        Self {
            strangers,
            looks_count_before_ns,
            ..self
        }
    }

    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Files that were left out on purpose in the last round, a few of them by name.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// All symbolic links in its roots.
    pub fn links(&self) -> Result<Vec<PathBuf>, VolumeError> {
        let mut found = Vec::new();
        for index in 0..self.dirs.len() {
            self.walk_root(index, &mut |met| {
                if let Met::Link { relative, .. } = met {
                    found.push(self.roots.roots[index].from.join(relative));
                }
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// Bytes on disk and inodes that a copy needs.
    pub fn measure(&mut self) -> Result<(u64, u64), VolumeError> {
        let mut on_disk = 0;
        let mut apparent = 0;
        let mut inodes = 0;
        for index in 0..self.dirs.len() {
            self.walk_root(index, &mut |met| {
                inodes += u64::from(!matches!(met, Met::Left { .. }));
                if let Met::File { stat, .. } = met {
                    on_disk += stat.st_blocks as u64 * 512;
                    apparent += stat.st_size as u64;
                }
                Ok(())
            })?;
        }
        self.expected_bytes = apparent;
        Ok((on_disk, inodes))
    }

    /// Copies all while the server goes on writing, then what changed meanwhile, and so on while
    /// it pays. Tolerates what changes or vanishes.
    pub fn pre_copy(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        let mut before = u64::MAX;
        for _ in 0..ROUNDS_MAX {
            let settle_before_ns = self.settle_point()?;
            let round = self.round(Mode::Warm { settle_before_ns }, progress)?;
            self.expected_bytes = 0;
            let pays = round.unsettled_bytes < before / 4 * 3;
            if round.unsettled_bytes < ROUND_BYTES_MIN || !pays {
                break;
            }
            before = round.unsettled_bytes;
        }
        Ok(())
    }

    /// Copies what isn't settled, and looks at everything once more. The server must be quiet:
    /// Torn when anything changed meanwhile. Not synced to disk yet.
    pub fn final_copy(
        &mut self,
        limit: Duration,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Round, VolumeError> {
        let deadline = Instant::now() + limit;
        // So that the server's last write before this isn't in a tick in which one of now would hide.
        std::thread::sleep(Duration::from_nanos(2 * stamp::TICK_NS as u64));
        let from_ns = clock::now().as_nanosecond();
        self.round(Mode::Final { deadline, from_ns }, progress)
    }

    /// Copies from a source that nobody writes to, such as a kept snapshot, and finishes. What an
    /// interrupted copy has brought across already is passed over: a file gets its times last.
    /// `is_stopped` is looked at between pieces.
    pub fn copy_still(
        &mut self,
        is_stopped: &(dyn Fn() -> bool + Sync),
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Round, VolumeError> {
        self.measure()?;
        let round = self.round(Mode::Still { is_stopped }, progress)?;
        self.finish()?;
        Ok(round)
    }

    /// Gives directories their times, and puts everything on disk.
    pub fn finish(&self) -> Result<(), VolumeError> {
        for (root, relative) in &self.made {
            let to = self.path(*root, relative);
            // A directory that is gone at the source by now keeps the times of its making.
            if let Ok(from) = transfer::open_dir_beneath(&self.dirs[*root], relative) {
                transfer::copy_dir_metadata(&File::from(from), &to)
                    .map_err(|error| VolumeError::call("set times of", &to, error))?;
            }
        }
        let failed = |error| VolumeError::call("sync", &self.target, error);
        let dir = transfer::open_root(&self.target).map_err(failed)?;
        syncfs(&dir).map_err(|errno| failed(errno.into()))
    }

    /// Bytes on disk of each root's copy.
    pub fn bytes_used(&self) -> Result<Vec<u64>, VolumeError> {
        (0..self.dirs.len())
            .map(|index| kept::disk_usage(&self.path(index, Path::new(""))))
            .collect()
    }

    /// Where a file of a root goes.
    fn path(&self, root: usize, relative: &Path) -> PathBuf {
        let name = &self.roots.roots[root].name;
        let dir = match name.as_str() {
            "" => self.target.clone(),
            name => self.target.join(name),
        };
        if relative.as_os_str().is_empty() {
            dir
        } else {
            dir.join(relative)
        }
    }

    fn walk_root(
        &self,
        index: usize,
        visit: &mut dyn FnMut(Met<'_>) -> Result<(), VolumeError>,
    ) -> Result<(), VolumeError> {
        walk(
            &self.roots,
            &self.roots.roots[index],
            &self.dirs[index],
            visit,
        )
    }

    /// Syncs the sources. What has older times than the result (ns of the epoch), and is read after
    /// this, settles.
    fn settle_point(&self) -> Result<i128, VolumeError> {
        let before = clock::now().as_nanosecond();
        for (root, dir) in std::iter::zip(&self.roots.roots, &self.dirs) {
            syncfs(dir).map_err(|errno| VolumeError::call("sync", &root.from, errno))?;
        }
        Ok(before - RACY_MARGIN.as_nanos() as i128)
    }

    fn round(
        &mut self,
        mode: Mode<'_>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Round, VolumeError> {
        let outcome = Workers::new(self, mode).run(progress)?;
        self.settled.extend(outcome.settled);
        self.made = outcome.dirs;
        self.left_out = outcome.left_out;
        Ok(Round {
            files: outcome.files,
            bytes: outcome.bytes,
            unsettled_bytes: outcome.unsettled_bytes,
        })
    }
}

/// Local filesystems that set a file's times with every write.
fn tells_every_change(dir: &File) -> std::io::Result<bool> {
    let kind = fstatfs(dir)?.filesystem_type();
    Ok([
        EXT4_SUPER_MAGIC,
        XFS_SUPER_MAGIC,
        BTRFS_SUPER_MAGIC,
        F2FS_SUPER_MAGIC,
    ]
    .contains(&kind))
}
