//! Whether a server's data could be had back.

use jiff::Timestamp;

use super::{Severity, Verdict, graded};
use crate::health::picture::Picture;
use crate::health::view::Snapshots;

fn of<'v>(picture: &Picture<'v>, server: usize) -> Option<&'v Snapshots> {
    picture.server(server).snapshots.known()
}

fn seconds_since(picture: &Picture<'_>, time: Timestamp) -> f64 {
    picture.view.now.duration_since(time).as_secs_f64()
}

fn hours(seconds: f64) -> String {
    match seconds {
        s if s < 3600.0 => format!("{:.0} min", s / 60.0),
        s if s < 72.0 * 3600.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

pub(super) fn age(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let view = picture.server(server);
    if let Some(reason) = view.snapshots.reason() {
        return Some(Verdict::new(
            Severity::Unknown,
            format!(
                "the snapshots of {} can't be looked at: {reason}",
                view.name
            ),
            "Run it as root, on the host that takes the snapshots.",
        ));
    }
    let snapshots = of(picture, server).filter(|snapshots| snapshots.are_wanted)?;
    // Without any, the clock runs since the server was first seen: a new pair isn't red at once.
    let (since, what) = match &snapshots.newest {
        Some((id, time)) => (*time, format!("the newest good snapshot ({id})")),
        None => (
            view.known.as_ref()?.first_seen,
            "there is no good snapshot; the server was first seen".to_owned(),
        ),
    };
    let seconds = seconds_since(picture, since);
    let limits = &picture.limits;
    let severity = graded(
        seconds,
        limits.warning_snapshot_age.as_secs_f64(),
        limits.critical_snapshot_age.as_secs_f64(),
    )?;
    let message = match snapshots.newest {
        Some(_) => format!("{what} of {} is {} old", view.name, hours(seconds)),
        None => format!("of {} {what} {} ago", view.name, hours(seconds)),
    };
    Some(Verdict::new(
        severity,
        message,
        format!("See why the job failed: `understudy doctor {}`.", view.name),
    ))
}

pub(super) fn proof_age(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let view = picture.server(server);
    let snapshots = of(picture, server)?;
    let since = match &snapshots.newest_proof {
        Some((_, time)) => *time,
        // The clock runs since there was something to prove.
        None => snapshots.oldest?,
    };
    let seconds = seconds_since(picture, since);
    let limits = &picture.limits;
    let severity = graded(
        seconds,
        limits.warning_proof_age.as_secs_f64(),
        limits.critical_proof_age.as_secs_f64(),
    )?;
    let message = match &snapshots.newest_proof {
        Some((id, _)) => format!(
            "no server has come up on a snapshot of {} for {} ({id} was the last)",
            view.name,
            hours(seconds)
        ),
        None => format!("no server has ever come up on a snapshot of {}", view.name),
    };
    Some(Verdict::new(
        severity,
        message,
        format!(
            "`understudy snapshot verify latest:{}`, or create --verify every night.",
            view.name
        ),
    ))
}

pub(super) fn bad(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let snapshots = of(picture, server)?;
    let (id, reason) = snapshots.bad.first()?;
    // Newest first: ids of one server sort by time.
    let is_newest = snapshots
        .newest
        .as_ref()
        .is_none_or(|(newest, _)| id > newest);
    let more = match snapshots.bad.len() {
        1 => String::new(),
        some => format!(", and {} more", some - 1),
    };
    Some(Verdict::new(
        match is_newest {
            true => Severity::Critical,
            false => Severity::Warning,
        },
        format!("{id} isn't good: {reason}{more}"),
        format!("`understudy snapshot show {id}`; take and verify another."),
    ))
}

const FILLING_WARNING: f64 = 80.0;
const FILLING_CRITICAL: f64 = 95.0;

pub(super) fn storage_filling(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let fillings = &of(picture, server)?.fillings;
    let fullest = fillings
        .iter()
        .max_by(|a, b| a.percent.total_cmp(&b.percent))?;
    let severity = graded(fullest.percent, FILLING_WARNING, FILLING_CRITICAL)?;
    Some(Verdict::new(
        severity,
        format!(
            "the {} {} is {:.1} % full",
            fullest.what, fullest.name, fullest.percent
        ),
        fullest.cure.clone(),
    ))
}

pub(super) fn orphans(picture: &Picture<'_>, server: usize) -> Option<Verdict> {
    let orphans = &of(picture, server)?.orphans;
    let first = orphans.first()?;
    Some(Verdict::new(
        Severity::Warning,
        format!(
            "{} volumes of ours have no manifest, such as {first}",
            orphans.len()
        ),
        format!(
            "`understudy snapshot list` shows them; `understudy snapshot delete {first}` removes one."
        ),
    ))
}
