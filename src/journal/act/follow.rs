//! Making a server follow another one.

use std::path::Path;
use std::time::Duration;

use super::server::{self, LOOK_EVERY, REACH_FOR, see_running, target};
use super::{ActError, FreshLink, Link, Means, Reach};
use crate::config::{Secret, credentials};
use crate::server::channel::ChannelName;
use crate::server::flavour::quote_text;
use crate::server::pair::{LinkWish, is_undone_already};
use crate::server::replication::{self, ThreadState};
use crate::server::session::{READ_LIMIT, Session};

/// Stopping waits for the transaction in hand.
const STATEMENT_LIMIT: Duration = Duration::from_secs(120);

/// Turns its channel, or makes it, and sees it run.
pub fn follow(means: &Means<'_>, on: &Reach, link: &Link) -> Result<String, ActError> {
    let target = target(means, on)?;
    let mut session = server::reach(&target, &on.identity, REACH_FOR, LOOK_EVERY)?;
    let words = format!("{} follows {}", on.server, link.to);
    let (back, channels) = replication::observe_channels(session)?;
    session = back;
    let is_so = channels.iter().any(|own| {
        own.name == link.channel
            && (own.source_host.as_str(), own.source_port) == (link.host.as_str(), link.port)
            && own.sql == ThreadState::Running
            && own.io == ThreadState::Running
    });
    if is_so {
        return Ok(words);
    }
    let flavour = session.flavour().clone();
    for statement in flavour.stop_channel(&link.channel) {
        session = attempt(session, &statement)?;
    }
    let has_link = channels.iter().any(|own| own.name == link.channel);
    session = match &link.fresh {
        Some(fresh) if !has_link => {
            if flavour.is_mariadb() {
                session = place(session, &fresh.beside)?;
            }
            make(session, link, fresh)?
        }
        Some(_) | None => turn(session, link)?,
    };
    for statement in flavour.start_channel(&link.channel) {
        session = session.execute(&statement, STATEMENT_LIMIT)?;
    }
    see_running(session, link.channel.as_str())?;
    Ok(words)
}

/// A server that was a source goes on from all that it has: MariaDB has to be told, while none of its
/// channels applies.
fn place(mut session: Session, beside: &[ChannelName]) -> Result<Session, ActError> {
    let flavour = session.flavour().clone();
    let (target, identity) = (session.target().clone(), session.identity().clone());
    let told = || -> Result<(), ActError> {
        for channel in beside {
            session = attempt(session, &flavour.stop_sql_thread(channel))?;
        }
        let (session, has) = replication::observe_gtid(session, false)?;
        let statement = format!("SET GLOBAL gtid_slave_pos = {}", quote_text(&has));
        session.execute(&statement, STATEMENT_LIMIT)?;
        Ok(())
    };
    let told = told();
    // Whatever came of it, on a connection that has met no error.
    let mut session = server::reach(&target, &identity, REACH_FOR, LOOK_EVERY)?;
    for channel in beside {
        session = session.execute(&flavour.start_sql_thread(channel), STATEMENT_LIMIT)?;
    }
    told.map(|()| session)
}

fn make(session: Session, link: &Link, fresh: &FreshLink) -> Result<Session, ActError> {
    let flavour = session.flavour().clone();
    let wish = LinkWish {
        channel: link.channel.clone(),
        host: link.host.clone(),
        port: link.port,
        user: fresh.user.clone(),
        password: password(&link.to, &fresh.password_file)?,
        tls: fresh.tls,
        tls_ca: fresh.tls_ca.as_ref().map(|path| path.display().to_string()),
    };
    let shown = format!(
        "CHANGE … TO … HOST = {}, PORT = {}",
        quote_text(&link.host),
        link.port
    );
    Ok(session.execute_secret(&flavour.point_at(&wish), &shown, STATEMENT_LIMIT)?)
}

fn password(server: &str, file: &Path) -> Result<Secret, ActError> {
    let unreachable = |reason: String| ActError::Unreachable {
        server: server.to_owned(),
        reason,
    };
    let found = credentials::load(file).map_err(|error| unreachable(error.to_string()))?;
    found
        .password
        .ok_or_else(|| unreachable(format!("{} holds no password", file.display())))
}

fn turn(session: Session, link: &Link) -> Result<Session, ActError> {
    let mut session = session;
    let flavour = session.flavour().clone();
    let mut heartbeat = None;
    if let Some(query) = flavour.heartbeat_period_query(&link.channel) {
        let (back, value) = session.value(&query, READ_LIMIT)?;
        session = back;
        heartbeat = value.and_then(|text| text.parse().ok());
    }
    let statement = flavour.turn_to(&link.channel, &link.host, link.port, heartbeat);
    Ok(session.execute(&statement, STATEMENT_LIMIT)?)
}

/// A thread that is stopped already, or a channel that isn't there, is what we want.
fn attempt(session: Session, statement: &str) -> Result<Session, ActError> {
    let (session, answer) = session.attempt(statement, STATEMENT_LIMIT)?;
    match answer {
        Ok(_) => Ok(session),
        Err(error) if is_undone_already(error.code) => Ok(session),
        Err(error) => Err(ActError::Session(crate::server::SessionError::Server {
            server: session.target().server.clone(),
            statement: statement.to_owned(),
            error,
        })),
    }
}
