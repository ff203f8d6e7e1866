//! Freezing filesystems for a moment, so that snapshots of several volumes show one moment.
//!
//! A freeze outlives its maker: whoever freezes has a watchdog that can [`thaw`] without us.
//! Between `freeze_all` and `thaw_all` nothing here opens, allocates on or logs to a frozen disk.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::syncfs;

use super::VolumeError;
use crate::sys::{ioctl, transfer};

/// How often a thaw that failed for a passing reason is tried again, and how long between.
const THAW_TRIES_MAX: u32 = 5;
const THAW_NAP: Duration = Duration::from_millis(10);

struct Target {
    mount_point: PathBuf,
    dir: File,
    frozen: bool,
}

/// Descriptors of filesystems to freeze, opened beforehand. Thaws what it froze when dropped.
pub struct Freezer {
    targets: Vec<Target>,
}

impl Freezer {
    /// Opens each mount point; several of one filesystem count once.
    pub fn prepare(mount_points: &[PathBuf]) -> Result<Self, VolumeError> {
        let mut targets: Vec<(u64, Target)> = Vec::new();
        for mount_point in mount_points {
            let opened = transfer::open_root(mount_point).and_then(|dir| {
                let device = dir.metadata()?.dev();
                Ok((device, dir))
            });
            let (device, dir) =
                opened.map_err(|error| VolumeError::call("open", mount_point, error))?;
            if targets.iter().all(|(known, _)| *known != device) {
                let target = Target {
                    mount_point: mount_point.clone(),
                    dir,
                    frozen: false,
                };
                targets.push((device, target));
            }
        }
        Ok(Self {
            targets: targets.into_iter().map(|(_, target)| target).collect(),
        })
    }

    /// Writes out what is dirty, so that the freeze itself is short. Before the pause.
    pub fn sync(&self) -> Result<(), VolumeError> {
        self.targets.iter().try_for_each(|target| {
            syncfs(&target.dir)
                .map_err(|errno| VolumeError::call("sync", &target.mount_point, errno))
        })
    }

    /// Freezes all of them, or none: on an error what was frozen is thawed again.
    pub fn freeze_all(&mut self) -> Result<(), VolumeError> {
        for index in 0..self.targets.len() {
            let target = &mut self.targets[index];
            if target.frozen {
                continue;
            }
            match ioctl::freeze(target.dir.as_fd()) {
                Ok(()) => target.frozen = true,
                Err(errno) => {
                    let mount_point = target.mount_point.clone();
                    self.thaw_all()?;
                    return Err(freeze_failed(&mount_point, errno));
                }
            }
        }
        Ok(())
    }

    /// Thaws all that this froze; again is no error. Each is tried, whatever became of the others,
    /// and the first failure is returned.
    pub fn thaw_all(&mut self) -> Result<(), VolumeError> {
        let mut result = Ok(());
        for target in self.targets.iter_mut().filter(|target| target.frozen) {
            match thaw_patiently(&target.dir) {
                Ok(_) => target.frozen = false,
                Err(errno) if result.is_ok() => {
                    result = Err(VolumeError::call("thaw", &target.mount_point, errno));
                }
                Err(_) => {}
            }
        }
        result
    }

    /// Whether this holds any freeze. (The kernel can't be asked without an effect.)
    pub fn is_frozen(&self) -> bool {
        self.targets.iter().any(|target| target.frozen)
    }

    /// For the lease and for the watchdog: what to thaw.
    pub fn mount_points(&self) -> impl Iterator<Item = &Path> {
        self.targets.iter().map(|target| &*target.mount_point)
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        drop(self.thaw_all());
    }
}

/// Thaws the filesystem at `mount_point`: for the watchdog and `recover`. `Ok(false)` when it
/// wasn't frozen.
pub fn thaw(mount_point: &Path) -> Result<bool, VolumeError> {
    let dir = transfer::open_root(mount_point)
        .map_err(|error| VolumeError::call("open", mount_point, error))?;
    thaw_patiently(&dir).map_err(|errno| VolumeError::call("thaw", mount_point, errno))
}

fn thaw_patiently(dir: &File) -> Result<bool, Errno> {
    let mut tries = 1;
    loop {
        match ioctl::thaw(dir.as_fd()) {
            Ok(()) => return Ok(true),
            Err(Errno::EINVAL) => return Ok(false),
            Err(errno) if tries == THAW_TRIES_MAX => return Err(errno),
            Err(_) => {
                tries += 1;
                std::thread::sleep(THAW_NAP);
            }
        }
    }
}

fn freeze_failed(mount_point: &Path, errno: Errno) -> VolumeError {
    match errno {
        Errno::EBUSY => VolumeError::Busy {
            name: mount_point.display().to_string(),
            reason: "somebody else has frozen it".to_owned(),
        },
        Errno::EOPNOTSUPP | Errno::ENOTTY => VolumeError::refused(
            format!("{} can't be frozen", mount_point.display()),
            "Put all of the server's files on one volume, or use consistency = \"stop\".",
        ),
        other => VolumeError::call("freeze", mount_point, other),
    }
}
