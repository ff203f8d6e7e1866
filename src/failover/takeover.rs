//! `failover PAIR`: the source is dead. Evidence, drain, elect, fence; then a replica is opened, the
//! others follow it, and a receipt says what may be lost.

use std::time::{Duration, Instant};

use super::assess;
use super::drain::{Drained, drain, elect};
use super::evidence;
use super::fence::{self, Fence};
use super::hold::{self, Hold};
use super::losses;
use super::moment::prove;
use super::report::{Ended, Kind, Report};
use super::rest::{self, Cast, step};
use super::salvage;
use super::scene::{Scene, targets};
use super::semi_sync;
use super::steps;
use super::switchover::put_back;
use crate::journal::act::{Act, Reach, Rest};
use crate::journal::operation::{Outcome, Step};
use crate::journal::receipt;
use crate::journal::{Beginning, InHand, Operation, OperationKind, Party};
use crate::server::channel::ChannelName;
use crate::server::gtid::GtidSet;
use crate::server::log_files::LogPlace;
use crate::server::promotion::Event;
use crate::server::replication::observe_gtid;
use crate::server::session::Session;
use crate::server::{Flavour, Target};
use crate::snapshot::{Context, SnapshotError, id};
use crate::sys::words::counted;
use crate::sys::{clock, failpoint};

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
pub struct Request {
    pub pair: String,
    pub to: Option<String>,
    /// Whoever runs it knows that the dead source stays dead.
    pub unfenced: bool,
    /// Refuse when more is lost, or when that can't be told.
    pub max_loss: Option<u64>,
    /// For what was received and isn't applied yet.
    pub drain: Duration,
    /// How long it has to be silent.
    pub confirm: Duration,
    /// What only the dead source's binary logs hold is brought in.
    pub salvage: bool,
    /// Also soon after the last one.
    pub again: bool,
}

/// What would be done, or what stands against it; changes nothing.
pub fn look(ctx: &Context, request: &Request) -> Result<Report, SnapshotError> {
    let scene = Scene::observe(ctx, &request.pair)?;
    let candidates = hold::or_in_motion(ctx, &request.pair, decide(ctx, &scene, request))?;
    let picture = scene.picture();
    let chosen = assess::best(&picture, &candidates.good).unwrap_or(candidates.good[0]);
    let cast = cast(
        ctx,
        &scene,
        scene.name(candidates.source),
        &candidates,
        chosen,
    )?;
    let name = scene.name(candidates.source);
    let fence = match scene.pair.failover.fence.as_deref() {
        Some(program) => Fence::choose(Some(program), request.unfenced, name)?,
        None => Fence::Word,
    };
    let would = |name, detail| step(name, "would-change", detail, Duration::ZERO);
    let mut steps = vec![
        looked(name, &candidates),
        step(
            steps::EVIDENCE,
            "would-verify",
            format!("nobody reaches {name}"),
            Duration::ZERO,
        ),
        would(steps::DRAIN, "what was received is applied".to_owned()),
        step(
            steps::ELECT,
            "would-verify",
            format!("now {} has most", cast.candidate.name),
            Duration::ZERO,
        ),
        salvage_planned(ctx, &scene, request, name),
        fence_planned(request, &fence, name),
    ];
    steps.extend(rest::planned(&rest::of(ctx, &scene, &cast), &cast));
    let lost = losses::unknown(name, "");
    Ok(Report {
        lost,
        steps,
        warnings: candidates.told().chain(cast.told_of_ways.clone()).collect(),
        ..Report::of(
            Kind::Failover,
            &scene.pair.name,
            name,
            &cast.candidate.name,
            Ended::Planned,
        )
    })
}

/// What came of the look, as the first step of the report.
fn looked(dead: &str, candidates: &assess::Candidates) -> Step {
    let detail = format!(
        "{dead} doesn't answer; {} could take its place",
        counted(candidates.good.len() as u64, "replica")
    );
    step(steps::LOOK, "verified", detail, Duration::ZERO)
}

/// For --dry-run: somebody's word may still be missing.
fn fence_planned(request: &Request, fence: &Fence<'_>, dead: &str) -> Step {
    let (result, detail) = match fence {
        Fence::Word if !request.unfenced => (
            "would-refuse",
            format!("nothing keeps {dead} off: see that it is, then say --unfenced"),
        ),
        Fence::Word | Fence::Program(_) => ("would-change", fence.words(dead)),
    };
    step(steps::FENCE, result, detail, Duration::ZERO)
}

/// For --dry-run: nothing is fetched.
fn salvage_planned(ctx: &Context, scene: &Scene<'_>, request: &Request, dead: &str) -> Step {
    let program = scene.pair.failover.salvage.as_ref();
    let place = salvage::place(ctx, scene.known(dead), None, "");
    let (result, detail) = match (place, program, request.salvage) {
        (Ok(place), _, true) => (
            "would-change",
            format!(
                "what only its binary logs in {} hold is brought in",
                place.directory.display()
            ),
        ),
        (Ok(place), _, false) => (
            "would-verify",
            format!(
                "what only its binary logs in {} hold is lost",
                place.directory.display()
            ),
        ),
        (Err(_), Some(argv), _) => (
            "would-change",
            format!("{} fetches its binary logs", argv.join(" ")),
        ),
        (Err(why), None, _) => ("would-verify", format!("what is lost can't be told: {why}")),
    };
    step(steps::SALVAGE, result, detail, Duration::ZERO)
}

/// All that take part: the candidates, and who follows in any case.
fn parties(
    ctx: &Context,
    scene: &Scene<'_>,
    candidates: &assess::Candidates,
) -> Result<Vec<(Party, ChannelName)>, SnapshotError> {
    let party = |server| Ok((scene.party(ctx, server)?, scene.channel(server)));
    candidates.followers().map(party).collect()
}

fn decide(
    ctx: &Context,
    scene: &Scene<'_>,
    request: &Request,
) -> Result<assess::Candidates, SnapshotError> {
    let picture = scene.picture();
    let burdens = scene.burdens(ctx);
    let to = request.to.as_deref();
    let candidates = assess::failover(&picture, &burdens, to, &scene.pair.failover)
        .map_err(|refusals| SnapshotError::Refused { refusals })?;
    let newest = receipt::read_all(&ctx.state)?
        .open
        .into_iter()
        .filter(|receipt| receipt.pair == request.pair)
        .map(|receipt| receipt.at)
        .max();
    let since = clock::now() - scene.pair.failover.cooldown;
    match newest {
        Some(at) if at > clock::rfc3339(since) && !request.again => Err(SnapshotError::refused(
            format!("the last failover of this pair was at {at}"),
            "When the new source died as well, say --again.",
        )),
        Some(_) | None => Ok(candidates),
    }
}

fn cast(
    ctx: &Context,
    scene: &Scene<'_>,
    dead: &str,
    candidates: &assess::Candidates,
    chosen: usize,
) -> Result<Cast, SnapshotError> {
    let candidate = scene.party(ctx, chosen)?;
    let others = candidates
        .followers()
        .filter(|server| *server != chosen)
        .map(|server| scene.party(ctx, server))
        .collect::<Result<Vec<_>, _>>()?;
    let endpoint = scene.reached_at(chosen)?;
    let events = events_of(scene, dead, &candidate)?;
    let (ways, told_of_ways) = rest::ways(ctx, scene, dead, &candidate)?;
    let dead = dead_reach(ctx, scene, dead, &candidate.flavour)?;
    Ok(Cast {
        semi_sync: semi_sync::after_death(&candidate, &others)?,
        ways,
        told_of_ways,
        candidate,
        old: None,
        dead,
        others,
        endpoint,
        events,
    })
}

/// How the dead source is reached, if it comes back before the opening.
fn dead_reach(
    ctx: &Context,
    scene: &Scene<'_>,
    dead: &str,
    flavour: &Flavour,
) -> Result<Option<Reach>, SnapshotError> {
    let Some(known) = scene.known(dead) else {
        return Ok(None);
    };
    let party = ctx.party(ctx.server(dead)?, &known.identity, flavour)?;
    Ok(Some(party.reach()))
}

/// Those that ran on the dead source when it was seen last, and are there.
fn events_of(
    scene: &Scene<'_>,
    dead: &str,
    candidate: &Party,
) -> Result<Vec<Event>, SnapshotError> {
    let known = scene.known(dead);
    let ran = known.map(|known| known.events.clone()).unwrap_or_default();
    if ran.is_empty() {
        return Ok(ran);
    }
    let statement = candidate.flavour.asleep_events_query();
    let (_, rows) = candidate.session()?.query(statement, STATEMENT_LIMIT)?;
    let is_there = |event: &Event| {
        let mut rows = rows.iter();
        rows.any(|row| (row.at(0), row.at(1)) == (Some(&event.schema), Some(&event.name)))
    };
    Ok(ran.into_iter().filter(is_there).collect())
}

/// Does it; until the candidate is opened, a failure puts everything back.
pub fn perform(ctx: &Context, request: &Request) -> Result<Report, SnapshotError> {
    let first = Scene::observe(ctx, &request.pair)?;
    let dead = decide(ctx, &first, request)?.source;
    let dead = first.name(dead).to_owned();
    // Before anything is touched: without a program, whoever asked has to know what nobody else can.
    let fence = Fence::choose(
        first.pair.failover.fence.as_deref(),
        request.unfenced,
        &dead,
    )?;
    if request.salvage {
        salvage::check(first.pair.failover.salvage.as_deref())?;
    }
    let mut hold = hold::take(ctx, &targets(ctx, first.pair)?, "failover", Some(&dead))?;
    // Again, now that nobody else of ours changes them.
    let scene = Scene::observe(ctx, &request.pair)?;
    let candidates = decide(ctx, &scene, request)?;
    let parties = parties(ctx, &scene, &candidates)?;
    let names: Vec<&str> = parties
        .iter()
        .map(|(party, _)| party.name.as_str())
        .collect();
    let id = id::new(&format!("failover-{}", scene.pair.name), clock::now());
    let mut operation = ctx.begin(Beginning {
        operation: &id,
        kind: OperationKind::Failover,
        parties: &names,
        settled_by: None,
    })?;
    operation.steps.push(looked(&dead, &candidates));
    let opened = until_opened(
        ctx,
        &scene,
        request,
        (fence, &mut hold),
        &candidates,
        &mut operation,
    );
    let opened = match opened {
        Ok(opened) => opened,
        // Somebody else is the source by now: it isn't gone on with.
        Err(error @ SnapshotError::Moved { .. }) => {
            return Err(put_back(operation, error, names[0], false));
        }
        Err(error) if operation.is_committed() => {
            return Err(SnapshotError::NeedsOperator {
                reason: format!("{} isn't open yet: {error}", names.join(", ")),
                hint: format!(
                    "Run `understudy recover {}`: it carries it through.",
                    names[0]
                ),
            });
        }
        // Threads that read again are all that was touched.
        Err(error) => return Err(put_back(operation, error, names[0], false)),
    };
    finish(ctx, &scene, &dead, &candidates, opened, operation)
}

/// All that remains once the new source is open.
fn finish(
    ctx: &Context,
    scene: &Scene<'_>,
    dead: &str,
    candidates: &assess::Candidates,
    opened: Opened,
    mut operation: Operation,
) -> Result<Report, SnapshotError> {
    let mut carried = rest::Carried::default();
    let before_cleaning = operation.rest().len() - 1;
    rest::carry(&mut operation, before_cleaning, &mut carried);
    let Opened {
        cast,
        has,
        logs,
        left,
    } = opened;
    let (proof, warnings) = prove(ctx, &cast);
    carried.steps.extend(proof);
    // Nobody waits for it any more. Where it can't be kept the receipt stays as it was.
    let candidate = &cast.candidate;
    let found = losses::look(ctx, &logs, (dead, &has), candidate, &operation.id);
    let lost = found.unwrap_or_else(|error| {
        tracing::warn!(%error, "what was lost isn't known");
        losses::unknown(dead, &has.to_line())
    });
    let pair = &scene.pair.name;
    let kept = losses::keep(ctx, pair, dead, &cast, (&has, &lost), &operation.id);
    let kept = kept
        .err()
        .map(|error| format!("the receipt of what was lost isn't what this report says: {error}"));
    rest::carry(&mut operation, usize::MAX, &mut carried);
    let steps = [operation.steps.clone(), carried.steps].concat();
    let warnings: Vec<String> = left
        .into_iter()
        .chain(carried.failed)
        .chain(warnings)
        .chain(cast.semi_sync.told.iter().cloned())
        .chain(kept)
        .chain(operation.end_carried("done"))
        .collect();
    let is_whole = carried.not_repointed.is_empty() && warnings.is_empty();
    let result = match is_whole {
        true => Ended::Done,
        false => Ended::NeedsOperator,
    };
    Ok(Report {
        lost,
        steps,
        repointed: carried.repointed,
        not_repointed: carried.not_repointed,
        warnings: warnings
            .into_iter()
            .chain(candidates.told())
            .chain(cast.told_of_ways.clone())
            .collect(),
        ..Report::of(
            Kind::Failover,
            &scene.pair.name,
            dead,
            &cast.candidate.name,
            result,
        )
    })
}

/// A failover whose new source is open.
struct Opened {
    cast: Cast,
    /// What that had by then.
    has: GtidSet,
    logs: Result<LogPlace, String>,
    /// What wasn't brought in, in words.
    left: Option<String>,
}

/// All that can be undone, and the opening.
fn until_opened(
    ctx: &Context,
    scene: &Scene<'_>,
    request: &Request,
    (fence, hold): (Fence<'_>, &mut Hold),
    candidates: &assess::Candidates,
    operation: &mut Operation,
) -> Result<Opened, SnapshotError> {
    let dead = scene.name(candidates.source);
    let target = ctx.target(ctx.server(dead)?)?;
    let (best, has) = chosen(ctx, scene, request, candidates, &target, operation)?;
    let cast = cast(ctx, scene, dead, candidates, candidates.good[best])?;
    let mut logs = Err(String::new());
    let mut lost = losses::unknown(dead, "");
    operation.step(steps::SALVAGE, |operation| {
        operation.note(Act::Tree {
            path: salvage::work(ctx, &operation.id),
        })?;
        for path in salvage::files_of(ctx, &operation.id) {
            operation.note(Act::File { path })?;
        }
        logs = find_logs(ctx, scene, request, &target, &operation.id);
        ctx.cancel.check("fetching the dead source's binary logs")?;
        lost = losses::look(ctx, &logs, (dead, &has), &cast.candidate, &operation.id)?;
        losses::judge(&lost, request.salvage, request.max_loss)
    })?;
    operation.step(steps::FENCE, |_| {
        fence::perform(&scene.pair.name, &target, fence, &ctx.cancel)
    })?;
    hold.still()?;
    let fenced = Instant::now();
    let session = cast.candidate.session()?;
    operation.note(Act::File {
        path: ctx.state.receipt(&operation.id),
    })?;
    let pair = &scene.pair.name;
    let is_brought = request.salvage && lost.transactions.is_some_and(|count| count > 0);
    let kept = match is_brought {
        true => losses::pending(&lost),
        false => lost,
    };
    losses::keep(ctx, pair, dead, &cast, (&has, &kept), &operation.id)?;
    let bring = logs.as_ref().ok().filter(|_| is_brought);
    let bring = bring.map(|logs| Act::Salvage {
        on: cast.candidate.reach(),
        logs: logs.clone(),
        work: salvage::work(ctx, &operation.id),
    });
    failpoint::hit("opening:before");
    if rest::is_late(fenced) {
        fence::is_silent(&target)?;
    }
    let ready = (session, has, fenced);
    open(ctx, scene, operation, cast, ready, bring).map(|opened| Opened { logs, ..opened })
}

/// The replica that has most, of those that applied what they received, and what it has.
fn chosen(
    ctx: &Context,
    scene: &Scene<'_>,
    request: &Request,
    candidates: &assess::Candidates,
    dead: &Target,
    operation: &mut Operation,
) -> Result<(usize, GtidSet), SnapshotError> {
    let parties = parties(ctx, scene, candidates)?;
    operation.step(steps::EVIDENCE, |operation| {
        evidence::is_dead(ctx, operation, dead, &parties, request.confirm)
    })?;
    let mut drained = Vec::new();
    operation.step(steps::DRAIN, |_| {
        for (party, channel) in &parties {
            drained.push(drain(party, channel, request.drain)?);
        }
        let behind: Vec<String> = drained.iter().filter_map(Drained::left).collect();
        Ok::<_, SnapshotError>(Outcome::Changed(match behind.is_empty() {
            true => "all that was received is applied".to_owned(),
            false => behind.join("; "),
        }))
    })?;
    let mut best = 0;
    operation.step(steps::ELECT, |_| {
        best = elect(&drained, candidates.good.len())?;
        Ok::<_, SnapshotError>(Outcome::Verified(format!(
            "{} has most: {}",
            drained[best].name,
            drained[best].executed.to_line()
        )))
    })?;
    Ok((best, drained.swap_remove(best).executed))
}

/// Without salvage no program is waited for: what this host sees is counted.
fn find_logs(
    ctx: &Context,
    scene: &Scene<'_>,
    request: &Request,
    target: &Target,
    operation: &str,
) -> Result<LogPlace, String> {
    let configured = scene.pair.failover.salvage.as_deref();
    let program = configured.filter(|_| request.salvage);
    let program = program.map(|argv| (argv, scene.pair.name.as_str(), target));
    salvage::place(ctx, scene.known(&target.server), program, operation)
}

/// From here on it is carried through.
fn open(
    ctx: &Context,
    scene: &Scene<'_>,
    operation: &mut Operation,
    cast: Cast,
    (session, mut has, fenced): (Session, GtidSet, Instant),
    bring: Option<Act>,
) -> Result<Opened, SnapshotError> {
    let mut rest = rest::of(ctx, scene, &cast);
    // After the look at who else is the source.
    rest.splice(
        1..1,
        bring.iter().map(|act| Rest {
            act: act.clone(),
            gate: false,
        }),
    );
    rest.push(Rest {
        act: Act::Tree {
            path: salvage::work(ctx, &operation.id),
        },
        gate: false,
    });
    rest::see_alone(operation, scene, &cast, fenced)?;
    operation.commit(rest)?;
    rest::see_alone(operation, scene, &cast, fenced)?;
    let mut slot = Some(session);
    let mut left = None;
    if let Some(act) = &bring {
        let since = Instant::now();
        let came = operation.act(act);
        let (result, detail) = match came {
            Ok(words) => ("changed", words.unwrap_or_default()),
            Err(error) => ("failed", error.to_string()),
        };
        left = (result == "failed").then(|| detail.clone());
        operation
            .steps
            .push(step(steps::BRING, result, detail, since.elapsed()));
        let (session, text) = observe_gtid(slot.take().ok_or_else(lost_connection)?, false)?;
        has = cast.candidate.flavour.parse_gtid(&text).unwrap_or(has);
        slot = Some(session);
    }
    failpoint::hit("bring:after");
    let since = Instant::now();
    rest::see_alone(operation, scene, &cast, fenced)?;
    for statement in cast.candidate.flavour.open() {
        let session = slot.take().ok_or_else(lost_connection)?;
        slot = Some(session.execute(&statement, STATEMENT_LIMIT)?);
    }
    failpoint::hit("open:in");
    operation.gate_is_done();
    let detail = format!("{} takes writes", cast.candidate.name);
    let opened = step(steps::OPEN, "changed", detail, since.elapsed());
    operation.steps.push(opened);
    Ok(Opened {
        cast,
        has,
        logs: Err(String::new()),
        left,
    })
}

fn lost_connection() -> SnapshotError {
    SnapshotError::Failed {
        step: "open",
        reason: "the connection was lost".to_owned(),
        hint: None,
    }
}
