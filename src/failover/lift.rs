//! A fence never waits for an acknowledgement that doesn't come.

use std::thread::sleep;
use std::time::Duration;

use super::moment::with;
use super::semi_sync::Moving;
use crate::journal::act::Act;
use crate::journal::operation::Outcome;
use crate::journal::{Operation, Party};
use crate::server::semi_sync::{self, set_now};
use crate::server::session::{READ_LIMIT, Session};
use crate::snapshot::SnapshotError;

/// A statement that waits for an acknowledgement throughout this, waits for one that doesn't come.
const COMES_WITHIN: Duration = Duration::from_millis(300);

const LOOK_EVERY: Duration = Duration::from_millis(60);

/// A commit that waits for an acknowledgement holds the fence up, and everything that writes. Where one
/// doesn't come, the old source stops waiting: whoever waits is answered, and what they wrote is among
/// what the candidate has to have before it is opened.
pub fn lift(
    operation: &mut Operation,
    slot: &mut Option<Session>,
    source: &Party,
    moving: &Moving,
) -> Result<Outcome, SnapshotError> {
    let nobody = Outcome::Verified(format!("commits on {} are acknowledged", source.name));
    let Some(switch) = moving.switch() else {
        return Ok(nobody);
    };
    // Our own writes before the fence would wait as well.
    let too_few = with(slot, |session| moving.too_few(session))?;
    let mut stuck = with(slot, semi_sync::waiting)?;
    let looks = COMES_WITHIN.as_millis() / LOOK_EVERY.as_millis();
    for _ in 0..looks {
        if too_few.is_some() {
            break;
        }
        if stuck.is_empty() {
            return Ok(nobody);
        }
        sleep(LOOK_EVERY);
        let now = with(slot, semi_sync::waiting)?;
        stuck.retain(|id| now.contains(id));
    }
    operation.note(Act::Statements {
        on: source.reach(),
        words: "wait for acknowledgements again".to_owned(),
        statements: vec![set_now(switch, "ON")],
    })?;
    with(slot, |session| {
        let off = set_now(switch, "OFF");
        Ok((session.execute(&off, READ_LIMIT)?, ()))
    })?;
    if let Some(count) = too_few {
        return Ok(Outcome::Changed(format!(
            "{} waited for more acknowledgements than come (there are {count} replicas that acknowledge): it \
             doesn't any more",
            source.name
        )));
    }
    Ok(Outcome::Changed(format!(
        "{} commits waited on {} for an acknowledgement that didn't come: they go on",
        stuck.len(),
        source.name
    )))
}
