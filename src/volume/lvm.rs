//! Snapshots of logical volumes, thick (copy-on-write area of a fixed size) and thin.
//!
//! Owns only volumes named `understudy-ID` that bear the tag `understudy.id=ID`, which they have
//! from the command that makes them, matched by lv_uuid ever after; and clones of them (`clone`).
//!
//! Learned from real runs (LVM 2.03.16, Linux 6.1), and kept in mind below:
//! - A filesystem frozen by FIFREEZE makes the suspend inside lvcreate fail with EBUSY, and leaves
//!   half-made devices behind. Linux lets the two freezes nest since 6.8.
//! - lvcreate of a thin snapshot whose origin is suspended answers success, sends the pool no
//!   message, and leaves LVM's metadata and the pool's apart. So a suspended origin is refused.
//! - LVM blocks signals while devices are suspended, so it is asked to end (SIGTERM) long before it
//!   is killed: a kill there leaves the server's volume suspended.
//!
//! `take` in the guest (2.03.16, emulated, shared machine; best of 4, in ms): thick by one
//! `lvcreate -s` 2011; by attaching an area that was made before the pause 1482, from a shell that
//! was started before it 1317, without waiting for udev and without backup files 342. Thin by
//! `lvcreate -s` 912, from the shell 477, without udev and backup files 193. So all of it is kept.
//! The whole `take` with the shell and without it, eight rounds on a busier machine, medians: thick
//! 1598 and 2360, thin 685 and 1572.

mod blocks;
mod clone;
mod commands;
mod overlay;
mod plan;
mod put;
mod report;
mod shell;
mod state;
mod take;

use std::ffi::OsString;
use std::time::Duration;

use plan::Target;
use report::{Lv, Vg};

use super::{
    Backend, BackendKind, CloneRequest, Filling, FoundVolume, Mountable, PlannedVolume, Prepared,
    PutRequest, Renamed, Scan, Stillness, TakeRequest, VolumeError, VolumeRecord, VolumeState,
    snapshot_name,
};
use crate::sys::Fact;
use crate::sys::exec::{Options, Output, Program};

/// Reading waits at most for another command's lock.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// Removing a thick snapshot copies nothing, but suspends its origin.
const CHANGE_LIMIT: Duration = Duration::from_secs(120);
/// How long a command may take to end by itself once its time is up.
const GRACE: Duration = Duration::from_secs(30);
/// Of our own environment these are handed on: where LVM's configuration is, and whether udev runs.
const PASSED_ON: [&str; 2] = ["LVM_SYSTEM_DIR", "DM_DISABLE_UDEV"];

/// The LVM back-end, for thick or for thin volumes.
#[derive(Debug, Clone)]
pub struct Lvm {
    lvm: Program,
    env: Vec<(OsString, OsString)>,
    kind: BackendKind,
    uses_shell: bool,
}

impl Lvm {
    pub fn find_thick() -> Result<Self, VolumeError> {
        Self::find(BackendKind::LvmThick)
    }

    pub fn find_thin() -> Result<Self, VolumeError> {
        Self::find(BackendKind::LvmThin)
    }

    /// The same with a process per command in the pause.
    pub fn without_shell(self) -> Self {
        Self {
            uses_shell: false,
            ..self
        }
    }

    /// Which of the two fits the logical volume that a mount's source names; `NotFound` when the
    /// source is no logical volume.
    pub fn kind_of(source: &str) -> Result<BackendKind, VolumeError> {
        let lvs = Self::find_thick()?.lvs()?;
        plan::find_source(&lvs, source)
            .map(plan::kind_of)
            .ok_or_else(|| VolumeError::NotFound {
                name: format!("a logical volume for {source}"),
            })
    }

    fn find(kind: BackendKind) -> Result<Self, VolumeError> {
        let passed_on = |name: &str| Some((OsString::from(name), std::env::var_os(name)?));
        let mut env: Vec<_> = PASSED_ON.into_iter().filter_map(passed_on).collect();
        env.push(("LVM_SUPPRESS_FD_WARNINGS".into(), "1".into()));
        Ok(Self {
            lvm: Program::find("lvm")?.with_grace(GRACE),
            env,
            kind,
            uses_shell: true,
        })
    }

    fn run(&self, argv: Vec<String>, limit: Duration) -> Result<Output, VolumeError> {
        let options = Options {
            env: self.env.clone(),
            ..Options::default()
        };
        Ok(self.lvm.run_with(argv, limit, options)?)
    }

    fn lvs(&self) -> Result<Vec<Lv>, VolumeError> {
        report::parse_lvs(&self.run(commands::lvs_argv(), READ_LIMIT)?.stdout)
    }

    fn vgs(&self) -> Result<Vec<Vg>, VolumeError> {
        report::parse_vgs(&self.run(commands::vgs_argv(), READ_LIMIT)?.stdout)
    }

    /// The volume; `Ok(None)` when it is gone although its group is there.
    fn look_up(&self, full_name: &str) -> Result<(Vec<Lv>, Option<Lv>), VolumeError> {
        let lvs = self.lvs()?;
        let found = lvs.iter().find(|lv| lv.full_name() == full_name).cloned();
        let (group, _) = full_name.split_once('/').unwrap_or((full_name, ""));
        let group_is_seen = lvs.iter().any(|lv| lv.vg == group);
        if found.is_none() && !group_is_seen && !self.vgs()?.iter().any(|vg| vg.name == group) {
            return Err(VolumeError::NotFound {
                name: format!("the volume group {group}"),
            });
        }
        Ok((lvs, found))
    }

    fn state(&self, volume: &VolumeRecord) -> Result<Fact<VolumeState>, VolumeError> {
        let (lvs, found) = self.look_up(&volume.name)?;
        Ok(match found {
            None => Fact::Known(VolumeState::Missing),
            Some(lv) if lv.uuid != volume.uuid => Fact::Known(VolumeState::Invalid(
                "another volume bears its name (the lv_uuid differs)".to_owned(),
            )),
            Some(lv) => state::assess(self.kind, &lv, &lvs),
        })
    }

    fn remove(&self, lv: &Lv) -> Result<(), VolumeError> {
        state::check_unused(lv)?;
        self.run(commands::remove_argv(&lv.full_name()), CHANGE_LIMIT)?;
        Ok(())
    }

    fn refresh(&self, full_name: &str) -> Result<(), VolumeError> {
        self.run(commands::refresh_argv(full_name), CHANGE_LIMIT)?;
        Ok(())
    }

    /// Resumes an origin that a command which was killed left suspended: its server hangs.
    fn resume_origin(&self, origin: &str) -> Result<Option<String>, VolumeError> {
        let lvs = self.lvs()?;
        let origin = lvs.iter().find(|lv| lv.full_name() == origin);
        let Some(lv) = origin.filter(|lv| lv.is_suspended == Some(true)) else {
            return Ok(None);
        };
        self.refresh(&lv.full_name())?;
        Ok(Some(format!(
            "resumed {}, which was suspended",
            lv.full_name()
        )))
    }

    fn plan_space(
        &self,
        targets: &mut [Target],
        lvs: &[Lv],
        request: &TakeRequest,
    ) -> Result<(), VolumeError> {
        for vg in self.vgs()? {
            if targets.iter().any(|target| target.vg == vg.name) {
                plan::check_group(&vg)?;
                if self.kind == BackendKind::LvmThick {
                    plan::plan_cow(targets, lvs, &vg, request.cow_size)?;
                }
            }
        }
        if self.kind == BackendKind::LvmThin {
            for target in targets {
                let is_origin = |lv: &&Lv| lv.full_name() == target.full_origin();
                if let Some(origin) = lvs.iter().find(is_origin) {
                    plan::check_thin_pool(lvs, origin)?;
                }
            }
        }
        Ok(())
    }
}

impl Backend for Lvm {
    fn kind(&self) -> BackendKind {
        self.kind
    }

    fn prepare(&self, request: &TakeRequest) -> Result<Box<dyn Prepared>, VolumeError> {
        let name = snapshot_name(&request.id)?;
        if request.stillness == Stillness::Frozen {
            plan::check_freeze_nests(&crate::sys::process::kernel_release())?;
        }
        let lvs = self.lvs()?;
        let volumes = &request.layout.volumes;
        let mut targets = plan::plan_targets(self.kind, &lvs, volumes, &name, request.stillness)?;
        self.plan_space(&mut targets, &lvs, request)?;
        Ok(Box::new(take::PreparedLvm::new(
            self.clone(),
            request,
            targets,
        )))
    }

    fn discover_in(&self, _scan: &Scan) -> Result<Vec<FoundVolume>, VolumeError> {
        let lvs = self.lvs()?;
        let of_kind = |lv: &&Lv| plan::kind_of(lv) == self.kind;
        Ok(lvs
            .iter()
            .filter(of_kind)
            .filter_map(|lv| state::found_volume(self.kind, lv, &lvs))
            .collect())
    }

    fn fillings(&self, volumes: &[VolumeRecord]) -> Result<Vec<Filling>, VolumeError> {
        Ok(state::fillings(&self.lvs()?, volumes))
    }

    fn probe(&self, volume: &VolumeRecord) -> Fact<VolumeState> {
        self.state(volume).unwrap_or_else(Fact::unknown)
    }

    fn delete(&self, id: &str, volume: &VolumeRecord) -> Result<bool, VolumeError> {
        let (_, Some(lv)) = self.look_up(&volume.name)? else {
            return Ok(false);
        };
        state::check_is_recorded(&lv, id, volume)?;
        self.remove(&lv)?;
        Ok(true)
    }

    fn sweep(&self, id: &str, planned: &[PlannedVolume]) -> Result<Vec<String>, VolumeError> {
        let mut done = Vec::new();
        for PlannedVolume { origin, name } in planned {
            // What hangs the server goes first; half-made devices may make it fail until the
            // volume is gone, so it is tried again below.
            let early = self.resume_origin(origin);
            done.extend(early.as_ref().ok().cloned().flatten());
            let lvs = self.lvs()?;
            let is_ours =
                |lv: &&Lv| lv.full_name() == *name && state::id_of(lv).as_deref() == Some(id);
            if let Some(lv) = lvs.iter().find(is_ours) {
                self.remove(lv)?;
                done.push(format!("removed the volume {name}"));
                if !lv.is_thin() && lv.origin.is_empty() {
                    // A refused conversion leaves devices between the origin and its data.
                    self.refresh(origin)?;
                }
            }
            if early.is_err() {
                done.extend(self.resume_origin(origin)?);
            }
        }
        Ok(done)
    }

    fn plan_clone(&self, request: &CloneRequest) -> Result<PlannedVolume, VolumeError> {
        self.plan_clone_of(request)
    }

    fn make_clone(
        &self,
        request: &CloneRequest,
        planned: &PlannedVolume,
        _progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Mountable, VolumeError> {
        self.make_clone_of(request, planned)
    }

    /// Their filesystems have a journal to replay.
    fn readable(&self, _volume: &VolumeRecord) -> Result<Option<Mountable>, VolumeError> {
        Ok(None)
    }

    fn probe_clone(&self, planned: &PlannedVolume) -> Fact<VolumeState> {
        self.clone_state(planned).unwrap_or_else(Fact::unknown)
    }

    fn drop_clones(
        &self,
        use_id: &str,
        planned: &[PlannedVolume],
    ) -> Result<Vec<String>, VolumeError> {
        let mut removed = Vec::new();
        for PlannedVolume { name, .. } in planned {
            removed.extend(self.drop_clone(use_id, name)?);
        }
        Ok(removed)
    }

    fn plan_put(&self, request: &PutRequest) -> Result<Vec<PlannedVolume>, VolumeError> {
        self.plan_put_of(request)
    }

    /// Every snapshot keeps its name.
    fn put(
        &self,
        request: &PutRequest,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Vec<Renamed>, VolumeError> {
        self.put_of(request, progress).map(|()| Vec::new())
    }
}
