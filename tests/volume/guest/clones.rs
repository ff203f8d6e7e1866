//! Clones of kept datasets and logical volumes.

use std::path::Path;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use understudy::sys::Fact;
use understudy::volume::lvm::Lvm;
use understudy::volume::mount::{Access, mount, unmount};
use understudy::volume::zfs::Zfs;
use understudy::volume::{
    Backend, CloneRequest, Mountable, PlannedVolume, VolumeError, VolumeRecord, VolumeState,
};

use super::{
    Group, LIMIT, Pool, busy, is_good, lab, quiet, refusal, request, run, sealed, try_run,
};

const ID: &str = "db2-20261122T020000Z-7f3a";
const USE: &str = "verify-db2-20261122T020000Z-7f3a-x1y2";

fn clone_request(volume: &VolumeRecord) -> CloneRequest {
    CloneRequest {
        use_id: USE.to_owned(),
        id: ID.to_owned(),
        volume: volume.clone(),
        number: 1,
        limit: LIMIT,
    }
}

fn cloned(backend: &dyn Backend, volume: &VolumeRecord) -> ([PlannedVolume; 1], Mountable) {
    let planned = backend.plan_clone(&clone_request(volume)).unwrap();
    let made = backend.make_clone(&clone_request(volume), &planned, &mut quiet);
    ([planned], made.unwrap())
}

/// Mounts in a namespace of a thread's own, and unmounts after it.
fn mounted<T: Send>(what: &Mountable, access: Access, body: impl FnOnce(&Path) -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
            nix::mount::mount(None::<&Path>, "/", None::<&Path>, flags, None::<&Path>).unwrap();
            let point = tempfile::Builder::new()
                .prefix("any where-")
                .tempdir()
                .unwrap();
            mount(what, point.path(), access).unwrap();
            let result = body(point.path());
            assert!(unmount(point.path()).unwrap());
            result
        });
        thread.join().unwrap()
    })
}

fn read(tree: &Path) -> String {
    std::fs::read_to_string(tree.join("data")).unwrap()
}

/// From the recovery of its journal to a large write.
fn write_to(tree: &Path) {
    std::fs::write(tree.join("data"), "clone").unwrap();
    std::fs::write(tree.join("large"), vec![7; 8 << 20]).unwrap();
    std::fs::create_dir(tree.join("directory")).unwrap();
    let dir = std::fs::File::open(tree).unwrap();
    nix::unistd::syncfs(&dir).unwrap();
}

/// The whole life of a clone. `sum` tells all that a kept volume holds.
fn clone_lives_through_all(
    backend: &dyn Backend,
    origin: &Path,
    sum: &dyn Fn(&VolumeRecord) -> String,
    kept_needs_no_clone_on_it: bool,
) {
    std::fs::write(origin.join("data"), "before").unwrap();
    let record = sealed(backend, &request(ID, &[origin])).remove(0);
    std::fs::write(origin.join("data"), "after").unwrap();
    let before = sum(&record);

    let (planned, clone) = cloned(backend, &record);
    println!("{clone:?}");
    assert_eq!(backend.discover(&[]).unwrap().len(), 1);
    assert!(backend.sweep(USE, &planned).unwrap().is_empty());
    let again = backend.plan_clone(&clone_request(&record));
    assert!(refusal(again).contains("exists already"));
    mounted(&clone, Access::ReadWrite, |tree| {
        assert_eq!(read(tree), "before");
        write_to(tree);
        let place = tree.display().to_string();
        assert!(busy(backend.drop_clones(USE, &planned)).contains(&place));
        assert!(is_good_clone(backend, &planned[0]));
    });
    if kept_needs_no_clone_on_it {
        let reason = busy(backend.delete(ID, &record));
        assert!(reason.contains(&format!("understudy-{USE}-1")), "{reason}");
    }
    mounted(&clone, Access::ReadWrite, |tree| {
        assert_eq!(read(tree), "clone")
    });
    // Right after the unmounting.
    let removed = backend.drop_clones(USE, &planned).unwrap();
    assert!(!removed.is_empty());
    println!("{removed:?}");
    assert!(backend.drop_clones(USE, &planned).unwrap().is_empty());
    let missing = Fact::Known(VolumeState::Missing);
    assert_eq!(backend.probe_clone(&planned[0]), missing);

    assert_eq!(read(origin), "after");
    assert_eq!(sum(&record), before);
    assert!(is_good(backend, &record));
    let (planned, clone) = cloned(backend, &record);
    mounted(&clone, Access::ReadOnly, |tree| {
        assert_eq!(read(tree), "before")
    });
    assert!(!backend.drop_clones(USE, &planned).unwrap().is_empty());
    assert!(backend.delete(ID, &record).unwrap());
}

fn is_good_clone(backend: &dyn Backend, planned: &PlannedVolume) -> bool {
    let state = backend.probe_clone(planned);
    matches!(state, Fact::Known(VolumeState::Good { .. }))
}

/// Of all that a device shows.
fn device_sum(volume: &VolumeRecord) -> String {
    run(&["cksum", &format!("/dev/{}", volume.name)])
}

/// Of a thin one, which is only activated for this.
fn thin_sum(volume: &VolumeRecord) -> String {
    run(&["lvchange", "-qay", "-K", &volume.name]);
    let sum = device_sum(volume);
    run(&["lvchange", "-qan", &volume.name]);
    sum
}

/// Where udev says that a volume's filesystem is.
fn by_uuid(device: &str) -> std::path::PathBuf {
    let uuid = run(&["blkid", "-p", "-o", "value", "-s", "UUID", device]);
    std::fs::canonicalize(format!("/dev/disk/by-uuid/{}", uuid.trim())).unwrap()
}

// ---- ZFS

#[test]
fn zfs_clone_lives_through_all() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let zfs = Zfs::find().unwrap();
    let sum = |volume: &VolumeRecord| {
        let kept = zfs.readable(volume).unwrap().unwrap();
        mounted(&kept, Access::ReadOnly, |tree| {
            assert!(std::fs::write(tree.join("x"), "x").is_err());
            assert!(busy(zfs.delete(ID, volume)).contains("is mounted at"));
            let names = tree.read_dir().unwrap().count();
            format!("{} {names}", read(tree))
        })
    };
    clone_lives_through_all(&zfs, &pool.path("mysql"), &sum, true);
    // The pool's root has nothing beside it.
    let root = pool.path("mysql").parent().unwrap().to_owned();
    clone_lives_through_all(&zfs, &root, &sum, true);
    let left = run(&["zfs", "list", "-H", "-t", "all", "-o", "name"]);
    assert_eq!(left, "labtank\nlabtank/mysql\nlabtank/redo\n");
}

#[test]
fn zfs_look_alikes_of_clones_are_untouched() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let zfs = Zfs::find().unwrap();
    let record = sealed(&zfs, &request(ID, &[&pool.path("mysql")])).remove(0);
    let planned = zfs.plan_clone(&clone_request(&record)).unwrap();
    let name = planned.name.clone();
    let planned = [planned];
    let is_left = || {
        assert!(zfs.drop_clones(USE, &planned).unwrap().is_empty());
        run(&["zfs", "list", &name])
    };
    // By name only; by an inherited property; with another use.
    run(&["zfs", "clone", &record.name, &name]);
    is_left();
    run(&["zfs", "set", &format!("understudy:use={USE}"), "labtank"]);
    is_left();
    run(&["zfs", "set", "understudy:use=other", &name]);
    is_left();
    // Of the right use, but under another name.
    run(&["zfs", "rename", &name, "labtank/mine"]);
    run(&[
        "zfs",
        "set",
        &format!("understudy:use={USE}"),
        "labtank/mine",
    ]);
    let mut other = planned[0].clone();
    other.name = "labtank/mine".to_owned();
    assert!(zfs.drop_clones(USE, &[other]).unwrap().is_empty());
    run(&["zfs", "destroy", "labtank/mine"]);
    // Ours, with a snapshot by somebody else.
    let (planned, _) = cloned(&zfs, &record);
    run(&["zfs", "snapshot", &format!("{name}@mine")]);
    assert!(busy(zfs.drop_clones(USE, &planned)).contains("has children"));
    run(&["zfs", "destroy", &format!("{name}@mine")]);
    assert_eq!(zfs.drop_clones(USE, &planned).unwrap().len(), 1);
}

#[test]
fn zfs_clones_only_what_was_recorded() {
    let Some(lab) = lab() else { return };
    let pool = Pool::create("labtank", &lab.disks[1]);
    let zfs = Zfs::find().unwrap();
    let record = sealed(&zfs, &request(ID, &[&pool.path("mysql")])).remove(0);
    let impostor = VolumeRecord {
        uuid: "1".to_owned(),
        ..record.clone()
    };
    let error = zfs.plan_clone(&clone_request(&impostor)).unwrap_err();
    assert!(matches!(error, VolumeError::NotOurs { .. }), "{error}");
    let long = CloneRequest {
        use_id: "x".repeat(250),
        ..clone_request(&record)
    };
    assert!(refusal(zfs.plan_clone(&long)).contains("255 bytes"));
    run(&["zfs", "destroy", &record.name]);
    let error = zfs.plan_clone(&clone_request(&record)).unwrap_err();
    assert!(matches!(error, VolumeError::NotFound { .. }), "{error}");
}

// ---- LVM

#[test]
fn thin_clone_lives_through_all() {
    let Some(lab) = lab() else { return };
    let group = Group::thin(&lab);
    let lvm = Lvm::find_thin().unwrap();
    clone_lives_through_all(&lvm, &group.path("thin"), &thin_sum, false);
}

#[test]
fn thin_clone_of_xfs_lives_through_all_while_the_origin_is_mounted() {
    let Some(lab) = lab() else { return };
    let mut group = Group::thin(&lab);
    group.add_thin_xfs();
    let lvm = Lvm::find_thin().unwrap();
    clone_lives_through_all(&lvm, &group.path("xfs"), &thin_sum, false);
}

#[test]
fn thin_clone_is_of_its_own_and_its_pool_is_watched() {
    let Some(lab) = lab() else { return };
    let group = Group::thin(&lab);
    let lvm = Lvm::find_thin().unwrap();
    let record = sealed(&lvm, &request(ID, &[&group.path("thin")])).remove(0);
    let (planned, clone) = cloned(&lvm, &record);
    // By its UUID, the origin is still what is found.
    let origin = std::fs::canonicalize("/dev/lab-vg/thin").unwrap();
    assert_eq!(by_uuid("/dev/lab-vg/thin"), origin);
    // It is skipped when the machine starts, and not taken for a kept one.
    let skipped = run(&[
        "lvs",
        "--noheadings",
        "-o",
        "lv_skip_activation",
        &planned[0].name,
    ]);
    assert_eq!(skipped.trim(), "skip activation");
    assert!(lvm.delete(ID, &record).unwrap());
    mounted(&clone, Access::ReadWrite, |tree| {
        assert_eq!(read(tree), "before")
    });
    assert!(is_good_clone(&lvm, &planned[0]));
    assert_eq!(lvm.drop_clones(USE, &planned).unwrap().len(), 1);
}

#[test]
fn thin_clone_in_a_full_pool_is_refused_before_and_noticed_after() {
    let Some(lab) = lab() else { return };
    let group = Group::thin(&lab);
    run(&["lvchange", "-q", "--errorwhenfull", "y", "lab-vg/pool"]);
    let lvm = Lvm::find_thin().unwrap();
    let record = sealed(&lvm, &request(ID, &[&group.path("thin")])).remove(0);
    let (planned, _) = cloned(&lvm, &record);
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
    let fill = [
        "dd",
        "if=/dev/zero",
        "of=/dev/lab-vg/more",
        "bs=1M",
        "conv=fsync",
    ];
    drop(try_run(&[&fill[..], &["count=300"]].concat()));
    let state = lvm.probe_clone(&planned[0]);
    assert!(
        matches!(state, Fact::Known(VolumeState::Invalid(_))),
        "{state:?}"
    );
    assert_eq!(lvm.drop_clones(USE, &planned).unwrap().len(), 1);
    let reason = refusal(lvm.plan_clone(&clone_request(&record)));
    assert!(reason.contains("pool"), "{reason}");
}

#[test]
fn thick_clone_lives_through_all() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    clone_lives_through_all(&lvm, &group.path("mysql"), &device_sum, true);
    let devices = run(&["dmsetup", "ls"]);
    assert!(!devices.contains("understudy"), "{devices}");
}

#[test]
fn overflow_of_an_overlay_tells_nothing_of_the_kept_one() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    let record = sealed(&lvm, &request(ID, &[&group.path("mysql")])).remove(0);
    let before = device_sum(&record);
    let (planned, clone) = cloned(&lvm, &record);
    let origin = std::fs::canonicalize("/dev/lab-vg/mysql").unwrap();
    assert_eq!(by_uuid("/dev/lab-vg/mysql"), origin);
    mounted(&clone, Access::ReadWrite, |tree| {
        drop(std::fs::write(tree.join("large"), vec![7; 100 << 20]));
        let dir = std::fs::File::open(tree).unwrap();
        let _ = nix::unistd::syncfs(&dir);
    });
    let state = lvm.probe_clone(&planned[0]);
    assert!(
        matches!(state, Fact::Known(VolumeState::Invalid(_))),
        "{state:?}"
    );
    assert!(is_good(&lvm, &record));
    assert_eq!(device_sum(&record), before);
    assert_eq!(lvm.drop_clones(USE, &planned).unwrap().len(), 2);
}

#[test]
fn overflowed_kept_volumes_and_groups_without_room_are_refused() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    let record = sealed(&lvm, &request(ID, &[&group.path("mysql")])).remove(0);
    run(&[
        "lvcreate", "-qy", "-Wn", "-Zn", "-l", "100%FREE", "-n", "all", "lab-vg",
    ]);
    run(&["lvreduce", "-qyf", "-l", "-3", "lab-vg/all"]);
    let reason = refusal(lvm.plan_clone(&clone_request(&record)));
    assert!(reason.contains("has 12 MiB free"), "{reason}");
    run(&["lvremove", "-qyf", "lab-vg/all"]);
    let fill = group.path("mysql").join("fill");
    let of = format!("of={}", fill.display());
    run(&[
        "dd",
        "if=/dev/zero",
        &of,
        "bs=1M",
        "count=100",
        "conv=fsync",
    ]);
    let reason = refusal(lvm.plan_clone(&clone_request(&record)));
    assert!(reason.contains("overflowed"), "{reason}");
}

#[test]
fn overlays_made_by_half_are_dropped_and_look_alikes_are_untouched() {
    let Some(lab) = lab() else { return };
    let group = Group::thick(&lab);
    let lvm = Lvm::find_thick().unwrap();
    let record = sealed(&lvm, &request(ID, &[&group.path("mysql")])).remove(0);
    let planned = [lvm.plan_clone(&clone_request(&record)).unwrap()];
    let full_name = planned[0].name.clone();
    let name = full_name.strip_prefix("lab-vg/").unwrap();
    let tag = format!("understudy.use={USE}");
    let area = |tags: &[&str]| {
        let create = ["lvcreate", "-qy", "-Wy", "-Zy", "-L", "16M", "-n", name];
        run(&[&create[..], tags, &["lab-vg"]].concat());
    };
    // The area alone; and with a device that has no table yet.
    area(&["--addtag", &tag]);
    assert_eq!(
        lvm.probe_clone(&planned[0]),
        Fact::Known(VolumeState::Missing)
    );
    assert_eq!(lvm.drop_clones(USE, &planned).unwrap().len(), 1);
    area(&["--addtag", &tag]);
    run(&["dmsetup", "create", name, "--uuid", name, "--notable"]);
    assert_eq!(lvm.drop_clones(USE, &planned).unwrap().len(), 2);
    // The same names without our marks.
    area(&[]);
    run(&["dmsetup", "create", name, "--table", "0 64 zero"]);
    assert!(lvm.drop_clones(USE, &planned).unwrap().is_empty());
    run(&["dmsetup", "info", name]);
    run(&["lvs", &full_name]);
    run(&[
        "lvchange",
        "-q",
        "--addtag",
        "understudy.use=other",
        &full_name,
    ]);
    assert!(lvm.drop_clones(USE, &planned).unwrap().is_empty());
    run(&["dmsetup", "remove", name]);
    // Ours by its mark, but somebody's device stands on it.
    run(&[
        "lvchange",
        "-q",
        "--addtag",
        &tag,
        "--deltag",
        "understudy.use=other",
        &full_name,
    ]);
    let table = format!("0 64 linear /dev/{full_name} 0");
    run(&["dmsetup", "create", "mine", "--table", &table]);
    assert!(busy(lvm.drop_clones(USE, &planned)).contains("mine stands on it"));
    run(&["dmsetup", "remove", "mine"]);
    assert_eq!(lvm.drop_clones(USE, &planned).unwrap().len(), 1);
}
