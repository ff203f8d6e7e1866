//! `snapshot verify`: a snapshot is good when a server has come up on a clone of it, at the recorded
//! position; better when all its tables were checked.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::journal::OperationKind;
use crate::server::{Flavour, Session, replication};
use crate::snapshot::archive;
use crate::snapshot::context::Context;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::keep::catalog;
use crate::snapshot::manifest::{Level, Look, Manifest, Proof, State, Verification};
use crate::snapshot::prove::boot_log::Flaw;
use crate::snapshot::prove::chain::{self, Link, Outcome};
use crate::snapshot::prove::checksums::{self, Checksums};
use crate::snapshot::prove::clone_session::{CloneFailure, CloneSession};
use crate::snapshot::prove::facts;
use crate::snapshot::prove::private_server::{self, Failure, Plan};
use crate::snapshot::prove::program;
use crate::snapshot::prove::tables::{self, Checked};
use crate::snapshot::take::pause::ms;
use crate::sys::{Fact, clock, failpoint, room};
use crate::volume::view::Stand;

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub level: Level,
    /// Rows whose parents are missing, too.
    pub foreign_keys: bool,
}

/// What a good snapshot showed.
#[derive(Debug, Default)]
struct Proven {
    boot: Duration,
    version: String,
    checked: Option<Checked>,
    /// With which snapshot its rows were compared.
    compared_with: Option<String>,
    /// What its tables hold, while there is a chain to compare them by.
    sums: Option<Checksums>,
    warnings: Vec<String>,
}

/// Why there is no proof, and which look showed it.
#[derive(Debug)]
struct Unproven {
    failure: Failure,
    by: Look,
}

impl<E: Into<Failure>> From<E> for Unproven {
    fn from(failure: E) -> Self {
        Self {
            failure: failure.into(),
            by: Look::Boot,
        }
    }
}

/// A verdict against the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    flaw: Flaw,
    detail: String,
    by: Look,
}

/// Proves one snapshot; its manifest says what came of it, also when it failed. The error is about
/// the proving, not about the snapshot.
pub fn verify(ctx: &Context, wanted: &str, options: Options) -> Result<Manifest, SnapshotError> {
    ctx.state.create()?;
    let manifest = catalog::find(ctx, wanted)?;
    let begun = Instant::now();
    if archive::directory_of(&manifest).is_some() {
        return verify_dump(ctx, &manifest, options, begun);
    }
    if options.level == Level::Read {
        return Err(SnapshotError::refused(
            format!("{} is no dump", manifest.id),
            "Use --level boot, tables or rows.",
        ));
    }
    let mut using = CloneSession::begin(ctx, &manifest, OperationKind::Verify, "verify")?;
    let plan = plan(ctx, &using.manifest)?;
    let link = match options.level {
        Level::Read | Level::Boot | Level::Tables => None,
        Level::Rows => {
            let snapshots = catalog::list(&ctx.config, &ctx.state, Some(&using.manifest.server))?;
            Some(chain::find_link(&snapshots, &using.manifest))
        }
    };
    let (clone, proven) = prove(&mut using, &plan, options, link);
    let log = match &proven {
        Ok(_) => None,
        Err(_) => private_server::keep_log(&using),
    };
    let proven = blame(&using, proven).inspect_err(|_| {
        if let Some(log) = &log {
            tracing::warn!(log = %log.display(), "the private server's log is kept");
        }
    })?;
    let record = Verification {
        log,
        ..record(options, Some(&plan), clone, begun.elapsed(), &proven)
    };
    failpoint::hit("proven");
    let manifest = write_proof(ctx, &using.manifest, &record)?;
    using.end(match record.flaw {
        None => "proven",
        Some(_) => "the snapshot failed",
    })?;
    Ok(manifest)
}

/// As `verify`, of a dump: read through, or loaded and compared.
fn verify_dump(
    ctx: &Context,
    manifest: &Manifest,
    options: Options,
    begun: Instant,
) -> Result<Manifest, SnapshotError> {
    let level = match options.level {
        Level::Read | Level::Boot => Level::Read,
        // Its rows are compared at this level.
        Level::Tables | Level::Rows => Level::Tables,
    };
    let by = match level {
        Level::Read => Look::Read,
        Level::Boot | Level::Tables | Level::Rows => Look::Tables,
    };
    let plan = match level {
        Level::Read => None,
        Level::Boot | Level::Tables | Level::Rows => Some(plan(ctx, manifest)?),
    };
    let mut using = CloneSession::begin(ctx, manifest, OperationKind::Verify, "verify")?;
    let shown = using
        .check_volumes()
        .map_err(Failure::from)
        .and_then(|()| prove_dump(&mut using, plan.as_ref(), options.foreign_keys));
    let log = match (&shown, level) {
        (Err(_), Level::Tables) => private_server::keep_log(&using),
        (_, _) => None,
    };
    let shown = match shown {
        Ok(shown) => Ok(shown),
        Err(Failure::Other(error)) => return Err(error),
        Err(Failure::Flaw { flaw, detail }) => Err(Finding { flaw, detail, by }),
    };
    let proven = shown.map(|shown| Proven {
        boot: shown.boot.unwrap_or_default(),
        version: shown.version.unwrap_or_default(),
        checked: shown.checked,
        warnings: shown.warnings,
        ..Proven::default()
    });
    let options = Options { level, ..options };
    let record = Verification {
        log,
        ..record(
            options,
            plan.as_ref(),
            Duration::ZERO,
            begun.elapsed(),
            &proven,
        )
    };
    failpoint::hit("proven");
    let manifest = write_proof(ctx, &using.manifest, &record)?;
    using.end(match record.flaw {
        None => "proven",
        Some(_) => "the snapshot failed",
    })?;
    Ok(manifest)
}

/// Without a plan it is only read.
fn prove_dump(
    using: &mut CloneSession<'_>,
    plan: Option<&Plan>,
    foreign_keys: bool,
) -> Result<archive::prove::Shown, Failure> {
    let (directory, index) = archive::index_of(&using.manifest)?.ok_or_else(|| {
        let reason = format!("{} is no dump", using.manifest.id);
        SnapshotError::refused(reason, "Choose another snapshot.")
    })?;
    let mut shown = archive::prove::read_through(using, &directory, &index)?;
    if let Some(plan) = plan {
        shown = archive::prove::load_and_compare(using, &directory, &index, &plan.binary)?;
    }
    if foreign_keys {
        shown
            .warnings
            .push("foreign keys aren't looked at in a dump".to_owned());
    }
    Ok(shown)
}

/// What will be booted, or why it can't be; changes nothing.
pub fn plan(ctx: &Context, manifest: &Manifest) -> Result<Plan, SnapshotError> {
    let facts = facts::of_snapshot(ctx, manifest)?;
    Ok(Plan {
        binary: program::find(ctx, &manifest.server, &facts)?,
        facts,
        is_throwaway: true,
    })
}

/// Clones, boots, asks. The time is the cloning's.
fn prove(
    using: &mut CloneSession<'_>,
    plan: &Plan,
    options: Options,
    link: Option<Result<Link, String>>,
) -> (Duration, Result<Proven, Unproven>) {
    let since = Instant::now();
    let stands = match using.clone_volumes() {
        Ok(stands) => stands,
        Err(failure) => return (since.elapsed(), Err(failure.into())),
    };
    let clone = since.elapsed();
    let proven = using
        .make_missing_directories(&stands)
        .map_err(Unproven::from)
        .and_then(|()| {
            let sums_too = matches!(link, Some(Ok(_)));
            room::within(|| ask(using, &stands, plan, options, sums_too))
                .map_err(SnapshotError::from)?
        })
        .and_then(|proven| compare_rows(using, &stands, link, proven));
    (clone, proven)
}

/// With the previous snapshot, when the rows were asked for; without a chain to it, what was proven
/// until here stands, and why is said.
fn compare_rows(
    using: &CloneSession<'_>,
    stands: &[Stand],
    link: Option<Result<Link, String>>,
    mut proven: Proven,
) -> Result<Proven, Unproven> {
    let outcome = match (link, proven.sums.take()) {
        (None, _) => return Ok(proven),
        (Some(Ok(link)), Some(sums)) => {
            let older = plan(using.ctx, &link.previous).map_err(Unproven::from)?;
            let compared = chain::compare(using, stands, &link, &older, &sums);
            let outcome = compared.map_err(|failure| Unproven {
                failure,
                by: Look::Rows,
            })?;
            (outcome, Some(link.previous.id))
        }
        (Some(Err(reason)), _) => (Outcome::NoChain(reason), None),
        (Some(Ok(_)), None) => (Outcome::NoChain("nothing was read".to_owned()), None),
    };
    match outcome {
        (Outcome::Equal, previous) => proven.compared_with = previous,
        (Outcome::NoChain(reason), _) => {
            let warning = format!("the rows weren't compared: {reason}");
            proven.warnings.push(warning);
        }
    }
    Ok(proven)
}

/// In the room.
fn ask(
    using: &CloneSession<'_>,
    stands: &[Stand],
    plan: &Plan,
    options: Options,
    sums_too: bool,
) -> Result<Proven, Unproven> {
    let ctx = using.ctx;
    private_server::arrange(using, stands)?;
    let (mut booted, session) = private_server::boot(using, plan)?;
    let target = booted.target().clone();
    let mut proven = Proven {
        boot: booted.boot,
        version: session.flavour().text.clone(),
        ..Proven::default()
    };
    let mut session = booted.answer(ctx, "comparing the position", || {
        let places: Vec<&Path> = stands.iter().map(|stand| stand.at.as_path()).collect();
        let session = tables::check_files(session, &plan.facts.data_dir, &places)?;
        let (session, warning) = compare_position(session, &using.manifest)?;
        proven.warnings.extend(warning);
        failpoint::hit("position-compared");
        Ok(session)
    })?;
    if options.level != Level::Boot {
        let checked = booted.answer(ctx, "checking tables", || {
            tables::check_tables(ctx, &target, session)
        });
        let (back, checked) = checked.map_err(|failure| Unproven {
            failure: booted.sharpen(failure),
            by: Look::Tables,
        })?;
        session = back;
        proven.warnings.extend(checked.warnings.clone());
        proven.checked = Some(checked);
    }
    if sums_too {
        let (back, sums) = booted.answer(ctx, "reading all rows", || {
            checksums::checksums(session, &target)
        })?;
        session = back;
        proven.sums = Some(sums);
    }
    if options.foreign_keys {
        booted
            .answer(ctx, "checking foreign keys", || {
                tables::check_foreign_keys(ctx, session)
            })
            .map_err(|failure| Unproven {
                failure,
                by: Look::ForeignKeys,
            })?;
    }
    failpoint::hit("asked");
    ctx.cancel.check("ending the private server")?;
    proven.warnings.extend(booted.complaints());
    booted.finish()?;
    Ok(proven)
}

/// The position at which the server came up against the recorded one; a word when there is nothing
/// to compare.
fn compare_position(
    session: Session,
    manifest: &Manifest,
) -> Result<(Session, Option<String>), Failure> {
    let since_text = "the position wasn't compared: none was recorded";
    let Some(recorded) = &manifest.position else {
        return Ok((session, Some(since_text.to_owned())));
    };
    let is_replica = !recorded.channels.is_empty();
    let log_apart = manifest.boot.as_ref().is_some_and(|boot| boot.log_apart);
    if log_apart && !is_replica && session.flavour().is_mariadb() {
        let text =
            "the position wasn't compared: it is in the binary log, which isn't in the snapshot";
        return Ok((session, Some(text.to_owned())));
    }
    let (session, gtid) = replication::observe_gtid(session, is_replica)?;
    if recorded.gtid.is_empty() && gtid.is_empty() {
        let text = "the position wasn't compared: the server has no GTIDs";
        return Ok((session, Some(text.to_owned())));
    }
    if is_same_position(session.flavour(), &recorded.gtid, &gtid) {
        return Ok((session, None));
    }
    Err(Failure::Flaw {
        flaw: Flaw::PositionDiffers,
        detail: format!("recorded was {}, it is at {gtid}", recorded.gtid),
    })
}

fn is_same_position(flavour: &Flavour, one: &str, other: &str) -> bool {
    match (flavour.known_gtid(one), flavour.known_gtid(other)) {
        (Fact::Known(one), Fact::Known(other)) => one == other,
        _ => one == other,
    }
}

impl From<CloneFailure> for Failure {
    fn from(failure: CloneFailure) -> Self {
        match failure {
            CloneFailure::Spoilt { volume, reason } => Self::Flaw {
                flaw: match reason.contains("gone") {
                    true => Flaw::MissingVolume,
                    false => Flaw::SpoiltVolume,
                },
                detail: format!("{volume}: {reason}"),
            },
            CloneFailure::Other(error) => Self::Other(error),
        }
    }
}

/// A failure is the snapshot's only if its clone held: a clone whose own area filled up tells
/// nothing, and a kept volume that overflowed meanwhile explains everything.
fn blame(
    using: &CloneSession<'_>,
    proven: Result<Proven, Unproven>,
) -> Result<Result<Proven, Finding>, SnapshotError> {
    let spoilt = |volume: &str, reason: &str| Finding {
        flaw: Flaw::SpoiltVolume,
        detail: format!("{volume}: {reason}"),
        by: Look::Boot,
    };
    match proven {
        // Said good only if it is still good after all the reading.
        Ok(proven) => Ok(match using.probe_volumes() {
            Err(CloneFailure::Spoilt { volume, reason }) => Err(spoilt(&volume, &reason)),
            Err(CloneFailure::Other(error)) => return Err(error),
            Ok(()) => Ok(proven),
        }),
        Err(Unproven {
            failure: Failure::Other(error),
            ..
        }) => Err(error),
        Err(Unproven {
            failure: Failure::Flaw { flaw, detail },
            by,
        }) => {
            if let Some(reason) = using.clone_problem() {
                return Err(SnapshotError::Failed {
                    step: "keep the clone",
                    reason,
                    hint: Some("Make room for the clone, then verify again.".to_owned()),
                });
            }
            Ok(Err(match using.probe_volumes() {
                Err(CloneFailure::Spoilt { volume, reason }) if flaw != Flaw::MissingVolume => {
                    spoilt(&volume, &reason)
                }
                Err(_) | Ok(()) => Finding { flaw, detail, by },
            }))
        }
    }
}

fn record(
    options: Options,
    plan: Option<&Plan>,
    clone: Duration,
    total: Duration,
    proven: &Result<Proven, Finding>,
) -> Verification {
    let blank = Verification {
        at: clock::rfc3339(clock::now()),
        level: options.level,
        foreign_keys: options.foreign_keys,
        flaw: None,
        detail: None,
        found_by: None,
        log: None,
        clone_ms: ms(clone),
        boot_ms: None,
        total_ms: ms(total),
        tables: None,
        unchecked_tables: None,
        compared_with: None,
        server_binary: plan.map(|plan| plan.binary.name()).unwrap_or_default(),
        server_version: None,
        warnings: Vec::new(),
    };
    match proven {
        Ok(proven) => Verification {
            boot_ms: plan.map(|_| ms(proven.boot)),
            tables: proven.checked.as_ref().map(|checked| checked.tables),
            compared_with: proven.compared_with.clone(),
            unchecked_tables: proven.checked.as_ref().map(|checked| checked.unchecked),
            server_version: plan.map(|_| proven.version.clone()),
            warnings: proven.warnings.clone(),
            ..blank
        },
        Err(finding) => Verification {
            flaw: Some(finding.flaw),
            detail: Some(finding.detail.clone()),
            found_by: Some(finding.by),
            ..blank
        },
    }
}

fn write_proof(
    ctx: &Context,
    manifest: &Manifest,
    record: &Verification,
) -> Result<Manifest, SnapshotError> {
    let written = catalog::update(&ctx.state, &manifest.id, |stored| apply(stored, record))?;
    Ok(match written {
        Some(_) => catalog::find(ctx, &manifest.id)?,
        // An orphan has no manifest to keep it in.
        None => {
            let mut orphan = manifest.clone();
            let state = orphan.state;
            apply(&mut orphan, record);
            orphan.state = state;
            orphan
        }
    })
}

/// The proof climbs; only a failure makes it fall, and only a look at the same thing lifts it again.
fn apply(manifest: &mut Manifest, record: &Verification) {
    let mut record = record.clone();
    let outstanding = manifest
        .failure
        .take()
        .filter(|failure| !record.looks_where(failure));
    manifest.failure = match (record.flaw, outstanding) {
        (Some(_), None) => Some(record.clone()),
        (Some(_) | None, Some(outstanding)) => Some(outstanding),
        (None, None) => None,
    };
    let reached = match (&manifest.failure, record.level) {
        (Some(_), _) => Proof::Failed,
        (None, Level::Read) => Proof::Read,
        (None, Level::Boot) => Proof::Booted,
        (None, Level::Rows) if record.compared_with.is_some() => Proof::Rows,
        (None, Level::Tables | Level::Rows) => Proof::Checked,
    };
    if record.flaw.is_some() || (reached != Proof::Failed && reached >= manifest.proof) {
        manifest.proof_time = Some(record.at.clone());
    }
    manifest.proof = match reached {
        Proof::Failed => Proof::Failed,
        climbed => climbed.max(manifest.proof),
    };
    let reason = manifest.failure.as_ref().and_then(failure_text);
    if record.flaw.is_none()
        && let Some(reason) = &reason
    {
        record.warnings.push(format!(
            "it stays failed, since nobody looked again where this was found: {reason}"
        ));
    }
    if manifest.state == State::Complete {
        manifest.state_reason = reason;
    }
    manifest.verification = Some(record);
}

fn failure_text(failure: &Verification) -> Option<String> {
    let detail = failure.detail.as_deref().unwrap_or_default();
    Some(format!("{}: {detail}", failure.flaw?.words()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_compared_as_sets() {
        let mysql = Flavour::of_version("9.7.1 x");
        let uuid = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let (one, other) = (
            format!("{uuid}:1-3:4-5"),
            format!("{}:1-5", uuid.to_uppercase()),
        );
        assert!(is_same_position(&mysql, &one, &other));
        assert!(!is_same_position(&mysql, &one, &format!("{uuid}:1-6")));
        let mariadb = Flavour::of_version("10.11.19-MariaDB x");
        assert!(is_same_position(&mariadb, "0-1-5,1-2-3", "1-2-3,0-1-5"));
        assert!(!is_same_position(&mariadb, "0-1-5", "0-1-6"));
    }
}
