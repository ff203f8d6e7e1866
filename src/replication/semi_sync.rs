//! `setup PAIR --semi-sync`: plugins where they aren't built in, the replica's side on the replica, the
//! source's on the source, each server ready for the other part.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::error::SetupError;
use super::link::{self, STATEMENT_LIMIT};
use super::plan::Side as Server;
use super::request::Prepared;
use super::setting;
use super::work::{Who, Work, interrupted};
use crate::journal::operation::Outcome;
use crate::server::semi_sync::{self, Plugin, Side, Sides};
use crate::server::session::{READ_LIMIT, Session};
use crate::snapshot::error::Refusal;
use crate::sys::process;

/// How long a commit waits for its acknowledgement where nobody said otherwise: who has lost the only
/// replica is held up once for so long, and then goes on without. The servers' own 10 s would be an
/// outage at each restart of a replica.
const TIMEOUT_MS: u64 = 1000;
/// The servers' default, which nobody chose.
const DEFAULT_MS: u64 = 10_000;
const WAIT_POINT: &str = "AFTER_SYNC";

/// For a connection that has to be made anew.
const LIMIT: Duration = Duration::from_secs(30);
const AGAIN_AFTER: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

const BOTH: [Side; 2] = [Side::Source, Side::Replica];

/// The server has no such file.
const CANNOT_OPEN_LIBRARY: u16 = 1126;

/// What can be seen beforehand to stand against it: a plugin's file that isn't there. On another host
/// the installation tells, which is the first step.
pub fn check(session: Session, server: &Server) -> Result<Vec<Refusal>, SetupError> {
    let flavour = session.flavour().clone();
    let (session, sides) = semi_sync::observe(session)?;
    let (_, directory) = session.value("SELECT @@GLOBAL.plugin_dir", READ_LIMIT)?;
    let directory = directory.unwrap_or_default();
    let pids = process::in_directory(Path::new(&server.identity.data_dir));
    let (Some(pid), true, true) = (pids.first(), server.is_local, directory.starts_with('/'))
    else {
        return Ok(Vec::new());
    };
    let lacking = BOTH
        .into_iter()
        .filter(|side| !sides.has(*side))
        .filter_map(|side| flavour.semi_sync_plugin(side))
        .map(|plugin| Path::new(&directory).join(plugin.file))
        .filter(|path| !process::sees_file(*pid, path))
        .map(|path| {
            Refusal::new(
                format!(
                    "{} has no plugin for semi-synchronous replication: there is no {}",
                    server.name,
                    path.display()
                ),
                hint(),
            )
        });
    Ok(lacking.take(1).collect())
}

fn hint() -> String {
    "Install the server's package that has its plugins, or leave --semi-sync away.".to_owned()
}

/// Both plugins on both servers, so that roles can move.
pub fn install(work: &mut Work<'_>) -> Result<Outcome, SetupError> {
    let mut made = Vec::new();
    for who in [Who::Source, Who::Replica] {
        for side in BOTH {
            let session = work.session(who)?;
            let plugin = session.flavour().semi_sync_plugin(side);
            let (session, sides) = semi_sync::observe(session)?;
            if let Some(plugin) = plugin.filter(|_| !sides.has(side)) {
                install_one(work, who, session, plugin)?;
                made.push(format!("{} on {}", plugin.name, work.party(who).name));
            }
        }
    }
    Ok(match made.is_empty() {
        true => Outcome::AlreadySo("both servers have both sides of it".to_owned()),
        false => Outcome::Changed(format!("installed {}", made.join(", "))),
    })
}

/// A server with super_read_only installs none (1290), so that is lifted for the moment; read_only
/// stays.
fn install_one(
    work: &mut Work<'_>,
    who: Who,
    session: Session,
    plugin: Plugin,
) -> Result<(), SetupError> {
    let mut session = session;
    let mut is_closed = false;
    if session.flavour().has_super_read_only() {
        let (back, value) = session.value("SELECT @@GLOBAL.super_read_only", READ_LIMIT)?;
        session = back;
        is_closed = value.as_deref() == Some("1");
    }
    let (open, close) = (
        "SET GLOBAL super_read_only = OFF",
        "SET GLOBAL super_read_only = ON",
    );
    let mut install = vec![format!(
        "INSTALL PLUGIN {} SONAME '{}'",
        plugin.name, plugin.file
    )];
    let mut undo = vec![format!("UNINSTALL PLUGIN {}", plugin.name)];
    if is_closed {
        for statements in [&mut install, &mut undo] {
            statements.insert(0, open.to_owned());
            statements.push(close.to_owned());
        }
    }
    work.before(who, &format!("uninstall {}", plugin.name), undo)?;
    for statement in &install {
        let (back, answer) = session.attempt(statement, STATEMENT_LIMIT)?;
        session = back;
        match answer {
            Ok(_) => {}
            Err(error) if error.code == CANNOT_OPEN_LIBRARY => {
                return Err(SetupError::failed(
                    "install a plugin",
                    format!(
                        "{} has no {}: {}",
                        work.party(who).name,
                        plugin.file,
                        error.message
                    ),
                )
                .hint(hint()));
            }
            Err(error) => {
                return Err(SetupError::failed(
                    "install a plugin",
                    format!("{}: {statement}: {error}", work.party(who).name),
                )
                .hint(format!(
                    "`understudy grants {}` prints what the account needs.",
                    work.party(who).name
                )));
            }
        }
    }
    Ok(())
}

/// Switches it on, and sees it in force.
pub fn switch_on(work: &mut Work<'_>, ready: &Prepared) -> Result<Outcome, SetupError> {
    // Files that were brought have the plugins that they had where they come from.
    install(work)?;
    let mut changed = false;
    for who in [Who::Source, Who::Replica] {
        changed |= adjust(work, who)?;
    }
    let channel = link::channel(ready);
    let flavour = work.replica.flavour.clone();
    let anew = vec![
        flavour.stop_io_thread(&channel),
        flavour.start_io_thread(&channel),
    ];
    let replica_switch = switch(work, Who::Replica, Side::Replica)?;
    // Undone after the variable is set back; and its IO thread is never left stopped.
    work.before(Who::Replica, "connect anew", anew.clone())?;
    let replica_on = setting::set(work, Who::Replica, &replica_switch, "ON")?;
    if replica_on {
        reconnect(work, &anew)?;
    }
    let source_switch = switch(work, Who::Source, Side::Source)?;
    changed |= replica_on | setting::set(work, Who::Source, &source_switch, "ON")?;
    note_other_sides(work)?;
    see(work, &anew)?;
    let text = format!(
        "commits on {} wait until {} has them, {}",
        work.source.name,
        work.replica.name,
        patience(&sides(work, Who::Source)?)
    );
    Ok(match changed {
        true => Outcome::Changed(text),
        false => Outcome::AlreadySo(text),
    })
}

fn patience(sides: &Sides) -> String {
    let ms = sides.timeout().map_or(0, |(_, ms)| ms);
    format!(
        "for {:.1} s at most",
        Duration::from_millis(ms).as_secs_f64()
    )
}

/// What comes up after a restart, whichever part the server has then: an option file doesn't move with
/// the roles. A replica whose source's side is on loses one timeout at its first transaction, so only
/// where that is short.
fn note_other_sides(work: &mut Work<'_>) -> Result<(), SetupError> {
    for (who, side) in [(Who::Source, Side::Replica), (Who::Replica, Side::Source)] {
        let party = work.party(who).clone();
        let own = sides(work, who)?;
        if party.flavour.keeps_variables() || side == Side::Source && !own.is_patient() {
            continue;
        }
        if let Some(name) = own.switch(side) {
            let (_, from_file) = setting::comes_up_with(party.session()?, &name)?;
            let stays = from_file && own.is_on(side);
            setting::note(work, who, (&name, "ON"), stays);
        }
    }
    Ok(())
}

/// A timeout that nobody chose, and the point at which nothing acknowledged can be lost.
fn adjust(work: &mut Work<'_>, who: Who) -> Result<bool, SetupError> {
    let own = sides(work, who)?;
    let mut changed = false;
    if let Some((name, ms)) = own.timeout() {
        let wanted = if ms == DEFAULT_MS { TIMEOUT_MS } else { ms };
        changed |= setting::set(work, who, &name, &wanted.to_string())?;
    }
    if let Some((name, _)) = own.wait_point() {
        changed |= setting::set(work, who, &name, WAIT_POINT)?;
    }
    Ok(changed)
}

fn sides(work: &Work<'_>, who: Who) -> Result<Sides, SetupError> {
    Ok(semi_sync::observe(work.session(who)?)?.1)
}

fn switch(work: &Work<'_>, who: Who, side: Side) -> Result<String, SetupError> {
    sides(work, who)?.switch(side).ok_or_else(|| {
        SetupError::failed(
            "switch semi-synchronous replication on",
            format!("{} doesn't know it", work.party(who).name),
        )
    })
}

fn reconnect(work: &Work<'_>, anew: &[String]) -> Result<(), SetupError> {
    let mut session = work.session(Who::Replica)?;
    for statement in anew {
        session = session.execute(statement, STATEMENT_LIMIT)?;
    }
    Ok(())
}

/// Until the replica acknowledges and the source waits for it.
fn see(work: &Work<'_>, anew: &[String]) -> Result<(), SetupError> {
    let (of_source, of_replica) = (sides(work, Who::Source)?, sides(work, Who::Replica)?);
    let until = Instant::now() + LIMIT;
    let mut again_at = Instant::now() + AGAIN_AFTER;
    loop {
        let source = work.session(Who::Source)?;
        let (source, waits) = semi_sync::is_active(source, &of_source, Side::Source)?;
        let (_, clients) = semi_sync::clients(source, &of_source)?;
        let replica = work.session(Who::Replica)?;
        let (_, acknowledges) = semi_sync::is_active(replica, &of_replica, Side::Replica)?;
        // What has fallen back before is in force again at the next transaction only.
        if clients > 0 && acknowledges && (waits || clients >= of_source.wanted()) {
            return Ok(());
        }
        if work.ctx.cancel.is_set() {
            return Err(interrupted("switching semi-synchronous replication on"));
        }
        if Instant::now() >= until {
            return Err(SetupError::failed(
                "switch semi-synchronous replication on",
                format!(
                    "{} doesn't acknowledge to {} ({clients} replicas do)",
                    work.replica.name, work.source.name
                ),
            )
            .hint("See SHOW GLOBAL STATUS LIKE 'Rpl_semi_sync%' and both servers' logs."));
        }
        if Instant::now() >= again_at {
            reconnect(work, anew)?;
            again_at = Instant::now() + LIMIT;
        }
        sleep(LOOK_EVERY);
    }
}
