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

/// DataJoint's Python, as scripts/lab/datajoint makes it.
pub fn datajoint() -> Option<std::path::PathBuf> {
    let lab = Flavour::Mariadb.home();
    let python = lab.parent().unwrap().join("datajoint/bin/python");
    if lab.parent().unwrap().join("datajoint/.complete").exists() {
        return Some(python);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is missing",
        python.display()
    );
    eprintln!(
        "\n!!! DataJoint is SKIPPED: scripts/lab/datajoint makes {}\n",
        python.display()
    );
    None
}
