//! A server by itself.

use super::{Severity, Verdict, graded};
use crate::health::picture::Picture;
use crate::health::view::{Answer, Disk};

pub(super) fn unreachable(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let view = picture.server(server);
    match &view.answer {
        Answer::Silent { reason } => Some(Verdict::new(
            Severity::Critical,
            format!("no answer from {} at {}: {reason}", view.name, view.address),
            "Check that it runs and that address and tls are right; if it is dead: `understudy failover PAIR`.",
        )),
        Answer::Answered(_) | Answer::Refused { .. } => None,
    }
}

pub(super) fn unknown(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let view = picture.server(server);
    match &view.answer {
        Answer::Refused { reason, hint } => Some(Verdict::new(
            Severity::Unknown,
            format!("{} doesn't let us look: {reason}", view.name),
            hint.clone(),
        )),
        Answer::Answered(condition) => condition.channels.reason().map(|reason| {
            Verdict::new(
                Severity::Unknown,
                format!("{} doesn't tell of its replication: {reason}", view.name),
                format!(
                    "`understudy grants {}` prints the SQL for its account.",
                    view.name
                ),
            )
        }),
        Answer::Silent { .. } => None,
    }
}

pub(super) fn identity_changed(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let view = picture.server(server);
    let now = &view.condition()?.identity;
    let known = &view.known.as_ref()?.identity;
    let is_same = match (&now.server_uuid, &known.server_uuid) {
        (Some(now), Some(known)) => now == known,
        _ => now == known,
    };
    (!is_same).then(|| {
        Verdict::new(
            Severity::Critical,
            format!(
                "{} is {} now, and was {}",
                view.name,
                now.apart_from(known),
                known.apart_from(now)
            ),
            format!(
                "Find out which server answers there. If the change is meant: \
                 `understudy status --accept {}`.",
                view.name
            ),
        )
    })
}

const FREE_WARNING: f64 = 10.0;
const FREE_CRITICAL: f64 = 5.0;
const DAYS_WARNING: f64 = 14.0;
const DAYS_CRITICAL: f64 = 3.0;

pub(super) fn disk_runway(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let judged = |disk: &Disk| {
        let free = disk.free_bytes as f64 * 100.0 / disk.total_bytes.max(1) as f64;
        let by_share = graded(-free, -FREE_WARNING, -FREE_CRITICAL);
        let by_days = disk
            .days_left
            .and_then(|days| graded(-days, -DAYS_WARNING, -DAYS_CRITICAL));
        let severity = by_share.max(by_days)?;
        let when = disk.days_left.map_or(String::new(), |days| {
            format!(", full in {days:.1} days as it grows now")
        });
        Some(Verdict::new(
            severity,
            format!("{} has {free:.1} % free{when}", disk.path.display()),
            "Grow the volume, or remove what isn't needed: old binary logs, snapshots.",
        ))
    };
    let disks = picture.server(server).disks.iter().filter_map(judged);
    disks.max_by_key(|verdict| verdict.severity)
}

pub(super) fn unfinished(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let view = picture.server(server);
    let operations = view.unfinished.known()?;
    let left = operations.iter().find(|operation| !operation.is_alive);
    match (left, operations.first()) {
        (Some(left), _) => Some(Verdict::new(
            Severity::Warning,
            format!(
                "{} was interrupted and not {} ({})",
                left.kind.words(),
                match left.is_committed {
                    true => "carried through",
                    false => "put back",
                },
                left.operation
            ),
            format!("Run `understudy recover {}`.", view.name),
        )),
        (None, Some(running)) => Some(Verdict::new(
            Severity::Info,
            format!(
                "{} is running ({})",
                running.kind.words(),
                running.operation
            ),
            "Nothing to do.",
        )),
        (None, None) => None,
    }
}
