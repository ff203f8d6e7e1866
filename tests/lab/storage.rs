//! The volumes that replicas live on.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::{sh, try_sh};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// The root filesystem, ext4 here.
    Copy,
    Btrfs,
    /// On xfs.
    Reflink,
    ReflinkBtrfs,
    /// With ext4.
    LvmThick,
    /// With xfs.
    LvmThin,
    Zfs,
}

impl Storage {
    pub const NATIVE: [Self; 4] = [Self::Copy, Self::Btrfs, Self::Reflink, Self::ReflinkBtrfs];
    pub const GUEST: [Self; 3] = [Self::LvmThick, Self::LvmThin, Self::Zfs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Btrfs => "btrfs",
            Self::Reflink => "reflink",
            Self::ReflinkBtrfs => "reflink-btrfs",
            Self::LvmThick => "lvm-thick",
            Self::LvmThin => "lvm-thin",
            Self::Zfs => "zfs",
        }
    }

    /// What the configuration says: `auto` wherever it finds the right one.
    pub fn configured(self) -> &'static str {
        match self {
            Self::Copy
            | Self::Btrfs
            | Self::Reflink
            | Self::LvmThick
            | Self::LvmThin
            | Self::Zfs => "auto",
            Self::ReflinkBtrfs => "reflink",
        }
    }

    /// What the manifest must say: `backend` and `backend_kind`.
    pub fn backend(self) -> (&'static str, &'static str) {
        match self {
            Self::Copy => ("copy", "copy"),
            Self::Btrfs => ("btrfs", "btrfs"),
            Self::Reflink | Self::ReflinkBtrfs => ("reflink", "reflink"),
            Self::LvmThick => ("lvm", "lvm-thick"),
            Self::LvmThin => ("lvm", "lvm-thin"),
            Self::Zfs => ("zfs", "zfs"),
        }
    }

    pub fn is_file_by_file(self) -> bool {
        matches!(self, Self::Copy | Self::Reflink | Self::ReflinkBtrfs)
    }

    /// Why it can't be had on this machine.
    pub fn missing(self) -> Option<String> {
        let needed: &[&str] = match self {
            Self::Copy => &[],
            Self::Btrfs | Self::ReflinkBtrfs => &["/usr/sbin/mkfs.btrfs", "/dev/loop-control"],
            Self::Reflink => &["/usr/sbin/mkfs.xfs", "/dev/loop-control"],
            Self::LvmThick => &["/usr/sbin/lvcreate", "/dev/mapper/control"],
            Self::LvmThin => &[
                "/usr/sbin/lvcreate",
                "/usr/sbin/mkfs.xfs",
                "/dev/mapper/control",
            ],
            Self::Zfs => &["/usr/sbin/zfs", "/dev/zfs"],
        };
        needed
            .iter()
            .find(|path| !Path::new(path).exists())
            .map(|path| format!("{path} is missing"))
    }
}

/// One volume, mounted at `mount`.
pub struct Volume {
    pub storage: Storage,
    /// Of the volume group or pool.
    pub name: String,
    pub mount: PathBuf,
    loop_device: Option<String>,
    second: Option<PathBuf>,
}

impl Volume {
    /// `base` is the pair's own directory, `name` unique on this machine.
    pub fn make(storage: Storage, base: &Path, name: &str, size_mb: u64) -> Self {
        let mut volume = Self {
            storage,
            name: name.to_owned(),
            mount: base.join("vol"),
            loop_device: None,
            second: None,
        };
        std::fs::create_dir(&volume.mount).unwrap();
        if storage != Storage::Copy {
            let image = base.join("image");
            let file = std::fs::File::create(&image).unwrap();
            file.set_len(size_mb * 1024 * 1024).unwrap();
            volume.fill(&image, size_mb);
        }
        volume
    }

    fn fill(&mut self, image: &Path, size_mb: u64) {
        let image = image.display().to_string();
        let mount = self.mount.display().to_string();
        let name = self.name.clone();
        match self.storage {
            Storage::Copy => {}
            Storage::Btrfs | Storage::ReflinkBtrfs => {
                sh(&["mkfs.btrfs", "-q", &image]);
                sh(&["mount", "-o", "loop", &image, &mount]);
                if self.storage == Storage::Btrfs {
                    sh(&[
                        "btrfs",
                        "-q",
                        "subvolume",
                        "create",
                        &format!("{mount}/data"),
                    ]);
                }
            }
            Storage::Reflink => {
                sh(&["mkfs.xfs", "-q", &image]);
                sh(&["mount", "-o", "loop", &image, &mount]);
            }
            Storage::LvmThick | Storage::LvmThin => {
                self.fill_lvm(&image, size_mb);
            }
            Storage::Zfs => {
                sh(&["zpool", "create", "-m", "none", &name, &image]);
                let set = format!("{name}/mysql");
                sh(&["zfs", "create", "-o", &format!("mountpoint={mount}"), &set]);
            }
        }
    }

    fn fill_lvm(&mut self, image: &str, size_mb: u64) {
        let device = sh(&["losetup", "--show", "-f", image]).trim().to_owned();
        self.loop_device = Some(device.clone());
        let (name, mount) = (self.name.clone(), self.mount.display().to_string());
        sh(&["vgcreate", "-q", &name, &device]);
        let size = format!("{}m", size_mb / 3);
        if self.storage == Storage::LvmThick {
            sh(&["lvcreate", "-q", "-y", "-L", &size, "-n", "mysql", &name]);
            let device = format!("/dev/{name}/mysql");
            sh(&["mkfs.ext4", "-q", &device]);
            sh(&["mount", &device, &mount]);
        } else {
            let pool = format!("{}m", size_mb * 2 / 3);
            sh(&[
                "lvcreate",
                "-q",
                "-y",
                "-L",
                &pool,
                "--thinpool",
                "pool",
                &name,
            ]);
            let pool = format!("{name}/pool");
            sh(&[
                "lvcreate", "-q", "-y", "-V", &size, "--thin", "-n", "mysql", &pool,
            ]);
            let device = format!("/dev/{name}/mysql");
            sh(&["mkfs.xfs", "-q", &device]);
            sh(&["mount", &device, &mount]);
        }
    }

    /// Another logical volume beside the first, mounted at `mount`: a directory on it.
    pub fn add_second(&mut self, mount: &Path) -> PathBuf {
        std::fs::create_dir(mount).unwrap();
        let device = format!("/dev/{}/redo", self.name);
        match self.storage {
            Storage::LvmThick => {
                sh(&[
                    "lvcreate", "-q", "-y", "-L", "200m", "-n", "redo", &self.name,
                ]);
            }
            Storage::LvmThin => {
                let pool = format!("{}/pool", self.name);
                sh(&[
                    "lvcreate", "-q", "-y", "-V", "200m", "--thin", "-n", "redo", &pool,
                ]);
            }
            _ => panic!("only LVM volumes have a second one"),
        }
        sh(&["mkfs.ext4", "-q", &device]);
        sh(&["mount", &device, &mount.display().to_string()]);
        self.second = Some(mount.to_owned());
        let dir = mount.join("log");
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    /// What an ordinary writer may still use.
    pub fn free_bytes(&self) -> u64 {
        let mount = self.mount.display().to_string();
        let free = sh(&["stat", "-f", "-c", "%a %S", &mount]);
        free.split_whitespace()
            .map(|number| number.parse::<u64>().unwrap())
            .product()
    }

    /// A file that takes all space but this; a little more stays free where the filesystem itself
    /// needs some for it.
    pub fn fill_up(&self, but_mb: u64) -> PathBuf {
        let filler = self.mount.join("filler");
        let path = filler.display().to_string();
        let mut bytes = self.free_bytes().saturating_sub(but_mb * 1024 * 1024);
        while try_sh(&["fallocate", "-l", &bytes.to_string(), &path]).is_err() {
            bytes -= 512 * 1024;
        }
        filler
    }

    /// Everywhere that something may be frozen.
    pub fn mounts(&self) -> Vec<&Path> {
        let second = self.second.as_deref();
        std::iter::once(self.mount.as_path())
            .chain(second)
            .collect()
    }

    /// Where the server's data goes.
    pub fn data_dir(&self) -> PathBuf {
        self.mount.join("data")
    }

    /// `[snapshot] directory`, for those that need one.
    pub fn directory(&self) -> Option<PathBuf> {
        match self.storage {
            Storage::Copy | Storage::Reflink | Storage::ReflinkBtrfs => {
                Some(self.mount.join("kept"))
            }
            Storage::Btrfs | Storage::LvmThick | Storage::LvmThin | Storage::Zfs => None,
        }
    }

    /// The directory of kept ones for those back-ends that have one.
    pub fn kept_dir(&self) -> Option<PathBuf> {
        match self.storage {
            Storage::Copy | Storage::Reflink | Storage::ReflinkBtrfs => self.directory(),
            Storage::Btrfs => Some(self.mount.join(".understudy-snapshots")),
            Storage::LvmThick | Storage::LvmThin | Storage::Zfs => None,
        }
    }

    /// What the storage itself says there is besides the data: names of kept volumes.
    pub fn kept(&self) -> BTreeSet<String> {
        if let Some(dir) = self.kept_dir() {
            let entries = std::fs::read_dir(dir);
            return entries
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                .collect();
        }
        let listed = match self.storage {
            Storage::Zfs => sh(&[
                "zfs", "list", "-H", "-t", "all", "-r", "-o", "name", &self.name,
            ]),
            _ => sh(&["lvs", "--noheadings", "-o", "lv_name", &self.name]),
        };
        let origin = [
            self.name.clone(),
            format!("{}/mysql", self.name),
            "mysql".to_owned(),
            "redo".to_owned(),
            "pool".to_owned(),
        ];
        listed
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|name| !origin.contains(name))
            .collect()
    }

    /// The kept volumes of one snapshot.
    pub fn kept_of(&self, id: &str) -> Vec<String> {
        let kept = self.kept();
        kept.into_iter().filter(|name| name.contains(id)).collect()
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.storage == Storage::Zfs {
            retry(&["zpool", "destroy", "-f", &self.name]);
            return;
        }
        if self.storage != Storage::Copy {
            for mount in self.mounts().into_iter().rev() {
                let mount = mount.display().to_string();
                // Never leave it frozen.
                drop(try_sh(&["fsfreeze", "--unfreeze", &mount]));
                retry(&["umount", "-R", &mount]);
            }
        }
        if let Some(device) = &self.loop_device {
            retry(&["vgremove", "-q", "-f", &self.name]);
            retry(&["losetup", "-d", device]);
        }
    }
}

/// What was just killed may still be letting go.
fn retry(argv: &[&str]) {
    for attempt in 1.. {
        match try_sh(argv) {
            Ok(_) => return,
            Err(error) if attempt == 40 || error.contains("not mounted") => {
                eprintln!("lab: {error}");
                return;
            }
            Err(_) => sleep(Duration::from_millis(250)),
        }
    }
}
