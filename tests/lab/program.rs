//! Programs of the lab that run beside the servers, and end with their test.

use super::server::Flavour;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// A process of the test's, ended with it.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

pub fn lab_program(name: &str) -> PathBuf {
    let lab = std::env::var_os("UNDERSTUDY_LAB")
        .map_or_else(|| PathBuf::from("/var/cache/understudy-lab"), PathBuf::from);
    let program = lab.join(name).join("bin").join(name);
    assert!(
        program.exists(),
        "{} is missing (scripts/lab/network makes it)",
        program.display()
    );
    program
}

pub fn start(program: &Path, args: &[&str], log: &Path) -> Ended {
    let log = std::fs::File::create(log).unwrap();
    let child = Command::new("/usr/bin/setpriv")
        .args(["--pdeathsig", "KILL"])
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Ended(child)
}

pub fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

/// DataJoint in one of its versions, as scripts/lab/datajoint makes them.
#[derive(Debug, Clone)]
pub struct DataJoint {
    pub name: &'static str,
    python: PathBuf,
}

impl DataJoint {
    /// A script of tests/datajoint, which leaves its files in `base`.
    pub fn command(&self, base: &Path, script: &str, args: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/datajoint")
            .join(script);
        let mut command = Command::new(&self.python);
        command.arg(script).args(args).current_dir(base);
        command
            .env("HOME", base)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// What it printed.
    #[track_caller]
    pub fn said(&self, base: &Path, script: &str, args: &[&str]) -> String {
        let output = self.command(base, script, args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {args:?}: {stderr}", self.name);
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Those that are there.
pub fn datajoints() -> Vec<DataJoint> {
    let lab = Flavour::Mariadb.home();
    let is_there = |name: &&str| {
        let home = lab.with_file_name(name);
        let there = home.join(".complete").exists();
        assert!(
            there || std::env::var_os("CI").is_none(),
            "{} is missing",
            home.display()
        );
        if !there {
            eprintln!(
                "\n!!! {name} is SKIPPED: scripts/lab/datajoint makes {}\n",
                home.display()
            );
        }
        there
    };
    let there = ["datajoint-0.14", "datajoint-2"]
        .into_iter()
        .filter(is_there);
    there
        .map(|name| DataJoint {
            name,
            python: lab.with_file_name(name).join("bin/python"),
        })
        .collect()
}
