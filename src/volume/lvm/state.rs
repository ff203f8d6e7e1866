//! What a volume of ours is and what became of it: decisions over one observation.

use std::path::PathBuf;

use super::commands::{ORIGIN_TAG, PATH_TAG};
use super::plan;
use super::report::{ID_TAG, Lv};
use crate::sys::{Fact, files};
use crate::volume::mount::mounted_device;
use crate::volume::{
    BackendKind, Filling, FoundVolume, NAME_PREFIX, VolumeError, VolumeRecord, VolumeState,
    snapshot_name,
};

/// The snapshot id of a volume that is ours: by its tag, and by a name that fits the tag.
pub(super) fn id_of(lv: &Lv) -> Option<String> {
    let id = lv.tag(ID_TAG)?;
    let rest = lv.name.strip_prefix(&snapshot_name(&id).ok()?)?;
    let is_ours = match rest.strip_prefix('+') {
        Some(number) => !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()),
        None => rest.is_empty(),
    };
    is_ours.then_some(id)
}

pub(super) fn assess(kind: BackendKind, lv: &Lv, lvs: &[Lv]) -> Fact<VolumeState> {
    if plan::kind_of(lv) != kind {
        let reason = "it is another kind of volume now";
        return Fact::Known(VolumeState::Invalid(reason.to_owned()));
    }
    if lv.is_merging == Some(true) {
        let reason = "it is being merged into its origin";
        return Fact::Known(VolumeState::Invalid(reason.to_owned()));
    }
    if lv.is_thin() {
        assess_thin(lv, lvs)
    } else {
        assess_thick(lv)
    }
}

/// Of the areas of thick snapshots, and of the pools of thin ones.
pub(super) fn fillings(lvs: &[Lv], volumes: &[VolumeRecord]) -> Vec<Filling> {
    let mut fillings: Vec<Filling> = Vec::new();
    for volume in volumes {
        let Some(lv) = lvs.iter().find(|lv| lv.full_name() == volume.name) else {
            continue;
        };
        let filling = match plan::pool_of(lv, lvs) {
            Some(pool) => Filling {
                name: pool.full_name(),
                what: "thin pool",
                percent: pool
                    .data_percent
                    .unwrap_or(0.0)
                    .max(pool.metadata_percent.unwrap_or(0.0)),
                cure: format!(
                    "Extend it (`lvextend -L+10G {0}`, or its metadata with `lvextend \
                     --poolmetadatasize +1G {0}`), or `understudy snapshot prune`.",
                    pool.full_name()
                ),
            },
            None => Filling {
                name: lv.full_name(),
                what: "snapshot area",
                percent: lv.snap_percent.unwrap_or(0.0),
                cure: format!(
                    "Extend it with `lvextend -L+10G {}` before it overflows, or delete the snapshot.",
                    lv.full_name()
                ),
            },
        };
        if !fillings.contains(&filling) {
            fillings.push(filling);
        }
    }
    fillings
}

fn assess_thick(lv: &Lv) -> Fact<VolumeState> {
    if lv.origin.is_empty() {
        let reason = "it never became a snapshot: its making was interrupted";
        return Fact::Known(VolumeState::Invalid(reason.to_owned()));
    }
    if lv.is_snapshot_invalid == Some(true) || lv.snap_percent.is_some_and(|used| used >= 100.0) {
        return Fact::Known(VolumeState::Invalid(format!(
            "its copy-on-write area overflowed ({} MiB)",
            lv.size_bytes / (1024 * 1024)
        )));
    }
    match (lv.is_snapshot_invalid, lv.snap_percent) {
        (Some(false), Some(_)) => Fact::Known(VolumeState::Good {
            bytes_used: bytes_used(lv),
        }),
        _ => Fact::Unknown(format!(
            "{} is inactive, so whether it overflowed can't be known",
            lv.full_name()
        )),
    }
}

fn assess_thin(lv: &Lv, lvs: &[Lv]) -> Fact<VolumeState> {
    match plan::pool_of(lv, lvs).map(|pool| pool.health.as_str()) {
        None => Fact::Unknown(format!("its pool {}/{} isn't shown", lv.vg, lv.pool)),
        Some("failed") => Fact::Known(VolumeState::Invalid(format!(
            "its pool {}/{} has failed",
            lv.vg, lv.pool
        ))),
        Some(_) => Fact::Known(VolumeState::Good { bytes_used: None }),
    }
}

/// A clone is spoilt by a pool that took no more writes.
pub(super) fn assess_thin_clone(lv: &Lv, lvs: &[Lv]) -> Fact<VolumeState> {
    let Some(pool) = plan::pool_of(lv, lvs) else {
        return assess_thin(lv, lvs);
    };
    let is_full = [pool.data_percent, pool.metadata_percent]
        .iter()
        .any(|percent| percent.is_some_and(|percent| percent >= 100.0));
    let what = match pool.health.as_str() {
        "" if is_full => "full",
        "" => return assess_thin(lv, lvs),
        health => health,
    };
    Fact::Known(VolumeState::Invalid(format!(
        "its pool {} is {what}",
        pool.full_name()
    )))
}

/// What a thick snapshot's own area holds; a thin one's share of its pool isn't told by LVM.
pub(super) fn bytes_used(lv: &Lv) -> Option<u64> {
    if lv.is_thin() {
        return None;
    }
    let share = lv.snap_percent?.clamp(0.0, 100.0) / 100.0;
    Some((lv.size_bytes as f64 * share).round() as u64)
}

/// `None` when it isn't ours.
pub(super) fn found_volume(kind: BackendKind, lv: &Lv, lvs: &[Lv]) -> Option<FoundVolume> {
    let id = id_of(lv)?;
    let origin = match lv.is_thick_snapshot() {
        true => lv.origin.clone(),
        // A thin one outlives its origin, and what takes its place.
        false => lv.tag(ORIGIN_TAG).unwrap_or_else(|| lv.origin.clone()),
    };
    let state = match assess(kind, lv, lvs) {
        Fact::Known(state) => state,
        // Not known to be good, so not called good.
        Fact::Unknown(reason) => VolumeState::Invalid(reason),
    };
    Some(FoundVolume {
        id,
        record: VolumeRecord {
            origin: format!("{}/{origin}", lv.vg),
            name: lv.full_name(),
            path: lv.tag(PATH_TAG).map(PathBuf::from).unwrap_or_default(),
            bytes_used: bytes_used(lv),
            uuid: lv.uuid.clone(),
        },
        tags: lv.our_tags().collect(),
        state,
    })
}

/// Identity, tag and origin must all be the recorded ones.
pub(super) fn check_is_recorded(
    lv: &Lv,
    id: &str,
    volume: &VolumeRecord,
) -> Result<(), VolumeError> {
    let not_ours = |reason: String| VolumeError::NotOurs {
        name: volume.name.clone(),
        reason,
    };
    if lv.uuid != volume.uuid {
        return Err(not_ours(format!("its lv_uuid is {}", lv.uuid)));
    }
    if id_of(lv).as_deref() != Some(id) {
        return Err(not_ours(
            "it lacks the tag understudy.id with the snapshot's id".to_owned(),
        ));
    }
    // Not of a thin one, which outlives it.
    let origin = format!("{}/{}", lv.vg, lv.origin);
    if lv.is_thick_snapshot() && origin != volume.origin {
        return Err(not_ours(format!("its origin is {origin}")));
    }
    Ok(())
}

/// Refuses a volume that is mounted or open, and says where.
pub(super) fn check_unused(lv: &Lv) -> Result<(), VolumeError> {
    let busy = |reason| VolumeError::Busy {
        name: lv.full_name(),
        reason,
    };
    if lv.is_merging == Some(true) {
        return Err(busy("it is being merged into its origin".to_owned()));
    }
    if lv.is_open != Some(true) {
        return Ok(());
    }
    let Some((major, minor)) = lv.device else {
        return Err(busy("it is open".to_owned()));
    };
    let mounts = mounted_device((major, minor))?;
    let places: Vec<_> = mounts
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    let holders = holders((major, minor))?;
    Err(busy(if !places.is_empty() {
        format!("it is mounted at {}", places.join(", "))
    } else if !holders.is_empty() {
        let ours = match holders.iter().any(|name| name.starts_with(NAME_PREFIX)) {
            true => "the clone",
            false => "the device",
        };
        format!("{ours} {} stands on it", holders.join(", "))
    } else {
        format!("something has its device {major}:{minor} open")
    }))
}

/// The device-mapper devices that stand on a device, by name.
fn holders((major, minor): (u32, u32)) -> Result<Vec<String>, VolumeError> {
    let dir = format!("/sys/dev/block/{major}:{minor}/holders");
    let mut names = Vec::new();
    for holder in files::list(dir.as_ref())? {
        if let Some(name) = files::read_text(&holder.join("dm/name"))? {
            names.push(name.trim().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::super::report::parse_lvs;
    use super::super::report::tests::{HEALTHY, INACTIVE, OVERFLOWED, lv};
    use super::*;

    fn thick_state(text: &str, name: &str) -> Fact<VolumeState> {
        let lvs = parse_lvs(text).unwrap();
        assess(BackendKind::LvmThick, lv(&lvs, name), &lvs)
    }

    #[test]
    fn an_overflowed_area_is_invalid_and_an_inactive_one_unknown() {
        let name = "vg0/understudy-a-1";
        let good = VolumeState::Good {
            bytes_used: Some(12_583),
        };
        assert_eq!(thick_state(HEALTHY, name), Fact::Known(good));
        assert_eq!(
            thick_state(OVERFLOWED, name),
            Fact::Known(VolumeState::Invalid(
                "its copy-on-write area overflowed (20 MiB)".to_owned()
            ))
        );
        assert!(thick_state(INACTIVE, name).known().is_none());
        let never = thick_state(HEALTHY, "vg0/understudy-a-2");
        assert!(
            matches!(never, Fact::Known(VolumeState::Invalid(_))),
            "{never:?}"
        );
    }

    #[test]
    fn only_tagged_volumes_with_a_fitting_name_are_ours() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        let ours = |kind| -> Vec<_> {
            let found = lvs.iter().filter(|lv| plan::kind_of(lv) == kind);
            found
                .filter_map(|lv| found_volume(kind, lv, &lvs))
                .collect()
        };
        let thick: Vec<_> = ours(BackendKind::LvmThick)
            .into_iter()
            .map(|v| v.id)
            .collect();
        assert_eq!(thick, ["a-1", "a-2"]);
        let thin = ours(BackendKind::LvmThin);
        assert_eq!(thin.len(), 1);
        assert_eq!(thin[0].record.name, "vg-thin/understudy-a-3");
        assert_eq!(thin[0].record.origin, "vg-thin/mysql");
        assert_eq!(thin[0].state, VolumeState::Good { bytes_used: None });
    }

    #[test]
    fn a_second_volume_bears_a_number() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        let named = |name: &str| Lv {
            name: name.to_owned(),
            ..lv(&lvs, "vg0/understudy-a-1").clone()
        };
        assert_eq!(id_of(&named("understudy-a-1+2")).as_deref(), Some("a-1"));
        for other in [
            "understudy-a-1+",
            "understudy-a-1+x",
            "understudy-a-12",
            "a-1",
        ] {
            assert_eq!(id_of(&named(other)), None, "{other}");
        }
    }

    #[test]
    fn another_identity_tag_or_origin_is_not_ours() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        let ours = lv(&lvs, "vg0/understudy-a-1");
        let volume = VolumeRecord {
            origin: "vg0/mysql".to_owned(),
            name: "vg0/understudy-a-1".to_owned(),
            path: PathBuf::new(),
            bytes_used: None,
            uuid: ours.uuid.clone(),
        };
        assert!(check_is_recorded(ours, "a-1", &volume).is_ok());
        assert!(check_is_recorded(ours, "a-2", &volume).is_err());
        let other_uuid = VolumeRecord {
            uuid: "x".to_owned(),
            ..volume.clone()
        };
        assert!(check_is_recorded(ours, "a-1", &other_uuid).is_err());
        let other_origin = VolumeRecord {
            origin: "vg0/redo".to_owned(),
            ..volume
        };
        assert!(check_is_recorded(ours, "a-1", &other_origin).is_err());
    }

    #[test]
    fn an_open_volume_is_busy() {
        let lvs = parse_lvs(HEALTHY).unwrap();
        assert!(check_unused(lv(&lvs, "vg0/understudy-a-1")).is_ok());
        assert!(matches!(
            check_unused(lv(&lvs, "vg0/mysql")),
            Err(VolumeError::Busy { .. })
        ));
    }
}
