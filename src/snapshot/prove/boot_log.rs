//! What a server's own log tells of its start: how far recovery is, and why it didn't come up.
//!
//! Pure, over the text of the log. The words were read off real logs (MariaDB 10.11, MySQL 5.6 and
//! 9.7) of servers started on files that were damaged on purpose: tests/fixtures/server-log has
//! them, and tests/snapshot/prove/ damages files again. What no sign tells stays `DidNotStart`: a wrong
//! cause would be worse than none.

use serde::{Deserialize, Serialize};

use crate::server::Flavour;

/// Of a server that came up, so many errors are shown.
const COMPLAINTS_MAX: usize = 5;

/// Why a snapshot isn't good. Each has one cause and one cure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// A copy-on-write area overflowed, or the kept volume is damaged.
    SpoiltVolume,
    MissingVolume,
    MissingFile,
    /// A file ends before it should.
    TruncatedFile,
    /// The redo log can't be read.
    DamagedLog,
    CorruptPage,
    CorruptTable,
    /// The server can't read files of that version or flavour.
    WrongVersion,
    /// The page size or another setting that the files were made with isn't the server's.
    WrongSettings,
    MissingKeyRing,
    PositionDiffers,
    /// Rows whose parents are missing.
    ForeignKeyOrphans,
    /// Not those that the previous snapshot and the binary logs give.
    RowsDiffer,
    /// A file of a dump isn't what was written.
    BrokenStream,
    /// A dump can't be loaded.
    NotLoadable,
    /// Of a dump: not those that its own transaction saw.
    LoadedDiffers,
    /// None of the above: the log's last error is the evidence.
    DidNotStart,
}

impl Flaw {
    /// As a fragment: "a page is corrupt".
    pub fn words(self) -> &'static str {
        match self {
            Self::SpoiltVolume => "the kept volume is spoilt",
            Self::MissingVolume => "the kept volume is gone",
            Self::MissingFile => "a file is missing",
            Self::TruncatedFile => "a file is cut short",
            Self::DamagedLog => "the redo log is damaged",
            Self::CorruptPage => "a page is corrupt",
            Self::CorruptTable => "a table is corrupt",
            Self::WrongVersion => "this server can't read files of that version",
            Self::WrongSettings => "the server's settings don't fit the files",
            Self::MissingKeyRing => "the keys of the encrypted files are missing",
            Self::PositionDiffers => "the server came up at another position than the recorded one",
            Self::ForeignKeyOrphans => "rows refer to parents that aren't there",
            Self::RowsDiffer => {
                "its rows aren't those that the previous snapshot and the binary logs give"
            }
            Self::BrokenStream => "a file of the dump isn't what was written",
            Self::NotLoadable => "the dump can't be loaded",
            Self::LoadedDiffers => "what was loaded isn't what the dump's own transaction saw",
            Self::DidNotStart => "the server didn't come up",
        }
    }

    /// The cure, a sentence.
    pub fn hint(self) -> &'static str {
        match self {
            Self::SpoiltVolume => {
                "Take a new snapshot; with thick LVM raise cow_size or keep it for a shorter time."
            }
            Self::MissingVolume => "Take a new snapshot, and delete this one.",
            Self::BrokenStream | Self::NotLoadable | Self::LoadedDiffers => {
                "Verify an older snapshot, take a new one, and look at the disk under the dumps."
            }
            Self::MissingFile
            | Self::TruncatedFile
            | Self::DamagedLog
            | Self::CorruptPage
            | Self::CorruptTable => {
                "Verify an older snapshot, check the same tables on the live server, and look at its \
                 disk."
            }
            Self::WrongVersion => {
                "Install a server of the snapshot's version, and name it as server_binary in the \
                 server's [service] table."
            }
            Self::WrongSettings => {
                "Compare the settings in the manifest (`understudy snapshot show`) with the server \
                 program's limits."
            }
            Self::MissingKeyRing => {
                "Give the key files back to their place; a snapshot without its keys can't be read."
            }
            Self::PositionDiffers => {
                "Don't attach it to a source at the recorded position; take a new snapshot."
            }
            Self::ForeignKeyOrphans => {
                "Compare those rows with the source: they may have been loaded with \
                 foreign_key_checks off."
            }
            Self::RowsDiffer => {
                "Compare those tables with the source. What was written with sql_log_bin = 0 differs too; \
                 else take a new snapshot, and provision the replica anew if that one differs as well."
            }
            Self::DidNotStart => {
                "Read the log: a server with the same settings and version must be able to start on \
                 these files."
            }
        }
    }
}

/// What this machine lacked, which tells nothing of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    Room,
    Memory,
    OpenFiles,
    /// The program didn't get as far as the files.
    Program,
}

impl Lack {
    /// The cure, a sentence.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Room => {
                "Make room where the clone lies, in state_dir and in /run, then verify again."
            }
            Self::Memory => "Free some memory, then verify again.",
            Self::OpenFiles => "Raise the limit of open files (`ulimit -n`), then verify again.",
            Self::Program => {
                "Name a server program that runs here, of the snapshot's version, as server_binary \
                 in the server's [service] table."
            }
        }
    }
}

/// Whom a failed start accuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    Flaw(Flaw),
    Machine(Lack),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    pub cause: Cause,
    /// The line that tells it.
    pub evidence: String,
}

/// Words that tell a cause, all of them in one line, in lower case.
type Sign = &'static [&'static str];

const ROOM: &[Sign] = &[
    &["no space left on device"],
    &["errcode: 28"],
    &["errno: 28"],
    &["error number 28 in a file operation"],
    &["failed with error 28"],
    &["io error: 28 during"],
];
const MEMORY: &[Sign] = &[
    &["cannot allocate memory for the buffer pool"],
    &["cannot map innodb_buffer_pool_size_max"],
    &["pthread_create returned 11"],
    &["what():", "resource temporarily unavailable"],
];
const OPEN_FILES: &[Sign] = &[&["errcode: 24"], &["error number 24 in a file operation"]];

/// A header that contradicts itself, so that what else is read from it means nothing.
const CORRUPT_HEADER: &[Sign] = &[
    &["space id in fsp header", "in the page header"],
    &["inconsistent tablespace id in"],
];
const WRONG_SETTINGS: &[Sign] = &[
    &[
        "uses page size",
        "but the innodb_page_size start-up parameter is",
    ],
    &["innodb-page-size mismatch in data file"],
    &["different lower_case_table_names settings for server"],
    &["is different than given aria_block_size"],
];
const MISSING_KEY_RING: &[Sign] = &[
    &["encryption key is not found for"],
    &["cannot enable encryption, encryption plugin is not available"],
    &["please confirm that keyring is loaded"],
    &["please check the keyring is loaded"],
    &["was encrypted, but keyring is not loaded"],
    &["is encrypted but encryption service or used key_id is not available"],
];
/// MariaDB says the first of a redo log that is only zeroed, too: see `diagnose`.
const WRONG_VERSION: &[Sign] = &[
    &["upgrade after a crash is not supported"],
    &["unsupported redo log format"],
];
const DAMAGED_LOG: &[Sign] = &[
    &["invalid log header checksum"],
    &["invalid redo log header checksum"],
    &["missing file_checkpoint"],
    &["we did not find a valid checkpoint"],
    &["found redo log file", "which has format (v0)"],
    &["the redo log file", "is smaller than"],
    &["file ./ib_logfile0 is too small"],
];
const TRUNCATED_FILE: &[Sign] = &[
    &["auto-extending", "is of a different size"],
    &["the size of", "is only", "should be at least"],
    &["outside the bounds of the file"],
    &["which is outside the tablespace bounds"],
    &["retry attempts for reading partial data failed"],
    &["tried to read", "was only able to read"],
];
const CORRUPT_PAGE: &[Sign] = &[
    &["page read from tablespace is corrupted"],
    &["space id and page no stored in the page, read in from"],
    &["unable to apply log to corrupted page"],
    &["cannot apply log to", "of corrupted file"],
    &["has the wrong space id"],
    &["expected tablespace flags", "but found"],
    &["database page corruption on disk or a failed"],
    &["space id and page number stored in the page read in are"],
    &["checksum mismatch in datafile"],
    &["corrupted page [page id"],
    &["is corrupted. cannot determine the space id"],
    &["tablespace flags are invalid in datafile"],
    &["flag mismatch in page"],
];
const MISSING_FILE: &[Sign] = &[
    &["tablespace", "was not found at"],
    &["missing file_create, file_delete or file_modify"],
    &["could not find any file associated with the tablespace"],
    &["file ./ib_logfile0 was not found"],
    &["system schema directory does not exist"],
];

/// The surest first: a server that can't read its keys or settings also speaks of corruption, and
/// one that finds corruption of missing files.
const SIGNS: [(Cause, &[Sign]); 11] = [
    (Cause::Machine(Lack::Room), ROOM),
    (Cause::Machine(Lack::Memory), MEMORY),
    (Cause::Machine(Lack::OpenFiles), OPEN_FILES),
    (Cause::Flaw(Flaw::CorruptPage), CORRUPT_HEADER),
    (Cause::Flaw(Flaw::WrongSettings), WRONG_SETTINGS),
    (Cause::Flaw(Flaw::MissingKeyRing), MISSING_KEY_RING),
    (Cause::Flaw(Flaw::WrongVersion), WRONG_VERSION),
    (Cause::Flaw(Flaw::DamagedLog), DAMAGED_LOG),
    (Cause::Flaw(Flaw::TruncatedFile), TRUNCATED_FILE),
    (Cause::Flaw(Flaw::CorruptPage), CORRUPT_PAGE),
    (Cause::Flaw(Flaw::MissingFile), MISSING_FILE),
];

/// Errors that only say that there was one.
const EMPTY_WORDS: [&str; 9] = [
    "aborting",
    "plugin initialization aborted",
    "could not open or create the system tablespace",
    "registration as a storage engine failed",
    "init function returned error",
    "unknown/unsupported storage engine",
    "failed to initialize dd storage engine",
    "data dictionary initialization failed",
    "failed to initialize plugins",
];

/// Why a server didn't come up, or ended. `writer` is the server that wrote the files; `program` the
/// one that was started on them, where it is known.
pub fn diagnose(log: &str, writer: &Flavour, program: Option<&Flavour>) -> Diagnosis {
    let started = program_of(log);
    let is_same_release = match started.as_ref().or(program) {
        Some(program) if is_older_or_other(program, writer) => {
            return Diagnosis {
                cause: Cause::Flaw(Flaw::WrongVersion),
                evidence: format!("{} can't read files of {}", program.text, writer.text),
            };
        }
        Some(program) => release(program) == release(writer),
        None => true,
    };
    if started.is_none() {
        return Diagnosis {
            cause: match is_same_release {
                true => Cause::Machine(Lack::Program),
                false => Cause::Flaw(Flaw::WrongVersion),
            },
            evidence: last_word(log),
        };
    }
    for (cause, signs) in SIGNS {
        if cause == Cause::Flaw(Flaw::WrongVersion) && is_same_release {
            continue;
        }
        if let Some(line) = log.lines().find(|line| tells(line, signs)) {
            return Diagnosis {
                cause,
                evidence: message(line).to_owned(),
            };
        }
    }
    Diagnosis {
        cause: Cause::Flaw(Flaw::DidNotStart),
        evidence: last_word(log),
    }
}

fn release(flavour: &Flavour) -> (u16, u16) {
    (flavour.version.0, flavour.version.1)
}

/// Of the other family, or too old: whatever it says of the files then means nothing.
fn is_older_or_other(program: &Flavour, writer: &Flavour) -> bool {
    program.family != writer.family || release(program) < release(writer)
}

fn tells(line: &str, signs: &[Sign]) -> bool {
    let line = line.to_ascii_lowercase();
    signs
        .iter()
        .any(|sign| sign.iter().all(|words| line.contains(words)))
        && !is_mended(&line)
}

/// MySQL 5.6 says so of a page that it then takes from the doublewrite buffer.
fn is_mended(lower: &str) -> bool {
    lower.starts_with("innodb: warning:")
}

/// The last error that says something, else the last line.
fn last_word(log: &str) -> String {
    let says_something = |line: &&str| {
        let lower = line.to_ascii_lowercase();
        !EMPTY_WORDS.iter().any(|words| lower.contains(words))
    };
    let errors = || log.lines().filter(|line| is_error(line));
    let line = errors()
        .rfind(says_something)
        .or_else(|| errors().next_back())
        .or_else(|| log.lines().rfind(|line| !line.trim().is_empty()));
    line.map_or("it said nothing", message).to_owned()
}

/// The server that wrote this log, as it says itself when it has read its options.
fn program_of(log: &str) -> Option<Flavour> {
    log.lines().find_map(|line| {
        let before = line.split_once(" as process ")?.0;
        let version = match before.split_once("Starting MariaDB ") {
            Some((_, rest)) => rest.split_whitespace().next()?,
            // `/usr/sbin/mysqld (mysqld 9.7.4) starting`, as MariaDB before 10.6 too.
            None => before.split_once("(mysqld ")?.1.split(')').next()?,
        };
        Some(Flavour::of_version(version))
    })
}

/// The version in the answer to `--version`: `mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))`.
pub fn parse_version(text: &str) -> Option<Flavour> {
    let version = text.split_once(" Ver ")?.1.split_whitespace().next()?;
    Some(Flavour::of_version(version))
}

/// Whether a text of the server's speaks of something that this machine lacks.
pub fn lack_in(text: &str) -> Option<Lack> {
    SIGNS.into_iter().find_map(|(cause, signs)| match cause {
        Cause::Machine(lack) if tells(text, signs) => Some(lack),
        Cause::Machine(_) | Cause::Flaw(_) => None,
    })
}

/// MariaDB doesn't give up on a full disk, but waits, for as long as it takes; 10.11.14 by trying the
/// same write again without a pause.
pub fn waits_for_room(log: &str) -> Option<&str> {
    const SIGNS: [&str; 2] = [
        "waiting for someone to free space",
        "io error: 28 during write",
    ];
    let waits = |line: &&str| {
        let lower = line.to_ascii_lowercase();
        SIGNS.iter().any(|sign| lower.contains(sign))
    };
    log.lines().rfind(waits).map(message)
}

/// Errors of a server that came up all the same, each once, the first few.
pub fn complaints(log: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in log.lines().filter(|line| is_error(line)) {
        let text = message(line);
        if !found.iter().any(|known| known == text) {
            found.push(text.to_owned());
        }
    }
    found.truncate(COMPLAINTS_MAX);
    found
}

/// Not what a server says of replication: its relay logs may have been left out on purpose.
fn is_error(line: &str) -> bool {
    let about_replication = [
        "[Repl]",
        "relay log",
        "master info structure",
        "connection metadata structure",
    ];
    line.contains("[ERROR]") && !about_replication.iter().any(|words| line.contains(words))
}

/// The line without time stamp, thread and severity.
fn message(line: &str) -> &str {
    let rest = [
        "[ERROR]",
        "[Warning]",
        "[Note]",
        "[System]",
        "[FATAL]",
        "[Fatal]",
    ]
    .iter()
    .find_map(|mark| line.split_once(mark))
    .map_or(line, |(_, rest)| rest);
    // MySQL 8: `[MY-012345] [InnoDB] text`.
    let mut rest = rest.trim();
    while let Some(after) = rest
        .strip_prefix('[')
        .and_then(|inner| inner.split_once(']'))
        .map(|(_, after)| after.trim_start())
    {
        rest = after;
    }
    rest
}

/// What a person wants to see while recovery runs: the last line that speaks of it.
pub fn recovery_progress(log: &str) -> Option<&str> {
    log.lines().rev().find_map(|line| {
        let text = message(line);
        let lower = text.to_ascii_lowercase();
        let speaks = [
            "starting crash recovery",
            "to recover:",
            "apply batch",
            "applying a batch",
            "read redo log",
            "rolling back",
            "roll back",
            "rollback of",
            "doing recovery",
            "scanned up to",
            "aria engine: starting recovery",
            "recovered pages",
            "upgrade",
        ];
        speaks
            .iter()
            .any(|word| lower.contains(word))
            .then_some(text)
    })
}

#[cfg(test)]
mod tests;
