//! `switchover PAIR`: a planned change of roles. Until the candidate is opened everything is undone;
//! from then on everything is carried through.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::assess::{self, Wish};
use super::hold::{self, Hold};
use super::lift;
use super::moment::{
    FENCE_WAIT, Moment, fence, position, prove, remove_marker, stillness, wait, with, write_marker,
};
use super::report::{Ended, Kind, Report};
use super::rest::{self, Carried, Cast, step};
use super::scene::{Scene, targets};
use super::semi_sync;
use crate::journal::act::Act;
use crate::journal::operation::{Outcome, Step};
use crate::journal::{Beginning, InHand, Operation, OperationKind, Party};
use crate::replication::{account, marker};
use crate::server::flavour::quote_text;
use crate::server::promotion::Event;
use crate::server::session::{READ_LIMIT, Session, SessionError};
use crate::snapshot::id;
use crate::snapshot::{Context, SnapshotError};
use crate::sys::{clock, failpoint};

/// Closer than this, waiting costs nothing that anybody sees.
const NEAR_ENOUGH: Duration = Duration::from_millis(100);

/// The candidate was within [`NEAR_ENOUGH`]: one that needs so long has stopped, and writers wait.
const CLOSED_FOR_MAX: Duration = Duration::from_secs(5);

/// A statement of a client that runs longer than this would hold the fence up.
const LONG: Duration = Duration::from_secs(1);

const LOOK_EVERY: Duration = Duration::from_millis(20);

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Request {
    pub pair: String,
    pub wish: Wish,
    /// For everything before the opening.
    pub timeout: Duration,
}

/// What would be done, or what stands against it; changes nothing.
pub fn look(ctx: &Context, request: &Request) -> Result<Report, SnapshotError> {
    look_at(ctx, &Scene::observe(ctx, &request.pair)?, request)
}

pub(super) fn look_at(
    ctx: &Context,
    scene: &Scene<'_>,
    request: &Request,
) -> Result<Report, SnapshotError> {
    let (_, cast) = decide(ctx, scene, request)?;
    let planned = [
        (
            "approach",
            format!("until {} is near enough", cast.candidate.name),
        ),
        (
            "events",
            format!("{} that run are parked", cast.events.len()),
        ),
        (
            "fence",
            "the source takes no writes; its clients are ended".to_owned(),
        ),
        (
            "wait",
            format!("until {} has everything", cast.candidate.name),
        ),
    ];
    let would = |name, detail| step(name, "would-change", detail, Duration::ZERO);
    let planned = planned
        .into_iter()
        .filter(|(name, _)| *name != "events" || !cast.events.is_empty());
    let mut steps: Vec<Step> = planned.map(|(name, detail)| would(name, detail)).collect();
    let rest = rest::of(ctx, scene, &cast);
    steps.extend(
        rest.iter()
            .filter_map(|rest| rest.act.words())
            .map(|words| would("then", words)),
    );
    Ok(report(scene, &cast, Ended::Planned, steps))
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

/// Source and cast, or all that stands against it.
fn decide(
    ctx: &Context,
    scene: &Scene<'_>,
    request: &Request,
) -> Result<(Party, Cast), SnapshotError> {
    let picture = scene.picture();
    let refused = |refusals| SnapshotError::Refused { refusals };
    let (source, candidate) =
        assess::switchover(&picture, &request.wish, &scene.pair.failover).map_err(refused)?;
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
    let ways = rest::ways(ctx, scene, &old.name, &candidate_party)?;
    let semi_sync = semi_sync::planned(&old, &candidate_party, &others)?;
    let cast = Cast {
        semi_sync,
        ways,
        candidate: candidate_party,
        old: Some(old.clone()),
        others,
        endpoint,
        events,
    };
    Ok((old, cast))
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
    let hold = hold::take(ctx, &targets(ctx, pair)?, "switchover", None)?;
    // Again, now that nobody else of ours changes them.
    let scene = Scene::observe(ctx, &request.pair)?;
    let (source, cast) = decide(ctx, &scene, request)?;
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
    let until = Instant::now() + request.timeout;
    let outage = match until_opened(
        ctx,
        &scene,
        &cast,
        &source,
        &hold,
        &mut moment,
        &mut operation,
        until,
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
            let has_fenced = operation.has_begun("fence");
            return Err(put_back(operation, error, &source.name, has_fenced));
        }
    };
    let mut carried = Carried::default();
    let count = rest::before_follow(&operation);
    rest::carry(&mut operation, count, &mut carried);
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
    let mut warnings = prove(ctx, &cast);
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
    hold: &Hold,
    moment: &mut Moment,
    operation: &mut Operation,
    until: Instant,
) -> Result<Option<u64>, SnapshotError> {
    if cast.semi_sync.switch().is_some() {
        operation.step("semi-sync", |operation| {
            lift::lift(operation, &mut moment.source, source, &cast.semi_sync)
        })?;
    }
    operation.step("table", |operation| marker::ensure_table(operation, source))?;
    operation.step("approach", |_| {
        approach(ctx, cast, source, hold, moment, until)
    })?;
    if !cast.events.is_empty() {
        operation.step("events", |operation| park(operation, source, &cast.events))?;
    }
    let rest = rest::of(ctx, scene, cast);
    operation.note(Act::Statements {
        on: source.reach(),
        words: "open it again for writers".to_owned(),
        statements: source.flavour.open(),
    })?;
    let own = moment.own_connections(hold, &source.name);
    ctx.cancel.check("switching over")?;

    let since = operation.open_step("fence")?;
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

    operation.commit(rest)?;
    let opening = Instant::now();
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
        "fence",
        Outcome::Changed(format!(
            "{} takes no writes; still at {position}",
            source.name
        )),
        since,
    )?;
    operation.steps.extend([
        step("wait", "verified", format!("{name} has all of it"), waited),
        step(
            "open",
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

/// Until the candidate is near, and nothing runs that would hold up the fence.
fn approach(
    ctx: &Context,
    cast: &Cast,
    source: &Party,
    hold: &Hold,
    moment: &mut Moment,
    until: Instant,
) -> Result<Outcome, SnapshotError> {
    let own = moment.own_connections(hold, &source.name);
    loop {
        ctx.cancel.check("approaching")?;
        let busy = with(&mut moment.source, |session| long_statements(session, &own))?;
        let position = with(&mut moment.source, |session| position(session, source))?;
        let since = Instant::now();
        let left = until.saturating_duration_since(since);
        let waited = wait(&mut moment.candidate, &cast.candidate, &position, left);
        let took = since.elapsed();
        match (waited, busy.first()) {
            (Ok(()), None) if took < NEAR_ENOUGH => {
                return Ok(Outcome::Verified(format!(
                    "{} is {} ms behind",
                    cast.candidate.name,
                    took.as_millis()
                )));
            }
            (Ok(()), Some(busy)) if Instant::now() >= until => {
                return Err(SnapshotError::refused(
                    format!("it would hold up all writers: {busy}"),
                    "Wait until it ends, or end it with KILL.",
                ));
            }
            (_, _) if Instant::now() >= until => {
                return Err(SnapshotError::refused(
                    format!(
                        "{} doesn't come within {} ms of its source in time: more is written than it applies",
                        cast.candidate.name,
                        NEAR_ENOUGH.as_millis()
                    ),
                    "Try when less is written, or with a longer --timeout.",
                ));
            }
            (_, _) => sleep(LOOK_EVERY),
        }
    }
}

/// Statements of clients that run for long, in words; table locks of sessions that do nothing don't
/// show here, and end the fence at its limit.
fn long_statements(session: Session, own: &[u64]) -> Result<(Session, Vec<String>), SessionError> {
    let statement = session.flavour().client_sessions_query(own);
    let (session, rows) = session.query(&statement, READ_LIMIT)?;
    let is_long = |row: &&crate::server::row::Row| {
        let seconds: u64 = row.at(3).and_then(|text| text.parse().ok()).unwrap_or(0);
        row.at(5).is_some_and(|statement| !statement.is_empty()) && seconds > LONG.as_secs()
    };
    let words = rows.iter().filter(is_long).map(|row| {
        let text: String = row.at(5).unwrap_or_default().chars().take(60).collect();
        format!(
            "connection {} of {} runs for {} s: {text}",
            row.at(0).unwrap_or_default(),
            row.at(1).unwrap_or_default(),
            row.at(3).unwrap_or_default()
        )
    });
    let words = words.collect();
    Ok((session, words))
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
    let is_whole =
        carried.not_repointed.is_empty() && carried.failed.is_empty() && warnings.is_empty();
    let result = match is_whole {
        true => Ended::Done,
        false => Ended::NeedsOperator,
    };
    let mut steps = operation.steps.clone();
    steps.extend(carried.steps);
    operation.end(match is_whole {
        true => "done",
        false => "done, but for what the report names",
    })?;
    Ok(Report {
        write_outage_ms: outage,
        repointed: carried.repointed,
        not_repointed: carried.not_repointed,
        warnings: [carried.failed, warnings].concat(),
        ..report(scene, cast, result, steps)
    })
}
