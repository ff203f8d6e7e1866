//! Who is source and who follows whom, told by the servers themselves.

use super::view::{PairView, ServerView};
use crate::config::Address;
use crate::server::condition::Condition;
use crate::server::replication::Channel;

/// What a server is in its pair now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Source,
    Replica,
    /// It answers, and follows nobody whom we know, nor does anybody follow it.
    Alone,
    /// It doesn't answer, or doesn't tell.
    Unknown,
}

/// Who follows whom among the servers of a pair, by their place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    pub source: Option<usize>,
    pub roles: Vec<Role>,
    /// For each server, whom of the pair it follows.
    pub follows: Vec<Option<usize>>,
    /// By which of its channels: it may follow servers outside of the pair by others.
    links: Vec<Option<usize>>,
}

impl Roles {
    /// The place of the channel that leads to whom of the pair a server follows.
    pub fn link(&self, server: usize) -> Option<usize> {
        self.links.get(server).copied().flatten()
    }

    pub fn is_source(&self, server: usize) -> bool {
        self.source == Some(server)
    }

    pub fn followers(&self, server: usize) -> impl Iterator<Item = usize> {
        self.follows
            .iter()
            .enumerate()
            .filter(move |(_, followed)| **followed == Some(server))
            .map(|(follower, _)| follower)
    }
}

/// The source is who is followed and follows nobody of the pair; where that is nobody, the only one
/// that can be written to. Two of a kind are no source: somebody has to decide.
pub fn of(pair: &PairView) -> Roles {
    let (follows, links): (Vec<_>, Vec<_>) = (0..pair.servers.len())
        .map(|server| followed_by(pair, server).unzip())
        .unzip();
    let is_followed = |server: &usize| follows.contains(&Some(*server));
    let heads: Vec<usize> = (0..pair.servers.len())
        .filter(|server| follows[*server].is_none())
        .collect();
    let followed: Vec<usize> = heads.iter().copied().filter(is_followed).collect();
    let writable = |among: &[usize]| -> Vec<usize> {
        let is_writable = |server: &&usize| is_writable(&pair.servers[**server]);
        among.iter().filter(is_writable).copied().collect()
    };
    let everybody: Vec<usize> = (0..pair.servers.len()).collect();
    let source = only(&followed)
        .or_else(|| only(&writable(&followed)))
        .or_else(|| only(&writable(&heads)).filter(|_| followed.is_empty()))
        // Each follows the other.
        .or_else(|| only(&writable(&everybody)).filter(|_| heads.is_empty()));
    let roles = (0..pair.servers.len())
        .map(|server| role(pair, server, source, follows[server]))
        .collect();
    Roles {
        source,
        roles,
        follows,
        links,
    }
}

fn only(among: &[usize]) -> Option<usize> {
    match among {
        [one] => Some(*one),
        _ => None,
    }
}

fn is_writable(server: &ServerView) -> bool {
    server
        .condition()
        .is_some_and(|condition| condition.is_read_only() == Some(false))
}

fn role(pair: &PairView, server: usize, source: Option<usize>, follows: Option<usize>) -> Role {
    if source == Some(server) {
        return Role::Source;
    }
    let Some(condition) = pair.servers[server].condition() else {
        return Role::Unknown;
    };
    match condition.channels.known() {
        None => Role::Unknown,
        Some(channels) if follows.is_some() || !channels.is_empty() => Role::Replica,
        Some(_) => Role::Alone,
    }
}

/// Whom of the pair a server follows, and by which of its channels. What an address says comes
/// first: ids of servers outside of the pair may be the same.
fn followed_by(pair: &PairView, server: usize) -> Option<(usize, usize)> {
    let channels = pair.servers[server].condition()?.channel_list();
    let by = |leads: fn(&Channel, &ServerView) -> bool| {
        let mut channels = channels.iter().enumerate();
        channels.find_map(|(at, channel)| {
            let is_it = |other: &usize| *other != server && leads(channel, &pair.servers[*other]);
            Some(((0..pair.servers.len()).find(is_it)?, at))
        })
    };
    by(|channel, other| has_address(channel, other) && leads_to(channel, other))
        .or_else(|| by(leads_to))
}

/// By the identity that the channel has met, where both are known; by address otherwise.
fn leads_to(channel: &Channel, server: &ServerView) -> bool {
    if let Some(condition) = server.condition() {
        let identity = &condition.identity;
        if let (Some(met), Some(own)) = (&channel.source_uuid, &identity.server_uuid) {
            return met == own;
        }
        if let Some(met) = channel.source_server_id {
            let is_its_port = channel.source_port == identity.port || has_address(channel, server);
            return met == identity.server_id && is_its_port;
        }
        return has_address(channel, server) || is_listening_at(channel, condition);
    }
    if let (Some(met), Some(known)) = (&channel.source_uuid, &server.known)
        && let Some(own) = &known.identity.server_uuid
    {
        return met == own;
    }
    has_address(channel, server)
        || server.known.as_ref().is_some_and(|known| {
            let identity = &known.identity;
            let is_met = channel.source_server_id == Some(identity.server_id);
            channel.source_port == identity.port
                && (is_met || same_host(&channel.source_host, &identity.hostname))
        })
}

fn has_address(channel: &Channel, server: &ServerView) -> bool {
    match &server.address {
        Address::Tcp { host, port } => {
            same_host(&channel.source_host, host) && channel.source_port == *port
        }
        Address::Socket(_) => false,
    }
}

/// Several names may lead to a server; its own name and port are one of them.
fn is_listening_at(channel: &Channel, condition: &Condition) -> bool {
    let identity = &condition.identity;
    channel.source_port == identity.port
        && (same_host(&channel.source_host, &identity.hostname)
            || is_loopback(&channel.source_host))
}

fn same_host(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || is_loopback(one) && is_loopback(other)
}

fn is_loopback(host: &str) -> bool {
    matches!(host, "localhost" | "127.0.0.1" | "::1")
}
