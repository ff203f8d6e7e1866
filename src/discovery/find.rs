//! The servers of a pair, from one of them on.

use std::collections::BTreeSet;

use crate::config::Address;
use crate::config::values::check_name;
use crate::server::burden;
use crate::server::grants::Purpose;
use crate::server::neighbours::{self, Neighbour};
use crate::server::replication::{self, Channel};
use crate::server::session::READ_LIMIT;
use crate::server::{Identity, Session, SessionError, Target};
use crate::sys::process;

/// A server that answered, and who it is.
#[derive(Debug, Clone)]
pub struct Member {
    /// As the configuration will call it.
    pub name: String,
    pub address: Address,
    pub identity: Identity,
    pub version: String,
    pub is_closed: bool,
    /// Its data is on this machine, as far as names tell.
    pub is_here: bool,
    channels: Vec<Channel>,
    /// What the account lacks for each purpose; only those where it lacks something.
    pub missing: Vec<(Purpose, Vec<String>)>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The source first, where there is one.
    pub members: Vec<Member>,
    /// The first of them is the source of the others.
    pub is_pair: bool,
    /// What somebody has to know or add by hand.
    pub notes: Vec<String>,
    /// Why the first server doesn't tell whom it follows.
    pub blind: Option<String>,
}

/// Addresses that are tried; each may take its time.
const TRIES_MAX: usize = 24;

/// Looks around from one server on.
///
/// # Errors
/// When that one doesn't answer, or refuses the account. Of others that is a note.
pub fn find(first: &Target) -> Result<Found, SessionError> {
    let mut search = Search {
        first,
        tries: 0,
        notes: Vec::new(),
    };
    let (own, blind) = look(first)?;
    if blind.is_some() {
        let found = search.finish(vec![own], false);
        return Ok(Found { blind, ..found });
    }
    let source = search.source_of(&own);
    let (head, mut members) = match source {
        Some(source) => (source, vec![own]),
        None => (own, Vec::new()),
    };
    // Each follows the other: the source is who can be written to, if only one of them can.
    let circle = members.iter().any(|own| follows(&head, &own.identity));
    let (head, turned) = match members.pop() {
        Some(own) if circle && head.is_closed && !own.is_closed => (own, Some(head)),
        Some(own) => {
            if circle && head.is_closed == own.is_closed {
                let note = format!(
                    "{} and {} follow each other, and which is the source can't be told: write the \
                     pair by hand",
                    head.address, own.address
                );
                search.notes.push(note);
                return Ok(search.finish(vec![head, own], false));
            }
            (head, Some(own))
        }
        None => (head, None),
    };
    if let Some(channel) = head.channels.first().filter(|_| !circle) {
        let (host, port) = (&channel.source_host, channel.source_port);
        let note = format!(
            "{} itself follows {host}:{port}, which isn't written down",
            head.address
        );
        search.notes.push(note);
    }
    let mut all = vec![head];
    all.extend(turned);
    search.replicas_of_first(&mut all);
    let is_pair = all.len() > 1;
    Ok(search.finish(all, is_pair))
}

struct Search<'a> {
    first: &'a Target,
    tries: usize,
    notes: Vec<String>,
}

impl Search<'_> {
    /// Whom it follows, confirmed; `None` when it follows nobody, or nobody who answers.
    fn source_of(&mut self, own: &Member) -> Option<Member> {
        let mut sources = Vec::new();
        for channel in &own.channels {
            let address = Address::Tcp {
                host: channel.source_host.clone(),
                port: channel.source_port,
            };
            match self.attempt(&address) {
                Ok(member) if is_source(channel, &member.identity) => sources.push(member),
                Ok(member) => self.notes.push(format!(
                    "{} names {address} as its source, but the server there ({}) isn't known to be it",
                    own.address, member.identity
                )),
                Err(why) => self.notes.push(format!(
                    "{} names {address} as its source, which can't be reached from here: {why}; add it by \
                     an address that can",
                    own.address
                )),
            }
        }
        if sources.len() > 1 {
            self.notes.push(format!(
                "{} follows {} sources; only the first is written down",
                own.address,
                sources.len()
            ));
        }
        sources.into_iter().next()
    }

    /// Adds the replicas that the first of them knows and that aren't there yet.
    fn replicas_of_first(&mut self, all: &mut Vec<Member>) {
        let target = self.target(&all[0].address);
        let head = all[0].address.clone();
        let asked = Session::connect(&target)
            .and_then(neighbours::observe_replicas)
            .and_then(|(session, told)| {
                neighbours::observe_dump_hosts(session).map(|(_, hosts)| (told, hosts))
            });
        let (told, hosts) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                return self
                    .notes
                    .push(format!("the replicas of {head} aren't known: {error}"));
            }
        };
        let told = told.unwrap_or_else(|error| {
            let note = format!("{head} doesn't tell its replicas: {error}; add them by hand");
            self.notes.push(note);
            Vec::new()
        });
        let hosts = hosts.unwrap_or_default();
        for neighbour in told {
            if all
                .iter()
                .any(|member| is_neighbour(&member.identity, &neighbour))
            {
                continue;
            }
            let found = self.confirm(&neighbour, &hosts, &all[0].identity);
            match found {
                Ok(member) => all.push(member),
                Err(why) => self.notes.push(format!(
                    "{head} has a replica with server_id {}, which can't be reached from here ({why}); \
                     add it by an address that can",
                    neighbour.server_id
                )),
            }
        }
    }

    /// By its own word first, then by the hosts from which logs are fetched.
    fn confirm(
        &mut self,
        neighbour: &Neighbour,
        hosts: &[String],
        head: &Identity,
    ) -> Result<Member, String> {
        let own_word = Some(&neighbour.host).filter(|host| !host.is_empty());
        let mut tried = Vec::new();
        for host in own_word.into_iter().chain(hosts) {
            let address = Address::Tcp {
                host: host.clone(),
                port: neighbour.port,
            };
            match self.attempt(&address) {
                Ok(member)
                    if is_neighbour(&member.identity, neighbour) && follows(&member, head) =>
                {
                    return Ok(member);
                }
                Ok(_) => tried.push(format!("at {address} another server answers")),
                Err(why) => tried.push(why),
            }
        }
        match tried.is_empty() {
            true => Err("it names no address".to_owned()),
            false => Err(tried.join("; ")),
        }
    }

    fn attempt(&mut self, address: &Address) -> Result<Member, String> {
        self.tries += 1;
        if self.tries > TRIES_MAX {
            return Err("too many addresses were tried".to_owned());
        }
        look(&self.target(address))
            .map(|(member, _)| member)
            .map_err(|error| match error {
                SessionError::Connect { reason, .. } => format!("{address}: {reason}"),
                other => other.to_string(),
            })
    }

    fn target(&self, address: &Address) -> Target {
        Target {
            server: address.to_string(),
            address: address.clone(),
            ..self.first.clone()
        }
    }

    fn finish(self, mut members: Vec<Member>, is_pair: bool) -> Found {
        let mut taken = BTreeSet::new();
        for (number, member) in members.iter_mut().enumerate() {
            let short = member
                .identity
                .hostname
                .split('.')
                .next()
                .unwrap_or_default();
            let names = [
                short.to_owned(),
                format!("{short}-{}", member.identity.port),
                format!("server{}", number + 1),
            ];
            let mut names = names.into_iter();
            let free = names.find(|name| check_name(name).is_ok() && !taken.contains(name));
            member.name = free.unwrap_or_else(|| format!("member{}", number + 1));
            taken.insert(member.name.clone());
        }
        Found {
            members,
            is_pair,
            notes: self.notes,
            blind: None,
        }
    }
}

/// The server, and why it doesn't tell whom it follows.
fn look(target: &Target) -> Result<(Member, Option<String>), SessionError> {
    let session = Session::connect(target)?;
    let statement = session.flavour().replica_status();
    let (session, rows) = session.attempt(statement, READ_LIMIT)?;
    let (channels, blind) = match rows {
        Ok(rows) => (replication::parse_channels(&rows), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    let (session, read_only) = session.value("SELECT @@global.read_only", READ_LIMIT)?;
    let (session, account) = neighbours::observe_own_account(session)?;
    let (session, held) = burden::observe_privileges(session, READ_LIMIT)?;
    let purposes = match channels.is_empty() && blind.is_none() {
        true => [Purpose::Monitor, Purpose::Failover],
        false => [Purpose::Snapshot, Purpose::Failover],
    };
    let missing = purposes
        .into_iter()
        .filter_map(|purpose| {
            // What can't be seen isn't called missing: doctor tells.
            let missing = |held| session.flavour().missing_grants(purpose, held, &account);
            Some((purpose, held.known().map(missing)?))
        })
        .filter(|(_, statements)| !statements.is_empty())
        .collect();
    let identity = session.identity().clone();
    let member = Member {
        name: String::new(),
        address: target.address.clone(),
        is_here: identity.hostname == process::host_name(),
        identity,
        version: session.flavour().text.clone(),
        is_closed: read_only.as_deref() == Some("1"),
        channels,
        missing,
    };
    Ok((member, blind))
}

/// Whether a channel's source is this server, by what the channel has learnt of it.
fn is_source(channel: &Channel, identity: &Identity) -> bool {
    match (&channel.source_uuid, &identity.server_uuid) {
        (Some(told), Some(own)) => told == own,
        _ => channel.source_server_id == Some(identity.server_id),
    }
}

fn follows(member: &Member, source: &Identity) -> bool {
    member
        .channels
        .iter()
        .any(|channel| is_source(channel, source))
}

fn is_neighbour(identity: &Identity, neighbour: &Neighbour) -> bool {
    match (&neighbour.uuid, &identity.server_uuid) {
        (Some(told), Some(own)) => told == own,
        _ => identity.server_id == neighbour.server_id && identity.port == neighbour.port,
    }
}
