//! `rejoin SERVER`: a server that was the source comes back as a replica. It is closed first; what it
//! has and the new source hasn't is never skipped.

use std::time::Duration;

use serde::Serialize;

use super::hold;
use super::moment::prove;
use super::repoint::pair_of;
use super::rest::{self, Cast, step};
use super::scene::Scene;
use super::semi_sync;
use crate::health::errant;
use crate::journal::act::{Act, FreshLink, Link, Rest};
use crate::journal::operation::{Outcome, Step};
use crate::journal::receipt;
use crate::journal::{Beginning, InHand, Operation, OperationKind, Party};
use crate::server::channel::ChannelName;
use crate::snapshot::{Context, SnapshotError, id};
use crate::sys::clock;

const STATEMENT_LIMIT: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub server: String,
    pub source: String,
    pub dry_run: bool,
    pub steps: Vec<Step>,
    pub warnings: Vec<String>,
}

struct Ready {
    party: Party,
    cast: Cast,
    /// What it has and the source hasn't.
    surplus: String,
    link: ChannelName,
    /// Channels that lead elsewhere.
    beside: Vec<ChannelName>,
}

/// Who is the source now: it can be written to, and isn't the one that comes back.
fn decide(ctx: &Context, scene: &Scene<'_>, server: &str) -> Result<Ready, SnapshotError> {
    let own = scene.index(server).ok_or_else(|| {
        SnapshotError::refused(format!("{server} is in no pair"), "See the configuration.")
    })?;
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
    let cast = Cast {
        candidate,
        old: Some(party.clone()),
        others: Vec::new(),
        endpoint,
        events: Vec::new(),
        semi_sync: semi_sync::Moving::default(),
        ways: Vec::new(),
    };
    Ok(Ready {
        party,
        cast,
        surplus,
        link: scene.channel(own),
        beside: scene.outside(own),
    })
}

pub fn look(ctx: &Context, server: &str) -> Result<Report, SnapshotError> {
    let scene = Scene::observe(ctx, pair_of(ctx, server)?)?;
    let ready = decide(ctx, &scene, server)?;
    refuse_surplus(&scene, &ready)?;
    let would = |name, detail| step(name, "would-change", detail, Duration::ZERO);
    let source = &ready.cast.candidate.name;
    Ok(Report {
        server: server.to_owned(),
        source: source.clone(),
        dry_run: true,
        steps: vec![
            would("close", format!("nobody writes to {server}")),
            would("follow", format!("{server} follows {source}")),
        ],
        warnings: Vec::new(),
    })
}

fn refuse_surplus(scene: &Scene<'_>, ready: &Ready) -> Result<(), SnapshotError> {
    if ready.surplus.is_empty() {
        return Ok(());
    }
    let (name, source) = (&ready.party.name, &ready.cast.candidate.name);
    Err(SnapshotError::refused(
        format!(
            "{name} has transactions that {source} hasn't: {} (it is closed for writers)",
            ready.surplus
        ),
        format!(
            "Look at them with mysqlbinlog (mariadb-binlog) on {name}, and write again on {source} \
             what is needed. Then give {name} the data of {source}: make {source} the source of \
             [pair.{}] in the configuration and run `understudy setup {} --replica {name} --provision \
             clone --replace` (or dump).",
            scene.pair.name, scene.pair.name
        ),
    ))
}

pub fn perform(ctx: &Context, server: &str) -> Result<Report, SnapshotError> {
    let pair = pair_of(ctx, server)?;
    let target = ctx.target(ctx.server(server)?)?;
    let _hold = hold::take(ctx, std::slice::from_ref(&target), "rejoin", None)?;
    let scene = Scene::observe(ctx, pair)?;
    let ready = decide(ctx, &scene, server)?;
    let id = id::new(&format!("rejoin-{server}"), clock::now());
    let mut operation = ctx.begin(Beginning {
        operation: &id,
        kind: OperationKind::Rejoin,
        parties: &[server],
        settled_by: None,
    })?;
    // Whatever comes then: it stays closed.
    let closed = operation.step("close", |_| close(&ready.party));
    let may = closed.and_then(|()| refuse_surplus(&scene, &ready));
    if let Err(error) = may {
        operation.end(&format!("closed alone: {error}"))?;
        return Err(error);
    }
    follow(ctx, pair, &ready, operation)
}

fn close(party: &Party) -> Result<Outcome, SnapshotError> {
    let mut session = party.session()?;
    session = session.execute(party.flavour.close(), STATEMENT_LIMIT)?;
    for statement in party.flavour.close_for_good().unwrap_or_default() {
        session = session.execute(statement, STATEMENT_LIMIT)?;
    }
    Ok(Outcome::Changed(format!("nobody writes to {}", party.name)))
}

fn follow(
    ctx: &Context,
    pair: &str,
    ready: &Ready,
    mut operation: Operation,
) -> Result<Report, SnapshotError> {
    let (name, source) = (&ready.party.name, &ready.cast.candidate);
    let (host, port) = ready.cast.endpoint.clone();
    let act = Act::Follow {
        on: ready.party.reach(),
        link: Box::new(Link {
            channel: ready.link.clone(),
            to: source.name.clone(),
            host,
            port,
            fresh: Some(FreshLink {
                beside: ready.beside.clone(),
                ..rest::fresh(ctx, pair, source)
            }),
        }),
    };
    let follow = Rest { act, gate: true };
    let (remains, told) = semi_sync::returning(&ready.party, source, follow);
    operation.commit(remains)?;
    let mut carried = rest::Carried::default();
    rest::carry(&mut operation, usize::MAX, &mut carried);
    if carried.repointed.is_empty() {
        let left = carried.not_repointed.iter().map(|left| left.reason.clone());
        let left: Vec<String> = left.chain(carried.failed).collect();
        return Err(SnapshotError::NeedsOperator {
            reason: format!(
                "{name} is closed, and doesn't follow yet: {}",
                left.join("; ")
            ),
            hint: format!("Cure that, then run `understudy recover {name}`."),
        });
    }
    let warnings = [prove(ctx, &ready.cast), carried.failed, told].concat();
    let steps = [operation.steps.clone(), carried.steps].concat();
    operation.end("done")?;
    receipt::settle(&ctx.state, name)?;
    Ok(Report {
        server: name.clone(),
        source: source.name.clone(),
        dry_run: false,
        steps,
        warnings,
    })
}
