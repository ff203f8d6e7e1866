//! What may be taken of what was observed: pure decisions, each refusal with its cure.

use std::path::PathBuf;

use super::report::{Lv, Vg};
use crate::config::CowSize;
use crate::volume::layout::{Mount, Volume};
use crate::volume::{BackendKind, Stillness, VolumeError};

/// A pool beyond this much data or metadata may fill up under the live replica, whose writes it
/// then holds up for 60 s and fails.
const POOL_PERCENT_MAX: f64 = 90.0;
/// Less than this isn't worth taking: LVM itself wants some chunks, and a burst fills it.
const COW_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// What is written to a clone is little: recovery and what a check leaves behind.
const AREA_BYTES_MIN: u64 = 64 * 1024 * 1024;
/// For the recovery of the filesystem's journal.
const PUT_MARGIN_BYTES: u64 = 4 * 1024 * 1024;
/// DM_NAME_LEN is 128 with its NUL; device-mapper names are `VG-LV` with every hyphen doubled, and
/// LVM appends up to `-cow` and `-real`.
const DM_NAME_BYTES_MAX: usize = 127 - "-real".len();
/// LVM keeps names with these parts for itself (lvm(8), RESERVED NAMES).
const RESERVED_PARTS: [&str; 14] = [
    "_cdata", "_cmeta", "_corig", "_cvol", "_iorig", "_mimage", "_mlog", "_pmspare", "_rimage",
    "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin",
];

/// One logical volume and the snapshot that will be made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub vg: String,
    /// The origin's name within the group.
    pub origin: String,
    /// The snapshot's name within the group.
    pub name: String,
    /// Where the origin is mounted.
    pub path: PathBuf,
    /// Thick only: the size of the copy-on-write area, in extents.
    pub cow_extents: Option<u64>,
}

impl Target {
    pub fn full_origin(&self) -> String {
        format!("{}/{}", self.vg, self.origin)
    }

    pub fn full_name(&self) -> String {
        format!("{}/{}", self.vg, self.name)
    }
}

/// The logical volume that a device path names, in any of the ways that a mount table may use.
pub(super) fn find_source<'a>(lvs: &'a [Lv], source: &str) -> Option<&'a Lv> {
    let minor = source
        .strip_prefix("/dev/dm-")
        .and_then(|n| n.parse::<u32>().ok());
    lvs.iter().find(|lv| {
        lv.path == source
            || lv.dm_path == source
            || (minor.is_some() && lv.device.map(|(_, minor)| minor) == minor)
    })
}

pub(super) fn kind_of(lv: &Lv) -> BackendKind {
    if lv.is_thin() {
        BackendKind::LvmThin
    } else {
        BackendKind::LvmThick
    }
}

/// Refuses on kernels where a frozen filesystem makes LVM's own suspend fail (EBUSY, seen on 6.1;
/// `FREEZE_MAY_NEST` came with 6.8).
pub(super) fn check_freeze_nests(kernel_release: &str) -> Result<(), VolumeError> {
    let mut numbers = kernel_release.split(|c: char| !c.is_ascii_digit());
    let mut next = || {
        numbers
            .next()
            .and_then(|n| n.parse::<u32>().ok())
            .unwrap_or(0)
    };
    if (next(), next()) >= (6, 8) {
        return Ok(());
    }
    Err(VolumeError::refused(
        format!(
            "Linux {kernel_release} can't snapshot a logical volume while its filesystem is frozen"
        ),
        "Set `consistency = \"stop\"` for this server, or run Linux 6.8 or later.",
    ))
}

/// The targets for a layout. Several volumes can't be taken in one moment by LVM.
pub(super) fn plan_targets(
    kind: BackendKind,
    lvs: &[Lv],
    volumes: &[Volume],
    name: &str,
    stillness: Stillness,
) -> Result<Vec<Target>, VolumeError> {
    let mut targets: Vec<Target> = Vec::new();
    for Volume { mount, .. } in volumes {
        let origin = find_origin(lvs, mount)?;
        check_origin(kind, origin)?;
        if targets
            .iter()
            .any(|t| t.vg == origin.vg && t.origin == origin.name)
        {
            continue;
        }
        // `+` can't be in an id, so that a second volume's name is no other snapshot's first.
        let name = match targets.len() {
            0 => name.to_owned(),
            n => format!("{name}+{}", n + 1),
        };
        check_name(lvs, &origin.vg, &name)?;
        targets.push(Target {
            vg: origin.vg.clone(),
            origin: origin.name.clone(),
            name,
            path: mount.mount_point.clone(),
            cow_extents: None,
        });
    }
    if targets.len() > 1 && stillness == Stillness::Live {
        let origins: Vec<_> = targets.iter().map(Target::full_origin).collect();
        return Err(VolumeError::refused(
            format!(
                "the data is spread over {}, and LVM has no snapshot of several volumes \
                 in one moment",
                origins.join(", ")
            ),
            "Move all of it onto one logical volume; \
             or set `consistency = \"stop\"` for this server.",
        ));
    }
    Ok(targets)
}

/// By device number, since names can be bound over; the name must agree when it is an LV's.
fn find_origin<'a>(lvs: &'a [Lv], mount: &Mount) -> Result<&'a Lv, VolumeError> {
    let at = mount.mount_point.display();
    if mount.fs_type == "btrfs" {
        return Err(VolumeError::refused(
            format!("{at} is btrfs, which may span devices that an LVM snapshot doesn't hold"),
            "Set `backend = \"btrfs\"` for this server.",
        ));
    }
    let by_device = lvs.iter().find(|lv| lv.device == Some(mount.device));
    by_device.ok_or_else(|| {
        let (major, minor) = mount.device;
        VolumeError::refused(
            format!(
                "{at} is on {} ({major}:{minor}), which is no logical volume",
                mount.source
            ),
            "Move it onto the logical volume that holds the data directory, \
             or set another `backend`.",
        )
    })
}

pub(super) fn check_origin(kind: BackendKind, lv: &Lv) -> Result<(), VolumeError> {
    let name = lv.full_name();
    if lv.is_thick_snapshot() {
        return Err(VolumeError::refused(
            format!("{name} is itself a snapshot (of {}/{})", lv.vg, lv.origin),
            "Point the server at a volume of its own.",
        ));
    }
    if kind_of(lv) != kind {
        let (is, other) = if lv.is_thin() {
            ("thin", "thick")
        } else {
            ("thick", "thin")
        };
        return Err(VolumeError::refused(
            format!("{name} is a {is} volume, but the first of this server is {other}"),
            "Keep all of the server's volumes in one thin pool, or none.",
        ));
    }
    if lv.is_merging == Some(true) {
        return Err(VolumeError::refused(
            format!("{name} is merging with a snapshot"),
            "Wait until `lvs` no longer shows the merge.",
        ));
    }
    if lv.is_suspended == Some(true) {
        return Err(VolumeError::refused(
            format!("{name} is suspended"),
            format!("Resume it with `lvchange --refresh {name}`, once nothing else works on it."),
        ));
    }
    Ok(())
}

pub(super) fn check_name(lvs: &[Lv], vg: &str, name: &str) -> Result<(), VolumeError> {
    let shorter = "Give the server another, shorter name in the configuration.";
    let length = dm_name_bytes(vg, name);
    if length > DM_NAME_BYTES_MAX {
        return Err(VolumeError::refused(
            format!(
                "the name {vg}/{name} takes {length} bytes with its hyphens doubled, \
                 device-mapper has room for {DM_NAME_BYTES_MAX}"
            ),
            shorter,
        ));
    }
    if let Some(part) = RESERVED_PARTS.iter().find(|part| name.contains(**part)) {
        return Err(VolumeError::refused(
            format!("the name {name} has {part} in it, which LVM keeps for itself"),
            shorter,
        ));
    }
    if lvs.iter().any(|lv| lv.vg == vg && lv.name == name) {
        return Err(VolumeError::refused(
            format!("{vg}/{name} exists already"),
            format!("Try again; if it persists, look at it with `lvs -o+lv_tags {vg}/{name}`."),
        ));
    }
    Ok(())
}

fn dm_name_bytes(vg: &str, name: &str) -> usize {
    let doubled = |name: &str| name.len() + name.matches('-').count();
    doubled(vg) + 1 + doubled(name)
}

/// Whether the group can be changed at all.
pub(super) fn check_group(vg: &Vg) -> Result<(), VolumeError> {
    if !vg.is_partial {
        return Ok(());
    }
    Err(VolumeError::refused(
        format!("the volume group {} lacks physical volumes", vg.name),
        format!(
            "Bring them back, or drop them with `vgreduce --removemissing {}`.",
            vg.name
        ),
    ))
}

/// Sizes the copy-on-write areas of all targets in one group, or refuses when they don't fit.
pub(super) fn plan_cow(
    targets: &mut [Target],
    lvs: &[Lv],
    vg: &Vg,
    cow_size: CowSize,
) -> Result<(), VolumeError> {
    let mut wanted = 0;
    for target in targets.iter_mut().filter(|target| target.vg == vg.name) {
        let origin = lvs
            .iter()
            .find(|lv| lv.vg == target.vg && lv.name == target.origin);
        let origin_bytes = origin.map_or(0, |lv| lv.size_bytes);
        let extents = cow_bytes(origin_bytes, cow_size).div_ceil(vg.extent_bytes);
        wanted += extents;
        target.cow_extents = Some(extents);
    }
    let free = vg.free_bytes / vg.extent_bytes;
    if wanted <= free {
        return Ok(());
    }
    let mib = |extents: u64| extents * vg.extent_bytes / (1024 * 1024);
    Err(VolumeError::refused(
        format!(
            "the snapshot's copy-on-write area needs {} MiB, the volume group {} has {} MiB free",
            mib(wanted),
            vg.name,
            mib(free)
        ),
        format!(
            "Add a disk with `vgextend {}`, remove what isn't needed, or set a smaller `cow_size`.",
            vg.name
        ),
    ))
}

fn cow_bytes(origin_bytes: u64, cow_size: CowSize) -> u64 {
    let bytes = match cow_size {
        CowSize::Percent(percent) => (origin_bytes / 100).saturating_mul(u64::from(percent)),
        CowSize::Bytes(bytes) => bytes,
    };
    bytes.max(COW_BYTES_MIN)
}

/// Extents of the area for an overlay on a volume of this size, by what the group has free.
pub(super) fn area_extents(vg: &Vg, size_bytes: u64) -> Result<u64, VolumeError> {
    let wanted = (size_bytes / 10).max(AREA_BYTES_MIN).min(size_bytes);
    let extents = wanted.div_ceil(vg.extent_bytes);
    let free = vg.free_bytes / vg.extent_bytes;
    let least = COW_BYTES_MIN.min(size_bytes).div_ceil(vg.extent_bytes);
    if free >= least {
        return Ok(extents.min(free));
    }
    let mib = |extents: u64| extents * vg.extent_bytes / (1024 * 1024);
    Err(VolumeError::refused(
        format!(
            "what is written to a clone needs {} MiB at least ({} MiB are better), \
             the volume group {} has {} MiB free",
            mib(least),
            mib(extents),
            vg.name,
            mib(free)
        ),
        format!(
            "Add a disk with `vgextend {}`, or remove what isn't needed.",
            vg.name
        ),
    ))
}

/// Refuses when a snapshot of the origin may overflow by the writing to it of what `kept` holds.
pub(super) fn check_put_blocks(lvs: &[Lv], kept: &Lv, origin: &Lv) -> Result<(), VolumeError> {
    let others = lvs.iter().filter(|lv| {
        lv.vg == origin.vg && lv.origin == origin.name && lv.name != kept.name && !lv.is_thin()
    });
    for other in others {
        if other.is_snapshot_invalid == Some(true) {
            continue;
        }
        let needed = put_bytes(kept, other);
        let percent = other.snap_percent.unwrap_or(100.0).clamp(0.0, 100.0);
        let free = (other.size_bytes as f64 * (100.0 - percent) / 100.0) as u64;
        if free < needed {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            let name = other.full_name();
            return Err(VolumeError::refused(
                format!(
                    "the snapshot {name} has room for {} MiB, and may need {} MiB while its \
                     origin is written to",
                    mib(free),
                    mib(needed)
                ),
                format!(
                    "Extend it with `lvextend -L+{}M {name}`.",
                    mib(needed - free)
                ),
            ));
        }
    }
    Ok(())
}

/// What another snapshot may take in at most: all that `kept` holds, in chunks of its own, and the
/// index of them.
fn put_bytes(kept: &Lv, other: &Lv) -> u64 {
    let chunk = |lv: &Lv| lv.chunk_bytes.unwrap_or(4096).max(4096);
    let growth = chunk(other).div_ceil(chunk(kept));
    // LVM rounds the share to a hundredth of a percent.
    let share = (kept.snap_percent.unwrap_or(100.0) + 0.01).clamp(0.0, 100.0) / 100.0;
    let held = (kept.size_bytes as f64 * share) as u64;
    held.saturating_mul(growth) / 100 * 101 + PUT_MARGIN_BYTES
}

/// Refuses when the pool of a thin volume is sick or nearly full.
pub(super) fn check_thin_pool(lvs: &[Lv], lv: &Lv) -> Result<(), VolumeError> {
    let pool = pool_of(lv, lvs).ok_or_else(|| VolumeError::NotFound {
        name: format!("the thin pool of {}", lv.full_name()),
    })?;
    let name = pool.full_name();
    if !pool.health.is_empty() || pool.needs_check == Some(true) {
        let what = match pool.health.as_str() {
            "" => "in need of a check",
            health => health,
        };
        return Err(VolumeError::refused(
            format!("the thin pool {name} is {what}"),
            format!("Repair it first: see lvmthin(7) and `lvs -o+lv_health_status {name}`."),
        ));
    }
    check_fill(pool, "data", pool.data_percent)?;
    check_fill(pool, "metadata", pool.metadata_percent)
}

pub(super) fn pool_of<'a>(lv: &Lv, lvs: &'a [Lv]) -> Option<&'a Lv> {
    lvs.iter()
        .find(|pool| pool.vg == lv.vg && pool.name == lv.pool)
}

fn check_fill(pool: &Lv, what: &str, percent: Option<f64>) -> Result<(), VolumeError> {
    let name = pool.full_name();
    let extend = match what {
        "data" => format!("lvextend -L+SIZE {name}"),
        _ => format!("lvextend --poolmetadatasize +SIZE {name}"),
    };
    let Some(percent) = percent else {
        return Err(VolumeError::refused(
            format!("how full the thin pool {name} is ({what}) can't be known"),
            format!("Make sure that `lvs {name}` shows it, as root and with the pool active."),
        ));
    };
    if percent < POOL_PERCENT_MAX {
        return Ok(());
    }
    let then = match pool.when_full.as_str() {
        "error" => "fails the server's writes at once",
        _ => "holds the server's writes for 60 s and then fails them",
    };
    Err(VolumeError::refused(
        format!(
            "the thin pool {name} has used {percent} % of its {what} \
             (the limit is {POOL_PERCENT_MAX} %), and a full pool {then}"
        ),
        format!("Extend it with `{extend}`, or free space with `understudy snapshot prune`."),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::report::parse_lvs;
    use super::super::report::tests::{HEALTHY, POOL_FULL, lv};
    use super::*;

    fn volume(fs_type: &str, source: &str, device: (u32, u32)) -> Volume {
        Volume {
            mount: Mount {
                mount_point: "/srv/mysql".into(),
                root: "/".into(),
                device,
                fs_type: fs_type.to_owned(),
                source: source.to_owned(),
                options: Vec::new(),
            },
            places: Vec::new(),
        }
    }

    fn thick() -> Volume {
        volume("ext4", "/dev/mapper/vg0-mysql", (253, 0))
    }

    fn plan(kind: BackendKind, volumes: &[Volume], name: &str) -> Result<Vec<Target>, VolumeError> {
        let lvs = parse_lvs(HEALTHY).unwrap();
        plan_targets(kind, &lvs, volumes, name, Stillness::Live)
    }

    fn refusal<T: std::fmt::Debug>(result: Result<T, VolumeError>) -> String {
        match result.unwrap_err() {
            VolumeError::Refused { reason, hint } => {
                assert!(hint.ends_with('.'), "{hint}");
                reason
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn sources_are_found_by_each_of_their_names() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        for source in ["/dev/vg0/mysql", "/dev/mapper/vg0-mysql", "/dev/dm-0"] {
            assert_eq!(find_source(&lvs, source).unwrap().full_name(), "vg0/mysql");
        }
        let thin = find_source(&lvs, "/dev/mapper/vg--thin-mysql").unwrap();
        assert_eq!(kind_of(thin), BackendKind::LvmThin);
        assert_eq!(find_source(&lvs, "/dev/sda1"), None);
    }

    #[test]
    fn origin_and_name_come_from_the_device() {
        let targets = plan(BackendKind::LvmThick, &[thick()], "understudy-b").unwrap();
        assert_eq!(targets[0].full_origin(), "vg0/mysql");
        assert_eq!(targets[0].full_name(), "vg0/understudy-b");
    }

    #[test]
    fn several_volumes_need_stillness() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        let other = volume("ext4", "/dev/mapper/vg0-other", (253, 11));
        let plan = |stillness| {
            let volumes = [thick(), other.clone(), thick()];
            plan_targets(
                BackendKind::LvmThick,
                &lvs,
                &volumes,
                "understudy-b",
                stillness,
            )
        };
        let reason = refusal(plan(Stillness::Live));
        assert!(
            reason.contains("vg0/mysql, vg0/understudy-a-1+2"),
            "{reason}"
        );
        let names: Vec<_> = plan(Stillness::Stopped)
            .unwrap()
            .into_iter()
            .map(|target| target.name)
            .collect();
        assert_eq!(names, ["understudy-b", "understudy-b+2"]);
    }

    #[test]
    fn what_can_not_be_taken_is_refused() {
        let btrfs = volume("btrfs", "/dev/mapper/vg0-mysql", (0, 40));
        let no_lv = volume("ext4", "/dev/sda1", (8, 1));
        let snapshot = volume("ext4", "/dev/mapper/vg0-understudy--a--1", (253, 8));
        for (bad, word) in [
            (btrfs, "btrfs"),
            (no_lv, "8:1"),
            (snapshot, "itself a snapshot"),
        ] {
            let reason = refusal(plan(BackendKind::LvmThick, &[bad], "understudy-b"));
            assert!(reason.contains(word), "{reason}");
        }
        let reason = refusal(plan(BackendKind::LvmThin, &[thick()], "understudy-b"));
        assert!(reason.contains("thick volume"), "{reason}");
    }

    #[test]
    fn bad_names_are_refused() {
        let thick = [thick()];
        let plan = |name: &str| refusal(plan(BackendKind::LvmThick, &thick, name));
        assert!(plan("understudy-a-1").contains("exists already"));
        assert!(plan("understudy-x_tdata").contains("_tdata"));
        assert!(plan(&format!("understudy-{}", "-".repeat(60))).contains("hyphens doubled"));
    }

    #[test]
    fn frozen_filesystems_need_a_kernel_that_nests_freezes() {
        assert!(check_freeze_nests("6.1.0-56-amd64").is_err());
        assert!(check_freeze_nests("5.15.0").is_err());
        assert!(check_freeze_nests("").is_err());
        assert!(check_freeze_nests("6.8.0-31-generic").is_ok());
        assert!(check_freeze_nests("7.0.1").is_ok());
    }

    fn group(free_bytes: u64) -> Vg {
        Vg {
            name: "vg0".to_owned(),
            free_bytes,
            extent_bytes: 4 << 20,
            is_partial: false,
        }
    }

    #[test]
    fn copy_on_write_area_is_sized_in_whole_extents() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        let sized = |cow_size| {
            let mut targets = plan(BackendKind::LvmThick, &[thick()], "understudy-b").unwrap();
            plan_cow(&mut targets, &lvs, &group(1 << 30), cow_size).unwrap();
            targets[0].cow_extents.unwrap()
        };
        assert_eq!(sized(CowSize::Percent(20)), 52);
        assert_eq!(sized(CowSize::Bytes((100 << 20) + 1)), 26);
        assert_eq!(sized(CowSize::Percent(1)), 4);
        assert_eq!(sized(CowSize::Bytes(1)), 4);
    }

    #[test]
    fn an_area_that_does_not_fit_is_refused_beforehand() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        let mut targets = plan(BackendKind::LvmThick, &[thick()], "understudy-b").unwrap();
        let group = group(100 << 20);
        let reason = refusal(plan_cow(&mut targets, &lvs, &group, CowSize::Percent(20)));
        assert!(
            reason.contains("208 MiB") && reason.contains("100 MiB free"),
            "{reason}"
        );
    }

    #[test]
    fn area_of_an_overlay_takes_what_is_free() {
        let extents =
            |free_mib: u64, size_mib: u64| area_extents(&group(free_mib << 20), size_mib << 20);
        assert_eq!(extents(10_000, 2_000).unwrap(), 50);
        assert_eq!(extents(10_000, 200).unwrap(), 16);
        assert_eq!(extents(10_000, 6).unwrap(), 2);
        assert_eq!(extents(20, 2_000).unwrap(), 5);
        let reason = refusal(extents(12, 2_000));
        assert!(
            reason.contains("16 MiB") && reason.contains("12 MiB free"),
            "{reason}"
        );
    }

    #[test]
    fn other_snapshots_need_room_for_what_the_kept_one_holds() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        let of = |name: &str, percent, chunk_bytes| Lv {
            name: name.to_owned(),
            size_bytes: 100 << 20,
            snap_percent: Some(percent),
            chunk_bytes: Some(chunk_bytes),
            ..lv(&lvs, "vg0/understudy-a-1").clone()
        };
        let check = |other: Lv| {
            let kept = of("understudy-k", 50.0, 4096);
            let all = [kept.clone(), other];
            check_put_blocks(&all, &kept, lv(&lvs, "vg0/mysql"))
        };
        assert!(check(of("understudy-u", 40.0, 4096)).is_ok());
        let reason = refusal(check(of("understudy-u", 48.0, 4096)));
        assert!(
            reason.contains("room for 52 MiB") && reason.contains("55 MiB"),
            "{reason}"
        );
        assert!(check(of("understudy-u", 40.0, 8192)).is_err());
        let elsewhere = Lv {
            origin: "redo".to_owned(),
            ..of("understudy-u", 99.0, 4096)
        };
        assert!(check(elsewhere).is_ok());
    }

    #[test]
    fn a_pool_that_is_nearly_full_is_refused() {
        let targets = |text: &str| {
            let lvs = parse_lvs(text).unwrap();
            let volumes = [volume("ext4", "/dev/mapper/vg--thin-mysql", (253, 5))];
            let kind = BackendKind::LvmThin;
            let planned = plan_targets(kind, &lvs, &volumes, "understudy-b", Stillness::Live);
            let origin = lv(&lvs, &planned.unwrap()[0].full_origin()).clone();
            (lvs, origin)
        };
        let (healthy, of_healthy) = targets(HEALTHY);
        assert!(check_thin_pool(&healthy, &of_healthy).is_ok());
        let (full, of_full) = targets(POOL_FULL);
        let reason = refusal(check_thin_pool(&full, &of_full));
        assert!(
            reason.contains("95.68 %") && reason.contains("60 s"),
            "{reason}"
        );

        let mut sick = lv(&healthy, "vg-thin/pool").clone();
        sick.health = "metadata_read_only".to_owned();
        let lvs = [lv(&healthy, "vg-thin/mysql").clone(), sick];
        let reason = refusal(check_thin_pool(&lvs, &of_healthy));
        assert!(reason.contains("metadata_read_only"), "{reason}");
    }
}
