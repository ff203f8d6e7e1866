//! What a dead source's binary logs hold beyond its replicas, where they can be read here or a program
//! of the user's fetches them: exported as SQL with its GTIDs, so that the receipt says what it is, and
//! brought into the new source before that is opened (`journal/act/salvage.rs`).

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::program;
use super::report::Lost;
use crate::health::Known;
use crate::journal::Party;
use crate::server::gtid::GtidSet;
use crate::server::log_files::{self, LogPlace, Scan};
use crate::server::{Flavour, Identity, Target, client};
use crate::snapshot::{Context, SnapshotError};
use crate::sys::exec::Program;
use crate::sys::stream::{self, StreamError};
use crate::sys::{files, process};

/// Gigabytes of logs come from another host in it, or the failover goes on without them.
const PROGRAM_LIMIT: Duration = Duration::from_secs(600);

/// The configured program may be run.
pub fn check(argv: Option<&[String]>) -> Result<(), SnapshotError> {
    let without = "without it, what the source hadn't sent is told as unknown.";
    let checked = argv.map_or(Ok(()), |argv| program::check("salvage", argv, without));
    checked.map_err(|refusal| SnapshotError::Refused {
        refusals: vec![refusal],
    })
}

/// Where the dead source's logs are as far as this host can see: its own files, or what the configured
/// program brings; why there are none.
pub fn place(
    ctx: &Context,
    dead: Option<&Known>,
    program: Option<(&[String], &str, &Target)>,
    operation: &str,
) -> Result<LogPlace, String> {
    let dead = dead.ok_or("it was never seen from here")?;
    let server_id = dead.identity.server_id;
    let here = own_place(dead).and_then(|place| place.logs().map(|_| place));
    match (here, program) {
        (Ok(place), _) => Ok(place),
        (Err(why), None) => Err(why),
        (Err(_), Some((argv, pair, target))) => {
            let directory = work(ctx, operation).join("logs");
            let ready = files::make_private_dir(&work(ctx, operation))
                .and_then(|()| files::make_private_dir(&directory));
            ready.map_err(|error| error.to_string())?;
            let mut environment = program::environment(pair, target);
            environment.push(("UNDERSTUDY_DIRECTORY", directory.display().to_string()));
            program::run("salvage", argv, environment, (PROGRAM_LIMIT, &ctx.cancel))?;
            let place = LogPlace {
                directory,
                server_id,
            };
            place
                .logs()
                .map_err(|why| format!("the salvage program brought none that tell it: {why}"))?;
            Ok(place)
        }
    }
}

/// Room for what an operation fetches and needs while it brings that in.
pub fn work(ctx: &Context, operation: &str) -> PathBuf {
    ctx.state.work(operation)
}

/// Of a server of this host.
fn own_place(dead: &Known) -> Result<LogPlace, String> {
    let Identity {
        hostname,
        data_dir,
        server_id,
        ..
    } = &dead.identity;
    if *hostname != process::host_name() {
        return Err(format!(
            "its binary logs are on {hostname}, not on this host"
        ));
    }
    let directory = dead.binary_logs.clone().unwrap_or_else(|| data_dir.into());
    Ok(LogPlace {
        directory,
        server_id: *server_id,
    })
}

/// What is lost, with what was cut off in a file of the operation's name; `why` it can't be told else.
pub fn loss(
    ctx: &Context,
    place: &Result<LogPlace, String>,
    candidate: &Party,
    has: &GtidSet,
    operation: &str,
) -> Result<Result<Lost, String>, SnapshotError> {
    let place = match place {
        Ok(place) => place,
        Err(why) => return Ok(Err(why.clone())),
    };
    let directory = process::program_directory(Path::new(&candidate.identity.data_dir));
    let found = place.logs().and_then(|logs| {
        client::find_log_reader(&candidate.flavour, directory.as_deref())
            .map_err(|name| format!("{name} isn't there to read its binary logs"))
            .map(|reader| (reader, logs))
    });
    let (reader, logs) = match found {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let logs = log_files::needed(&reader, &candidate.flavour, &logs, has);
    if let Some(why) = log_files::encrypted(&logs) {
        return Ok(Err(why));
    }
    let reading = Reading {
        args: log_files::reader_args(has, &logs),
        reader,
        flavour: candidate.flavour.clone(),
    };
    export(ctx, &reading, operation)
}

/// A program that reads binary logs, told which, from where on.
pub struct Reading {
    pub reader: Program,
    pub args: Vec<OsString>,
    pub flavour: Flavour,
}

/// Keeps what it reads in a file of the operation's name, and counts it; why that can't be done else.
pub fn export(
    ctx: &Context,
    reading: &Reading,
    operation: &str,
) -> Result<Result<Lost, String>, SnapshotError> {
    let Reading { reader, args, .. } = reading;
    let [partial, path] = files_of(ctx, operation);
    files::make_private_dir(&ctx.state.receipts())?;
    files::remove(&partial)?;
    files::remove(&path)?;
    let mut file = Ok(files::create_private(&partial)?);
    let mut scan = Scan::new(reading.flavour.clone());
    let read = stream::read(reader, args, &|| ctx.cancel.is_set(), &mut |piece| {
        scan.feed(piece);
        // What doesn't fit the disk is counted all the same, and gives the room back at once.
        if let Ok(open) = &mut file
            && let Err(error) = open.write_all(piece)
        {
            file = Err(error.to_string());
            drop(files::remove(&partial));
        }
        Ok(())
    });
    scan.end();
    let kept = finish(&scan, file, &[&partial, &path])?;
    match read {
        Ok(()) => Ok(Ok(lost(&scan, kept))),
        Err(StreamError::Exec(error)) if log_files::is_at_the_end(&error) => {
            Ok(Ok(lost(&scan, kept)))
        }
        Err(StreamError::Stopped) => {
            ctx.cancel.check("reading the dead source's binary logs")?;
            Ok(Err("reading its binary logs was stopped".to_owned()))
        }
        Err(error) => Ok(Err(match scan.transactions {
            0 => format!("its binary logs can't be read: {error}"),
            count => format!(
                "{count} transactions are in {}, then its binary logs can't be read: {error}",
                path.display()
            ),
        })),
    }
}

/// What an export is written as, and then is.
pub fn files_of(ctx: &Context, operation: &str) -> [PathBuf; 2] {
    let path = ctx.state.export(operation);
    [path.with_extension("sql.partial"), path]
}

/// Kept where there is something in it; where, or why not.
fn finish(
    scan: &Scan,
    file: Result<File, String>,
    [partial, path]: &[&Path; 2],
) -> Result<Result<String, String>, SnapshotError> {
    let kept = match (scan.transactions, file) {
        (0, _) => Err(String::new()),
        (_, Err(why)) => Err(why),
        (_, Ok(file)) => files::finish(file, partial, path).map_err(|error| error.to_string()),
    };
    if kept.is_err() {
        files::remove(partial)?;
    }
    Ok(kept.map(|()| path.display().to_string()))
}

fn lost(scan: &Scan, kept: Result<String, String>) -> Lost {
    let Some(gtid) = &scan.gtid else {
        return Lost::nothing();
    };
    let mut reason =
        "as its binary logs have it; the last ones it may not have told its clients of".to_owned();
    if let Err(why) = &kept {
        reason = format!("{reason}; not kept as SQL: {why}");
    }
    Lost {
        known: true,
        gtid: gtid.to_line(),
        transactions: Some(scan.transactions),
        export: kept.ok(),
        reason: Some(reason),
    }
}
