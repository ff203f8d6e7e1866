//! `snapshot verify --level rows`: the previous good snapshot's clone, brought forward with the binary
//! logs that this snapshot's own clone holds, must become this one, table by table.
//!
//! It proves rows, position and the chain of logs between two snapshots at once, which a position
//! can't: a binary log may name transactions whose rows the storage engine lost. Whether there is such
//! a chain is decided by [`find_link`], which is pure. Neither the source nor the live server is asked.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::journal::OperationKind;
use crate::server::client::{self, Tool};
use crate::server::{Flavour, replication};
use crate::snapshot::error::SnapshotError;
use crate::snapshot::manifest::{Manifest, Proof};
use crate::snapshot::prove::boot_log::Flaw;
use crate::snapshot::prove::checksums::{Checksums, checksums};
use crate::snapshot::prove::clone_session::{CloneFailure, CloneSession};
use crate::snapshot::prove::private_server::{self, Booted, Failure};
use crate::sys::cancel::Interrupted;
use crate::sys::exec::Program;
use crate::sys::flow::{self, End, FlowError, Told};
use crate::sys::{failpoint, files, room};
use crate::volume::BackendKind;
use crate::volume::view::Stand;

/// So many different tables are named; the rest is counted.
const NAMED_MAX: usize = 10;

/// From one snapshot to the next: which logs, and where to begin and to end in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub previous: Manifest,
    /// Directory and beginning of the files' names, as the server names them.
    base: PathBuf,
    index: PathBuf,
    first: (String, u64),
    last: (String, u64),
}

/// The chain that leads to this snapshot, or why there is none and what would make one possible.
pub fn find_link(snapshots: &[Manifest], manifest: &Manifest) -> Result<Link, String> {
    let boot = manifest.boot.as_ref();
    let position = manifest.position.as_ref();
    let Some(log) = boot.and_then(|boot| boot.binary_log.as_ref()) else {
        return Err(
            "there is no binary log in the snapshot: log_bin, on the volume of the data, would make \
             it possible"
                .to_owned(),
        );
    };
    let updates = ["log_replica_updates", "log_slave_updates"]
        .iter()
        .find_map(|name| boot?.settings.get(*name));
    let is_replica = position.is_some_and(|position| !position.channels.is_empty());
    if is_replica && updates.is_some_and(|value| value == "OFF") {
        return Err(
            "its binary log doesn't hold what it applies: log_slave_updates (log_replica_updates) \
             would make it possible"
                .to_owned(),
        );
    }
    let end_of = |manifest: &Manifest| {
        let position = manifest.position.as_ref()?;
        Some((position.own_log_file.clone()?, position.own_log_pos?))
    };
    let Some(last) = end_of(manifest) else {
        return Err("its own place in the binary log wasn't recorded".to_owned());
    };
    let is_before = |other: &&Manifest| {
        other.server == manifest.server
            && other.server_identity == manifest.server_identity
            && other.created < manifest.created
            && other.is_whole()
            && other.backend_kind != BackendKind::Dump
            && other.proof >= Proof::Booted
            && end_of(other).is_some()
    };
    let previous = snapshots
        .iter()
        .filter(is_before)
        .max_by_key(|other| other.created);
    let Some((previous, first)) = previous.and_then(|other| Some((other, end_of(other)?))) else {
        return Err("there is no older proven snapshot of this server to begin from".to_owned());
    };
    Ok(Link {
        previous: previous.clone(),
        base: log.base.clone(),
        index: log.index.clone(),
        first,
        last,
    })
}

/// The logs to read, in order, as the index names them; the reason when the chain is broken.
fn logs_between(index: &str, first: &str, last: &str) -> Result<Vec<String>, String> {
    let name = |line: &str| {
        let path = Path::new(line.trim());
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let names: Vec<String> = index.lines().filter_map(name).collect();
    let at = |wanted: &str| names.iter().position(|name| name == wanted);
    match (at(first), at(last)) {
        (Some(from), Some(to)) if from <= to => Ok(names[from..=to].to_vec()),
        (None, _) => Err(format!(
            "the binary log {first}, in which the previous snapshot ends, is purged: \
             binary logs that live longer than from one snapshot to the next would make it possible"
        )),
        (Some(_), _) => Err(format!("the binary log {last} isn't in the snapshot")),
    }
}

/// What came of it.
pub enum Outcome {
    /// All tables are the same.
    Equal,
    /// Nothing can be said: the reason.
    NoChain(String),
}

/// Brings the previous snapshot, booted as `plan` says, forward and compares. `own` are this snapshot's clones, on which no
/// server runs any more, and `sums` what its tables hold.
pub fn compare(
    using: &CloneSession<'_>,
    own: &[Stand],
    link: &Link,
    plan: &private_server::Plan,
    sums: &Checksums,
) -> Result<Outcome, Failure> {
    let mut older = CloneSession::begin(
        using.ctx,
        &link.previous,
        OperationKind::Verify,
        "verify-rows",
    )?;
    let compared = (|| {
        let stands = older.clone_volumes().map_err(of_previous)?;
        older.make_missing_directories(&stands)?;
        room::within(|| {
            let beside = private_server::arrange_beside(&older, &stands, own)?;
            let places = Places {
                own,
                beside: &beside,
            };
            forward(&older, plan, link, &places, using, sums)
        })
        .map_err(SnapshotError::from)?
    })();
    older.end("compared")?;
    compared
}

/// Where this snapshot's clones are seen in the older one's room.
struct Places<'a> {
    own: &'a [Stand],
    beside: &'a [PathBuf],
}

impl Places<'_> {
    fn find(&self, path: &Path) -> Option<PathBuf> {
        std::iter::zip(self.own, self.beside)
            .filter_map(|(stand, at)| Some((path.strip_prefix(&stand.at).ok()?, stand, at)))
            .max_by_key(|(_, stand, _)| stand.at.components().count())
            .map(|(rest, _, at)| at.join(rest))
    }
}

/// In the room.
fn forward(
    older: &CloneSession<'_>,
    plan: &private_server::Plan,
    link: &Link,
    places: &Places<'_>,
    using: &CloneSession<'_>,
    sums: &Checksums,
) -> Result<Outcome, Failure> {
    let (Some(index), Some(base)) = (places.find(&link.index), places.find(&link.base)) else {
        return Ok(Outcome::NoChain(
            "the binary log isn't on a volume of the snapshot".to_owned(),
        ));
    };
    let names = files::read_text(&index)?.unwrap_or_default();
    let logs = match logs_between(&names, &link.first.0, &link.last.0) {
        Ok(logs) => logs,
        Err(reason) => return Ok(Outcome::NoChain(reason)),
    };
    let directory = base.parent().unwrap_or(Path::new("/"));
    let logs: Vec<PathBuf> = logs.iter().map(|name| directory.join(name)).collect();
    let (mut booted, session) =
        private_server::boot(older, plan).map_err(|failure| match failure {
            Failure::Flaw { flaw, detail } => {
                Failure::Other(previous_failed(flaw.words(), &detail))
            }
            other => other,
        })?;
    failpoint::hit("previous-booted");
    match find_programs(&booted, plan) {
        Ok(programs) => replay(older, &programs, &mut booted, link, &logs)?,
        Err(names) => {
            return Ok(Outcome::NoChain(format!(
                "no program to read or to load binary logs with is {}: {names} (of mariadb-server, or \
                 of mysql-client) would make it possible",
                plan.binary.places()
            )));
        }
    }
    failpoint::hit("replayed");
    let target = booted.target().clone();
    let recorded = using.manifest.position.as_ref().map(|p| p.gtid.clone());
    let (session, reached) = replication::observe_gtid(session, false)?;
    if !reaches(session.flavour(), &reached, &recorded.unwrap_or_default()) {
        return Ok(Outcome::NoChain(format!(
            "the binary logs lead to {reached} only: something that this server has was written out \
             of its binary log"
        )));
    }
    let (_, brought) = booted.answer(older.ctx, "reading the older snapshot", || {
        checksums(session, &target)
    })?;
    match differences(&brought, sums) {
        differing if differing.is_empty() => Ok(Outcome::Equal),
        differing => Err(Failure::Flaw {
            flaw: Flaw::RowsDiffer,
            detail: format!(
                "{}; compared with {} and the binary logs since",
                some_of(&differing),
                link.previous.id
            ),
        }),
    }
}

/// What reads binary logs, and what loads them.
struct Programs {
    reader: Program,
    loader: Program,
}

/// The error names what was looked for.
fn find_programs(booted: &Booted, plan: &private_server::Plan) -> Result<Programs, String> {
    let directory = plan.binary.directory();
    Ok(Programs {
        reader: booted.find_tool(Tool::LogReader, directory)?,
        loader: booted.find_tool(Tool::Client, directory)?,
    })
}

/// The logs, from where the older snapshot ends to where this one does, into the older one's server.
fn replay(
    older: &CloneSession<'_>,
    programs: &Programs,
    booted: &mut Booted,
    link: &Link,
    logs: &[PathBuf],
) -> Result<(), Failure> {
    let options = booted.write_tool_options()?;
    let read = client::read_logs_args(link.first.1, link.last.1, logs);
    let mut load = client::client_args(&options);
    load.push(OsString::from("--binary-mode"));
    let since = Instant::now();
    let ctx = older.ctx;
    booted.answer(ctx, "replaying the binary logs", || {
        let from = End {
            program: &programs.reader,
            args: &read,
        };
        let into = End {
            program: &programs.loader,
            args: &load,
        };
        let tell = &mut |told: Told<'_>| {
            if let Told::Moved(bytes) = told {
                // What the logs become isn't as long as they are: no whole, no time left.
                ctx.progress.moved("replay", "binary logs", bytes, None);
            }
            !ctx.cancel.is_set()
        };
        match flow::flow(&from, &into, tell) {
            Ok(_) => Ok(()),
            Err(FlowError::Stopped) => {
                Err(Failure::Other(SnapshotError::Interrupted(Interrupted {
                    step: "replaying the binary logs",
                })))
            }
            // The older snapshot isn't where these logs go on, or they aren't whole.
            Err(FlowError::Into(error)) => Err(Failure::Flaw {
                flaw: Flaw::RowsDiffer,
                detail: format!(
                    "its binary logs can't be applied to {}: {error}",
                    link.previous.id
                ),
            }),
            Err(error) => Err(Failure::Other(SnapshotError::Failed {
                step: "read the binary logs",
                reason: error.to_string(),
                hint: None,
            })),
        }
    })?;
    ctx.progress
        .step("replay", "the older snapshot is brought forward", since);
    Ok(())
}

fn reaches(flavour: &Flavour, reached: &str, recorded: &str) -> bool {
    let (reached, recorded) = (flavour.known_gtid(reached), flavour.known_gtid(recorded));
    let both = reached.known().zip(recorded.known());
    both.is_some_and(|(reached, recorded)| recorded.is_subset_of(reached).unwrap_or(false))
}

/// What differs, a fragment for each table.
fn differences(brought: &Checksums, own: &Checksums) -> Vec<String> {
    let names: std::collections::BTreeSet<&String> = brought.keys().chain(own.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| match (brought.get(name), own.get(name)) {
            (Some(there), Some(here)) if there == here => None,
            (Some(_), Some(_)) => Some(format!("{name} has other rows")),
            (Some(_), None) => Some(format!("{name} is missing")),
            (None, Some(_)) => Some(format!("{name} is in no binary log")),
            (None, None) => None,
        })
        .collect()
}

fn some_of(differing: &[String]) -> String {
    let named = differing[..differing.len().min(NAMED_MAX)].join(", ");
    match differing.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}

fn previous_failed(what: &str, detail: &str) -> SnapshotError {
    SnapshotError::Failed {
        step: "bring up the previous snapshot",
        reason: format!("{what}: {detail}"),
        hint: Some("Verify that one by itself: `understudy snapshot list` shows it.".to_owned()),
    }
}

/// A clone of the older one that can't be had says nothing of this one.
fn of_previous(failure: CloneFailure) -> Failure {
    match failure {
        CloneFailure::Spoilt { volume, reason } => {
            Failure::Other(previous_failed(&volume, &reason))
        }
        CloneFailure::Other(error) => Failure::Other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_taken_from_the_first_to_the_last() {
        let index = "./binlog.000001\n/var/lib/mysql/binlog.000002\n./binlog.000003\n";
        let between = |first, last| logs_between(index, first, last);
        assert_eq!(
            between("binlog.000002", "binlog.000003").unwrap(),
            ["binlog.000002", "binlog.000003"]
        );
        assert_eq!(
            between("binlog.000002", "binlog.000002").unwrap(),
            ["binlog.000002"]
        );
        assert!(
            between("binlog.000000", "binlog.000002")
                .unwrap_err()
                .contains("purged")
        );
        for (first, last) in [
            ("binlog.000001", "binlog.000009"),
            ("binlog.000003", "binlog.000001"),
        ] {
            assert!(
                between(first, last)
                    .unwrap_err()
                    .contains("isn't in the snapshot")
            );
        }
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let sums = |list: &[(&str, &str)]| -> Checksums {
            let own = |&(name, sum): &(&str, &str)| (name.to_owned(), sum.to_owned());
            list.iter().map(own).collect()
        };
        let brought = sums(&[("a.same", "1"), ("a.other", "2"), ("a.lost", "3")]);
        let own = sums(&[("a.same", "1"), ("a.other", "9"), ("a.extra", "4")]);
        assert_eq!(
            differences(&brought, &own),
            [
                "a.extra is in no binary log",
                "a.lost is missing",
                "a.other has other rows"
            ]
        );
        assert!(differences(&own, &own).is_empty());
        let many: Vec<String> = (0..12).map(|n| n.to_string()).collect();
        assert!(some_of(&many).ends_with("and 2 more"));
    }

    #[test]
    fn a_position_is_reached_at_or_past_it() {
        let mariadb = Flavour::of_version("10.11.14-MariaDB x");
        assert!(reaches(&mariadb, "0-1-7,1-2-3", "0-1-7"));
        assert!(!reaches(&mariadb, "0-1-6", "0-1-7"));
        assert!(reaches(&mariadb, "", ""));
    }
}
