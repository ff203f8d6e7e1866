//! What a replica does, and whether its source can still serve it.

use std::time::Duration;

use super::{Severity, Verdict, graded};
use crate::health::errant;
use crate::health::picture::Picture;
use crate::health::roles::Role;
use crate::journal::lease::Purpose;
use crate::server::condition::Condition;
use crate::server::replication::{Channel, ThreadState};

/// Of a replica that isn't paused on purpose: the first channel that something is true of.
fn channel<'v>(
    picture: &Picture<'v>,
    server: usize,
    is_it: impl Fn(&Channel) -> bool,
) -> Option<&'v Channel> {
    picture
        .replica(server)?
        .channel_list()
        .iter()
        .find(|channel| is_it(channel))
}

/// ` (channel east)`, or nothing for the default one.
fn of_channel(channel: &Channel) -> String {
    match channel.name.as_str() {
        "" => String::new(),
        _ => format!(" ({})", channel.name),
    }
}

fn word(picture: &Picture<'_>, server: usize) -> &'static str {
    match picture.replica(server).map(|c| c.flavour.is_mariadb()) {
        Some(true) => "SLAVE",
        _ => "REPLICA",
    }
}

pub(super) fn not_following(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let pair = picture.view.name.as_ref()?;
    let view = picture.server(server);
    let condition = view.condition()?;
    let channels = condition.channels.known()?;
    let is_source = picture.roles.is_source(server);
    if is_source || picture.roles.follows[server].is_some() || picture.view.servers.len() < 2 {
        return None;
    }
    let message = match channels.first() {
        // With nobody to follow, that is the finding: `pair.no-source`.
        None if picture.roles.source.is_none() => return None,
        None => format!("{} follows nobody", view.name),
        Some(channel) => format!(
            "{} follows {}:{}, which is no server of this pair",
            view.name, channel.source_host, channel.source_port
        ),
    };
    Some(Verdict::new(
        Severity::Critical,
        message,
        format!(
            "`understudy setup {pair} --replica {}` makes it follow the source.",
            view.name
        ),
    ))
}

/// Paused on purpose, within its deadline.
fn is_paused(picture: &Picture<'_>, server: usize) -> bool {
    let pause = picture.server(server).pause.known();
    pause
        .and_then(Option::as_ref)
        .is_some_and(|pause| !pause.left.is_zero())
}

pub(super) fn paused(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let view = picture.server(server);
    let pause = match (&view.pause, view.pause.reason()) {
        (_, Some(reason)) => {
            return Some(Verdict::new(
                Severity::Unknown,
                format!("whether {} is paused can't be known: {reason}", view.name),
                "Run it as root, on the host that takes the snapshots.",
            ));
        }
        (fact, None) => fact.known()?.as_ref()?,
    };
    let by = match pause.purpose {
        Purpose::Snapshot => "a snapshot",
        Purpose::Manual => "`understudy pause`",
    };
    let since = pause
        .age
        .map_or(String::new(), |age| format!(" since {}", words(age)));
    if pause.left.is_zero() {
        return Some(Verdict::new(
            Severity::Critical,
            format!(
                "{} was paused by {by}{since}, and its deadline is past",
                view.name
            ),
            format!("Run `understudy recover {}`.", view.name),
        ));
    }
    Some(Verdict::new(
        Severity::Info,
        format!(
            "{} is paused by {by}{since}, for {} more at most",
            view.name,
            words(pause.left)
        ),
        format!("`understudy resume {}` ends it sooner.", view.name),
    ))
}

/// Whole seconds.
fn words(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}

pub(super) fn io_stopped(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let channel = channel(picture, server, |channel| {
        channel.io == ThreadState::Stopped && channel.io_error.is_empty()
    })?;
    Some(Verdict::new(
        Severity::Critical,
        format!(
            "{} receives nothing: its IO thread is stopped{}",
            picture.server(server).name,
            of_channel(channel)
        ),
        format!(
            "START {} IO_THREAD, when you know who stopped it.",
            word(picture, server)
        ),
    ))
}

pub(super) fn io_error(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let channel = channel(picture, server, |channel| {
        channel.io == ThreadState::Connecting
            || channel.io == ThreadState::Stopped && !channel.io_error.is_empty()
    })?;
    let name = &picture.server(server).name;
    let what = match channel.io_error.as_str() {
        "" => "it doesn't reach it",
        error => error,
    };
    Some(Verdict::new(
        Severity::Critical,
        format!(
            "{name} doesn't receive from {}:{}{}: {what}",
            channel.source_host,
            channel.source_port,
            of_channel(channel)
        ),
        "The message is the server's own: look at account, network, TLS, and the source's binary logs.",
    ))
}

pub(super) fn sql_stopped(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    if is_paused(picture, server) {
        return None;
    }
    let channel = channel(picture, server, |channel| {
        channel.sql == ThreadState::Stopped && channel.sql_error.is_empty()
    })?;
    Some(Verdict::new(
        Severity::Critical,
        format!(
            "{} applies nothing: its SQL thread is stopped{}",
            picture.server(server).name,
            of_channel(channel)
        ),
        format!(
            "START {} SQL_THREAD, when you know who stopped it.",
            word(picture, server)
        ),
    ))
}

pub(super) fn sql_error(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let channel = channel(picture, server, |channel| {
        channel.sql != ThreadState::Running && !channel.sql_error.is_empty()
    })?;
    Some(Verdict::new(
        Severity::Critical,
        format!(
            "{} stopped applying{}: {}",
            picture.server(server).name,
            of_channel(channel),
            channel.sql_error
        ),
        "The replica differs from its source: find out why before anything is skipped; at best \
         provision it anew with `understudy setup`.",
    ))
}

pub(super) fn lag(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let lag = picture.lags[server].as_ref()?.as_ref().ok()?;
    let limits = &picture.limits;
    let severity = graded(
        lag.behind.as_secs_f64(),
        limits.warning_lag.as_secs_f64(),
        limits.critical_lag.as_secs_f64(),
    )?;
    let severity = match is_paused(picture, server) {
        true => Severity::Info,
        false => severity,
    };
    let beyond = match lag.delay.is_zero() {
        true => String::new(),
        false => format!(" its delay of {}", words(lag.delay)),
    };
    Some(Verdict::new(
        severity,
        format!(
            "{} is {} behind{beyond} ({})",
            picture.server(server).name,
            words(lag.behind),
            lag.method.words()
        ),
        "Look for a long transaction, a table without primary key, a slower disk.",
    ))
}

pub(super) fn lag_unknown(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let reason = picture.lags[server].as_ref()?.as_ref().err()?;
    let channels = picture.replica(server)?.channels.known()?;
    // Threads that don't run have rules of their own.
    let run = |channel: &Channel| {
        channel.io == ThreadState::Running && channel.sql == ThreadState::Running
    };
    (!channels.is_empty() && channels.iter().all(run)).then(|| {
        Verdict::new(
            Severity::Unknown,
            format!(
                "how far {} is behind isn't known: {reason}",
                picture.server(server).name
            ),
            "`understudy heartbeat SOURCE --forever` on any host gives the true lag.",
        )
    })
}

const ERRANT_SHOWN_MAX: usize = 200;

pub(super) fn errant_gtids(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let errant = picture.errant[server].as_ref()?.known()?;
    (!errant.is_empty()).then(|| {
        let mut shown: String = errant.chars().take(ERRANT_SHOWN_MAX).collect();
        if shown.len() < errant.len() {
            shown.push('…');
        }
        Verdict::new(
            Severity::Warning,
            format!(
                "{} has transactions that its source hasn't: {shown}",
                picture.server(server).name
            ),
            "Find out what was written there; provision it anew before it is ever promoted.",
        )
    })
}

pub(super) fn writable(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let condition = picture.replica(server)?;
    if picture.roles.roles[server] != Role::Replica {
        return None;
    }
    let name = &picture.server(server).name;
    let mariadb = condition.flavour.is_mariadb();
    if condition.is_read_only() == Some(false) {
        return Some(Verdict::new(
            Severity::Warning,
            format!("the replica {name} accepts writes"),
            match mariadb {
                true => "SET GLOBAL read_only = 1, and read_only = 1 in its option file.",
                false => {
                    "SET PERSIST super_read_only = 1 (before 8.0: SET GLOBAL, and the option file)."
                }
            },
        ));
    }
    (condition.is_on("super_read_only") == Some(false)).then(|| {
        Verdict::new(
            Severity::Warning,
            format!(
                "the replica {name} accepts writes of privileged accounts (super_read_only is off)"
            ),
            "SET PERSIST super_read_only = 1 (before 8.0: SET GLOBAL, and the option file).",
        )
    })
}

pub(super) fn gap_risk(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let replica = picture.replica(server)?;
    let name = &picture.server(server).name;
    let channels = replica.channel_list();
    let warn = |message: String, hint: &str| {
        Some(Verdict::new(Severity::Warning, message, hint.to_owned()))
    };
    let gaps = picture
        .source_of(server)
        .and_then(|source| errant::gaps(replica, source.condition()?));
    let is_still = channels.iter().any(|c| c.sql == ThreadState::Stopped);
    if let Some(gaps) = gaps.filter(|_| is_still) {
        return warn(
            format!("{name} is stopped with gaps in what it applied: {gaps}"),
            "START REPLICA UNTIL SQL_AFTER_MTS_GAPS fills them.",
        );
    }
    if replica.can_leave_gaps {
        return warn(
            format!(
                "a stop of {name} can leave gaps: parallel workers don't keep the commit order"
            ),
            "STOP REPLICA SQL_THREAD; SET PERSIST replica_preserve_commit_order = 1; START REPLICA SQL_THREAD.",
        );
    }
    let without = channels.iter().find(|c| c.uses_gtid == Some(false))?;
    warn(
        format!(
            "{name} follows by file and position{}, not by GTID",
            of_channel(without)
        ),
        "`understudy setup PAIR` makes it follow by GTID.",
    )
}

/// From this share of the logs' life on.
const LIFE_SPENT_WARNING: f64 = 0.5;

pub(super) fn binlog_expiry(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let replica = picture.replica(server)?;
    let source = picture.source_of(server)?;
    let name = &picture.server(server).name;
    if let Some(purged) = purged_of(source.condition()?, source.purged.as_ref())
        && let Some(executed) = replica.executed.known()
        && !purged.is_subset_of(executed).unwrap_or(true)
    {
        return Some(Verdict::new(
            Severity::Critical,
            format!(
                "{name} lacks transactions whose binary logs {} has purged",
                source.name
            ),
            format!(
                "It can't catch up any more: provision it anew (`understudy setup`), and raise \
                 binlog_expire_logs_seconds on {}.",
                source.name
            ),
        ));
    }
    let life = source.condition()?.binary_log_life()?;
    let lag = picture.lags[server].as_ref()?.as_ref().ok()?;
    let behind = lag.behind + lag.delay;
    let spent = behind.as_secs_f64() / life.as_secs_f64();
    (spent >= LIFE_SPENT_WARNING).then(|| {
        Verdict::new(
            Severity::Warning,
            format!(
                "{name} is {} behind, and {} keeps its binary logs for {} only",
                words(behind),
                source.name,
                words(life)
            ),
            format!(
                "Raise binlog_expire_logs_seconds on {} until it has caught up.",
                source.name
            ),
        )
    })
}

/// MySQL tells with everything else; MariaDB was asked when something was amiss.
fn purged_of(
    source: &Condition,
    asked: Option<&crate::sys::Fact<crate::server::gtid::GtidSet>>,
) -> Option<crate::server::gtid::GtidSet> {
    if let Some(text) = source.variable("gtid_purged") {
        return source.flavour.known_gtid(text).known().cloned();
    }
    asked?.known().cloned()
}

pub(super) fn semi_sync_degraded(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let semi_sync = picture.server(server).condition()?.semi_sync?;
    if !picture.roles.is_source(server) || semi_sync.is_active && semi_sync.clients > 0 {
        return None;
    }
    let how = match semi_sync.clients {
        0 => "no replica acknowledges",
        _ => "it fell back to asynchronous",
    };
    Some(Verdict::new(
        Severity::Warning,
        format!(
            "semi-synchronous replication of {} isn't in force: {how}",
            picture.server(server).name
        ),
        "Bring a semi-synchronous replica back; until then a lost source may lose commits.",
    ))
}
