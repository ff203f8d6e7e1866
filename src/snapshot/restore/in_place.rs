//! `snapshot restore --in-place`: the server's own data becomes the snapshot's, and the present
//! state is kept first as a snapshot of its own.
//!
//! Until the storage is touched, a failure ends with everything as before. From then on it is
//! carried through, by this command or by `recover`: as restored, never between.

mod judge;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::Serialize;

use judge::{Observed, Source};

use crate::config::{BackendChoice, ServerConfig, ServiceControl};
use crate::journal::act::{Act, ActError, Rest, Resume, UNDO_TAG};
use crate::journal::operation::Outcome;
use crate::journal::receipt;
use crate::journal::service::{self, SERVICE_LIMIT};
use crate::journal::{Beginning, InHand, Operation, OperationKind, Party};
use crate::server::channel::ChannelName;
use crate::server::facts;
use crate::server::globals::{self, GlobalBefore};
use crate::server::replication;
use crate::server::{Session, Target};
use crate::snapshot::context::Context;
use crate::snapshot::error::{Refusal, SnapshotError};
use crate::snapshot::id;
use crate::snapshot::keep::catalog;
use crate::snapshot::keep::fit::{self, Fit};
use crate::snapshot::keep::lifecycle::lock_recovered;
use crate::snapshot::keep::present::{self, Present};
use crate::snapshot::manifest::{Level, Manifest, Proof};
use crate::snapshot::observe;
use crate::snapshot::prove::verify;
use crate::snapshot::take::pause::ms;
use crate::snapshot::take::{create, preflight};
use crate::volume::layout::Place;
use crate::volume::{self, BackendKind, PutRequest};

/// How long it is watched catching up.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(600);
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// What is only on this server may end up in the undo snapshot alone.
    pub accept_loss: bool,
    /// What is only on this server is exported; afterwards it is closed and follows nobody, and whom it
    /// is to follow is for the caller.
    pub rejoins: bool,
}

/// What will be done, and what stands against it.
#[derive(Debug)]
pub struct Plan {
    pub manifest: Manifest,
    pub server: ServerConfig,
    pub service: ServiceControl,
    target: Target,
    before: Observed,
    source: Option<Source>,
    /// Nobody knows whether the source has all of it, in words.
    pub unknown_fit: Option<String>,
    options: Options,
    /// Steps for people.
    pub steps: Vec<String>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RolledBack {
    pub snapshot: String,
    pub server: String,
    /// The snapshot of the state before.
    pub undo: String,
    pub stopped_ms: u64,
    /// As far as it was watched; `None` when there is no source to compare it with.
    pub caught_up: Option<bool>,
    pub gtid: String,
}

/// Observes and decides; changes nothing.
pub fn plan(ctx: &Context, wanted: &str, options: Options) -> Result<Plan, SnapshotError> {
    ctx.state.create()?;
    let manifest = catalog::find(ctx, wanted)?;
    let server = ctx.server(&manifest.server)?.clone();
    let target = ctx.target(&server)?;
    let mut refusals = judge::refusals_of_manifest(&manifest);
    if manifest.backend_kind == BackendKind::Dump {
        // Nothing of the server would change it.
        return Err(SnapshotError::Refused { refusals });
    }
    let service = server
        .service
        .as_ref()
        .and_then(|service| service.control.clone());
    if manifest.boot.as_ref().is_some_and(|boot| boot.log_apart) {
        refusals.push(Refusal::new(
            format!(
                "the binary logs of {} aren't in the snapshot: put in place, its data would lie beside \
                 logs of another time",
                server.name
            ),
            "Use `snapshot restore --to DIR`, and start the server there with a new binary log.",
        ));
    }
    if service.is_none() {
        refusals.push(Refusal::new(
            format!(
                "how {} is stopped and started isn't configured",
                server.name
            ),
            format!(
                "Give [server.{}.service] a unit, or start and stop commands.",
                server.name
            ),
        ));
    }
    let before = observe(&target)?;
    if manifest.server_identity.as_deref() != Some(before.identity.to_string().as_str()) {
        refusals.push(Refusal::new(
            format!(
                "the snapshot is of {}, and {} is {}",
                manifest
                    .server_identity
                    .as_deref()
                    .unwrap_or("an unknown server"),
                server.name,
                before.identity
            ),
            "Use `understudy snapshot restore --to DIR`.",
        ));
    }
    refusals.extend(judge::refusals_of_channels(&manifest, &before));
    let present = present_source(ctx, &server.name);
    let fit = present.as_ref().ok().map(|present| {
        let history = present::history(present);
        let past = receipt::past(&ctx.state).unwrap_or_default();
        let pair = ctx.config.pair_of(&server.name);
        let pair = pair.map_or("", |pair| pair.name.as_str());
        (
            present.name.clone(),
            fit::judge(present::stand(&manifest, pair), &history, &past),
        )
    });
    let source = present.and_then(|present| observe_source(&present));
    if !options.accept_loss {
        refusals.extend(judge::losses(&manifest, &before, &source, options.rejoins));
        refusals.extend(strangers(&server, &target, &manifest)?);
        let fit = fit.as_ref();
        refusals.extend(fit.and_then(|(name, fit)| judge::refusal_of_fit(&manifest, name, fit)));
    }
    let unknown_fit = match &fit {
        Some((name, Fit::Unknown(reason))) => Some(format!(
            "whether {} fits the present source {name} isn't known: {reason}",
            manifest.id
        )),
        Some((_, Fit::Fits | Fit::Ahead(_))) | None => None,
    };
    let (Some(service), true) = (service, refusals.is_empty()) else {
        return Err(SnapshotError::Refused { refusals });
    };
    let steps = judge::steps(&manifest, &server, &before);
    Ok(Plan {
        manifest,
        server,
        service,
        target,
        before,
        source: source.ok(),
        unknown_fit,
        options,
        steps,
    })
}

/// Does it all; see the head of this file.
pub fn restore(ctx: &Context, wanted: &str, options: Options) -> Result<RolledBack, SnapshotError> {
    let first = plan(ctx, wanted, options)?;
    prove_first(ctx, &first.manifest)?;
    let _lock = lock_recovered(ctx, &first.server.name, "snapshot restore --in-place")?;
    // Held, so that nobody deletes it meanwhile.
    let _held = ctx.state.share_snapshot(&first.manifest.id)?;
    // Again, now that nobody else changes anything.
    let plan = plan(ctx, &first.manifest.id, options)?;
    if let Some(words) = &plan.unknown_fit {
        tracing::warn!("{words}");
    }
    let use_id = id::of_use("inplace", &plan.manifest.id);
    let ready = ready(ctx, &plan, &use_id)?;
    let mut operation = ctx.begin(Beginning {
        operation: &use_id,
        kind: OperationKind::RestoreInPlace,
        parties: &[&plan.server.name],
        settled_by: None,
    })?;
    match go(ctx, &plan, &ready, &mut operation) {
        Ok(rolled) => {
            operation.end("done")?;
            Ok(rolled)
        }
        Err(error) if operation.is_committed() => Err(SnapshotError::NeedsOperator {
            reason: format!(
                "{} is being restored and isn't whole: {error}",
                plan.server.name
            ),
            hint: format!(
                "Cure that, then run `understudy recover {}`: it carries the restore through. The \
                 state before is kept as a held snapshot.",
                plan.server.name
            ),
        }),
        Err(error) => Err(match operation.put_back(&error.to_string()) {
            Ok(_) => error,
            Err(left) => SnapshotError::NeedsOperator {
                reason: format!(
                    "{error}; and {} doesn't run as before: {left}",
                    plan.server.name
                ),
                hint: format!(
                    "Its data wasn't touched. Run `understudy recover {}`.",
                    plan.server.name
                ),
            },
        }),
    }
}

/// All that the steps need.
struct Ready {
    party: Party,
    data_dir: PathBuf,
    requests: Vec<PutRequest>,
    channels: Vec<Resume>,
    /// read_only is off, and is put on meanwhile: of a server that is nobody's replica.
    closes: bool,
}

/// Refuses what the storage can't do.
fn ready(ctx: &Context, plan: &Plan, use_id: &str) -> Result<Ready, SnapshotError> {
    let ready = Ready {
        party: ctx.party(&plan.server, &plan.before.identity, &plan.before.flavour)?,
        data_dir: data_dir(plan)?,
        requests: judge::requests(&plan.manifest, use_id),
        channels: match plan.options.rejoins {
            true => Vec::new(),
            false => judge::resumes(&plan.manifest, &plan.before),
        },
        closes: plan.before.channels.is_empty() && !plan.before.read_only,
    };
    let backend = volume::open(plan.manifest.backend_kind)?;
    for request in &ready.requests {
        backend.plan_put(request)?;
    }
    Ok(ready)
}

impl Ready {
    /// The server up and going on, in the order in which it is done.
    fn started(&self, plan: &Plan, words: String) -> [Act; 2] {
        [
            Act::Start {
                on: self.party.reach(),
                service: plan.service.clone(),
                globals: plan.before.globals.clone(),
                words,
            },
            Act::Resume {
                on: self.party.reach(),
                channels: self.channels.clone(),
            },
        ]
    }

    /// What it followed in the snapshot's time may be no source any more, and its relay logs may be
    /// missing; and it may have been a source itself.
    fn apart(&self) -> Act {
        let flavour = &self.party.flavour;
        let for_good = flavour.close_for_good().unwrap_or_default();
        let mut statements = vec![flavour.close().to_owned()];
        statements.extend(for_good.iter().map(|one| (*one).to_owned()));
        statements.extend(flavour.forget_channel(&ChannelName::default()));
        Act::Statements {
            on: self.party.reach(),
            words: "keep it closed, and forget what it followed then".to_owned(),
            statements,
        }
    }

    fn rest(&self, plan: &Plan, undo: &str) -> Vec<Rest> {
        let name = &plan.server.name;
        let put = Act::Put {
            server: name.clone(),
            data_dir: self.data_dir.clone(),
            backend: plan.manifest.backend_kind,
            requests: self.requests.clone(),
        };
        let told = Act::Told {
            words: format!("the state before is kept as {undo}, held"),
        };
        let mut acts = vec![put];
        acts.extend(self.started(plan, format!("{name} runs on the restored data")));
        if plan.options.rejoins {
            acts.push(self.apart());
        }
        acts.push(told);
        let gate = |act| Rest { act, gate: true };
        acts.into_iter().map(gate).collect()
    }
}

fn go(
    ctx: &Context,
    plan: &Plan,
    ready: &Ready,
    operation: &mut Operation,
) -> Result<RolledBack, SnapshotError> {
    let name = &plan.server.name;
    if ready.closes {
        operation.step("close", |operation| close(ready, operation))?;
    }
    let mut undo = String::new();
    operation.step("keep", |operation| {
        undo = keep_present(ctx, plan, operation)?;
        Ok::<_, SnapshotError>(Outcome::Changed(format!("the state before is {undo}")))
    })?;
    let stopped = Instant::now();
    operation.step("stop", |operation| stop(plan, ready, operation))?;
    ctx.cancel.check("restoring in place")?;

    operation.commit(ready.rest(plan, &undo))?;
    let mut stopped_ms = 0;
    let target = std::slice::from_ref(&ready.party.target);
    let carried = operation.carry(target, usize::MAX, |act, _, took| match act {
        Act::Put { .. } => ctx.progress.took("put", "the data is the snapshot's", took),
        Act::Start { .. } => {
            stopped_ms = ms(stopped.elapsed());
            ctx.progress.took("start", format!("{name} answers"), took);
        }
        _ => {}
    });
    carried.map_err(|error| failed("put it in place", &error))?;
    let (caught_up, gtid) = watch(ctx, plan, ready.party.session()?)?;
    Ok(RolledBack {
        snapshot: plan.manifest.id.clone(),
        server: name.clone(),
        undo,
        stopped_ms,
        caught_up,
        gtid,
    })
}

/// Nothing may be written between the undo snapshot and the stop.
fn close(ready: &Ready, operation: &mut Operation) -> Result<Outcome, SnapshotError> {
    operation.note(Act::Statements {
        on: ready.party.reach(),
        words: "end read_only".to_owned(),
        statements: vec!["SET GLOBAL read_only = OFF".to_owned()],
    })?;
    let session = ready.party.session()?;
    session.execute("SET GLOBAL read_only = ON", STATEMENT_LIMIT)?;
    Ok(Outcome::Changed("nobody writes any more".to_owned()))
}

fn stop(plan: &Plan, ready: &Ready, operation: &mut Operation) -> Result<Outcome, SnapshotError> {
    let name = &plan.server.name;
    let words = format!("{name} runs on its data as it was before");
    for act in ready.started(plan, words).into_iter().rev() {
        operation.note(act)?;
    }
    service::stop(&plan.service, &plan.target, &ready.data_dir, SERVICE_LIMIT)
        .map_err(|error| failed("stop the server", &error.into()))?;
    Ok(Outcome::Changed(format!("{name} is down")))
}

/// A snapshot that no server has come up on isn't put in place of anything.
fn prove_first(ctx: &Context, manifest: &Manifest) -> Result<(), SnapshotError> {
    if manifest.proof >= Proof::Booted {
        return Ok(());
    }
    let options = verify::Options {
        level: Level::Boot,
        foreign_keys: false,
    };
    let proven = verify::verify(ctx, &manifest.id, options)?;
    match proven.verification.as_ref().and_then(|record| record.flaw) {
        None => Ok(()),
        Some(flaw) => Err(SnapshotError::refused(
            format!("{} isn't good: {}", manifest.id, flaw.words()),
            "Choose another snapshot: `understudy snapshot list` shows the proven ones.",
        )),
    }
}

fn observe(target: &Target) -> Result<Observed, SnapshotError> {
    let session = Session::connect(target)?;
    let (session, channels) = replication::observe_channels(session)?;
    let (session, gtid) = replication::observe_gtid(session, !channels.is_empty())?;
    let (session, has) = replication::observe_gtid(session, false)?;
    let (session, globals) = globals::observe_forgotten(session)?;
    let is_read_only = |global: &GlobalBefore| global.name == "read_only" && global.value == "1";
    Ok(Observed {
        identity: session.identity().clone(),
        flavour: session.flavour().clone(),
        channels,
        gtid,
        has,
        read_only: globals.iter().any(is_read_only),
        globals,
    })
}

/// What else is on the volumes would be taken back in time as well. File by file only the server's
/// own directories are.
fn strangers(
    server: &ServerConfig,
    target: &Target,
    manifest: &Manifest,
) -> Result<Vec<Refusal>, SnapshotError> {
    if manifest.backend_kind.is_file_by_file() {
        return Ok(Vec::new());
    }
    let (session, facts) = facts::observe_server(Session::connect(target)?)?;
    let (session, map) = observe::path_map(session, &facts, &server.snapshot.path_map)?;
    let (_, layout) = observe::layout(session, &facts, &map)?;
    let places: Vec<Place> = layout.places().cloned().collect();
    let spared: Vec<std::path::PathBuf> = [server.snapshot.directory.clone(), facts.path("tmpdir")]
        .into_iter()
        .flatten()
        .collect();
    let mut refusals = Vec::new();
    for volume in &manifest.volumes {
        if let Some(found) = volume::foreign_entry(&volume.path, &places, &spared)? {
            refusals.push(Refusal::new(
                format!(
                    "{} isn't the server's, and would be taken back in time with it",
                    found.display()
                ),
                "Move it to another volume, or use `snapshot restore --to DIR`. --accept-loss goes \
                 on; all of it stays in the undo snapshot.",
            ));
        }
    }
    Ok(refusals)
}

/// Of the server's pair, wherever roles have moved; the reason when it can't be asked.
fn present_source(ctx: &Context, server: &str) -> Result<Present, String> {
    let pair = ctx.config.pair_of(server);
    let pair = pair.ok_or("no pair in the configuration names it")?;
    let present = present::source(ctx, pair)?;
    match present.name == server {
        true => Err("it is the source itself".to_owned()),
        false => Ok(present),
    }
}

fn observe_source(present: &Present) -> Result<Source, String> {
    (|| {
        let session = Session::connect_to(&present.target, &present.condition.identity)?;
        let (session, has) = replication::observe_gtid(session, false)?;
        let (_, purged) = replication::observe_purged(session)?;
        Ok(Source {
            name: present.name.clone(),
            has,
            purged,
        })
    })()
    .map_err(|error: crate::server::SessionError| error.to_string())
}

/// The undo: an ordinary snapshot, held.
fn keep_present(
    ctx: &Context,
    plan: &Plan,
    operation: &mut Operation,
) -> Result<String, SnapshotError> {
    operation.note(Act::UndoSnapshot {
        operation: operation.id.clone(),
    })?;
    let options = preflight::Options {
        tags: [(UNDO_TAG.to_owned(), operation.id.clone())].into(),
        label: Some(format!("before restoring {}", plan.manifest.id)),
        hold: true,
        allow_source: true,
        // A dump of the state before couldn't be put back.
        backend: (ctx.server(&plan.server.name)?.snapshot.backend == BackendChoice::Dump)
            .then_some(plan.manifest.backend),
        cow_size: Some(judge::undo_area(&plan.manifest)),
    };
    Ok(create::create_locked(ctx, &plan.server.name, &options)?.id)
}

fn data_dir(plan: &Plan) -> Result<std::path::PathBuf, SnapshotError> {
    let recorded = plan
        .manifest
        .boot
        .as_ref()
        .map(|boot| boot.data_dir.clone());
    recorded
        .filter(|path| Path::is_absolute(path))
        .ok_or_else(|| SnapshotError::Failed {
            step: "find the data directory",
            reason: "the manifest doesn't tell it".to_owned(),
            hint: None,
        })
}

fn failed(step: &'static str, error: &ActError) -> SnapshotError {
    SnapshotError::Failed {
        step,
        reason: error.to_string(),
        hint: None,
    }
}

/// Until it has what its source had before, or for a while.
fn watch(
    ctx: &Context,
    plan: &Plan,
    mut session: Session,
) -> Result<(Option<bool>, String), SnapshotError> {
    let is_replica = !plan.before.channels.is_empty();
    let since = Instant::now();
    loop {
        let (back, gtid) = replication::observe_gtid(session, is_replica)?;
        session = back;
        let watched = is_replica && !plan.options.rejoins;
        let Some(source) = plan.source.as_ref().filter(|_| watched) else {
            return Ok((None, gtid));
        };
        if judge::is_subset(&plan.before.flavour, &source.has, &gtid) {
            ctx.progress
                .step("catch up", "it has what its source had", since);
            return Ok((Some(true), gtid));
        }
        if since.elapsed() > CATCH_UP_LIMIT || ctx.cancel.is_set() {
            return Ok((Some(false), gtid));
        }
        ctx.progress.still("catch up", &gtid, since);
        sleep(LOOK_EVERY);
    }
}
