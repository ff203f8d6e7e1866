//! Putting kept directories in place of their origin, also when it is killed on the way.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use understudy::sys::Fact;
use understudy::volume::layout::{ServerPaths, observe_layout};
use understudy::volume::{
    Backend, BackendKind, PutRequest, VolumeError, VolumeRecord, VolumeState, choose,
};

use super::lab::{FILE_WAYS, ID, Mounted, Scene, Seen, WAYS, Way, can_run, look, run, tags};
use super::quiet;

const USE: &str = "restore-db2-20261122T020000Z-7f3a-x1y2";
const OTHER_USE: &str = "restore-db2-20261122T020000Z-7f3a-x3y4";
const NEWER: &str = "db2-20261122T030000Z-1111";
const UNDO: &str = "db2-20261122T040000Z-2222";

fn request(use_id: &str, id: &str, volume: &VolumeRecord) -> PutRequest {
    PutRequest {
        use_id: use_id.to_owned(),
        id: id.to_owned(),
        volume: volume.clone(),
        number: 1,
        limit: Duration::from_secs(60),
    }
}

fn snapshot(scene: &Scene, id: &str) -> VolumeRecord {
    let mut request = scene.request(scene.layout());
    request.id = id.to_owned();
    let mut prepared = scene.backend().prepare(&request).unwrap();
    prepared.warm_up(&mut quiet).unwrap();
    prepared.take(&mut quiet).unwrap();
    prepared.seal(&tags()).unwrap().remove(0)
}

/// What a server does to its files in a while.
fn live_on(data: &Path) {
    let file = std::fs::File::options()
        .write(true)
        .open(data.join("shop/t2.ibd"))
        .unwrap();
    file.write_all_at(b"later", 40_000).unwrap();
    std::fs::write(data.join("shop/t1.ibd"), "later").unwrap();
    std::fs::write(data.join("shop/later.ibd"), "later").unwrap();
    std::fs::remove_file(data.join("shop/t3.ibd")).unwrap();
    std::fs::remove_file(data.join("link")).unwrap();
    std::fs::create_dir(data.join("link")).unwrap();
    std::fs::write(data.join("link/x"), "later").unwrap();
    std::fs::remove_file(data.join("empty")).unwrap();
    symlink("shop", data.join("empty")).unwrap();
    run(
        "chmod",
        ["600".as_ref(), data.join("shop/t4.ibd").as_os_str()],
    );
}

/// The kept one, a newer one, and the one that is taken right before it is put.
struct Told {
    scene: Scene,
    records: [VolumeRecord; 3],
    contents: [BTreeMap<PathBuf, Seen>; 3],
}

const IDS: [&str; 3] = [ID, NEWER, UNDO];

impl Told {
    fn of(scene: Scene) -> Self {
        let kept = snapshot(&scene, ID);
        live_on(&scene.data);
        let newer = snapshot(&scene, NEWER);
        std::fs::write(scene.data.join("shop/t9.ibd"), "last").unwrap();
        std::fs::write(scene.data.join("relay.000007"), "relay").unwrap();
        let undo = snapshot(&scene, UNDO);
        let records = [kept, newer, undo];
        let contents = records.clone().map(|record| look(Path::new(&record.name)));
        Self {
            scene,
            records,
            contents,
        }
    }

    fn backend(&self) -> Box<dyn Backend> {
        self.scene.backend()
    }

    fn request(&self, use_id: &str, index: usize) -> PutRequest {
        request(use_id, IDS[index], &self.records[index])
    }

    fn put(&self, use_id: &str, index: usize) {
        let renamed = self
            .backend()
            .put(&self.request(use_id, index), &mut quiet)
            .unwrap();
        assert!(renamed.is_empty());
    }

    /// The origin has the content of that one, and all are as they were.
    #[track_caller]
    fn assert_holds(&self, index: usize) {
        let way = self.scene.way;
        assert!(look(&self.scene.data) == self.contents[index], "{way:?}");
        for (record, content) in self.records.iter().zip(&self.contents) {
            let state = self.backend().probe(record);
            let good = matches!(state, Fact::Known(VolumeState::Good { .. }));
            assert!(good, "{way:?}: {state:?}");
            assert!(look(Path::new(&record.name)) == *content, "{way:?}");
        }
        let found = self.backend().discover(&[self.scene.place()]).unwrap();
        assert_eq!(found.len(), 3, "{way:?}");
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        for dir in [self.scene.place(), self.scene.disk.mount.clone()] {
            let names = dir.read_dir().unwrap().map(|entry| entry.unwrap().path());
            let left: Vec<_> = names
                .filter(|path| path.display().to_string().contains(".use-"))
                .collect();
            assert!(left.is_empty(), "{left:?}");
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
        .put(&request(&use_id, &id, &volume), &mut quiet)
        .unwrap();
}

#[test]
fn content_is_put_back_and_every_snapshot_stays() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let told = Told::of(Scene::new(way));
        let planned = told.backend().plan_put(&told.request(USE, 0)).unwrap();
        assert_eq!(planned.len(), usize::from(way == Way::Btrfs));
        told.assert_holds(2);
        told.put(USE, 0);
        told.assert_holds(0);
        // Twice is as once; and forth and back.
        told.put(USE, 0);
        told.assert_holds(0);
        for (number, index) in [1, 2, 0, 2].into_iter().enumerate() {
            live_on_a_little(&told.scene.data);
            told.put(&format!("{USE}{number}"), index);
            told.assert_holds(index);
        }
        told.assert_nothing_is_left();
        // Life goes on: another is taken, and all are removed.
        let last = snapshot(&told.scene, "db2-20261122T050000Z-3333");
        assert!(look(Path::new(&last.name)) == told.contents[2], "{way:?}");
        for (id, record) in IDS.iter().zip(&told.records) {
            assert!(told.backend().delete(id, record).unwrap(), "{way:?}");
        }
    }
}

fn live_on_a_little(data: &Path) {
    std::fs::write(data.join("shop/t11.ibd"), "again").unwrap();
    std::fs::write(data.join("shop/again.ibd"), "again").unwrap();
}

#[test]
fn killed_anywhere_it_is_completed_by_the_next_call_or_undone() {
    if !can_run() {
        return;
    }
    let places = [
        "put-cloned",
        "put-renamed",
        "put-dropped",
        "put-copying",
        "put-copied",
    ];
    for way in WAYS {
        let told = Told::of(Scene::new(way));
        let backend = told.backend();
        let mut killed = Vec::new();
        for place in places {
            let planned = backend.plan_put(&told.request(USE, 0)).unwrap();
            if !is_killed_at(place, way.kind(), &told.request(USE, 0)) {
                continue;
            }
            killed.push(place);
            // Killed again, as often as you like.
            is_killed_at(place, way.kind(), &told.request(USE, 0));
            told.put(USE, 0);
            told.assert_holds(0);
            told.assert_nothing_is_left();
            assert!(backend.drop_clones(USE, &planned).unwrap().is_empty());

            told.put(OTHER_USE, 2);
            told.assert_holds(2);
            assert!(is_killed_at(place, way.kind(), &told.request(USE, 0)));
            told.put(OTHER_USE, 2);
            backend.drop_clones(USE, &planned).unwrap();
            told.assert_holds(2);
            told.assert_nothing_is_left();
        }
        let expected: &[&str] = match way {
            Way::Btrfs => &places[..3],
            Way::ReflinkXfs | Way::ReflinkBtrfs | Way::CopyExt4 => &places[3..],
        };
        assert_eq!(killed, expected, "{way:?}");
    }
}

#[test]
fn files_at_rest_are_passed_over_and_others_never_by_their_looks() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(Way::CopyExt4);
    let old = SystemTime::now() - Duration::from_secs(7200);
    let touch = |name: &str, time: SystemTime| {
        let file = std::fs::File::options()
            .write(true)
            .open(scene.data.join(name))
            .unwrap();
        file.set_times(std::fs::FileTimes::new().set_modified(time))
            .unwrap();
    };
    touch("shop/t7.ibd", old);
    let told = Told::of(scene);
    // As a store through a mapping leaves it: the same length and time.
    let path = told.scene.data.join("shop/t5.ibd");
    let modified = path.metadata().unwrap().modified().unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(b"hidden", 9).unwrap();
    file.set_times(std::fs::FileTimes::new().set_modified(modified))
        .unwrap();
    let changed = |name: &str| {
        let own = told.scene.data.join(name).metadata().unwrap();
        (own.ctime(), own.ctime_nsec())
    };
    let before = (changed("shop/t7.ibd"), changed("shop/t8.ibd"));
    told.put(USE, 0);
    told.assert_holds(0);
    assert_eq!(changed("shop/t7.ibd"), before.0);
    assert_ne!(changed("shop/t8.ibd"), before.1);
}

#[test]
fn what_the_server_keeps_elsewhere_goes_back_there_beside_what_is_not_its() {
    if !can_run() {
        return;
    }
    for way in FILE_WAYS {
        let scene = Scene::new(way);
        let far = scene.disk.mount.join("far");
        for dir in ["undo", "logs"] {
            std::fs::create_dir_all(far.join(dir)).unwrap();
        }
        std::fs::write(far.join("undo/undo_001"), "before").unwrap();
        std::fs::write(far.join("logs/binlog.000001"), "before").unwrap();
        std::fs::write(far.join("logs/binlog.index"), "before").unwrap();
        std::fs::write(far.join("logs/syslog"), "mine").unwrap();
        let mut paths = scene.paths();
        paths.innodb_undo_directory = Some(far.join("undo"));
        paths.binary_log_basename = Some(far.join("logs/binlog"));
        let layout = observe_layout(&paths, &BTreeMap::new()).unwrap();
        let mut prepared = scene.backend().prepare(&scene.request(layout)).unwrap();
        prepared.warm_up(&mut quiet).unwrap();
        prepared.take(&mut quiet).unwrap();
        let records = prepared.seal(&tags()).unwrap();
        assert_eq!(records.len(), 3, "{way:?}");

        std::fs::write(far.join("undo/undo_001"), "later").unwrap();
        std::fs::write(far.join("undo/undo_002"), "later").unwrap();
        std::fs::write(far.join("logs/binlog.000001"), "later").unwrap();
        std::fs::write(far.join("logs/binlog.000002"), "later").unwrap();
        std::fs::write(far.join("logs/syslog"), "mine later").unwrap();
        for record in &records {
            let backend = scene.backend();
            backend.plan_put(&request(USE, ID, record)).unwrap();
            backend.put(&request(USE, ID, record), &mut quiet).unwrap();
        }
        let text = |name: &str| std::fs::read_to_string(far.join(name)).unwrap();
        assert_eq!(text("undo/undo_001"), "before", "{way:?}");
        assert!(!far.join("undo/undo_002").exists(), "{way:?}");
        assert_eq!(text("logs/binlog.000001"), "before", "{way:?}");
        assert!(!far.join("logs/binlog.000002").exists(), "{way:?}");
        assert_eq!(text("logs/syslog"), "mine later", "{way:?}");
    }
}

#[test]
fn subvolume_that_is_mounted_itself_keeps_its_number_and_what_is_kept_in_it() {
    if !can_run() {
        return;
    }
    let scene = Scene::new(Way::Btrfs);
    let point = tempfile::tempdir().unwrap();
    let options = ["-o".as_ref(), "subvol=mysql".as_ref()];
    let device: &std::ffi::OsStr = scene.disk.device().as_ref();
    let mount = [&options[..], &[device, point.path().as_os_str()]].concat();
    run("mount", mount);
    let _mounted = Mounted(point.path().to_owned());
    // The server's directory is one of several in it, so that the place is in it too.
    let data = point.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("ibdata1"), "before").unwrap();
    std::fs::write(data.join("ibtmp1"), "temporary").unwrap();
    let paths = ServerPaths {
        data_dir: data.clone(),
        ..ServerPaths::default()
    };
    let backend = scene.backend();
    let take = |id: &str| {
        let layout = observe_layout(&paths, &BTreeMap::new()).unwrap();
        let mut request = scene.request(layout);
        request.id = id.to_owned();
        let mut prepared = backend.prepare(&request).unwrap();
        prepared.take(&mut quiet).unwrap();
        prepared.seal(&tags()).unwrap().remove(0)
    };
    let kept = take(ID);
    assert!(Path::new(&kept.name).starts_with(point.path()));
    std::fs::write(data.join("ibdata1"), "later").unwrap();
    std::fs::write(data.join("new"), "later").unwrap();
    let undo = take(UNDO);
    let of_undo = look(Path::new(&undo.name));
    let number = || {
        run(
            "btrfs",
            [
                "inspect-internal".as_ref(),
                "rootid".as_ref(),
                point.path().as_os_str(),
            ],
        )
    };
    let before = number();

    assert!(
        backend
            .plan_put(&request(USE, ID, &kept))
            .unwrap()
            .is_empty()
    );
    assert!(is_killed_at(
        "put-copying",
        BackendKind::Btrfs,
        &request(USE, ID, &kept)
    ));
    backend.put(&request(USE, ID, &kept), &mut quiet).unwrap();
    let text = |name: &str| std::fs::read_to_string(data.join(name)).unwrap();
    assert_eq!(text("ibdata1"), "before");
    assert!(!data.join("new").exists());
    assert_eq!(number(), before);
    for record in [&kept, &undo] {
        let state = backend.probe(record);
        assert!(
            matches!(state, Fact::Known(VolumeState::Good { .. })),
            "{state:?}"
        );
    }
    assert!(look(Path::new(&undo.name)) == of_undo);
    backend
        .put(&request(OTHER_USE, UNDO, &undo), &mut quiet)
        .unwrap();
    assert_eq!(text("ibdata1"), "later");

    // Somebody's subvolume in it would be emptied.
    let mine = point.path().join("mine");
    run(
        "btrfs",
        ["subvolume".as_ref(), "create".as_ref(), mine.as_os_str()],
    );
    std::fs::write(mine.join("x"), "x").unwrap();
    for result in [
        backend.plan_put(&request(USE, ID, &kept)).map(drop),
        backend.put(&request(USE, ID, &kept), &mut quiet).map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(
            error.to_string().contains("subvolumes of its own"),
            "{error}"
        );
    }
    assert_eq!(std::fs::read_to_string(mine.join("x")).unwrap(), "x");
}

#[test]
fn what_can_not_be_put_is_refused_and_nothing_is_changed() {
    if !can_run() {
        return;
    }
    for way in WAYS {
        let told = Told::of(Scene::new(way));
        let backend = told.backend();
        let mut other = told.request(USE, 0);
        other.volume.uuid = "1".to_owned();
        assert!(backend.plan_put(&other).is_err(), "{way:?}");
        assert!(backend.put(&other, &mut quiet).is_err(), "{way:?}");
        let mut gone = told.request(USE, 0);
        gone.volume.path = told.scene.disk.mount.join("absent");
        let error = backend.plan_put(&gone).unwrap_err();
        assert!(
            matches!(error, VolumeError::NotFound { .. }),
            "{way:?}: {error}"
        );
        let mut root = told.request(USE, 0);
        root.volume.path = "/".into();
        let error = backend.plan_put(&root).unwrap_err();
        assert!(
            matches!(error, VolumeError::Refused { .. }),
            "{way:?}: {error}"
        );
        told.assert_holds(2);
    }
    let told = Told::of(Scene::new(Way::Btrfs));
    let point = tempfile::tempdir().unwrap();
    let data = told.scene.data.as_os_str();
    run("mount", ["--bind".as_ref(), data, point.path().as_os_str()]);
    let _mounted = Mounted(point.path().to_owned());
    let error = told.backend().plan_put(&told.request(USE, 0)).unwrap_err();
    assert!(matches!(error, VolumeError::Busy { .. }), "{error}");
}
