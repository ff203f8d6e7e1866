//! What a server that comes back has of its own: exported as SQL with its GTIDs before anything else
//! is done to it. From its binary logs as files where they can be read here, else over SQL by the log
//! reader, whose credentials stand in a file of their own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::report::Lost;
use super::salvage::{self, Reading};
use crate::journal::Party;
use crate::server::client;
use crate::server::condition::Condition;
use crate::server::gtid::{GtidSet, MariadbGtidPos};
use crate::server::log_files::{self, LogPlace};
use crate::server::session::READ_LIMIT;
use crate::snapshot::{Context, SnapshotError};
use crate::sys::{files, process};

/// The transactions that one server has and another one hasn't, in the words of `health::errant`.
pub struct Surplus<'a> {
    pub gtid: &'a str,
    pub own: &'a Condition,
    pub of_source: &'a Condition,
}

/// What is exported, and where it is; why it can't be.
pub fn export(
    ctx: &Context,
    party: &Party,
    surplus: &Surplus<'_>,
    operation: &str,
) -> Result<Result<Lost, String>, SnapshotError> {
    let filter = match filter(surplus) {
        Ok(filter) => filter,
        Err(why) => return Ok(Err(why)),
    };
    let beside = process::program_directory(Path::new(&party.identity.data_dir));
    let reader = match client::find_log_reader(&party.flavour, beside.as_deref()) {
        Ok(reader) => reader,
        Err(name) => return Ok(Err(format!("{name} isn't there to read its binary logs"))),
    };
    let (names, here) = match logs(party)? {
        Ok(logs) => logs,
        Err(why) => return Ok(Err(why)),
    };
    let work = ctx.state.work(operation);
    let (mut args, logs): (Vec<OsString>, Vec<OsString>) = match here {
        Some(paths) => {
            let paths = match &filter.from {
                None => paths,
                Some(from) => log_files::needed(&reader, &party.flavour, &paths, from),
            };
            (
                vec!["--no-defaults".into()],
                paths.into_iter().map(PathBuf::into_os_string).collect(),
            )
        }
        None => {
            files::make_private_dir(&work)?;
            let options = work.join("read.cnf");
            let text = client::log_reader_option_file(&party.flavour, &party.target);
            files::replace(&options, text.as_bytes())?;
            // From there on to the last one: given a position, MariaDB's reader ends with the first log
            // that is named (seen on 10.11).
            let first = names.into_iter().take(1).map(OsString::from);
            (client::read_remote_logs_args(&options), first.collect())
        }
    };
    args.extend(filter.args.into_iter().map(OsString::from));
    args.push("--".into());
    args.extend(logs);
    let reading = Reading {
        reader,
        args,
        flavour: party.flavour.clone(),
    };
    let exported = salvage::export(ctx, &reading, operation);
    files::remove_tree(&work)?;
    Ok(exported?.and_then(|lost| whole(lost, surplus)))
}

/// An export that lacks some of it, or that couldn't be kept, is none.
fn whole(lost: Lost, surplus: &Surplus<'_>) -> Result<Lost, String> {
    if lost.export.is_none() && lost.transactions != Some(0) {
        return Err(lost.reason.unwrap_or_default());
    }
    let flavour = &surplus.own.flavour;
    let read = |text: &str| flavour.parse_gtid(text).map_err(|error| error.to_string());
    let has_all = match (read(surplus.gtid)?, read(&lost.gtid)?) {
        (GtidSet::Mysql(wanted), GtidSet::Mysql(found)) => wanted.is_subset_of(&found),
        (GtidSet::Mariadb(wanted), GtidSet::Mariadb(found)) => wanted
            .entries()
            .all(|entry| found.has(None, entry) == Some(true)),
        (GtidSet::Mysql(_), GtidSet::Mariadb(_)) | (GtidSet::Mariadb(_), GtidSet::Mysql(_)) => {
            false
        }
    };
    match has_all {
        true => Ok(Lost {
            reason: None,
            ..lost
        }),
        false => Err(format!(
            "its binary logs hold {:?} of {}",
            lost.gtid, surplus.gtid
        )),
    }
}

/// What makes the reader print the surplus alone. MariaDB's begins after a position and knows servers,
/// not sets.
struct Filter {
    args: Vec<String>,
    /// What the logs that have to be read come after, where that is known.
    from: Option<GtidSet>,
}

fn filter(surplus: &Surplus<'_>) -> Result<Filter, String> {
    let flavour = &surplus.own.flavour;
    let more = flavour.parse_gtid(surplus.gtid);
    let more = match more.map_err(|error| error.to_string())? {
        GtidSet::Mysql(more) => {
            return Ok(Filter {
                args: vec![format!("--include-gtids={}", more.to_line())],
                from: surplus.of_source.executed.known().cloned(),
            });
        }
        GtidSet::Mariadb(more) => more,
    };
    let (Some(Some(GtidSet::Mariadb(own))), Some(Some(GtidSet::Mariadb(theirs)))) = (
        surplus.own.written.known(),
        surplus.of_source.written.known(),
    ) else {
        return Err("the servers don't tell what is in their binary logs".to_owned());
    };
    let applied = surplus.of_source.variable("gtid_slave_pos");
    let applied = applied.and_then(|text| MariadbGtidPos::parse(text).ok());
    of_mariadb(&more, own, theirs, applied.as_ref())
}

fn of_mariadb(
    more: &MariadbGtidPos,
    own: &MariadbGtidPos,
    theirs: &MariadbGtidPos,
    applied: Option<&MariadbGtidPos>,
) -> Result<Filter, String> {
    let mut writers: Vec<u32> = more.entries().map(|(_, server, _)| server).collect();
    writers.sort_unstable();
    writers.dedup();
    let [writer] = writers[..] else {
        return Err(format!(
            "it is of {} servers, which can't be read from the binary logs in one go",
            writers.len()
        ));
    };
    let (mut start, mut is_known) = (Vec::new(), true);
    for domain in own.domains() {
        match more.sequence_of(domain, writer) {
            // Nothing of this domain.
            None => {
                let last = own.entries().filter(|(of, _, _)| *of == domain);
                if let Some((_, server, last)) = last.max_by_key(|(_, _, sequence)| *sequence) {
                    start.push(format!("{domain}-{server}-{last}"));
                }
            }
            Some(_) => match theirs.reached(applied, domain, writer) {
                Some(reached) => start.push(format!("{domain}-{writer}-{reached}")),
                // Everything that it ever wrote there.
                None => is_known = false,
            },
        }
    }
    let start = start.join(",");
    let from = MariadbGtidPos::parse(&start).map_err(|error| error.to_string())?;
    let mut args = vec![format!("--server-id={writer}")];
    if !start.is_empty() {
        args.push(format!("--start-position={start}"));
    }
    Ok(Filter {
        args,
        from: is_known.then_some(GtidSet::Mariadb(from)),
    })
}

/// Their names, oldest first; and where all of them can be read here, their paths.
type Logs = (Vec<String>, Option<Vec<PathBuf>>);

fn logs(party: &Party) -> Result<Result<Logs, String>, SnapshotError> {
    let (session, rows) = party.session()?.query("SHOW BINARY LOGS", READ_LIMIT)?;
    let names: Vec<String> = rows
        .iter()
        .filter_map(|row| row.at(0).map(str::to_owned))
        .collect();
    if names.is_empty() {
        return Ok(Err("it has no binary log".to_owned()));
    }
    let (_, base) = session.value("SELECT @@GLOBAL.log_bin_basename", READ_LIMIT)?;
    let base = base.unwrap_or_default();
    let directory = Path::new(&base).parent();
    let directory = directory.filter(|directory| directory.is_absolute());
    let is_here = party.identity.hostname == process::host_name();
    let Some(directory) = directory.filter(|_| is_here) else {
        return Ok(Ok((names, None)));
    };
    let place = LogPlace {
        directory: directory.to_owned(),
        server_id: party.identity.server_id,
    };
    let paths: Vec<PathBuf> = names.iter().map(|name| directory.join(name)).collect();
    // Encrypted ones, or in a container, it can still read to us.
    let found = place.logs().unwrap_or_default();
    let readable = paths
        .iter()
        .all(|path| found.contains(path) && !log_files::is_encrypted(path));
    Ok(Ok((names, readable.then_some(paths))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> MariadbGtidPos {
        MariadbGtidPos::parse(text).unwrap()
    }

    #[test]
    fn mariadbs_reader_begins_where_both_part() {
        let args = |more, own, theirs| {
            let (more, own, theirs) = (position(more), position(own), position(theirs));
            of_mariadb(&more, &own, &theirs, None).map(|filter| (filter.args, filter.from))
        };
        assert_eq!(
            args("0-1-105", "0-1-105,1-1-7", "0-1-100,0-2-130,1-1-7")
                .unwrap()
                .0,
            ["--server-id=1", "--start-position=0-1-100,1-1-7"]
        );
        // A replica that was written to.
        let (all, from) = args("0-3-57", "0-1-60,0-3-57", "0-1-60").unwrap();
        assert_eq!((all, from), (vec!["--server-id=3".to_owned()], None));
        assert!(args("0-3-57,0-1-61", "0-1-61,0-3-57", "0-1-60").is_err());
    }
}
