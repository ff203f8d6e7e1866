//! What tells whether a file is still as it was, in 16 bytes.

use std::hash::{BuildHasher, Hash, RandomState};
use std::path::Path;

use nix::sys::stat::FileStat;

const SECOND_NS: i128 = 1_000_000_000;
/// The longest tick of Linux (100 Hz), with some room.
pub const TICK_NS: i128 = 11_000_000;

/// The part of a stat that changes with the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    pub device: u64,
    inode: u64,
    pub size: u64,
    modified_ns: i128,
    changed_ns: i128,
}

impl Stamp {
    pub fn of(stat: &FileStat) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * SECOND_NS + i128::from(rest);
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size.max(0) as u64,
            modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// Nanoseconds of the epoch of the latest change of content or inode.
    pub fn latest_ns(&self) -> i128 {
        self.modified_ns.max(self.changed_ns)
    }

    /// Of the latest change of content alone.
    pub fn latest_modified_ns(&self) -> i128 {
        self.modified_ns
    }

    /// Whether a write in that time (ns of the epoch) may have left just this stamp: the clock of
    /// files moves in ticks, so another write in the tick of the last one doesn't show.
    pub fn may_hide_write(&self, from_ns: i128, until_ns: i128) -> bool {
        let whole_seconds = [self.modified_ns, self.changed_ns]
            .iter()
            .all(|time| time % SECOND_NS == 0);
        let step = if whole_seconds { SECOND_NS } else { TICK_NS };
        (from_ns - step..=until_ns + step).contains(&self.latest_ns())
    }
}

/// Marks paths with their stamps. The keys are random, so that nobody can arrange for two equal
/// marks, and 128 bits, so that chance doesn't.
#[derive(Debug, Clone, Default)]
pub struct Marker(RandomState, RandomState);

impl Marker {
    pub fn mark(&self, root: usize, relative: &Path, stamp: &Stamp) -> u128 {
        let half = |keys: &RandomState| keys.hash_one((root, relative, stamp));
        u128::from(half(&self.0)) << 64 | u128::from(half(&self.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_in_the_tick_of_the_last_one_could_hide() {
        let at = |modified_ns| Stamp {
            device: 1,
            inode: 2,
            size: 3,
            modified_ns,
            changed_ns: 0,
        };
        let (from, until) = (100 * SECOND_NS + 1, 101 * SECOND_NS);
        assert!(!at(from - TICK_NS - 1).may_hide_write(from, until));
        assert!(at(from - TICK_NS).may_hide_write(from, until));
        assert!(at(from + 1).may_hide_write(from, until));
        // From before the clock was set back: a write now would show.
        assert!(!at(until + SECOND_NS + 1).may_hide_write(from, until));
        // A filesystem that keeps whole seconds.
        assert!(at(100 * SECOND_NS).may_hide_write(from, until));
        assert!(at(102 * SECOND_NS).may_hide_write(from, until));
        assert!(!at(99 * SECOND_NS).may_hide_write(from, until));
    }

    #[test]
    fn every_part_counts() {
        let marker = Marker::default();
        let stamp = Stamp {
            device: 1,
            inode: 2,
            size: 3,
            modified_ns: 4,
            changed_ns: 5,
        };
        let mark = |root, path: &str, stamp: Stamp| marker.mark(root, Path::new(path), &stamp);
        let first = mark(0, "db/t.ibd", stamp);
        assert_eq!(first, mark(0, "db/t.ibd", stamp));
        let others = [
            mark(1, "db/t.ibd", stamp),
            mark(0, "db/u.ibd", stamp),
            mark(0, "db/t.ibd", Stamp { device: 9, ..stamp }),
            mark(0, "db/t.ibd", Stamp { inode: 9, ..stamp }),
            mark(0, "db/t.ibd", Stamp { size: 9, ..stamp }),
            mark(
                0,
                "db/t.ibd",
                Stamp {
                    modified_ns: 9,
                    ..stamp
                },
            ),
            mark(
                0,
                "db/t.ibd",
                Stamp {
                    changed_ns: 9,
                    ..stamp
                },
            ),
        ];
        assert!(others.iter().all(|other| *other != first));
    }
}
