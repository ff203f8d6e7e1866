//! Putting kept datasets and logical volumes in place of their origin, also when it is killed on
//! the way.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use understudy::sys::Fact;
use understudy::volume::lvm::Lvm;
use understudy::volume::zfs::Zfs;
use understudy::volume::{
    Backend, BackendKind, PutRequest, Renamed, VolumeError, VolumeRecord, VolumeState, choose,
};

use super::{
    Group, LIMIT, Pool, busy, is_good, lab, mount_at, quiet, refusal, request, run, sealed,
};

const USE: &str = "restore-db2-20261122T020000Z-7f3a-x1y2";
const OTHER_USE: &str = "restore-db2-20261122T020000Z-7f3a-x3y4";
/// Older than what is put, that itself, newer, and taken right before.
const IDS: [&str; 4] = ["older", "kept", "newer", "undo"];
const KEPT: usize = 1;
const UNDO: usize = 3;

fn put_request(use_id: &str, id: &str, volume: &VolumeRecord) -> PutRequest {
    PutRequest {
        use_id: use_id.to_owned(),
        id: id.to_owned(),
        volume: volume.clone(),
        number: 1,
        limit: LIMIT,
    }
}

/// A volume with four snapshots, each with a `data` of its own.
struct Told<'a> {
    backend: &'a dyn Backend,
    origin: PathBuf,
    records: Vec<VolumeRecord>,
}

impl<'a> Told<'a> {
    fn of(backend: &'a dyn Backend, origin: &Path) -> Self {
        let mut told = Self {
            backend,
            origin: origin.to_owned(),
            records: Vec::new(),
        };
        for id in IDS {
            told.write(id);
            told.take(id);
        }
        told.write("present");
        told
    }

    fn take(&mut self, id: &str) {
        let record = sealed(self.backend, &request(id, &[&self.origin])).remove(0);
        self.records.push(record);
    }

    fn write(&self, text: &str) {
        std::fs::write(self.origin.join("data"), text).unwrap();
        std::fs::write(self.origin.join(format!("only-{text}")), vec![7; 1 << 20]).unwrap();
        let dir = std::fs::File::open(&self.origin).unwrap();
        nix::unistd::syncfs(&dir).unwrap();
    }

    fn request(&self, use_id: &str, index: usize) -> PutRequest {
        put_request(use_id, IDS[index], &self.records[index])
    }

    fn put(&mut self, use_id: &str, index: usize) {
        let request = self.request(use_id, index);
        let renamed = self.backend.put(&request, &mut quiet).unwrap();
        self.follow(renamed);
    }

    /// What the caller does with its manifests.
    fn follow(&mut self, renamed: Vec<Renamed>) {
        for Renamed { id, record: new } in renamed {
            let is_it = |record: &&mut VolumeRecord| record.uuid == new.uuid;
            if let Some(record) = self.records.iter_mut().find(is_it) {
                assert!(new.name.ends_with(&format!("@understudy-{id}")), "{new:?}");
                assert_eq!((&new.origin, &new.path), (&record.origin, &record.path));
                record.name = new.name;
            }
        }
    }

    /// The origin has the content of that one, and all are good and found under their records.
    #[track_caller]
    fn assert_holds(&self, text: &str) {
        assert_eq!(self.mount_source(), self.source_of_origin());
        let data = std::fs::read_to_string(self.origin.join("data")).unwrap();
        assert_eq!(data, text);
        for other in IDS.iter().chain(&["present"]) {
            let is_there = self.origin.join(format!("only-{other}")).exists();
            let was_written = |id: &str| IDS.iter().chain(&["present"]).position(|own| *own == id);
            assert_eq!(is_there, was_written(other) <= was_written(text), "{other}");
        }
        let found = self.backend.discover(&[]).unwrap();
        let found: BTreeMap<_, _> = found
            .into_iter()
            .map(|found| (found.record.uuid.clone(), found.record))
            .collect();
        assert_eq!(found.len(), self.records.len());
        for record in &self.records {
            assert!(
                is_good(self.backend, record),
                "{:?}",
                self.backend.probe(record)
            );
            let found = &found[&record.uuid];
            assert_eq!((&found.name, &found.origin), (&record.name, &record.origin));
        }
    }

    fn mount_source(&self) -> String {
        mount_at(&self.origin).source
    }

    fn source_of_origin(&self) -> String {
        let origin = &self.records[0].origin;
        match self.backend.kind() {
            BackendKind::Zfs => origin.clone(),
            _ => format!(
                "/dev/mapper/{}",
                origin.replace('-', "--").replace('/', "-")
            ),
        }
    }
}

/// Puts in a process of its own, which dies at the place. False when it came to its end.
fn is_killed_at(place: &str, kind: BackendKind, request: &PutRequest) -> bool {
    let spec = serde_json::json!([kind, request.use_id, request.id, request.volume]);
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "puts::puts_in_a_process_of_its_own"])
        .env("UNDERSTUDY_TEST_PUT", spec.to_string())
        .env("UNDERSTUDY_FAILPOINT", format!("{place}=kill"))
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success() || status.signal() == Some(9), "{status}");
    !status.success()
}

/// What `is_killed_at` runs; by itself it is nothing.
#[test]
fn puts_in_a_process_of_its_own() {
    let Ok(spec) = std::env::var("UNDERSTUDY_TEST_PUT") else {
        return;
    };
    let (kind, use_id, id, volume): (BackendKind, String, String, VolumeRecord) =
        serde_json::from_str(&spec).unwrap();
    let backend = choose::open(kind).unwrap();
    backend
        .put(&put_request(&use_id, &id, &volume), &mut quiet)
        .unwrap();
}

/// At each place: completed by the next call; and undone by a put of the last snapshot.
fn is_completed_or_undone(told: &mut Told<'_>, places: &[&str]) {
    let kind = told.backend.kind();
    for (number, place) in places.iter().enumerate() {
        let started = std::time::Instant::now();
        let (one, other) = (format!("{USE}{number}"), format!("{OTHER_USE}{number}"));
        let planned = told.backend.plan_put(&told.request(&one, KEPT)).unwrap();
        let killed = is_killed_at(place, kind, &told.request(&one, KEPT));
        assert!(killed, "{place} isn't passed");
        if number % 2 == 0 {
            told.put(&one, KEPT);
            told.assert_holds("kept");
            told.put(&one, KEPT);
            told.assert_holds("kept");
        }
        told.backend
            .plan_put(&told.request(&other, UNDO))
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        told.put(&other, UNDO);
        told.backend.drop_clones(&one, &planned).unwrap();
        told.assert_holds("undo");
        println!("{place}: {:?}", started.elapsed());
    }
}

// ---- ZFS

const ZFS_PLACES: [&str; 7] = [
    "put-cloned",
    "put-unmounted",
    "put-marked",
    "put-set-aside",
    "put-renamed",
    "put-promoted",
    "put-mounted",
];

fn local_properties(dataset: &str) -> String {
    let columns = "property,value";
    run(&[
        "zfs", "get", "-Hp", "-s", "local", "-o", columns, "all", dataset,
    ])
}

fn datasets() -> String {
    run(&["zfs", "list", "-H", "-o", "name"])
}

#[test]
fn zfs_put_keeps_every_snapshot_and_all_properties() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    for property in [
        "recordsize=16K",
        "compression=lz4",
        "quota=6G",
        // The pool has 7.5 GB, so that this much can't be reserved twice.
        "refreservation=4G",
        "canmount=on",
        "com.example:owner=a b",
        "mountpoint=/run/labtank/elsewhere",
    ] {
        run(&["zfs", "set", property, "labtank/mysql"]);
    }
    let before = local_properties("labtank/mysql");
    let zfs = Zfs::find().unwrap();
    let mut told = Told::of(&zfs, &pool.path("elsewhere"));
    run(&["zfs", "snapshot", "labtank/mysql@foreign"]);
    let planned = zfs.plan_put(&told.request(USE, KEPT)).unwrap();
    let names: Vec<_> = planned.iter().map(|planned| planned.name.clone()).collect();
    assert_eq!(
        names,
        [
            format!("labtank/understudy-{USE}-1"),
            format!("labtank/understudy-before-{USE}-1")
        ]
    );
    told.put(USE, KEPT);
    told.assert_holds("kept");
    let after = local_properties("labtank/mysql");
    let after = after.replace(&format!("understudy:put\t{USE}\n"), "");
    assert_eq!(after, before);
    assert_eq!(told.records[KEPT].name, "labtank/mysql@understudy-kept");
    let aside = names[1].clone();
    assert_eq!(told.records[UNDO].name, format!("{aside}@understudy-undo"));
    run(&["zfs", "list", &format!("{aside}@foreign")]);

    // A second time, from there, and back again: all comes together.
    told.write("present");
    told.put(OTHER_USE, UNDO);
    told.assert_holds("undo");
    for record in &told.records {
        assert!(record.name.starts_with("labtank/mysql@"), "{record:?}");
    }
    let left = format!("labtank\nlabtank/mysql\nlabtank/redo\n{aside}\n");
    assert_eq!(datasets(), left);
    run(&["zfs", "destroy", &format!("{aside}@foreign")]);

    // What was set aside goes with its last snapshot, and holds up no removal.
    told.put(&format!("{USE}-again"), KEPT);
    told.assert_holds("kept");
    for index in [1, 0, 3, 2] {
        let record = told.records[index].clone();
        assert!(zfs.delete(IDS[index], &record).unwrap());
        assert!(!zfs.delete(IDS[index], &record).unwrap());
        assert_eq!(zfs.probe(&record), Fact::Known(VolumeState::Missing));
    }
    assert!(zfs.discover(&[]).unwrap().is_empty());
    assert_eq!(read(&told.origin), "kept");
    assert!(!datasets().contains("-again"), "{}", datasets());
}

fn read(tree: &Path) -> String {
    std::fs::read_to_string(tree.join("data")).unwrap()
}

#[test]
fn zfs_put_that_is_killed_is_completed_or_undone() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let zfs = Zfs::find().unwrap();
    let mut told = Told::of(&zfs, &pool.path("mysql"));
    let before = local_properties("labtank/mysql");
    is_completed_or_undone(&mut told, &ZFS_PLACES);
    let after = local_properties("labtank/mysql");
    let after: Vec<_> = after
        .lines()
        .filter(|line| !line.starts_with("understudy:put\t"))
        .collect();
    // What isn't local is the default.
    assert_eq!(after, ["canmount\ton"], "before: {before}");
    assert_eq!(datasets(), "labtank\nlabtank/mysql\nlabtank/redo\n");
}

#[test]
fn zfs_put_knows_legacy_mounts_and_keys() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let zfs = Zfs::find().unwrap();
    let path = pool.path("legacy");
    std::fs::create_dir(&path).unwrap();
    std::fs::write("/run/lab-key", [7; 32]).unwrap();
    run(&[
        "zfs",
        "create",
        "-o",
        "mountpoint=legacy",
        "-o",
        "encryption=on",
        "-o",
        "keyformat=raw",
        "-o",
        "keylocation=file:///run/lab-key",
        "labtank/legacy",
    ]);
    let mount = [
        "mount",
        "-t",
        "zfs",
        "-o",
        "noatime,nosuid",
        "labtank/legacy",
    ];
    run(&[&mount[..], &[path.to_str().unwrap()]].concat());
    let mut told = Told::of(&zfs, &path);
    let options = mount_options(&path);
    assert!(options.contains("noatime"), "{options}");
    for (number, place) in ["put-unmounted", "put-set-aside", "put-promoted"]
        .into_iter()
        .enumerate()
    {
        let use_id = format!("{USE}{number}");
        let request = told.request(&use_id, KEPT);
        assert!(is_killed_at(place, BackendKind::Zfs, &request));
        told.put(&use_id, KEPT);
        told.assert_holds("kept");
        assert_eq!(mount_options(&path), options);
        told.put(&format!("{OTHER_USE}{number}"), UNDO);
        told.assert_holds("undo");
        assert_eq!(mount_options(&path), options);
    }
    run(&["zfs", "set", "keylocation=prompt", "labtank/legacy"]);
    let reason = refusal(zfs.plan_put(&told.request(USE, KEPT)));
    assert!(reason.contains("the key of"), "{reason}");
}

fn mount_options(path: &Path) -> String {
    let output = run(&["findmnt", "-n", "-o", "OPTIONS", path.to_str().unwrap()]);
    output.trim().to_owned()
}

#[test]
fn zfs_put_refuses_what_it_can_not_do() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let zfs = Zfs::find().unwrap();
    let told = Told::of(&zfs, &pool.path("mysql"));
    let plan = || zfs.plan_put(&told.request(USE, KEPT));
    run(&["zfs", "create", "labtank/mysql/below"]);
    assert!(refusal(plan()).contains("labtank/mysql/below lies below"));
    run(&["zfs", "destroy", "labtank/mysql/below"]);
    let elsewhere = tempfile::tempdir().unwrap();
    let place = elsewhere.path().to_str().unwrap();
    run(&["mount", "--bind", told.origin.to_str().unwrap(), place]);
    assert!(busy(plan()).contains(place));
    run(&["umount", place]);
    // Something open in it: nothing is renamed, and it goes on later.
    let open = std::fs::File::open(told.origin.join("data")).unwrap();
    let request = told.request(USE, KEPT);
    assert!(matches!(
        zfs.put(&request, &mut quiet),
        Err(VolumeError::Busy { .. })
    ));
    drop(open);
    told.assert_holds("present");
    let mut told = told;
    told.put(USE, KEPT);
    told.assert_holds("kept");
    let mut root = told.request(OTHER_USE, KEPT);
    root.volume.origin = "labtank".to_owned();
    assert!(refusal(zfs.plan_put(&root)).contains("its pool's root"));
}

// ---- LVM

#[test]
fn thin_put_keeps_every_snapshot_and_the_mount() {
    let Some(lab) = lab() else { return };
    let mut group = Group::thin(&lab);
    group.add_thin_xfs();
    let lvm = Lvm::find_thin().unwrap();
    let path = group.path("xfs");
    run(&[
        "mount",
        "-o",
        "remount,noatime,nodev",
        path.to_str().unwrap(),
    ]);
    run(&["lvchange", "-q", "--addtag", "somebody", "lab-vg/xfs"]);
    let mut told = Told::of(&lvm, &path);
    let options = mount_options(&path);
    let planned = lvm.plan_put(&told.request(USE, KEPT)).unwrap();
    assert_eq!(planned.len(), 2);
    told.put(USE, KEPT);
    told.assert_holds("kept");
    assert_eq!(mount_options(&path), options);
    let tags = |name: &str| {
        let tags = run(&["lvs", "--noheadings", "-o", "lv_tags", name]);
        tags.trim().to_owned()
    };
    assert_eq!(tags("lab-vg/xfs"), format!("somebody,understudy.put={USE}"));
    let names = run(&["lvs", "--noheadings", "-o", "lv_name", "lab-vg"]);
    assert!(!names.contains("before") && !names.contains(USE), "{names}");
    told.put(OTHER_USE, UNDO);
    told.assert_holds("undo");
    told.take("last");
    for (id, record) in IDS.iter().chain(&["last"]).zip(&told.records) {
        assert!(lvm.delete(id, record).unwrap());
    }
    assert_eq!(read(&path), "undo");
}

#[test]
fn thin_put_that_is_killed_is_completed_or_undone() {
    let Some(lab) = lab() else { return };
    let group = Group::thin(&lab);
    let lvm = Lvm::find_thin().unwrap();
    let mut told = Told::of(&lvm, &group.path("thin"));
    let places = [
        "put-cloned",
        "put-unmounted",
        "put-marked",
        "put-set-aside",
        "put-renamed",
        "put-mounted",
        "put-dropped",
    ];
    is_completed_or_undone(&mut told, &places);
    let names = run(&["lvs", "--noheadings", "-o", "lv_name", "lab-vg"]);
    assert!(!names.contains("before") && !names.contains(USE), "{names}");
}

#[test]
fn thick_put_keeps_every_snapshot_and_the_mount() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    let path = group.path("mysql");
    run(&["mount", "-o", "remount,noatime", path.to_str().unwrap()]);
    let options = mount_options(&path);
    let mut told = Told::of(&lvm, &path);
    assert!(lvm.plan_put(&told.request(USE, KEPT)).unwrap().is_empty());
    let mut seen = (0, 0);
    let request = told.request(USE, KEPT);
    let renamed = lvm
        .put(&request, &mut |done, all| seen = (done, all))
        .unwrap();
    assert!(renamed.is_empty());
    assert_eq!(seen, (256 << 20, 256 << 20));
    told.assert_holds("kept");
    assert_eq!(mount_options(&path), options);
    is_completed_or_undone(
        &mut told,
        &["put-unmounted", "put-copying", "put-copied", "put-mounted"],
    );
    assert_eq!(mount_options(&path), options);
    let tags = run(&["lvs", "--noheadings", "-o", "lv_tags", "lab-vg/mysql"]);
    assert_eq!(tags.trim(), "");
}

#[test]
fn thick_put_needs_room_in_the_other_snapshots() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    let mut told = Told::of(&lvm, &group.path("mysql"));
    told.records.truncate(2);
    let fill = group.path("mysql").join("fill");
    std::fs::write(&fill, vec![7; 8 << 20]).unwrap();
    let dir = std::fs::File::open(&fill).unwrap();
    nix::unistd::syncfs(&dir).unwrap();
    // One that is small holds little of what the kept one holds.
    run(&[
        "lvcreate",
        "-qy",
        "-s",
        "-L",
        "12M",
        "-n",
        "mine",
        "lab-vg/mysql",
    ]);
    let reason = refusal(lvm.plan_put(&told.request(USE, KEPT)));
    assert!(reason.contains("lab-vg/mine has room for"), "{reason}");
    // Taken since it was planned: nothing is unmounted for it.
    let reason = refusal(lvm.put(&told.request(USE, KEPT), &mut quiet));
    assert!(reason.contains("lab-vg/mine has room for"), "{reason}");
    mount_at(&group.path("mysql"));
    run(&["lvextend", "-q", "-L+32M", "lab-vg/mine"]);
    lvm.plan_put(&told.request(USE, KEPT)).unwrap();
    let open = std::fs::File::open(&fill).unwrap();
    let request = told.request(USE, KEPT);
    assert!(matches!(
        lvm.put(&request, &mut quiet),
        Err(VolumeError::Busy { .. })
    ));
    drop(open);
}
