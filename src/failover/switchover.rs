//! `switchover PAIR`: a planned change of roles. Until the candidate is opened everything is undone;
//! from then on everything is carried through.

use std::time::{Duration, Instant};

use super::approach;
use super::assess::{self, Wish};
use super::hold::{self, Hold};
use super::lift;
use super::moment::{
    FENCE_WAIT, Moment, fence, prove, remove_marker, stillness, wait, with, write_marker,
};
use super::report::{Ended, Kind, Report};
use super::rest::{self, Carried, Cast, step};
use super::scene::{Scene, targets};
use super::semi_sync;
use super::steps;
use crate::journal::act::{Act, ActError};
use crate::journal::operation::{Outcome, Step};
use crate::journal::{Beginning, InHand, Operation, OperationKind, Party};
use crate::replication::{account, marker};
use crate::server::flavour::quote_text;
use crate::server::promotion::Event;
use crate::server::session::{READ_LIMIT, Session, SessionError};
use crate::snapshot::error::Refusal;
use crate::snapshot::id;
use crate::snapshot::{Context, SnapshotError};
use crate::sys::{clock, failpoint};

/// The candidate was within 100 ms: one that needs so long has stopped, and writers wait.
const CLOSED_FOR_MAX: Duration = Duration::from_secs(5);

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Request {
    pub pair: String,
    pub wish: Wish,
    /// For everything before the opening, but for the grace.
    pub timeout: Duration,
    /// How long what clients have begun may take to end by itself; then it is ended with the fence.
    pub grace: Duration,
}

/// What would be done, or what stands against it; changes nothing.
pub fn look(ctx: &Context, request: &Request) -> Result<Report, SnapshotError> {
    let scene = Scene::observe(ctx, &request.pair)?;
    let looked = look_at(ctx, &scene, request);
    let (report, notes) = hold::or_in_motion(ctx, &request.pair, looked)?;
    let notes = notes.into_iter().map(|note| note.reason);
    Ok(Report {
        warnings: notes.chain(report.warnings).collect(),
        ..report
    })
}

/// The report, and what doesn't stand against it and is worth knowing.
pub(super) fn look_at(
    ctx: &Context,
    scene: &Scene<'_>,
    request: &Request,
) -> Result<(Report, Vec<Refusal>), SnapshotError> {
    let (_, cast, notes) = decide(ctx, scene, request)?;
    let mut steps = vec![looked(&cast)];
    let would = |name, detail| step(name, "would-change", detail, Duration::ZERO);
    steps.extend(
        before(&cast, request)
            .into_iter()
            .map(|(name, detail)| would(name, detail)),
    );
    steps.extend(rest::planned(&rest::of(ctx, scene, &cast), &cast));
    let report = Report {
        warnings: cast.told_of_ways.clone(),
        ..report(scene, &cast, Ended::Planned, steps)
    };
    Ok((report, notes))
}

/// What came of the look, as the first step of the report.
fn looked(cast: &Cast) -> Step {
    let old = cast.old.as_ref().map_or("", |old| old.name.as_str());
    let detail = format!("{} can take the place of {old}", cast.candidate.name);
    step(steps::LOOK, "verified", detail, Duration::ZERO)
}

/// What would be done before the opening.
fn before(cast: &Cast, request: &Request) -> Vec<(&'static str, String)> {
    let candidate = &cast.candidate.name;
    let old = cast.old.as_ref().map_or("", |old| old.name.as_str());
    let mut all = Vec::new();
    if cast.semi_sync.switch().is_some() {
        let detail = format!("{old} doesn't wait for an acknowledgement that doesn't come");
        all.push((steps::SEMI_SYNC, detail));
    }
    all.push((steps::TABLE, "understudy.marker is there".to_owned()));
    if request.grace > Duration::ZERO {
        let grace = humantime::format_duration(request.grace);
        let detail = format!("what clients have begun has {grace} to end");
        all.push((steps::GRACE, detail));
    }
    all.push((steps::APPROACH, format!("until {candidate} is near enough")));
    if !cast.events.is_empty() {
        let detail = format!("{} that run are parked", cast.events.len());
        all.push((steps::EVENTS, detail));
    }
    all.extend([
        (
            steps::FENCE,
            format!("{old} takes no writes; its clients are ended"),
        ),
        (steps::WAIT, format!("until {candidate} has everything")),
    ]);
    all
}

fn report(scene: &Scene<'_>, cast: &Cast, result: Ended, steps: Vec<Step>) -> Report {
    let old = cast.old.as_ref().map_or("", |old| old.name.as_str());
    Report {
        steps,
        ..Report::of(
            Kind::Switchover,
            &scene.pair.name,
            old,
            &cast.candidate.name,
            result,
        )
    }
}

/// Source, cast and what is worth knowing, or all that stands against it.
fn decide(
    ctx: &Context,
    scene: &Scene<'_>,
    request: &Request,
) -> Result<(Party, Cast, Vec<Refusal>), SnapshotError> {
    let picture = scene.picture();
    let refused = |refusals| SnapshotError::Refused { refusals };
    let burdens = scene.burdens(ctx);
    let assess::Chosen {
        source,
        candidate,
        notes,
    } = assess::switchover(&picture, &burdens, &request.wish, &scene.pair.failover)
        .map_err(refused)?;
    let others = picture
        .roles
        .followers(source)
        .filter(|server| *server != candidate)
        .map(|server| scene.party(ctx, server))
        .collect::<Result<Vec<_>, _>>()?;
    let old = scene.party(ctx, source)?;
    let candidate_party = scene.party(ctx, candidate)?;
    let endpoint = scene.reached_at(candidate)?;
    look_at_account(ctx, scene, &old, &candidate_party)?;
    let events = events(old.session()?)?;
    let (ways, told_of_ways) = rest::ways(ctx, scene, &old.name, &candidate_party)?;
    let semi_sync = semi_sync::planned(&old, &candidate_party, &others)?;
    let cast = Cast {
        semi_sync,
        ways,
        told_of_ways,
        candidate: candidate_party,
        old: Some(old.clone()),
        dead: None,
        others,
        endpoint,
        events,
    };
    Ok((old, cast, notes))
}

/// The old source will log in to the new one with it.
fn look_at_account(
    ctx: &Context,
    scene: &Scene<'_>,
    old: &Party,
    candidate: &Party,
) -> Result<(), SnapshotError> {
    let hint = || {
        format!(
            "Run `understudy setup {} --account-host HOST` with a host part that fits all servers of \
             the pair, such as '%' or '10.0.0.%'.",
            scene.pair.name
        )
    };
    let file = account::password_file(&ctx.state, &scene.pair.name);
    if !file.exists() {
        return Err(SnapshotError::refused(
            format!(
                "the password of the replication account isn't in {}",
                file.display()
            ),
            format!(
                "Copy that file from the host on which `understudy setup {}` ran (0600, its \
                 directory 0700); or run setup here, which gives the account a new password.",
                scene.pair.name
            ),
        ));
    }
    let statement = format!(
        "SELECT Host FROM mysql.user WHERE User = {}",
        quote_text(account::USER)
    );
    let (_, rows) = candidate.session()?.query(&statement, READ_LIMIT)?;
    let hosts: Vec<&str> = rows.iter().filter_map(|row| row.at(0)).collect();
    let index = scene.index(&old.name);
    let endpoint = index.and_then(|index| scene.endpoint(index));
    let address = endpoint.map_or("localhost".to_owned(), |(host, port)| {
        crate::replication::observe::address_of(&host, port).unwrap_or(host)
    });
    if hosts.iter().any(|host| account_fits(host, &address)) {
        return Ok(());
    }
    Err(SnapshotError::refused(
        format!(
            "{} couldn't log in to {}: {} is there for {}, not for {address}",
            old.name,
            candidate.name,
            account::USER,
            match hosts.is_empty() {
                true => "nobody".to_owned(),
                false => hosts.join(", "),
            }
        ),
        hint(),
    ))
}

/// Whether an account's host part lets an address in. Names that only a resolver knows don't fit.
fn account_fits(pattern: &str, address: &str) -> bool {
    let is_loopback = |host: &str| matches!(host, "localhost" | "127.0.0.1" | "::1");
    match pattern.split_once('%') {
        None => {
            pattern.eq_ignore_ascii_case(address) || is_loopback(pattern) && is_loopback(address)
        }
        Some((head, tail)) => address.starts_with(head) && address.ends_with(tail),
    }
}

fn events(session: Session) -> Result<Vec<Event>, SessionError> {
    let statement = session.flavour().events_query();
    let (_, rows) = session.query(statement, READ_LIMIT)?;
    Ok(rows.iter().filter_map(Event::of).collect())
}

/// Does it, or puts everything back.
pub fn perform(ctx: &Context, request: &Request) -> Result<Report, SnapshotError> {
    let pair = Scene::observe(ctx, &request.pair)?.pair;
    let mut hold = hold::take(ctx, &targets(ctx, pair)?, "switchover", None)?;
    // Again, now that nobody else of ours changes them.
    let scene = Scene::observe(ctx, &request.pair)?;
    let (source, cast, notes) = decide(ctx, &scene, request)?;
    for note in &notes {
        tracing::warn!(hint = %note.hint, "{}", note.reason);
    }
    for words in &cast.told_of_ways {
        tracing::warn!("{words}");
    }
    let mut moment = Moment::open(&source, &cast.candidate)?;
    let names: Vec<&str> = std::iter::once(cast.candidate.name.as_str())
        .chain([source.name.as_str()])
        .chain(cast.others.iter().map(|party| party.name.as_str()))
        .collect();
    let id = id::new(&format!("switchover-{}", pair.name), clock::now());
    let mut operation = ctx.begin(Beginning {
        operation: &id,
        kind: OperationKind::Switchover,
        parties: &names,
        settled_by: None,
    })?;
    operation.steps.push(looked(&cast));
    let outage = match until_opened(
        ctx,
        &scene,
        &cast,
        &source,
        &mut hold,
        &mut moment,
        &mut operation,
        request,
    ) {
        Ok(outage) => outage,
        Err(error) if operation.is_committed() => {
            // Whether the opening came through isn't known: it is carried through.
            tracing::warn!(%error, "the opening isn't sure, and is done again");
            None
        }
        Err(error) => {
            // The lock on the source goes with its connection.
            drop(moment);
            let has_fenced = operation.has_begun(steps::FENCE);
            return Err(put_back(operation, error, &source.name, has_fenced));
        }
    };
    let mut carried = Carried::default();
    let count = rest::before_follow(&operation);
    rest::carry(&mut operation, count, &mut carried);
    if let Some(ActError::Moved(words)) = &carried.stopped {
        let moved = rest::given_up(words);
        return Err(put_back(operation, moved, &source.name, true));
    }
    if let Some(error) = &carried.stopped {
        // The journal stays open: nobody takes writes, and `recover` opens the candidate.
        let name = &cast.candidate.name;
        return Err(SnapshotError::NeedsOperator {
            reason: format!(
                "{name} couldn't be opened, and {} is closed: {error}",
                source.name
            ),
            hint: format!(
                "See that {name} runs, then run `understudy recover {name}`: it opens it."
            ),
        });
    }
    // Only now: whom `read_only` doesn't hold would write to the old source.
    moment.release(&hold, &source);
    rest::carry(&mut operation, usize::MAX, &mut carried);
    let (proof, mut warnings) = prove(ctx, &cast);
    carried.steps.extend(proof);
    warnings.extend(strays(ctx, &request.pair));
    warnings.extend(cast.semi_sync.told.iter().cloned());
    ended(operation, &scene, &cast, carried, (outage, warnings))
}

/// What somebody wrote to a server that isn't the source: whoever has SUPER or READ_ONLY ADMIN isn't
/// held by MariaDB's read_only.
fn strays(ctx: &Context, pair: &str) -> Vec<String> {
    let scene = match Scene::observe(ctx, pair) {
        Ok(scene) => scene,
        Err(error) => return vec![format!("not looked at afterwards: {error}")],
    };
    let picture = scene.picture();
    let errant = picture.errant.iter().enumerate();
    errant
        .filter_map(|(server, errant)| {
            let more = errant.as_ref()?.known().filter(|more| !more.is_empty())?;
            Some(format!(
                "{} has transactions of its own: {more}; a client that read_only doesn't hold (SUPER, \
                 READ_ONLY ADMIN) wrote to it",
                scene.name(server)
            ))
        })
        .collect()
}

/// `has_fenced`: writers were held up.
pub(super) fn put_back(
    operation: Operation,
    error: SnapshotError,
    source: &str,
    has_fenced: bool,
) -> SnapshotError {
    match operation.put_back(&error.to_string()) {
        // Nothing but threads that read was touched, and they read again.
        Ok(_) if !has_fenced => error,
        Ok(_) => match error {
            // A refusal after the fence: writers were held up.
            SnapshotError::Refused { refusals } => SnapshotError::Failed {
                step: "switchover",
                reason: refusals
                    .iter()
                    .map(|r| r.reason.clone())
                    .collect::<Vec<_>>()
                    .join("; "),
                hint: refusals.first().map(|refusal| refusal.hint.clone()),
            },
            error => error,
        },
        // Nothing of it is left to go on with.
        Err(ActError::Moved(words)) => SnapshotError::NeedsOperator {
            reason: format!("{error}; {words}"),
            hint: rest::MOVED_HINT.to_owned(),
        },
        Err(left) => SnapshotError::NeedsOperator {
            reason: format!("{error}; and what was changed couldn't be put back: {left}"),
            hint: format!("Cure that, then run `understudy recover {source}`."),
        },
    }
}

/// All that can be undone, and the opening; the outage by our own writes.
#[expect(clippy::too_many_arguments, reason = "one story, told once")]
fn until_opened(
    ctx: &Context,
    scene: &Scene<'_>,
    cast: &Cast,
    source: &Party,
    hold: &mut Hold,
    moment: &mut Moment,
    operation: &mut Operation,
    request: &Request,
) -> Result<Option<u64>, SnapshotError> {
    if cast.semi_sync.switch().is_some() {
        operation.step(steps::SEMI_SYNC, |operation| {
            lift::lift(operation, &mut moment.source, source, &cast.semi_sync)
        })?;
    }
    operation.step(steps::TABLE, |operation| {
        marker::ensure_table(operation, source)
    })?;
    let own = moment.own_connections(hold, &source.name);
    let ends_clients = request.grace > Duration::ZERO;
    if ends_clients {
        operation.step(steps::GRACE, |_| {
            approach::grace(ctx, moment, &own, request.grace)
        })?;
    }
    let until = Instant::now() + request.timeout;
    operation.step(steps::APPROACH, |_| {
        approach::approach(ctx, (source, cast), moment, (&own, ends_clients), until)
    })?;
    if !cast.events.is_empty() {
        operation.step(steps::EVENTS, |operation| {
            park(operation, source, &cast.events)
        })?;
    }
    let rest = rest::of(ctx, scene, cast);
    operation.note(Act::Open {
        on: source.reach(),
        words: "open it again for writers".to_owned(),
        statements: source.flavour.open(),
        beside: [vec![cast.candidate.reach()], cast.closed(scene)].concat(),
    })?;
    hold.still()?;
    ctx.cancel.check("switching over")?;

    let since = operation.open_step(steps::FENCE)?;
    if ends_clients {
        // Whoever holds a lock would hold up the fence.
        moment.end_clients(&own)?;
    }
    let marker = write_marker(&mut moment.source)?;
    let last_write = Instant::now();
    fence(moment, source, &own)?;
    failpoint::hit("fence:in");
    let position = stillness(&mut moment.source, source)?;
    let fenced = since.elapsed();
    let left = until
        .saturating_duration_since(Instant::now())
        .clamp(FENCE_WAIT, CLOSED_FOR_MAX);
    wait(&mut moment.candidate, &cast.candidate, &position, left)?;
    failpoint::hit("wait:in");
    let waited = since.elapsed() - fenced;

    rest::see_alone(operation, scene, cast, since)?;
    operation.commit(rest)?;
    let opening = Instant::now();
    rest::see_alone(operation, scene, cast, since)?;
    for statement in cast.candidate.flavour.open() {
        with(&mut moment.candidate, |session| {
            Ok((session.execute(&statement, STATEMENT_LIMIT)?, ()))
        })?;
    }
    failpoint::hit("open:in");
    let second = write_marker(&mut moment.candidate)?;
    let outage = last_write.elapsed();
    operation.gate_is_done();
    let name = &cast.candidate.name;
    operation.close_step(
        steps::FENCE,
        Outcome::Changed(format!(
            "{} takes no writes; still at {position}",
            source.name
        )),
        since,
    )?;
    operation.steps.extend([
        step(
            steps::WAIT,
            "verified",
            format!("{name} has all of it"),
            waited,
        ),
        step(
            steps::OPEN,
            "changed",
            format!("{name} takes writes"),
            opening.elapsed(),
        ),
    ]);
    for id in [marker, second] {
        remove_marker(&mut moment.candidate, &id);
    }
    Ok(Some(u64::try_from(outage.as_millis()).unwrap_or(u64::MAX)))
}

/// Events run on neither of the two until the new source wakes them.
fn park(
    operation: &mut Operation,
    source: &Party,
    events: &[Event],
) -> Result<Outcome, SnapshotError> {
    for event in events {
        operation.note(Act::Statements {
            on: source.reach(),
            words: format!("wake the event {}", event.full_name()),
            statements: source.flavour.wake(event),
        })?;
        let mut session = source.session()?;
        for statement in source.flavour.park(event) {
            session = session.execute(&statement, STATEMENT_LIMIT)?;
        }
    }
    Ok(Outcome::Changed(format!(
        "parked {} on {}",
        events.len(),
        source.name
    )))
}

/// The journal's end, and the report.
pub fn ended(
    operation: Operation,
    scene: &Scene<'_>,
    cast: &Cast,
    carried: Carried,
    (outage, warnings): (Option<u64>, Vec<String>),
) -> Result<Report, SnapshotError> {
    let mut warnings = [carried.failed, warnings].concat();
    let is_whole = carried.not_repointed.is_empty() && warnings.is_empty();
    let mut steps = operation.steps.clone();
    steps.extend(carried.steps);
    warnings.extend(operation.end_carried(match is_whole {
        true => "done",
        false => "done, but for what the report names",
    }));
    let result = match carried.not_repointed.is_empty() && warnings.is_empty() {
        true => Ended::Done,
        false => Ended::NeedsOperator,
    };
    Ok(Report {
        write_outage_ms: outage,
        repointed: carried.repointed,
        not_repointed: carried.not_repointed,
        warnings,
        ..report(scene, cast, result, steps)
    })
}
