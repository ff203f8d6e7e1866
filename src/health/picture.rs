//! What follows from a view before any rule is asked: roles, lags, errant transactions.

use super::errant;
use super::lag::{self, Lag};
use super::roles::{self, Role, Roles};
use super::view::{Limits, PairView, ServerView};
use crate::server::condition::Condition;
use crate::server::replication::Channel;
use crate::sys::Fact;

pub struct Picture<'v> {
    pub view: &'v PairView,
    pub limits: Limits,
    pub roles: Roles,
    /// Of each replica.
    pub lags: Vec<Option<Result<Lag, String>>>,
    /// Of each replica whose source answered; empty text when there are none.
    pub errant: Vec<Option<Fact<String>>>,
}

impl<'v> Picture<'v> {
    pub fn of(view: &'v PairView, limits: Limits) -> Self {
        let roles = roles::of(view);
        let replicas = |server: usize| roles.roles[server] == Role::Replica;
        let source_of = |server: usize| roles.follows[server].or(roles.source);
        let lags = (0..view.servers.len())
            .map(|server| replicas(server).then(|| lag::of(view, server, source_of(server))))
            .collect();
        let errant = (0..view.servers.len())
            .map(|server| {
                let replica = view.servers[server].condition()?;
                let source = view.servers[source_of(server)?].condition()?;
                replicas(server).then(|| errant::errant(replica, source))
            })
            .collect();
        Self {
            view,
            limits,
            roles,
            lags,
            errant,
        }
    }

    pub fn server(&self, server: usize) -> &'v ServerView {
        &self.view.servers[server]
    }

    pub fn is_replica(&self, server: usize) -> bool {
        self.roles.roles[server] == Role::Replica
    }

    /// Whom a replica follows, or should.
    pub fn source_of(&self, server: usize) -> Option<&'v ServerView> {
        self.roles.follows[server]
            .or(self.roles.source)
            .filter(|source| *source != server)
            .map(|source| self.server(source))
    }

    /// The channel by which a replica follows its pair.
    pub fn link(&self, server: usize) -> Option<&'v Channel> {
        let channels = self.server(server).condition()?.channel_list();
        channels.get(self.roles.link(server)?)
    }

    /// The condition of a replica that answered.
    pub fn replica(&self, server: usize) -> Option<&'v Condition> {
        self.server(server)
            .condition()
            .filter(|_| self.is_replica(server))
    }
}
