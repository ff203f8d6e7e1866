//! The link itself: pointing the replica at its source, closing it for writers, starting, waiting
//! until it has caught up.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::account;
use super::error::SetupError;
use super::observe::compact;
use super::plan::Linked;
use super::request::Prepared;
use super::setting;
use super::work::{Who, Work, interrupted};
use crate::config::Secret;
use crate::journal::operation::Outcome;
use crate::server::channel::ChannelName;
use crate::server::pair::LinkWish;
use crate::server::replication::{Channel, ThreadState, observe_channels};
use crate::server::session::{READ_LIMIT, Session};
use crate::sys::failpoint;

/// Stopping waits for the transaction in hand.
pub(super) const STATEMENT_LIMIT: Duration = Duration::from_secs(120);

/// How long the first connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(60);

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Catching up that took less than this leaves nothing to wait for.
const NEAR_ENOUGH: Duration = Duration::from_secs(2);

const ACCESS_DENIED: u32 = 1045;

/// What doesn't get better by waiting.
const HOPELESS: [u32; 7] = [ACCESS_DENIED, 1130, 1227, 1236, 1593, 2026, 3159];

/// The channel that setup makes.
pub(super) fn channel(ready: &Prepared) -> ChannelName {
    match (&ready.plan.linked, ready.plan.erases.is_empty()) {
        (Linked::AsWanted(link), true) => link.name.clone(),
        (Linked::AsWanted(_) | Linked::No | Linked::Otherwise, _) => ChannelName::default(),
    }
}

/// Points the replica at the source by GTID, unless it is.
pub fn point(
    work: &mut Work<'_>,
    ready: &Prepared,
    password: &Secret,
) -> Result<Outcome, SetupError> {
    let channel = channel(ready);
    let (host, port) = &ready.endpoint;
    let (session, links) = observe_channels(work.session(Who::Replica)?)?;
    let found = links.iter().find(|link| link.name == channel);
    let as_wanted = matches!(ready.plan.linked, Linked::AsWanted(_)) && found.is_some();
    let is_other_user = found.is_some_and(|link| link.user != account::USER);
    if as_wanted && (is_other_user || !work.password_is_new) {
        return Ok(Outcome::AlreadySo(format!(
            "{} follows {host}:{port} by GTID",
            work.replica.name
        )));
    }
    let wish = LinkWish {
        channel: channel.clone(),
        host: host.clone(),
        port: *port,
        user: account::USER.to_owned(),
        password: password.clone(),
        tls: ready.source.tls,
        tls_ca: ready
            .source
            .tls_ca
            .as_ref()
            .map(|path| path.display().to_string()),
    };
    let flavour = session.flavour().clone();
    if !as_wanted {
        work.before(
            Who::Replica,
            "forget the source",
            flavour.forget_channel(&channel),
        )?;
    }
    failpoint::hit("setup-linking");
    if as_wanted {
        renew_password(session, &channel, password)?;
        return Ok(Outcome::Changed(format!(
            "{} has the new password of {}",
            work.replica.name,
            account::USER
        )));
    }
    let shown = format!("CHANGE … TO … HOST = '{host}', PORT = {port}");
    session.execute_secret(&flavour.point_at(&wish), &shown, STATEMENT_LIMIT)?;
    Ok(Outcome::Changed(format!(
        "{} follows {host}:{port} by GTID as {}{}",
        work.replica.name,
        account::USER,
        if ready.source.tls == crate::config::TlsMode::Disabled {
            ""
        } else {
            ", with TLS"
        }
    )))
}

/// A link that stays; whoever calls starts it again.
fn renew_password(
    session: Session,
    channel: &ChannelName,
    password: &Secret,
) -> Result<Session, SetupError> {
    let flavour = session.flavour().clone();
    let (session, heartbeat_s) = heartbeat_period(session, channel)?;
    let (stops, change) = flavour.renew_password(channel, password, heartbeat_s);
    let mut session = session;
    for statement in stops {
        session = session.execute(&statement, STATEMENT_LIMIT)?;
    }
    let shown = "CHANGE … TO … PASSWORD = …";
    Ok(session.execute_secret(&change, shown, STATEMENT_LIMIT)?)
}

/// Seconds, where the server tells.
fn heartbeat_period(
    session: Session,
    channel: &ChannelName,
) -> Result<(Session, Option<f64>), SetupError> {
    let Some(query) = session.flavour().heartbeat_period_query(channel) else {
        return Ok((session, None));
    };
    let (session, value) = session.value(&query, READ_LIMIT)?;
    Ok((session, value.and_then(|text| text.parse().ok())))
}

/// Closes the replica for all writers but replication, now and after its restarts.
pub fn close(work: &mut Work<'_>) -> Result<Outcome, SetupError> {
    let mut session = work.session(Who::Replica)?;
    let flavour = session.flavour().clone();
    let name = match flavour.has_super_read_only() {
        true => "super_read_only",
        false => "read_only",
    };
    let (back, is_closed) = compact(session, &format!("SELECT @@GLOBAL.{name}"))?;
    session = back;
    let (back, was_read_only) = compact(session, "SELECT @@GLOBAL.read_only")?;
    session = back;
    let mut at_boot = Vec::new();
    if let Some(statement) = flavour.closed_at_boot_query() {
        let (back, rows) = session.query(statement, READ_LIMIT)?;
        session = back;
        at_boot = rows
            .iter()
            .filter_map(|row| Some(row.at(0)?.to_ascii_lowercase()))
            .collect();
    }
    let stays_closed = at_boot.iter().any(|kept| kept == name);
    let mut done = Vec::new();
    if is_closed != "1" {
        let mut undo = Vec::new();
        if flavour.has_super_read_only() {
            undo.push("SET GLOBAL super_read_only = OFF".to_owned());
        }
        if was_read_only != "1" {
            undo.push("SET GLOBAL read_only = OFF".to_owned());
        }
        work.before(Who::Replica, "end read_only", undo)?;
        session = session.execute(flavour.close(), STATEMENT_LIMIT)?;
        done.push(format!("set {name}"));
    }
    match (stays_closed, flavour.close_for_good()) {
        (true, _) => {}
        (false, Some(statements)) => {
            let undo = ["super_read_only", "read_only"]
                .into_iter()
                .filter(|variable| !at_boot.iter().any(|kept| kept == variable))
                .map(|variable| flavour.forget_persisted(variable))
                .collect();
            work.before(Who::Replica, "forget the persisted read_only", undo)?;
            for statement in statements {
                session = session.execute(statement, STATEMENT_LIMIT)?;
            }
            done.push("persisted it".to_owned());
        }
        (false, None) => {}
    }
    drop(session);
    let stays = stays_closed || flavour.close_for_good().is_some();
    for variable in ["read_only", "super_read_only"] {
        if variable == "read_only" || flavour.has_super_read_only() {
            setting::note(work, Who::Replica, (variable, "ON"), stays);
        }
    }
    let replica = &work.replica.name;
    Ok(match done.is_empty() {
        true => Outcome::AlreadySo(format!("{replica} has {name}")),
        false => Outcome::Changed(format!("{} on {replica}", done.join(", "))),
    })
}

/// Replicas notice soon that their source is silent; the source too, once it is one.
pub fn notice_silence(work: &mut Work<'_>) -> Result<Outcome, SetupError> {
    let mut done = Vec::new();
    for who in [Who::Source, Who::Replica] {
        let (name, seconds) = work.party(who).flavour.net_timeout();
        let (_, now) = compact(work.session(who)?, &format!("SELECT @@GLOBAL.{name}"))?;
        // A shorter one was chosen by somebody.
        let wanted = now.parse().unwrap_or(seconds).min(seconds);
        if setting::set_if_allowed(work, who, name, &wanted.to_string())? {
            done.push(format!("{name} = {wanted} on {}", work.party(who).name));
        }
    }
    Ok(match done.is_empty() {
        true => Outcome::AlreadySo("a silent source is noticed".to_owned()),
        false => Outcome::Changed(done.join(", ")),
    })
}

/// Starts both threads and waits until the replica has reached the right source.
pub fn start(
    work: &mut Work<'_>,
    ready: &Prepared,
    password: &Secret,
) -> Result<Outcome, SetupError> {
    let channel = channel(ready);
    let (mut session, link) = observe_link(work.session(Who::Replica)?, &channel)?;
    if link.runs() && matches!(ready.plan.linked, Linked::AsWanted(_)) {
        check_source(work, &link)?;
        return Ok(Outcome::AlreadySo(format!(
            "replication runs on {}",
            work.replica.name
        )));
    }
    let flavour = session.flavour().clone();
    let was_stopped = link.io == ThreadState::Stopped && link.sql == ThreadState::Stopped;
    if was_stopped {
        let undo = flavour.stop_channel(&channel);
        work.before(Who::Replica, "stop replication", undo)?;
    }
    for statement in flavour.start_channel(&channel) {
        session = session.execute(&statement, STATEMENT_LIMIT)?;
    }
    let since = Instant::now();
    let mut was_renewed = !matches!(ready.plan.linked, Linked::AsWanted(_));
    loop {
        let (back, link) = observe_link(session, &channel)?;
        session = back;
        // For a moment a thread runs that hasn't told yet whom it reached.
        if link.runs() && link.leads_to(&work.source.identity).is_some() {
            check_source(work, &link)?;
            return Ok(Outcome::Changed(format!(
                "replication on {}",
                work.replica.name
            )));
        }
        // The password was renewed for another replica of the pair.
        if link.io_errno == ACCESS_DENIED && link.user == account::USER && !was_renewed {
            was_renewed = true;
            session = renew_password(session, &channel, password)?;
            for statement in flavour.start_channel(&channel) {
                session = session.execute(&statement, STATEMENT_LIMIT)?;
            }
            continue;
        }
        check_errors(work, ready, &link, since.elapsed() >= CONNECT_LIMIT)?;
        if work.ctx.cancel.is_set() {
            return Err(interrupted("starting replication"));
        }
        work.ctx
            .progress
            .still("start", "waiting for the replica to connect", since);
        sleep(LOOK_EVERY);
    }
}

fn observe_link(session: Session, channel: &ChannelName) -> Result<(Session, Channel), SetupError> {
    let (session, links) = observe_channels(session)?;
    match links.into_iter().find(|link| link.name == *channel) {
        Some(link) => Ok((session, link)),
        None => Err(SetupError::failed(
            "look at replication",
            format!("{} has no {channel}", session.target().server),
        )),
    }
}

/// The address may lead the replica to another server than it leads us.
fn check_source(work: &Work<'_>, link: &Channel) -> Result<(), SetupError> {
    match link.leads_to(&work.source.identity) == Some(true) {
        true => Ok(()),
        false => Err(SetupError::failed(
            "start replication",
            format!(
                "at {}:{} {} reaches another server (server_id {}) than {} is",
                link.source_host,
                link.source_port,
                work.replica.name,
                link.source_server_id.unwrap_or(0),
                work.source.name
            ),
        )
        .hint("Give the source's address as its replicas see it.")),
    }
}

/// Errors that stop a thread, or that waiting doesn't cure.
fn check_errors(
    work: &Work<'_>,
    ready: &Prepared,
    link: &Channel,
    is_late: bool,
) -> Result<(), SetupError> {
    let io_is_final =
        HOPELESS.contains(&link.io_errno) || link.io == ThreadState::Stopped || is_late;
    if !link.sql_error.is_empty() && link.sql == ThreadState::Stopped {
        return Err(SetupError::failed(
            "replicate",
            format!(
                "{} can't apply what {} sends: {}",
                work.replica.name, work.source.name, link.sql_error
            ),
        )
        .hint(format!(
            "{} isn't a copy of {}: give --provision dump --replace to make it one.",
            work.replica.name, work.source.name
        )));
    }
    if link.io_error.is_empty() || !io_is_final {
        return Ok(());
    }
    let file = account::password_file(&work.ctx.state, &ready.pair);
    let hint = match link.io_errno {
        ACCESS_DENIED => format!(
            "The account is {}: if {} comes from another address, give --account-host; if its \
             password was changed, remove {} and run setup again.",
            ready.account,
            work.replica.name,
            file.display()
        ),
        1130 => "The source allows no account from that address: give --account-host.".to_owned(),
        1236 => "The source's binary logs don't hold what the replica needs: give --provision \
                 dump."
            .to_owned(),
        2026 => "Its TLS doesn't fit: check the CA and the host name in the source's certificate, \
                 and that the replica's server may read the CA file."
            .to_owned(),
        _ => format!(
            "Check that {} reaches {}:{} (firewall, bind_address).",
            work.replica.name, link.source_host, link.source_port
        ),
    };
    Err(SetupError::failed("connect the replica to its source", link.io_error.clone()).hint(hint))
}

/// Waits until the replica has all that the source has now.
pub fn catch_up(
    work: &mut Work<'_>,
    ready: &Prepared,
    limit: Duration,
) -> Result<Outcome, SetupError> {
    let channel = channel(ready);
    let mut source = work.session(Who::Source)?;
    let mut replica = work.session(Who::Replica)?;
    let flavour = replica.flavour().clone();
    let since = Instant::now();
    loop {
        let (back, wanted_text) = compact(source, flavour.written_query())?;
        source = back;
        let parse = |text: &str| {
            flavour
                .parse_gtid(text)
                .map_err(|error| SetupError::failed("read GTIDs", error.to_string()))
        };
        let wanted = parse(&wanted_text)?;
        let round = Instant::now();
        loop {
            let (back, applied) = compact(replica, flavour.applied_query())?;
            replica = back;
            if wanted.is_subset_of(&parse(&applied)?).unwrap_or(false) {
                break;
            }
            let (back, link) = observe_link(replica, &channel)?;
            replica = back;
            check_errors(work, ready, &link, false)?;
            if work.ctx.cancel.is_set() {
                return Err(interrupted("waiting for the replica to catch up"));
            }
            if since.elapsed() > limit {
                return Err(SetupError::failed(
                    "catch up",
                    format!(
                        "{} hasn't {wanted_text} after {} s",
                        work.replica.name,
                        limit.as_secs()
                    ),
                )
                .hint("Give it longer with --catch-up."));
            }
            work.ctx
                .progress
                .still("catch-up", &format!("at {applied}"), since);
            sleep(LOOK_EVERY);
        }
        if round.elapsed() < NEAR_ENOUGH {
            return Ok(Outcome::Verified(format!(
                "{} has {wanted_text}",
                work.replica.name
            )));
        }
    }
}
