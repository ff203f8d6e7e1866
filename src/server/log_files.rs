//! Binary logs read from their files, without the server that wrote them.
//!
//! That they are that server's own is seen in them: its server id, and no relay log's mark. What they
//! hold is found in what the flavour's own reader prints.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flavour::Flavour;
use super::gtid::GtidSet;
use crate::sys::exec::{ExecError, Program};
use crate::sys::files;

/// Of a line nothing behind this matters; a row may be of a gigabyte.
const LINE_BYTES_MAX: usize = 512;

/// What mariadb-binlog 10.11 complains of, after all else, when the logs end with the very transaction
/// after which it was to begin. Logs that begin later are another complaint.
const AT_THE_END: &str = "never reached expected GTID state";

/// A binary log's first event, its head: magic, time, type, server id, length, next position, flags.
const HEAD_BYTES: usize = 23;
const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];
/// MySQL encrypts whole files, binary logs and relay logs alike: whose they are isn't seen in them.
const MAGIC_SEALED: [u8; 4] = [0xfd, b'b', b'i', b'n'];
/// MariaDB's `START_ENCRYPTION_EVENT`, right behind the head: all that follows it is encrypted.
const START_ENCRYPTION: u8 = 164;
/// `LOG_EVENT_RELAY_LOG_F`.
const IS_RELAY_LOG: u16 = 0x40;

/// For the two events in which a log says what was before it.
const BEGINNING_LIMIT: Duration = Duration::from_secs(20);

/// Where one server's binary logs are, and whose they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPlace {
    pub directory: PathBuf,
    pub server_id: u32,
}

impl LogPlace {
    /// All that are there now, oldest first; why there are none, or none that tell all. The last of
    /// them isn't encrypted.
    pub fn logs(&self) -> Result<Vec<PathBuf>, String> {
        let (mut own, mut sealed) = (Vec::new(), Vec::new());
        for path in files::list(&self.directory).map_err(|error| error.to_string())? {
            let Some((base, number)) = numbered(&path) else {
                continue;
            };
            match head_of(&path) {
                Some(head) if is_head_of(&head, self.server_id) => own.push((base, number, path)),
                Some(head) if head[..4] == MAGIC_SEALED => sealed.push((base, number, path)),
                Some(_) | None => {}
            }
        }
        own.sort();
        let base = match (own.first(), own.last()) {
            (Some((first, ..)), Some((last, ..))) if first != last => {
                return Err(format!(
                    "which are its binary logs isn't clear: {first} and {last} in {}",
                    self.directory.display()
                ));
            }
            (first, _) => first.map(|(base, ..)| base.clone()),
        };
        // Under another name they may be its relay logs, or what it writes by now.
        let of_another = |(of, ..): &&(String, u64, PathBuf)| Some(of) != base.as_ref();
        if let Some((.., path)) = sealed.iter().find(of_another) {
            return Err(cannot_be_read(path));
        }
        own.append(&mut sealed);
        own.sort();
        match own.last() {
            Some((.., last)) if is_encrypted(last) => Err(cannot_be_read(last)),
            Some(_) => Ok(own.into_iter().map(|(_, _, path)| path).collect()),
            None => Err(format!(
                "no binary log of its own is in {}",
                self.directory.display()
            )),
        }
    }
}

/// Why, and what can be done.
fn cannot_be_read(path: &Path) -> String {
    format!(
        "{} is encrypted, so that only its own server reads it: start that with its keys, out of reach \
         of clients, and `understudy rejoin` exports what it alone has",
        path.display()
    )
}

/// What of these logs is encrypted, in words: no reader tells what it holds.
pub fn encrypted(logs: &[PathBuf]) -> Option<String> {
    let log = logs.iter().find(|log| is_encrypted(log))?;
    Some(cannot_be_read(log))
}

/// Whether only its own server reads it. One whose beginning can't be read isn't known to be.
pub fn is_encrypted(log: &Path) -> bool {
    let Some(head) = head_of(log) else {
        return false;
    };
    let kind = || {
        let mut event = [0; 5];
        let file = File::open(log).ok()?;
        file.read_exact_at(&mut event, u64::from(second_event(&head)))
            .ok()?;
        Some(event[4])
    };
    head[..4] == MAGIC_SEALED || kind() == Some(START_ENCRYPTION)
}

/// `binlog.000012`
fn numbered(path: &Path) -> Option<(String, u64)> {
    let (base, number) = path.file_name()?.to_str()?.rsplit_once('.')?;
    let is_number = number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((base.to_owned(), number.parse().ok().filter(|_| is_number)?))
}

fn head_of(path: &Path) -> Option<[u8; HEAD_BYTES]> {
    let mut head = [0; HEAD_BYTES];
    File::open(path).ok()?.read_exact(&mut head).ok()?;
    Some(head)
}

fn is_head_of(head: &[u8; HEAD_BYTES], server_id: u32) -> bool {
    let id = u32::from_le_bytes([head[9], head[10], head[11], head[12]]);
    let flags = u16::from_le_bytes([head[21], head[22]]);
    head[..4] == MAGIC && id == server_id && flags & IS_RELAY_LOG == 0
}

/// Where the event after the head begins.
fn second_event(head: &[u8; HEAD_BYTES]) -> u32 {
    u32::from_le_bytes([head[17], head[18], head[19], head[20]])
}

/// The logs from the last one on that begins with nothing but what `has` has: older ones hold nothing
/// that it lacks, and terabytes of them needn't be read. All of them where that can't be told.
pub fn needed(
    reader: &Program,
    flavour: &Flavour,
    logs: &[PathBuf],
    has: &GtidSet,
) -> Vec<PathBuf> {
    let first = logs.iter().rposition(|log| {
        let before = gtids_before(reader, flavour, log);
        before.is_some_and(|before| before.is_subset_of(has).unwrap_or(false))
    });
    logs[first.unwrap_or(0)..].to_vec()
}

/// All that was in a server's binary logs when this one of its logs began.
fn gtids_before(reader: &Program, flavour: &Flavour, log: &Path) -> Option<GtidSet> {
    let stop = second_event(&head_of(log)?).checked_add(1)?;
    let args: [OsString; 5] = [
        "--no-defaults".into(),
        "--base64-output=DECODE-ROWS".into(),
        format!("--stop-position={stop}").into(),
        "--".into(),
        log.into(),
    ];
    let output = reader.run(args, BEGINNING_LIMIT).ok()?;
    flavour
        .parse_gtid(&before_in(flavour, &output.stdout)?)
        .ok()
}

/// Of `Gtid list [0-21-11,\n# 1-22-3]` (mariadb-binlog 10.11) and of `Previous-GTIDs\n# UUID:1-5,\n#
/// UUID:1-9` or `# [empty]` (mysqlbinlog 9.7).
fn before_in(flavour: &Flavour, text: &str) -> Option<String> {
    if flavour.is_mariadb() {
        let (_, list) = text.split_once("\tGtid list [")?;
        let (list, _) = list.split_once(']')?;
        return Some(list.replace(['\n', '#', ' '], ""));
    }
    let (_, list) = text.split_once("Previous-GTIDs\n")?;
    let lines = list.lines().map_while(|line| line.strip_prefix("# "));
    let lines: Vec<&str> = lines.take_while(|line| !line.starts_with("at ")).collect();
    match lines[..] {
        [] => None,
        ["[empty]"] => Some(String::new()),
        _ => Some(lines.concat()),
    }
}

/// All that a server with `has` lacks: to MariaDB's reader that is a position.
pub fn reader_args(has: &GtidSet, logs: &[PathBuf]) -> Vec<OsString> {
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

/// A reader that only complains of having found nothing more.
pub fn is_at_the_end(error: &ExecError) -> bool {
    matches!(error, ExecError::Failed { stderr, .. } if stderr.contains(AT_THE_END))
}

/// Finds the transactions in what a reader of logs prints. One that is torn off at the end, as a crash
/// leaves it, is none: its server would roll it back.
pub struct Scan {
    flavour: Flavour,
    line: Vec<u8>,
    pub transactions: u64,
    /// `None` when there was no transaction.
    pub gtid: Option<GtidSet>,
    open: Option<Open>,
    /// The line before was BEGIN, and may be all of the statement.
    may_begin: bool,
}

/// A transaction whose end wasn't seen yet.
struct Open {
    gtid: GtidSet,
    has_begun: bool,
    has_statement: bool,
}

impl Scan {
    pub fn new(flavour: Flavour) -> Self {
        Self {
            flavour,
            line: Vec::new(),
            transactions: 0,
            gtid: None,
            open: None,
            may_begin: false,
        }
    }

    pub fn feed(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_BYTES_MAX.saturating_sub(self.line.len());
            self.line.extend(part.iter().take(room));
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                self.look_at(&String::from_utf8_lossy(&line));
            }
        }
    }

    /// That was all.
    pub fn end(&mut self) {
        match self.open.take() {
            Some(open) if open.has_statement && !open.has_begun => self.count(open.gtid),
            Some(_) | None => {}
        }
    }

    fn look_at(&mut self, line: &str) {
        let found = match self.flavour.is_mariadb() {
            true => of_mariadb(line),
            false => of_mysql(line),
        };
        if let Some(gtid) = found.and_then(|text| self.flavour.parse_gtid(text).ok()) {
            // Another one begins: this one is whole.
            if let Some(open) = self.open.take() {
                self.count(open.gtid);
            }
            self.open = Some(Open {
                gtid,
                has_begun: false,
                has_statement: false,
            });
            return;
        }
        let Some(open) = &mut self.open else { return };
        if line.starts_with("COMMIT") {
            if let Some(open) = self.open.take() {
                self.count(open.gtid);
            }
            return;
        }
        open.has_begun |= self.may_begin && line.starts_with("/*!*/;");
        open.has_statement |= line.starts_with('#') && line.contains("\tQuery\t");
        self.may_begin = matches!(line.trim_end(), "BEGIN" | "START TRANSACTION");
    }

    fn count(&mut self, gtid: GtidSet) {
        self.transactions += 1;
        self.gtid = match self.gtid.take() {
            None => Some(gtid),
            Some(all) => all.union(&gtid).ok(),
        };
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

    fn flavour(version: &str) -> Flavour {
        Flavour::of_version(version)
    }

    fn scanned(version: &str, text: &str) -> (u64, Option<String>) {
        let mut scan = Scan::new(flavour(version));
        // In pieces, as they come.
        for piece in text.as_bytes().chunks(7) {
            scan.feed(piece);
        }
        scan.end();
        (scan.transactions, scan.gtid.map(|gtid| gtid.to_line()))
    }

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
    fn a_transaction_that_is_torn_off_is_none() {
        const GTID: &str = "#261127 16:23:18 server id 21  end_log_pos 1 CRC32 0x1 \tGTID 0-21-";
        const QUERY: &str = "#261127 16:23:18 server id 21  end_log_pos 7 \tQuery\tthread_id=8\n";
        let whole =
            format!("{GTID}8 trans\nSTART TRANSACTION\n/*!*/;\n{QUERY}x\n/*!*/;\nCOMMIT/*!*/;\n");
        let ddl = format!(
            "{GTID}9 ddl\n/*!*/;\n{QUERY}CREATE PROCEDURE p()\nBEGIN\n  DO 1;\nEND\n/*!*/;\n"
        );
        let torn = format!("{GTID}10 trans\nSTART TRANSACTION\n/*!*/;\n{QUERY}x\n/*!*/;\n");
        let torn_ddl = format!("{GTID}10 ddl\n/*!*/;\n");
        let end = "DELIMITER ;\n# End of log file\nROLLBACK /* added by mysqlbinlog */;\n";
        for (text, expected) in [
            (String::new(), (0, None)),
            (format!("{whole}{end}"), (1, Some("0-21-8"))),
            (format!("{whole}{ddl}{end}"), (2, Some("0-21-9"))),
            (format!("{whole}{ddl}{torn}{end}"), (2, Some("0-21-9"))),
            (format!("{whole}{torn_ddl}{end}"), (1, Some("0-21-8"))),
            (format!("{torn}{end}"), (0, None)),
        ] {
            let expected = (expected.0, expected.1.map(str::to_owned));
            assert_eq!(scanned("10.11.14-MariaDB", &text), expected, "{text}");
        }
        const NEXT: &str = "SET @@SESSION.GTID_NEXT= 'ea6d0c4b-0000-0000-0000-000000000001:";
        let whole = format!("{NEXT}7'/*!*/;\n{QUERY}BEGIN\n/*!*/;\nCOMMIT/*!*/;\n");
        let torn = format!("{NEXT}8'/*!*/;\n{QUERY}BEGIN\n/*!*/;\n");
        let automatic = "SET @@SESSION.GTID_NEXT= 'AUTOMATIC' /* added by mysqlbinlog */ /*!*/;\n";
        let has = Some("ea6d0c4b-0000-0000-0000-000000000001:7".to_owned());
        let text = format!("{whole}{torn}{automatic}");
        assert_eq!(scanned("9.7.4", &text), (1, has));
    }

    #[test]
    fn what_was_before_a_log_is_read_from_its_beginning() {
        let maria = flavour("10.11.14-MariaDB");
        let text = "#261127 16:23:18 server id 21 \tGtid list [0-21-5,\n# 1-22-3]\nDELIMITER ;\n";
        assert_eq!(before_in(&maria, text).as_deref(), Some("0-21-5,1-22-3"));
        let empty = "#261127 16:23:18 server id 21 \tGtid list []\n";
        assert_eq!(before_in(&maria, empty).as_deref(), Some(""));
        assert_eq!(before_in(&maria, "DELIMITER ;\n"), None);
        let mysql = flavour("9.7.4");
        let text =
            "# at 127\n#261127 16:24:37 \tPrevious-GTIDs\n# aa:1-5,\n# bb:1-9\n# at 198\n#26\n";
        assert_eq!(before_in(&mysql, text).as_deref(), Some("aa:1-5,bb:1-9"));
        let text = "#261127 16:24:37 \tPrevious-GTIDs\n# [empty]\n# at 158\n";
        assert_eq!(before_in(&mysql, text).as_deref(), Some(""));
        assert_eq!(before_in(&mysql, "DELIMITER ;\n"), None);
    }

    /// A file of `directory` that begins as a log of server 21 does, with an event of that type behind.
    fn begun(directory: &Path, name: &str, magic: [u8; 4], kind: u8) -> PathBuf {
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&magic);
        bytes[9] = 21;
        bytes[17] = 40;
        bytes[44] = kind;
        let path = directory.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn logs_of_which_the_last_is_encrypted_tell_nothing() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path();
        let place = LogPlace {
            directory: directory.to_owned(),
            server_id: 21,
        };
        let is_told = |name: &str| place.logs().unwrap_err().contains(name);
        begun(directory, "binlog.000001", MAGIC_SEALED, 0);
        assert!(is_told("binlog.000001 is encrypted"));
        let plain = begun(directory, "binlog.000002", MAGIC, 15);
        // The reader tells whether it needs the older one.
        let logs = place.logs().unwrap();
        assert_eq!((logs.len(), &logs[1]), (2, &plain));
        assert!(encrypted(&logs).unwrap().contains("binlog.000001"));
        assert_eq!(encrypted(&logs[1..]), None);
        begun(directory, "binlog.000003", MAGIC, START_ENCRYPTION);
        assert!(is_told("binlog.000003 is encrypted"));
        begun(directory, "binlog.000003", MAGIC_SEALED, 0);
        assert!(is_told("binlog.000003 is encrypted"));
        begun(directory, "binlog.000004", MAGIC, 15);
        assert_eq!(place.logs().unwrap().len(), 4);
        begun(directory, "mysql-bin.000001", MAGIC_SEALED, 0);
        assert!(is_told("mysql-bin.000001 is encrypted"));
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
