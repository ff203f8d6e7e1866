//! `repoint SERVER --to SOURCE`: one replica follows another server of its pair.

use std::time::Duration;

use serde::Serialize;

use super::hold;
use super::look;
use super::rest::step;
use super::scene::Scene;
use super::steps;
use crate::health::errant;
use crate::journal::act::{Act, Link};
use crate::journal::operation::{Outcome, Step};
use crate::journal::{Beginning, InHand, Operation, OperationKind, Party};
use crate::server::Flavour;
use crate::snapshot::{Context, SnapshotError, id};
use crate::sys::clock;

#[derive(Debug, Clone)]
pub struct Request {
    pub server: String,
    pub to: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    pub server: String,
    pub from: Option<String>,
    pub to: String,
    pub dry_run: bool,
    pub steps: Vec<Step>,
}

/// What is needed: who, from where, to where.
struct Ready {
    party: Party,
    before: Link,
    after: Link,
}

impl Ready {
    /// What came of the look, as the first step of the report.
    fn looked(&self) -> Step {
        let detail = format!("{} has all that {} has", self.after.to, self.party.name);
        step(steps::LOOK, "verified", detail, Duration::ZERO)
    }

    fn report(&self, steps: Vec<Step>, dry_run: bool) -> Report {
        Report {
            server: self.party.name.clone(),
            from: Some(self.before.to.clone()),
            to: self.after.to.clone(),
            dry_run,
            steps,
        }
    }
}

pub fn look(ctx: &Context, request: &Request) -> Result<Report, SnapshotError> {
    let pair = pair_of(ctx, &request.server)?;
    let scene = Scene::observe(ctx, pair)?;
    let ready = hold::or_in_motion(ctx, pair, decide(ctx, &scene, request))?;
    let detail = format!("{} follows {}", request.server, request.to);
    let planned = step(steps::FOLLOW, "would-change", detail, Duration::ZERO);
    Ok(ready.report(vec![ready.looked(), planned], true))
}

/// The pair that a server is of.
pub fn pair_of<'a>(ctx: &'a Context, server: &str) -> Result<&'a str, SnapshotError> {
    ctx.server(server)?;
    let pair = ctx.config.pair_of(server);
    pair.map(|pair| pair.name.as_str()).ok_or_else(|| {
        SnapshotError::refused(
            format!("{server} is in no pair"),
            "Name it in a [pair.NAME] of the configuration.",
        )
    })
}

fn decide(ctx: &Context, scene: &Scene<'_>, request: &Request) -> Result<Ready, SnapshotError> {
    let (name, to) = (&request.server, &request.to);
    let index = |name: &str| {
        scene.index(name).ok_or_else(|| {
            SnapshotError::refused(
                format!("{name} isn't a server of the pair {}", scene.pair.name),
                "Name one of its servers.",
            )
        })
    };
    let (own, new) = (index(name)?, index(to)?);
    if own == new {
        return Err(SnapshotError::refused(
            format!("{name} can't follow itself"),
            "Name another server with --to.",
        ));
    }
    let seen = scene.allowed(ctx, new, Flavour::shows_links)?;
    let turned = scene.allowed(ctx, own, Flavour::turns_a_replica)?;
    look::refuse_missing(turned.and(seen))?;
    let party = scene.party(ctx, own)?;
    let conditions = scene.condition(own).zip(scene.condition(new));
    let Some((condition, of_source)) = conditions else {
        return Err(SnapshotError::refused(
            "one of the two doesn't answer".to_owned(),
            "See `understudy status`.",
        ));
    };
    let picture = scene.picture();
    let channels = condition.channel_list();
    // One that follows nobody of the pair, and one server only, is meant all the same.
    let alone = channels.first().filter(|_| channels.len() == 1);
    let Some(link) = picture.link(own).or(alone) else {
        let others = channels.len();
        if others > 1 {
            return Err(SnapshotError::refused(
                format!("none of the {others} channels of {name} leads to a server of its pair"),
                "`understudy setup PAIR` makes one.",
            ));
        }
        return Err(SnapshotError::refused(
            format!("{name} follows nobody"),
            format!(
                "`understudy rejoin {name}` makes a former source follow, `understudy setup {}` a new replica.",
                scene.pair.name
            ),
        ));
    };
    if leads_to(&picture.roles.follows, new, own) {
        return Err(SnapshotError::refused(
            format!("{to} follows {name}: they would follow each other"),
            "`understudy switchover` exchanges their roles.",
        ));
    }
    let errant = errant::errant(condition, of_source);
    match errant.known().map(String::as_str) {
        Some("") => {}
        Some(more) => {
            return Err(SnapshotError::refused(
                format!("{name} has transactions that {to} hasn't: {more}"),
                format!("Wait until {to} has them, or provision {name} again."),
            ));
        }
        None => {
            return Err(SnapshotError::refused(
                format!("whether {to} has all that {name} has isn't known"),
                "See `understudy status`.",
            ));
        }
    }
    let endpoint = scene.reached_at(new)?;
    let from = picture.roles.follows[own].map_or(link.source_host.clone(), |followed| {
        scene.name(followed).to_owned()
    });
    let before = Link {
        channel: link.name.clone(),
        to: from,
        host: link.source_host.clone(),
        port: link.source_port,
        fresh: None,
    };
    let after = Link {
        to: to.clone(),
        host: endpoint.0,
        port: endpoint.1,
        ..before.clone()
    };
    Ok(Ready {
        party,
        before,
        after,
    })
}

/// Whether a server follows another one, over others too.
fn leads_to(follows: &[Option<usize>], from: usize, to: usize) -> bool {
    let next = |server: &usize| follows.get(*server).copied().flatten();
    // No more steps than there are servers, or it goes round without it.
    std::iter::successors(Some(from), next)
        .skip(1)
        .take(follows.len())
        .any(|server| server == to)
}

pub fn perform(ctx: &Context, request: &Request) -> Result<Report, SnapshotError> {
    let pair = pair_of(ctx, &request.server)?;
    let mut targets = vec![ctx.target(ctx.server(&request.server)?)?];
    // So that nobody turns that one to this one meanwhile; what it is otherwise, is looked at below.
    if let Some(to) = ctx.config.servers.get(&request.to)
        && request.to != request.server
    {
        targets.push(ctx.target(to)?);
    }
    let _hold = hold::take(ctx, &targets, "repoint", None)?;
    let scene = Scene::observe(ctx, pair)?;
    let ready = decide(ctx, &scene, request)?;
    let id = id::new(&format!("repoint-{}", request.server), clock::now());
    let mut operation = ctx.begin(Beginning {
        operation: &id,
        kind: OperationKind::Repoint,
        parties: &[&request.server],
        settled_by: None,
    })?;
    operation.steps.push(ready.looked());
    let turned = operation.step(steps::FOLLOW, |operation| turn(operation, &ready));
    // Without its end in the journal a later `recover` would turn it back.
    let turned = turned.and_then(|()| Ok(operation.close("done")?));
    match turned {
        Ok(()) => Ok(ready.report(operation.steps.clone(), false)),
        Err(error) => Err(super::switchover::put_back(
            operation,
            error,
            &request.server,
            false,
        )),
    }
}

fn turn(operation: &mut Operation, ready: &Ready) -> Result<Outcome, SnapshotError> {
    let follow = |link: &Link| Act::Follow {
        on: ready.party.reach(),
        link: Box::new(link.clone()),
    };
    operation.note(follow(&ready.before))?;
    let words = operation
        .act(&follow(&ready.after))
        .map_err(|error| SnapshotError::Failed {
            step: "follow",
            reason: error.to_string(),
            hint: None,
        })?;
    Ok(Outcome::Changed(words.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::leads_to;

    #[test]
    fn a_ring_is_seen_over_any_number_of_servers() {
        // 1 follows 0, 2 follows 1, 3 follows nobody of them; 4 and 5 follow each other.
        let follows = [None, Some(0), Some(1), None, Some(5), Some(4)];
        for (from, to, wanted) in [
            (2, 0, true),
            (2, 1, true),
            (1, 2, false),
            (0, 2, false),
            (3, 0, false),
            (4, 0, false),
            (4, 5, true),
        ] {
            assert_eq!(leads_to(&follows, from, to), wanted, "{from} {to}");
        }
    }
}
