//! The command line: one file per command, with its arguments and one function that reads in
//! order – resolve, check, act, report. The only room that prints.

mod aftermath;
mod check;
mod completions;
mod config;
mod doctor;
mod examples;
mod exposition;
mod failover;
mod failure;
mod grants;
mod heartbeat;
mod history;
mod init;
mod logs;
mod man;
mod methods;
mod metrics;
mod pace;
mod page;
mod pause;
mod recover;
mod rejoin;
mod repoint;
mod resume;
mod roles;
mod run;
mod session;
mod setup;
mod snapshot;
mod status;
mod switchover;
mod telling;
mod ui;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::error::{ContextValue, ErrorKind};
use clap::{FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::journal::watchdog;
use failure::{Failure, Kind};
use ui::Ui;

/// Behind a command's own options in its help.
const GLOBAL: &str = "Global options";

/// With the commit that a package was built from (`scripts/package`).
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("UNDERSTUDY_COMMIT").filter(|commit| !commit.is_empty()) {
        Some(commit) => format!("{version} ({commit})"),
        None => version.to_owned(),
    }
});

/// Sets up and watches pairs of MySQL or MariaDB servers; takes snapshots of replicas with the SQL
/// thread paused, on ZFS, LVM, btrfs or as plain copies, and puts replication back whatever happens
/// to this command; proves that the snapshots boot, and restores from them.
///
/// Exit codes: 0 done; 1 failed, and what had been changed was put back; 2 wrong usage; 3 invalid
/// configuration; 4 refused by a safety rule, nothing was changed; 5 failed, and something needs an
/// operator; 6 another operation holds this server.
#[derive(Debug, Parser)]
#[command(name = "understudy", version = VERSION.as_str(), propagate_version = true)]
pub struct Cli {
    /// Configuration file [default: $UNDERSTUDY_CONFIG, ./understudy.toml,
    /// /etc/understudy/understudy.toml]
    #[arg(short, long, global = true, help_heading = GLOBAL, value_name = "FILE")]
    config: Option<PathBuf>,

    /// What stdout holds: text for people, or exactly one JSON document
    #[arg(short, long, global = true, help_heading = GLOBAL, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Say more on stderr; twice for even more
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Say nothing on stderr but errors
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    quiet: bool,

    /// How log lines on stderr look
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// Answer yes to every question; needed where there is no terminal to ask on
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    yes: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
    /// Of `check` alone
    Prometheus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check the configuration, or print an example of one
    #[command(subcommand)]
    Config(config::Command),
    Init(init::Args),
    /// Take, list, keep, prove and restore snapshots
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    Run(run::Args),
    History(history::Args),
    Methods(methods::Args),
    Setup(setup::Args),
    Switchover(switchover::Args),
    Failover(failover::Args),
    Rejoin(rejoin::Args),
    Repoint(repoint::Args),
    Pause(pause::Args),
    Resume(resume::Args),
    Recover(recover::Args),
    Status(status::Args),
    Check(check::Args),
    Doctor(doctor::Args),
    Grants(grants::Args),
    Heartbeat(heartbeat::Args),
    Completions(completions::Args),
    Man(man::Args),
}

/// Runs the command line and returns its exit code.
pub fn main() -> ExitCode {
    let first = std::env::args_os().nth(1);
    if first.is_some_and(|word| word == watchdog::COMMAND) {
        watchdog::run();
        return ExitCode::SUCCESS;
    }
    let parsed = examples::command()
        .try_get_matches()
        .and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage(escaped(error)),
    };
    let ui = Ui::new(&cli, logs::start(&cli, &matches));
    if let Command::Check(args) = &cli.command {
        return check::run(&cli, &ui, args);
    }
    if cli.output == Output::Prometheus {
        let failure = Failure::new(Kind::Usage, "only `check` has an output for Prometheus");
        ui.failure(&failure.hint("Give --output text or json."));
        return ExitCode::from(Kind::Usage.code());
    }
    match run(&cli, &ui) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            ui.failure(&failure);
            failure.exit_code()
        }
    }
}

fn run(cli: &Cli, ui: &Ui) -> Result<(), Failure> {
    match &cli.command {
        Command::Config(command) => config::run(cli, ui, command),
        Command::Init(args) => init::run(cli, ui, args),
        Command::Snapshot(command) => snapshot::run(cli, ui, command),
        Command::Run(args) => run::run(cli, ui, args),
        Command::History(args) => history::run(cli, ui, args),
        Command::Methods(args) => methods::run(cli, ui, args),
        Command::Setup(args) => setup::run(cli, ui, args),
        Command::Switchover(args) => switchover::run(cli, ui, args),
        Command::Failover(args) => failover::run(cli, ui, args),
        Command::Rejoin(args) => rejoin::run(cli, ui, args),
        Command::Repoint(args) => repoint::run(cli, ui, args),
        Command::Pause(args) => pause::run(cli, ui, args),
        Command::Resume(args) => resume::run(cli, ui, args),
        Command::Recover(args) => recover::run(cli, ui, args),
        Command::Status(args) => status::run(cli, ui, args),
        // Its exit codes aren't ours; `main` runs it.
        Command::Check(_) => Ok(()),
        Command::Doctor(args) => doctor::run(cli, ui, args),
        Command::Grants(args) => grants::run(cli, ui, args),
        Command::Heartbeat(args) => heartbeat::run(cli, ui, args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

/// With control characters of the command line's own words escaped: clap repeats what it refuses.
fn escaped(mut error: clap::Error) -> clap::Error {
    let own: Vec<_> = error
        .context()
        .filter_map(|(kind, value)| {
            let value = match value {
                ContextValue::String(text) => ContextValue::String(page::shown(text)),
                ContextValue::Strings(texts) => {
                    ContextValue::Strings(texts.iter().map(|text| page::shown(text)).collect())
                }
                // Usage and styled advice are clap's own, or made of what stands here.
                _ => return None,
            };
            Some((kind, value))
        })
        .collect();
    for (kind, value) in own {
        error.insert(kind, value);
    }
    error
}

/// As clap prints it; plain where a word of the command line could colour it. What is repeated by a
/// parser's own error is in no context of clap's.
fn print_usage(error: &clap::Error, words: &[String]) {
    match words.iter().any(|word| word.contains(char::is_control)) {
        true => ui::print_error(&page::shown_lines(&error.render().to_string())),
        false => drop(error.print()),
    }
}

/// What clap has to say: help and version are no errors; the rest is exit 2, as JSON where asked.
fn usage(error: clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let wants_json = words
        .iter()
        .any(|word| word == "--output=json" || word == "-ojson")
        || words
            .windows(2)
            .any(|pair| (pair[0] == "-o" || pair[0] == "--output") && pair[1] == "json");
    if is_for_check(&words) {
        return check::usage(&error.render().to_string());
    }
    if wants_json {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default();
        let failure = Failure::new(Kind::Usage, message.trim_start_matches("error: "))
            .hint("See `understudy --help`.");
        ui::print_json(&failure.json());
    } else {
        print_usage(&error, &words);
    }
    ExitCode::from(Kind::Usage.code())
}

/// A monitoring system takes 2 for CRITICAL: a mistake in how it calls us is UNKNOWN.
fn is_for_check(words: &[String]) -> bool {
    let takes_value =
        |word: &str| matches!(word, "-c" | "--config" | "-o" | "--output" | "--log-format");
    let mut words = words.iter().skip(1);
    while let Some(word) = words.next() {
        if takes_value(word) {
            words.next();
        } else if !word.starts_with('-') {
            return word == "check";
        }
    }
    false
}

#[cfg(test)]
mod contract_tests;
#[cfg(test)]
mod manual_tests;
#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Cli, escaped, page};

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
    /// Whatever refuses it: a parser of ours, one of a library, clap itself.
    #[test]
    fn a_refused_word_is_never_repeated_raw() {
        const HOSTILE: &str = "x\u{1b}]0;t\u{7}\u{1b}[2J\r\ny\u{9b}";
        let create = ["snapshot", "create", "db2"];
        for args in [
            [&create[..], &["--label", HOSTILE]].concat(),
            [&create[..], &["--tag", HOSTILE]].concat(),
            [&create[..], &["--hold", HOSTILE]].concat(),
            vec!["setup", "lab", "--provision", HOSTILE],
            vec!["pause", "db2", "--for", HOSTILE],
            vec!["pause", "db2", "--for", "1\u{1b}[2J"],
            vec!["check", "--rule", HOSTILE],
            vec!["heartbeat", "lab", "--interval", HOSTILE],
            vec!["status", "--output", HOSTILE],
            vec![HOSTILE],
            vec!["status", "--\u{1b}[2J"],
        ] {
            let words = [&["understudy"], &args[..]].concat();
            let error = Cli::try_parse_from(&words).expect_err("it is refused");
            let text = page::shown_lines(&escaped(error).render().to_string());
            let raw = |c: char| c.is_control() && c != '\n';
            assert!(!text.contains(raw), "{args:?}: {text:?}");
            assert!(!text.contains("\ny"), "{args:?}: {text:?}");
        }
    }
}
