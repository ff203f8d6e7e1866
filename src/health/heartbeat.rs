//! Writes the heartbeat that true lag is read from: on the source only, which is asked for anew
//! before every beat, of the server itself and of those that follow it.

use std::time::{Duration, Instant};

use super::observe::{Look, observe};
use super::roles;
use crate::server::heartbeat::{Beaten, beat};
use crate::server::{Identity, Session};
use crate::snapshot::{Context, SnapshotError};

/// One beat's statements, and one look at the pair.
const LIMIT: Duration = Duration::from_secs(5);
/// The pair isn't looked at more often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon a signal is noticed.
const NAP: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub every: Duration,
    /// `None`: until a signal.
    pub length: Option<Duration>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    pub server: String,
    pub beats: u64,
    /// Beats that were left out since the server wasn't the source, or didn't answer.
    pub left_out: u64,
    /// Why the last one was.
    pub reason: Option<String>,
}

/// Whether the server is the source of its pair now, which its replicas confirm. The error is the
/// reason why it isn't, or why nobody can tell.
pub fn check_is_source(
    ctx: &Context,
    server: &str,
) -> Result<Result<Identity, String>, SnapshotError> {
    let pair = ctx.config.pair_of(server);
    let servers = match pair {
        Some(pair) => {
            let mut servers = vec![pair.source.clone()];
            servers.extend(pair.replicas.iter().cloned());
            servers
        }
        None => vec![server.to_owned()],
    };
    let look = Look {
        limit: LIMIT,
        storage: None,
    };
    let view = observe(ctx, pair.map(|pair| pair.name.as_str()), &servers, &look)?;
    let roles = roles::of(&view);
    let at = servers.iter().position(|name| name == server).unwrap_or(0);
    let Some(condition) = view.servers[at].condition() else {
        return Ok(Err(format!("{server} doesn't answer")));
    };
    let source = roles
        .source
        .map(|source| view.servers[source].name.as_str());
    Ok(match source {
        Some(source) if source == server => match roles.followers(at).next() {
            // Nobody's word but its own: it may be a source of yesterday.
            None if servers.len() > 1 => Err(format!("no replica of the pair follows {server}")),
            _ => Ok(condition.identity.clone()),
        },
        Some(source) => Err(format!("{source} is the source, not {server}")),
        None if condition.is_read_only() == Some(true) => Err(format!("{server} is read-only")),
        None => Err("nothing tells which server is the source".to_owned()),
    })
}

/// Beats until the time is over or a signal comes. A beat that can't be written is left out, and
/// the next one is tried; `told` hears of each.
pub fn run(
    ctx: &Context,
    server: &str,
    options: Options,
    told: &mut dyn FnMut(&Report),
) -> Result<Report, SnapshotError> {
    let target = ctx.target(ctx.server(server)?)?;
    let begun = Instant::now();
    let mut report = Report {
        server: server.to_owned(),
        ..Report::default()
    };
    let mut session: Option<Session> = None;
    let mut looked: Option<(Instant, Identity)> = None;
    let mut next = begun;
    while !ctx.cancel.is_set() && options.length.is_none_or(|length| begun.elapsed() < length) {
        let result = one_beat(
            ctx,
            server,
            &target,
            options.every,
            &mut session,
            &mut looked,
        )?;
        match result {
            Ok(()) => {
                report.beats += 1;
                report.reason = None;
            }
            Err(reason) => {
                report.left_out += 1;
                report.reason = Some(reason);
                session = None;
                looked = None;
            }
        }
        told(&report);
        next = (next + options.every).max(Instant::now());
        while Instant::now() < next && !ctx.cancel.is_set() {
            std::thread::sleep(NAP.min(next.saturating_duration_since(Instant::now())));
        }
    }
    Ok(report)
}

fn one_beat(
    ctx: &Context,
    server: &str,
    target: &crate::server::Target,
    every: Duration,
    session: &mut Option<Session>,
    looked: &mut Option<(Instant, Identity)>,
) -> Result<Result<(), String>, SnapshotError> {
    if looked
        .as_ref()
        .is_none_or(|(at, _)| at.elapsed() >= LOOK_EVERY)
    {
        match check_is_source(ctx, server)? {
            Ok(identity) => *looked = Some((Instant::now(), identity)),
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let Some((_, identity)) = looked else {
        return Ok(Err("it isn't known who is the source".to_owned()));
    };
    let connected = match session.take() {
        Some(session) if session.identity() == identity => Ok(session),
        Some(_) | None => Session::connect_to(target, identity),
    };
    let beaten = connected.and_then(|session| beat(session, every, LIMIT));
    Ok(match beaten {
        Ok((back, Beaten::Written)) => {
            *session = Some(back);
            Ok(())
        }
        Ok((_, Beaten::ReadOnly)) => Err(format!("{server} is read-only or replicates")),
        Err(error) => Err(error.to_string()),
    })
}
