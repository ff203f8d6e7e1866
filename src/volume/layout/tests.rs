//! Tables for the pure part; tests/volume/native/ walks real trees.

use super::*;

const MOUNTS: &str = "\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 253:0 / /var/lib/mysql rw - xfs /dev/mapper/vg-mysql rw
3 1 253:1 / /redo rw - ext4 /dev/mapper/vg-redo rw
4 1 0:40 /@a /sub rw - btrfs /dev/sdb rw
";
const MYSQLS: u32 = 999;
const ROOT: u64 = nix::sys::stat::makedev(8, 1);
const MYSQL: u64 = nix::sys::stat::makedev(253, 0);
const REDO: u64 = nix::sys::stat::makedev(253, 1);

fn spot(path: &str, device: u64) -> Option<Spot> {
    Some(Spot {
        path: path.into(),
        device,
        owner: MYSQLS,
    })
}

fn seen(spots: &[(&str, Option<Spot>)]) -> Observed {
    Observed {
        mounts: parse_mountinfo(MOUNTS),
        account: MYSQLS,
        spots: spots
            .iter()
            .map(|(path, spot)| (PathBuf::from(path), spot.clone()))
            .collect(),
        inside: Vec::new(),
    }
}

fn link(at: &str, target: Option<Spot>) -> Inside {
    Inside {
        at: at.into(),
        how: How::Link(target),
    }
}

fn server() -> ServerPaths {
    ServerPaths {
        data_dir: "/var/lib/mysql/".into(),
        ..ServerPaths::default()
    }
}

/// `role:path` of each volume, for short expectations.
fn shape(layout: &Layout) -> Vec<Vec<String>> {
    layout
        .volumes
        .iter()
        .map(|volume| {
            let place = |place: &Place| format!("{:?}:{}", place.role, place.path.display());
            volume.places.iter().map(place).collect()
        })
        .collect()
}

#[test]
fn relative_paths_are_completed_and_mapped_by_the_longest_prefix() {
    let map = [("/var/lib", "/c/lib"), ("/var/lib/mysql/redo", "/c/redo")]
        .map(|(from, to)| (PathBuf::from(from), PathBuf::from(to)))
        .into();
    let table = [
        ("./", "/c/lib/mysql"),
        ("redo", "/c/redo"),
        ("./redo/x", "/c/redo/x"),
        ("redone", "/c/lib/mysql/redone"),
        ("/opt//x/./y/", "/opt/x/y"),
        ("/var/library", "/var/library"),
    ];
    for (printed, expected) in table {
        let host = host_path(&Path::new("/var/lib/mysql/").join(printed), &map);
        assert_eq!(host, Path::new(expected), "{printed}");
    }
}

#[test]
fn unset_and_empty_values_are_no_places() {
    let mut paths = server();
    paths.innodb_data_home_dir = Some("".into());
    paths.innodb_data_files = parse_data_file_path("ibdata1:12M;/big/ibdata2:1G:autoextend");
    paths.innodb_undo_directory = Some("./".into());
    let list: Vec<_> = wanted(&paths, &BTreeMap::new())
        .into_iter()
        .map(|wanted| format!("{:?}:{}", wanted.role, wanted.path.display()))
        .collect();
    assert_eq!(
        list,
        [
            "Data:/var/lib/mysql",
            "Undo:/var/lib/mysql",
            "InnodbData:/var/lib/mysql/ibdata1",
            "InnodbData:/big/ibdata2"
        ]
    );
}

#[test]
fn places_are_grouped_by_filesystem_with_the_data_first() {
    let mut paths = server();
    paths.innodb_log_group_home_dir = Some("/redo".into());
    paths.binary_log_basename = Some("/var/lib/mysql/binlog".into());
    let seen = seen(&[
        ("/var/lib/mysql", spot("/var/lib/mysql", MYSQL)),
        ("/redo", spot("/redo", REDO)),
    ]);
    let layout = plan_layout(&paths, &BTreeMap::new(), &seen).unwrap();
    assert_eq!(
        shape(&layout),
        [
            vec!["Data:/var/lib/mysql", "BinaryLog:/var/lib/mysql/binlog"],
            vec!["Redo:/redo"]
        ]
    );
    assert_eq!(layout.volumes[1].mount.source, "/dev/mapper/vg-redo");
    assert_eq!(layout.data_dir, Path::new("/var/lib/mysql"));
}

#[test]
fn links_to_what_is_not_the_servers_are_never_followed() {
    let of = |path: &str, owner| Spot {
        path: path.into(),
        device: ROOT,
        owner,
    };
    for (path, owner, account, follows) in [
        ("/srv/big", MYSQLS, MYSQLS, true),
        ("/srv/big", 0, MYSQLS, false),
        ("/home/mysql/big", MYSQLS, MYSQLS, true),
        ("/etc", 0, MYSQLS, false),
        // A server that runs as root.
        ("/srv/big", 0, 0, true),
        ("/etc", 0, 0, false),
        ("/usr/bin", 0, 0, false),
        ("/etcetera", 0, 0, true),
    ] {
        assert_eq!(
            of(path, owner).belongs_to(account),
            follows,
            "{path} {owner} {account}"
        );
    }
    let mut seen = seen(&[("/var/lib/mysql", spot("/var/lib/mysql", MYSQL))]);
    seen.inside = vec![link("/var/lib/mysql/etc", Some(of("/etc", 0)))];
    let layout = plan_layout(&server(), &BTreeMap::new(), &seen).unwrap();
    assert_eq!(shape(&layout), [vec!["Data:/var/lib/mysql"]]);
    assert!(layout.warnings[0].contains("isn't the server's"));
}

#[test]
fn logs_on_a_volume_of_their_own_can_be_left_out() {
    let shape_without = |relay: &str, redo: &str| {
        let mut paths = server();
        paths.binary_log_basename = Some("/logs/binlog".into());
        paths.relay_log_basenames = vec![relay.into()];
        paths.innodb_log_group_home_dir = Some(redo.into());
        let seen = seen(&[
            ("/var/lib/mysql", spot("/var/lib/mysql", MYSQL)),
            ("/logs", spot("/logs", ROOT)),
            ("/redo", spot("/redo", REDO)),
        ]);
        let layout = plan_layout(&paths, &BTreeMap::new(), &seen).unwrap();
        let (data, apart) = layout.without_logs_apart()?;
        let apart: Vec<Role> = apart.iter().map(|place| place.role).collect();
        Some((data.volumes.len(), apart))
    };
    let both = vec![Role::BinaryLog, Role::RelayLog];
    assert_eq!(shape_without("/logs/relay", "/redo"), Some((2, both)));
    let one = Some((1, vec![Role::BinaryLog]));
    assert_eq!(shape_without("/var/lib/mysql/relay", "/var/lib/mysql"), one);
    // The redo log is beside them: that volume is needed.
    assert_eq!(shape_without("/logs/relay", "/logs"), None);
}

#[test]
fn links_to_data_become_places_and_others_a_warning() {
    let mut seen = seen(&[("/var/lib/mysql", spot("/var/lib/mysql", MYSQL))]);
    seen.inside = vec![
        link("/var/lib/mysql/big", spot("/srv/big", ROOT)),
        link("/var/lib/mysql/same", spot("/var/lib/mysql/big2", MYSQL)),
        link("/var/lib/mysql/ca.pem", spot("/etc/ssl/ca.pem", ROOT)),
        link("/var/lib/mysql/lost", None),
        link("/var/lib/mysql/db/t.MYD", spot("/srv/t.MYD", ROOT)),
    ];
    let layout = plan_layout(&server(), &BTreeMap::new(), &seen).unwrap();
    assert_eq!(
        shape(&layout),
        [
            vec!["Data:/var/lib/mysql"],
            vec!["Tables:/srv/big", "Tables:/srv/t.MYD"]
        ]
    );
    assert_eq!(layout.warnings.len(), 2, "{:?}", layout.warnings);
}

#[test]
fn key_ring_elsewhere_is_a_warning_and_adds_no_volume() {
    let mut paths = server();
    paths.key_ring_files = vec!["/etc/keys/ring".into(), "keyring".into()];
    let seen = seen(&[
        ("/var/lib/mysql", spot("/var/lib/mysql", MYSQL)),
        ("/etc/keys/ring", spot("/etc/keys/ring", ROOT)),
        (
            "/var/lib/mysql/keyring",
            spot("/var/lib/mysql/keyring", MYSQL),
        ),
    ]);
    let layout = plan_layout(&paths, &BTreeMap::new(), &seen).unwrap();
    assert_eq!(
        shape(&layout),
        [vec![
            "Data:/var/lib/mysql",
            "KeyRing:/var/lib/mysql/keyring"
        ]]
    );
    assert!(layout.warnings[0].contains("/etc/keys/ring"));
}

#[test]
fn missing_data_directory_is_refused_and_a_missing_table_is_not() {
    let paths = server();
    let nothing = seen(&[("/var/lib/mysql", None)]);
    let error = plan_layout(&paths, &BTreeMap::new(), &nothing).unwrap_err();
    assert!(matches!(error, VolumeError::Refused { .. }), "{error}");

    let mut paths = server();
    paths.table_files = vec!["/gone/t.ibd".into()];
    let seen = seen(&[
        ("/var/lib/mysql", spot("/var/lib/mysql", MYSQL)),
        ("/gone/t.ibd", None),
    ]);
    let layout = plan_layout(&paths, &BTreeMap::new(), &seen).unwrap();
    assert_eq!(layout.warnings.len(), 1);
}

#[test]
fn bind_mount_inside_the_data_is_refused() {
    let mut seen = seen(&[("/var/lib/mysql", spot("/var/lib/mysql", MYSQL))]);
    seen.inside = vec![Inside {
        at: "/var/lib/mysql/db".into(),
        how: How::Bind,
    }];
    let error = plan_layout(&server(), &BTreeMap::new(), &seen).unwrap_err();
    assert!(error.to_string().contains("/var/lib/mysql/db"), "{error}");
}

#[test]
fn subvolumes_of_one_btrfs_are_volumes_of_their_own() {
    let mut seen = seen(&[("/sub", spot("/sub", 77))]);
    seen.inside = vec![Inside {
        at: "/sub/db".into(),
        how: How::Subvolume(Spot {
            owner: MYSQLS,
            path: "/sub/db".into(),
            device: 78,
        }),
    }];
    let paths = ServerPaths {
        data_dir: "/sub".into(),
        ..ServerPaths::default()
    };
    let layout = plan_layout(&paths, &BTreeMap::new(), &seen).unwrap();
    assert_eq!(shape(&layout), [vec!["Data:/sub"], vec!["Tables:/sub/db"]]);
    assert_eq!(layout.volumes[1].mount.mount_point, Path::new("/sub"));
}
