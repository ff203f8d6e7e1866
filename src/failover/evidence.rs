//! Is it dead? Our own probes over a while, and what every replica hears.
//!
//! A replica's IO thread that runs proves nothing: a source that was stopped with SIGSTOP looks
//! healthy to it for a minute. So the thread is started anew: who can't reconnect doesn't hear it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::journal::act::Act;
use crate::journal::operation::Outcome;
use crate::journal::{Operation, Party};
use crate::server::Target;
use crate::server::channel::ChannelName;
use crate::server::replication::{ThreadState, observe_channels};
use crate::server::session::{Session, SessionError};
use crate::snapshot::{Context, SnapshotError};

const PROBE_EVERY: Duration = Duration::from_millis(500);
const STATEMENT_LIMIT: Duration = Duration::from_secs(10);

/// How long a replica may take to log in to a source that lives.
const RECONNECTS_IN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether anything of a server answers us; why not.
fn probe(target: &Target) -> Result<String, String> {
    match Session::connect(target) {
        Ok(_) => Ok("it answers".to_owned()),
        Err(SessionError::Connect {
            code: Some(code),
            reason,
            ..
        }) => Ok(format!("it answers with error {code}: {reason}")),
        Err(error) => Err(error.to_string()),
    }
}

/// Nobody hears it: we don't, for `confirm`, nor does any replica. Else refused, with who hears whom.
pub fn is_dead(
    ctx: &Context,
    operation: &mut Operation,
    target: &Target,
    replicas: &[(Party, ChannelName)],
    confirm: Duration,
) -> Result<Outcome, SnapshotError> {
    let name = &target.server;
    for (party, channel) in replicas {
        if was_stopped(party, channel)? {
            // On purpose: it stays so, and says nothing.
            continue;
        }
        operation.note(Act::Statements {
            on: party.reach(),
            words: "start the replication's IO thread".to_owned(),
            statements: vec![party.flavour.start_io_thread(channel)],
        })?;
        if hears(party, channel)? {
            return Err(SnapshotError::refused(
                format!(
                    "{} reaches {name}, which we don't: it lives, and the network between us and it \
                     is cut",
                    party.name
                ),
                format!(
                    "Run `understudy switchover` from a host that reaches {name}; to give it up all the \
                     same, stop its server first.",
                ),
            ));
        }
    }
    let until = Instant::now() + confirm;
    loop {
        ctx.cancel.check("looking whether it is dead")?;
        let reason = match probe(target) {
            Ok(how) => {
                return Err(SnapshotError::refused(
                    format!("{name} isn't dead: {how}"),
                    "`understudy switchover` moves the role from a source that lives.",
                ));
            }
            Err(reason) => reason,
        };
        if Instant::now() >= until {
            return Ok(Outcome::Verified(format!(
                "neither we nor {} reach {name}: {reason}",
                match replicas {
                    [(one, _)] => one.name.clone(),
                    several => format!("its {} replicas", several.len()),
                }
            )));
        }
        sleep(PROBE_EVERY.min(until.saturating_duration_since(Instant::now())));
    }
}

fn was_stopped(party: &Party, channel: &ChannelName) -> Result<bool, SnapshotError> {
    let (_, channels) = observe_channels(party.session()?)?;
    let mut links = channels.iter();
    Ok(links.any(|link| link.name == *channel && link.io == ThreadState::Stopped))
}

/// Whether a replica can log in to its source now.
fn hears(party: &Party, channel: &ChannelName) -> Result<bool, SnapshotError> {
    let mut session = party.session()?;
    let flavour = party.flavour.clone();
    for statement in [
        flavour.stop_io_thread(channel),
        flavour.start_io_thread(channel),
    ] {
        session = session.execute(&statement, STATEMENT_LIMIT)?;
    }
    let until = Instant::now() + RECONNECTS_IN;
    loop {
        let (back, channels) = observe_channels(session)?;
        session = back;
        let link = channels.iter().find(|link| link.name == *channel);
        match link {
            Some(link) if link.io == ThreadState::Running => return Ok(true),
            // It was told so: nothing listens there.
            Some(link) if link.io_errno != 0 => return Ok(false),
            Some(_) | None if Instant::now() >= until => return Ok(false),
            Some(_) | None => sleep(LOOK_EVERY),
        }
    }
}
