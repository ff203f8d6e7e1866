//! What stands against one server's becoming the source, each with its reason; and against its following
//! another one. No effects.

use std::time::Duration;

use super::look::{self, Burdens, Change, Looked};
use crate::config::FailoverConfig;
use crate::health::check::Status;
use crate::health::failover::{Side, checks};
use crate::health::picture::Picture;
use crate::server::Flavour;
use crate::server::condition::Condition;
use crate::server::replication::{Channel, ChannelName, ThreadState};
use crate::snapshot::error::Refusal;

/// What makes a server no candidate, whether its source lives or not.
pub(super) fn against(picture: &Picture<'_>, source: usize, candidate: usize) -> Vec<Refusal> {
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

/// What the replica tells by itself, of the channel that leads to its pair.
pub(super) fn of_replica(
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
            "See what they are (docs/RULES.md), and provision it again with `understudy setup`.",
        ));
    }
    refusals
}

/// Whether we may drain, turn and open a replica.
pub(super) fn of_follower(picture: &Picture<'_>, burdens: &Burdens, server: usize) -> Looked {
    let name = &picture.server(server).name;
    look::privileges(name, burdens[server].as_ref(), Change::Failover)
}

/// A source that lives is heard by whoever takes its place. One that is connecting, and has met no
/// error, may be there in a moment: the approach waits for it.
pub(super) fn against_io(picture: &Picture<'_>, candidate: usize) -> Option<Refusal> {
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

pub(super) fn against_lag(
    picture: &Picture<'_>,
    candidate: usize,
    max_lag: Duration,
) -> Option<Refusal> {
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

pub(super) fn against_never(
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

/// What a source of MariaDB gets from outside of its pair its replicas have up to when it follows them
/// again: then it has more of that than its new source, which refuses it (error 1236, seen on 10.11.14).
pub(super) fn against_domains(picture: &Picture<'_>, candidate: usize) -> Option<Refusal> {
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

/// A replica of an older series than its source may not understand what that writes; the other way
/// round is what an upgrade needs.
pub(super) fn newer(
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

/// A channel's name that none of these has: the default one, else the pair's, else one more.
pub(super) fn free_channel(taken: &[Channel], pair: &str) -> ChannelName {
    let is_free = |name: &ChannelName| taken.iter().all(|channel| channel.name != *name);
    let more = (1..).map(|number| ChannelName::from(format!("{pair}{number}").as_str()));
    let mut names = [ChannelName::default(), ChannelName::from(pair)]
        .into_iter()
        .chain(more);
    names.find(is_free).unwrap_or_default()
}
