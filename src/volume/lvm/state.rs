//! What a volume of ours is and what became of it: decisions over one observation.

use std::path::PathBuf;

use super::commands::{ORIGIN_TAG, PATH_TAG};
use super::plan;
use super::report::{ID_TAG, Lv};
use crate::sys::{Fact, files};
use crate::volume::{
    BackendKind, FoundVolume, VolumeError, VolumeRecord, VolumeState, snapshot_name,
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
    let pool = lvs
        .iter()
        .find(|pool| pool.vg == lv.vg && pool.name == lv.pool);
    match pool.map(|pool| pool.health.as_str()) {
        None => Fact::Unknown(format!("its pool {}/{} isn't shown", lv.vg, lv.pool)),
        Some("failed") => Fact::Known(VolumeState::Invalid(format!(
            "its pool {}/{} has failed",
            lv.vg, lv.pool
        ))),
        Some(_) => Fact::Known(VolumeState::Good { bytes_used: None }),
    }
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
    let origin = match lv.origin.as_str() {
        "" => lv.tag(ORIGIN_TAG).unwrap_or_default(),
        origin => origin.to_owned(),
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
    // A thin snapshot outlives its origin.
    let origin = format!("{}/{}", lv.vg, lv.origin);
    if !lv.origin.is_empty() && origin != volume.origin {
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
    let table = files::read_text("/proc/self/mountinfo".as_ref())?.unwrap_or_default();
    Err(busy(
        match parse_mount_points(&table, (major, minor)).join(", ") {
            none if none.is_empty() => format!("something has its device {major}:{minor} open"),
            places => format!("it is mounted at {places}"),
        },
    ))
}

/// Where /proc/PID/mountinfo shows that device.
fn parse_mount_points(table: &str, (major, minor): (u32, u32)) -> Vec<&str> {
    let device = format!("{major}:{minor}");
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(2);
            (fields.next()? == device).then(|| fields.nth(1))?
        })
        .collect()
}
