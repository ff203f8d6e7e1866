//! Ending a clone (MySQL's plugin) that its command left going on.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::server::{LOOK_EVERY, target};
use super::{ActError, Means, Reach};
use crate::config::ServiceControl;
use crate::journal::service;
use crate::server::flavour::quote_text;
use crate::server::session::{ServerError, Session, SessionError};
use crate::sys::process;

/// What only looks, or tells a thread to end.
const LOOK_LIMIT: Duration = Duration::from_secs(30);

/// A clone ends where it can be broken off; a server that was just cloned to restarts.
const CLONE_ENDS_IN: Duration = Duration::from_secs(600);

const CLONES: &str = "SELECT 1 FROM information_schema.PROCESSLIST \
     WHERE INFO LIKE 'CLONE INSTANCE%'";

/// The list of threads loses its words when it waits for its donor again.
const CLONE_STATE: &str = "SELECT 1 FROM performance_schema.clone_status \
     WHERE STATE = 'In Progress'";

/// Ends it on both sides; a failure with the server that it is about.
pub fn end(
    means: &Means<'_>,
    (on, service): (&Reach, Option<&ServiceControl>),
    donor: &Reach,
    user: &str,
) -> Result<(), (String, ActError)> {
    end_clone(means, (on, service), donor, user).map_err(|error| (on.server.clone(), error))?;
    // The donor's part again later, when it was away.
    match end_donor(means, donor, user) {
        Ok(_) => Ok(()),
        Err(error) => Err((donor.server.clone(), error)),
    }
}

/// Ends what still clones, and has the server up.
///
/// The donor's side is told to end: it sends an error, and the other side is done in a moment. To
/// KILL the clone itself makes MySQL 9.7 spin for ever in vio_shutdown(), its list of threads locked
/// (nearly always while data flows); and a donor whose receiver goes away without a word keeps its
/// plugin in use for five minutes.
fn end_clone(
    means: &Means<'_>,
    (on, control): (&Reach, Option<&ServiceControl>),
    donor: &Reach,
    user: &str,
) -> Result<(), ActError> {
    let target = target(means, on)?;
    let until = Instant::now() + CLONE_ENDS_IN;
    loop {
        let sends = match end_donor(means, donor, user) {
            Ok(sends) => sends,
            // It can be reached, and doesn't let us.
            Err(error @ ActError::Session(SessionError::Server { .. })) => return Err(error),
            // A donor that is away ends nothing; its receiver sees that in some minutes.
            Err(_) => false,
        };
        match Session::connect_to(&target, &on.identity) {
            Ok(session) => {
                if !clones(session)? && !sends {
                    return Ok(());
                }
                if Instant::now() >= until {
                    return Err(ActError::GoesOn {
                        server: on.server.clone(),
                    });
                }
            }
            Err(error @ SessionError::WrongServer { .. }) => return Err(error.into()),
            Err(error) if Instant::now() >= until => {
                return Err(ActError::Unreachable {
                    server: on.server.clone(),
                    reason: error.to_string(),
                });
            }
            Err(_) => {
                let data_dir = Path::new(&on.identity.data_dir);
                if let Some(control) = control
                    && !process::runs_in(data_dir)
                {
                    service::start(control)?;
                }
            }
        }
        sleep(LOOK_EVERY);
    }
}

/// Tells each thread of `user` to end what it does. True while there are any.
fn end_donor(means: &Means<'_>, donor: &Reach, user: &str) -> Result<bool, ActError> {
    let session = Session::connect_to(&target(means, donor)?, &donor.identity)?;
    let threads = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = {}",
        quote_text(user)
    );
    let (mut session, rows) = session.query(&threads, LOOK_LIMIT)?;
    for id in rows.iter().filter_map(|row| row.at(0)) {
        let statement = format!("KILL QUERY {id}");
        let (back, answer) = session.attempt(&statement, LOOK_LIMIT)?;
        session = back;
        match answer {
            Err(error) if error.code != ServerError::NO_SUCH_THREAD => {
                return Err(ActError::Session(SessionError::Server {
                    server: donor.server.clone(),
                    statement,
                    error,
                }));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(!rows.is_empty())
}

fn clones(session: Session) -> Result<bool, ActError> {
    let (session, rows) = session.query(CLONES, LOOK_LIMIT)?;
    // Without the plugin there is no such table.
    let (_, state) = session.attempt(CLONE_STATE, LOOK_LIMIT)?;
    Ok(!rows.is_empty() || state.is_ok_and(|rows| !rows.is_empty()))
}
