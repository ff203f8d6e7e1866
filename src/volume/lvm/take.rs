//! An LVM snapshot that is ready to be taken, and its taking.

use std::time::Duration;

use super::commands;
use super::plan::Target;
use super::shell::Shell;
use super::{CHANGE_LIMIT, Lvm, READ_LIMIT, state};
use crate::sys::Fact;
use crate::volume::{
    Backend, BackendKind, PlannedVolume, Prepared, Tags, TakeRequest, VolumeError, VolumeRecord,
    VolumeState,
};

pub(super) struct PreparedLvm {
    lvm: Lvm,
    id: String,
    server: String,
    targets: Vec<Target>,
    /// Started in `prepare`; without it each command is a process.
    shell: Option<Shell>,
    limit: Duration,
}

impl PreparedLvm {
    pub(super) fn new(lvm: Lvm, request: &TakeRequest, targets: Vec<Target>) -> Self {
        let start = || Shell::start(&lvm.lvm, &lvm.env, READ_LIMIT).ok();
        Self {
            shell: lvm.uses_shell.then(start).flatten(),
            lvm,
            id: request.id.clone(),
            server: request.server.clone(),
            targets,
            limit: request.limit,
        }
    }

    /// Thick: makes the copy-on-write area, which `take` then attaches to the origin.
    fn create_cow(&self, target: &Target) -> Result<(), VolumeError> {
        let create = commands::create_cow_argv(&self.id, &self.server, target);
        self.lvm.run(create, CHANGE_LIMIT)?;
        let deactivate = commands::activate_argv(&target.full_name(), false);
        self.lvm.run(deactivate, CHANGE_LIMIT)?;
        Ok(())
    }

    fn take_one(&mut self, target: &Target) -> Result<(), VolumeError> {
        let argv = match self.lvm.kind {
            BackendKind::LvmThin => commands::create_thin_argv(&self.id, &self.server, target),
            _ => commands::attach_cow_argv(target),
        };
        let done = match self.shell.as_mut() {
            Some(shell) => shell.change(&argv, self.limit),
            None => self.lvm.run(argv, self.limit).map(drop),
        };
        done.map_err(|error| explain(error, target))
    }

    fn seal_one(&self, target: &Target, tags: &Tags) -> Result<VolumeRecord, VolumeError> {
        if let Some(argv) = commands::add_tags_argv(target, tags) {
            self.lvm.run(argv, CHANGE_LIMIT)?;
        }
        let name = target.full_name();
        let (lvs, found) = self.lvm.look_up(&name)?;
        let lv = found.ok_or_else(|| VolumeError::NotFound { name: name.clone() })?;
        let not_it = |reason: String| VolumeError::NotOurs {
            name: name.clone(),
            reason,
        };
        if state::id_of(&lv).as_deref() != Some(&self.id) || lv.origin != target.origin {
            return Err(not_it(format!(
                "its origin is {:?}, its tags {:?}",
                lv.origin, lv.tags
            )));
        }
        match state::assess(self.lvm.kind, &lv, &lvs) {
            Fact::Known(VolumeState::Good { bytes_used }) => Ok(VolumeRecord {
                origin: target.full_origin(),
                name,
                path: target.path.clone(),
                bytes_used,
                uuid: lv.uuid,
            }),
            Fact::Known(VolumeState::Invalid(reason)) | Fact::Unknown(reason) => {
                Err(not_it(reason))
            }
            Fact::Known(VolumeState::Missing) => Err(VolumeError::NotFound { name }),
        }
    }
}

/// LVM doesn't say that the suspend was refused because somebody else froze the filesystem.
fn explain(error: VolumeError, target: &Target) -> VolumeError {
    let said = error.to_string();
    if !said.contains("suspend ioctl") || !said.contains("resource busy") {
        return error;
    }
    VolumeError::Busy {
        name: target.full_origin(),
        reason: format!(
            "the filesystem at {} is frozen, so LVM can't suspend it",
            target.path.display()
        ),
    }
}

impl Prepared for PreparedLvm {
    fn plan(&self) -> Vec<PlannedVolume> {
        self.targets
            .iter()
            .map(|target| PlannedVolume {
                origin: target.full_origin(),
                name: target.full_name(),
            })
            .collect()
    }

    fn warm_up(&mut self, _progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        if self.lvm.kind == BackendKind::LvmThick {
            for target in &self.targets {
                self.create_cow(target)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, _progress: &mut dyn FnMut(u64, u64)) -> Result<(), VolumeError> {
        for target in self.targets.clone() {
            self.take_one(&target)?;
        }
        Ok(())
    }

    fn seal(&mut self, tags: &Tags) -> Result<Vec<VolumeRecord>, VolumeError> {
        self.shell = None;
        self.targets
            .iter()
            .map(|target| self.seal_one(target, tags))
            .collect()
    }

    fn discard(&mut self) -> Result<(), VolumeError> {
        self.shell = None;
        self.lvm.sweep(&self.id, &self.plan()).map(drop)
    }
}
