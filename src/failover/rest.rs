//! What remains once the candidate is opened, and is carried through: its own link goes, everybody
//! else follows it, events run where they ran.

use std::time::{Duration, Instant};

use super::scene::{Endpoint, Scene};
use super::semi_sync::Moving;
use super::steps;
use crate::config::TlsMode;
use crate::journal::act::{Act, ActError, FreshLink, Link, Reach, Rest};
use crate::journal::operation::Step;
use crate::journal::{Operation, Party};
use crate::replication::account;
use crate::reroute::{self, Destination, Origin, RerouteAct};
use crate::server::channel::ChannelName;
use crate::server::promotion::Event;
use crate::snapshot::error::Refusal;
use crate::snapshot::{Context, SnapshotError};

use super::report::NotRepointed;

/// What comes between the fence and the opening takes less, unless somebody or something is held up.
const LATE: Duration = Duration::from_secs(2);

/// The servers of one change of roles.
pub struct Cast {
    pub candidate: Party,
    /// `None` when it is dead.
    pub old: Option<Party>,
    /// How it is reached should it come back, where it was seen before.
    pub dead: Option<Reach>,
    /// The other replicas that follow the old source.
    pub others: Vec<Party>,
    /// Where everybody reaches the candidate.
    pub endpoint: Endpoint,
    /// Enabled on the old source, as far as it told.
    pub events: Vec<Event>,
    /// Semi-synchronous replication.
    pub semi_sync: Moving,
    /// How clients are led there, each looked at beforehand.
    pub ways: Vec<RerouteAct>,
    /// What is worth knowing of them beforehand.
    pub told_of_ways: Vec<String>,
}

impl Cast {
    /// Those that don't take writes, and must not when the source or the candidate is opened.
    pub fn closed(&self, scene: &Scene<'_>) -> Vec<Reach> {
        let is_closed = |party: &&Party| {
            let condition = scene
                .index(&party.name)
                .and_then(|index| scene.condition(index));
            condition.is_some_and(|condition| condition.is_read_only() == Some(true))
        };
        self.others
            .iter()
            .filter(is_closed)
            .map(Party::reach)
            .collect()
    }

    /// What is seen before the candidate is opened; `closes`: a former source that takes writes again is
    /// closed then, else that stands against it.
    fn unmoved(&self, scene: &Scene<'_>, closes: bool) -> Act {
        let old = self.old.as_ref().map(Party::reach);
        Act::Unmoved {
            from: old.or_else(|| self.dead.clone()),
            to: self.candidate.reach(),
            others: self.closed(scene),
            closes,
        }
    }
}

/// The rest, the opening first: all else waits for that.
pub fn of(ctx: &Context, scene: &Scene<'_>, cast: &Cast) -> Vec<Rest> {
    let candidate = &cast.candidate;
    let statements = |words: &str, statements: Vec<String>| on(candidate, words, statements);
    let mut rest = vec![Rest {
        act: cast.unmoved(scene, cast.old.is_some()),
        gate: true,
    }];
    if let Some(old) = &cast.old {
        // Killed before the opening, the old source may have restarted, and take writes again.
        rest.push(Rest {
            act: on(
                old,
                "keep it closed for writers",
                vec![old.flavour.close().to_owned()],
            ),
            gate: false,
        });
    }
    rest.push(Rest {
        act: statements("open it for writers", candidate.flavour.open()),
        gate: true,
    });
    rest.extend(cast.semi_sync.to_candidate(candidate));
    let mut part = |act| rest.push(Rest { act, gate: false });
    if !cast.ways.is_empty() {
        part(Act::Reroute {
            ways: cast.ways.clone(),
        });
    }
    // After the opening: what still slipped through the fence arrives instead of being lost.
    part(statements(
        "end its own replication",
        candidate
            .flavour
            .forget_channel(&channel_of(scene, candidate)),
    ));
    for event in &cast.events {
        part(statements(
            &format!("wake the event {}", event.full_name()),
            candidate.flavour.wake(event),
        ));
    }
    // Both start as what they are now.
    if candidate.flavour.close_for_good().is_some() {
        let forgotten = ["super_read_only", "read_only"];
        let forgotten = forgotten.map(|name| candidate.flavour.forget_persisted(name));
        part(statements("keep it open after a restart", forgotten.into()));
    }
    if let Some(old) = &cast.old {
        if let Some(closed) = old.flavour.close_for_good() {
            let closed = closed.iter().map(|one| (*one).to_owned()).collect();
            part(on(old, "keep it closed after a restart", closed));
        }
        rest.extend(cast.semi_sync.to_old(old));
        let act = follow(ctx, scene, cast, old, true);
        rest.push(Rest { act, gate: false });
    }
    for other in &cast.others {
        let act = follow(ctx, scene, cast, other, false);
        rest.push(Rest { act, gate: false });
    }
    rest
}

/// Whether the process was stopped between the fence and now: nothing is then as it was seen.
pub fn is_late(fenced: Instant) -> bool {
    fenced.elapsed() > LATE
}

/// What comes late after the fence: nobody takes writes instead by now.
pub fn see_alone(
    operation: &Operation,
    scene: &Scene<'_>,
    cast: &Cast,
    fenced: Instant,
) -> Result<(), SnapshotError> {
    if !is_late(fenced) {
        return Ok(());
    }
    // Past the commit a source that was closed, and opened by somebody, is closed again.
    let closes = operation.is_committed() && cast.old.is_some();
    let seen = operation.act(&cast.unmoved(scene, closes));
    match seen {
        Ok(_) => Ok(()),
        Err(ActError::Moved(words)) if operation.is_committed() => Err(given_up(&words)),
        Err(error) => Err(SnapshotError::Failed {
            step: "open",
            reason: error.to_string(),
            hint: None,
        }),
    }
}

/// For who finds that somebody else is the source by now.
pub const MOVED_HINT: &str = "Where more than one takes writes, see which of them shall be the source, \
                              and close the other one.";

/// Past the commit, and somebody else is the source by now.
pub fn given_up(words: &str) -> SnapshotError {
    SnapshotError::Moved {
        reason: words.to_owned(),
        hint: MOVED_HINT.to_owned(),
    }
}

fn on(party: &Party, words: &str, statements: Vec<String>) -> Act {
    Act::Statements {
        on: party.reach(),
        words: words.to_owned(),
        statements,
    }
}

/// An event of a server that is closed already: whoever changes it is let in for that moment, and nobody
/// else.
pub fn park(party: &Party, event: &Event) -> Rest {
    let flavour = &party.flavour;
    let lift = flavour.lift_super_read_only().map(str::to_owned);
    let close = lift.as_ref().map(|_| flavour.close().to_owned());
    let statements = lift.into_iter().chain(flavour.park(event)).chain(close);
    let words = format!("park the event {}", event.full_name());
    Rest {
        act: on(party, &words, statements.collect()),
        gate: false,
    }
}

/// The configured ways of clients, each seen to be able; else all that stands against them.
pub fn ways(
    ctx: &Context,
    scene: &Scene<'_>,
    from: &str,
    to: &Party,
) -> Result<(Vec<RerouteAct>, Vec<String>), SnapshotError> {
    let origin = ctx.server(from)?;
    let ways: Vec<RerouteAct> = scene
        .pair
        .reroutes
        .iter()
        .map(|reroute| RerouteAct {
            pair: scene.pair.name.clone(),
            reroute: reroute.clone(),
            from: Origin {
                server: from.to_owned(),
                address: origin.address.clone(),
            },
            to: Destination {
                server: to.name.clone(),
                address: to.target.address.clone(),
                credentials: to.credentials.clone(),
                tls: to.target.tls,
                tls_ca: to.target.tls_ca.clone(),
                identity: to.identity.clone(),
            },
            before: None,
        })
        .collect();
    let came = reroute::side_by_side(&ways, |way| reroute::check_unless(way, &ctx.cancel));
    ctx.cancel.check("looking at the ways of clients")?;
    let (mut able, mut told, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
    for (mut way, came) in ways.into_iter().zip(came) {
        match came {
            Ok(checked) => {
                way.before = Some(checked.before);
                let name = way.reroute.way.name();
                told.extend(
                    checked
                        .warnings
                        .iter()
                        .map(|words| format!("{name}: {words}")),
                );
                able.push(way);
            }
            Err(error) => refusals.push(Refusal::new(error.to_string(), error.hint)),
        }
    }
    match refusals.is_empty() {
        true => Ok((able, told)),
        false => Err(SnapshotError::Refused { refusals }),
    }
}

fn channel_of(scene: &Scene<'_>, party: &Party) -> ChannelName {
    let index = scene.index(&party.name);
    index.map(|index| scene.channel(index)).unwrap_or_default()
}

fn follow(ctx: &Context, scene: &Scene<'_>, cast: &Cast, party: &Party, was_source: bool) -> Act {
    let (host, port) = cast.endpoint.clone();
    Act::Follow {
        on: party.reach(),
        link: Box::new(Link {
            channel: channel_of(scene, party),
            to: cast.candidate.name.clone(),
            host,
            port,
            fresh: was_source.then(|| FreshLink {
                beside: beside(scene, party),
                ..fresh(ctx, &scene.pair.name, &cast.candidate)
            }),
        }),
    }
}

/// As whom a server that followed nobody follows: as setup would have it.
pub fn fresh(ctx: &Context, pair: &str, source: &Party) -> FreshLink {
    FreshLink {
        user: account::USER.to_owned(),
        password_file: account::password_file(&ctx.state, pair),
        tls: source.target.tls,
        tls_ca: source
            .target
            .tls_ca
            .clone()
            .filter(|_| matches!(source.target.tls, TlsMode::VerifyCa | TlsMode::VerifyFull)),
        beside: Vec::new(),
    }
}

fn beside(scene: &Scene<'_>, party: &Party) -> Vec<ChannelName> {
    let index = scene.index(&party.name);
    index.map(|index| scene.outside(index)).unwrap_or_default()
}

/// What came of carrying it through.
#[derive(Default)]
pub struct Carried {
    pub steps: Vec<Step>,
    pub repointed: Vec<String>,
    pub not_repointed: Vec<NotRepointed>,
    /// What else failed, in words.
    pub failed: Vec<String>,
    /// Why nothing after it was done: the candidate isn't open.
    pub stopped: Option<ActError>,
}

/// For --dry-run: the opening, and all that comes after it.
pub fn planned(rest: &[Rest], cast: &Cast) -> Vec<Step> {
    let name = &cast.candidate.name;
    let mut all = vec![step(
        steps::OPEN,
        "would-change",
        format!("{name} takes writes"),
        Duration::ZERO,
    )];
    let gate = rest.iter().rposition(|rest| rest.gate);
    all.extend(would(&rest[gate.map_or(0, |gate| gate + 1)..]));
    if cast.old.is_some() || !cast.others.is_empty() {
        all.push(would_prove(name, "everybody"));
    }
    all
}

/// For --dry-run: what would be carried through.
pub fn would(rest: &[Rest]) -> Vec<Step> {
    let of = |rest: &Rest| {
        let words = rest.act.words()?;
        let name = steps::of_act(&rest.act);
        Some(step(name, "would-change", words, Duration::ZERO))
    };
    rest.iter().filter_map(of).collect()
}

pub fn would_prove(source: &str, whom: &str) -> Step {
    let detail = format!("what is written on {source} comes to {whom}");
    step(steps::PROOF, "would-verify", detail, Duration::ZERO)
}

/// How much of the rest comes before anybody follows the candidate.
pub fn before_follow(operation: &Operation) -> usize {
    let rest = operation.rest().iter();
    rest.take_while(|rest| !matches!(rest.act, Act::Follow { .. }))
        .count()
}

/// Does the first `count` of the rest, and adds what came of it.
pub fn carry(operation: &mut Operation, count: usize, carried: &mut Carried) {
    let ended = operation.carry(&[], count, |act, came, took| {
        let name = steps::of_act(act);
        let (result, detail) = match &came {
            Ok(line) => ("changed", line.unwrap_or_default().to_owned()),
            Err(error) => ("failed", error.to_string()),
        };
        match (act, &came) {
            (Act::Follow { on, .. }, Ok(_)) => carried.repointed.push(on.server.clone()),
            (Act::Follow { on, .. }, Err(_)) => carried.not_repointed.push(NotRepointed {
                server: on.server.clone(),
                reason: detail.clone(),
            }),
            (_, Err(_)) => carried.failed.push(detail.clone()),
            (_, Ok(_)) => {}
        }
        let is_told = came.is_err() || !matches!(act, Act::Tree { .. });
        if is_told {
            carried.steps.push(step(name, result, detail, took));
        }
    });
    carried.stopped = ended.err();
}

pub fn step(name: &'static str, result: &'static str, detail: String, took: Duration) -> Step {
    Step {
        name,
        result,
        detail,
        ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }
}
