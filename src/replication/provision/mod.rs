//! Bringing the source's data to the replica.

mod backup;
mod clone;
mod dump;
mod snapshot;
mod swap;
pub mod tools;

use self::tools::Tools;
use super::error::SetupError;
use super::plan::{Plan, Provision, Side};
use super::request::{Prepared, Request};
use super::work::{Who, Work};
use crate::config::ServerConfig;
use crate::journal::act::Act;
use crate::journal::operation::{InHand, Outcome};
use crate::server::flavour::{quote_name, quote_text};
use crate::server::session::{READ_LIMIT, Session, Target};
use crate::snapshot::Context;
use crate::sys::failpoint;
use std::time::Duration;

const STATEMENT_LIMIT: Duration = Duration::from_secs(900);

/// Finds it, or refuses.
pub fn find_tools(
    ctx: &Context,
    plan: &Plan,
    source: (&ServerConfig, &Side),
    replica: (&ServerConfig, &Side),
) -> Result<Tools, SetupError> {
    let none = Tools::default();
    match &plan.provision {
        Provision::Nothing => Ok(none),
        Provision::Dump => Ok(Tools {
            dump: Some(dump::programs(source, replica)?),
            ..none
        }),
        Provision::Clone => {
            check_credentials(ctx, source, replica.0)?;
            let backup = match source.1.flavour.is_mariadb() {
                true => Some(backup::programs()?),
                false => None,
            };
            Ok(Tools { backup, ..none })
        }
        Provision::Snapshot(id) => {
            check_credentials(ctx, source, replica.0)?;
            Ok(Tools {
                snapshot: Some(snapshot::find(ctx, id, source.1)?),
                ..none
            })
        }
    }
}

/// Whoever clones a server clones its accounts: those with which we know the replica must be among
/// them, or we couldn't log in afterwards.
fn check_credentials(
    ctx: &Context,
    source: (&ServerConfig, &Side),
    replica: &ServerConfig,
) -> Result<(), SetupError> {
    let own = ctx.target(replica)?;
    let target = Target {
        user: own.user.clone(),
        password: own.password,
        ..ctx.target(source.0)?
    };
    match Session::connect_to(&target, &source.1.identity) {
        Ok(_) => Ok(()),
        Err(error) => Err(SetupError::refused(
            format!(
                "the replica's accounts would be those of {}, where {} can't log in: {error}",
                source.0.name, own.user
            ),
            format!(
                "Make the account of {}'s credentials on {} too, or use --provision dump.",
                replica.name, source.0.name
            ),
        )),
    }
}

/// After a restart the replica may be as closed as its option file says.
fn reopen(session: Session) -> Result<Session, SetupError> {
    let mut session = session;
    if session.flavour().has_super_read_only() {
        session = session.execute("SET GLOBAL super_read_only = OFF", STATEMENT_LIMIT)?;
    }
    Ok(session.execute("SET GLOBAL read_only = OFF", STATEMENT_LIMIT)?)
}

/// Opens the replica for what setup itself writes to it; nothing replicates meanwhile and its
/// events don't run.
pub fn open(work: &mut Work<'_>) -> Result<Outcome, SetupError> {
    let mut session = work.session(Who::Replica)?;
    let flavour = session.flavour().clone();
    let mut done = Vec::new();
    let mut variables = vec!["read_only"];
    if flavour.has_super_read_only() {
        variables.push("super_read_only");
    }
    for name in variables {
        let (back, value) = super::observe::compact(session, &format!("SELECT @@GLOBAL.{name}"))?;
        session = back;
        if value != "0" {
            let undo = vec![format!("SET GLOBAL {name} = ON")];
            work.before(Who::Replica, &format!("set {name}"), undo)?;
            done.push(name);
        }
    }
    // The stronger one first, since it implies the other.
    for name in done.iter().rev() {
        session = session.execute(&format!("SET GLOBAL {name} = OFF"), STATEMENT_LIMIT)?;
    }
    drop(session);
    Ok(match done.is_empty() {
        true => Outcome::AlreadySo(format!("{} can be written to", work.replica.name)),
        false => Outcome::Changed(format!(
            "ended {} of {} for now",
            done.join(" and "),
            work.replica.name
        )),
    })
}

/// Drops what the replica has of its own, as the user said it may be.
pub fn erase(work: &mut Work<'_>, ready: &Prepared) -> Result<Outcome, SetupError> {
    let name = work.replica.name.clone();
    work.note(Act::Lost {
        words: format!(
            "{name} has lost what --replace said ({}) and doesn't follow anyone",
            ready.plan.erases.join(", ")
        ),
    })?;
    let mut session = work.session(Who::Replica)?;
    let flavour = session.flavour().clone();
    for link in &ready.replica_side.links {
        for statement in flavour.forget_channel(&link.name) {
            session = attempt(session, &statement)?;
        }
    }
    failpoint::hit("setup-erasing");
    session = session.execute(flavour.without_binary_log(), STATEMENT_LIMIT)?;
    let own = std::iter::once(crate::server::pair::OWN_SCHEMA);
    let schemas = ready.replica_side.schemas.iter();
    for schema in schemas.map(|schema| schema.name.as_str()).chain(own) {
        let statement = format!("DROP DATABASE IF EXISTS {}", quote_name(schema));
        session = session.execute(&statement, STATEMENT_LIMIT)?;
    }
    drop(crate::server::pair::set_applied(session, "")?);
    failpoint::hit("setup-erased");
    Ok(Outcome::Changed(format!(
        "dropped from {name}: {}",
        ready.plan.erases.join(", ")
    )))
}

/// Statements that may find their work done.
fn attempt(session: Session, statement: &str) -> Result<Session, SetupError> {
    let (session, answer) = session.attempt(statement, STATEMENT_LIMIT)?;
    match answer {
        Ok(_) => Ok(session),
        Err(error) if crate::server::pair::is_undone_already(error.code) => Ok(session),
        Err(error) => Err(SetupError::failed(
            "erase",
            format!("`{statement}`: {error}"),
        )),
    }
}

/// Brings the data, and makes the replica go on from exactly its position.
pub fn bring(
    work: &mut Work<'_>,
    ready: &Prepared,
    request: &Request,
) -> Result<Outcome, SetupError> {
    match &ready.plan.provision {
        Provision::Nothing => Ok(Outcome::AlreadySo(ready.plan.why.clone())),
        Provision::Dump => dump::bring(work, ready, request),
        Provision::Clone if ready.source_side.flavour.is_mariadb() => {
            backup::bring(work, ready).and_then(|outcome| park(work, outcome))
        }
        Provision::Clone => clone::bring(work, ready).and_then(|outcome| park(work, outcome)),
        Provision::Snapshot(_) => {
            snapshot::bring(work, ready).and_then(|outcome| park(work, outcome))
        }
    }
}

/// What came as files goes on as on the source, until it is told otherwise.
fn park(work: &Work<'_>, outcome: Outcome) -> Result<Outcome, SetupError> {
    let session = work.session(Who::Replica)?;
    let statement = session.flavour().without_binary_log();
    let session = session.execute(statement, STATEMENT_LIMIT)?;
    park_events(session)?;
    Ok(outcome)
}

/// Replicated events come as parked ones; others have to be parked, or both servers would run them.
/// The scheduler is quiet meanwhile.
fn park_events(session: Session) -> Result<Session, SetupError> {
    let flavour = session.flavour().clone();
    let (mut session, rows) = session.query(flavour.active_events_query(), STATEMENT_LIMIT)?;
    for row in &rows {
        let (Some(schema), Some(name), Some(definer)) = (row.at(0), row.at(1), row.at(2)) else {
            continue;
        };
        let mode = quote_text(row.at(3).unwrap_or_default());
        session = session.execute(&format!("SET SESSION sql_mode = {mode}"), READ_LIMIT)?;
        let statement = flavour.park_event(schema, name, definer);
        session = session.execute(&statement, STATEMENT_LIMIT)?;
    }
    Ok(session.execute("SET SESSION sql_mode = ''", READ_LIMIT)?)
}
