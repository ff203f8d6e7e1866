//! A state directory that can be full or read-only: a small file system of its own.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::{sh, try_sh};

/// It is there as long as this lives.
pub struct SmallState {
    dir: PathBuf,
}

impl SmallState {
    pub fn mount(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let options = "size=256k,mode=700";
        let at = dir.display().to_string();
        sh(&["mount", "-t", "tmpfs", "-o", options, "tmpfs", &at]);
        Self {
            dir: dir.to_owned(),
        }
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
