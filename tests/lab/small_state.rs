//! A state directory that can be full or read-only: a small file system of its own.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{sh, try_sh};

/// It is there as long as this lives.
pub struct SmallState {
    dir: PathBuf,
}

/// Its file system gives out whole pages.
const PAGE_BYTES: u64 = 4096;

impl SmallState {
    pub fn mount(dir: &Path) -> Self {
        Self::mount_sized(dir, "256k")
    }

    fn mount_sized(dir: &Path, size: &str) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let options = format!("size={size},mode=700");
        let at = dir.display().to_string();
        sh(&["mount", "-t", "tmpfs", "-o", &options, "tmpfs", &at]);
        Self {
            dir: dir.to_owned(),
        }
    }

    /// In place of a directory that is in use, with all that it holds, and room for many operations.
    pub fn in_place_of(dir: &Path, aside: &Path) -> Self {
        let copy = |from: &Path, to: &Path| {
            let all = format!("{}/.", from.display());
            sh(&["cp", "-a", &all, &to.display().to_string()]);
        };
        std::fs::create_dir(aside).unwrap();
        copy(dir, aside);
        let small = Self::mount_sized(dir, "2m");
        copy(aside, dir);
        std::fs::remove_dir_all(aside).unwrap();
        small
    }

    /// As `fill`, and nothing more fits into the last page of a journal that is being written, either:
    /// it gets empty lines, which say nothing.
    pub fn fill_with_journals(&self) {
        for entry in std::fs::read_dir(self.dir.join("journal")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|end| end == "jsonl") {
                let mut file = std::fs::File::options().append(true).open(path).unwrap();
                let length = file.metadata().unwrap().len();
                let missing = length.next_multiple_of(PAGE_BYTES) - length;
                let lines = vec![b'\n'; usize::try_from(missing).unwrap()];
                file.write_all(&lines).unwrap();
            }
        }
        self.fill();
    }

    /// To the last byte; what has become free since the last time is taken, too.
    pub fn fill(&self) {
        let filler = self.dir.join("filler");
        let mut file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(filler)
            .unwrap();
        let mut length = 4096;
        while length > 0 {
            if file.write_all(&vec![0; length]).is_err() {
                length /= 2;
            }
        }
    }

    pub fn empty(&self) {
        std::fs::remove_file(self.dir.join("filler")).unwrap();
    }

    /// "ro" or "rw"
    pub fn remount(&self, how: &str) {
        let options = format!("remount,{how}");
        sh(&["mount", "-o", &options, &self.dir.display().to_string()]);
    }
}

impl Drop for SmallState {
    fn drop(&mut self) {
        if let Err(error) = try_sh(&["umount", "-l", &self.dir.display().to_string()]) {
            eprintln!("lab: {error}");
        }
    }
}
