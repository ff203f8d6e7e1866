//! What is kept: its checksums, and damage to it that is undone afterwards.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::pair::Pair;
use super::private::Identity;
use super::storage::Storage;
use super::{sh, try_sh};

/// The data directory inside a snapshot. For those that are kept as directories.
pub fn data_dir(pair: &Pair, snapshot: &Value) -> PathBuf {
    let volume = &snapshot["volumes"][0];
    let text = |name: &str| Path::new(volume[name].as_str().unwrap()).to_owned();
    let within = pair.replica.data_dir.strip_prefix(text("path")).unwrap();
    // Without a trailing slash.
    text("name").join(within).components().collect()
}

/// Names, sizes, times and contents of all in a directory, in a form that tells what differs.
pub fn digest(dir: &Path) -> BTreeSet<String> {
    let find = |what: &str| {
        let dir = dir.display();
        sh(&["sh", "-c", &format!("cd '{dir}' && find . {what}")])
    };
    let mut lines: BTreeSet<String> = find("-printf '%P %y %s %T@ %C@ %i %m %U:%G\\n'")
        .lines()
        .map(str::to_owned)
        .collect();
    let contents = find("-type f -exec sha256sum {} +");
    lines.extend(contents.lines().map(str::to_owned));
    lines
}

/// Every file of a directory, by identity.
pub fn identities(dir: &Path) -> BTreeSet<Identity> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            // A server removes files while we look.
            let Ok(own) = path.symlink_metadata() else {
                continue;
            };
            if own.is_dir() {
                dirs.push(path);
            } else {
                found.insert((own.dev(), own.ino()));
            }
        }
    }
    found
}

/// Damage to a kept snapshot, until this is dropped.
pub struct Damage<'a> {
    pair: &'a Pair,
    data_dir: PathBuf,
    subvolume: String,
    saved: Vec<(PathBuf, PathBuf)>,
}

impl<'a> Damage<'a> {
    /// `what` is done in the kept data directory; the files named (or directories) are put back.
    pub fn to(pair: &'a Pair, snapshot: &Value, files: &[&str], what: impl FnOnce(&Path)) -> Self {
        let mut damage = Self {
            pair,
            data_dir: data_dir(pair, snapshot),
            subvolume: snapshot["volumes"][0]["name"].as_str().unwrap().to_owned(),
            saved: Vec::new(),
        };
        let place = pair.base().join("saved");
        drop(std::fs::remove_dir_all(&place));
        std::fs::create_dir(&place).unwrap();
        for (number, file) in files.iter().enumerate() {
            let (from, to) = (damage.data_dir.join(file), place.join(format!("{number}")));
            copy(&from, &to);
            damage.saved.push((from, to));
        }
        damage.set_read_only(false);
        what(&damage.data_dir);
        damage.set_read_only(true);
        damage
    }

    /// A kept subvolume can't be written to.
    fn set_read_only(&self, is_read_only: bool) {
        if self.pair.storage == Storage::Btrfs {
            let is_read_only = is_read_only.to_string();
            let argv = ["btrfs", "property", "set", "-ts", &self.subvolume, "ro"];
            sh(&[&argv[..], &[&is_read_only]].concat());
        }
    }
}

impl Drop for Damage<'_> {
    fn drop(&mut self) {
        self.set_read_only(false);
        for (from, to) in &self.saved {
            let from = from.display().to_string();
            drop(try_sh(&["rm", "-rf", &from]));
            copy(to, Path::new(&from));
        }
        self.set_read_only(true);
    }
}

fn copy(from: &Path, to: &Path) {
    let (from, to) = (from.display().to_string(), to.display().to_string());
    sh(&["cp", "-a", "--reflink=auto", &from, &to]);
}

/// InnoDB's page `number`, of the size they have by default, with other bytes in its middle.
pub fn spoil_page(path: &Path, number: u64) {
    overwrite(path, number * 16384 + 200, &[0xA5; 64]);
}

pub fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

pub fn truncate(path: &Path, length: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

/// The files of the redo log that are in use.
pub fn redo_logs(data_dir: &Path) -> Vec<PathBuf> {
    let own = data_dir.join("ib_logfile0");
    if own.exists() {
        return vec![own];
    }
    std::fs::read_dir(data_dir.join("#innodb_redo"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.display().to_string().ends_with("_tmp"))
        .collect()
}

/// A snapshot's manifest, put back as it was when this is dropped.
pub struct SavedManifest {
    path: PathBuf,
    text: String,
}

impl SavedManifest {
    pub fn of(pair: &Pair, snapshot: &Value) -> Self {
        let id = snapshot["id"].as_str().unwrap();
        let path = pair.state_dir().join(format!("snapshots/{id}.json"));
        let text = std::fs::read_to_string(&path).unwrap();
        Self { path, text }
    }

    pub fn edit(&self, change: impl FnOnce(&mut Value)) {
        let mut manifest: Value = serde_json::from_str(&self.text).unwrap();
        change(&mut manifest);
        std::fs::write(&self.path, manifest.to_string()).unwrap();
    }
}

impl Drop for SavedManifest {
    fn drop(&mut self) {
        std::fs::write(&self.path, &self.text).unwrap();
    }
}
