//! A machine of its own to follow a page in: its own network, host name, processes, /srv, /etc/understudy,
//! /run and /var/lib/understudy, all gone with it. So a page's ports and paths are taken as they stand.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Its first process: makes the place, says so, and waits for the end. It collects what its servers leave.
const SETUP: &str = r#"
set -eu
base=$1 binary=$2
mount -t tmpfs tmpfs /run
mkdir -p /run/bin /run/mysqld
cp "$binary" /run/bin/understudy
for dir in /etc/understudy /var/lib/understudy; do
  mkdir -p "$dir" && mount -t tmpfs -o mode=755 tmpfs "$dir"
done
truncate -s 3G "$base/srv.img" && mkfs.btrfs -q "$base/srv.img" >/dev/null && mount -o loop "$base/srv.img" /srv
# Servers name their temporary files by their process, whose number others elsewhere have as well.
mount -t tmpfs tmpfs /tmp
ip link set lo up
ip address add 192.0.2.1/32 dev lo
echo ready
while true; do sleep 1000 & wait $!; done
"#;

pub struct Stage {
    child: Child,
    /// Of its first process, as seen from here.
    pid: String,
    _base: tempfile::TempDir,
}

/// What a command said on both its outputs, and how it ended.
pub struct Said {
    pub text: String,
    pub code: i32,
}

impl Stage {
    pub fn new() -> Self {
        let base = tempfile::Builder::new()
            .prefix("ulab-manual")
            .tempdir()
            .unwrap();
        let binary = std::env::var("UNDERSTUDY_TEST_BINARY")
            .unwrap_or_else(|_| env!("CARGO_BIN_EXE_understudy").to_owned());
        let mut child = Command::new("/usr/bin/unshare")
            .args([
                "--mount",
                "--net",
                "--uts",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args([
                "--propagation",
                "private",
                "/bin/bash",
                "-c",
                SETUP,
                "stage",
            ])
            .arg(base.path())
            .arg(binary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "the stage wasn't made");
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let pid = std::fs::read_to_string(children).unwrap().trim().to_owned();
        Self {
            child,
            pid,
            _base: base,
        }
    }

    /// Runs shell as root in it, in a directory.
    pub fn run(&self, directory: &str, shell: &str) -> Said {
        let output = Command::new("/usr/bin/nsenter")
            .args(["--target", &self.pid, "--mount", "--net", "--uts", "--pid"])
            .args([
                "/usr/bin/timeout",
                "--kill-after=5",
                "120",
                "/bin/bash",
                "-c",
            ])
            .arg(format!("exec 2>&1; cd {directory}; {shell}"))
            .env(
                "PATH",
                "/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )
            .env("LC_ALL", "C.UTF-8")
            .env_remove("UNDERSTUDY_CONFIG")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        // Where the package has it.
        let text = String::from_utf8_lossy(&output.stdout).replace("/run/bin/", "/usr/bin/");
        Said {
            text,
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// As `run`, and it must end well.
    #[track_caller]
    pub fn ok(&self, directory: &str, shell: &str) -> String {
        let said = self.run(directory, shell);
        assert_eq!(said.code, 0, "{shell}\n{}", said.text);
        said.text
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
