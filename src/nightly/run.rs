//! One server's night, from top to bottom: what was left over is put back, a snapshot taken, proven as
//! far as is due, and what no rule keeps goes.

use jiff::Timestamp;

use super::history;
use super::rhythm::{self, Last, Tonight};
use crate::journal::recover::Recovered;
use crate::snapshot::keep::catalog;
use crate::snapshot::keep::lifecycle::{self, Pruned};
use crate::snapshot::prove::verify;
use crate::snapshot::take::create;
use crate::snapshot::take::preflight::Options;
use crate::snapshot::{Context, Manifest, SnapshotError};
use crate::sys::lock::FileLock;
use crate::sys::{clock, failpoint};

/// What came of it; with `failed`, as far as it came.
#[derive(Debug)]
pub struct Night {
    pub server: String,
    pub began: Timestamp,
    pub ended: Timestamp,
    pub recovered: Vec<Recovered>,
    pub snapshot: Option<Manifest>,
    /// How far it was to be proven.
    pub tonight: Option<Tonight>,
    pub pruned: Vec<Pruned>,
    pub kept: Option<Kept>,
    pub warnings: Vec<String>,
    pub failed: Option<Failed>,
    /// While it is kept, no other run of the server begins.
    pub held: Option<FileLock>,
}

/// Where it ended.
#[derive(Debug)]
pub struct Failed {
    pub step: &'static str,
    pub why: Why,
}

#[derive(Debug)]
pub enum Why {
    Error(SnapshotError),
    /// The snapshot's verdict, which its manifest has.
    Unproven,
    /// Some of what should have gone didn't.
    NotPruned(String),
}

/// What a server's snapshots are afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub count: u64,
    /// `None` where the storage doesn't tell of one of them (btrfs, thin LVM, reflink).
    pub bytes: Option<u64>,
}

/// Runs one server's night. `locked` is called when no other run is at it, with when this one began;
/// `started` once it is sure that nobody else is.
pub fn run(
    ctx: &Context,
    server: &str,
    options: &Options,
    locked: impl FnOnce(Timestamp),
    started: impl FnOnce(),
) -> Night {
    let mut night = Night {
        server: server.to_owned(),
        began: clock::now(),
        ended: clock::now(),
        recovered: Vec::new(),
        snapshot: None,
        tonight: None,
        pruned: Vec::new(),
        kept: None,
        warnings: Vec::new(),
        failed: None,
        held: None,
    };
    // A proof holds no server: without this, a second run would begin beside it.
    let outcome = match only_run(ctx, server) {
        Ok(lock) => {
            night.held = Some(lock);
            locked(night.began);
            steps(ctx, &mut night, options, started)
        }
        Err(error) => Err(Failed {
            step: "lock",
            why: Why::Error(error),
        }),
    };
    night.failed = outcome.err();
    night.ended = clock::now();
    night
}

fn steps(
    ctx: &Context,
    night: &mut Night,
    options: &Options,
    started: impl FnOnce(),
) -> Result<(), Failed> {
    let server = night.server.clone();
    let at = |step: &'static str| {
        move |error: SnapshotError| Failed {
            step,
            why: Why::Error(error),
        }
    };

    let mut started = Some(started);
    let mut recovered = recover(ctx, &server);
    if !matches!(recovered, Err(SnapshotError::Busy { .. })) {
        started.take().into_iter().for_each(|started| started());
    }
    night.recovered = std::mem::take(recovered.as_mut().unwrap_or(&mut Vec::new()));
    recovered.map_err(at("recover"))?;
    all_recovered(&server, &night.recovered).map_err(at("recover"))?;
    failpoint::hit("run-recovered");

    let manifest = create::create(ctx, &server, options).map_err(at("snapshot"))?;
    let id = manifest.id.clone();
    night.snapshot = Some(manifest);
    failpoint::hit("run-taken");

    let tonight = tonight(ctx, &server).map_err(at("verify"))?;
    let level = tonight.level;
    night.tonight = Some(tonight);
    if let Some(level) = level {
        let options = verify::Options {
            level,
            foreign_keys: false,
        };
        let proven = verify::verify(ctx, &id, options).map_err(at("verify"))?;
        let is_good = proven.verdict().is_none();
        night.snapshot = Some(proven);
        if !is_good {
            return Err(Failed {
                step: "verify",
                why: Why::Unproven,
            });
        }
    }

    failpoint::hit("run-proven");

    // Only after a good night: a bad one is no time to delete anything.
    prune(ctx, &server, night)?;
    night.kept = kept(ctx, &server);
    failpoint::hit("run-pruned");
    Ok(())
}

fn only_run(ctx: &Context, server: &str) -> Result<FileLock, SnapshotError> {
    ctx.server(server)?;
    ctx.state.create()?;
    Ok(ctx.state.lock_run(server)?)
}

fn recover(ctx: &Context, server: &str) -> Result<Vec<Recovered>, SnapshotError> {
    lifecycle::recover_servers(ctx, Some(server))
}

fn all_recovered(server: &str, recovered: &[Recovered]) -> Result<(), SnapshotError> {
    let left: Vec<&str> = recovered
        .iter()
        .flat_map(|operation| operation.left.iter().map(String::as_str))
        .collect();
    match left.is_empty() {
        true => Ok(()),
        false => Err(SnapshotError::NeedsOperator {
            reason: left.join("; "),
            hint: format!("Cure that, then run `understudy recover {server}`."),
        }),
    }
}

/// How far a snapshot taken now is proven: by what was proven before, in the history and the manifests.
pub fn tonight(ctx: &Context, server: &str) -> Result<Tonight, SnapshotError> {
    let config = &ctx.server(server)?.snapshot;
    let mut last = Last::default();
    for manifest in catalog::stored(&ctx.state)?.manifests {
        if manifest.server == server {
            last.add_manifest(&manifest);
        }
    }
    for record in history::read(&ctx.state, server)?.records {
        let began: Option<Timestamp> = record.began.parse().ok();
        if let (true, Some(began), Some(level)) = (record.is_done(), began, record.level) {
            last.add(began, level, record.compared_with.is_some());
        }
    }
    Ok(rhythm::tonight(config, &last, clock::now()))
}

fn prune(ctx: &Context, server: &str, night: &mut Night) -> Result<(), Failed> {
    let failed = |why| Failed { step: "prune", why };
    night.pruned = match lifecycle::prune(ctx, Some(server), false) {
        Ok(pruned) => pruned,
        // Taken and proven it is; what is too much tonight goes tomorrow.
        Err(SnapshotError::Busy { holder, .. }) => {
            let warning = format!("nothing was pruned: another operation holds it ({holder})");
            night.warnings.push(warning);
            return Ok(());
        }
        Err(error) => return Err(failed(Why::Error(error))),
    };
    let errors = night.pruned.iter().filter_map(|one| one.error.as_deref());
    let errors: Vec<&str> = errors.collect();
    match errors.is_empty() {
        true => Ok(()),
        false => Err(failed(Why::NotPruned(errors.join("; ")))),
    }
}

/// What is kept now; only told, so nothing fails by it.
fn kept(ctx: &Context, server: &str) -> Option<Kept> {
    let snapshots = catalog::list(&ctx.config, &ctx.state, Some(server)).ok()?;
    let volumes = snapshots.iter().flat_map(|snapshot| &snapshot.volumes);
    Some(Kept {
        count: snapshots.iter().filter(|one| one.is_whole()).count() as u64,
        bytes: volumes.map(|volume| volume.bytes_used).sum(),
    })
}
