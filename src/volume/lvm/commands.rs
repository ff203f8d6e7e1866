//! The argv of each LVM command, as pure functions.

use super::plan::Target;
use super::report::{ID_TAG, LV_FIELDS, Lv, USE_TAG, VG_FIELDS, render_tag};
use crate::volume::Tags;

/// The tag that keeps a thick snapshot's origin while it isn't one yet.
pub(super) const ORIGIN_TAG: &str = "origin";
pub(super) const PATH_TAG: &str = "path";
pub(super) const SERVER_TAG: &str = "server";

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn report(command: &str, fields: &str) -> Vec<String> {
    let format = [
        "--reportformat",
        "json",
        "--units",
        "b",
        "--nosuffix",
        "--binary",
        "-o",
    ];
    let mut argv = words(&[command]);
    argv.extend(words(&format));
    argv.push(fields.to_owned());
    argv
}

pub(super) fn lvs_argv() -> Vec<String> {
    report("lvs", LV_FIELDS)
}

pub(super) fn vgs_argv() -> Vec<String> {
    report("vgs", VG_FIELDS)
}

/// The tags that a volume of ours bears from its first moment.
fn birth_tags(id: &str, server: &str, target: &Target) -> Vec<String> {
    [
        render_tag(ID_TAG, id),
        render_tag(SERVER_TAG, server),
        render_tag(ORIGIN_TAG, &target.origin),
    ]
    .into_iter()
    .flatten()
    .flat_map(|tag| ["--addtag".to_owned(), tag])
    .collect()
}

/// Thick, before the pause: the copy-on-write area as a volume of its own, its start zeroed, which
/// is what a new exception store must look like.
pub(super) fn create_cow_argv(id: &str, server: &str, target: &Target) -> Vec<String> {
    let extents = target.cow_extents.unwrap_or(1).to_string();
    let mut argv = words(&[
        "lvcreate",
        "-y",
        "-Wy",
        "-Zy",
        "-l",
        &extents,
        "-n",
        &target.name,
    ]);
    argv.extend(birth_tags(id, server, target));
    argv.push(target.vg.clone());
    argv
}

/// In the pause: no backup files (the `lvchange --addtag` of `seal` writes them), and no waiting
/// for udev to have made nodes that nobody opens yet (`lvm` in the head has the figures).
const IN_THE_PAUSE: [&str; 3] = [
    "--noudevsync",
    "--config",
    "backup/backup=0 backup/archive=0",
];

/// Thick, in the pause: the area becomes the origin's snapshot. It is zeroed already (`-Zn`).
pub(super) fn attach_cow_argv(target: &Target) -> Vec<String> {
    let mut argv = words(&["lvconvert", "-y", "-Zn", "--type", "snapshot"]);
    argv.extend(words(&IN_THE_PAUSE));
    argv.extend([target.full_origin(), target.full_name()]);
    argv
}

/// Thin, in the pause. Without a size, or LVM would make a thick one; it stays inactive and is
/// skipped at activation, so that nothing mounts a filesystem with the same UUID by chance.
/// `--ignoremonitoring`: the pool stays watched by dmeventd as it was.
pub(super) fn create_thin_argv(id: &str, server: &str, target: &Target) -> Vec<String> {
    let mut argv = words(&["lvcreate", "-y", "--ignoremonitoring", "-s", "-pr", "-n"]);
    argv.push(target.name.clone());
    argv.extend(birth_tags(id, server, target));
    argv.extend(words(&IN_THE_PAUSE));
    argv.push(target.full_origin());
    argv
}

/// After the pause: the rest of the tags. `None` when there is none that fits.
pub(super) fn add_tags_argv(target: &Target, tags: &Tags) -> Option<Vec<String>> {
    let path = target
        .path
        .to_str()
        .and_then(|path| render_tag(PATH_TAG, path));
    let reserved = [ID_TAG, ORIGIN_TAG, PATH_TAG, SERVER_TAG];
    let more = tags
        .iter()
        .filter(|(key, _)| !reserved.contains(&key.as_str()))
        .filter_map(|(key, value)| render_tag(key, value));
    let tags: Vec<_> = path.into_iter().chain(more).collect();
    if tags.is_empty() {
        return None;
    }
    let mut argv = words(&["lvchange"]);
    argv.extend(
        tags.into_iter()
            .flat_map(|tag| ["--addtag".to_owned(), tag]),
    );
    argv.push(target.full_name());
    Some(argv)
}

/// A writable snapshot of a thin one, active now (`-K`) but skipped when the machine starts.
pub(super) fn clone_thin_argv(use_id: &str, kept: &Lv, full_name: &str) -> Vec<String> {
    let mut argv = words(&["lvcreate", "-y", "--ignoremonitoring", "-s", "-prw"]);
    argv.extend(words(&["-ay", "-K", "-n", last_part(full_name)]));
    argv.extend(use_tag(use_id));
    argv.push(kept.full_name());
    argv
}

/// The area that takes what is written to an overlay.
pub(super) fn create_area_argv(use_id: &str, full_name: &str, extents: u64) -> Vec<String> {
    let (group, name) = full_name.split_once('/').unwrap_or((full_name, ""));
    let extents = extents.to_string();
    let mut argv = words(&["lvcreate", "-y", "-Wy", "-Zy", "-l", &extents, "-n", name]);
    argv.extend(use_tag(use_id));
    argv.push(group.to_owned());
    argv
}

/// A writable snapshot of a thin one that will take its origin's place: like an ordinary volume.
pub(super) fn clone_for_put_argv(tags: &[String], kept: &Lv, full_name: &str) -> Vec<String> {
    let mut argv = words(&["lvcreate", "-y", "--ignoremonitoring", "-s", "-prw"]);
    argv.extend(words(&["-kn", "-an", "-n", last_part(full_name)]));
    argv.extend(
        tags.iter()
            .flat_map(|tag| ["--addtag".to_owned(), tag.clone()]),
    );
    argv.push(kept.full_name());
    argv
}

/// `None` when there is nothing to change.
pub(super) fn change_tags_argv(
    full_name: &str,
    added: &[String],
    removed: &[String],
) -> Option<Vec<String>> {
    let mut argv = words(&["lvchange"]);
    let pairs = |option: &str, tags: &[String]| -> Vec<String> {
        tags.iter()
            .flat_map(|tag| [option.to_owned(), tag.clone()])
            .collect()
    };
    argv.extend(pairs("--addtag", added));
    argv.extend(pairs("--deltag", removed));
    argv.push(full_name.to_owned());
    (argv.len() > 2).then_some(argv)
}

pub(super) fn rename_argv(from: &str, to: &str) -> Vec<String> {
    words(&["lvrename", from, to])
}

pub(super) fn activate_argv(full_name: &str, is_active: bool) -> Vec<String> {
    words(&["lvchange", if is_active { "-ay" } else { "-an" }, full_name])
}

fn use_tag(use_id: &str) -> impl Iterator<Item = String> {
    let tag = render_tag(USE_TAG, use_id);
    tag.into_iter().flat_map(|tag| ["--addtag".to_owned(), tag])
}

fn last_part(full_name: &str) -> &str {
    full_name.rsplit('/').next().unwrap_or(full_name)
}

pub(super) fn remove_argv(full_name: &str) -> Vec<String> {
    words(&["lvremove", "-f", full_name])
}

pub(super) fn refresh_argv(full_name: &str) -> Vec<String> {
    words(&["lvchange", "--refresh", full_name])
}

#[cfg(test)]
mod tests {
    use super::super::report::parse_lvs;
    use super::super::report::tests::{HEALTHY, lv};
    use super::*;

    fn target() -> Target {
        Target {
            vg: "vg0".to_owned(),
            origin: "mysql".to_owned(),
            name: "understudy-b".to_owned(),
            path: "/srv/my sql".into(),
            cow_extents: Some(52),
        }
    }

    #[test]
    fn thick_area_is_made_before_and_attached_in_the_pause() {
        assert_eq!(
            create_cow_argv("b", "db2", &target()).join(" "),
            "lvcreate -y -Wy -Zy -l 52 -n understudy-b --addtag understudy.id=b \
             --addtag understudy.server=db2 --addtag understudy.origin=mysql vg0"
        );
        assert_eq!(
            attach_cow_argv(&target()).join(" "),
            "lvconvert -y -Zn --type snapshot --noudevsync \
             --config backup/backup=0 backup/archive=0 vg0/mysql vg0/understudy-b"
        );
    }

    #[test]
    fn thin_snapshot_never_has_a_size() {
        let argv = create_thin_argv("b", "db2", &target());
        assert!(
            !argv
                .iter()
                .any(|arg| arg.starts_with("-L") || arg.starts_with("-l"))
        );
        assert_eq!(argv.last().map(String::as_str), Some("vg0/mysql"));
    }

    #[test]
    fn clones_bear_their_use_and_no_id() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        let kept = lv(&lvs, "vg-thin/understudy-a-3");
        assert_eq!(
            clone_thin_argv("u-1", kept, "vg-thin/understudy-u-1-1").join(" "),
            "lvcreate -y --ignoremonitoring -s -prw -ay -K -n understudy-u-1-1 \
             --addtag understudy.use=u-1 vg-thin/understudy-a-3"
        );
        assert_eq!(
            create_area_argv("u-1", "vg0/understudy-u-1-1", 16).join(" "),
            "lvcreate -y -Wy -Zy -l 16 -n understudy-u-1-1 --addtag understudy.use=u-1 vg0"
        );
    }

    #[test]
    fn tags_added_later_can_not_change_whose_it_is() {
        let tags = Tags::from([
            ("id".to_owned(), "other".to_owned()),
            ("gtid".to_owned(), "0-1-100".to_owned()),
        ]);
        assert_eq!(
            add_tags_argv(&target(), &tags).unwrap().join(" "),
            "lvchange --addtag understudy.path=/srv/my&20sql \
             --addtag understudy.gtid=0-1-100 vg0/understudy-b"
        );
    }
}
