//! Looking at private servers from outside, as the kernel shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::pair::Pair;
use super::{eventually, limit};

/// Where the private servers of all verifications have their places.
const RUN: &str = "/run/understudy";

/// Device and inode: what a file is, whatever its path looks like in which namespace.
pub type Identity = (u64, u64);

/// The private servers of this pair's snapshots.
pub fn servers(pair: &Pair) -> Vec<PrivateServer> {
    processes()
        .into_iter()
        .map(|pid| PrivateServer { pid })
        .filter(|server| {
            let argv = server.argv();
            argv.contains(&format!("--defaults-file={RUN}/")) && argv.contains(&pair.name())
        })
        .collect()
}

/// The only one, once it runs.
pub fn server(pair: &Pair) -> PrivateServer {
    let mut found = Vec::new();
    eventually(limit(30), "a private server runs", || {
        found = servers(pair);
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "private servers: {found:?}");
    found.remove(0)
}

/// Their places under /run.
pub fn places(pair: &Pair) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(RUN);
    entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.display().to_string().contains(&pair.name()))
        .collect()
}

/// Mounts of clones and places, in any mount namespace.
pub fn mounts(pair: &Pair) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut found = BTreeSet::new();
    for pid in processes() {
        let namespace = std::fs::metadata(format!("/proc/{pid}/ns/mnt")).map(|own| own.ino());
        // Others' processes end while we look.
        if !namespace.is_ok_and(|inode| seen.insert(inode)) {
            continue;
        }
        let text = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
        let of_a_use = format!("verify-{}", pair.name());
        found.extend(
            text.lines()
                .filter(|line| line.contains(&of_a_use))
                .map(str::to_owned),
        );
    }
    found.into_iter().collect()
}

/// What a failed test left: private servers of the pair of this name, and their places.
pub fn sweep(name: &str) {
    for pid in processes() {
        let argv = PrivateServer { pid }.argv();
        if argv.contains(&format!("--defaults-file={RUN}/")) && argv.contains(name) {
            PrivateServer { pid }.signal(nix::sys::signal::Signal::SIGKILL);
        }
    }
    let entries = std::fs::read_dir(RUN).into_iter().flatten();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.display().to_string().contains(name) {
            drop(std::fs::remove_dir_all(path));
        }
    }
}

pub fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

#[derive(Debug, Clone, Copy)]
pub struct PrivateServer {
    pub pid: u32,
}

impl PrivateServer {
    fn proc(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    /// Program and arguments, with spaces between; empty when it has ended.
    pub fn argv(self) -> String {
        let bytes = std::fs::read(self.proc("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    }

    pub fn signal(self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }

    /// Its own directory under /run.
    pub fn place(self) -> PathBuf {
        let argv = self.argv();
        let options = argv.split("--defaults-file=").nth(1).unwrap().trim();
        Path::new(options).parent().unwrap().to_owned()
    }

    /// One line of /proc/PID/status.
    pub fn status(self, name: &str) -> String {
        let text = std::fs::read_to_string(self.proc("status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim_matches([':', '\t', ' ']).to_owned()
    }

    /// What it has open for writing, by identity, with the path that it sees.
    pub fn written_files(self) -> Vec<(Identity, PathBuf)> {
        let entries = std::fs::read_dir(self.proc("fd")).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .filter_map(|number| {
                let info = std::fs::read_to_string(self.proc(&format!("fdinfo/{number}"))).ok()?;
                let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
                let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
                let link = self.proc(&format!("fd/{number}"));
                let own = std::fs::metadata(&link).ok()?;
                let is_written = flags & libc::O_ACCMODE != libc::O_RDONLY && own.is_file();
                is_written.then(|| ((own.dev(), own.ino()), std::fs::read_link(&link).unwrap()))
            })
            .collect()
    }

    /// The mount points that it could write to, with the directory that each shows. What lies
    /// hidden below another mount nobody can reach.
    pub fn writable_mounts(self) -> Vec<(PathBuf, String)> {
        let text = std::fs::read_to_string(self.proc("mountinfo")).unwrap();
        let topmost: BTreeMap<PathBuf, Vec<&str>> = text
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .map(|fields| (PathBuf::from(fields[4]), fields))
            .collect();
        topmost
            .into_iter()
            .filter(|(_, fields)| !fields[5].split(',').any(|option| option == "ro"))
            .map(|(mount_point, fields)| (mount_point, fields[3].to_owned()))
            .collect()
    }

    /// Interfaces of its network namespace, with what they received and sent.
    pub fn network(self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.proc("net/dev")).unwrap();
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, figures)| {
                let figures: Vec<&str> = figures.split_whitespace().collect();
                (
                    name.trim().to_owned(),
                    format!("{} {}", figures[1], figures[9]),
                )
            })
            .collect()
    }

    /// Whether it is in the same namespace (`net`, `mnt`) as this test.
    pub fn shares(self, namespace: &str) -> bool {
        let inode = |path: PathBuf| std::fs::metadata(path).unwrap().ino();
        let own = PathBuf::from(format!("/proc/self/ns/{namespace}"));
        inode(self.proc(&format!("ns/{namespace}"))) == inode(own)
    }
}
