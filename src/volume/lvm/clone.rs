//! Clones of kept volumes: of thin ones a writable thin snapshot, of thick ones an overlay.
//!
//! A clone is a volume `GROUP/understudy-USE-N` with the tag `understudy.use=USE`, which it bears
//! from the command that makes it, and never `understudy.id`. Of a thick one that volume is the area
//! of an overlay (`overlay`), a device named `understudy-USE-N` with that for its uuid too.
//!
//! udev points /dev/disk/by-uuid to what came last with a filesystem's UUID (seen with 252), so that
//! the origin is made to come again once its clone is there.

use super::commands;
use super::overlay::{self, DmDevice};
use super::plan;
use super::report::{Lv, USE_TAG};
use super::{CHANGE_LIMIT, Lvm, READ_LIMIT, state};
use crate::sys::exec::{ExecError, Options, Output, Program};
use crate::sys::{Fact, files};
use crate::volume::mount::mounted_device;
use crate::volume::{
    BackendKind, CloneRequest, Mountable, PlannedVolume, VolumeError, VolumeRecord, VolumeState,
    clone_name, is_clone_name,
};

impl Lvm {
    pub(super) fn plan_clone_of(
        &self,
        request: &CloneRequest,
    ) -> Result<PlannedVolume, VolumeError> {
        let (lvs, kept) = self.find_recorded(&request.id, &request.volume)?;
        let name = clone_name(&request.use_id, request.number)?;
        plan::check_name(&lvs, &kept.vg, &name)?;
        Program::find("blkid")?;
        if self.kind == BackendKind::LvmThin {
            plan::check_thin_pool(&lvs, &kept)?;
        } else {
            Program::find("dmsetup")?;
            self.area_extents(&kept)?;
        }
        Ok(PlannedVolume {
            origin: kept.full_name(),
            name: format!("{}/{name}", kept.vg),
        })
    }

    pub(super) fn make_clone_of(
        &self,
        request: &CloneRequest,
        planned: &PlannedVolume,
    ) -> Result<Mountable, VolumeError> {
        let (lvs, kept) = self.find_recorded(&request.id, &request.volume)?;
        let path = if self.kind == BackendKind::LvmThin {
            let argv = commands::clone_thin_argv(&request.use_id, &kept, &planned.name);
            self.run(argv, request.limit)?;
            self.find_clone(&request.use_id, &planned.name)?.dm_path
        } else {
            self.make_overlay(request, &kept, planned)?
        };
        if let Some(origin) = lvs
            .iter()
            .find(|lv| lv.full_name() == request.volume.origin)
        {
            reappear(origin);
        }
        let fs_type = fs_type(&path)?;
        Ok(Mountable::Device {
            path: path.into(),
            fs_type,
        })
    }

    pub(super) fn clone_state(
        &self,
        planned: &PlannedVolume,
    ) -> Result<Fact<VolumeState>, VolumeError> {
        let (lvs, Some(clone)) = self.look_up(&planned.name)? else {
            return Ok(Fact::Known(VolumeState::Missing));
        };
        if clone.tag(USE_TAG).is_none() {
            let reason = "another volume bears its name".to_owned();
            return Ok(Fact::Known(VolumeState::Invalid(reason)));
        }
        if self.kind == BackendKind::LvmThin {
            return Ok(state::assess_thin_clone(&clone, &lvs));
        }
        let Some(device) = self.find_overlay(&clone.name)? else {
            return Ok(Fact::Known(VolumeState::Missing));
        };
        let status = self.dmsetup(overlay::status_argv(&device.name))?;
        overlay::parse_status(&status.stdout).map(Fact::Known)
    }

    /// Removes a clone of this use; a line for each thing removed.
    pub(super) fn drop_clone(
        &self,
        use_id: &str,
        full_name: &str,
    ) -> Result<Vec<String>, VolumeError> {
        let mut removed = Vec::new();
        let Some((_, name)) = full_name
            .split_once('/')
            .filter(|(_, name)| is_clone_name(use_id, name))
        else {
            return Ok(removed);
        };
        if self.kind == BackendKind::LvmThick
            && let Some(device) = self.find_overlay(name)?
        {
            self.remove_overlay(&device)?;
            removed.push(format!("removed the overlay {name}"));
        }
        let lvs = self.lvs()?;
        let is_ours =
            |lv: &&Lv| lv.full_name() == full_name && lv.tag(USE_TAG).as_deref() == Some(use_id);
        if let Some(lv) = lvs.iter().find(is_ours) {
            self.remove(lv)?;
            removed.push(format!("removed the volume {full_name}"));
        }
        Ok(removed)
    }

    /// The kept volume with all others, if it is the recorded one and good.
    pub(super) fn find_recorded(
        &self,
        id: &str,
        volume: &VolumeRecord,
    ) -> Result<(Vec<Lv>, Lv), VolumeError> {
        let (lvs, found) = self.look_up(&volume.name)?;
        let lv = found.ok_or_else(|| VolumeError::NotFound {
            name: volume.name.clone(),
        })?;
        state::check_is_recorded(&lv, id, volume)?;
        match state::assess(self.kind, &lv, &lvs) {
            Fact::Known(VolumeState::Good { .. }) => Ok((lvs, lv)),
            Fact::Known(VolumeState::Invalid(reason)) => Err(VolumeError::refused(
                format!("{} can't be used: {reason}", volume.name),
                format!(
                    "Use another snapshot; remove this one with `understudy snapshot delete {id}`."
                ),
            )),
            Fact::Unknown(reason) => Err(VolumeError::refused(
                reason,
                format!("Activate its origin with `lvchange -ay {}`.", volume.origin),
            )),
            Fact::Known(VolumeState::Missing) => Err(VolumeError::NotFound {
                name: volume.name.clone(),
            }),
        }
    }

    fn find_clone(&self, use_id: &str, full_name: &str) -> Result<Lv, VolumeError> {
        let lvs = self.lvs()?;
        lvs.into_iter()
            .find(|lv| lv.full_name() == full_name && lv.tag(USE_TAG).as_deref() == Some(use_id))
            .ok_or_else(|| VolumeError::NotFound {
                name: full_name.to_owned(),
            })
    }

    /// Returns the path of the overlay's device.
    fn make_overlay(
        &self,
        request: &CloneRequest,
        kept: &Lv,
        planned: &PlannedVolume,
    ) -> Result<String, VolumeError> {
        let extents = self.area_extents(kept)?;
        let area = commands::create_area_argv(&request.use_id, &planned.name, extents);
        self.run(area, request.limit)?;
        let area = self.find_clone(&request.use_id, &planned.name)?;
        let (Some(area_device), Some(kept_device)) = (area.device, kept.device) else {
            return Err(VolumeError::NotFound {
                name: format!("the device of {}", area.full_name()),
            });
        };
        let sectors = sectors(kept)?;
        let argv = overlay::create_argv(&area.name, sectors, kept_device, area_device);
        self.dmsetup(argv)?;
        Ok(format!("/dev/mapper/{}", area.name))
    }

    fn area_extents(&self, kept: &Lv) -> Result<u64, VolumeError> {
        let size_bytes = sectors(kept)? * overlay::SECTOR_BYTES;
        let groups = self.vgs()?;
        let group = groups.iter().find(|group| group.name == kept.vg);
        let group = group.ok_or_else(|| VolumeError::NotFound {
            name: format!("the volume group {}", kept.vg),
        })?;
        plan::check_group(group)?;
        plan::area_extents(group, size_bytes)
    }

    /// Only one that bears our mark.
    fn find_overlay(&self, name: &str) -> Result<Option<DmDevice>, VolumeError> {
        let info = self.dmsetup(overlay::info_argv())?;
        Ok(overlay::parse_info(&info.stdout)
            .into_iter()
            .find(|device| device.name == name && device.uuid == name))
    }

    fn remove_overlay(&self, device: &DmDevice) -> Result<(), VolumeError> {
        if let Some(place) = mounted_device(device.device)?.first() {
            return Err(VolumeError::Busy {
                name: device.name.clone(),
                reason: format!("it is mounted at {}", place.display()),
            });
        }
        match self.dmsetup(overlay::remove_argv(&device.name)) {
            Ok(_) => Ok(()),
            Err(error) if device.is_open => Err(VolumeError::Busy {
                name: device.name.clone(),
                reason: format!("something has its device open ({error})"),
            }),
            Err(error) => Err(error.into()),
        }
    }

    fn dmsetup(&self, argv: Vec<String>) -> Result<Output, ExecError> {
        let options = Options {
            env: self.env.clone(),
            ..Options::default()
        };
        let limit = match argv.first().map(String::as_str) {
            Some("info" | "status") => READ_LIMIT,
            Some(_) | None => CHANGE_LIMIT,
        };
        Program::find("dmsetup")?.run_with(argv, limit, options)
    }
}

/// Of what a snapshot shows, which for a thick one isn't the size of its area.
pub(super) fn sectors(lv: &Lv) -> Result<u64, VolumeError> {
    let unknown = || VolumeError::NotFound {
        name: format!("the device of {}", lv.full_name()),
    };
    let (major, minor) = lv.device.ok_or_else(unknown)?;
    let path = format!("/sys/dev/block/{major}:{minor}/size");
    let text = files::read_text(path.as_ref())?.unwrap_or_default();
    text.trim().parse().map_err(|_| unknown())
}

pub(super) fn fs_type(path: &str) -> Result<String, VolumeError> {
    let args = ["-p", "-o", "value", "-s", "TYPE", path];
    let output = Program::find("blkid")?.run(args, READ_LIMIT)?;
    match output.stdout.trim() {
        "" => Err(VolumeError::Parse {
            program: "blkid",
            detail: format!("no filesystem on {path}"),
        }),
        fs_type => Ok(fs_type.to_owned()),
    }
}

/// Has udev look at a volume again. Where there is no udev there is nothing to mend.
fn reappear(lv: &Lv) {
    let Some((major, minor)) = lv.device else {
        return;
    };
    if let Ok(udevadm) = Program::find("udevadm") {
        let device = format!("/sys/dev/block/{major}:{minor}");
        let args = ["trigger", "--settle", "--action=change", &device];
        drop(udevadm.run(args, READ_LIMIT));
    }
}
