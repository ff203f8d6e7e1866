//! /proc/self/mountinfo: its lines, and which mount holds a path.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// One line of /proc/self/mountinfo, as far as we need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub mount_point: PathBuf,
    /// The root of the mount within its filesystem (a btrfs subvolume's path, a bind's source).
    pub root: PathBuf,
    pub device: (u32, u32),
    pub fs_type: String,
    /// `/dev/mapper/vg0-mysql`, `tank/mysql`, …
    pub source: String,
    pub options: Vec<String>,
}

/// The mounts in the order of the file (proc_pid_mountinfo(5)); a line that can't be read is left
/// out, since one odd mount must not hide the others.
pub fn parse_mountinfo(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

/// The mount that shows `path`: of the deepest mount points above it, the one mounted last.
/// `path` must be absolute and free of links.
pub fn mount_of<'a>(path: &Path, mounts: &'a [Mount]) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.mount_point))
        .max_by_key(|mount| mount.mount_point.components().count())
}

/// Where `path` is within the filesystem of its mount, whatever mount shows it.
pub fn path_within(path: &Path, mount: &Mount) -> Option<PathBuf> {
    let rest = path.strip_prefix(&mount.mount_point).ok()?;
    Some(if rest.as_os_str().is_empty() {
        mount.root.clone()
    } else {
        mount.root.join(rest)
    })
}

/// Filesystems that hold nothing of a server's, and show in every namespace.
const OF_THE_KERNEL: [&str; 12] = [
    "bpf",
    "cgroup",
    "cgroup2",
    "debugfs",
    "devpts",
    "devtmpfs",
    "mqueue",
    "nsfs",
    "proc",
    "securityfs",
    "sysfs",
    "tracefs",
];

/// From the paths of another mount namespace to ours: for each of its mounts, where we see the same
/// part of the same filesystem. What we don't see is left out.
pub fn map_between(theirs: &[Mount], ours: &[Mount]) -> BTreeMap<PathBuf, PathBuf> {
    let seen_at = |mount: &Mount| {
        let own = ours
            .iter()
            .filter(|own| own.device == mount.device && mount.root.starts_with(&own.root))
            .max_by_key(|own| own.root.components().count())?;
        let rest = mount.root.strip_prefix(&own.root).ok()?;
        Some(own.mount_point.join(rest).components().collect())
    };
    theirs
        .iter()
        .filter(|mount| !OF_THE_KERNEL.contains(&&*mount.fs_type))
        .filter_map(|mount| Some((mount.mount_point.clone(), seen_at(mount)?)))
        .filter(|(there, here)| there != here)
        .collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let front: Vec<&str> = front.split(' ').collect();
    let back: Vec<&str> = back.split(' ').collect();
    let (major, minor) = front.get(2)?.split_once(':')?;
    let mut options: Vec<String> = Vec::new();
    for option in front.get(5)?.split(',').chain(back.get(2)?.split(',')) {
        let option = unescape(option).to_string_lossy().into_owned();
        if !options.contains(&option) {
            options.push(option);
        }
    }
    Some(Mount {
        mount_point: unescape(front.get(4)?).into(),
        root: unescape(front.get(3)?).into(),
        device: (major.parse().ok()?, minor.parse().ok()?),
        fs_type: (*back.first()?).to_owned(),
        source: unescape(back.get(1)?).to_string_lossy().into_owned(),
        options,
    })
}

/// `\040` and its like: space, tab, newline, backslash and hash are written as three octal digits.
fn unescape(field: &str) -> OsString {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| field.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;

    const INFO: &str = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
43 27 0:39 / /srv/with\\040space rw,relatime shared:5 - btrfs /dev/loop0 rw,subvolid=5,subvol=/
44 43 0:39 /@mysql /srv/with\\040space/db rw - btrfs /dev/loop0 rw,subvol=/@mysql
45 27 0:51 / /tank rw - zfs tank/my\\134sql rw,xattr
a line of something else
46 27 7:1 / /srv/with\\040space/db ro - xfs /dev/loop1 ro
";

    #[test]
    fn a_containers_paths_are_found_by_device_and_part() {
        let ours = parse_mountinfo(
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
             2 1 8:2 / /srv rw - xfs /dev/sdb rw\n\
             3 1 0:40 /@mysql /var/lib/mysql rw - btrfs /dev/sdc rw\n\
             4 1 0:60 / /var/lib/containers/1/merged rw - overlay overlay rw\n",
        );
        let theirs = parse_mountinfo(
            "9 0 0:60 / / rw - overlay overlay rw\n\
             10 9 8:2 /my\\040data /var/lib/mysql rw - xfs /dev/sdb rw\n\
             11 9 0:40 /@mysql/redo /redo rw - btrfs /dev/sdc rw\n\
             12 9 8:1 /etc/hosts /etc/hosts rw - ext4 /dev/sda1 rw\n\
             13 9 0:99 / /elsewhere rw - xfs /dev/sdz rw\n\
             14 9 0:5 / /proc rw - proc proc rw\n",
        );
        let map = map_between(&theirs, &ours);
        let shown: Vec<String> = map
            .iter()
            .map(|(there, here)| format!("{} {}", there.display(), here.display()))
            .collect();
        assert_eq!(
            shown,
            [
                "/ /var/lib/containers/1/merged",
                "/redo /var/lib/mysql/redo",
                "/var/lib/mysql /srv/my data",
            ]
        );
    }

    #[test]
    fn fields_are_read_and_unescaped() {
        let mounts = parse_mountinfo(INFO);
        assert_eq!(mounts.len(), 5);
        assert_eq!(mounts[1].mount_point, Path::new("/srv/with space"));
        assert_eq!(mounts[1].device, (0, 39));
        assert_eq!(mounts[2].root, Path::new("/@mysql"));
        assert_eq!(mounts[3].source, "tank/my\\sql");
        assert_eq!(mounts[0].options, ["rw", "relatime", "discard"]);
    }

    #[test]
    fn deepest_and_last_mount_shows_the_path() {
        let mounts = parse_mountinfo(INFO);
        let shown = |path: &str| mount_of(Path::new(path), &mounts).unwrap().fs_type.clone();
        assert_eq!(shown("/etc"), "ext4");
        assert_eq!(shown("/srv/with space/x"), "btrfs");
        assert_eq!(shown("/srv/with space/db/x"), "xfs");
        assert_eq!(shown("/tankard"), "ext4");
        assert_eq!(shown("/tank"), "zfs");
    }

    #[test]
    fn path_within_a_bind_or_subvolume_mount() {
        let mounts = parse_mountinfo(INFO);
        let within = path_within(Path::new("/srv/with space/db/x"), &mounts[2]);
        assert_eq!(within.unwrap(), Path::new("/@mysql/x"));
        assert_eq!(path_within(Path::new("/etc"), &mounts[2]), None);
    }

    proptest! {
        #[test]
        fn any_escaped_path_comes_back(bytes in prop::collection::vec(1u8..=127, 1..40)) {
            let mut path = b"/".to_vec();
            path.extend(bytes);
            let escaped: String = path
                .iter()
                .map(|&byte| match byte {
                    b' ' | b'\t' | b'\n' | b'\\' | b'#' | b'\r' | 11 | 12 => format!("\\{byte:03o}"),
                    other => char::from(other).to_string(),
                })
                .collect();
            let line = format!("1 0 8:1 / {escaped} rw - ext4 /dev/sda1 rw");
            let mounts = parse_mountinfo(&line);
            prop_assert_eq!(mounts[0].mount_point.as_os_str().as_bytes(), &path[..]);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".*") {
            parse_mountinfo(&text);
        }
    }
}
