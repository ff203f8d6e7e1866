//! By a dump: the source's dump program straight into the replica's client program. Nothing of it
//! is ever a file.
//!
//! The dump says in its beginning at which GTID position it was taken; the replica goes on from
//! there. The load stays out of the replica's binary log. Accounts travel by themselves, as
//! statements, since system schemas of two versions differ.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Instant;

use super::park_events;
use crate::config::ServerConfig;
use crate::journal::operation::Outcome;
use crate::replication::account;
use crate::replication::error::SetupError;
use crate::replication::observe;
use crate::replication::plan::{self, Side};
use crate::replication::request::{Prepared, Request};
use crate::replication::work::{Who, Work, interrupted};
use crate::server::client::{self, DumpPosition};
use crate::server::flavour::quote_name;
use crate::server::pair::{self, Account, OWN_SCHEMA};
use crate::server::session::READ_LIMIT;
use crate::sys::exec::Program;
use crate::sys::flow::{self, End, FlowError, Told};
use crate::sys::{failpoint, files};

/// The dump program beside the source's server program, the client beside the replica's.
pub fn programs(
    source: (&ServerConfig, &Side),
    replica: (&ServerConfig, &Side),
) -> Result<(Program, Program), SetupError> {
    let beside = |(config, side): (&ServerConfig, &Side)| -> Option<PathBuf> {
        Some(observe::server_program(config, side)?.parent()?.to_owned())
    };
    let missing = |what: &str, names: String, side: &Side| {
        SetupError::refused(
            format!(
                "no {what} program for {} ({}) is on this host ({names})",
                side.name, side.flavour.text
            ),
            "Install the client package of that server (mariadb-client, mysql-client), or name \
             its server program in [server.X.service] server_binary.",
        )
    };
    let dump = client::find_dump(&source.1.flavour, beside(source).as_deref())
        .map_err(|names| missing("dump", names, source.1))?;
    let load = client::find_client_of(&replica.1.flavour, beside(replica).as_deref())
        .map_err(|names| missing("client", names, replica.1))?;
    Ok((dump, load))
}

pub fn bring(
    work: &mut Work<'_>,
    ready: &Prepared,
    request: &Request,
) -> Result<Outcome, SetupError> {
    let Some((dump, load)) = &ready.tools.dump else {
        return Err(SetupError::failed(
            "dump",
            "its programs weren't looked for",
        ));
    };
    let schemas = schemas(ready);
    note_undo(work, ready, &schemas)?;
    let had_events = quiet_events(work)?;
    let packet = widen_packets(work)?;
    let (dump_options, load_options) = write_options(work)?;
    let dump_args = client::pair_dump_args(
        &work.source.flavour,
        &dump_options,
        &schemas,
        &ready.left_out,
        request.wish.lock_source,
    );
    let load_args = client::pair_load_args(&load_options);
    let (_, accounts) = observe::accounts(work.session(Who::Source)?)?;
    failpoint::hit("setup-loading");
    let since = Instant::now();
    let (bytes, position) = run(
        work,
        (dump, &dump_args),
        (load, &load_args),
        ready.source_side.bytes(),
        &accounts,
    )?;
    let took = since.elapsed();
    failpoint::hit("setup-loaded");
    let copied = copy_accounts(work, &accounts)?;
    let session = work.session(Who::Replica)?;
    let flavour = session.flavour().clone();
    let session = session.execute(flavour.without_binary_log(), READ_LIMIT)?;
    let session = park_events(session)?;
    let session = pair::set_applied(session, &position)?;
    let session = session.execute(&packet_statement(packet), READ_LIMIT)?;
    if had_events {
        session.execute("SET GLOBAL event_scheduler = ON", READ_LIMIT)?;
    }
    failpoint::hit("setup-positioned");
    let rate = bytes as f64 / took.as_secs_f64().max(0.001) / 1_048_576.0;
    Ok(Outcome::Changed(format!(
        "loaded {} schemas ({} MiB of SQL, {rate:.0} MiB/s) and {copied} accounts, at {}",
        schemas.len(),
        bytes >> 20,
        if position.is_empty() {
            "the beginning"
        } else {
            &position
        }
    )))
}

/// Ours is there by now.
fn schemas(ready: &Prepared) -> Vec<String> {
    let mut schemas: Vec<String> = ready
        .source_side
        .schemas
        .iter()
        .map(|schema| schema.name.clone())
        .collect();
    schemas.push(OWN_SCHEMA.to_owned());
    schemas
}

/// Half a load goes again, and so does the position.
fn note_undo(work: &mut Work<'_>, ready: &Prepared, schemas: &[String]) -> Result<(), SetupError> {
    let mut statements: Vec<String> = schemas
        .iter()
        .map(|schema| format!("DROP DATABASE IF EXISTS {}", quote_name(schema)))
        .collect();
    let applied = match ready.plan.erases.is_empty() {
        true => ready.replica_side.applied.as_str(),
        false => "",
    };
    statements.extend(work.replica.flavour.set_applied(applied));
    work.before_unlogged("drop what was loaded", statements)
}

/// No event of the source may run on the replica before it is parked. True when the scheduler ran.
fn quiet_events(work: &mut Work<'_>) -> Result<bool, SetupError> {
    let statement = "SELECT @@GLOBAL.event_scheduler";
    let (session, value) = observe::compact(work.session(Who::Replica)?, statement)?;
    if value != "ON" && value != "1" {
        return Ok(false);
    }
    let undo = vec!["SET GLOBAL event_scheduler = ON".to_owned()];
    work.before(Who::Replica, "start the event scheduler", undo)?;
    session.execute("SET GLOBAL event_scheduler = OFF", READ_LIMIT)?;
    Ok(true)
}

fn packet_statement(bytes: u64) -> String {
    format!("SET GLOBAL max_allowed_packet = {bytes}")
}

/// Values that came in whole may be too long for a statement of the dump. What it was before.
fn widen_packets(work: &mut Work<'_>) -> Result<u64, SetupError> {
    let statement = "SELECT @@GLOBAL.max_allowed_packet";
    let (session, value) = observe::compact(work.session(Who::Replica)?, statement)?;
    let before = value.parse().unwrap_or(client::LOAD_PACKET_BYTES);
    let undo = vec![packet_statement(before)];
    work.before(Who::Replica, "set max_allowed_packet back", undo)?;
    session.execute(&packet_statement(client::LOAD_PACKET_BYTES), READ_LIMIT)?;
    Ok(before)
}

/// Passwords stand in files that only we may read, never in arguments.
fn write_options(work: &Work<'_>) -> Result<(PathBuf, PathBuf), SetupError> {
    let place = work.ctx.state.work(work.id());
    files::make_private_dir(&place)?;
    let write = |name: &str, who: Who| -> Result<PathBuf, SetupError> {
        let party = work.party(who);
        let path = place.join(name);
        let text = client::option_file(&party.flavour, &party.target);
        files::replace(&path, text.as_bytes())?;
        Ok(path)
    };
    Ok((
        write("dump.cnf", Who::Source)?,
        write("load.cnf", Who::Replica)?,
    ))
}

/// The bytes that passed, and the GTID position of the dump.
fn run(
    work: &Work<'_>,
    (dump, dump_args): (&Program, &[OsString]),
    (load, load_args): (&Program, &[OsString]),
    total: u64,
    accounts: &[Account],
) -> Result<(u64, String), SetupError> {
    let mut begun = None;
    let from = End {
        program: dump,
        args: dump_args,
    };
    let into = End {
        program: load,
        args: load_args,
    };
    let flowed = flow::flow_edited(
        &from,
        &into,
        Some(client::DUMP_MODE),
        &mut |told| match told {
            Told::Head(head) => {
                failpoint::hit("setup-flowing");
                let looked = look_at_beginning(work, head, accounts);
                let is_good = looked.is_ok();
                begun = Some(looked);
                is_good
            }
            Told::Moved(bytes) => {
                if bytes > 0 {
                    work.ctx.progress.bytes(bytes, total.max(bytes));
                }
                !work.ctx.cancel.is_set()
            }
        },
    );
    let side = |step, name: &str, error: &dyn std::fmt::Display| {
        SetupError::failed(step, format!("{name}: {error}"))
    };
    match (flowed, begun) {
        // That a program failed is the cause of whatever its beginning lacks.
        (Err(FlowError::From(error)), _) => Err(side("dump", &work.source.name, &error)),
        (Err(FlowError::Into(error)), _) => Err(side("load the dump", &work.replica.name, &error)),
        (_, Some(Err(error))) => Err(error),
        (Err(FlowError::Stopped), _) => Err(interrupted("loading the dump")),
        (Err(error @ FlowError::Between(_)), _) => {
            Err(SetupError::failed("load the dump", error.to_string()))
        }
        (Ok(_), None) => Err(SetupError::failed("dump", "it is empty")),
        (Ok(bytes), Some(Ok(position))) => Ok((bytes, position)),
    }
}

/// By its beginning the dump's moment is over: its position is asked for while the source still has
/// it. The accounts are as at that moment only if nobody changed them around it; made by
/// replication a second time, they would stop it.
fn look_at_beginning(
    work: &Work<'_>,
    head: &[u8],
    accounts: &[Account],
) -> Result<String, SetupError> {
    let (session, now) = observe::accounts(work.session(Who::Source)?)?;
    if now != accounts {
        let reason = format!("accounts of {} changed while it began", work.source.name);
        return Err(SetupError::failed("dump", reason).hint("Run setup again."));
    }
    let position = client::dump_position(&work.source.flavour, head);
    match position {
        Some(DumpPosition::Gtid(position)) => Ok(position),
        Some(DumpPosition::Log { file, offset }) => {
            let statement = session.flavour().gtid_at_query(&file, offset);
            Ok(observe::compact(session, &statement)?.1)
        }
        None => Err(SetupError::failed(
            "dump",
            "it doesn't say at which position it was taken",
        )),
    }
}

fn copy_accounts(work: &mut Work<'_>, accounts: &[Account]) -> Result<usize, SetupError> {
    let (replica, present) = observe::accounts(work.session(Who::Replica)?)?;
    let missing = plan::missing_accounts(accounts, &present);
    if missing.is_empty() {
        return Ok(0);
    }
    let flavour = work.replica.flavour.clone();
    let undo = missing
        .iter()
        .map(|account| flavour.drop_account(account))
        .collect();
    work.before_unlogged("drop the copied accounts", undo)?;
    let replica = replica.execute(flavour.without_binary_log(), READ_LIMIT)?;
    account::copy(work.session(Who::Source)?, replica, &missing)?;
    failpoint::hit("setup-accounts-copied");
    Ok(missing.len())
}
