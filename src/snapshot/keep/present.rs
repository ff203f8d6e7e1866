//! Who is a pair's source now, and what it has executed: asked of all of its servers at once, within a
//! few seconds, so that a list of snapshots comes also when they are away.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::fit::{self, Fit, History, Stand};
use crate::config::PairConfig;
use crate::journal::receipt;
use crate::server::condition::{self, Condition};
use crate::server::gtid::GtidSet;
use crate::server::{Session, Target};
use crate::snapshot::context::Context;
use crate::snapshot::manifest::{Manifest, State};

/// For all servers of a pair together.
const LIMIT: Duration = Duration::from_secs(2);

/// A server that is the source now.
pub struct Present {
    pub name: String,
    pub target: Target,
    pub condition: Condition,
}

/// The pair's source as it is now, wherever roles have moved since the configuration was written; why
/// that isn't known.
pub fn source(ctx: &Context, pair: &PairConfig) -> Result<Present, String> {
    let names = std::iter::once(&pair.source).chain(&pair.replicas);
    let targets: Vec<Target> = names
        .map(|name| ctx.server(name).and_then(|server| ctx.target(server)))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let mut answered = ask_all(&targets);
    let at = choose(pair, &answered)?;
    let condition = answered.swap_remove(at).map_err(|_| String::new())?;
    Ok(Present {
        name: targets[at].server.clone(),
        target: targets[at].clone(),
        condition,
    })
}

/// Those that don't answer in time are left to themselves.
fn ask_all(targets: &[Target]) -> Vec<Result<Condition, String>> {
    let (sender, receiver) = mpsc::channel();
    let until = Instant::now() + LIMIT;
    for (at, target) in targets.iter().enumerate() {
        let (sender, target) = (sender.clone(), target.clone());
        std::thread::spawn(move || {
            let observed = Session::connect_within(&target, LIMIT)
                .and_then(|session| condition::observe(session, LIMIT))
                .map(|(_, condition)| condition)
                .map_err(|error| error.to_string());
            drop(sender.send((at, observed)));
        });
    }
    drop(sender);
    let silent = |target: &Target| Err(format!("{} doesn't answer in time", target.server));
    let mut answers: Vec<Result<Condition, String>> = targets.iter().map(silent).collect();
    let left = || until.saturating_duration_since(Instant::now());
    while let Ok((at, answer)) = receiver.recv_timeout(left()) {
        answers[at] = answer;
    }
    answers
}

/// The one that takes writes and follows nobody; that follows nobody at all, where none takes writes;
/// the configured one, which may follow somebody outside.
fn choose(pair: &PairConfig, answered: &[Result<Condition, String>]) -> Result<usize, String> {
    let of = |at: usize| answered[at].as_ref().ok();
    let is_open = |at: usize| of(at).is_some_and(|one| one.is_read_only() == Some(false));
    let alone = || {
        (0..answered.len()).filter(|at| {
            let channels = of(*at).and_then(|condition| condition.channels.known());
            channels.is_some_and(Vec::is_empty)
        })
    };
    let open: Vec<usize> = alone().filter(|at| is_open(*at)).collect();
    let closed: Vec<usize> = alone().filter(|at| !is_open(*at)).collect();
    match (&open[..], &closed[..]) {
        ([one], _) => Ok(*one),
        ([], [one]) => Ok(*one),
        ([], []) if is_open(0) => Ok(0),
        ([], _) => Err(match answered.iter().find_map(|one| one.as_ref().err()) {
            Some(reason) => format!("the source of {} isn't reachable: {reason}", pair.name),
            None => format!("no server of {} is its source", pair.name),
        }),
        (several, _) => Err(format!(
            "{} servers of {} take writes",
            several.len(),
            pair.name
        )),
    }
}

/// As it can be compared with.
pub fn history(present: &Present) -> Result<History, String> {
    let Present {
        name, condition, ..
    } = present;
    let unknown = |reason: Option<&str>| {
        let reason = reason.unwrap_or("it doesn't tell");
        format!("what {name} has executed isn't known: {reason}")
    };
    let (executed, applied) = match condition.flavour.is_mariadb() {
        false => (condition.executed.known().cloned(), None),
        true if condition.is_on("log_bin") == Some(true) => {
            let applied = condition.variable("gtid_slave_pos").unwrap_or_default();
            let applied = match condition.flavour.known_gtid(applied).known() {
                Some(GtidSet::Mariadb(applied)) => Some(applied.clone()),
                Some(GtidSet::Mysql(_)) | None => None,
            };
            (condition.written.known().cloned().flatten(), applied)
        }
        true => return Err(unknown(Some("it has no binary log"))),
    };
    if condition
        .variable("gtid_mode")
        .is_some_and(|mode| mode != "ON")
    {
        return Err(unknown(Some("its gtid_mode isn't ON")));
    }
    let reason = condition.executed.reason().map(ToString::to_string);
    Ok(History {
        source: name.clone(),
        executed: executed.ok_or_else(|| unknown(reason.as_deref()))?,
        applied,
    })
}

/// Of each snapshot whether it fits its pair's present source; `None` for one of a server that is in
/// no pair.
pub fn fits(ctx: &Context, snapshots: &[Manifest]) -> Vec<Option<Fit>> {
    let pair_of = |manifest: &Manifest| {
        let recorded = manifest.pair.as_ref();
        recorded
            .and_then(|pair| ctx.config.pairs.get(pair))
            .or_else(|| ctx.config.pair_of(&manifest.server))
    };
    let mut histories: BTreeMap<&str, Result<History, String>> = BTreeMap::new();
    let pairs: BTreeMap<&str, &PairConfig> = snapshots
        .iter()
        .filter_map(pair_of)
        .map(|pair| (pair.name.as_str(), pair))
        .collect();
    std::thread::scope(|scope| {
        let asked: Vec<_> = pairs
            .iter()
            .map(|(name, pair)| {
                let ask = || source(ctx, pair).and_then(|present| history(&present));
                (*name, scope.spawn(ask))
            })
            .collect();
        for (name, asked) in asked {
            let lost = Err("asking the source failed".to_owned());
            histories.insert(name, asked.join().unwrap_or(lost));
        }
    });
    let past = receipt::past(&ctx.state).unwrap_or_default();
    let fit = |manifest: &Manifest| {
        let pair = pair_of(manifest)?.name.as_str();
        Some(fit::judge(stand(manifest, pair), &histories[pair], &past))
    };
    snapshots.iter().map(fit).collect()
}

/// Where a snapshot stands, for `fit::judge`.
pub fn stand<'a>(manifest: &'a Manifest, pair: &'a str) -> Stand<'a> {
    let position = manifest.position.as_ref();
    Stand {
        gtid: position.map_or("", |position| position.gtid.as_str()),
        created: manifest.created,
        pair,
        server: &manifest.server,
        written: position
            .and_then(|position| position.written.as_deref())
            .unwrap_or_default(),
        identity: manifest.server_identity.as_deref().unwrap_or_default(),
        has_several: position.is_some_and(|position| position.channels.len() > 1),
    }
}

/// The newest whole one that fits; where nobody knows, the newest that isn't known not to.
pub fn newest_that_fits(ctx: &Context, of_server: &[Manifest]) -> Result<Option<usize>, Fit> {
    let fits = fits(ctx, of_server);
    let whole = || (0..of_server.len()).filter(|at| of_server[*at].state == State::Complete);
    let fitting = whole().find(|at| fits[*at] == Some(Fit::Fits));
    let found =
        fitting.or_else(|| whole().find(|at| !fits[*at].as_ref().is_some_and(Fit::is_ahead)));
    for passed in whole().take_while(|at| found.is_none_or(|found| *at < found)) {
        if let (Some(Fit::Ahead(ahead)), Some(_)) = (&fits[passed], found) {
            let id = &of_server[passed].id;
            tracing::warn!(
                "{id} is passed over: it is ahead of the present source by {}",
                ahead.words()
            );
        }
    }
    match (found, whole().next()) {
        (None, Some(newest)) => Err(fits[newest].clone().unwrap_or(Fit::Fits)),
        (found, _) => Ok(found),
    }
}
