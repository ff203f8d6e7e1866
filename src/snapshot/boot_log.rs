//! What a server's own log tells of its start: how far recovery is, and why it didn't come up.
//!
//! Pure, over the text of the log. The words were read off real logs (MariaDB 10.11, MySQL 5.6 and
//! 9.7) of servers started on files that were damaged on purpose; tests/proof.rs does it again.

use serde::{Deserialize, Serialize};

/// Why a snapshot isn't good. Each has one cause and one cure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flaw {
    /// A copy-on-write area overflowed, or the kept volume is damaged.
    SpoiltVolume,
    MissingVolume,
    MissingFile,
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
            Self::CorruptPage => "a page is corrupt",
            Self::CorruptTable => "a table is corrupt",
            Self::WrongVersion => "this server can't read files of that version",
            Self::WrongSettings => "the server's settings don't fit the files",
            Self::MissingKeyRing => "the keys of the encrypted files are missing",
            Self::PositionDiffers => "the server came up at another position than the recorded one",
            Self::ForeignKeyOrphans => "rows refer to parents that aren't there",
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
            Self::MissingFile | Self::CorruptPage | Self::CorruptTable => {
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
            Self::DidNotStart => "Look at the log lines above.",
        }
    }
}

/// The words by which a log names a cause, the surest first. All lower case.
const SIGNS: [(Flaw, &[&str]); 5] = [
    (
        Flaw::WrongSettings,
        &[
            "but the innodb_page_size start-up parameter is",
            "innodb-page-size mismatch",
            "but the start-up parameter is",
            "different lower_case_table_names settings",
            "does not match the page size",
            "is of a different size",
        ],
    ),
    (
        Flaw::MissingKeyRing,
        &[
            "check keyring",
            "keyring is not",
            "keyring fail",
            "can't find master key",
            "encryption can't find",
            "key management plugin",
            "obtaining redo log encryption key",
            "decryption failed",
            "is encrypted but",
            "encryption key",
        ],
    ),
    (
        Flaw::WrongVersion,
        &[
            "unsupported redo log format",
            "upgrade after a crash is not supported",
            "downgrade after a crash is not supported",
            "redo log was created with",
            "invalid mysql server upgrade",
            "invalid mysql server downgrade",
            "cannot boot server version",
            "cannot upgrade server",
            "data dictionary version",
            "unknown redo log",
            "this version of mariadb",
            "invalid flags 0x",
            "unsupported tablespace format",
            "found existing mysql 8",
            "downgrade is not supported",
        ],
    ),
    (
        Flaw::CorruptPage,
        &[
            "corrupt",
            "checksum mismatch",
            "unable to read page",
            "bytes at offset",
            "outside the tablespace bounds",
            "outside the bounds",
            "is shorter than",
            "is smaller than",
            "page number",
            "invalid page",
            "not a multiple of page size",
            "the file size is",
            "tablespace is less than",
            "size of tablespace",
            "only contains",
        ],
    ),
    (
        Flaw::MissingFile,
        &[
            "operating system error number 2 in",
            "returned os error 2",
            "the error means the system cannot find the path",
            "was not found at",
            "no such file",
            "cannot open datafile",
            "can't find file",
            "os errno 2 ",
            "errcode: 2",
            "(os errno: 2",
            "could not find a valid tablespace file",
            "file not found",
            "missing tablespace",
        ],
    ),
];

/// The cause of a failed start and the lines that tell it.
pub fn diagnose(log: &str) -> (Flaw, String) {
    let complaints: Vec<&str> = log.lines().filter(|line| is_complaint(line)).collect();
    for (flaw, signs) in SIGNS {
        let tells = |line: &&str| {
            let line = line.to_ascii_lowercase();
            signs.iter().any(|sign| line.contains(sign))
        };
        if let Some(line) = complaints.iter().copied().find(tells) {
            return (flaw, message(line).to_owned());
        }
    }
    let last = complaints
        .iter()
        .rfind(|line| line.contains("[ERROR]") && message(line) != "Aborting")
        .or(complaints.last())
        .copied()
        .or_else(|| log.lines().rfind(|line| !line.trim().is_empty()))
        .unwrap_or("its log is empty");
    (Flaw::DidNotStart, message(last).to_owned())
}

/// Errors, warnings, and what InnoDB says without either before it gives up.
fn is_complaint(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    [
        "[error]",
        "[warning]",
        "[fatal]",
        "assertion failure",
        "innodb: error",
    ]
    .iter()
    .any(|sign| lower.contains(sign))
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
mod tests {
    use super::*;

    #[test]
    fn real_lines_are_told_apart() {
        let cases = [
            (
                "2026-11-22 [ERROR] InnoDB: Data file './ibdata1' uses page size 16384, but the innodb_page_size start-up parameter is 8192",
                Flaw::WrongSettings,
            ),
            (
                "2026-11-22T10:00:00Z 1 [ERROR] [MY-013090] [InnoDB] Unsupported redo log format (108).",
                Flaw::WrongVersion,
            ),
            (
                "[ERROR] InnoDB: Database page corruption on disk or a failed file read of page",
                Flaw::CorruptPage,
            ),
            (
                "[ERROR] InnoDB: Operating system error number 2 in a file operation.",
                Flaw::MissingFile,
            ),
            (
                "[ERROR] [MY-012657] [InnoDB] Encryption can't find master key, please check the keyring is loaded.",
                Flaw::MissingKeyRing,
            ),
            ("[ERROR] Aborting", Flaw::DidNotStart),
        ];
        for (line, flaw) in cases {
            let (found, evidence) = diagnose(line);
            assert_eq!(found, flaw, "{line}");
            assert!(!evidence.starts_with('['), "{evidence}");
        }
    }

    #[test]
    fn notes_are_no_complaints() {
        let log = "[ERROR] Plugin 'x' failed\n[ERROR] Aborting\n";
        assert_eq!(
            diagnose(log),
            (Flaw::DidNotStart, "Plugin 'x' failed".to_owned())
        );
        let log = "[Note] InnoDB: Checksum mismatch is looked for\n[ERROR] Aborting\n";
        assert_eq!(diagnose(log), (Flaw::DidNotStart, "Aborting".to_owned()));
        assert_eq!(diagnose("").0, Flaw::DidNotStart);
    }

    #[test]
    fn last_word_on_recovery_is_shown() {
        let log = "2026 [Note] InnoDB: Starting crash recovery from checkpoint LSN=1\n\
                   2026 [Note] InnoDB: To recover: 200 pages\nother\n";
        assert_eq!(
            recovery_progress(log),
            Some("InnoDB: To recover: 200 pages")
        );
        assert_eq!(recovery_progress("nothing"), None);
    }
}
