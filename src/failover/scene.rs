//! A pair as it is now, observed once for everything that moves its roles.

use std::time::Duration;

use super::against;
use super::look::{self, Burdens, Looked};
use crate::config::{Address, PairConfig};
use crate::health::observe::{self, Look};
use crate::health::picture::Picture;
use crate::health::view::{Known, Limits, PairView};
use crate::journal::Party;
use crate::server::burden::{self, Burden};
use crate::server::channel::ChannelName;
use crate::server::condition::Condition;
use crate::server::privileges::{Need, Needed};
use crate::server::replication::ThreadState;
use crate::server::{Flavour, Target};
use crate::snapshot::{Context, SnapshotError};

/// For all servers together.
const LOOK_LIMIT: Duration = Duration::from_secs(10);
/// For one question to a server that has answered.
const BURDEN_LIMIT: Duration = Duration::from_secs(5);

pub struct Scene<'a> {
    pub pair: &'a PairConfig,
    pub view: PairView,
}

/// A server's address as other servers reach it, from their replication links' or the
/// configuration's word.
pub type Endpoint = (String, u16);

impl<'a> Scene<'a> {
    pub fn observe(ctx: &'a Context, name: &str) -> Result<Self, SnapshotError> {
        let pair = ctx.config.pairs.get(name).ok_or_else(|| {
            let known: Vec<&str> = ctx.config.pairs.keys().map(String::as_str).collect();
            SnapshotError::UnknownId {
                reason: format!("no pair named {name} in the configuration"),
                hint: format!("The pairs are: {}.", known.join(", ")),
            }
        })?;
        let look = Look {
            limit: LOOK_LIMIT,
            storage: None,
        };
        let view = observe::observe(ctx, Some(name), &members(pair), &look)?;
        Ok(Self { pair, view })
    }

    pub fn picture(&self) -> Picture<'_> {
        Picture::of(&self.view, Limits::default())
    }

    /// What is open on each server that answered, and what we may do there.
    pub fn burdens(&self, ctx: &Context) -> Burdens {
        let ask = |server: usize| -> Result<Burden, SnapshotError> {
            let party = self.party(ctx, server)?;
            let session = party.session()?;
            Ok(burden::observe(session, BURDEN_LIMIT)?.1)
        };
        let asked = |server: usize| {
            self.condition(server)?;
            ask(server)
                .inspect_err(
                    |error| tracing::warn!(%error, server = %self.name(server), "not looked at"),
                )
                .ok()
        };
        (0..self.view.servers.len()).map(asked).collect()
    }

    /// What the account of a server that answers may do there, held against a table; all of it counts.
    pub fn allowed(
        &self,
        ctx: &Context,
        server: usize,
        table: impl Fn(&Flavour) -> Vec<Needed>,
    ) -> Result<Looked, SnapshotError> {
        if self.condition(server).is_none() {
            return Ok(Looked::default());
        }
        let session = self.party(ctx, server)?.session()?;
        let (_, held) = burden::observe_privileges(session, BURDEN_LIMIT)?;
        Ok(look::allowed(self.name(server), &held, table, |need| {
            need != Need::Told
        }))
    }

    pub fn name(&self, server: usize) -> &str {
        &self.view.servers[server].name
    }

    pub fn condition(&self, server: usize) -> Option<&Condition> {
        self.view.servers[server].condition()
    }

    /// What earlier looks have left of a server.
    pub fn known(&self, name: &str) -> Option<&Known> {
        self.view.servers[self.index(name)?].known.as_ref()
    }

    pub fn index(&self, name: &str) -> Option<usize> {
        self.view
            .servers
            .iter()
            .position(|server| server.name == name)
    }

    /// As an operation knows a server that answered.
    pub fn party(&self, ctx: &Context, server: usize) -> Result<Party, SnapshotError> {
        let name = self.name(server);
        let condition = self
            .condition(server)
            .ok_or_else(|| SnapshotError::Failed {
                step: "look at the servers",
                reason: format!("{name} doesn't answer"),
                hint: None,
            })?;
        ctx.party(ctx.server(name)?, &condition.identity, &condition.flavour)
    }

    /// Where the other servers of the pair reach one: where they do already, else by its configured
    /// address, else by its own name.
    pub fn reached_at(&self, server: usize) -> Result<Endpoint, SnapshotError> {
        self.endpoint(server).ok_or_else(|| {
            let name = self.name(server);
            SnapshotError::refused(
                format!("where other servers reach {name} isn't known"),
                format!("Give [server.{name}] a host and port."),
            )
        })
    }

    /// The channel of a replica that leads to its pair; for one that has none, a name that is free.
    pub fn channel(&self, server: usize) -> ChannelName {
        let picture = self.picture();
        if let Some(link) = picture.link(server) {
            return link.name.clone();
        }
        let channels = self
            .condition(server)
            .map_or(&[][..], Condition::channel_list);
        against::free_channel(channels, &self.pair.name)
    }

    /// The channels of a server that lead out of its pair, and whose applier runs.
    pub fn outside(&self, server: usize) -> Vec<ChannelName> {
        let picture = self.picture();
        let channels = self
            .condition(server)
            .map_or(&[][..], Condition::channel_list);
        channels
            .iter()
            .enumerate()
            .filter(|(at, _)| picture.roles.link(server) != Some(*at))
            .filter(|(_, channel)| channel.sql == ThreadState::Running)
            .map(|(_, channel)| channel.name.clone())
            .collect()
    }

    pub fn endpoint(&self, server: usize) -> Option<Endpoint> {
        let picture = self.picture();
        let follower = picture.roles.followers(server).next();
        let link = follower.and_then(|follower| picture.link(follower));
        if let Some(link) = link {
            return Some((link.source_host.clone(), link.source_port));
        }
        let seen = &self.view.servers[server];
        let identity = seen.condition().map(|condition| &condition.identity);
        match (&seen.address, identity) {
            (Address::Tcp { host, port }, _) => Some((host.clone(), *port)),
            // Of one host, as its replicas reach their source.
            (Address::Socket(_), Some(identity)) if self.is_on_one_host() => {
                Some(("127.0.0.1".to_owned(), identity.port))
            }
            (Address::Socket(_), Some(identity)) => {
                Some((identity.hostname.clone(), identity.port))
            }
            (Address::Socket(_), None) => None,
        }
    }

    fn is_on_one_host(&self) -> bool {
        let mut hosts = self
            .view
            .servers
            .iter()
            .filter_map(|server| server.condition())
            .map(|condition| &condition.identity.hostname);
        let first = hosts.next();
        hosts.all(|host| Some(host) == first)
    }
}

/// Source and replicas, in the configuration's order.
pub fn members(pair: &PairConfig) -> Vec<String> {
    std::iter::once(pair.source.clone())
        .chain(pair.replicas.iter().cloned())
        .collect()
}

pub fn targets(ctx: &Context, pair: &PairConfig) -> Result<Vec<Target>, SnapshotError> {
    members(pair)
        .iter()
        .map(|name| ctx.target(ctx.server(name)?))
        .collect()
}
