use proptest::prelude::*;

use super::*;
use crate::volume::layout::{Place, Role, parse_mountinfo};

const MOUNTS: &str = "\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 253:0 / /data rw - xfs /dev/mapper/vg-data rw
3 1 253:1 / /redo rw - ext4 /dev/mapper/vg-redo rw
4 1 0:40 /@mysql /sub rw - btrfs /dev/sdb rw
5 1 0:51 / /tank rw - zfs tank/mysql rw
6 1 0:52 / /tank/redo rw - zfs tank/mysql/redo rw
7 1 0:53 / /other rw - zfs other/redo rw
8 1 0:54 / /shm rw - tmpfs none rw
9 1 0:55 / /top rw - btrfs /dev/sdc rw
";

fn layout(paths: &[&str]) -> Layout {
    let mounts = parse_mountinfo(MOUNTS);
    let volume = |path: &&str| Volume {
        mount: mount_of(Path::new(path), &mounts).unwrap().clone(),
        places: vec![Place {
            role: Role::Data,
            path: path.into(),
        }],
    };
    Layout {
        data_dir: paths[0].into(),
        volumes: paths.iter().map(volume).collect(),
        warnings: Vec::new(),
        links_apart: Vec::new(),
    }
}

fn facts(storage: &[Storage], can_clone: Option<bool>) -> Facts {
    Facts {
        storage: storage.to_vec(),
        directory: can_clone.map(|can_clone| Directory { can_clone }),
    }
}

/// `Some(kind)`, or `None` for refused.
fn decided(
    choice: BackendChoice,
    paths: &[&str],
    storage: &[Storage],
    can_clone: Option<bool>,
) -> Option<BackendKind> {
    match decide(choice, &layout(paths), &facts(storage, can_clone)) {
        Ok(kind) => Some(kind),
        Err(VolumeError::Refused { hint, .. }) => {
            assert!(hint.ends_with('.'), "{hint}");
            None
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_spread_layout_is_told_by_what_puts_it_where_and_what_brings_it_back() {
    for (role, words, cure) in [
        (
            Role::InnodbData,
            "the system tablespace (innodb_data_file_path) is in",
            "point innodb_data_file_path there",
        ),
        (
            Role::Redo,
            "the redo log (innodb_log_group_home_dir) is in",
            "point innodb_log_group_home_dir there",
        ),
        (
            Role::Undo,
            "the undo log (innodb_undo_directory) is in",
            "point innodb_undo_directory there",
        ),
        (
            Role::Doublewrite,
            "the doublewrite buffer (innodb_doublewrite_dir) is in",
            "point innodb_doublewrite_dir there",
        ),
        (
            Role::AriaLog,
            "the Aria log (aria_log_dir_path) is in",
            "point aria_log_dir_path there",
        ),
        (
            Role::BinaryLog,
            "the binary log (log_bin) is in",
            "point log_bin there",
        ),
        (
            Role::RelayLog,
            "the relay log (relay_log) is in",
            "point relay_log there",
        ),
        (
            Role::Tables,
            "tables are in",
            "move the tables in /redo/x there",
        ),
        (
            Role::KeyRing,
            "the key ring is in",
            "let the key ring's path (/redo/x) be there",
        ),
    ] {
        let spread = |data: &str| {
            let mut layout = layout(&[data, "/redo/x"]);
            layout.volumes[1].places[0].role = role;
            layout
        };
        let (on_btrfs, on_lvm) = (spread("/sub/mysql"), spread("/data"));
        let unlike = facts(&[Storage::Btrfs, Storage::Plain], None);
        let state = Path::new("/data/state");
        for (error, data) in [
            (
                decide(BackendChoice::Auto, &on_btrfs, &unlike).unwrap_err(),
                "/sub/mysql",
            ),
            (
                decide(BackendChoice::Btrfs, &on_btrfs, &unlike).unwrap_err(),
                "/sub/mysql",
            ),
            (
                freeze_problem(BackendKind::Btrfs, &on_btrfs, state)
                    .unwrap()
                    .unwrap(),
                "/sub/mysql",
            ),
            (
                freeze_problem(BackendKind::LvmThin, &layout_with_root(on_lvm), state)
                    .unwrap()
                    .unwrap(),
                "/data",
            ),
        ] {
            let text = error.to_string();
            let VolumeError::Refused { hint, .. } = error else {
                panic!("{text}");
            };
            for wanted in [words, &format!("/redo/x, the data in {data}")] {
                assert!(text.contains(wanted), "{wanted}: {text}");
            }
            for wanted in [
                cure,
                &format!("onto the volume of {data}"),
                "while the server is stopped",
            ] {
                assert!(hint.contains(wanted), "{wanted}: {hint}");
            }
            assert!(hint.ends_with('.'), "{hint}");
        }
    }
}

/// As MySQL 9.7 and MariaDB 10.11 name them: directories, and files in them again.
#[test]
fn a_directory_apart_is_told_once_and_by_its_own_setting() {
    for (places, words, cure) in [
        (
            &[
                (Role::InnodbData, "/redo/home"),
                (Role::InnodbData, "/redo/home/ibdata1"),
                (Role::Tables, "/redo/home/ibdata1"),
                (Role::Tables, "/redo/home/ibtmp1"),
            ][..],
            "(the system tablespace (innodb_data_home_dir) is in /redo/home, the data in /sub)",
            "/sub: point innodb_data_home_dir there, and move",
        ),
        (
            &[
                (Role::InnodbData, "/redo/ibdata1"),
                (Role::Tables, "/redo/ibdata1"),
            ],
            "(the system tablespace (innodb_data_file_path) is in /redo/ibdata1, the data in /sub)",
            "/sub: point innodb_data_file_path there, and move",
        ),
        (
            &[
                (Role::Undo, "/redo/undo"),
                (Role::Tables, "/redo/undo/undo_001"),
                (Role::Redo, "/redo/undo"),
                (Role::BinaryLog, "/redo/undo/binlog"),
            ],
            "(the undo log (innodb_undo_directory) is in /redo/undo, the redo log \
             (innodb_log_group_home_dir) is in /redo/undo, the binary log (log_bin) is in \
             /redo/undo/binlog, the data in /sub)",
            "/sub: point innodb_undo_directory there, point innodb_log_group_home_dir there, point log_bin there, and move",
        ),
    ] {
        let mut layout = layout(&["/sub", "/redo"]);
        let place = |&(role, path): &(Role, &str)| Place {
            role,
            path: path.into(),
        };
        layout.volumes[1].places = places.iter().map(place).collect();
        let unlike = facts(&[Storage::Btrfs, Storage::Plain], None);
        let error = decide(BackendChoice::Auto, &layout, &unlike).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words), "{words}: {text}");
        let VolumeError::Refused { hint, .. } = error else {
            panic!("{text}");
        };
        assert!(hint.contains(cure), "{cure}: {hint}");
    }
}

/// The second volume is this machine's root, which is never frozen.
fn layout_with_root(mut layout: Layout) -> Layout {
    let mounts = observe_mounts().unwrap();
    layout.volumes[1].mount = mount_of(Path::new("/"), &mounts).unwrap().clone();
    layout
}

#[test]
fn auto_goes_by_where_the_data_is() {
    use BackendKind as K;
    use Storage as S;
    type Row = (
        &'static [&'static str],
        &'static [S],
        Option<bool>,
        Option<K>,
    );
    let table: [Row; 15] = [
        (&["/tank"], &[S::Zfs], Some(true), Some(K::Zfs)),
        (
            &["/tank", "/tank/redo"],
            &[S::Zfs, S::Zfs],
            None,
            Some(K::Zfs),
        ),
        (&["/tank", "/other"], &[S::Zfs, S::Zfs], None, None),
        (
            &["/tank", "/other"],
            &[S::Zfs, S::Zfs],
            Some(false),
            Some(K::Copy),
        ),
        (&["/data"], &[S::LvmThin], Some(true), Some(K::LvmThin)),
        (
            &["/data", "/redo"],
            &[S::LvmThick, S::LvmThin],
            None,
            Some(K::LvmThick),
        ),
        (&["/sub"], &[S::Btrfs], None, Some(K::Btrfs)),
        (&["/top/mysql"], &[S::Btrfs], None, Some(K::Btrfs)),
        (&["/top"], &[S::Btrfs], None, None),
        (&["/top"], &[S::Btrfs], Some(false), Some(K::Copy)),
        (&["/data", "/sub"], &[S::LvmThick, S::Btrfs], None, None),
        (
            &["/data", "/sub"],
            &[S::LvmThick, S::Btrfs],
            Some(false),
            Some(K::Copy),
        ),
        (&["/data"], &[S::Plain], Some(true), Some(K::Reflink)),
        (&["/shm"], &[S::Plain], Some(false), Some(K::Copy)),
        (&["/shm"], &[S::Plain], None, None),
    ];
    for (paths, storage, can_clone, expected) in table {
        let found = decided(BackendChoice::Auto, paths, storage, can_clone);
        assert_eq!(found, expected, "{paths:?} {can_clone:?}");
    }
}

#[test]
fn explicit_choice_that_does_not_fit_is_refused_with_what_would() {
    let hint = |choice, paths: &[&str], storage: &[Storage], can_clone| match decide(
        choice,
        &layout(paths),
        &facts(storage, can_clone),
    ) {
        Err(VolumeError::Refused { hint, .. }) => hint,
        other => panic!("{other:?}"),
    };
    let lvm = hint(BackendChoice::Zfs, &["/data"], &[Storage::LvmThin], None);
    assert!(lvm.contains("\"lvm\""), "{lvm}");
    let zfs = hint(BackendChoice::Btrfs, &["/tank"], &[Storage::Zfs], None);
    assert!(zfs.contains("\"zfs\""), "{zfs}");
    let copy = hint(BackendChoice::Lvm, &["/shm"], &[Storage::Plain], None);
    assert!(
        copy.contains("\"copy\"") && copy.contains("directory"),
        "{copy}"
    );
    let copy = hint(
        BackendChoice::Reflink,
        &["/shm"],
        &[Storage::Plain],
        Some(false),
    );
    assert!(copy.contains("\"copy\""), "{copy}");
    let place = hint(BackendChoice::Copy, &["/shm"], &[Storage::Plain], None);
    assert!(place.contains("directory"), "{place}");
}

#[test]
fn nested_subvolume_is_named_for_btrfs_and_copied_by_files() {
    let storage = [Storage::Btrfs, Storage::Btrfs];
    let paths = ["/sub", "/sub/db"];
    let error = decide(
        BackendChoice::Btrfs,
        &layout(&paths),
        &facts(&storage, None),
    )
    .unwrap_err();
    assert!(error.to_string().contains("/sub/db"), "{error}");
    let auto = decided(BackendChoice::Auto, &paths, &storage, Some(true));
    assert_eq!(auto, Some(BackendKind::Reflink));
}

#[test]
fn data_at_the_top_level_of_btrfs_is_refused_with_the_commands_that_cure_it() {
    let error = decide(
        BackendChoice::Btrfs,
        &layout(&["/top"]),
        &facts(&[Storage::Btrfs], Some(false)),
    );
    let Err(VolumeError::Refused { hint, .. }) = error else {
        panic!("{error:?}");
    };
    assert!(
        hint.contains("mount -o subvol=@data /dev/sdc /top"),
        "{hint}"
    );
}

#[test]
fn only_several_volumes_need_a_freeze() {
    let (one, two) = (layout(&["/data"]), layout(&["/data", "/redo"]));
    assert!(!needs_freeze(BackendKind::LvmThin, &one));
    assert!(needs_freeze(BackendKind::LvmThin, &two));
    assert!(needs_freeze(BackendKind::Btrfs, &two));
    assert!(!needs_freeze(BackendKind::Zfs, &two));
    assert!(!needs_freeze(BackendKind::Copy, &two));
}

#[test]
fn what_holds_a_needed_path_is_never_frozen() {
    let mounts = parse_mountinfo(MOUNTS);
    let problem = |paths: &[&str], needed: &[&str]| {
        let needed: Vec<PathBuf> = needed.iter().map(PathBuf::from).collect();
        needed_on_frozen(&layout(paths), &needed, &mounts).map(|(path, _)| path.to_owned())
    };
    assert_eq!(problem(&["/data", "/redo"], &["/", "/run"]), None);
    assert_eq!(problem(&["/data", "/srv"], &["/run"]), Some("/run".into()));
    assert_eq!(
        problem(&["/data"], &["/", "/data/state"]),
        Some("/data/state".into())
    );
}

#[test]
fn this_machine_s_root_is_never_frozen() {
    let layout = layout_with_root(layout(&["/data", "/redo"]));
    let problem = freeze_problem(BackendKind::LvmThick, &layout, Path::new("/nowhere")).unwrap();
    assert!(problem.is_some());
}

#[test]
fn btrfs_and_zfs_can_not_be_frozen_around_a_snapshot() {
    let state = Path::new("/nowhere");
    let btrfs = freeze_problem(BackendKind::Btrfs, &layout(&["/sub"]), state).unwrap();
    let zfs = freeze_problem(BackendKind::LvmThick, &layout(&["/tank"]), state).unwrap();
    assert!(btrfs.is_some() && zfs.is_some());
}

fn storages() -> impl Strategy<Value = Vec<Storage>> {
    let one = prop::sample::select(vec![
        Storage::Zfs,
        Storage::Btrfs,
        Storage::LvmThick,
        Storage::LvmThin,
        Storage::Plain,
    ]);
    prop::collection::vec(one, 1..4)
}

proptest! {
    /// Whatever is asked for, file-by-file kinds never come without a directory, and a native kind
    /// only where every volume is of that storage.
    #[test]
    fn no_decision_without_what_it_needs(
        storage in storages(),
        can_clone in prop::option::of(any::<bool>()),
        choice in prop::sample::select(vec![
            BackendChoice::Auto, BackendChoice::Zfs, BackendChoice::Lvm,
            BackendChoice::Btrfs, BackendChoice::Reflink, BackendChoice::Copy, BackendChoice::Dump,
        ]),
    ) {
        let paths = &["/data", "/redo", "/srv"][..storage.len()];
        let Some(kind) = decided(choice, paths, &storage, can_clone) else {
            return Ok(());
        };
        let all = |wanted: &[Storage]| storage.iter().all(|found| wanted.contains(found));
        match kind {
            BackendKind::Zfs => prop_assert!(all(&[Storage::Zfs])),
            BackendKind::Btrfs => prop_assert!(all(&[Storage::Btrfs])),
            BackendKind::LvmThin => prop_assert!(all(&[Storage::LvmThin])),
            BackendKind::LvmThick => prop_assert!(all(&[Storage::LvmThick, Storage::LvmThin])),
            BackendKind::Reflink => prop_assert_eq!(can_clone, Some(true)),
            BackendKind::Copy | BackendKind::Dump => prop_assert!(can_clone.is_some()),
        }
        prop_assert!(fits(choice, kind));
    }
}
