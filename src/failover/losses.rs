//! What is lost with a dead source, as far as that can be told, and the receipt that keeps it.

use super::rest::Cast;
use super::salvage;
use crate::journal::Party;
use crate::journal::operation::Outcome;
use crate::journal::receipt::{Lost, Receipt};
use crate::server::gtid::GtidSet;
use crate::server::log_files::LogPlace;
use crate::snapshot::{Context, SnapshotError};
use crate::sys::words::counted;
use crate::sys::{clock, files};

/// By the dead source's own binary logs.
pub fn look(
    ctx: &Context,
    place: &Result<LogPlace, String>,
    (dead, has): (&str, &GtidSet),
    candidate: &Party,
    operation: &str,
) -> Result<Lost, SnapshotError> {
    Ok(
        match salvage::loss(ctx, place, candidate, has, operation)? {
            Ok(lost) => lost,
            Err(why) => {
                let unknown = unknown(dead, &has.to_line());
                let reason = unknown.reason.unwrap_or_default();
                Lost {
                    reason: Some(format!("{reason}; {why}")),
                    ..unknown
                }
            }
        },
    )
}

/// Refuses what is beyond `max`; what is `brought` in isn't lost.
pub fn judge(lost: &Lost, brought: bool, max: Option<u64>) -> Result<Outcome, SnapshotError> {
    let refused = |what: String, max: u64| {
        Err(SnapshotError::refused(
            format!("{what}, and --max-loss allows {max}"),
            "To go on all the same, leave --max-loss away, and max_loss out of [pair.NAME.failover].",
        ))
    };
    let unknown = || lost.reason.as_deref().unwrap_or_default();
    match (lost.transactions.filter(|_| lost.known), max) {
        (Some(0), _) => Ok(Outcome::Verified("nothing is lost".to_owned())),
        (Some(count), _) if brought => Ok(Outcome::Verified(format!(
            "only its binary logs have {}: brought in before the opening",
            transactions(count)
        ))),
        (Some(count), Some(max)) if count > max => refused(
            format!("{} would be lost ({})", transactions(count), lost.gtid),
            max,
        ),
        (Some(count), _) => Ok(Outcome::Verified(format!("lost: {}", transactions(count)))),
        (None, Some(max)) => refused(format!("what is lost can't be told ({})", unknown()), max),
        (None, None) => Ok(Outcome::Verified(unknown().to_owned())),
    }
}

fn transactions(count: u64) -> String {
    counted(count, "transaction")
}

/// Only the dead source knew.
pub fn unknown(dead: &str, has: &str) -> Lost {
    let at = match has.is_empty() {
        true => String::new(),
        false => format!("; the new source has {has}"),
    };
    Lost {
        known: false,
        gtid: String::new(),
        transactions: None,
        export: None,
        reason: Some(format!(
            "{dead} is dead, and what it hadn't sent to any replica only its own binary logs tell{at}"
        )),
    }
}

/// What is to be brought in: how much of it was isn't known before that, nor after a kill.
pub fn pending(lost: &Lost) -> Lost {
    let count = transactions(lost.transactions.unwrap_or_default());
    Lost {
        known: false,
        transactions: None,
        reason: Some(format!(
            "only its binary logs had {count} (to {}), to be brought in before the opening; whether all \
             were isn't told, since the failover was cut off",
            lost.gtid
        )),
        ..lost.clone()
    }
}

/// Kept until the old source has rejoined.
pub fn keep(
    ctx: &Context,
    pair: &str,
    dead: &str,
    cast: &Cast,
    (has, lost): (&GtidSet, &Lost),
    operation: &str,
) -> Result<(), SnapshotError> {
    let receipt = Receipt {
        operation: operation.to_owned(),
        at: clock::rfc3339(clock::now()),
        pair: pair.to_owned(),
        old_source: dead.to_owned(),
        new_source: cast.candidate.name.clone(),
        gtid: has.to_line(),
        lost: lost.clone(),
    };
    let text = serde_json::to_vec_pretty(&receipt).expect("a receipt holds only plain data");
    files::make_private_dir(&ctx.state.receipts())?;
    Ok(files::replace(&ctx.state.receipt(operation), &text)?)
}
