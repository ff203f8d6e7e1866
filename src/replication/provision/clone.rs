//! By MySQL's clone plugin: the replica's server fetches the source's files itself, and restarts on
//! them.
//!
//! What setup needs for it alone goes again: the donor's account, and the plugin where it wasn't.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::{attempt, reopen};
use crate::config::Secret;
use crate::journal::act::{self, Act};
use crate::journal::operation::{InHand, Outcome};
use crate::replication::account;
use crate::replication::error::SetupError;
use crate::replication::observe;
use crate::replication::plan;
use crate::replication::request::Prepared;
use crate::replication::work::{Who, Work, interrupted};
use crate::server::flavour::{quote_name, quote_text};
use crate::server::pair::{Account, OWN_SCHEMA, PLUGIN_IN_USE, is_undone_already};
use crate::server::replication::observe_channels;
use crate::server::session::{READ_LIMIT, ServerError, Session, SessionError};
use crate::sys::failpoint;

const STATEMENT_LIMIT: Duration = Duration::from_secs(120);

/// Of terabytes over a slow line.
const CLONE_LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// A server with a large buffer pool takes long to stop and start.
const RESTART_LIMIT: Duration = Duration::from_secs(900);
const LET_GO_LIMIT: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// It was cloned to, and nobody restarts it but us.
const NOT_SUPERVISED: u16 = 3707;

/// The account with which the replica's server fetches; it lives as long as the step.
const DONOR_USER: &str = "understudy_clone";

pub fn bring(work: &mut Work<'_>, ready: &Prepared) -> Result<Outcome, SetupError> {
    note_undo(work, ready)?;
    let had_plugin = (
        ensure_plugin(work, Who::Source)?,
        ensure_plugin(work, Who::Replica)?,
    );
    let (host, port) = &ready.endpoint;
    allow_donor(work, host, *port)?;
    let (donor, password) = make_donor(work, &ready.account.host)?;
    // The first thing to be undone: nothing else goes while it still clones, or is down.
    let service = ready.replica.service.as_ref();
    let service = service.and_then(|service| service.control.clone());
    work.note(Act::Clone {
        on: work.replica.reach(),
        service,
        donor: work.source.reach(),
        user: DONOR_USER.to_owned(),
    })?;
    failpoint::hit("setup-cloning");
    let since = Instant::now();
    let statement = work.replica.flavour.clone_from(
        &donor,
        &password,
        (host, *port),
        ready.source.tls != crate::config::TlsMode::Disabled,
    );
    let bytes = clone(work, ready, &statement)?;
    let took = since.elapsed();
    failpoint::hit("setup-cloned");
    let session = reopen(work.session(Who::Replica)?)?;
    check_status(session)?;
    forget_links(work)?;
    let source = work.session(Who::Source)?;
    let statement = work.source.flavour.drop_account(&donor);
    drop(source.execute(&statement, STATEMENT_LIMIT)?);
    if !had_plugin.0 {
        remove_plugin(work, Who::Source)?;
    }
    if !had_plugin.1 {
        remove_plugin(work, Who::Replica)?;
    }
    let rate = bytes as f64 / took.as_secs_f64().max(0.001) / 1_048_576.0;
    Ok(Outcome::Changed(format!(
        "cloned {} MiB, {rate:.0} MiB/s with the server's restart; its accounts are those of {}",
        bytes >> 20,
        work.source.name
    )))
}

/// What came is dropped again.
fn note_undo(work: &mut Work<'_>, ready: &Prepared) -> Result<(), SetupError> {
    let (_, theirs) = observe::accounts(work.session(Who::Source)?)?;
    let (_, own) = observe::accounts(work.session(Who::Replica)?)?;
    let flavour = work.replica.flavour.clone();
    let lost: Vec<String> = plan::missing_accounts(&own, &theirs)
        .iter()
        .map(ToString::to_string)
        .collect();
    if !lost.is_empty() {
        work.note(Act::Lost {
            words: format!(
                "accounts that only {} had are gone ({})",
                work.replica.name,
                lost.join(", ")
            ),
        })?;
    }
    let mut statements: Vec<String> = ready
        .source_side
        .schemas
        .iter()
        .map(|schema| schema.name.as_str())
        .chain([OWN_SCHEMA])
        .map(|schema| format!("DROP DATABASE IF EXISTS {}", quote_name(schema)))
        .collect();
    let strangers = plan::missing_accounts(&theirs, &own);
    statements.extend(
        strangers
            .iter()
            .map(|account| flavour.drop_account(account)),
    );
    let donor = Account {
        user: DONOR_USER.to_owned(),
        host: ready.account.host.clone(),
        is_role: false,
    };
    statements.push(flavour.drop_account(&donor));
    statements.extend(flavour.set_applied(match ready.plan.erases.is_empty() {
        true => &ready.replica_side.applied,
        false => "",
    }));
    statements.insert(0, "SET GLOBAL read_only = OFF".to_owned());
    statements.insert(0, "SET GLOBAL super_read_only = OFF".to_owned());
    let statements = act::unlogged(&flavour, statements);
    work.before(Who::Replica, "drop what was cloned", statements)
}

/// True when it was there.
fn ensure_plugin(work: &mut Work<'_>, who: Who) -> Result<bool, SetupError> {
    let session = work.session(who)?;
    let statement = session.flavour().clone_plugin_query();
    let (session, state) = session.value(statement, READ_LIMIT)?;
    if state.as_deref() == Some("ACTIVE") {
        return Ok(true);
    }
    let undo = vec!["UNINSTALL PLUGIN clone".to_owned()];
    work.before(who, "uninstall the clone plugin", undo)?;
    session.execute(
        "INSTALL PLUGIN clone SONAME 'mysql_clone.so'",
        STATEMENT_LIMIT,
    )?;
    Ok(false)
}

/// A donor's threads need a moment to let go of it.
fn remove_plugin(work: &Work<'_>, who: Who) -> Result<(), SetupError> {
    let until = Instant::now() + LET_GO_LIMIT;
    let statement = "UNINSTALL PLUGIN clone";
    let mut session = work.session(who)?;
    loop {
        let (back, answer) = session.attempt(statement, STATEMENT_LIMIT)?;
        match answer {
            Err(error) if error.code == PLUGIN_IN_USE && Instant::now() < until => {
                session = back;
                std::thread::sleep(LOOK_EVERY);
            }
            Err(error) if !is_undone_already(error.code) => {
                return Err(SetupError::failed(
                    "clone",
                    format!("`{statement}`: {error}"),
                ));
            }
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}

/// The replica's server fetches from nobody else.
fn allow_donor(work: &mut Work<'_>, host: &str, port: u16) -> Result<(), SetupError> {
    let statement = "SELECT COALESCE(@@GLOBAL.clone_valid_donor_list, '')";
    let (session, before) = observe::compact(work.session(Who::Replica)?, statement)?;
    let set = |value: &str| {
        format!(
            "SET GLOBAL clone_valid_donor_list = {}",
            match value {
                "" => "NULL".to_owned(),
                value => quote_text(value),
            }
        )
    };
    work.before(Who::Replica, "forget the donor", vec![set(&before)])?;
    session.execute(&set(&format!("{host}:{port}")), STATEMENT_LIMIT)?;
    Ok(())
}

fn make_donor(work: &mut Work<'_>, host: &str) -> Result<(Account, Secret), SetupError> {
    let donor = Account {
        user: DONOR_USER.to_owned(),
        host: host.to_owned(),
        is_role: false,
    };
    let password = account::new_password()?;
    let drop = work.source.flavour.drop_account(&donor);
    work.before(Who::Source, "drop the donor's account", vec![drop.clone()])?;
    let mut session = work.session(Who::Source)?;
    session = session.execute(&drop, STATEMENT_LIMIT)?;
    let name = donor.quoted();
    let statement = format!(
        "CREATE USER {name} IDENTIFIED BY {}",
        quote_text(password.reveal())
    );
    let shown = format!("CREATE USER {donor}");
    session = session.execute_secret(&statement, &shown, STATEMENT_LIMIT)?;
    let grant = format!("GRANT BACKUP_ADMIN ON *.* TO {name}");
    session.execute(&grant, STATEMENT_LIMIT)?;
    Ok((donor, password))
}

/// Runs CLONE on a connection of its own, watches it from another one, and waits until the server
/// is back.
fn clone(work: &Work<'_>, ready: &Prepared, statement: &str) -> Result<u64, SetupError> {
    let session = work.session(Who::Replica)?;
    let (sender, receiver) = mpsc::channel();
    let shown = format!("CLONE INSTANCE FROM {DONOR_USER}@…");
    let owned = statement.to_owned();
    let runner = std::thread::spawn(move || {
        let answer = session.execute_secret(&owned, &shown, CLONE_LIMIT);
        drop(sender.send(answer.map(drop)));
    });
    let (answer, bytes) = watch(work, &receiver, ready.source_side.bytes())?;
    drop(runner.join());
    let ended = Instant::now();
    match answer {
        Ok(()) | Err(SessionError::Lost { .. }) => {}
        Err(error) => {
            let code = error.server_error().map(|error: &ServerError| error.code);
            if code != Some(NOT_SUPERVISED) {
                return Err(SetupError::failed("clone", error.to_string()));
            }
            let control = ready.replica.service.as_ref();
            if let Some(control) = control.and_then(|service| service.control.as_ref()) {
                wait_down(work)?;
                crate::journal::service::start(control)
                    .map_err(|error| SetupError::failed("clone", error.to_string()))?;
            }
        }
    }
    wait_back(work, ended)?;
    Ok(bytes)
}

type Answer = Result<(), SessionError>;

/// Tells how far it is, until it answers. The bytes that were copied at the last look.
fn watch(
    work: &Work<'_>,
    receiver: &Receiver<Answer>,
    total: u64,
) -> Result<(Answer, u64), SetupError> {
    let mut bytes = total;
    let mut session = work.session(Who::Replica).ok();
    loop {
        match receiver.recv_timeout(LOOK_EVERY) {
            Ok(answer) => return Ok((answer, bytes)),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(SetupError::failed("clone", "its thread ended"));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if work.ctx.cancel.is_set() {
            // What is journalled ends it.
            return Err(interrupted("cloning"));
        }
        // The server goes away in the end; that isn't for this connection to judge.
        if let Some(live) = session.take() {
            let statement = live.flavour().clone_progress_query();
            if let Ok((live, rows)) = live.query(statement, READ_LIMIT) {
                let number = |index| rows.first()?.at(index)?.parse::<u64>().ok();
                if let (Some(done), Some(all)) = (number(0), number(1)) {
                    bytes = done;
                    work.ctx.progress.bytes(done, all);
                }
                session = Some(live);
            }
        }
    }
}

fn wait_down(work: &Work<'_>) -> Result<(), SetupError> {
    let data_dir = std::path::Path::new(&work.replica.identity.data_dir);
    let until = Instant::now() + RESTART_LIMIT;
    while Session::connect(&work.replica.target).is_ok() || crate::sys::process::runs_in(data_dir) {
        if Instant::now() >= until {
            return Err(SetupError::failed("clone", "the server doesn't stop"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Back means: it answers, and was started since the clone `ended`.
fn wait_back(work: &Work<'_>, ended: Instant) -> Result<(), SetupError> {
    let until = ended + RESTART_LIMIT;
    loop {
        match work.session(Who::Replica) {
            // It may answer for a moment before it goes.
            Ok(session) => {
                if restarted(session, ended.elapsed()).unwrap_or(false) {
                    return Ok(());
                }
                if Instant::now() >= until {
                    let reason = format!("{} doesn't restart", work.replica.name);
                    return Err(SetupError::failed("clone", reason));
                }
            }
            Err(error @ SetupError::Session(SessionError::WrongServer { .. })) => {
                return Err(error);
            }
            Err(error) if Instant::now() >= until => {
                return Err(SetupError::failed(
                    "clone",
                    format!(
                        "{} isn't back after its restart: {error}",
                        work.replica.name
                    ),
                ));
            }
            Err(_) => {}
        }
        work.ctx
            .progress
            .still("clone", "the server restarts", ended);
        std::thread::sleep(LOOK_EVERY);
    }
}

fn restarted(session: Session, waited: Duration) -> Result<bool, SessionError> {
    let (_, rows) = session.query("SHOW GLOBAL STATUS LIKE 'Uptime'", READ_LIMIT)?;
    let up_s: u64 = rows
        .first()
        .and_then(|row| row.at(1)?.parse().ok())
        .unwrap_or(u64::MAX);
    // Whole seconds; it was started after the clone was done, however long that was waited for.
    Ok(up_s <= waited.as_secs() + 5)
}

fn check_status(session: Session) -> Result<(), SetupError> {
    let statement = session.flavour().clone_state_query();
    let (_, rows) = session.query(statement, READ_LIMIT)?;
    let row = rows.first().cloned().unwrap_or_default();
    match row.at(0) {
        Some("Completed") => Ok(()),
        state => Err(SetupError::failed(
            "clone",
            format!(
                "its state is {}: {}",
                state.unwrap_or("unknown"),
                row.at(2).unwrap_or_default()
            ),
        )),
    }
}

/// The source may have been a replica itself; its links came along.
fn forget_links(work: &Work<'_>) -> Result<(), SetupError> {
    let (mut session, links) = observe_channels(work.session(Who::Replica)?)?;
    let flavour = session.flavour().clone();
    for link in links {
        for statement in flavour.forget_channel(&link.name) {
            session = attempt(session, &statement)?;
        }
    }
    Ok(())
}
