//! What tells whether a file is still as it was, in 16 bytes.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::path::Path;

use nix::sys::stat::FileStat;

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
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
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
}

/// Marks paths with their stamps. The keys are random, so that nobody can arrange for two equal
/// marks, and 128 bits, so that chance doesn't.
#[derive(Debug, Clone, Default)]
pub struct Marker(RandomState, RandomState);

impl Marker {
    pub fn mark(&self, root: usize, relative: &Path, stamp: &Stamp) -> u128 {
        let half = |keys: &RandomState| {
            let mut hasher = keys.build_hasher();
            (root, relative, stamp).hash(&mut hasher);
            hasher.finish()
        };
        u128::from(half(&self.0)) << 64 | u128::from(half(&self.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
