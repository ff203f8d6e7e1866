//! Clones of kept directories, and the copying of a tree that stands still.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use understudy::sys::Fact;
use understudy::volume::mirror::{Method, Mirror};
use understudy::volume::mount::{Access, mount, unmount};
use understudy::volume::walk::Roots;
use understudy::volume::{
    CloneRequest, Mountable, PlannedVolume, VolumeError, VolumeRecord, VolumeState,
};

use super::lab::{FILE_WAYS, ID, Scene, WAYS, Way, can_run, look, run};
use super::quiet;

const USE: &str = "verify-db2-20261122T020000Z-7f3a-x1y2";

fn request(volume: &VolumeRecord) -> CloneRequest {
    CloneRequest {
        use_id: USE.to_owned(),
        id: ID.to_owned(),
        volume: volume.clone(),
        number: 1,
        limit: Duration::from_secs(60),
    }
}

fn cloned(scene: &Scene, volume: &VolumeRecord) -> (PlannedVolume, PathBuf) {
    let backend = scene.backend();
    let planned = backend.plan_clone(&request(volume)).unwrap();
    let made = backend.make_clone(&request(volume), &planned, &mut quiet);
    match made.unwrap() {
        Mountable::Directory(path) => (planned, path),
        other => panic!("not a directory: {other:?}"),
    }
}

/// Writes to it in each way: over a file, to a new one, and by removing one.
fn write_to(tree: &Path) {
    std::fs::write(tree.join("shop/t1.ibd"), "clone").unwrap();
    let file = std::fs::File::options()
        .write(true)
        .open(tree.join("shop/t2.ibd"))
        .unwrap();
    file.write_all_at(b"clone", 40_000).unwrap();
    std::fs::write(tree.join("shop/new.ibd"), "clone").unwrap();
    std::fs::remove_file(tree.join("shop/t3.ibd")).unwrap();
}

#[test]
fn clone_holds_the_moment_and_what_is_written_to_it_stays_in_it() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let at_the_moment = look(&scene.data);
        let records = scene.snapshot();
        let kept = Path::new(&records[0].name);
        std::fs::write(scene.data.join("shop/t1.ibd"), "after").unwrap();
        let after = look(&scene.data);
        let (planned, clone) = cloned(&scene, &records[0]);
        assert_eq!(look(&clone), at_the_moment, "{way:?}");
        write_to(&clone);
        assert_eq!(look(kept), at_the_moment, "{way:?}");
        assert_eq!(look(&scene.data), after, "{way:?}");
        let backend = scene.backend();
        let good = |fact| matches!(fact, Fact::Known(VolumeState::Good { .. }));
        assert!(good(backend.probe_clone(&planned)), "{way:?}");
        assert!(good(backend.probe(&records[0])), "{way:?}");

        // Nobody takes it for a kept one.
        let found = backend.discover(&[scene.place()]).unwrap();
        assert_eq!(found.len(), 1, "{way:?}");
        let planned = [planned];
        assert!(backend.sweep(USE, &planned).unwrap().is_empty(), "{way:?}");
        assert!(clone.exists(), "{way:?}");

        assert_eq!(backend.drop_clones(USE, &planned).unwrap().len(), 1);
        assert!(backend.drop_clones(USE, &planned).unwrap().is_empty());
        assert!(!clone.parent().unwrap().exists(), "{way:?}");
        let missing = Fact::Known(VolumeState::Missing);
        assert_eq!(backend.probe_clone(&planned[0]), missing, "{way:?}");
        assert_eq!(look(kept), at_the_moment, "{way:?}");
        // And again, as if nothing had been.
        let (planned, _) = cloned(&scene, &records[0]);
        assert_eq!(backend.drop_clones(USE, &[planned]).unwrap().len(), 1);
        assert!(backend.delete(ID, &records[0]).unwrap(), "{way:?}");
    }
}

#[test]
fn clone_is_mounted_from_anywhere_and_busy_until_it_is_unmounted() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let records = scene.snapshot();
        let (planned, clone) = cloned(&scene, &records[0]);
        let planned = [planned];
        let readable = scene.backend().readable(&records[0]).unwrap().unwrap();
        let point = tempfile::tempdir().unwrap();
        let read_only = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let private = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                let none = None::<&Path>;
                nix::mount::mount(none, "/", none, flags, none).unwrap();
                let what = Mountable::Directory(clone.clone());
                mount(&what, point.path(), Access::ReadWrite).unwrap();
                std::fs::write(point.path().join("x"), "x").unwrap();
                mount(&readable, read_only.path(), Access::ReadOnly).unwrap();
                assert!(std::fs::write(read_only.path().join("x"), "x").is_err());
                let error = scene.backend().drop_clones(USE, &planned).unwrap_err();
                let deleted = scene.backend().delete(ID, &records[0]).unwrap_err();
                assert!(unmount(point.path()).unwrap());
                assert!(unmount(read_only.path()).unwrap());
                assert!(!unmount(read_only.path()).unwrap());
                (error, deleted)
            });
            let (error, deleted) = private.join().unwrap();
            let place = point.path().display().to_string();
            assert!(error.to_string().contains(&place), "{way:?}: {error}");
            let busy = matches!(deleted, VolumeError::Busy { .. });
            assert!(busy, "{way:?}: {deleted}");
        });
        assert!(!point.path().join("x").exists(), "{way:?}");
        assert_eq!(scene.backend().drop_clones(USE, &planned).unwrap().len(), 1);
    }
}

#[test]
fn only_what_lies_in_the_directory_of_its_use_is_dropped() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let records = scene.snapshot();
        let (planned, clone) = cloned(&scene, &records[0]);
        let mut elsewhere = planned.clone();
        elsewhere.name = records[0].name.clone();
        for (use_id, planned) in [("verify-other", &planned), (USE, &elsewhere)] {
            let planned = std::slice::from_ref(planned);
            let removed = scene.backend().drop_clones(use_id, planned).unwrap();
            assert!(removed.is_empty(), "{way:?}: {removed:?}");
        }
        assert!(clone.exists() && Path::new(&records[0].name).exists());
        // Beside ours, what somebody put there stays.
        let beside = clone.parent().unwrap().join("mine");
        std::fs::write(&beside, "x").unwrap();
        scene.backend().drop_clones(USE, &[planned]).unwrap();
        assert!(!clone.exists() && beside.exists(), "{way:?}");
    }
    // A directory where a subvolume would be is none of ours.
    let scene = Scene::new(Way::Btrfs);
    let records = scene.snapshot();
    let planned = scene.backend().plan_clone(&request(&records[0])).unwrap();
    let mine = Path::new(&planned.name).join("mine");
    std::fs::create_dir_all(&mine).unwrap();
    let error = scene.backend().drop_clones(USE, &[planned]).unwrap_err();
    assert!(matches!(error, VolumeError::NotOurs { .. }), "{error}");
    assert!(mine.exists());
}

#[test]
fn clone_made_by_half_is_dropped() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let records = scene.snapshot();
        let planned = [scene.backend().plan_clone(&request(&records[0])).unwrap()];
        let clone = Path::new(&planned[0].name);
        let directory = clone.parent().unwrap();
        assert!(!directory.exists(), "{way:?}");
        let drop_all = || {
            scene.backend().drop_clones(USE, &planned).unwrap();
            assert!(!directory.exists(), "{way:?}");
        };
        std::fs::create_dir(directory).unwrap();
        drop_all();
        std::fs::create_dir(directory).unwrap();
        std::fs::write(directory.join(".understudy-trial-77-from"), "").unwrap();
        drop_all();
        if way != Way::Btrfs {
            std::fs::create_dir_all(clone.join("shop")).unwrap();
            std::fs::write(clone.join("shop/t1.ibd"), "half").unwrap();
            drop_all();
            // Killed while it was removed.
            std::fs::create_dir_all(directory.join(".1.deleting/shop")).unwrap();
            drop_all();
        }
        assert_eq!(look(Path::new(&records[0].name)), look(&scene.data));
    }
}

#[test]
fn clone_without_room_is_refused_beforehand() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(Way::CopyExt4);
    let big = scene.data.join("shop/big.ibd");
    std::fs::write(&big, vec![1; 300 << 20]).unwrap();
    let records = scene.snapshot();
    let ballast = std::fs::File::create(scene.disk.mount.join("ballast")).unwrap();
    let (free, _) = understudy::volume::kept::free_space(&scene.disk.mount).unwrap();
    let flags = nix::fcntl::FallocateFlags::empty();
    nix::fcntl::fallocate(&ballast, flags, 0, (free - (400 << 20)) as i64).unwrap();
    let error = scene
        .backend()
        .plan_clone(&request(&records[0]))
        .unwrap_err();
    assert!(matches!(error, VolumeError::Refused { .. }), "{error}");
}

/// Copies `from` to `to`; the bytes that were brought across, and how often it was asked to stop.
fn copy(from: &Path, to: &Path, method: Method) -> u64 {
    let mut mirror = Mirror::open(Roots::whole(from), to.to_owned(), method).unwrap();
    mirror.copy_still(&|| false, &mut quiet).unwrap().files
}

#[test]
fn copy_of_what_stands_still_goes_on_where_it_was_stopped() {
    if !can_run() {
        return;
    }
    for way in FILE_WAYS {
        let method = match way {
            Way::CopyExt4 => Method::Copy,
            Way::Btrfs | Way::ReflinkXfs | Way::ReflinkBtrfs => Method::Reflink,
        };
        let scene = Scene::new(way);
        let sparse = std::fs::File::create(scene.data.join("sparse.ibd")).unwrap();
        sparse.write_all_at(b"end", 900 << 20).unwrap();
        let to = scene.disk.mount.join("copy");

        // Stopped after some files: an error, and no half file that looks whole.
        let mut mirror = Mirror::open(Roots::whole(&scene.data), to.clone(), method).unwrap();
        let asked = AtomicU64::new(0);
        let is_stopped = || asked.fetch_add(1, Ordering::SeqCst) > 15;
        let error = mirror.copy_still(&is_stopped, &mut quiet).unwrap_err();
        let interrupted = matches!(&error, VolumeError::Call { source, .. }
            if source.kind() == std::io::ErrorKind::Interrupted);
        assert!(interrupted, "{way:?}: {error}");
        let before = look(&to);
        let source = look(&scene.data);
        let whole = before
            .iter()
            .filter(|(path, seen)| source.get(*path) == Some(seen));
        assert!(whole.count() < source.len(), "{way:?}");

        copy(&scene.data, &to, method);
        assert_eq!(look(&to), source, "{way:?}");
        let blocks = to.join("sparse.ibd").metadata().unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{way:?}");

        // Equal files aren't read again; a half one, and one with another owner or mode, are.
        assert_eq!(copy(&scene.data, &to, method), 0, "{way:?}");
        let touched = |name: &str| {
            let own = to.join(name).metadata().unwrap();
            (own.ino(), own.ctime(), own.ctime_nsec())
        };
        let untouched = touched("shop/t5.ibd");
        let half = std::fs::File::options()
            .write(true)
            .open(to.join("shop/t6.ibd"))
            .unwrap();
        half.set_len(80_000).unwrap();
        std::os::unix::fs::chown(to.join("shop/t7.ibd"), Some(7), None).unwrap();
        run(
            "chmod",
            ["600".as_ref(), to.join("shop/t8.ibd").as_os_str()],
        );
        std::fs::write(to.join("shop/stranger"), "x").unwrap();
        assert_eq!(copy(&scene.data, &to, method), 3, "{way:?}");
        assert_eq!(look(&to), source, "{way:?}");
        assert_eq!(touched("shop/t5.ibd"), untouched, "{way:?}");
    }
}
