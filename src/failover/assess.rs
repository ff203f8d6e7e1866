//! Whether roles can be moved, and to whom: decided from what was observed. No effects.

use std::time::Duration;

use super::against::{
    against, against_domains, against_io, against_lag, against_never, newer, of_follower,
};
use super::look::{self, Burdens, Change, Looked};
use super::origin::of_pair;
use crate::config::FailoverConfig;
use crate::health::picture::Picture;
use crate::health::view::Answer;
use crate::server::condition::Condition;
use crate::server::gtid::GtidSet;
use crate::snapshot::error::Refusal;

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Wish {
    pub to: Option<String>,
    pub max_lag: Duration,
}

/// Two that can be written to are nobody's to choose between.
pub fn refuse_two_writable(picture: &Picture<'_>) -> Option<Refusal> {
    let servers = &picture.view.servers;
    let writable: Vec<&str> = servers
        .iter()
        .filter(|server| {
            let condition = server.condition();
            condition.is_some_and(|condition| condition.is_read_only() == Some(false))
        })
        .map(|server| server.name.as_str())
        .collect();
    (writable.len() > 1).then(|| {
        Refusal::new(
            format!("{} can all be written to", writable.join(" and ")),
            "`understudy status` shows which has transactions of its own (errant_gtid). Make the one \
             that is wrong read-only (SET GLOBAL super_read_only = ON, MariaDB: read_only), then run \
             `understudy rejoin` for it.",
        )
    })
}

/// A switchover's two servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    pub source: usize,
    pub candidate: usize,
    /// What doesn't stand against it, and is worth knowing before.
    pub notes: Vec<Refusal>,
}

/// A switchover's two servers, or all that stands against it.
pub fn switchover(
    picture: &Picture<'_>,
    burdens: &Burdens,
    wish: &Wish,
    terms: &FailoverConfig,
) -> Result<Chosen, Vec<Refusal>> {
    // What we may not see could look like anything else.
    let Looked { refusals, notes } = look::all_privileges(picture, burdens, Change::Switchover);
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let mut chosen = choose_both(picture, wish, terms)?;
    chosen.notes = notes;
    let (source, candidate) = (chosen.source, chosen.candidate);
    if let Some(burden) = &burdens[source] {
        let looked = look::of_source(&picture.server(source).name, burden);
        if !looked.refusals.is_empty() {
            return Err(looked.refusals);
        }
        chosen.notes.extend(looked.notes);
    }
    let name = &picture.server(candidate).name;
    let burden = burdens[candidate].as_ref();
    let open = burden.and_then(|burden| look::of_candidate(name, burden, Change::Switchover));
    chosen.notes.extend(open);
    let followers = (0..picture.view.servers.len()).filter(|server| *server != candidate);
    chosen.notes.extend(newer(picture, candidate, followers));
    Ok(chosen)
}

fn choose_both(
    picture: &Picture<'_>,
    wish: &Wish,
    terms: &FailoverConfig,
) -> Result<Chosen, Vec<Refusal>> {
    let mut refusals: Vec<Refusal> = refuse_two_writable(picture).into_iter().collect();
    let Some(source) = picture.roles.source else {
        if refusals.is_empty() {
            refusals.push(no_source(picture));
        }
        return Err(refusals);
    };
    let of_source = &picture.view.servers[source];
    match (&of_source.answer, of_source.condition()) {
        (_, Some(condition)) if condition.is_read_only() == Some(true) => {
            refusals.push(Refusal::new(
                format!("{} is the source and read-only", of_source.name),
                "An interrupted operation explains that: run `understudy recover`; else open it: \
                 SET GLOBAL read_only = OFF.",
            ));
        }
        (_, Some(_)) => {}
        (Answer::Silent { reason } | Answer::Refused { reason, .. }, None) => {
            refusals.push(Refusal::new(
                format!("{} doesn't answer: {reason}", of_source.name),
                "When it is dead, use `understudy failover`.",
            ));
        }
        (Answer::Answered(_), None) => {}
    }
    if !refusals.is_empty() {
        return Err(refusals);
    }
    let candidate = choose(picture, source, wish, terms)?;
    let mut refusals = against(picture, source, candidate);
    refusals.extend(against_never(picture, candidate, terms));
    refusals.extend(against_io(picture, candidate));
    refusals.extend(against_lag(picture, candidate, wish.max_lag));
    match refusals.is_empty() {
        true => Ok(Chosen {
            source,
            candidate,
            notes: Vec::new(),
        }),
        false => Err(refusals),
    }
}

fn no_source(picture: &Picture<'_>) -> Refusal {
    let told: Vec<String> = picture
        .view
        .servers
        .iter()
        .map(|server| match server.condition() {
            None => format!("{} doesn't answer", server.name),
            Some(condition) => match condition.is_read_only() {
                Some(true) => format!("{} is read-only", server.name),
                Some(false) => format!("{} can be written to", server.name),
                None => format!("{} doesn't tell whether it is read-only", server.name),
            },
        })
        .collect();
    Refusal::new(
        format!("nobody is the source: {}", told.join(", ")),
        "Run `understudy recover`, then `understudy status`; `understudy setup PAIR` makes a replica \
         follow.",
    )
}

/// The one that is asked for, if it is a replica of the pair.
fn named(picture: &Picture<'_>, source: usize, to: &str) -> Result<usize, Vec<Refusal>> {
    let servers = &picture.view.servers;
    let source_name = &servers[source].name;
    if to == source_name {
        return Err(vec![Refusal::new(
            format!("{to} is the source already"),
            "Name a replica with --to.",
        )]);
    }
    let found = servers.iter().position(|server| server.name == to);
    let Some(found) = found else {
        let known: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        return Err(vec![Refusal::new(
            format!("{to} isn't a server of this pair"),
            format!("Its servers are: {}.", known.join(", ")),
        )]);
    };
    Ok(found)
}

/// The one that is asked for, or the best of those that nothing stands against.
fn choose(
    picture: &Picture<'_>,
    source: usize,
    wish: &Wish,
    terms: &FailoverConfig,
) -> Result<usize, Vec<Refusal>> {
    if let Some(to) = &wish.to {
        return named(picture, source, to);
    }
    let servers = &picture.view.servers;
    let source_name = &servers[source].name;
    let others = (0..servers.len()).filter(|server| *server != source);
    let (mut good, mut refusals) = (Vec::new(), Vec::new());
    for server in others {
        let mut more = against(picture, source, server);
        more.extend(against_never(picture, server, terms));
        match more.is_empty() {
            true => good.push(server),
            false => refusals.extend(more),
        }
    }
    prefer(picture, &mut good, terms);
    // Whoever is near enough has everything before it is opened: they are equals.
    let preferred = good.first().filter(|server| {
        preference(picture, **server, terms).is_some()
            && against_lag(picture, **server, wish.max_lag).is_none()
    });
    preferred
        .copied()
        .or_else(|| best(picture, &good))
        .ok_or_else(|| match refusals.is_empty() {
            true => vec![Refusal::new(
                format!("{source_name} has no replica"),
                "`understudy setup PAIR` makes one.",
            )],
            false => refusals,
        })
}

/// Its place among those that are preferred.
fn preference(picture: &Picture<'_>, server: usize, terms: &FailoverConfig) -> Option<usize> {
    let name = &picture.server(server).name;
    terms.prefer.iter().position(|preferred| preferred == name)
}

/// Those that are preferred first, the others in the configuration's order.
fn prefer(picture: &Picture<'_>, servers: &mut [usize], terms: &FailoverConfig) {
    servers.sort_by_key(|server| preference(picture, *server, terms).unwrap_or(usize::MAX));
}

/// Most transactions first, then the order in which they are given.
pub fn best(picture: &Picture<'_>, among: &[usize]) -> Option<usize> {
    let has = |server: usize| -> Option<GtidSet> {
        let condition = picture.view.servers[server].condition()?;
        let all = has_or_will(condition)?;
        Some(match picture.link(server) {
            Some(link) => of_pair(&all, condition.channel_list(), &link.name),
            None => all,
        })
    };
    among.iter().copied().reduce(|best, other| {
        let more = match (has(best), has(other)) {
            (Some(one), Some(two)) => {
                one.is_subset_of(&two).unwrap_or(false) && !two.is_subset_of(&one).unwrap_or(true)
            }
            (_, _) => false,
        };
        if more { other } else { best }
    })
}

/// Applied, or received and about to be.
pub fn has_or_will(condition: &Condition) -> Option<GtidSet> {
    let mut all = condition.executed.known()?.clone();
    for channel in condition.channel_list() {
        if let Ok(received) = condition.flavour.parse_gtid(&channel.received) {
            all = all.union(&received).ok()?;
        }
    }
    Some(all)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    pub source: usize,
    /// Those that a failover may choose among, the first of equals first.
    pub good: Vec<usize>,
    /// Replicas like them, which were named neither by whoever asks nor by the configuration: they
    /// follow whoever is chosen.
    pub others: Vec<usize>,
    /// Why the others aren't.
    pub excluded: Vec<Refusal>,
    /// What doesn't stand against it, and is worth knowing before.
    pub notes: Vec<Refusal>,
}

impl Candidates {
    /// Who isn't chosen and why, and what is worth knowing.
    pub fn told(&self) -> impl Iterator<Item = String> {
        let all = self.excluded.iter().chain(&self.notes);
        all.map(|refusal| refusal.reason.clone())
    }

    /// All that are drained, and follow whoever is chosen: those that may be chosen first.
    pub fn followers(&self) -> impl Iterator<Item = usize> {
        self.good.iter().chain(&self.others).copied()
    }
}

/// A failover's dead source and whom it may choose among; the two-server table of docs/FAILOVER.md.
pub fn failover(
    picture: &Picture<'_>,
    burdens: &Burdens,
    to: Option<&str>,
    terms: &FailoverConfig,
) -> Result<Candidates, Vec<Refusal>> {
    if let Some(refusal) = refuse_two_writable(picture) {
        return Err(vec![refusal]);
    }
    let servers = &picture.view.servers;
    let Some(source) = picture.roles.source.or_else(|| followed(picture)) else {
        return Err(vec![no_source(picture)]);
    };
    let of_source = &servers[source];
    match &of_source.answer {
        Answer::Answered(_) => {
            return Err(vec![Refusal::new(
                format!("{} answers: nothing is wrong with it", of_source.name),
                "`understudy switchover` moves the role from a source that lives.",
            )]);
        }
        Answer::Refused { reason, hint } => {
            return Err(vec![Refusal::new(
                format!("{} answers: {reason}", of_source.name),
                hint.clone(),
            )]);
        }
        Answer::Silent { .. } => {}
    }
    let Candidates {
        mut good,
        mut others,
        excluded,
        mut notes,
        ..
    } = sorted_out(picture, burdens, source, terms);
    let all: Vec<usize> = good.iter().chain(&others).copied().collect();
    if let Some(to) = to {
        let wanted = named(picture, source, to)?;
        if !good.contains(&wanted) {
            let mut refusals = of_follower(picture, burdens, wanted).refusals;
            if refusals.is_empty() {
                refusals = against(picture, source, wanted);
            }
            refusals.extend(against_never(picture, wanted, terms));
            return Err(refusals);
        }
        others.extend(good.iter().filter(|server| **server != wanted));
        good = vec![wanted];
    }
    if good.is_empty() {
        let dead = servers.iter().all(|server| server.condition().is_none());
        if dead {
            return Err(vec![Refusal::new(
                "none of the pair's servers answers".to_owned(),
                "Start one of them; else `understudy snapshot list` shows the newest proven snapshot, \
                 and `understudy snapshot restore ID --to DIR` gives its data back.",
            )]);
        }
        return Err(excluded);
    }
    let candidates = good.iter().filter_map(|server| {
        let burden = burdens[*server].as_ref()?;
        look::of_candidate(&picture.server(*server).name, burden, Change::Failover)
    });
    notes.extend(candidates);
    notes.extend(
        good.iter()
            .filter_map(|server| against_domains(picture, *server)),
    );
    if let [only] = good[..] {
        notes.extend(newer(picture, only, all));
    }
    Ok(Candidates {
        source,
        good,
        others,
        excluded,
        notes,
    })
}

/// Who may be chosen, who only follows, and who neither.
fn sorted_out(
    picture: &Picture<'_>,
    burdens: &Burdens,
    source: usize,
    terms: &FailoverConfig,
) -> Candidates {
    let (mut good, mut others, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
    let mut notes = Vec::new();
    for server in (0..picture.view.servers.len()).filter(|server| *server != source) {
        let looked = of_follower(picture, burdens, server);
        notes.extend(looked.notes);
        // What we may not see could look like anything else.
        let against = match looked.refusals.is_empty() {
            true => against(picture, source, server),
            false => looked.refusals,
        };
        let never = against_never(picture, server, terms);
        match (against.is_empty(), &never) {
            (true, None) => good.push(server),
            (true, Some(_)) => others.push(server),
            (false, _) => {}
        }
        excluded.extend(against.into_iter().chain(never));
    }
    // Of equals, one that all the others can follow.
    let all: Vec<usize> = good.iter().chain(&others).copied().collect();
    good.sort_by_key(|server| newer(picture, *server, all.iter().copied()).len());
    prefer(picture, &mut good, terms);
    Candidates {
        source,
        good,
        others,
        excluded,
        notes,
    }
}

/// Whom the replicas follow, when it tells nothing itself.
fn followed(picture: &Picture<'_>) -> Option<usize> {
    picture.roles.follows.iter().find_map(|followed| *followed)
}
