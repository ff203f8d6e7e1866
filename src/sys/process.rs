//! Other processes: is that one still the one we mean?

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

/// The running kernel, such as `6.1.0-56-amd64`; empty when it can't be told.
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|release| release.trim().to_owned())
        .unwrap_or_default()
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
    use super::ProcessRef;

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
