//! The servers of a pair beside each other.

use super::{Severity, Verdict, receipts};
use crate::health::picture::Picture;
use crate::health::view::ServerView;
use crate::server::replication::ThreadState;

fn is_a_pair(picture: &Picture<'_>) -> bool {
    picture.view.name.is_some() && picture.view.servers.len() > 1
}

fn writable(picture: &Picture<'_>) -> Vec<usize> {
    (0..picture.view.servers.len())
        .filter(|server| {
            let condition = picture.server(*server).condition();
            condition.is_some_and(|condition| condition.is_read_only() == Some(false))
        })
        .collect()
}

pub(super) fn no_source(picture: &Picture<'_>) -> Option<Verdict> {
    if !is_a_pair(picture) {
        return None;
    }
    let critical =
        |message: String, hint: &str| Some(Verdict::new(Severity::Critical, message, hint));
    let Some(source) = picture.roles.source else {
        return match writable(picture).as_slice() {
            [] => critical(
                "no server of the pair is its source: none accepts writes and none is followed"
                    .to_owned(),
                "See the servers' own findings; `understudy setup PAIR` makes a pair of two servers.",
            ),
            some => critical(
                format!(
                    "{} accept writes and nothing tells which one is the source",
                    names(picture, some)
                ),
                &receipts::cure(picture).unwrap_or_else(receipts::cure_unknown),
            ),
        };
    };
    let view = picture.server(source);
    match view.condition() {
        Some(condition) if condition.is_read_only() == Some(true) => critical(
            format!("the source {} is read-only: nobody can write", view.name),
            match is_interrupted(view) {
                true => "An interrupted operation explains that: run `understudy recover`.",
                false => {
                    "If it is to be the source: SET GLOBAL super_read_only = 0 (MySQL), SET GLOBAL \
                     read_only = 0."
                }
            },
        ),
        Some(_) => None,
        // A replica that still receives from it knows better than we that it lives.
        None if is_heard(picture, source) => None,
        None => critical(
            format!(
                "the source {} doesn't answer, not to its replicas either",
                view.name
            ),
            "Start it; if it is dead: `understudy failover PAIR`.",
        ),
    }
}

/// By a process that is gone.
fn is_interrupted(view: &ServerView) -> bool {
    let operations = view.unfinished.known();
    operations.is_some_and(|all| all.iter().any(|operation| !operation.is_alive))
}

fn is_heard(picture: &Picture<'_>, source: usize) -> bool {
    picture.roles.followers(source).any(|follower| {
        let condition = picture.server(follower).condition();
        condition.is_some_and(|condition| {
            let channels = condition.channel_list();
            channels.iter().any(|c| c.io == ThreadState::Running)
        })
    })
}

pub(super) fn both_writable(picture: &Picture<'_>) -> Option<Verdict> {
    let writable = writable(picture);
    (is_a_pair(picture) && writable.len() > 1).then(|| {
        Verdict::new(
            Severity::Critical,
            format!("{} both accept writes", names(picture, &writable)),
            receipts::cure(picture).unwrap_or_else(receipts::cure_unknown),
        )
    })
}

fn names(picture: &Picture<'_>, servers: &[usize]) -> String {
    let names: Vec<&str> = servers
        .iter()
        .map(|server| picture.server(*server).name.as_str())
        .collect();
    names.join(" and ")
}

pub(super) fn duplicate_server_id(picture: &Picture<'_>) -> Option<Verdict> {
    let servers = &picture.view.servers;
    for (at, one) in servers.iter().enumerate() {
        for other in &servers[at + 1..] {
            let (Some(a), Some(b)) = (one.condition(), other.condition()) else {
                continue;
            };
            let (a, b) = (&a.identity, &b.identity);
            if a == b {
                return Some(Verdict::new(
                    Severity::Critical,
                    format!(
                        "{} and {} are one and the same server ({a})",
                        one.name, other.name
                    ),
                    "Give each its own address in the configuration.",
                ));
            }
            let what = if a.server_uuid.is_some() && a.server_uuid == b.server_uuid {
                "server_uuid"
            } else if a.server_id == b.server_id {
                "server_id"
            } else {
                continue;
            };
            return Some(Verdict::new(
                Severity::Critical,
                format!("{} and {} have the same {what}", one.name, other.name),
                match what {
                    "server_id" => "Give one another server_id in its option file, and restart it.",
                    _ => "Stop one, remove auto.cnf from its data directory, start it.",
                },
            ));
        }
    }
    None
}

pub(super) fn version_skew(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let replica = picture.replica(server)?;
    let source = picture.source_of(server)?;
    let (own, of_source) = (&replica.flavour, &source.condition()?.flavour);
    let name = &picture.server(server).name;
    let series = |version: (u16, u16, u16)| (version.0, version.1);
    let message = if own.family != of_source.family {
        format!(
            "{name} is {} and follows {}, another flavour",
            own.text, of_source.text
        )
    } else if series(own.version) < series(of_source.version) {
        format!(
            "{name} is {}, older than its source's {}",
            own.text, of_source.text
        )
    } else {
        return None;
    };
    Some(Verdict::new(
        Severity::Warning,
        message,
        "Upgrade replicas first and the source last; an older one may stop at what it doesn't know.",
    ))
}
