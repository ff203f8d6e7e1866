//! A use of a kept snapshot: its clones made, and removed again whatever happens.
//!
//! Uses run beside everything else that goes on with the server: they hold the snapshot (shared),
//! not the server. Each is journalled before it makes anything, so that `recover` removes what a
//! killed one leaves.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::journal::act::{self, Act};
use crate::journal::{Beginning, Operation, OperationKind, StateDir, recover};
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::id;
use crate::snapshot::keep::catalog;
use crate::snapshot::manifest::{Manifest, State};
use crate::sys::lock::FileLock;
use crate::sys::{failpoint, files};
use crate::volume::kept;
use crate::volume::view::Stand;
use crate::volume::{
    self, Backend, BackendKind, CloneRequest, PlannedVolume, VolumeRecord, VolumeState,
};

/// How long one storage command for a clone may run.
const STORAGE_LIMIT: Duration = Duration::from_secs(300);

/// A place for sockets and logs with less left counts as full.
const FULL_BYTES: u64 = 64 << 10;

/// A use that has begun.
pub struct CloneSession<'a> {
    pub ctx: &'a Context,
    pub manifest: Manifest,
    /// `verify-db2-20261122T020000Z-7f3a-x1y2`
    pub id: String,
    pub backend: Box<dyn Backend>,
    operation: Option<Operation>,
    planned: Vec<PlannedVolume>,
    /// Empty directories that stand in for origins which aren't there.
    made: Vec<PathBuf>,
    /// Directories that go with all in them.
    trees: Vec<PathBuf>,
    _held: FileLock,
}

/// Why a clone couldn't be had: the snapshot is bad, or something else is wrong.
#[derive(Debug)]
pub enum CloneFailure {
    /// The kept volume itself is gone or spoilt.
    Spoilt {
        volume: String,
        reason: String,
    },
    Other(SnapshotError),
}

impl From<SnapshotError> for CloneFailure {
    fn from(error: SnapshotError) -> Self {
        Self::Other(error)
    }
}

impl<'a> CloneSession<'a> {
    /// Holds the snapshot and begins the journal. `word` names the use: `verify`.
    pub fn begin(
        ctx: &'a Context,
        manifest: &Manifest,
        kind: OperationKind,
        word: &str,
    ) -> Result<Self, SnapshotError> {
        for left in recover::recover_uses(&ctx.state, &manifest.server)? {
            tracing::warn!(operation = %left.operation, actions = ?left.actions, "recovered");
        }
        let held = ctx.state.share_snapshot(&manifest.id)?;
        // Again, now that nobody can delete it.
        let manifest = catalog::find(ctx, &manifest.id)?;
        let backend = volume::open(manifest.backend_kind)?;
        let id = id::of_use(word, &manifest.id);
        let operation = ctx.begin(Beginning {
            operation: &id,
            kind,
            parties: &[&manifest.server],
            // What is mounted and stays so has a record of its own.
            settled_by: (kind == OperationKind::Mount).then(|| ctx.state.mount_record(&id)),
        })?;
        failpoint::hit("use-begun");
        Ok(Self {
            ctx,
            manifest,
            id,
            backend,
            operation: Some(operation),
            planned: Vec::new(),
            made: Vec::new(),
            trees: Vec::new(),
            _held: held,
        })
    }

    /// Whether all kept volumes are good now; their overflow shows only when they are asked.
    pub fn check_volumes(&self) -> Result<(), CloneFailure> {
        if self.manifest.state == State::Invalid {
            return Err(CloneFailure::Spoilt {
                volume: self.manifest.id.clone(),
                reason: self.manifest.state_reason.clone().unwrap_or_default(),
            });
        }
        self.probe_volumes()
    }

    /// As `check_volumes`, by the storage alone.
    pub fn probe_volumes(&self) -> Result<(), CloneFailure> {
        for record in &self.manifest.volumes {
            match self.backend.probe(record) {
                volume_state if volume_state.reason().is_some() => {
                    let reason = volume_state.reason().unwrap_or_default().to_owned();
                    return Err(CloneFailure::Other(SnapshotError::Failed {
                        step: "look at the kept volume",
                        reason: format!("{}: {reason}", record.name),
                        hint: None,
                    }));
                }
                volume_state => match volume_state.known() {
                    Some(VolumeState::Good { .. }) | None => {}
                    Some(VolumeState::Invalid(reason)) => return Err(spoilt(record, reason)),
                    Some(VolumeState::Missing) => return Err(spoilt(record, "it is gone")),
                },
            }
        }
        Ok(())
    }

    /// Makes writable clones of all volumes; each with where its origin is.
    pub fn clone_volumes(&mut self) -> Result<Vec<Stand>, CloneFailure> {
        if self.manifest.backend_kind == BackendKind::Dump {
            return Err(CloneFailure::Other(volume::archive::no_files().into()));
        }
        self.check_volumes()?;
        let since = Instant::now();
        let requests: Vec<CloneRequest> = self
            .manifest
            .volumes
            .iter()
            .enumerate()
            .map(|(index, record)| CloneRequest {
                use_id: self.id.clone(),
                id: self.manifest.id.clone(),
                volume: record.clone(),
                number: index + 1,
                limit: STORAGE_LIMIT,
            })
            .collect();
        for request in &requests {
            let planned = self
                .backend
                .plan_clone(request)
                .map_err(|error| CloneFailure::Other(error.into()))?;
            self.planned.push(planned);
        }
        self.note(Act::Clones {
            use_id: self.id.clone(),
            backend: self.manifest.backend_kind,
            volumes: self.planned.clone(),
        })?;
        failpoint::hit("clone-planned");
        let mut stands = Vec::new();
        for (request, planned) in requests.iter().zip(self.planned.clone()) {
            self.ctx
                .cancel
                .check("cloning")
                .map_err(SnapshotError::from)?;
            let progress = &mut |done, total| self.ctx.progress.bytes(done, total);
            let clone = self
                .backend
                .make_clone(request, &planned, progress)
                .map_err(|error| CloneFailure::Other(error.into()))?;
            stands.push(Stand {
                clone,
                at: request.volume.path.clone(),
            });
        }
        failpoint::hit("cloned");
        self.ctx.progress.step("clone", self.clone_words(), since);
        Ok(stands)
    }

    /// The kept volumes themselves, where they can be read without any change to them.
    pub fn readable(&self) -> Result<Option<Vec<Stand>>, SnapshotError> {
        let mut stands = Vec::new();
        for volume in &self.manifest.volumes {
            let Some(clone) = self.backend.readable(volume)? else {
                return Ok(None);
            };
            stands.push(Stand {
                clone,
                at: volume.path.clone(),
            });
        }
        Ok(Some(stands))
    }

    /// Something that can be read without harm.
    pub fn readable_or_clone(&mut self) -> Result<Vec<Stand>, CloneFailure> {
        match self.readable()? {
            Some(stands) => self.check_volumes().map(|()| stands),
            None => self.clone_volumes(),
        }
    }

    /// Why the clones themselves don't hold what was written to them, if so, or the private server's
    /// own places.
    pub fn clone_problem(&self) -> Option<String> {
        let places = [StateDir::run_place(&self.id), self.ctx.state.work(&self.id)];
        let full = places
            .into_iter()
            .find(|place| kept::free_space(place).is_ok_and(|(free, _)| free < FULL_BYTES))
            .map(|place| format!("the filesystem of {} is full", place.display()));
        let of_clones = || {
            self.planned.iter().find_map(|planned| {
                match self.backend.probe_clone(planned).known() {
                    Some(VolumeState::Invalid(reason)) => {
                        Some(format!("{}: {reason}", planned.name))
                    }
                    Some(VolumeState::Missing) => Some(format!("{} is gone", planned.name)),
                    Some(VolumeState::Good { .. }) | None => None,
                }
            })
        };
        full.or_else(of_clones)
    }

    fn clone_words(&self) -> String {
        let names: Vec<&str> = self
            .planned
            .iter()
            .map(|volume| volume.name.as_str())
            .collect();
        names.join(", ")
    }

    /// Makes the empty directories that clones will stand on where their origins are gone.
    pub fn make_missing_directories(&mut self, stands: &[Stand]) -> Result<(), SnapshotError> {
        for stand in stands {
            let missing: Vec<&Path> = stand
                .at
                .ancestors()
                .take_while(|path| !path.exists())
                .collect();
            for path in missing.into_iter().rev() {
                self.make_directory(path)?;
            }
        }
        Ok(())
    }

    /// Says in the journal that something is about to be mounted for everybody to see.
    pub fn note_mount_point(&mut self, path: &Path) -> Result<(), SnapshotError> {
        self.note(Act::MountPoint {
            path: path.to_owned(),
            names: vec![self.id.clone(), self.manifest.id.clone()],
        })
    }

    /// Says in the journal that a file is about to be made; its name bears this use's id.
    pub fn note_file(&mut self, path: &Path) -> Result<(), SnapshotError> {
        self.note(Act::File {
            path: path.to_owned(),
        })
    }

    fn note(&mut self, undo: Act) -> Result<(), SnapshotError> {
        match &mut self.operation {
            Some(operation) => Ok(operation.note(undo)?),
            None => Ok(()),
        }
    }

    /// Makes one empty directory, which goes with this use.
    pub fn make_directory(&mut self, path: &Path) -> Result<(), SnapshotError> {
        self.note(Act::EmptyDirectory {
            path: path.to_owned(),
        })?;
        self.made.push(path.to_owned());
        Ok(files::make_private_dir(path)?)
    }

    /// Makes one new directory (0700), which goes with this use, and all in it.
    pub fn make_tree(&mut self, path: &Path) -> Result<(), SnapshotError> {
        self.note(Act::Tree {
            path: path.to_owned(),
        })?;
        self.trees.push(path.to_owned());
        Ok(files::make_private_dir(path)?)
    }

    /// A private server's place (socket, log) and its room on disk for temporary files, for one
    /// account alone.
    pub fn make_places(&self, owner: (u32, u32)) -> Result<(PathBuf, PathBuf), SnapshotError> {
        let (run, work) = (StateDir::run_place(&self.id), self.ctx.state.work(&self.id));
        files::make_dir_for(&run, owner)?;
        let parent = work.parent().unwrap_or(&work);
        files::make_private_dir(parent)?;
        files::make_private_dir(&work)?;
        files::own(&work, owner)?;
        Ok((run, work))
    }

    /// The clones that were or will be made.
    pub fn planned(&self) -> &[PlannedVolume] {
        &self.planned
    }

    /// The clones and directories stay: a record of their own speaks for them from now on.
    pub fn keep(mut self) -> Result<(), SnapshotError> {
        match self.operation.take() {
            Some(operation) => Ok(operation.end("done")?),
            None => Ok(()),
        }
    }

    /// Removes all that was made and ends the journal.
    pub fn end(mut self, result: &str) -> Result<(), SnapshotError> {
        self.clear(result)
    }

    fn clear(&mut self, result: &str) -> Result<(), SnapshotError> {
        let Some(operation) = self.operation.take() else {
            return Ok(());
        };
        let since = Instant::now();
        let cleared = (|| -> Result<(), SnapshotError> {
            let dropped = act::drop_clones(self.backend.as_ref(), &self.id, &self.planned)?;
            for path in &self.trees {
                files::remove_tree(path)?;
            }
            for path in self.made.iter().rev() {
                files::remove_empty_dir(path)?;
            }
            files::remove_tree(&StateDir::run_place(&self.id))?;
            files::remove_tree(&self.ctx.state.work(&self.id))?;
            if !dropped.is_empty() {
                self.ctx.progress.step("tidy", "the clone is gone", since);
            }
            Ok(())
        })();
        match cleared {
            Ok(()) => Ok(operation.end(result)?),
            // Its journal stays open, so that `recover` takes it up.
            Err(error) => Err(SnapshotError::NeedsOperator {
                reason: format!(
                    "the clone of {} couldn't be removed: {error}",
                    self.manifest.id
                ),
                hint: format!(
                    "Cure that, then run `understudy recover {}`.",
                    self.manifest.server
                ),
            }),
        }
    }
}

impl Drop for CloneSession<'_> {
    /// After an error: what can't be removed is left to `recover`.
    fn drop(&mut self) {
        if let Err(error) = self.clear("failed") {
            tracing::warn!(%error, "left behind");
        }
    }
}

fn spoilt(record: &VolumeRecord, reason: &str) -> CloneFailure {
    CloneFailure::Spoilt {
        volume: record.name.clone(),
        reason: reason.to_owned(),
    }
}
