//! Where log lines and errors go: to stderr as text or JSON; or, where stderr is systemd's journal, to it
//! by its own protocol, so that each entry has fields to find it by.

use std::os::fd::AsFd;

use clap::ArgMatches;
use nix::sys::stat::fstat;
use tracing::Span;
use tracing::span::EnteredSpan;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::failure::{Failure, Kind};
use super::page::{Page, shown_lines};
use super::{Cli, LogFormat};

/// Before the names of our fields: `UNDERSTUDY_SERVER`.
const PREFIX: &str = "UNDERSTUDY";

/// Until it is dropped, entries of the journal say of which command they are.
pub struct Logs {
    in_journal: bool,
    _command: EnteredSpan,
}

/// The driver's and TLS library's own words stay out.
pub fn start(cli: &Cli, matches: &ArgMatches) -> Logs {
    let is_text = matches!(cli.log_format, LogFormat::Text);
    let in_journal = is_text && stderr_is_the_journal() && start_journal(cli, matches);
    if !in_journal {
        let builder = tracing_subscriber::fmt()
            .with_writer(std::io::stderr)
            .with_max_level(level(cli, LevelFilter::WARN))
            .with_target(false);
        match cli.log_format {
            LogFormat::Text => builder.with_ansi(Page::of_stderr().has_colours()).init(),
            LogFormat::Json => builder.json().init(),
        }
    }
    let span = match in_journal {
        true => tracing::error_span!(
            "command",
            server = named(matches),
            operation = tracing::field::Empty
        ),
        false => Span::none(),
    };
    Logs {
        in_journal,
        _command: span.entered(),
    }
}

impl Logs {
    /// What ended the command, and what to do; in the journal it is one entry. Whether it is there.
    pub fn failed(&self, failure: &Failure) -> bool {
        let mut lines = vec![failure.message.clone()];
        lines.extend(failure.hints.iter().map(|hint| format!("hint: {hint}")));
        self.noted(Some(failure.kind), &shown_lines(&lines.join("\n")));
        self.in_journal
    }

    /// Of one server of several.
    pub fn of_server(&self, server: &str) -> Span {
        match self.in_journal {
            true => tracing::error_span!("server", server, operation = tracing::field::Empty),
            false => Span::none(),
        }
    }

    /// What came of a job. That somebody else is at it is no failure.
    pub fn noted(&self, failed: Option<Kind>, text: &str) {
        match (self.in_journal, failed) {
            (true, None) => tracing::info!("{text}"),
            (true, Some(Kind::Busy)) => tracing::warn!("{text}"),
            (true, Some(_)) => tracing::error!("{text}"),
            (false, _) => {}
        }
    }
}

fn level(cli: &Cli, usual: LevelFilter) -> LevelFilter {
    match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => usual,
        (false, 1) => LevelFilter::INFO,
        (false, 2) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    }
}

/// A journal that doesn't answer is none.
fn start_journal(cli: &Cli, matches: &ArgMatches) -> bool {
    let Ok(layer) = tracing_journald::layer() else {
        return false;
    };
    let mut fields = vec![(format!("{PREFIX}_COMMAND"), command(matches))];
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // The journal looks a sender's unit up when it reads, and we may be gone by then; `journalctl -u`
    // looks here as well.
    let unit = unit(&cgroup).map(|unit| ("OBJECT_SYSTEMD_UNIT".to_owned(), unit.to_owned()));
    fields.extend(unit);
    let layer = layer
        .with_field_prefix(Some(PREFIX.to_owned()))
        .with_syslog_identifier("understudy".to_owned())
        .with_custom_fields(fields);
    let level = level(cli, LevelFilter::INFO);
    tracing_subscriber::registry()
        .with(level)
        .with(layer)
        .try_init()
        .is_ok()
}

fn stderr_is_the_journal() -> bool {
    let told = std::env::var("JOURNAL_STREAM").ok();
    let stderr = std::io::stderr();
    fstat(stderr.as_fd()).is_ok_and(|stat| is_stream(told.as_deref(), stat.st_dev, stat.st_ino))
}

/// `JOURNAL_STREAM` is `DEVICE:INODE` of the stream that systemd gave a unit. It is inherited, so that
/// stderr may be something else by now.
fn is_stream(told: Option<&str>, device: u64, inode: u64) -> bool {
    let parts = told.and_then(|told| told.split_once(':'));
    let numbers = parts.and_then(|(device, inode)| {
        Some((device.parse::<u64>().ok()?, inode.parse::<u64>().ok()?))
    });
    numbers == Some((device, inode))
}

/// The unit that a process of these control groups belongs to.
fn unit(cgroup: &str) -> Option<&str> {
    let line = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    line.rsplit('/').find(|part| part.ends_with(".service"))
}

/// `snapshot create`: none of its arguments.
fn command(matches: &ArgMatches) -> String {
    let mut words = Vec::new();
    let mut at = matches;
    while let Some((word, below)) = at.subcommand() {
        words.push(word);
        at = below;
    }
    words.join(" ")
}

/// The server that the command line names, where the command is about one.
fn named(matches: &ArgMatches) -> Option<&str> {
    let mut at = matches;
    while let Some((_, below)) = at.subcommand() {
        at = below;
    }
    at.try_get_one::<String>("server")
        .ok()
        .flatten()
        .map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_what_its_variable_says_and_nothing_else() {
        assert!(is_stream(Some("8:12345"), 8, 12345));
        for told in [
            None,
            Some(""),
            Some("8"),
            Some("8:"),
            Some("9:12345"),
            Some("8:1"),
            Some("8:12345:0"),
        ] {
            assert!(!is_stream(told, 8, 12345), "{told:?}");
        }
    }

    #[test]
    fn units_are_found() {
        let night = "0::/system.slice/system-understudy.slice/understudy@db2.service\n";
        assert_eq!(unit(night), Some("understudy@db2.service"));
        assert_eq!(unit("0::/user.slice/session-1.scope\n"), None);
        assert_eq!(
            unit("12:pids:/x.service\n0::/system.slice/y.service/sub\n"),
            Some("y.service")
        );
    }

    #[test]
    fn commands_are_named_without_their_arguments() {
        let words = [
            "understudy",
            "snapshot",
            "create",
            "db2",
            "--label",
            "s3cret",
        ];
        let matches = super::super::examples::command().get_matches_from(words);
        assert_eq!(
            (command(&matches).as_str(), named(&matches)),
            ("snapshot create", Some("db2"))
        );
        let matches = super::super::examples::command().get_matches_from(["understudy", "status"]);
        assert_eq!(
            (command(&matches).as_str(), named(&matches)),
            ("status", None)
        );
    }
}
