//! By MariaDB's backup program, streamed from the source's data directory to one beside the
//! replica's: both servers are on this host.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{reopen, swap};
use crate::journal::operation::Outcome;
use crate::replication::error::SetupError;
use crate::replication::request::Prepared;
use crate::replication::work::{Who, Work, interrupted};
use crate::server::{client, pair};
use crate::sys::exec::Program;
use crate::sys::flow::{self, End, FlowError, Told};
use crate::sys::{failpoint, files};

/// Applying the redo log of a large backup.
const PREPARE_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Where the backup says at which GTID position it was taken, by version.
const INFO: [&str; 2] = ["mariadb_backup_binlog_info", "xtrabackup_binlog_info"];

/// The backup program and what unpacks its stream.
pub fn programs() -> Result<(Program, Program), SetupError> {
    let find = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| Program::find(name).ok())
            .ok_or_else(|| {
                SetupError::refused(
                    format!("{} isn't installed", names.join(" or ")),
                    "Install the package mariadb-backup, or use --provision dump.",
                )
            })
    };
    Ok((
        find(&["mariadb-backup", "mariabackup"])?,
        find(&["mbstream"])?,
    ))
}

pub fn bring(work: &mut Work<'_>, ready: &Prepared) -> Result<Outcome, SetupError> {
    let Some((backup, unpack)) = &ready.tools.backup else {
        return Err(SetupError::failed(
            "backup",
            "its programs weren't looked for",
        ));
    };
    let places = swap::places(ready)?;
    swap::make_new(work, &places)?;
    let place = work.ctx.state.work(work.id());
    files::make_private_dir(&place)?;
    let options = place.join("backup.cnf");
    let text = client::option_file(&work.source.flavour, &work.source.target);
    files::replace(&options, text.as_bytes())?;
    failpoint::hit("setup-backing-up");
    let since = Instant::now();
    let bytes = stream(
        work,
        ready,
        (backup, &options),
        (unpack, &places.new),
        &place,
    )?;
    let took = since.elapsed();
    failpoint::hit("setup-backed-up");
    let position = position(&places.new)?;
    backup
        .run(
            [
                OsString::from("--prepare"),
                format!("--target-dir={}", places.new.display()).into(),
            ],
            PREPARE_LIMIT,
        )
        .map_err(|error| SetupError::failed("prepare the backup", error.to_string()))?;
    work.ctx.cancel.check("preparing the backup")?;
    failpoint::hit("setup-prepared");
    swap::exchange(work, &places)?;
    let session = reopen(work.session(Who::Replica)?)?;
    drop(pair::set_applied(session, &position)?);
    failpoint::hit("setup-positioned");
    let rate = bytes as f64 / took.as_secs_f64().max(0.001) / 1_048_576.0;
    Ok(Outcome::Changed(format!(
        "brought a backup of {} MiB, {rate:.0} MiB/s, at {position}; its accounts are those of {}",
        bytes >> 20,
        work.source.name
    )))
}

fn stream(
    work: &Work<'_>,
    ready: &Prepared,
    (backup, options): (&Program, &Path),
    (unpack, to): (&Program, &Path),
    place: &Path,
) -> Result<u64, SetupError> {
    let backup_args: Vec<OsString> = vec![
        format!("--defaults-file={}", options.display()).into(),
        "--backup".into(),
        "--stream=mbstream".into(),
        format!("--datadir={}", ready.source_side.identity.data_dir).into(),
        format!("--target-dir={}", place.display()).into(),
    ];
    let unpack_args: Vec<OsString> = vec!["-x".into(), "-C".into(), to.into()];
    let total = ready.source_side.bytes();
    let flowed = flow::flow(
        &End {
            program: backup,
            args: &backup_args,
        },
        &End {
            program: unpack,
            args: &unpack_args,
        },
        &mut |told| {
            match told {
                Told::Head(_) => failpoint::hit("setup-flowing"),
                Told::Moved(0) => {}
                Told::Moved(bytes) => work.ctx.progress.bytes(bytes, total.max(bytes)),
            }
            !work.ctx.cancel.is_set()
        },
    );
    flowed.map_err(|error| match error {
        FlowError::Stopped => interrupted("backing up"),
        FlowError::From(error) => SetupError::failed("back up", error.to_string()),
        FlowError::Into(error) => SetupError::failed("unpack the backup", error.to_string()),
        FlowError::Between(error) => SetupError::failed("back up", error.to_string()),
    })
}

/// The third field of its only line.
fn position(backup: &Path) -> Result<String, SetupError> {
    for name in INFO {
        if let Some(text) = files::read_text(&backup.join(name))? {
            let position = text.split('\t').nth(2).unwrap_or_default();
            return Ok(position.replace(char::is_whitespace, ""));
        }
    }
    Err(SetupError::failed(
        "back up",
        format!(
            "it doesn't say at which position it was taken ({})",
            INFO.join(", ")
        ),
    ))
}
