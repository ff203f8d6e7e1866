//! Whether roles can be moved, and to whom: decided from what was observed. No effects.

use std::time::Duration;

use super::look::{self, Burdens, Change, Looked};
use super::origin::of_pair;
use crate::config::FailoverConfig;
use crate::health::check::Status;
use crate::health::failover::{Side, checks};
use crate::health::picture::Picture;
use crate::health::view::Answer;
use crate::server::Flavour;
use crate::server::condition::Condition;
use crate::server::gtid::GtidSet;
use crate::server::replication::{Channel, ChannelName, ThreadState};
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

/// A source that lives is heard by whoever takes its place. One that is connecting, and has met no
/// error, may be there in a moment: the approach waits for it.
fn against_io(picture: &Picture<'_>, candidate: usize) -> Option<Refusal> {
    let link = picture.link(candidate)?;
    let why = match (link.io, link.io_error.as_str()) {
        (ThreadState::Running, _) | (ThreadState::Connecting | ThreadState::Unknown, "") => {
            return None;
        }
        (ThreadState::Stopped, "") => "its IO thread was stopped",
        (ThreadState::Stopped | ThreadState::Connecting | ThreadState::Unknown, error) => error,
    };
    let name = &picture.server(candidate).name;
    Some(Refusal::new(
        format!("{name} receives nothing from its source: {why}"),
        "Cure that first; `understudy status` says more.",
    ))
}

/// A replica of an older series than its source may not understand what that writes; the other way
/// round is what an upgrade needs.
fn newer(
    picture: &Picture<'_>,
    candidate: usize,
    followers: impl IntoIterator<Item = usize>,
) -> Vec<Refusal> {
    let flavour = |server: usize| {
        let condition = picture.server(server).condition();
        condition.map(|condition| &condition.flavour)
    };
    let Some(own) = flavour(candidate) else {
        return Vec::new();
    };
    let series = |flavour: &Flavour| (flavour.version.0, flavour.version.1);
    let name = &picture.server(candidate).name;
    let older = followers.into_iter().filter_map(|server| {
        let other = flavour(server).filter(|other| series(other) < series(own))?;
        let other_name = &picture.server(server).name;
        Some(Refusal::new(
            format!(
                "{other_name} ({}) is older than {name} ({}), and may not be able to follow it",
                other.text, own.text
            ),
            format!("Upgrade {other_name}, or name one with --to that all the others can follow."),
        ))
    });
    older.collect()
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

fn against_never(
    picture: &Picture<'_>,
    candidate: usize,
    terms: &FailoverConfig,
) -> Option<Refusal> {
    let name = &picture.server(candidate).name;
    terms.never.contains(name).then(|| {
        Refusal::new(
            format!("{name} never becomes the source (never in the configuration)"),
            "Name another one with --to, or take it out of never in [pair.NAME.failover].",
        )
    })
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

/// What makes a server no candidate, whether its source lives or not.
fn against(picture: &Picture<'_>, source: usize, candidate: usize) -> Vec<Refusal> {
    let server = picture.server(candidate);
    let Some(condition) = server.condition() else {
        return vec![Refusal::new(
            format!("{} doesn't answer", server.name),
            "See why, with `understudy status`.",
        )];
    };
    let mut refusals = of_replica(picture, candidate, &server.name, condition);
    if picture.roles.follows[candidate] != Some(source) {
        refusals.push(Refusal::new(
            format!(
                "{} doesn't follow {}",
                server.name,
                picture.server(source).name
            ),
            "`understudy setup PAIR` makes it follow.",
        ));
        return refusals;
    }
    if let Some(of_source) = picture.server(source).condition() {
        refusals.extend(against_domains(picture, candidate));
        let side = |name, condition| Side {
            name,
            condition,
            parity: None,
        };
        let all = checks(
            side(&server.name, condition),
            side(&picture.server(source).name, of_source),
        );
        let failed = all.into_iter().filter(|check| check.status == Status::Fail);
        refusals.extend(failed.map(|check| Refusal::new(check.message, check.hint)));
    }
    refusals
}

/// What a source of MariaDB gets from outside of its pair its replicas have up to when it follows them
/// again: then it has more of that than its new source, which refuses it (error 1236, seen on 10.11.14).
fn against_domains(picture: &Picture<'_>, candidate: usize) -> Option<Refusal> {
    let condition = picture.server(candidate).condition()?;
    let has_others = condition.channel_list().len() > 1;
    let is_refused = condition.is_on("gtid_ignore_duplicates") == Some(false);
    let name = &picture.server(candidate).name;
    (has_others && is_refused).then(|| {
        Refusal::new(
            format!(
                "{name} follows servers outside of its pair too: once the source, it couldn't follow \
                 again while gtid_ignore_duplicates is OFF"
            ),
            "gtid_ignore_duplicates = ON in its option file, and STOP ALL SLAVES; SET GLOBAL \
             gtid_ignore_duplicates = ON; START ALL SLAVES.",
        )
    })
}

/// A channel's name that none of these has: the default one, else the pair's, else one more.
pub fn free_channel(taken: &[Channel], pair: &str) -> ChannelName {
    let is_free = |name: &ChannelName| taken.iter().all(|channel| channel.name != *name);
    let more = (1..).map(|number| ChannelName::from(format!("{pair}{number}").as_str()));
    let mut names = [ChannelName::default(), ChannelName::from(pair)]
        .into_iter()
        .chain(more);
    names.find(is_free).unwrap_or_default()
}

/// What the replica tells by itself, of the channel that leads to its pair.
pub fn of_replica(
    picture: &Picture<'_>,
    server: usize,
    name: &str,
    condition: &Condition,
) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    if condition.is_on("log_bin") != Some(true)
        || condition.is_on("log_replica_updates") != Some(true)
    {
        refusals.push(Refusal::new(
            format!("{name} writes no binary log of what it applies: nobody could follow it"),
            "log_bin = ON and log_slave_updates (log_replica_updates) = ON in its option file, and a \
             restart.",
        ));
    }
    let link = picture.link(server);
    let links = link.map_or(condition.channel_list(), std::slice::from_ref);
    for channel in links {
        if channel.delay_s > 0 {
            refusals.push(Refusal::new(
                format!("{name} is kept {} s behind on purpose", channel.delay_s),
                "Name another one with --to.",
            ));
        }
        if !channel.filters.is_empty() {
            refusals.push(Refusal::new(
                format!(
                    "{name} doesn't apply all of its source: {}",
                    channel.filters.join(", ")
                ),
                "Name another one with --to; without the filter it would have to be provisioned again.",
            ));
        }
        if channel.sql != ThreadState::Running {
            let why = match channel.sql_error.is_empty() {
                true => "it was stopped",
                false => channel.sql_error.as_str(),
            };
            refusals.push(Refusal::new(
                format!("the applier of {name} doesn't run: {why}"),
                "Cure that first; `understudy status` says more.",
            ));
        }
        if channel.uses_gtid == Some(false) {
            refusals.push(Refusal::new(
                format!("{name} follows by file and position"),
                "`understudy setup PAIR` makes it follow by GTID.",
            ));
        }
    }
    if let Some(Some(errant)) = picture.errant.get(server).map(|fact| fact.as_ref())
        && let Some(errant) = errant.known().filter(|errant| !errant.is_empty())
    {
        refusals.push(Refusal::new(
            format!("{name} has transactions of its own: {errant}"),
            "See what they are (docs/HEALTH.md), and provision it again with `understudy setup`.",
        ));
    }
    refusals
}

fn against_lag(picture: &Picture<'_>, candidate: usize, max_lag: Duration) -> Option<Refusal> {
    let name = &picture.server(candidate).name;
    const HINT: &str = "Wait until it has caught up, or allow more with --max-lag.";
    match picture.lags[candidate].as_ref()? {
        Ok(lag) => {
            let behind = lag.behind;
            (behind > max_lag).then(|| {
                Refusal::new(
                    format!(
                        "{name} is {} behind",
                        humantime::format_duration(Duration::from_millis(
                            u64::try_from(behind.as_millis()).unwrap_or(u64::MAX)
                        ))
                    ),
                    HINT,
                )
            })
        }
        Err(reason) => Some(Refusal::new(
            format!("how far {name} is behind isn't known: {reason}"),
            HINT,
        )),
    }
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
    let (mut good, mut others, mut excluded) = (Vec::new(), Vec::new(), Vec::new());
    let mut notes = Vec::new();
    for server in (0..servers.len()).filter(|server| *server != source) {
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

/// Whether we may drain, turn and open a replica.
fn of_follower(picture: &Picture<'_>, burdens: &Burdens, server: usize) -> Looked {
    let name = &picture.server(server).name;
    look::privileges(name, burdens[server].as_ref(), Change::Failover)
}

/// Whom the replicas follow, when it tells nothing itself.
fn followed(picture: &Picture<'_>) -> Option<usize> {
    picture.roles.follows.iter().find_map(|followed| *followed)
}
