//! What a dead source's binary logs hold beyond its replicas, where this host can read them: exported
//! as SQL with its GTIDs, so that the receipt says what was lost. Nothing is applied.
//!
//! That the logs are that server's own is seen in them: its server id, and no relay log's mark.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::report::Lost;
use crate::journal::Party;
use crate::server::gtid::GtidSet;
use crate::server::{Flavour, Identity, client};
use crate::snapshot::{Context, SnapshotError};
use crate::sys::exec::{ExecError, Program};
use crate::sys::stream::{self, StreamError};
use crate::sys::{files, process};

/// Of a line nothing behind this matters; a row may be of a gigabyte.
const LINE_BYTES_MAX: usize = 512;

/// What mariadb-binlog 10.11 complains of, after all else, when the logs end with the very transaction
/// after which it was to begin. Logs that begin later are another complaint.
const AT_THE_END: &str = "never reached expected GTID state";

/// A binary log's first event, its head: magic, time, type, server id, length, position, flags.
const HEAD_BYTES: usize = 23;
const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
/// `LOG_EVENT_RELAY_LOG_F`.
const IS_RELAY_LOG: u16 = 0x40;

/// What is lost, with what was cut off in a file of the operation's name; `why` it can't be told else.
pub fn loss(
    ctx: &Context,
    dead: Option<&Identity>,
    candidate: &Party,
    has: &GtidSet,
    operation: &str,
) -> Result<Result<Lost, String>, SnapshotError> {
    let logs = match dead.ok_or("it was never seen from here".to_owned()) {
        Ok(dead) => find_logs(dead),
        Err(why) => Err(why),
    };
    let beside = beside(candidate);
    let found = logs.and_then(|logs| {
        let program = client::find_log_reader(&candidate.flavour, beside.as_deref());
        let missing = |name| format!("{name} isn't there to read its binary logs");
        Ok((program.map_err(missing)?, logs))
    });
    let (reader, logs) = match found {
        Ok(found) => found,
        Err(why) => return Ok(Err(why)),
    };
    let [partial, path] = files_of(ctx, operation);
    files::make_private_dir(&ctx.state.receipts())?;
    files::remove(&partial)?;
    files::remove(&path)?;
    let mut file = files::create_private(&partial)?;
    let args = args(has, &logs);
    let mut scan = Scan::new(candidate.flavour.clone());
    let read = read(ctx, &reader, &args, &mut scan, &mut file);
    if scan.transactions == 0 {
        files::remove(&partial)?;
    } else {
        files::finish(file, &partial, &path)?;
    }
    match read {
        Ok(()) => Ok(Ok(scan.lost(&path))),
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

fn read(
    ctx: &Context,
    reader: &Program,
    args: &[OsString],
    scan: &mut Scan,
    file: &mut File,
) -> Result<(), StreamError> {
    let ended = stream::read(reader, args, &|| ctx.cancel.is_set(), &mut |piece| {
        scan.feed(piece);
        file.write_all(piece)
    });
    match ended {
        Err(StreamError::Exec(ExecError::Failed { stderr, .. })) if stderr.contains(AT_THE_END) => {
            Ok(())
        }
        ended => ended,
    }
}

/// Where the candidate's program lies, if it runs here.
fn beside(candidate: &Party) -> Option<PathBuf> {
    let pids = process::in_directory(Path::new(&candidate.identity.data_dir));
    let program = pids.into_iter().find_map(process::program_of)?;
    Some(program.parent()?.to_owned())
}

/// All that a candidate with `has` lacks: to MariaDB's reader that is a position.
fn args(has: &GtidSet, logs: &[PathBuf]) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--no-defaults".into()];
    if !has.is_empty() {
        args.push(match has {
            GtidSet::Mysql(set) => format!("--exclude-gtids={}", set.to_line()).into(),
            GtidSet::Mariadb(set) => format!("--start-position={}", set.to_position()).into(),
        });
    }
    args.push("--".into());
    args.extend(logs.iter().map(|log| log.clone().into_os_string()));
    args
}

/// The binary logs in its data directory, oldest first; why there are none.
fn find_logs(dead: &Identity) -> Result<Vec<PathBuf>, String> {
    if dead.hostname != process::host_name() {
        return Err(format!(
            "its binary logs are on {}, not on this host",
            dead.hostname
        ));
    }
    let directory = Path::new(&dead.data_dir);
    let all = files::list(directory).map_err(|error| error.to_string())?;
    let mut logs: Vec<(String, u64, PathBuf)> = Vec::new();
    for path in all {
        let numbered = numbered(&path);
        if let Some((base, number)) = numbered.filter(|_| is_log_of(&path, dead.server_id)) {
            logs.push((base, number, path));
        }
    }
    logs.sort();
    match (logs.first(), logs.last()) {
        (Some((first, ..)), Some((last, ..))) if first == last => {
            Ok(logs.into_iter().map(|(_, _, path)| path).collect())
        }
        (Some((first, ..)), Some((last, ..))) => Err(format!(
            "which are its binary logs isn't clear: {first} and {last} in {}",
            directory.display()
        )),
        (_, _) => Err(format!(
            "no binary log of its own is in {}",
            directory.display()
        )),
    }
}

/// `binlog.000012`
fn numbered(path: &Path) -> Option<(String, u64)> {
    let (base, number) = path.file_name()?.to_str()?.rsplit_once('.')?;
    let is_number = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((base.to_owned(), number.parse().ok().filter(|_| is_number)?))
}

fn is_log_of(path: &Path, server_id: u32) -> bool {
    let mut head = [0; HEAD_BYTES];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && is_head_of(&head, server_id)
}

fn is_head_of(head: &[u8; HEAD_BYTES], server_id: u32) -> bool {
    let id = u32::from_le_bytes([head[9], head[10], head[11], head[12]]);
    let flags = u16::from_le_bytes([head[21], head[22]]);
    head[..4] == MAGIC && id == server_id && flags & IS_RELAY_LOG == 0
}

/// Finds the transactions in what a reader of logs prints.
struct Scan {
    flavour: Flavour,
    line: Vec<u8>,
    transactions: u64,
    gtid: Option<GtidSet>,
}

impl Scan {
    fn new(flavour: Flavour) -> Self {
        Self {
            flavour,
            line: Vec::new(),
            transactions: 0,
            gtid: None,
        }
    }

    fn feed(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend(part.iter().take(room));
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.look_at(&String::from_utf8_lossy(&line));
            }
        }
    }

    fn look_at(&mut self, line: &str) {
        let found = match self.flavour.is_mariadb() {
            true => of_mariadb(line),
            false => of_mysql(line),
        };
        let Some(one) = found.and_then(|text| self.flavour.parse_gtid(text).ok()) else {
            return;
        };
        self.transactions += 1;
        self.gtid = match self.gtid.take() {
            None => Some(one),
            Some(all) => all.union(&one).ok(),
        };
    }

    fn lost(&self, path: &Path) -> Lost {
        let Some(gtid) = &self.gtid else {
            return Lost::nothing();
        };
        Lost {
            known: true,
            gtid: gtid.to_line(),
            transactions: Some(self.transactions),
            export: Some(path.display().to_string()),
            reason: Some(
                "as its binary logs have it; the last ones it may not have told its clients of"
                    .to_owned(),
            ),
        }
    }
}

/// Of `#261127 12:00:01 server id 21  end_log_pos 42 CRC32 0x1  TAB GTID 0-21-12 trans` (mariadb-binlog
/// 10.11).
fn of_mariadb(line: &str) -> Option<&str> {
    let (_, text) = line.strip_prefix('#')?.split_once("\tGTID ")?;
    text.split_whitespace().next()
}

/// Of `SET @@SESSION.GTID_NEXT= 'UUID:12'/*!*/;` (mysqlbinlog 9.7).
fn of_mysql(line: &str) -> Option<&str> {
    let text = line.strip_prefix("SET @@SESSION.GTID_NEXT= '")?;
    text.split('\'').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gtids_are_found_where_a_reader_of_logs_prints_them() {
        let line =
            "#261127 12:00:01 server id 21  end_log_pos 0 CRC32 0xabc \tGTID 0-21-12 trans\n";
        assert_eq!(of_mariadb(line), Some("0-21-12"));
        let list = "#261127 12:00:01 server id 21  end_log_pos 9 CRC32 0x1 \tGtid list [0-21-11]\n";
        assert_eq!(of_mariadb(list), None);
        let line = "SET @@SESSION.GTID_NEXT= 'ea6d0c4b-0000-0000-0000-000000000001:7'/*!*/;\n";
        assert_eq!(
            of_mysql(line),
            Some("ea6d0c4b-0000-0000-0000-000000000001:7")
        );
        assert_eq!(of_mysql("SET @@SESSION.GTID_MODE= 'x'"), None);
    }

    #[test]
    fn a_log_is_known_by_its_head() {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&MAGIC);
        head[9] = 21;
        assert!(is_head_of(&head, 21));
        assert!(!is_head_of(&head, 22));
        head[21] = 0x41;
        assert!(!is_head_of(&head, 21), "a relay log");
        assert_eq!(
            numbered(Path::new("/d/binlog.000012")),
            Some(("binlog".to_owned(), 12))
        );
        assert_eq!(numbered(Path::new("/d/binlog.index")), None);
    }
}
