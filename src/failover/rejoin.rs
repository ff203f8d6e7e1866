//! `rejoin SERVER`: a server that was the source comes back as a replica. It is closed first; what it
//! has and the new source hasn't is exported, and never skipped: the server goes back to a snapshot of
//! before, or is provisioned again.
//!
//! Each of the three is an operation of its own: closing with the export, the renewal, the link. Killed
//! between two of them the server is closed, and the same command goes on.

use std::time::Duration;

use serde::Serialize;

use super::back::{self, Ready};
use super::hold::{self, Hold};
use super::look;
use super::renew;
use super::repoint::pair_of;
use super::report::Lost;
use super::rest::{self, Cast, step};
use super::salvage;
use super::scene::Scene;
use super::semi_sync;
use super::steps;
use super::surplus::{self, Surplus};
use crate::health::errant;
use crate::journal::act::Act;
use crate::journal::operation::{Outcome, Step};
use crate::journal::receipt::{self, Receipt};
use crate::journal::{Beginning, InHand, Operation, OperationKind, Party};
use crate::replication::SetupError;
use crate::replication::plan::Provision;
use crate::snapshot::error::Refusal;
use crate::snapshot::{Context, SnapshotError, id};
use crate::sys::clock;

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Request {
    pub server: String,
    pub way: Way,
}

/// What becomes of a server that has transactions of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It stays closed; refused.
    Refuse,
    /// Back to its newest snapshot that fits the new source.
    Rollback,
    /// All of it again, from the new source.
    Provision(Provision),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    pub server: String,
    pub source: String,
    pub dry_run: bool,
    pub steps: Vec<Step>,
    pub warnings: Vec<String>,
    /// What it had of its own, and where that is kept; null when nothing.
    pub surplus: Option<Lost>,
    /// The snapshot that it went back to.
    pub snapshot: Option<String>,
    /// The snapshot of the state before that.
    pub undo: Option<String>,
    pub provision: Option<String>,
}

impl Report {
    fn of(ready: &Ready, dry_run: bool) -> Self {
        Self {
            server: ready.party.name.clone(),
            source: ready.cast.candidate.name.clone(),
            dry_run,
            steps: Vec::new(),
            warnings: Vec::new(),
            surplus: None,
            snapshot: None,
            undo: None,
            provision: None,
        }
    }
}

/// Who is the source now: it can be written to, and isn't the one that comes back.
fn decide(ctx: &Context, scene: &Scene<'_>, server: &str) -> Result<Ready, SnapshotError> {
    let own = scene.index(server).ok_or_else(|| {
        SnapshotError::refused(format!("{server} is in no pair"), "See the configuration.")
    })?;
    let has_events = scene
        .condition(own)
        .is_some_and(|condition| !condition.events.is_empty());
    let needs = scene.allowed(ctx, own, |flavour| flavour.takes_back(has_events))?;
    look::refuse_missing(needs)?;
    let picture = scene.picture();
    let writable: Vec<usize> = (0..scene.view.servers.len())
        .filter(|other| *other != own)
        .filter(|other| {
            let condition = scene.condition(*other);
            condition.is_some_and(|condition| condition.is_read_only() == Some(false))
        })
        .collect();
    let [source] = writable[..] else {
        return Err(SnapshotError::refused(
            format!(
                "which server {server} is to follow isn't known: {} of the others can be written to",
                writable.len()
            ),
            "`understudy status` shows the pair; exactly one other server has to be its source.",
        ));
    };
    if picture.roles.is_source(own) && picture.roles.followers(own).next().is_some() {
        return Err(SnapshotError::refused(
            format!("{server} is followed by others: it is a source"),
            "`understudy switchover` moves the role.",
        ));
    }
    let party = scene.party(ctx, own)?;
    let candidate = scene.party(ctx, source)?;
    let surplus = match scene.condition(own).zip(scene.condition(source)) {
        Some((condition, of_source)) => errant::errant(condition, of_source),
        None => crate::sys::Fact::unknown("one of the two doesn't answer"),
    };
    let surplus = surplus.known().cloned().ok_or_else(|| {
        SnapshotError::refused(
            format!(
                "whether {server} has more than {} isn't known: {}",
                candidate.name,
                surplus.reason().unwrap_or_default()
            ),
            "See `understudy status`.",
        )
    })?;
    let endpoint = scene.reached_at(source)?;
    let of_source = scene.condition(source).and_then(|condition| {
        let written = condition.written.known().cloned().flatten();
        written.or_else(|| condition.executed.known().cloned())
    });
    let cast = Cast {
        candidate,
        old: Some(party.clone()),
        dead: None,
        others: Vec::new(),
        endpoint,
        events: Vec::new(),
        semi_sync: semi_sync::Moving::default(),
        ways: Vec::new(),
        told_of_ways: Vec::new(),
    };
    Ok(Ready {
        party,
        cast,
        surplus,
        of_source: of_source.map_or(String::new(), |set| set.to_line()),
        link: scene.channel(own),
        beside: scene.outside(own),
        events: scene
            .condition(own)
            .map_or(Vec::new(), |condition| condition.events.clone()),
    })
}

/// What would be done; changes nothing.
pub fn look(ctx: &Context, request: &Request) -> Result<Report, SetupError> {
    let server = &request.server;
    let pair = pair_of(ctx, server)?;
    let scene = Scene::observe(ctx, pair)?;
    let ready = hold::or_in_motion(ctx, pair, decide(ctx, &scene, server))?;
    let would = |name, detail| step(name, "would-change", detail, Duration::ZERO);
    let source = &ready.cast.candidate.name;
    let mut report = Report::of(&ready, true);
    report.steps.push(looked(&ready));
    report
        .steps
        .push(would(steps::CLOSE, format!("nobody writes to {server}")));
    if ready.surplus.is_empty() {
        report.warnings.extend(ignored(&request.way, &ready));
    } else {
        report.steps.push(would(
            steps::EXPORT,
            format!("{}, which {source} hasn't, as SQL", ready.surplus),
        ));
        match &request.way {
            Way::Refuse => return Err(has_more(pair, &ready, None).into()),
            Way::Rollback => {
                let (snapshot, steps) = renew::plan_rollback(ctx, server, source)?;
                let steps = steps
                    .into_iter()
                    .map(|detail| would(steps::ROLLBACK, detail));
                report.steps.extend(steps);
                report.snapshot = Some(snapshot);
            }
            Way::Provision(provision) => {
                let planned = renew::plan_provision(ctx, pair, server, source, provision)?;
                report.steps.extend(planned.steps);
                let warnings = planned.warnings.into_iter();
                report.warnings.extend(warnings.map(|one| one.message));
                report.provision = Some(planned.provision);
                return Ok(report);
            }
        }
    }
    let (remains, told) = back::remains(ctx, pair, &ready);
    report.steps.extend(rest::would(&remains));
    report.steps.push(rest::would_prove(source, server));
    report.warnings.extend(told);
    Ok(report)
}

/// What came of the look, as the first step of the report.
fn looked(ready: &Ready) -> Step {
    let (name, source) = (&ready.party.name, &ready.cast.candidate.name);
    let detail = match ready.surplus.is_empty() {
        true => format!("{source} is the source, and has all that {name} has"),
        false => format!("{source} is the source; {name} alone has {}", ready.surplus),
    };
    step(steps::LOOK, "verified", detail, Duration::ZERO)
}

/// A flag that nothing is to be done for.
fn ignored(way: &Way, ready: &Ready) -> Option<String> {
    let flag = match way {
        Way::Refuse => return None,
        Way::Rollback => "--rollback",
        Way::Provision(_) => "--provision",
    };
    Some(format!(
        "{} has nothing that {} hasn't: it just follows, {flag} isn't needed",
        ready.party.name, ready.cast.candidate.name
    ))
}

/// It has more, and stays closed.
fn has_more(pair: &str, ready: &Ready, kept: Option<&Result<Lost, String>>) -> SnapshotError {
    let (name, source) = (&ready.party.name, &ready.cast.candidate.name);
    let (state, export) = match kept {
        None => (
            String::new(),
            "Without --dry-run they are kept as SQL first".to_owned(),
        ),
        Some(Ok(lost)) => {
            let path = lost.export.as_deref().unwrap_or_default();
            (
                " (it is closed for writers)".to_owned(),
                format!("They are kept in {path}"),
            )
        }
        Some(Err(why)) => (
            format!(" (it is closed for writers), and they can't be exported: {why}"),
            String::new(),
        ),
    };
    let hint = match kept {
        Some(Err(_)) => format!(
            "Cure that, and run it again. Or look at them with mysqlbinlog (mariadb-binlog) on {name}, write \
             again on {source} what is needed, make {source} the source of [pair.{pair}] in the \
             configuration, and run `understudy setup {pair} --replica {name} --provision clone \
             --replace` (or dump)."
        ),
        None | Some(Ok(_)) => format!(
            "{export}: write again on {source} what is needed. Then `understudy rejoin {name} \
             --rollback` goes back to the newest snapshot of {name} that fits {source}, or `understudy \
             rejoin {name} --provision clone` (or dump) gives it the data of {source}."
        ),
    };
    SnapshotError::refused(
        format!(
            "{name} has transactions that {source} hasn't: {}{state}",
            ready.surplus
        ),
        hint,
    )
}

/// Closes the server, exports what it has of its own, renews it in the wished way, and makes it follow.
/// `ask` is asked before data of its own goes.
pub fn perform(
    ctx: &Context,
    request: &Request,
    ask: &mut dyn FnMut(&str) -> bool,
) -> Result<Report, SetupError> {
    let server = &request.server;
    let pair = pair_of(ctx, server)?;
    let (ready, kept, steps) = match begin(ctx, pair, server, &request.way)? {
        Begun::Follows(report) => return Ok(*report),
        Begun::HasMore(ready, kept, steps) => (ready, kept, steps),
    };
    let lost = match (&request.way, &kept) {
        (Way::Refuse, _) | (_, Err(_)) => return Err(has_more(pair, &ready, Some(&kept)).into()),
        (Way::Rollback | Way::Provision(_), Ok(lost)) => lost.clone(),
    };
    let mut report = Report::of(&ready, false);
    report.steps = steps;
    let renewed = match &request.way {
        Way::Provision(provision) => {
            provide(ctx, pair, &ready, provision, ask).map(|done| report.take_setup(done))
        }
        Way::Rollback | Way::Refuse => roll_back(ctx, pair, server, &ready, ask, &mut report),
    };
    renewed.map_err(|error| with_export(error, server, &lost))?;
    report.surplus = Some(lost);
    Ok(report)
}

/// Whatever stops it then: where the export is.
fn with_export(error: SetupError, server: &str, lost: &Lost) -> SetupError {
    let path = lost.export.as_deref().unwrap_or_default();
    let words = format!(
        "{server} is closed for writers; what it alone has is kept in {path}. The same command goes on."
    );
    let more = |mut refusals: Vec<Refusal>| {
        refusals.push(Refusal::new(
            format!("{server} stays closed"),
            words.clone(),
        ));
        SetupError::Refused { refusals }
    };
    match error {
        SetupError::Refused { refusals }
        | SetupError::Other(SnapshotError::Refused { refusals }) => more(refusals),
        other => {
            tracing::warn!("{words}");
            other
        }
    }
}

/// What came of closing it and looking at what it has.
enum Begun {
    /// Nothing of its own.
    Follows(Box<Report>),
    HasMore(Box<Ready>, Result<Lost, String>, Vec<Step>),
}

fn hold(ctx: &Context, server: &str) -> Result<Hold, SnapshotError> {
    let target = ctx.target(ctx.server(server)?)?;
    hold::take(ctx, std::slice::from_ref(&target), "rejoin", None)
}

fn begin_operation(ctx: &Context, server: &str) -> Result<Operation, SnapshotError> {
    let id = id::new(&format!("rejoin-{server}"), clock::now());
    ctx.begin(Beginning {
        operation: &id,
        kind: OperationKind::Rejoin,
        parties: &[server],
        settled_by: None,
    })
}

fn begin(ctx: &Context, pair: &str, server: &str, way: &Way) -> Result<Begun, SnapshotError> {
    let _hold = hold(ctx, server)?;
    let ready = decide(ctx, &Scene::observe(ctx, pair)?, server)?;
    let mut operation = begin_operation(ctx, server)?;
    operation.steps.push(looked(&ready));
    // Whatever comes then: it stays closed.
    if let Err(error) = operation.step(steps::CLOSE, |_| close(&ready.party)) {
        return Err(back::closed_alone(operation, server, error));
    }
    // What was written until then counts, too.
    let looked =
        Scene::observe(ctx, pair).and_then(|scene| Ok((decide(ctx, &scene, server)?, scene)));
    let (ready, scene) = match looked {
        Ok(looked) => looked,
        Err(error) => return Err(back::closed_alone(operation, server, error)),
    };
    if ready.surplus.is_empty() {
        let (steps, warnings) = back::follow(ctx, pair, &ready, operation)?;
        let report = Report {
            steps,
            warnings: warnings.into_iter().chain(ignored(way, &ready)).collect(),
            ..Report::of(&ready, false)
        };
        return Ok(Begun::Follows(Box::new(report)));
    }
    let mut kept = Err(String::new());
    let exported = operation.step(steps::EXPORT, |operation| {
        // The reader's credentials, and half an export.
        operation.note(Act::Tree {
            path: ctx.state.work(&operation.id),
        })?;
        operation.note_file(&salvage::files_of(ctx, &operation.id)[0])?;
        kept = export(ctx, &scene, &ready, &operation.id)?;
        Ok::<_, SnapshotError>(match &kept {
            Ok(lost) => Outcome::Changed(format!(
                "{} transactions are in {}",
                lost.transactions.unwrap_or_default(),
                lost.export.as_deref().unwrap_or_default()
            )),
            Err(why) => Outcome::Verified(format!("not exported: {why}")),
        })
    });
    let steps = operation.steps.clone();
    if let Err(error) = exported {
        return Err(back::closed_alone(operation, server, error));
    }
    operation.end("closed and exported alone")?;
    Ok(Begun::HasMore(Box::new(ready), kept, steps))
}

/// Kept as SQL, and noted as lost: the source never had it.
fn export(
    ctx: &Context,
    scene: &Scene<'_>,
    ready: &Ready,
    operation: &str,
) -> Result<Result<Lost, String>, SnapshotError> {
    let condition = |name: &str| {
        let index = scene.index(name);
        index.and_then(|index| scene.condition(index))
    };
    let source = &ready.cast.candidate.name;
    let both = condition(&ready.party.name).zip(condition(source));
    let Some((own, of_source)) = both else {
        return Ok(Err("one of the two doesn't answer".to_owned()));
    };
    let surplus = Surplus {
        gtid: &ready.surplus,
        own,
        of_source,
    };
    let kept = surplus::export(ctx, &ready.party, &surplus, operation)?;
    if let Ok(lost) = &kept {
        let lost = Receipt {
            operation: operation.to_owned(),
            at: clock::rfc3339(clock::now()),
            pair: scene.pair.name.clone(),
            old_source: ready.party.name.clone(),
            new_source: source.clone(),
            gtid: ready.of_source.clone(),
            lost: lost.clone(),
        };
        receipt::note_lost(&ctx.state, lost)?;
    }
    Ok(kept)
}

fn close(party: &Party) -> Result<Outcome, SnapshotError> {
    let mut session = party.session()?;
    session = session.execute(party.flavour.close(), STATEMENT_LIMIT)?;
    for statement in party.flavour.close_for_good().unwrap_or_default() {
        session = session.execute(statement, STATEMENT_LIMIT)?;
    }
    Ok(Outcome::Changed(format!("nobody writes to {}", party.name)))
}

impl Report {
    fn take_setup(&mut self, done: crate::replication::setup::Report) {
        self.steps.extend(done.steps);
        let warnings = done.warnings.into_iter();
        self.warnings
            .extend(warnings.map(|warning| warning.message));
        self.provision = Some(done.provision);
    }
}

fn not_confirmed(server: &str) -> SnapshotError {
    SnapshotError::refused(
        format!("not confirmed: {server} stays as it is, closed for writers"),
        "Give --yes where there is no terminal to ask on.",
    )
}

fn provide(
    ctx: &Context,
    pair: &str,
    ready: &Ready,
    provision: &Provision,
    ask: &mut dyn FnMut(&str) -> bool,
) -> Result<crate::replication::setup::Report, SetupError> {
    let (server, source) = (&ready.party.name, &ready.cast.candidate.name);
    // What stands against it is said before anybody is asked.
    renew::plan_provision(ctx, pair, server, source, provision)?;
    let question = format!("drop all data of {server}, and give it that of {source}?");
    if !ask(&question) {
        return Err(not_confirmed(server).into());
    }
    renew::provision(ctx, pair, server, source, provision)
}

/// Back to a snapshot, and to the next older one when that has them as well: MariaDB's position of a
/// replica doesn't tell what was written to it.
fn roll_back(
    ctx: &Context,
    pair: &str,
    server: &str,
    ready: &Ready,
    ask: &mut dyn FnMut(&str) -> bool,
    report: &mut Report,
) -> Result<(), SetupError> {
    let source = &ready.cast.candidate.name;
    let (first, _) = renew::plan_rollback(ctx, server, source)?;
    let question = format!("stop {server} and make its data what it was in {first}?");
    if !ask(&question) {
        return Err(not_confirmed(server).into());
    }
    let mut tried = Vec::new();
    loop {
        let (done, steps) = renew::roll_back(ctx, server, source, &mut tried)?;
        report.steps.extend(steps);
        // The state before everything is in the first one.
        report.undo.get_or_insert(done.undo);
        report.snapshot = Some(done.snapshot);
        let _hold = hold(ctx, server)?;
        let ready = decide(ctx, &Scene::observe(ctx, pair)?, server)?;
        if !ready.surplus.is_empty() {
            continue;
        }
        let operation = begin_operation(ctx, server)?;
        let (steps, warnings) = back::follow(ctx, pair, &ready, operation)?;
        report.steps.extend(steps);
        report.warnings.extend(warnings);
        return Ok(());
    }
}
