use super::*;
use crate::volume::layout::{Place, Volume, parse_mountinfo};

fn layout(places: &[(Role, &str)]) -> Layout {
    let mount = parse_mountinfo("1 0 8:1 / / rw - ext4 /dev/sda1 rw").remove(0);
    let mut all = vec![(Role::Data, "/d")];
    all.extend(places);
    Layout {
        data_dir: "/d".into(),
        volumes: vec![Volume {
            mount,
            places: all
                .into_iter()
                .map(|(role, path)| Place {
                    role,
                    path: path.into(),
                })
                .collect(),
        }],
        warnings: Vec::new(),
        links_apart: Vec::new(),
    }
}

/// Everything with an extension is a file.
fn roots(places: &[(Role, &str)]) -> Roots {
    plan_roots(&layout(places), &|path| path.extension().is_none()).unwrap()
}

fn shape(roots: &Roots) -> Vec<String> {
    let shape = |root: &Root| format!("{} <- {}", root.name, root.from.display());
    roots.roots.iter().map(shape).collect()
}

#[test]
fn roots_cover_each_place_once() {
    type Row = (&'static [(Role, &'static str)], &'static [&'static str]);
    let table: [Row; 5] = [
        (
            &[(Role::Redo, "/d"), (Role::Undo, "/d/undo")],
            &["data <- /d"],
        ),
        (
            &[
                (Role::Redo, "/r"),
                (Role::Undo, "/r/u"),
                (Role::AriaLog, "/r"),
            ],
            &["data <- /d", "places/1 <- /r"],
        ),
        (
            &[(Role::Tables, "/t/a.ibd"), (Role::Tables, "/t/b.ibd")],
            &["data <- /d", "places/1 <- /t"],
        ),
        (
            &[
                (Role::BinaryLog, "/logs/bin"),
                (Role::RelayLog, "/logs/relay"),
            ],
            &["data <- /d", "places/1 <- /logs"],
        ),
        (&[(Role::BinaryLog, "/d/bin")], &["data <- /d"]),
    ];
    for (places, expected) in table {
        assert_eq!(shape(&roots(places)), expected, "{places:?}");
    }
}

#[test]
fn directory_around_the_data_is_refused() {
    let error = plan_roots(&layout(&[(Role::InnodbData, "/")]), &|_| true).unwrap_err();
    assert!(matches!(error, VolumeError::Refused { .. }));
}

#[test]
fn log_names_are_told_from_look_alikes() {
    let table = [
        ("relay-bin", "relay-bin.000001", true),
        ("relay-bin", "relay-bin.1000001", true),
        ("relay-bin", "relay-bin.index", true),
        ("relay-bin", "relay-bin-ch1.000002", true),
        ("relay-bin", "relay-bin-ch1.index", true),
        ("relay-bin", "relay-bin.00001", false),
        ("relay-bin", "relay-bin2.000001", false),
        ("relay-bin", "relay-bin.ibd", false),
        ("relay-bin", "relay-bin", false),
        ("relay-bin", "my-relay-bin.000001", false),
    ];
    for (base, name, expected) in table {
        let found = is_log_of(OsStr::new(base), OsStr::new(name));
        assert_eq!(found, expected, "{base} {name}");
    }
}

#[test]
fn leaves_out_what_a_restored_server_must_not_have() {
    let roots = roots(&[
        (Role::BinaryLog, "/d/host-bin"),
        (Role::RelayLog, "/d/host"),
    ]);
    let table = [
        ("ibtmp1", SFlag::S_IFREG, false),
        ("ibtmp", SFlag::S_IFREG, false),
        ("ibtmp1.ibd", SFlag::S_IFREG, true),
        ("db/ibtmp1", SFlag::S_IFREG, true),
        ("#innodb_temp", SFlag::S_IFDIR, false),
        ("host.000001", SFlag::S_IFREG, false),
        ("host-channel.000001", SFlag::S_IFREG, false),
        ("host-bin.000001", SFlag::S_IFREG, true),
        ("host-bin.index", SFlag::S_IFREG, true),
        ("db/host.000001", SFlag::S_IFREG, true),
        ("mysqld.pid", SFlag::S_IFREG, false),
        ("mysqld.sock", SFlag::S_IFSOCK, false),
        ("pipe", SFlag::S_IFIFO, false),
        ("auto.cnf", SFlag::S_IFREG, true),
        ("#ib_16384_0.dblwr", SFlag::S_IFREG, true),
        ("ib_logfile0", SFlag::S_IFREG, true),
        ("link", SFlag::S_IFLNK, true),
    ];
    for (path, kind, taken) in table {
        let left = left_out(&roots, &roots.roots[0], Path::new(path), kind);
        assert_eq!(left.is_none(), taken, "{path}: {left:?}");
    }
}

#[test]
fn of_a_shared_directory_only_the_named_files_are_taken() {
    let roots = roots(&[(Role::Tables, "/t/a.ibd"), (Role::BinaryLog, "/t/bin")]);
    let taken =
        |name: &str| left_out(&roots, &roots.roots[1], Path::new(name), SFlag::S_IFREG).is_none();
    assert!(taken("a.ibd") && taken("bin.000001"));
    assert!(!taken("b.ibd") && !taken("bin.log"));
}

#[test]
fn only_logs_and_replication_files_may_change() {
    let table = [
        ("host.err", true),
        ("slow.log", true),
        ("master.info", true),
        ("relay-log-ch1.info", true),
        ("tc.log", false),
        ("undo_1_trunc.log", false),
        ("#rocksdb/000012.log", false),
        ("aria_log.00000001", false),
        ("db/host.err", false),
        ("ibdata1", false),
    ];
    for (path, expected) in table {
        assert_eq!(may_change(Path::new(path)), expected, "{path}");
    }
}
