//! `failover PAIR`: the source is dead. Evidence, drain, elect, fence; then a replica is opened, the
//! others follow it, and a receipt says what may be lost.

use std::time::{Duration, Instant};

use super::assess;
use super::evidence;
use super::fence::{self, Fence};
use super::hold;
use super::moment::{prove, wait};
use super::report::{Ended, Kind, Lost, Report};
use super::rest::{self, Cast, step};
use super::salvage;
use super::scene::{Scene, targets};
use super::switchover::put_back;
use crate::journal::act::Act;
use crate::journal::operation::Outcome;
use crate::journal::receipt::{self, Receipt};
use crate::journal::{Beginning, InHand, Operation, OperationKind, Party};
use crate::server::channel::ChannelName;
use crate::server::gtid::GtidSet;
use crate::server::replication::{observe_channels, observe_gtid};
use crate::snapshot::error::Refusal;
use crate::snapshot::{Context, SnapshotError, id};
use crate::sys::{clock, failpoint, files};

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
    /// Also soon after the last one.
    pub again: bool,
}

/// What would be done, or what stands against it; changes nothing.
pub fn look(ctx: &Context, request: &Request) -> Result<Report, SnapshotError> {
    let scene = Scene::observe(ctx, &request.pair)?;
    let candidates = decide(ctx, &scene, request)?;
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
        step(
            "evidence",
            "would-verify",
            format!("nobody reaches {name}"),
            Duration::ZERO,
        ),
        would("drain", "what was received is applied".to_owned()),
        step(
            "elect",
            "would-verify",
            format!("now {} has most", cast.candidate.name),
            Duration::ZERO,
        ),
        would("fence", fence.words(name)),
    ];
    let rest = rest::of(ctx, &scene, &cast);
    steps.extend(
        rest.iter()
            .filter_map(|rest| rest.act.words())
            .map(|words| would("then", words)),
    );
    let lost = unknown_loss(name, "");
    Ok(Report {
        lost,
        steps,
        ..Report::of(
            Kind::Failover,
            &scene.pair.name,
            name,
            &cast.candidate.name,
            Ended::Planned,
        )
    })
}

fn decide(
    ctx: &Context,
    scene: &Scene<'_>,
    request: &Request,
) -> Result<assess::Candidates, SnapshotError> {
    let picture = scene.picture();
    let candidates = assess::failover(&picture, request.to.as_deref(), &scene.pair.failover)
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
    let ways = rest::ways(ctx, scene, dead, &candidate)?;
    Ok(Cast {
        ways,
        candidate,
        old: None,
        others,
        endpoint,
        events: Vec::new(),
    })
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
    let _hold = hold::take(ctx, &targets(ctx, first.pair)?, "failover", Some(&dead))?;
    // Again, now that nobody else of ours changes them.
    let scene = Scene::observe(ctx, &request.pair)?;
    let candidates = decide(ctx, &scene, request)?;
    let parties = candidates
        .followers()
        .map(|server| Ok((scene.party(ctx, server)?, scene.channel(server))))
        .collect::<Result<Vec<_>, SnapshotError>>()?;
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
    let opened = until_opened(
        ctx,
        &scene,
        request,
        fence,
        &candidates,
        &parties,
        &mut operation,
    );
    let (cast, has) = match opened {
        Ok(opened) => opened,
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
    let mut carried = rest::Carried::default();
    rest::carry(&mut operation, usize::MAX, &mut carried);
    let warnings = prove(ctx, &cast);
    // Nobody waits for it any more. Where it fails the receipt stays as it was: not known.
    let found = loss(ctx, &scene, (&dead, &has), &cast.candidate, &operation.id).and_then(|lost| {
        write_receipt(ctx, &scene, &dead, &cast, (&has, &lost), &operation.id)?;
        Ok(lost)
    });
    let lost = found.unwrap_or_else(|error| {
        tracing::warn!(%error, "what was lost isn't known");
        unknown_loss(&dead, &has.to_line())
    });
    let excluded = candidates
        .excluded
        .iter()
        .map(|refusal| refusal.reason.clone());
    let warnings: Vec<String> = carried.failed.iter().cloned().chain(warnings).collect();
    let is_whole = carried.not_repointed.is_empty() && warnings.is_empty();
    let result = match is_whole {
        true => Ended::Done,
        false => Ended::NeedsOperator,
    };
    let steps = [operation.steps.clone(), carried.steps].concat();
    operation.end("done")?;
    Ok(Report {
        lost,
        steps,
        repointed: carried.repointed,
        not_repointed: carried.not_repointed,
        warnings: warnings.into_iter().chain(excluded).collect(),
        ..Report::of(
            Kind::Failover,
            &scene.pair.name,
            &dead,
            &cast.candidate.name,
            result,
        )
    })
}

/// All that can be undone, and the opening.
fn until_opened(
    ctx: &Context,
    scene: &Scene<'_>,
    request: &Request,
    fence: Fence<'_>,
    candidates: &assess::Candidates,
    parties: &[(Party, ChannelName)],
    operation: &mut Operation,
) -> Result<(Cast, GtidSet), SnapshotError> {
    let dead = scene.name(candidates.source).to_owned();
    let target = ctx.target(ctx.server(&dead)?)?;
    operation.step("evidence", |operation| {
        evidence::is_dead(ctx, operation, &target, parties, request.confirm)
    })?;
    let mut drained = Vec::new();
    operation.step("drain", |_| {
        for (party, channel) in parties {
            drained.push(drain(party, channel, request.drain)?);
        }
        let behind: Vec<String> = drained.iter().filter_map(Drained::left).collect();
        Ok::<_, SnapshotError>(Outcome::Changed(match behind.is_empty() {
            true => "all that was received is applied".to_owned(),
            false => behind.join("; "),
        }))
    })?;
    let mut best = 0;
    operation.step("elect", |_| {
        best = elect(&drained, candidates.good.len())?;
        Ok::<_, SnapshotError>(Outcome::Verified(format!(
            "{} has most: {}",
            drained[best].name,
            drained[best].executed.to_line()
        )))
    })?;
    let cast = cast(ctx, scene, &dead, candidates, candidates.good[best])?;
    let has = drained.swap_remove(best).executed;
    if let Some(max) = request.max_loss {
        operation.step("loss", |operation| {
            for path in salvage::files_of(ctx, &operation.id) {
                operation.note(Act::File { path })?;
            }
            let lost = loss(ctx, scene, (&dead, &has), &cast.candidate, &operation.id)?;
            refuse_loss(&lost, max)
        })?;
    }
    operation.step("fence", |_| {
        fence::perform(&scene.pair.name, &target, fence)
    })?;
    let mut slot = Some(cast.candidate.session()?);
    operation.note(Act::File {
        path: ctx.state.receipt(&operation.id),
    })?;
    let lost = unknown_loss(&dead, &has.to_line());
    write_receipt(ctx, scene, &dead, &cast, (&has, &lost), &operation.id)?;

    operation.commit(rest::of(ctx, scene, &cast))?;
    let since = Instant::now();
    for statement in cast.candidate.flavour.open() {
        let session = slot.take().ok_or_else(lost_connection)?;
        slot = Some(session.execute(&statement, STATEMENT_LIMIT)?);
    }
    failpoint::hit("open:in");
    operation.gate_is_done();
    let name = &cast.candidate.name;
    let opened = step(
        "open",
        "changed",
        format!("{name} takes writes"),
        since.elapsed(),
    );
    operation.steps.push(opened);
    Ok((cast, has))
}

/// What the dead source had and the candidate hasn't, by its own binary logs.
fn loss(
    ctx: &Context,
    scene: &Scene<'_>,
    (dead, has): (&str, &GtidSet),
    candidate: &Party,
    operation: &str,
) -> Result<Lost, SnapshotError> {
    let index = scene.index(dead);
    let known = index.and_then(|index| scene.view.servers[index].known.as_ref());
    let identity = known.map(|known| &known.identity);
    Ok(
        match salvage::loss(ctx, identity, candidate, has, operation)? {
            Ok(lost) => lost,
            Err(why) => {
                let unknown = unknown_loss(dead, &has.to_line());
                let reason = unknown.reason.unwrap_or_default();
                Lost {
                    reason: Some(format!("{reason}; {why}")),
                    ..unknown
                }
            }
        },
    )
}

fn refuse_loss(lost: &Lost, max: u64) -> Result<Outcome, SnapshotError> {
    let refused = |what: String| {
        Err(SnapshotError::refused(
            format!("{what}, and --max-loss allows {max}"),
            "To go on all the same, leave --max-loss away, and max_loss out of [pair.NAME.failover].",
        ))
    };
    match lost.transactions {
        Some(count) if lost.known && count <= max => {
            Ok(Outcome::Verified(format!("{count} transactions are lost")))
        }
        Some(count) if lost.known => refused(format!(
            "{count} transactions would be lost ({})",
            lost.gtid
        )),
        Some(_) | None => refused(format!(
            "what is lost can't be told ({})",
            lost.reason.as_deref().unwrap_or_default()
        )),
    }
}

fn lost_connection() -> SnapshotError {
    SnapshotError::Failed {
        step: "open",
        reason: "the connection was lost".to_owned(),
        hint: None,
    }
}

/// A candidate after all that it had received was applied, or wasn't in time.
struct Drained {
    name: String,
    executed: GtidSet,
    received: GtidSet,
}

impl Drained {
    fn left(&self) -> Option<String> {
        let whole = self.received.is_subset_of(&self.executed).unwrap_or(false);
        (!whole).then(|| format!("{} hasn't applied all that it received", self.name))
    }
}

/// Nothing more is fetched, and what was is applied.
fn drain(party: &Party, channel: &ChannelName, limit: Duration) -> Result<Drained, SnapshotError> {
    let session = party.session()?;
    let session = session.execute(&party.flavour.stop_io_thread(channel), STATEMENT_LIMIT)?;
    let (session, channels) = observe_channels(session)?;
    let received = channels
        .iter()
        .find(|link| link.name == *channel)
        .map(|link| link.received.clone())
        .unwrap_or_default();
    let mut slot = Some(session);
    if !received.is_empty() {
        // What isn't applied in time is told, and decided upon then.
        drop(wait(&mut slot, party, &received, limit));
    }
    let session = match slot {
        Some(session) => session,
        None => party.session()?,
    };
    let (_, executed) = observe_gtid(session, true)?;
    let parse = |text: &str| {
        party
            .flavour
            .parse_gtid(text)
            .map_err(|error| SnapshotError::Failed {
                step: "drain",
                reason: format!("{}: {error}", party.name),
                hint: None,
            })
    };
    Ok(Drained {
        name: party.name.clone(),
        executed: parse(&executed)?,
        received: parse(&received)?,
    })
}

/// Of the first `electable`, the one that has all that any other has; the first of equals.
fn elect(drained: &[Drained], electable: usize) -> Result<usize, SnapshotError> {
    let has_all = |one: &Drained| {
        drained.iter().all(|other| {
            let all = other.executed.union(&other.received);
            all.and_then(|all| all.is_subset_of(&one.executed))
                .unwrap_or(false)
        })
    };
    let mut among = drained[..electable].iter();
    among.position(has_all).ok_or_else(|| {
        let told: Vec<String> = drained
            .iter()
            .map(|one| format!("{} has {}", one.name, one.executed.to_line()))
            .collect();
        SnapshotError::Refused {
            refusals: vec![Refusal::new(
                format!(
                    "none that may become the source has all that the others have: {}",
                    told.join(", ")
                ),
                "Name the one that has most with --to (where never excludes it, take it out of that), \
                 give what isn't applied yet more time with --drain, or see with `understudy status` \
                 which has transactions of its own.",
            )],
        }
    })
}

fn unknown_loss(dead: &str, has: &str) -> Lost {
    let at = match has.is_empty() {
        true => String::new(),
        false => format!("; the new source has {has}"),
    };
    Lost {
        known: false,
        gtid: String::new(),
        transactions: None,
        export: None,
        reason: Some(format!(
            "{dead} is dead, and what it hadn't sent to any replica only its own binary logs tell{at}"
        )),
    }
}

fn write_receipt(
    ctx: &Context,
    scene: &Scene<'_>,
    dead: &str,
    cast: &Cast,
    (has, lost): (&GtidSet, &Lost),
    operation: &str,
) -> Result<(), SnapshotError> {
    let receipt = Receipt {
        operation: operation.to_owned(),
        at: clock::rfc3339(clock::now()),
        pair: scene.pair.name.clone(),
        old_source: dead.to_owned(),
        new_source: cast.candidate.name.clone(),
        gtid: has.to_line(),
        lost: lost.clone(),
    };
    let text = serde_json::to_vec_pretty(&receipt).expect("a receipt holds only plain data");
    files::make_private_dir(&ctx.state.receipts())?;
    Ok(files::replace(&ctx.state.receipt(operation), &text)?)
}
