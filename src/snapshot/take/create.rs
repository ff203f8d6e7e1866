//! `snapshot create`: observe, decide, prepare, pause and take, make lasting, report.

use std::time::Instant;

use crate::journal::act::Act;
use crate::journal::recover::{self, Paused};
use crate::journal::{Beginning, Operation, OperationKind};
use crate::server::Target;
use crate::snapshot::archive;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::id;
use crate::snapshot::keep::catalog;
use crate::snapshot::manifest::{Manifest, Proof, State, Timing};
use crate::snapshot::take::capture;
use crate::snapshot::take::pause::{self, Held};
use crate::snapshot::take::preflight::{self, Options, Preflight};
use crate::sys::{clock, failpoint};
use crate::volume::{Prepared, TakeRequest};

/// Takes one snapshot of a server and returns its manifest.
pub fn create(ctx: &Context, name: &str, options: &Options) -> Result<Manifest, SnapshotError> {
    let server = ctx.server(name)?;
    let target = ctx.target(server)?;
    ctx.state.create()?;
    let _lock = ctx.state.lock_server(name, "snapshot create")?;
    recover_first(ctx, &target)?;
    create_locked(ctx, name, options)
}

/// As `create`, for who holds the server's lock.
pub fn create_locked(
    ctx: &Context,
    name: &str,
    options: &Options,
) -> Result<Manifest, SnapshotError> {
    let begun = Instant::now();
    let mut preflight = preflight::observe_and_plan(ctx, name, options)?;
    preflight::wait_for_temp_tables(ctx, &preflight)?;
    let id = id::new(name, clock::now());
    let request = preflight::request(&preflight, &id, options);
    let mut prepared = prepare(ctx, &preflight, &request)?;
    let mut operation = ctx.begin(Beginning {
        operation: &id,
        kind: OperationKind::SnapshotCreate,
        parties: &[name],
        settled_by: Some(ctx.state.manifest(&id)),
    })?;
    operation.note(Act::Volumes {
        id: id.clone(),
        backend: preflight.plan.backend,
        volumes: prepared.plan(),
    })?;
    if preflight.dump.is_some() {
        // The dump program's options, with a password in them.
        operation.note(Act::Tree {
            path: ctx.state.work(&id),
        })?;
    }
    failpoint::hit("journal-begun");

    let made = capture::take(ctx, &mut preflight, prepared.as_mut(), &id).and_then(|held| {
        keep(
            ctx,
            &preflight,
            prepared.as_mut(),
            &id,
            options,
            held,
            begun,
        )
    });
    match made {
        Ok(manifest) => {
            operation.end("done")?;
            Ok(manifest)
        }
        Err(error) => Err(discard(prepared.as_mut(), operation, name, error)),
    }
}

/// The plan alone, for --dry-run; changes nothing.
pub fn plan_only(ctx: &Context, name: &str, options: &Options) -> Result<Preflight, SnapshotError> {
    preflight::observe_and_plan(ctx, name, options)
}

/// All that would be looked at before a pause, the storage's room too. Changes nothing.
pub fn rehearse(ctx: &Context, name: &str, options: &Options) -> Result<Preflight, SnapshotError> {
    let preflight = preflight::observe_and_plan(ctx, name, options)?;
    let id = id::new(name, clock::now());
    let request = preflight::request(&preflight, &id, options);
    drop(prepare(ctx, &preflight, &request)?);
    Ok(preflight)
}

/// By the storage; or by the server itself, of a dump.
fn prepare(
    ctx: &Context,
    preflight: &Preflight,
    request: &TakeRequest,
) -> Result<Box<dyn Prepared>, SnapshotError> {
    match &preflight.dump {
        None => Ok(preflight.backend.prepare(request)?),
        Some(look) => Ok(Box::new(archive::take::prepare(
            ctx,
            &request.id,
            (&preflight.target, &preflight.identity),
            (look, &preflight.boot),
            preflight.plan.max_pause,
        )?)),
    }
}

/// Puts back what an earlier operation left; a pause on purpose isn't ours to end.
pub fn recover_first(ctx: &Context, target: &Target) -> Result<(), SnapshotError> {
    let (recovered, paused) = recover::recover(&ctx.state, target)?;
    for operation in recovered {
        tracing::warn!(operation = %operation.operation, actions = ?operation.actions, "recovered");
    }
    match paused {
        Paused::No => Ok(()),
        Paused::OnPurpose(lease) => Err(SnapshotError::Busy {
            server: target.server.clone(),
            holder: format!("paused on purpose until {}", clock::rfc3339(lease.deadline)),
            hint: format!("Run `understudy resume {}` first.", target.server),
        }),
    }
}

/// Seals what was taken and writes the manifest: from here on the snapshot counts.
fn keep(
    ctx: &Context,
    preflight: &Preflight,
    prepared: &mut dyn Prepared,
    id: &str,
    options: &Options,
    held: Held,
    begun: Instant,
) -> Result<Manifest, SnapshotError> {
    // From the signal on, nothing new is kept, also when it came after the snapshot was taken.
    ctx.cancel.check("keeping the snapshot")?;
    let since = Instant::now();
    let mut manifest = manifest(ctx, preflight, id, options, held);
    let sealed = prepared.seal(&catalog::travelling_tags(&ctx.state, &manifest));
    if sealed.is_err() {
        ctx.cancel.check("keeping the snapshot")?;
    }
    manifest.volumes = sealed?;
    manifest.archive = archive::summary(&manifest)?;
    failpoint::hit("sealed");
    manifest.timing = manifest.timing.map(|timing| Timing {
        total_ms: pause::ms(begun.elapsed()),
        ..timing
    });
    catalog::write(&ctx.state, &manifest)?;
    ctx.progress
        .step("keep", format!("catalogued as {id}"), since);
    Ok(manifest)
}

fn manifest(
    ctx: &Context,
    preflight: &Preflight,
    id: &str,
    options: &Options,
    held: Held,
) -> Manifest {
    let name = &preflight.server.name;
    let mut warnings = preflight.plan.warnings.clone();
    warnings.extend(preflight.layout.warnings.clone());
    warnings.extend(preflight.dump.iter().flat_map(|look| look.warnings.clone()));
    Manifest {
        id: id.to_owned(),
        server: name.clone(),
        pair: ctx.config.pair_of(name).map(|pair| pair.name.clone()),
        created: held.at,
        backend: preflight.plan.backend.choice(),
        backend_kind: preflight.plan.backend,
        consistency: Some(preflight.plan.consistency),
        label: options.label.clone(),
        tags: options.tags.clone(),
        held: options.hold,
        proof: Proof::Taken,
        proof_time: None,
        state: State::Complete,
        state_reason: None,
        position: Some(held.position),
        server_version: Some(preflight.facts.version.clone()),
        server_identity: Some(preflight.identity.to_string()),
        volumes: Vec::new(),
        archive: None,
        timing: Some(held.timing),
        warnings,
        boot: Some(preflight.boot.clone()),
        verification: None,
        mounts: Vec::new(),
        failure: None,
    }
}

/// Removes what was made, after a failure that put replication back; what can't be removed is left
/// to `recover`.
fn discard(
    prepared: &mut dyn Prepared,
    operation: Operation,
    server: &str,
    error: SnapshotError,
) -> SnapshotError {
    let discarded = prepared.discard();
    let left = matches!(error, SnapshotError::NeedsOperator { .. });
    match discarded {
        Ok(()) if left => error,
        Ok(()) => {
            drop(operation.end(&format!("failed: {error}")));
            error
        }
        Err(left) => SnapshotError::NeedsOperator {
            reason: format!("{error}; and what was made couldn't be removed: {left}"),
            hint: format!("Cure what the storage says, then run `understudy recover {server}`."),
        },
    }
}
