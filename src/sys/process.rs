//! Other processes: is that one still the one we mean?

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};

/// A process that can't be mistaken for a later one with the same id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    pub pid: u32,
    /// Field 22 of /proc/PID/stat: clock ticks after boot.
    pub start_ticks: u64,
    pub boot_id: String,
}

impl ProcessRef {
    /// This very process.
    pub fn current() -> Self {
        Self::of(std::process::id()).unwrap_or(Self {
            pid: std::process::id(),
            start_ticks: 0,
            boot_id: super::clock::boot_id(),
        })
    }

    /// The process that has this id now, if there is one.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self {
            pid,
            start_ticks: start_ticks(pid)?,
            boot_id: super::clock::boot_id(),
        })
    }

    /// True while that process exists; a zombie counts as gone.
    pub fn is_alive(&self) -> bool {
        self.boot_id == super::clock::boot_id() && start_ticks(self.pid) == Some(self.start_ticks)
    }
}

/// SIGSTOP keeps it from going on.
pub fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').map(|(_, rest)| rest.trim_start());
    state.is_some_and(|state| state.starts_with('T'))
}

/// Makes this process independent of the terminal, session and signals of whoever started it.
pub fn leave_session() {
    let mut ignored = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        ignored.add(signal);
    }
    let _ = ignored.thread_block();
    let _ = nix::unistd::setsid();
    let _ = std::env::set_current_dir("/");
}

/// Whether some process has this directory as its working directory, as database servers do with
/// their data directory. Other users' processes can't be seen without root.
pub fn runs_in(directory: &Path) -> bool {
    !in_directory(directory).is_empty()
}

/// The processes that have this directory as their working directory.
pub fn in_directory(directory: &Path) -> Vec<u32> {
    let Ok(wanted) = std::fs::metadata(directory) else {
        return Vec::new();
    };
    let same =
        |found: std::fs::Metadata| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino());
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| std::fs::metadata(format!("/proc/{pid}/cwd")).is_ok_and(same))
        .collect()
}

/// The mount tables (mountinfo) of other mount namespaces in which a program of one of these names runs:
/// containers, each once.
pub fn mounts_of_other_namespaces(programs: &[&str]) -> Vec<String> {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut known = vec![namespace("thread-self")];
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let exe = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
        let program = exe.file_name().unwrap_or_default().to_string_lossy();
        let program = program.trim_end_matches(" (deleted)");
        if name.parse::<u32>().is_err() || !programs.contains(&program) {
            continue;
        }
        let own = namespace(&name);
        if own.is_some() && !known.contains(&own) {
            known.push(own);
            found.extend(std::fs::read_to_string(entry.path().join("mountinfo")).ok());
        }
    }
    found
}

/// Whether a process has another root than we, or other mounts; false when it is gone.
pub fn runs_apart(pid: u32) -> bool {
    let link = |pid: &str, name: &str| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
    ["root", "ns/mnt"].iter().any(|name| {
        let theirs = link(&pid.to_string(), name);
        theirs.is_some() && theirs != link("self", name)
    })
}

/// The program that a process runs, as this host names it; `None` when it can't be told or isn't
/// this host's. One that was upgraded meanwhile counts as the same.
///
/// In a container a program of the same path is another one: the file itself is compared there.
pub fn program_of(pid: u32) -> Option<PathBuf> {
    let exe = format!("/proc/{pid}/exe");
    let path = std::fs::read_link(&exe).ok()?;
    let text = path.to_str()?;
    let path = Path::new(text.strip_suffix(" (deleted)").unwrap_or(text));
    if runs_apart(pid) {
        let root = std::fs::read_link(format!("/proc/{pid}/root")).ok()?;
        let (theirs, ours) = (std::fs::metadata(&exe).ok()?, std::fs::metadata(path).ok()?);
        let is_ours = (theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino());
        return (is_ours && root == Path::new("/")).then(|| path.to_owned());
    }
    path.is_file().then(|| path.to_owned())
}

/// Where the program of the server lies that has this as its working directory, if one runs here.
pub fn program_directory(data_dir: &Path) -> Option<PathBuf> {
    let program = in_directory(data_dir).into_iter().find_map(program_of)?;
    Some(program.parent()?.to_owned())
}

/// The arguments that a process was started with, its program first; none when that can't be seen.
pub fn arguments_of(pid: u32) -> Vec<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = bytes.split(|byte| *byte == 0);
    let mut words: Vec<String> = words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    // Each ends with a 0, the last one too.
    words.pop();
    words
}

/// Whether a process sees a file at this absolute path, under its own root.
pub fn sees_file(pid: u32, path: &Path) -> bool {
    let inside = path.strip_prefix("/").unwrap_or(path);
    Path::new("/proc")
        .join(pid.to_string())
        .join("root")
        .join(inside)
        .is_file()
}

/// Whether a variable stands in a process's environment; false when that can't be seen.
pub fn has_environment(pid: u32, name: &str) -> bool {
    let start = format!("{name}=");
    std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|bytes| {
        bytes
            .split(|byte| *byte == 0)
            .any(|entry| entry.starts_with(start.as_bytes()))
    })
}

/// Tells a process that does nothing any more from one that is slow.
#[derive(Debug)]
pub struct Idle {
    pid: u32,
    activity: u64,
    since: Instant,
}

impl Idle {
    pub fn watch(pid: u32) -> Self {
        Self {
            pid,
            activity: activity(pid),
            since: Instant::now(),
        }
    }

    /// How long it has done nothing, as far as it was looked at.
    pub fn look(&mut self) -> Duration {
        let now = activity(self.pid);
        if now != self.activity {
            (self.activity, self.since) = (now, Instant::now());
        }
        self.since.elapsed()
    }
}

/// A figure that changes while a process does anything: its processor time and what it read and
/// wrote.
fn activity(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let moved: u64 = io
        .lines()
        .filter_map(|line| line.split_once(": ")?.1.parse::<u64>().ok())
        .fold(0, u64::wrapping_add);
    moved.wrapping_add(ticks)
}

/// The running kernel, such as `6.1.0-56-amd64`; empty when it can't be told.
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|release| release.trim().to_owned())
        .unwrap_or_default()
}

/// This machine's name; empty when it can't be told.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// How long ago a process was started.
pub fn age(pid: u32) -> Option<Duration> {
    let ticks_per_s = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    let start_ms = start_ticks(pid)?.checked_mul(1000)? / u64::try_from(ticks_per_s).ok()?;
    Some(super::clock::since_boot().saturating_sub(Duration::from_millis(start_ms)))
}

/// `None` when there is no such process, or only its zombie.
fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name in parentheses may hold anything, so read from behind the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::time::Duration;

    use super::{Idle, ProcessRef};

    /// Ended with the test, also when it fails.
    struct Ended(Child);

    impl Drop for Ended {
        fn drop(&mut self) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }

    fn idle_after(program: &str, args: &[&str], nap: Duration) -> Duration {
        let child = Ended(Command::new(program).args(args).spawn().unwrap());
        let mut idle = Idle::watch(child.0.id());
        std::thread::sleep(nap);
        idle.look();
        std::thread::sleep(nap);
        idle.look()
    }

    #[test]
    fn a_process_that_does_nothing_is_idle_and_a_busy_one_is_not() {
        let nap = Duration::from_millis(300);
        assert!(idle_after("sleep", &["60"], nap) >= nap);
        assert!(idle_after("sh", &["-c", "while :; do :; done"], nap) < nap);
    }

    #[test]
    fn this_process_is_alive_and_its_namesake_is_not() {
        let me = ProcessRef::current();
        assert!(me.is_alive());
        let other = ProcessRef {
            start_ticks: me.start_ticks + 1,
            ..me
        };
        assert!(!other.is_alive());
    }
}
