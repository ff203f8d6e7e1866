//! One directory per pair, with a name that tells whose it is.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{in_guest, limit, sh, try_sh};

static NEXT: AtomicU32 = AtomicU32::new(1);
static SWEEP: Once = Once::new();

/// Every name of ours begins so; the process id follows.
pub const PREFIX: &str = "ulab";

/// A private directory, removed with all in it. Its path is short, since sockets lie in it.
pub struct Scratch {
    pub path: PathBuf,
    /// `ulab123n4`: unique on this machine, and safe in the names of volumes.
    pub name: String,
}

impl Scratch {
    pub fn new() -> Self {
        SWEEP.call_once(sweep_dead);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("{PREFIX}{}n{number}", std::process::id());
        let path = root().join(&name);
        std::fs::create_dir(&path).unwrap();
        // A server may run as another user one day; the directory itself stays private.
        Self { path, name }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        super::private::sweep(&format!("-{}-", self.name));
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("lab: {} stays behind: {error}", self.path.display());
        }
    }
}

/// Where the directories are: in the guest on its first disk, since /run/tmp is its memory.
fn root() -> &'static Path {
    static ROOT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    ROOT.get_or_init(|| {
        if !in_guest() {
            return PathBuf::from("/tmp");
        }
        let disks = std::env::var("UNDERSTUDY_LAB_DISKS").unwrap();
        let disk = disks.split_whitespace().next().unwrap();
        let root = PathBuf::from("/run/l");
        if !root.exists() {
            std::fs::create_dir(&root).unwrap();
            sh(&["mkfs.ext4", "-q", "-F", "-O", "^has_journal", disk]);
            sh(&["mount", disk, "/run/l"]);
        }
        root
    })
}

/// Gives the guest's disk back to whoever comes next. A watchdog or a server of the last case may
/// need a moment to end.
pub fn release_root() {
    if in_guest() && Path::new("/run/l").exists() {
        let until = Instant::now() + limit(10);
        while let Err(error) = try_sh(&["umount", "/run/l"]) {
            let holders = try_sh(&["fuser", "-vm", "/run/l"]).unwrap_or_else(|none| none);
            assert!(Instant::now() < until, "{error}\n{holders}");
            eprintln!("lab: {}\n{holders}", error.trim());
            sleep(Duration::from_secs(2));
        }
        std::fs::remove_dir("/run/l").unwrap();
        let disks = std::env::var("UNDERSTUDY_LAB_DISKS").unwrap();
        sh(&[
            "wipefs",
            "-q",
            "-a",
            disks.split_whitespace().next().unwrap(),
        ]);
    }
}

/// Removes what runs of ours left that were killed themselves.
fn sweep_dead() {
    let entries = std::fs::read_dir(root()).unwrap();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('n').next()?.parse::<u32>().ok());
        let Some(pid) = pid else { continue };
        if Path::new(&format!("/proc/{pid}")).exists() {
            continue;
        }
        eprintln!("lab: sweeping {name}, which a killed run left");
        let path = entry.path();
        super::server::kill_servers_below(&path);
        super::private::sweep(&format!("-{name}-"));
        let path = path.display().to_string();
        drop(try_sh(&["umount", "-R", &format!("{path}/vol")]));
        drop(try_sh(&["vgremove", "-q", "-f", &name]));
        drop(try_sh(&["zpool", "destroy", "-f", &name]));
        let loops = try_sh(&["losetup", "-n", "-O", "NAME,BACK-FILE"]).unwrap_or_default();
        for line in loops.lines().filter(|line| line.contains(&path)) {
            if let Some(device) = line.split_whitespace().next() {
                drop(try_sh(&["losetup", "-d", device]));
            }
        }
        drop(std::fs::remove_dir_all(&path));
    }
}
