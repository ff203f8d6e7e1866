//! Clones of kept snapshots: `POOL/understudy-USE-N`, a dataset beside the origin.
//!
//! Ours by its name and by the local property `understudy:use=USE`, which the call that makes it
//! sets. It is mounted by nobody but us: its mountpoint is `legacy`. `zfs destroy` unmounts what it
//! destroys (seen with 2.1.11), so that mounts are looked for before it.

use super::lines::{self, USE_PROPERTY};
use super::{CHANGE_LIMIT, Zfs, check_pool, says};
use crate::volume::mount::refuse_mounted_dataset;
use crate::volume::{
    CloneRequest, Mountable, PlannedVolume, VolumeError, VolumeState, clone_name, is_clone_name,
};

impl Zfs {
    pub(super) fn plan_clone_of(
        &self,
        request: &CloneRequest,
    ) -> Result<PlannedVolume, VolumeError> {
        let kept = &request.volume.name;
        let missing = || VolumeError::NotFound { name: kept.clone() };
        let properties = self.properties(kept)?.ok_or_else(missing)?;
        super::check_is_recorded(&request.id, &request.volume, &properties)?;
        check_pool(&self.pool(lines::pool_of(kept))?)?;
        let name = lines::beside(kept, &clone_name(&request.use_id, request.number)?);
        self.check_free_name(&name)?;
        Ok(PlannedVolume {
            origin: kept.clone(),
            name,
        })
    }

    pub(super) fn make_clone_of(
        &self,
        request: &CloneRequest,
        planned: &PlannedVolume,
    ) -> Result<Mountable, VolumeError> {
        let properties = lines::use_properties(&request.use_id);
        let argv = lines::clone_argv(&properties, &request.volume.name, &planned.name);
        self.zfs.run(argv, request.limit)?;
        Ok(Mountable::Dataset(planned.name.clone()))
    }

    pub(super) fn clone_state(&self, planned: &PlannedVolume) -> Result<VolumeState, VolumeError> {
        let Some(properties) = self.properties(&planned.name)? else {
            return Ok(VolumeState::Missing);
        };
        let pool = self.pool(lines::pool_of(&planned.name))?;
        Ok(if properties.local(USE_PROPERTY).is_none() {
            VolumeState::Invalid("another dataset bears its name".to_owned())
        } else if !pool.is_working() {
            VolumeState::Invalid(format!("the pool {} is {}", pool.name, pool.health))
        } else if properties.number("available") == Some(0) {
            VolumeState::Invalid(format!("the pool {} has no room left", pool.name))
        } else {
            VolumeState::Good {
                bytes_used: properties.number("used"),
            }
        })
    }

    /// Destroys a clone of this use; `Ok(false)` when there is none of ours.
    pub(super) fn drop_clone(&self, use_id: &str, name: &str) -> Result<bool, VolumeError> {
        if !is_clone_name(use_id, lines::last_part(name)) {
            return Ok(false);
        }
        let is_ours = self
            .properties(name)?
            .is_some_and(|properties| properties.local(USE_PROPERTY) == Some(use_id));
        if !is_ours {
            return Ok(false);
        }
        refuse_mounted_dataset(name)?;
        match self.zfs(&["destroy", name], CHANGE_LIMIT) {
            Ok(_) => Ok(true),
            Err(error) if says(&error, "does not exist") => Ok(false),
            Err(error) if says(&error, "busy") || says(&error, "has children") => {
                Err(VolumeError::Busy {
                    name: name.to_owned(),
                    reason: error.to_string(),
                })
            }
            Err(error) => Err(error.into()),
        }
    }
}
