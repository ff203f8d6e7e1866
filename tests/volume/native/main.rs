//! The back-ends that need no volume manager, on real btrfs, XFS and ext4 in image files.
//!
//! One body per behaviour, run for every way to keep. Needs root and loop devices.

#[cfg(test)]
mod lab;

#[cfg(test)]
mod clones;

#[cfg(test)]
mod puts;

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Disk, FILE_WAYS, ID, Mounted, Scene, WAYS, Way, Writer, can_run, look, run, tags};
use understudy::config::BackendChoice;
use understudy::sys::{Fact, ioctl};
use understudy::volume::choose::{choose, freeze_problem, needs_freeze};
use understudy::volume::freeze::{Freezer, thaw};
use understudy::volume::layout::{Role, ServerPaths, observe_layout};
use understudy::volume::mirror::RACY_MARGIN;
use understudy::volume::{BackendKind, VolumeError, VolumeState};

fn quiet(_: u64, _: u64) {}

#[test]
fn snapshot_shows_the_moment_though_writing_goes_on_around_it() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let mut prepared = scene.prepare().unwrap();
        let writer = Writer::start(&scene.data);
        prepared.warm_up(&mut quiet).unwrap();
        writer.rest();
        let at_the_moment = look(&scene.data);
        prepared.take(&mut quiet).unwrap();
        writer.resume();
        std::thread::sleep(Duration::from_millis(50));
        let records = prepared.seal(&tags()).unwrap();
        drop(writer);
        assert_eq!(records.len(), 1, "{way:?}");
        assert_eq!(records[0].path, scene.data, "{way:?}");
        assert_eq!(look(Path::new(&records[0].name)), at_the_moment, "{way:?}");
        assert_ne!(look(&scene.data), at_the_moment, "{way:?}");
        let state = scene.backend().probe(&records[0]);
        assert!(
            matches!(state, Fact::Known(VolumeState::Good { .. })),
            "{way:?}: {state:?}"
        );
    }
}

#[test]
fn copy_of_a_server_that_writes_is_torn_and_good_once_it_rests() {
    if !can_run() {
        return;
    }
    for way in FILE_WAYS {
        let scene = Scene::new(way);
        let mut prepared = scene.prepare().unwrap();
        let writer = Writer::start(&scene.data);
        prepared.warm_up(&mut quiet).unwrap();
        let mut torn = 0;
        for _ in 0..40 {
            match prepared.take(&mut quiet) {
                Err(VolumeError::Torn { .. }) => torn += 1,
                Err(error) => panic!("{way:?}: {error}"),
                // The writer got no turn: then the copy must be of one moment all the same.
                Ok(()) => Writer::assert_one_moment(&scene.place().join(ID).join("data")),
            }
        }
        assert!(torn > 0, "{way:?}");
        writer.rest();
        let at_the_moment = look(&scene.data);
        prepared.take(&mut quiet).unwrap();
        let records = prepared.seal(&tags()).unwrap();
        assert_eq!(look(Path::new(&records[0].name)), at_the_moment, "{way:?}");
    }
}

#[test]
fn settled_files_are_not_copied_again_and_changed_ones_are() {
    if !can_run() {
        return;
    }
    let scenes = FILE_WAYS.map(Scene::new);
    std::thread::sleep(RACY_MARGIN + Duration::from_millis(500));
    for scene in &scenes {
        let way = scene.way;
        let mut prepared = scene.prepare().unwrap();
        prepared.warm_up(&mut quiet).unwrap();
        let copies = scene.place().join(ID).join("data/shop");
        let touched = |name: &str| {
            let own = copies.join(name).metadata().unwrap();
            (own.ino(), own.ctime(), own.ctime_nsec())
        };
        let before = (touched("t1.ibd"), touched("t2.ibd"));
        let file = std::fs::File::options()
            .write(true)
            .open(scene.data.join("shop/t2.ibd"))
            .unwrap();
        // The same length, and the old mtime put back: the inode's own time tells.
        let modified = file.metadata().unwrap().modified().unwrap();
        file.write_all_at(b"changed", 77).unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(modified))
            .unwrap();
        std::fs::rename(
            scene.data.join("shop/t4.ibd"),
            scene.data.join("shop/t5.ibd"),
        )
        .unwrap();
        prepared.take(&mut quiet).unwrap();
        assert_eq!(touched("t1.ibd"), before.0, "{way:?}");
        assert_ne!(touched("t2.ibd"), before.1, "{way:?}");
        assert_eq!(
            look(&scene.place().join(ID).join("data")),
            look(&scene.data),
            "{way:?}"
        );
    }
}

/// A store to a page that is dirty already sets no new time: only the sync before the reading
/// makes the next one show.
#[test]
fn store_through_a_mapping_after_the_first_copy_is_seen() {
    const STORE: &str = "
import mmap, sys, time
f = open(sys.argv[1], 'r+b'); m = mmap.mmap(f.fileno(), 0)
m[0:1] = b'A'; print('dirty', flush=True); sys.stdin.readline()
m[1:2] = b'B'; print('again', flush=True); sys.stdin.readline()
";
    if !can_run() {
        return;
    }
    let python = std::process::Command::new("python3")
        .arg("--version")
        .output();
    if python.is_err() {
        eprintln!("SKIPPED: no python3 to map a file with");
        return;
    }
    for way in FILE_WAYS {
        use std::io::{BufRead, BufReader, Write};
        let scene = Scene::new(way);
        let mut child = std::process::Command::new("python3")
            .args(["-c", STORE])
            .arg(scene.data.join("shop/t6.ibd"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut stdin = child.stdin.take().unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "dirty");
        std::thread::sleep(RACY_MARGIN + Duration::from_millis(500));
        let mut prepared = scene.prepare().unwrap();
        prepared.warm_up(&mut quiet).unwrap();
        writeln!(stdin).unwrap();
        assert_eq!(said.next().unwrap().unwrap(), "again");
        prepared.take(&mut quiet).unwrap();
        let copy = scene.place().join(ID).join("data/shop/t6.ibd");
        let same =
            std::fs::read(copy).unwrap() == std::fs::read(scene.data.join("shop/t6.ibd")).unwrap();
        drop(stdin);
        child.wait().unwrap();
        assert!(same, "{way:?}");
    }
}

#[test]
fn copies_keep_holes_attributes_links_and_leave_out_what_is_no_data() {
    if !can_run() {
        return;
    }
    for way in FILE_WAYS {
        let scene = Scene::new(way);
        let sparse = std::fs::File::create(scene.data.join("sparse.ibd")).unwrap();
        sparse.write_all_at(b"end", 900 << 20).unwrap();
        ioctl::set_xattr(&sparse, "user.understudy".as_ref(), b"kept").unwrap();
        let left = ["ibtmp1", "relay.000001", "relay.index", "mysqld.pid"];
        for name in left {
            std::fs::write(scene.data.join(name), "x").unwrap();
        }
        std::fs::write(scene.data.join("relay.ibd"), "x").unwrap();
        let socket = UnixListener::bind(scene.data.join("mysqld.sock")).unwrap();
        let mut paths = scene.paths();
        paths.relay_log_basenames = vec!["relay".into()];
        let layout = observe_layout(&paths, &BTreeMap::new()).unwrap();
        let mut prepared = scene.backend().prepare(&scene.request(layout)).unwrap();
        prepared.warm_up(&mut quiet).unwrap();
        prepared.take(&mut quiet).unwrap();
        let records = prepared.seal(&tags()).unwrap();
        drop(socket);

        let kept = Path::new(&records[0].name);
        for name in left.into_iter().chain(["mysqld.sock"]) {
            std::fs::remove_file(scene.data.join(name)).unwrap();
        }
        assert_eq!(look(kept), look(&scene.data), "{way:?}");
        let copy = std::fs::File::open(kept.join("sparse.ibd")).unwrap();
        assert!(copy.metadata().unwrap().blocks() * 512 < 1 << 20, "{way:?}");
        let kept_xattr = ("user.understudy".into(), b"kept".to_vec());
        assert!(
            ioctl::xattrs(&copy).unwrap().contains(&kept_xattr),
            "{way:?}"
        );
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(kept.parent().unwrap()), 0o700, "{way:?}");
        let note = std::fs::read_to_string(kept.with_file_name("understudy.json")).unwrap();
        assert!(note.contains("mysqld.sock (socket)"), "{note}");
    }
}

#[test]
fn discovered_volumes_carry_their_tags_and_go_with_one_delete() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let records = scene.snapshot();
        let found = scene.backend().discover(&[scene.place()]).unwrap();
        assert_eq!(found.len(), 1, "{way:?}");
        assert_eq!(found[0].record, records[0], "{way:?}");
        assert_eq!((&*found[0].id, &found[0].tags), (ID, &tags()), "{way:?}");
        assert!(
            matches!(found[0].state, VolumeState::Good { .. }),
            "{way:?}"
        );
        let before = look(&scene.data);
        assert!(scene.backend().delete(ID, &records[0]).unwrap(), "{way:?}");
        assert!(!scene.backend().delete(ID, &records[0]).unwrap(), "{way:?}");
        assert!(!scene.place().join(ID).exists(), "{way:?}");
        assert_eq!(
            scene.backend().probe(&records[0]),
            Fact::Known(VolumeState::Missing)
        );
        assert_eq!(look(&scene.data), before, "{way:?}");
    }
}

#[test]
fn look_alikes_are_left_alone() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let records = scene.snapshot();
        let place = scene.place();
        let make = |name: &str| {
            let dir = place.join(name);
            std::fs::create_dir_all(dir.join("data")).unwrap();
            std::fs::write(dir.join("data/mine"), "x").unwrap();
            dir
        };
        // Without a note; with the note of another snapshot; with a note that is none.
        let bare = make("understudy-1");
        let stolen = make("understudy-2");
        std::fs::copy(
            place.join(ID).join("understudy.json"),
            stolen.join("understudy.json"),
        )
        .unwrap();
        let broken = make("understudy-3");
        std::fs::write(broken.join("understudy.json"), "{").unwrap();
        let backend = scene.backend();
        assert_eq!(
            backend
                .discover(std::slice::from_ref(&place))
                .unwrap()
                .len(),
            1,
            "{way:?}"
        );
        for dir in [&bare, &stolen, &broken] {
            let id = dir.file_name().unwrap().to_str().unwrap();
            let mut record = records[0].clone();
            record.name = dir.join("data").display().to_string();
            let planned = [understudy::volume::PlannedVolume {
                origin: record.origin.clone(),
                name: record.name.clone(),
            }];
            let error = backend.delete(id, &record).unwrap_err();
            assert!(
                matches!(error, VolumeError::NotOurs { .. }),
                "{way:?}: {error}"
            );
            assert!(backend.sweep(id, &planned).unwrap().is_empty(), "{way:?}");
            assert!(dir.join("data/mine").exists(), "{way:?}");
        }
        // The right name, but not the recorded thing.
        let mut other = records[0].clone();
        other.uuid = "00000000-0000-0000-0000-000000000000".to_owned();
        let error = backend.delete(ID, &other).unwrap_err();
        assert!(
            matches!(error, VolumeError::NotOurs { .. }),
            "{way:?}: {error}"
        );
        let state = backend.probe(&other);
        assert!(
            matches!(state, Fact::Known(VolumeState::Invalid(_))),
            "{way:?}: {state:?}"
        );
        assert!(
            Path::new(&records[0].name).join("auto.cnf").exists(),
            "{way:?}"
        );
    }
}

/// A killed process runs no destructor: forgetting the prepared snapshot is the same.
#[test]
fn leftovers_of_a_killed_snapshot_are_swept() {
    if !can_run() {
        return;
    }
    type Step = fn(&mut dyn understudy::volume::Prepared);
    let steps: [Step; 3] = [
        |_| (),
        |prepared| prepared.warm_up(&mut quiet).unwrap(),
        |prepared| {
            prepared.warm_up(&mut quiet).unwrap();
            prepared.take(&mut quiet).unwrap();
        },
    ];
    for way in WAYS {
        let scene = Scene::new(way);
        let before = look(&scene.data);
        for (number, step) in steps.iter().enumerate() {
            let mut prepared = scene.prepare().unwrap();
            let planned = prepared.plan();
            step(&mut *prepared);
            std::mem::forget(prepared);
            let backend = scene.backend();
            let found = backend.discover(&[scene.place()]).unwrap();
            let all_bad = |state: &VolumeState| !matches!(state, VolumeState::Good { .. });
            assert!(
                found.iter().all(|one| all_bad(&one.state)),
                "{way:?} {number}"
            );
            let lines = backend.sweep(ID, &planned).unwrap();
            assert_eq!(lines.is_empty(), number == 0, "{way:?} {number}: {lines:?}");
            assert!(!scene.place().join(ID).exists(), "{way:?} {number}");
            assert!(backend.sweep(ID, &planned).unwrap().is_empty(), "{way:?}");
        }
        assert_eq!(look(&scene.data), before, "{way:?}");
    }
}

#[test]
fn interrupted_removal_is_never_good_and_is_taken_up_again() {
    if !can_run() {
        return;
    }
    for way in FILE_WAYS {
        let scene = Scene::new(way);
        let records = scene.snapshot();
        let kept = scene.place().join(ID);
        // As a kill after the move aside leaves it.
        std::fs::rename(kept.join("data"), kept.join(".data.deleting")).unwrap();
        let note = kept.join("understudy.json");
        let text = std::fs::read_to_string(&note).unwrap();
        std::fs::write(&note, text.replace("\"complete\"", "\"deleting\"")).unwrap();
        let found = scene.backend().discover(&[scene.place()]).unwrap();
        assert!(matches!(found[0].state, VolumeState::Invalid(_)), "{way:?}");
        assert!(!scene.backend().delete(ID, &records[0]).unwrap(), "{way:?}");
        assert!(!kept.exists(), "{way:?}");
    }
}

#[test]
fn discarding_removes_all_and_twice_is_fine() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let mut prepared = scene.prepare().unwrap();
        prepared.warm_up(&mut quiet).unwrap();
        prepared.take(&mut quiet).unwrap();
        prepared.discard().unwrap();
        prepared.discard().unwrap();
        assert!(!scene.place().join(ID).exists(), "{way:?}");
    }
}

#[test]
fn second_snapshot_of_one_id_is_refused() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let records = scene.snapshot();
        let mut prepared = scene.prepare().unwrap();
        let error = prepared.warm_up(&mut quiet).unwrap_err();
        assert!(
            matches!(error, VolumeError::Refused { .. }),
            "{way:?}: {error}"
        );
        prepared.discard().unwrap();
        assert!(
            Path::new(&records[0].name).join("auto.cnf").exists(),
            "{way:?}"
        );
    }
}

#[test]
fn directory_in_the_data_or_missing_is_refused() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let mut scene = Scene::new(way);
        let inside = scene.data.join("snapshots");
        std::fs::create_dir(&inside).unwrap();
        symlink(&inside, scene.disk.mount.join("elsewhere")).unwrap();
        for directory in [
            inside,
            scene.disk.mount.join("elsewhere"),
            scene.disk.mount.join("absent"),
        ] {
            scene.directory = Some(directory.clone());
            let error = scene.prepare().err().unwrap();
            assert!(
                matches!(error, VolumeError::Refused { .. }),
                "{way:?}: {error}"
            );
        }
    }
}

#[test]
fn full_filesystem_is_refused_before_anything_is_made() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let ballast = std::fs::File::create(scene.disk.mount.join("ballast")).unwrap();
        let (free, _) = understudy::volume::kept::free_space(&scene.disk.mount).unwrap();
        let bytes = free.saturating_sub(200 << 20) as i64;
        let flags = nix::fcntl::FallocateFlags::empty();
        nix::fcntl::fallocate(&ballast, flags, 0, bytes).unwrap();
        ballast.sync_all().unwrap();
        let error = scene.prepare().err().unwrap();
        let text = error.to_string();
        assert!(
            matches!(error, VolumeError::Refused { .. }),
            "{way:?}: {text}"
        );
        assert!(text.contains("MiB free"), "{way:?}: {text}");
        assert!(!scene.place().join(ID).exists(), "{way:?}");
    }
}

#[test]
fn more_files_than_the_filesystem_has_inodes_for_are_refused() {
    if !can_run() {
        return;
    }
    let mut scene = Scene::new(Way::CopyExt4);
    // 512 MiB of ext4 hold 32768 inodes; the data has more.
    let small = Disk::new("ext4", 512);
    for number in 0..33_000 {
        std::fs::write(scene.data.join(format!("shop/t_{number}.frm")), "").unwrap();
    }
    scene.directory = Some(small.mount.clone());
    let error = scene.prepare().err().unwrap();
    assert!(error.to_string().contains("inodes"), "{error}");
}

#[test]
fn copy_that_takes_too_long_ends_at_its_limit() {
    if !can_run() {
        return;
    }
    for way in FILE_WAYS {
        let scene = Scene::new(way);
        let mut request = scene.request(scene.layout());
        request.limit = Duration::ZERO;
        let mut prepared = scene.backend().prepare(&request).unwrap();
        let error = prepared.take(&mut quiet).unwrap_err();
        assert!(error.to_string().contains("time limit"), "{way:?}: {error}");
    }
}

#[test]
fn tables_elsewhere_land_in_the_copy() {
    if !can_run() {
        return;
    }
    for way in FILE_WAYS {
        let scene = Scene::new(way);
        let far = scene.disk.mount.join("far");
        std::fs::create_dir_all(far.join("big")).unwrap();
        std::fs::create_dir_all(far.join("tables/shop")).unwrap();
        std::fs::write(far.join("big/t.ibd"), "schema").unwrap();
        std::fs::write(far.join("tables/shop/x.ibd"), "table").unwrap();
        std::fs::write(far.join("tables/shop/stranger"), "other").unwrap();
        symlink(far.join("big"), scene.data.join("big")).unwrap();
        let mut paths = scene.paths();
        paths.table_files = vec![far.join("tables/shop/x.ibd")];
        let layout = observe_layout(&paths, &BTreeMap::new()).unwrap();
        let mut prepared = scene.backend().prepare(&scene.request(layout)).unwrap();
        prepared.warm_up(&mut quiet).unwrap();
        prepared.take(&mut quiet).unwrap();
        let records = prepared.seal(&tags()).unwrap();
        assert_eq!(records.len(), 3, "{way:?}");
        // `path` and `name` of a record lead from where a file was to where it is kept.
        let kept = |path: &Path| -> PathBuf {
            let record = records.iter().find(|record| path.starts_with(&record.path));
            let record = record.unwrap();
            Path::new(&record.name).join(path.strip_prefix(&record.path).unwrap())
        };
        let text = |path: &Path| std::fs::read_to_string(kept(path)).unwrap();
        assert_eq!(text(&far.join("big/t.ibd")), "schema", "{way:?}");
        assert_eq!(text(&far.join("tables/shop/x.ibd")), "table", "{way:?}");
        assert!(!kept(&far.join("tables/shop/stranger")).exists(), "{way:?}");
        assert_eq!(
            kept(&scene.data.join("big")).read_link().unwrap(),
            far.join("big")
        );
        for record in &records {
            assert!(scene.backend().delete(ID, record).unwrap(), "{way:?}");
        }
        assert!(!scene.place().join(ID).exists(), "{way:?}");
    }
}

#[test]
fn files_without_copy_on_write_can_be_cloned_on_btrfs() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(Way::ReflinkBtrfs);
    let path = scene.data.join("nocow.ibd");
    let file = std::fs::File::create_new(&path).unwrap();
    ioctl::set_nocow(&file).unwrap();
    file.write_all_at(&[7; 100_000], 0).unwrap();
    let records = scene.snapshot();
    let copy = std::fs::File::open(Path::new(&records[0].name).join("nocow.ibd")).unwrap();
    assert!(ioctl::is_nocow(&copy));
    assert_eq!(look(Path::new(&records[0].name)), look(&scene.data));
}

#[test]
fn auto_finds_the_way_by_where_the_data_is() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let scene = Scene::new(way);
        let layout = scene.layout();
        let directory = scene.directory.as_deref();
        let expected = match way {
            // Data in the top-level subvolume: still a subvolume.
            Way::ReflinkBtrfs => BackendKind::Btrfs,
            Way::Btrfs | Way::ReflinkXfs | Way::CopyExt4 => way.kind(),
        };
        let chosen = choose(BackendChoice::Auto, &layout, directory, false)
            .unwrap()
            .kind;
        assert_eq!(chosen, expected, "{way:?}");
        let left: Vec<_> = directory.iter().flat_map(|dir| look(dir)).collect();
        assert!(left.is_empty(), "{way:?}: {left:?}");
        if way == Way::CopyExt4 {
            let error = choose(BackendChoice::Reflink, &layout, directory, false).unwrap_err();
            assert!(matches!(error, VolumeError::Refused { .. }), "{error}");
        }
    }
}

#[test]
fn data_in_a_plain_directory_of_a_subvolume_is_kept_beside_it() {
    if !can_run() {
        return;
    }
    let mut scene = Scene::new(Way::ReflinkBtrfs);
    (scene.way, scene.directory) = (Way::Btrfs, None);
    let records = scene.snapshot();
    // The whole top level is snapshotted, and the place in it comes out empty.
    assert_eq!(records[0].path, scene.disk.mount);
    let kept = Path::new(&records[0].name);
    assert_eq!(look(&kept.join("mysql")), look(&scene.data));
    assert!(look(&kept.join(".understudy-snapshots")).len() <= 3);
    assert!(scene.backend().delete(ID, &records[0]).unwrap());
}

#[test]
fn data_directory_that_is_the_mounted_subvolume_has_no_place_but_a_configured_one() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(Way::Btrfs);
    let point = tempfile::tempdir().unwrap();
    run(
        "mount",
        [
            "-o".as_ref(),
            "subvol=mysql".as_ref(),
            scene.disk.device().as_ref(),
            point.path().as_os_str(),
        ],
    );
    let _mounted = Mounted(point.path().to_owned());
    let paths = ServerPaths {
        data_dir: point.path().to_owned(),
        ..ServerPaths::default()
    };
    let layout = observe_layout(&paths, &BTreeMap::new()).unwrap();
    let mut request = scene.request(layout);
    let error = scene.backend().prepare(&request).err().unwrap();
    assert!(error.to_string().contains("no place"), "{error}");
    // Another filesystem won't do; the same one by another mount will.
    let other = tempfile::tempdir().unwrap();
    request.directory = Some(other.path().to_owned());
    let error = scene.backend().prepare(&request).err().unwrap();
    assert!(matches!(error, VolumeError::Refused { .. }), "{error}");
    let place = scene.disk.mount.join("snapshots");
    std::fs::create_dir(&place).unwrap();
    request.directory = Some(place);
    let mut prepared = scene.backend().prepare(&request).unwrap();
    prepared.take(&mut quiet).unwrap();
    let records = prepared.seal(&tags()).unwrap();
    assert_eq!(records[0].path, point.path());
    assert_eq!(look(Path::new(&records[0].name)), look(&scene.data));
}

#[test]
fn nested_subvolume_is_refused_by_name() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(Way::Btrfs);
    let nested = scene.data.join("nested");
    run(
        "btrfs",
        ["subvolume".as_ref(), "create".as_ref(), nested.as_os_str()],
    );
    let error = choose(BackendChoice::Auto, &scene.layout(), None, false).unwrap_err();
    assert!(error.to_string().contains("nested"), "{error}");
    let error = scene.prepare().err().unwrap();
    assert!(matches!(error, VolumeError::Refused { .. }), "{error}");
    // One that holds nothing of the server's, beside the data, harms nobody.
    run(
        "btrfs",
        ["subvolume".as_ref(), "delete".as_ref(), nested.as_os_str()],
    );
    let beside = scene.disk.mount.join("beside");
    run(
        "btrfs",
        ["subvolume".as_ref(), "create".as_ref(), beside.as_os_str()],
    );
    scene.prepare().unwrap();
}

#[test]
fn mounted_snapshot_is_busy() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(Way::Btrfs);
    let records = scene.snapshot();
    let point = tempfile::tempdir().unwrap();
    let inner = Path::new(&records[0].name)
        .strip_prefix(&scene.disk.mount)
        .unwrap();
    run(
        "mount",
        [
            "-o",
            &format!("subvol={}", inner.display()),
            scene.disk.device(),
            point.path().to_str().unwrap(),
        ],
    );
    let mounted = Mounted(point.path().to_owned());
    let error = scene.backend().delete(ID, &records[0]).unwrap_err();
    assert!(matches!(error, VolumeError::Busy { .. }), "{error}");
    drop(mounted);
    assert!(scene.backend().delete(ID, &records[0]).unwrap());
}

#[test]
fn snapshot_made_writable_counts_as_changed() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(Way::Btrfs);
    let records = scene.snapshot();
    let root = std::fs::File::open(&records[0].name).unwrap();
    ioctl::btrfs_set_read_only(&root, false).unwrap();
    let state = scene.backend().probe(&records[0]);
    assert!(
        matches!(state, Fact::Known(VolumeState::Invalid(_))),
        "{state:?}"
    );
}

#[test]
fn filesystems_freeze_together_or_not_at_all() {
    if !can_run() {
        return;
    }
    let (xfs, btrfs) = (Disk::new("xfs", 512), Disk::new("btrfs", 512));
    let points = [xfs.mount.clone(), btrfs.mount.clone(), xfs.mount.clone()];
    let mut freezer = Freezer::prepare(&points).unwrap();
    assert_eq!(freezer.mount_points().count(), 2);
    freezer.sync().unwrap();
    freezer.freeze_all().unwrap();
    assert!(freezer.is_frozen());
    // Somebody else's freezer is told so, and leaves the first one's freeze alone.
    let mut second = Freezer::prepare(&points).unwrap();
    assert!(matches!(second.freeze_all(), Err(VolumeError::Busy { .. })));
    assert!(!second.is_frozen());
    freezer.thaw_all().unwrap();
    freezer.thaw_all().unwrap();
    assert!(!freezer.is_frozen());
    std::fs::write(xfs.mount.join("x"), "x").unwrap();

    // One that is frozen already: what was frozen before it is thawed again.
    let mut only_btrfs = Freezer::prepare(std::slice::from_ref(&btrfs.mount)).unwrap();
    only_btrfs.freeze_all().unwrap();
    assert!(matches!(
        freezer.freeze_all(),
        Err(VolumeError::Busy { .. })
    ));
    std::fs::write(xfs.mount.join("x"), "y").unwrap();

    // The watchdog thaws by path; then the holder finds it done.
    assert!(thaw(&btrfs.mount).unwrap());
    assert!(!thaw(&btrfs.mount).unwrap());
    only_btrfs.thaw_all().unwrap();
    std::fs::write(btrfs.mount.join("x"), "x").unwrap();

    freezer.freeze_all().unwrap();
    drop(freezer);
    std::fs::write(xfs.mount.join("x"), "z").unwrap();
}

#[test]
fn mounts_inside_the_data_are_volumes_and_bind_mounts_are_refused() {
    if !can_run() {
        return;
    }
    let (outer, inner) = (Disk::new("xfs", 512), Disk::new("ext4", 512));
    let data = outer.mount.join("my sql");
    std::fs::create_dir_all(data.join("db")).unwrap();
    let paths = ServerPaths {
        data_dir: data.clone(),
        ..ServerPaths::default()
    };
    run(
        "mount",
        [
            "--bind".as_ref(),
            inner.mount.as_os_str(),
            data.join("db").as_os_str(),
        ],
    );
    let mounted = Mounted(data.join("db"));
    let layout = observe_layout(&paths, &BTreeMap::new()).unwrap();
    assert_eq!(layout.volumes.len(), 2);
    assert_eq!(layout.volumes[1].places[0].role, Role::Tables);
    assert_eq!(layout.volumes[1].mount.fs_type, "ext4");
    assert!(needs_freeze(BackendKind::LvmThick, &layout));
    let problem = freeze_problem(BackendKind::LvmThick, &layout, Path::new("/")).unwrap();
    assert!(problem.is_none(), "{problem:?}");
    let problem = freeze_problem(BackendKind::LvmThick, &layout, &outer.mount).unwrap();
    assert!(problem.is_some());
    drop(mounted);

    let beside = outer.mount.join("beside");
    std::fs::create_dir(&beside).unwrap();
    run(
        "mount",
        [
            "--bind".as_ref(),
            beside.as_os_str(),
            data.join("db").as_os_str(),
        ],
    );
    let _mounted = Mounted(data.join("db"));
    let error = observe_layout(&paths, &BTreeMap::new()).unwrap_err();
    assert!(error.to_string().contains("bind mount"), "{error}");
}
