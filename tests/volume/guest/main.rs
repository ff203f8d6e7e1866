//! The ZFS and LVM back-ends on real pools and volume groups.
//!
//! Needs a machine whose disks may be overwritten, named by UNDERSTUDY_LAB_DISKS:
//! `scripts/lab/guest run -- target/debug/deps/volume_guest-…`. Elsewhere each test says loudly that
//! it was skipped, or fails when UNDERSTUDY_LAB_REQUIRED is set. Each removes what it made.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy.toml exempts only inside #[test]"
)]

#[cfg(test)]
mod clones;
#[cfg(test)]
mod puts;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use understudy::config::CowSize;
use understudy::sys::Fact;
use understudy::sys::exec::{ExecError, Program};
use understudy::volume::layout::{Layout, Mount, Volume};
use understudy::volume::lvm::Lvm;
use understudy::volume::zfs::Zfs;
use understudy::volume::{
    Backend, BackendKind, FoundVolume, Prepared, Stillness, Tags, TakeRequest, VolumeError,
    VolumeRecord, VolumeState,
};

const LIMIT: Duration = Duration::from_secs(120);
const MIB: u64 = 1024 * 1024;

/// The disks, for one test at a time.
struct Lab {
    disks: Vec<String>,
    _turn: MutexGuard<'static, ()>,
}

fn lab() -> Option<Lab> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let disks = std::env::var("UNDERSTUDY_LAB_DISKS").unwrap_or_default();
    let disks: Vec<_> = disks.split_whitespace().map(str::to_owned).collect();
    if disks.len() >= 2 {
        return Some(Lab { disks, _turn: turn });
    }
    assert!(
        std::env::var_os("UNDERSTUDY_LAB_REQUIRED").is_none(),
        "UNDERSTUDY_LAB_DISKS names no two disks, and UNDERSTUDY_LAB_REQUIRED is set"
    );
    eprintln!("SKIPPED: needs UNDERSTUDY_LAB_DISKS, see scripts/lab/guest");
    None
}

fn try_run(argv: &[&str]) -> Result<String, ExecError> {
    let args: Vec<OsString> = argv[1..].iter().map(OsString::from).collect();
    let output = Program::find(argv[0]).unwrap().run(args, LIMIT)?;
    Ok(output.stdout)
}

fn run(argv: &[&str]) -> String {
    try_run(argv).unwrap_or_else(|error| panic!("{error}"))
}

fn request(id: &str, paths: &[&Path]) -> TakeRequest {
    let volume = |path: &&Path| Volume {
        mount: mount_at(path),
        places: Vec::new(),
    };
    TakeRequest {
        id: id.to_owned(),
        server: "db2".to_owned(),
        layout: Layout {
            data_dir: paths[0].to_owned(),
            volumes: paths.iter().map(volume).collect(),
            warnings: Vec::new(),
            links_apart: Vec::new(),
        },
        directory: None,
        cow_size: CowSize::Bytes(32 * MIB),
        stillness: Stillness::Live,
        limit: LIMIT,
    }
}

fn mount_at(path: &Path) -> Mount {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let fields: Vec<&str> = table
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| Path::new(fields[4]) == path)
        .unwrap_or_else(|| panic!("{} isn't mounted", path.display()));
    let (major, minor) = fields[2].split_once(':').unwrap();
    let dash = fields.iter().position(|field| *field == "-").unwrap();
    Mount {
        mount_point: fields[4].into(),
        root: fields[3].into(),
        device: (major.parse().unwrap(), minor.parse().unwrap()),
        fs_type: fields[dash + 1].to_owned(),
        source: fields[dash + 2].to_owned(),
        options: Vec::new(),
    }
}

fn tags() -> Tags {
    Tags::from([
        ("gtid".to_owned(), "uuid-1:1-5,uuid-2:7".to_owned()),
        ("long".to_owned(), "x".repeat(10_000)),
    ])
}

fn quiet(_: u64, _: u64) {}

/// Prepare to take; the figure is the time of `take` alone.
fn taken(backend: &dyn Backend, request: &TakeRequest) -> (Box<dyn Prepared>, Duration) {
    let mut prepared = backend.prepare(request).unwrap();
    prepared.warm_up(&mut quiet).unwrap();
    let started = Instant::now();
    prepared.take(&mut quiet).unwrap();
    (prepared, started.elapsed())
}

fn sealed(backend: &dyn Backend, request: &TakeRequest) -> Vec<VolumeRecord> {
    taken(backend, request).0.seal(&tags()).unwrap()
}

fn found(backend: &dyn Backend, id: &str) -> Vec<FoundVolume> {
    let mut found = backend.discover(&[]).unwrap();
    found.retain(|volume| volume.id == id);
    found
}

fn is_good(backend: &dyn Backend, record: &VolumeRecord) -> bool {
    matches!(backend.probe(record), Fact::Known(VolumeState::Good { .. }))
}

fn invalid_reason(backend: &dyn Backend, record: &VolumeRecord) -> String {
    match backend.probe(record) {
        Fact::Known(VolumeState::Invalid(reason)) => reason,
        other => panic!("not invalid: {other:?}"),
    }
}

#[track_caller]
fn refusal<T>(result: Result<T, VolumeError>) -> String {
    match result.err().expect("an error") {
        VolumeError::Refused { reason, .. } => reason,
        other => panic!("not refused: {other}"),
    }
}

#[track_caller]
fn busy<T>(result: Result<T, VolumeError>) -> String {
    match result.err().expect("an error") {
        VolumeError::Busy { reason, .. } => reason,
        other => panic!("not busy: {other}"),
    }
}

/// The whole life of a snapshot of `paths`, whatever the back-end.
fn lives_through_all(backend: &dyn Backend, id: &str, paths: &[&Path], stillness: Stillness) {
    let request = TakeRequest {
        stillness,
        ..request(id, paths)
    };
    let records = sealed(backend, &request);
    assert_eq!(records.len(), paths.len());
    for (record, path) in records.iter().zip(paths) {
        assert_eq!(record.path, *path);
        assert!(!record.uuid.is_empty());
        assert!(is_good(backend, record), "{:?}", backend.probe(record));
    }
    let found = found(backend, id);
    assert_eq!(found.len(), records.len());
    for volume in &found {
        let record = records
            .iter()
            .find(|record| record.name == volume.record.name)
            .unwrap();
        assert_eq!(volume.record.origin, record.origin);
        assert_eq!(volume.record.path, record.path);
        assert_eq!(volume.record.uuid, record.uuid);
        assert_eq!(volume.tags.get("gtid"), tags().get("gtid"));
        assert_eq!(volume.tags.get("server").map(String::as_str), Some("db2"));
        assert!(!volume.tags.contains_key("long"));
    }
    assert!(refusal(backend.prepare(&request)).contains("exists already"));
    for record in &records {
        let error = backend.delete("another-id", record).unwrap_err();
        assert!(matches!(error, VolumeError::NotOurs { .. }), "{error}");
        let impostor = VolumeRecord {
            uuid: "1".to_owned(),
            ..record.clone()
        };
        let error = backend.delete(id, &impostor).unwrap_err();
        assert!(matches!(error, VolumeError::NotOurs { .. }), "{error}");
        assert!(invalid_reason(backend, &impostor).contains("bears its name"));
        assert!(backend.delete(id, record).unwrap());
        assert!(!backend.delete(id, record).unwrap());
        assert_eq!(backend.probe(record), Fact::Known(VolumeState::Missing));
    }
}

/// Killed at any moment: what was planned is swept away, twice without harm.
fn is_swept_at_every_stage(backend: &dyn Backend, paths: &[&Path]) {
    for (stage, id) in ["stage-0", "stage-1", "stage-2", "stage-3"]
        .into_iter()
        .enumerate()
    {
        let mut prepared = backend.prepare(&request(id, paths)).unwrap();
        let plan = prepared.plan();
        if stage > 0 {
            prepared.warm_up(&mut quiet).unwrap();
        }
        if stage > 1 {
            prepared.take(&mut quiet).unwrap();
        }
        if stage > 2 {
            prepared.seal(&tags()).unwrap();
        }
        drop(prepared);
        assert!(backend.sweep("another-id", &plan).unwrap().is_empty());
        let removed = backend.sweep(id, &plan).unwrap();
        println!("stage {stage}: {removed:?}");
        assert!(backend.sweep(id, &plan).unwrap().is_empty());
        assert!(found(backend, id).is_empty());
    }
}

// ---- ZFS

/// A pool with two datasets on one disk, destroyed at the end.
struct Pool {
    name: &'static str,
}

impl Pool {
    fn create(name: &'static str, disk: &str) -> Self {
        drop(try_run(&["zpool", "labelclear", "-f", disk]));
        run(&[
            "zpool",
            "create",
            "-f",
            "-m",
            &format!("/run/{name}"),
            name,
            disk,
        ]);
        run(&["zfs", "create", &format!("{name}/mysql")]);
        run(&["zfs", "create", &format!("{name}/redo")]);
        Self { name }
    }

    fn path(&self, dataset: &str) -> PathBuf {
        format!("/run/{}/{dataset}", self.name).into()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(try_run(&["zpool", "import", self.name]));
        if let Err(error) = try_run(&["zpool", "destroy", "-f", self.name]) {
            eprintln!("{error}");
        }
    }
}

fn both_ways() -> [Zfs; 2] {
    let zfs = Zfs::find().unwrap();
    assert!(zfs.has_library(), "libzfs_core didn't load");
    [zfs.clone(), zfs.without_library()]
}

#[test]
fn zfs_snapshots_live_through_all() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let (data, redo) = (pool.path("mysql"), pool.path("redo"));
    for (zfs, id) in both_ways().iter().zip(["with-library", "with-program"]) {
        lives_through_all(zfs, id, &[&data, &redo], Stillness::Live);
        is_swept_at_every_stage(zfs, &[&data, &redo]);
    }
}

#[test]
fn zfs_takes_several_datasets_in_one_moment() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    for (zfs, id) in both_ways().iter().zip(["with-library", "with-program"]) {
        let records = sealed(
            zfs,
            &request(id, &[&pool.path("mysql"), &pool.path("redo")]),
        );
        let txg = |record: &VolumeRecord| {
            run(&[
                "zfs",
                "get",
                "-Hp",
                "-o",
                "value",
                "createtxg",
                &record.name,
            ])
        };
        assert_eq!(txg(&records[0]), txg(&records[1]));
        // One that can't be taken: none is.
        run(&[
            "zfs",
            "snapshot",
            &format!("labtank/redo@understudy-late-{id}"),
        ]);
        let late = format!("late-{id}");
        let mut prepared = zfs
            .prepare(&request(&late, &[&pool.path("mysql")]))
            .unwrap();
        run(&[
            "zfs",
            "snapshot",
            &format!("labtank/mysql@understudy-{late}"),
        ]);
        let error = prepared.take(&mut quiet).unwrap_err();
        assert!(error.to_string().contains("exists"), "{error}");
        prepared.discard().unwrap();
        run(&["zfs", "list", &format!("labtank/mysql@understudy-{late}")]);
    }
}

#[test]
fn zfs_look_alikes_are_untouched() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let zfs = Zfs::find().unwrap();
    // By name only; by an inherited property; with another's id; received from elsewhere.
    run(&["zfs", "snapshot", "labtank/mysql@understudy-named"]);
    run(&["zfs", "snapshot", "labtank/redo@understudy-inherited"]);
    run(&["zfs", "set", "understudy:id=inherited", "labtank/redo"]);
    run(&[
        "zfs",
        "snapshot",
        "-o",
        "understudy:id=other",
        "labtank/mysql@understudy-foreign",
    ]);
    run(&[
        "zfs",
        "snapshot",
        "-o",
        "understudy:id=sent",
        "labtank/mysql@understudy-sent",
    ]);
    let send = "zfs send -p labtank/mysql@understudy-sent | zfs receive -u labtank/copy";
    run(&["bash", "-c", send]);
    run(&["zfs", "destroy", "labtank/mysql@understudy-sent"]);

    assert_eq!(zfs.discover(&[]).unwrap(), []);
    for (origin, id) in [
        ("labtank/mysql", "named"),
        ("labtank/redo", "inherited"),
        ("labtank/mysql", "foreign"),
        ("labtank/copy", "sent"),
    ] {
        let name = format!("{origin}@understudy-{id}");
        let planned = understudy::volume::PlannedVolume {
            origin: origin.to_owned(),
            name: name.clone(),
        };
        assert!(zfs.sweep(id, &[planned]).unwrap().is_empty());
        let record = VolumeRecord {
            origin: origin.to_owned(),
            uuid: run(&["zfs", "get", "-Hp", "-o", "value", "guid", &name])
                .trim()
                .to_owned(),
            name,
            path: pool.path("mysql"),
            bytes_used: None,
        };
        let error = zfs.delete(id, &record).unwrap_err();
        assert!(matches!(error, VolumeError::NotOurs { .. }), "{error}");
        assert!(is_good(&zfs, &record));
    }
}

#[test]
fn zfs_clones_and_holds_are_named() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let zfs = Zfs::find().unwrap();
    let record = sealed(&zfs, &request("busy", &[&pool.path("mysql")])).remove(0);
    run(&["zfs", "clone", &record.name, "labtank/clone"]);
    assert!(busy(zfs.delete("busy", &record)).contains("labtank/clone"));
    run(&["zfs", "destroy", "labtank/clone"]);
    run(&["zfs", "hold", "backup-tool", &record.name]);
    assert!(busy(zfs.delete("busy", &record)).contains("backup-tool"));
    run(&["zfs", "release", "backup-tool", &record.name]);
    assert!(zfs.delete("busy", &record).unwrap());
}

#[test]
fn zfs_renamed_is_invalid_and_an_exported_pool_unknown() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let zfs = Zfs::find().unwrap();
    let record = sealed(&zfs, &request("moved", &[&pool.path("mysql")])).remove(0);
    run(&["zfs", "rename", &record.name, "labtank/mysql@mine"]);
    assert!(invalid_reason(&zfs, &record).contains("labtank/mysql@mine"));
    run(&["zpool", "export", "labtank"]);
    assert!(zfs.probe(&record).known().is_none());
    assert!(zfs.delete("moved", &record).is_err());
}

#[test]
fn zfs_refuses_what_it_can_not_take() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let other = Pool::create("labother", &lab.disks[0]);
    let zfs = Zfs::find().unwrap();
    let both = request("pools", &[&pool.path("mysql"), &other.path("redo")]);
    assert!(refusal(zfs.prepare(&both)).contains("labother, labtank"));

    let moved = request("moved", &[&pool.path("mysql")]);
    run(&[
        "zfs",
        "set",
        "mountpoint=/run/labtank/elsewhere",
        "labtank/mysql",
    ]);
    assert!(refusal(zfs.prepare(&moved)).contains("/run/labtank/elsewhere"));
}

// ---- LVM

/// A group with a thick volume, another, and a thin pool with one; each mounted but the pool.
struct Group {
    name: &'static str,
    mounts: Vec<PathBuf>,
}

impl Group {
    /// With a thick volume `mysql`.
    fn thick(lab: &Lab) -> Self {
        let mut group = Self::empty(lab);
        group.add_thick("mysql", "256M");
        group
    }

    /// With a thin volume `thin` in `pool`.
    fn thin(lab: &Lab) -> Self {
        let mut group = Self::empty(lab);
        group.add_thin();
        group
    }

    /// With both, and another thick one, `redo`.
    fn whole(lab: &Lab) -> Self {
        let mut group = Self::thick(lab);
        group.add_thick("redo", "64M");
        group.add_thin();
        group
    }

    fn empty(lab: &Lab) -> Self {
        let name = "lab-vg";
        drop(try_run(&["zpool", "labelclear", "-f", &lab.disks[0]]));
        run(&["wipefs", "-aq", &lab.disks[0]]);
        run(&["modprobe", "-a", "dm-snapshot", "dm-thin-pool", "ext4"]);
        run(&["vgcreate", "-qy", name, &lab.disks[0]]);
        Self {
            name,
            mounts: Vec::new(),
        }
    }

    fn add_thick(&mut self, volume: &str, size: &str) {
        run(&[
            "lvcreate", "-qy", "-Wy", "-L", size, "-n", volume, self.name,
        ]);
        self.mount(volume);
    }

    fn add_thin(&mut self) {
        let create = ["lvcreate", "-qy", "--type", "thin-pool", "-L", "256M"];
        run(&[&create[..], &["-n", "pool", self.name]].concat());
        let create = ["lvcreate", "-qy", "-Wy", "-V", "200M", "--thinpool", "pool"];
        run(&[&create[..], &["-n", "thin", self.name]].concat());
        self.mount("thin");
    }

    fn mount(&mut self, volume: &str) {
        // Initialised lazily, it would write into the snapshots while they are looked at.
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        let device = format!("/dev/{}/{volume}", self.name);
        run(&["mkfs.ext4", "-qF", "-E", options, &device]);
        self.mount_made(volume);
    }

    /// A thin volume `xfs` with that on it, which needs 300 MB.
    fn add_thin_xfs(&mut self) {
        let create = ["lvcreate", "-qy", "-Wy", "-V", "320M", "--thinpool", "pool"];
        run(&[&create[..], &["-n", "xfs", self.name]].concat());
        run(&["mkfs.xfs", "-q", &format!("/dev/{}/xfs", self.name)]);
        self.mount_made("xfs");
    }

    fn mount_made(&mut self, volume: &str) {
        let (device, path) = (format!("/dev/{}/{volume}", self.name), self.path(volume));
        std::fs::create_dir_all(&path).unwrap();
        run(&["mount", &device, path.to_str().unwrap()]);
        std::fs::write(path.join("data"), "before").unwrap();
        self.mounts.push(path);
    }

    fn path(&self, volume: &str) -> PathBuf {
        format!("/run/lab-lvm/{volume}").into()
    }

    fn volume(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(try_run(&["umount", "/run/lab-lvm/snapshot"]));
        // What a failed test has left standing on a volume.
        for device in try_run(&["dmsetup", "ls"]).unwrap_or_default().lines() {
            let name = device.split('\t').next().unwrap_or_default();
            if name.starts_with("understudy-") || name == "mine" {
                drop(try_run(&["dmsetup", "remove", "-f", name]));
            }
        }
        for path in &self.mounts {
            drop(try_run(&["umount", path.to_str().unwrap()]));
        }
        if let Err(error) = try_run(&["vgremove", "-qyf", self.name]) {
            eprintln!("{error}");
        }
    }
}

/// The lvm processes that are our children.
fn shells() -> usize {
    let children = run(&[
        "ps",
        "--ppid",
        &std::process::id().to_string(),
        "-o",
        "comm=",
    ]);
    children.lines().filter(|name| name.trim() == "lvm").count()
}

#[test]
fn thick_snapshots_live_through_all() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    lives_through_all(&lvm, "a-b.c_d", &[&group.path("mysql")], Stillness::Live);
    is_swept_at_every_stage(&lvm, &[&group.path("mysql")]);
    assert_eq!(shells(), 0);
}

#[test]
fn thin_snapshots_live_through_all() {
    let Some(lab) = lab() else { return };
    let group = Group::thin(&lab);
    let lvm = Lvm::find_thin().unwrap();
    lives_through_all(&lvm, "a-b.c_d", &[&group.path("thin")], Stillness::Live);
    is_swept_at_every_stage(&lvm, &[&group.path("thin")]);
    assert_eq!(shells(), 0);
}

#[test]
fn several_logical_volumes_need_stillness() {
    let Some(lab) = lab() else { return };
    let group = Group::whole(&lab);
    let lvm = Lvm::find_thick().unwrap();
    let (data, redo) = (group.path("mysql"), group.path("redo"));
    let live = request("two", &[&data, &redo]);
    assert!(refusal(lvm.prepare(&live)).contains("lab-vg/mysql, lab-vg/redo"));
    lives_through_all(&lvm, "two", &[&data, &redo], Stillness::Stopped);
    let mixed = TakeRequest {
        stillness: Stillness::Stopped,
        ..request("mixed", &[&data, &group.path("thin")])
    };
    assert!(refusal(lvm.prepare(&mixed)).contains("thin volume"));
}

#[test]
fn kinds_are_told_apart() {
    let Some(lab) = lab() else { return };
    let group = Group::whole(&lab);
    let kind = |source: &str| Lvm::kind_of(source);
    for volume in ["mysql", "thin"] {
        let device = std::fs::canonicalize(format!("/dev/lab-vg/{volume}")).unwrap();
        let expected = match volume {
            "thin" => BackendKind::LvmThin,
            _ => BackendKind::LvmThick,
        };
        assert_eq!(
            kind(&mount_at(&group.path(volume)).source).unwrap(),
            expected
        );
        assert_eq!(kind(&format!("/dev/lab-vg/{volume}")).unwrap(), expected);
        assert_eq!(kind(device.to_str().unwrap()).unwrap(), expected);
    }
    assert!(matches!(
        kind(&lab.disks[1]),
        Err(VolumeError::NotFound { .. })
    ));
}

#[test]
fn thick_snapshot_holds_the_moment_and_is_busy_while_mounted() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    let record = sealed(&lvm, &request("held", &[&group.path("mysql")])).remove(0);
    std::fs::write(group.path("mysql").join("data"), "after").unwrap();
    std::fs::create_dir_all("/run/lab-lvm/snapshot").unwrap();
    run(&[
        "mount",
        &format!("/dev/{}", record.name),
        "/run/lab-lvm/snapshot",
    ]);
    assert_eq!(
        std::fs::read_to_string("/run/lab-lvm/snapshot/data").unwrap(),
        "before"
    );
    assert!(busy(lvm.delete("held", &record)).contains("/run/lab-lvm/snapshot"));
    run(&["umount", "/run/lab-lvm/snapshot"]);
    assert!(lvm.delete("held", &record).unwrap());
}

#[test]
fn thin_snapshot_holds_the_moment_for_a_writable_clone() {
    let Some(lab) = lab() else { return };
    let group = Group::thin(&lab);
    let lvm = Lvm::find_thin().unwrap();
    let record = sealed(&lvm, &request("held", &[&group.path("thin")])).remove(0);
    std::fs::write(group.path("thin").join("data"), "after").unwrap();
    run(&[
        "lvcreate",
        "-qy",
        "-s",
        "-kn",
        "-prw",
        "-n",
        "clone",
        &record.name,
    ]);
    std::fs::create_dir_all("/run/lab-lvm/snapshot").unwrap();
    run(&["mount", "/dev/lab-vg/clone", "/run/lab-lvm/snapshot"]);
    assert_eq!(
        std::fs::read_to_string("/run/lab-lvm/snapshot/data").unwrap(),
        "before"
    );
    // The clone isn't ours, and keeps its data when the snapshot goes.
    assert_eq!(found(&lvm, "held").len(), 1);
    assert!(lvm.delete("held", &record).unwrap());
    run(&["umount", "/run/lab-lvm/snapshot"]);
}

#[test]
fn thick_overflow_is_invalid() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    let record = sealed(&lvm, &request("small", &[&group.path("mysql")])).remove(0);
    let fill = group.path("mysql").join("fill");
    run(&[
        "dd",
        "if=/dev/urandom",
        &format!("of={}", fill.display()),
        "bs=1M",
        "count=100",
        "conv=fsync",
    ]);
    assert!(invalid_reason(&lvm, &record).contains("overflowed (32 MiB)"));
    let found = found(&lvm, "small").remove(0);
    assert!(matches!(found.state, VolumeState::Invalid(_)));
    assert!(lvm.delete("small", &record).unwrap());
}

#[test]
fn thick_without_room_is_refused() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    let large = TakeRequest {
        cow_size: CowSize::Bytes(1 << 40),
        ..request("large", &[&group.path("mysql")])
    };
    assert!(refusal(lvm.prepare(&large)).contains("free"));
}

#[test]
fn thin_pool_near_full_is_refused() {
    let Some(lab) = lab() else { return };
    let group = Group::thin(&lab);
    let lvm = Lvm::find_thin().unwrap();
    run(&[
        "lvcreate",
        "-qy",
        "-V",
        "400M",
        "--thinpool",
        "pool",
        "-n",
        "more",
        "lab-vg",
    ]);
    let used = || -> f64 {
        let percent = run(&["lvs", "--noheadings", "-o", "data_percent", "lab-vg/pool"]);
        percent.trim().parse().unwrap()
    };
    for part in 0.. {
        if used() >= 90.0 {
            break;
        }
        let seek = format!("seek={}", 16 * part);
        run(&[
            "dd",
            "if=/dev/urandom",
            "of=/dev/lab-vg/more",
            "bs=1M",
            "count=16",
            &seek,
            "conv=fsync",
        ]);
    }
    let reason = refusal(lvm.prepare(&request("full", &[&group.path("thin")])));
    assert!(reason.contains("% of its data"), "{reason}");
}

#[test]
fn lvm_look_alikes_are_untouched() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    let create = ["lvcreate", "-qy", "-s", "-L", "16M", "-n"];
    let origin = group.volume("mysql");
    run(&[&create[..], &["understudy-named", &origin]].concat());
    let tag = ["--addtag", "understudy.id=other"];
    run(&[&create[..], &["understudy-tagged", &origin], &tag].concat());
    assert_eq!(lvm.discover(&[]).unwrap(), []);
    for id in ["named", "tagged", "other"] {
        let name = group.volume(&format!("understudy-{id}"));
        let planned = understudy::volume::PlannedVolume {
            origin: origin.clone(),
            name: name.clone(),
        };
        assert!(lvm.sweep(id, &[planned]).unwrap().is_empty());
        if id != "other" {
            let uuid = run(&["lvs", "--noheadings", "-o", "lv_uuid", &name])
                .trim()
                .to_owned();
            let record = VolumeRecord {
                origin: origin.clone(),
                name,
                path: group.path("mysql"),
                bytes_used: None,
                uuid,
            };
            let error = lvm.delete(id, &record).unwrap_err();
            assert!(matches!(error, VolumeError::NotOurs { .. }), "{error}");
        }
    }
}

#[test]
fn a_suspended_origin_is_refused_and_resumed_by_sweep() {
    let Some(lab) = lab() else { return };
    let group = Group::whole(&lab);
    for (lvm, volume) in [
        (Lvm::find_thick().unwrap(), "mysql"),
        (Lvm::find_thin().unwrap(), "thin"),
    ] {
        let request = request("stuck", &[&group.path(volume)]);
        let mut prepared = lvm.prepare(&request).unwrap();
        prepared.warm_up(&mut quiet).unwrap();
        let plan = prepared.plan();
        drop(prepared);
        run(&["dmsetup", "suspend", &format!("lab--vg-{volume}")]);
        let refused = lvm.prepare(&TakeRequest {
            id: "other".to_owned(),
            ..request
        });
        let done = lvm.sweep("stuck", &plan).unwrap();
        assert!(refusal(refused).contains("is suspended"));
        assert!(done[0].contains("resumed"), "{done:?}");
        std::fs::write(group.path(volume).join("data"), "again").unwrap();
        assert!(found(&lvm, "stuck").is_empty());
    }
}

#[test]
fn a_frozen_filesystem_makes_it_fail_and_leaves_nothing() {
    let Some(lab) = lab() else { return };
    let group = Group::whole(&lab);
    let devices = || run(&["dmsetup", "ls"]);
    for (lvm, volume) in [
        (Lvm::find_thick().unwrap(), "mysql"),
        (Lvm::find_thin().unwrap(), "thin"),
    ] {
        let before = devices();
        let path = group.path(volume);
        let mut prepared = lvm.prepare(&request("frozen", &[&path])).unwrap();
        prepared.warm_up(&mut quiet).unwrap();
        run(&["fsfreeze", "-f", path.to_str().unwrap()]);
        let taken = prepared.take(&mut quiet);
        run(&["fsfreeze", "-u", path.to_str().unwrap()]);
        assert!(busy(taken).contains("is frozen"));
        prepared.discard().unwrap();
        assert_eq!(devices(), before);
        std::fs::write(path.join("data"), "again").unwrap();
        lives_through_all(&lvm, "thereafter", &[&path], Stillness::Live);
    }
}
