//! Commands killed between any two system calls that change something, by strace's injection.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::tool::{Run, Tool};

/// What is changed in files, mounts and volumes, and what is said to a server (or to the watchdog).
const CALLS: [&str; 12] = [
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "fsync",
    "fdatasync",
    "ioctl",
    "mount",
    "umount2",
    "sendto",
];

/// How a command is to be struck.
pub struct Strikes {
    /// So many for each call, spread over the run, unless it is `every_one`.
    pub sample: u32,
    /// The programs that it starts aren't struck: a server among them would be traced to its end.
    pub alone: bool,
    /// Only these calls, unless more were asked for; all of them where it is empty.
    pub only: &'static [&'static str],
}

/// One run of the command, killed at a call.
pub struct Strike<'a> {
    of: &'a Strikes,
    /// None: not at all, but its calls are counted.
    at: Option<(&'a str, u32)>,
    counts: RefCell<BTreeMap<String, u32>>,
}

/// As UNDERSTUDY_TEST_CALLS=all asks for.
pub fn every_one() -> bool {
    std::env::var("UNDERSTUDY_TEST_CALLS").is_ok_and(|word| word == "all")
}

/// UNDERSTUDY_TEST_CALLS=3: so many of each call.
fn asked_for() -> Option<u32> {
    std::env::var("UNDERSTUDY_TEST_CALLS").ok()?.parse().ok()
}

/// More than the daily sample.
pub fn is_thorough() -> bool {
    every_one() || asked_for().is_some()
}

impl Strikes {
    /// Every attempt prepares a run, has it struck, looks at what is left, and gives the run. The
    /// first one isn't struck. How many were.
    #[track_caller]
    pub fn walk(&self, mut attempt: impl FnMut(&Strike) -> Run) -> usize {
        let every_one = every_one();
        let whole = self.strike(None);
        attempt(&whole).ok();
        let counts = whole.counts.take();
        let mut kills = 0;
        let is_meant =
            |call: &&str| is_thorough() || self.only.is_empty() || self.only.contains(call);
        for call in CALLS.into_iter().filter(is_meant) {
            let count = counts.get(call).copied().unwrap_or(0);
            let mut numbers = match every_one {
                true => (1..=count).collect(),
                false => spread(count, asked_for().unwrap_or(self.sample)),
            };
            while let Some(number) = numbers.pop_front() {
                let strike = self.strike(Some((call, number)));
                let run = attempt(&strike);
                match run.code() {
                    0 => continue,
                    -1 => {}
                    // Of a program that it started, and that was killed.
                    1 if !self.alone => {}
                    _ => drop(run.ok()),
                }
                kills += 1;
                // One that made more of them this time.
                if every_one && numbers.is_empty() {
                    numbers.push_back(number + 1);
                }
            }
        }
        let least = counts
            .keys()
            .filter(|call| is_meant(&call.as_str()))
            .count();
        assert!(
            kills >= least.max(3),
            "only {kills} kills at {counts:?}: is something wrong with strace?"
        );
        kills
    }

    fn strike<'a>(&'a self, at: Option<(&'a str, u32)>) -> Strike<'a> {
        Strike {
            of: self,
            at,
            counts: RefCell::default(),
        }
    }
}

impl Strike<'_> {
    /// For messages.
    pub fn what(&self) -> String {
        match self.at {
            Some((call, number)) => format!("killed at {call} {number}"),
            None => "not killed".to_owned(),
        }
    }

    pub fn run(&self, tool: &Tool, args: &[&str]) -> Run {
        let log = tool.base.join("strace");
        let mut strace = Command::new("/usr/bin/strace");
        strace.args(["-f", "-qq", "-o"]).arg(&log);
        if self.of.alone {
            strace.arg("--detach-on=execve");
        }
        let calls = self
            .at
            .map_or_else(|| CALLS.join(","), |(call, _)| call.to_owned());
        strace.arg("-e").arg(format!("trace={calls}"));
        if let Some((call, number)) = self.at {
            strace.arg("-e");
            strace.arg(format!("inject={call}:signal=KILL:when={number}"));
        }
        let run = tool.run_under(strace, args);
        if self.at.is_none() {
            *self.counts.borrow_mut() = counts(&log);
        }
        run
    }
}

/// How often each call is made by the thread that makes it most: strace counts by thread.
fn counts(log: &Path) -> BTreeMap<String, u32> {
    let bytes = std::fs::read(log).unwrap();
    let mut by_thread = BTreeMap::<(&str, &str), u32>::new();
    let text = String::from_utf8_lossy(&bytes);
    for line in text.lines() {
        let (thread, rest) = line.split_once(' ').unwrap_or_default();
        let call = rest.trim_start().split('(').next().unwrap_or_default();
        if CALLS.contains(&call) {
            *by_thread.entry((thread, call)).or_default() += 1;
        }
    }
    let mut counts = BTreeMap::new();
    for ((_, call), count) in by_thread {
        let most = counts.entry(call.to_owned()).or_default();
        *most = count.max(*most);
    }
    counts
}

/// Up to `sample` numbers of 1 to `count`, evenly.
fn spread(count: u32, sample: u32) -> std::collections::VecDeque<u32> {
    match count <= sample {
        true => (1..=count).collect(),
        false => (0..sample)
            .map(|nth| 1 + count * (2 * nth + 1) / (2 * sample))
            .collect(),
    }
}
