//! Real filesystems in image files, and trees to snapshot. Everything is undone on drop, also when
//! a test panics.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use tempfile::TempDir;
use understudy::config::CowSize;
use understudy::sys::exec::Program;
use understudy::volume::choose;
use understudy::volume::layout::{Layout, ServerPaths, observe_layout};
use understudy::volume::{
    Backend, BackendKind, Prepared, Stillness, Tags, TakeRequest, VolumeError, VolumeRecord,
};

const LIMIT: Duration = Duration::from_secs(60);
pub const ID: &str = "db2-20261122T020000Z-7f3a";

/// Whether real filesystems can be made here. Silent skipping is for nobody: it fails in CI.
pub fn can_run() -> bool {
    let missing = ["losetup", "mkfs.btrfs", "mkfs.xfs", "mkfs.ext4", "mount"]
        .into_iter()
        .find(|name| Program::find(name).is_err());
    let reason = if !nix::unistd::geteuid().is_root() {
        "not root".to_owned()
    } else if !Path::new("/dev/loop-control").exists() {
        "no loop devices".to_owned()
    } else if let Some(missing) = missing {
        format!("{missing} is missing")
    } else {
        return true;
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "can't run in CI: {reason}"
    );
    eprintln!("SKIPPED: {reason}");
    false
}

pub fn run<I, S>(program: &str, args: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
    Program::find(program)
        .unwrap()
        .run(args, LIMIT)
        .unwrap()
        .stdout
}

/// A filesystem in an image file, mounted.
pub struct Disk {
    pub mount: PathBuf,
    device: String,
    dir: Option<TempDir>,
}

impl Disk {
    pub fn new(fs_type: &str, mib: u64) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("understudy-disk-")
            .tempdir()
            .unwrap();
        let image = dir.path().join("image");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(mib << 20).unwrap();
        drop(file);
        let quiet = if fs_type == "ext4" { "-qF" } else { "-q" };
        run(
            &format!("mkfs.{fs_type}"),
            [quiet.as_ref(), image.as_os_str()],
        );
        let device = run(
            "losetup",
            ["-f".as_ref(), "--show".as_ref(), image.as_os_str()],
        )
        .trim()
        .to_owned();
        let mount = dir.path().join("mnt");
        let disk = Self {
            mount: mount.clone(),
            device: device.clone(),
            dir: Some(dir),
        };
        std::fs::create_dir(&mount).unwrap();
        run("mount", [device.as_ref(), mount.as_os_str()]);
        disk
    }

    pub fn device(&self) -> &str {
        &self.device
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(understudy::volume::freeze::thaw(&self.mount));
        let _ = umount2(&self.mount, MntFlags::MNT_DETACH);
        if let Ok(losetup) = Program::find("losetup") {
            drop(losetup.run(["-d", &self.device], LIMIT));
        }
        // A leaked mount must not be emptied by the removal of its directory.
        let is_mounted = std::fs::read_to_string("/proc/self/mounts")
            .is_ok_and(|text| text.contains(&*self.mount.to_string_lossy()));
        if is_mounted && let Some(dir) = self.dir.take() {
            eprintln!("LEAKED: {}", dir.keep().display());
        }
    }
}

/// Unmounts on drop.
pub struct Mounted(pub PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// The ways to keep, each on the storage where it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Btrfs,
    ReflinkXfs,
    ReflinkBtrfs,
    CopyExt4,
}

pub const WAYS: [Way; 4] = [
    Way::Btrfs,
    Way::ReflinkXfs,
    Way::ReflinkBtrfs,
    Way::CopyExt4,
];
pub const FILE_WAYS: [Way; 3] = [Way::ReflinkXfs, Way::ReflinkBtrfs, Way::CopyExt4];

impl Way {
    pub fn kind(self) -> BackendKind {
        match self {
            Self::Btrfs => BackendKind::Btrfs,
            Self::ReflinkXfs | Self::ReflinkBtrfs => BackendKind::Reflink,
            Self::CopyExt4 => BackendKind::Copy,
        }
    }
}

/// A data directory on fresh storage.
pub struct Scene {
    pub way: Way,
    pub data: PathBuf,
    pub directory: Option<PathBuf>,
    pub disk: Disk,
}

impl Scene {
    pub fn new(way: Way) -> Self {
        let disk = match way {
            Way::Btrfs | Way::ReflinkBtrfs => Disk::new("btrfs", 2048),
            Way::ReflinkXfs => Disk::new("xfs", 2048),
            Way::CopyExt4 => Disk::new("ext4", 2048),
        };
        let data = disk.mount.join("mysql");
        let directory = match way {
            Way::Btrfs => {
                run(
                    "btrfs",
                    ["subvolume".as_ref(), "create".as_ref(), data.as_os_str()],
                );
                None
            }
            Way::ReflinkXfs | Way::ReflinkBtrfs | Way::CopyExt4 => {
                std::fs::create_dir(&data).unwrap();
                Some(disk.mount.join("snapshots"))
            }
        };
        if let Some(directory) = &directory {
            std::fs::create_dir(directory).unwrap();
        }
        let scene = Self {
            way,
            data,
            directory,
            disk,
        };
        fill(&scene.data);
        scene
    }

    pub fn backend(&self) -> Box<dyn Backend> {
        choose::open(self.way.kind()).unwrap()
    }

    pub fn paths(&self) -> ServerPaths {
        ServerPaths {
            data_dir: self.data.clone(),
            ..ServerPaths::default()
        }
    }

    pub fn layout(&self) -> Layout {
        observe_layout(&self.paths(), &BTreeMap::new()).unwrap()
    }

    pub fn request(&self, layout: Layout) -> TakeRequest {
        TakeRequest {
            id: ID.to_owned(),
            server: "db2".to_owned(),
            layout,
            directory: self.directory.clone(),
            cow_size: CowSize::Percent(20),
            stillness: Stillness::Live,
            limit: LIMIT,
        }
    }

    pub fn prepare(&self) -> Result<Box<dyn Prepared>, VolumeError> {
        self.backend().prepare(&self.request(self.layout()))
    }

    /// A whole snapshot of a tree at rest.
    pub fn snapshot(&self) -> Vec<VolumeRecord> {
        let mut prepared = self.prepare().unwrap();
        prepared.warm_up(&mut |_, _| ()).unwrap();
        prepared.take(&mut |_, _| ()).unwrap();
        prepared.seal(&tags()).unwrap()
    }

    /// Where kept snapshots of this scene lie.
    pub fn place(&self) -> PathBuf {
        self.directory
            .clone()
            .unwrap_or_else(|| self.disk.mount.join(".understudy-snapshots"))
    }
}

pub fn tags() -> Tags {
    [("understudy:gtid".to_owned(), "0-1-100".to_owned())].into()
}

/// A small data directory with the kinds of things that one holds.
fn fill(data: &Path) {
    for schema in ["shop", "mysql"] {
        std::fs::create_dir(data.join(schema)).unwrap();
        chown(data.join(schema), Some(101), Some(102)).unwrap();
        std::fs::set_permissions(data.join(schema), PermissionsExt::from_mode(0o750)).unwrap();
    }
    for number in 0..20_u64 {
        let path = data.join(format!("shop/t{number}.ibd"));
        std::fs::write(&path, number.to_le_bytes().repeat(20_000)).unwrap();
        chown(&path, Some(101), Some(102)).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    }
    std::fs::write(data.join("auto.cnf"), "[auto]\n").unwrap();
    std::fs::write(data.join("empty"), "").unwrap();
    symlink("shop/t1.ibd", data.join("link")).unwrap();
}

/// What can be seen of one entry: kind and mode, owner, size, content, mtime.
pub type Seen = (u32, (u32, u32), u64, u64, (i64, i64));

/// All entries of a tree but directories' times and sizes, which differ between filesystems.
pub fn look(dir: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(path) = todo.pop() {
        for entry in path.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let own = path.symlink_metadata().unwrap();
            let mut hasher = DefaultHasher::new();
            let mut rest = (own.size(), (own.mtime(), own.mtime_nsec()));
            if own.is_dir() {
                todo.push(path.clone());
                rest = (0, (0, 0));
            } else if own.is_symlink() {
                path.read_link().unwrap().hash(&mut hasher);
                rest.1 = (0, 0);
            } else {
                std::fs::read(&path).unwrap().hash(&mut hasher);
            }
            let relative = path.strip_prefix(dir).unwrap().to_owned();
            let owner = (own.uid(), own.gid());
            seen.insert(
                relative,
                (own.mode(), owner, rest.0, hasher.finish(), rest.1),
            );
        }
    }
    seen
}

/// A thread that goes on writing to a tree like a busy server, until it is told to rest.
pub struct Writer {
    state: Arc<(AtomicBool, AtomicBool, AtomicU64)>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(data: &Path) -> Self {
        let state = Arc::new((
            AtomicBool::new(true),
            AtomicBool::new(false),
            AtomicU64::new(0),
        ));
        let (shared, data) = (state.clone(), data.to_owned());
        std::fs::copy(data.join("shop/t2.ibd"), data.join("shop/t3.ibd")).unwrap();
        let thread = std::thread::spawn(move || {
            let open = |name: &str| {
                std::fs::File::options()
                    .write(true)
                    .open(data.join(name))
                    .unwrap()
            };
            let files = [open("shop/t2.ibd"), open("shop/t3.ibd")];
            let mut count = 0_u64;
            while shared.0.load(Ordering::SeqCst) {
                if shared.1.load(Ordering::SeqCst) {
                    shared.2.store(u64::MAX, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_micros(200));
                    continue;
                }
                count += 1;
                for file in &files {
                    file.write_all_at(&count.to_le_bytes(), count % 100_000)
                        .unwrap();
                }
                let fresh = data.join(format!("shop/new{}.ibd", count % 7));
                if count.is_multiple_of(500) && std::fs::remove_file(&fresh).is_err() {
                    std::fs::write(&fresh, count.to_le_bytes()).unwrap();
                }
                shared.2.store(count, Ordering::SeqCst);
            }
        });
        Self {
            state,
            thread: Some(thread),
        }
    }

    /// Each number goes to t2 and then to t3, so at any moment they differ in one place at most.
    pub fn assert_one_moment(copy: &Path) {
        let read = |name: &str| std::fs::read(copy.join(name)).unwrap();
        let (one, other) = (read("shop/t2.ibd"), read("shop/t3.ibd"));
        let differing: Vec<usize> = std::iter::zip(&one, &other)
            .enumerate()
            .filter(|(_, (one, other))| one != other)
            .map(|(at, _)| at)
            .collect();
        let span = match (differing.first(), differing.last()) {
            (Some(first), Some(last)) => last - first + 1,
            _ => 0,
        };
        assert!(one.len() == other.len() && span <= 8, "{span} bytes apart");
    }

    /// Returns once nothing is written any more.
    pub fn rest(&self) {
        self.state.1.store(true, Ordering::SeqCst);
        while self.state.2.load(Ordering::SeqCst) != u64::MAX {
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    pub fn resume(&self) {
        self.state.1.store(false, Ordering::SeqCst);
        while self.state.2.load(Ordering::SeqCst) == u64::MAX {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.state.0.store(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
