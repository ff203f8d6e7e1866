//! `pause SERVER`.

use std::time::Duration;

use serde_json::json;

use super::Cli;
use super::failure::Failure;
use super::session::with_context;
use super::ui::Ui;
use crate::snapshot::take::manual;

/// Stop a replica's SQL threads until `resume`, or until the time is over
///
/// Its IO threads go on receiving, so nothing is lost meanwhile. A watchdog resumes replication at
/// the deadline even when this machine's user has long gone home.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The replica, as the configuration names it
    server: String,

    /// Resume by itself after this long
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    length: Duration,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let report = with_context(cli, ui, |ctx| {
        Ok(manual::pause(ctx, &args.server, args.length, args.dry_run)?)
    })?;
    let json = json!({"pause": report, "dry_run": args.dry_run});
    ui.result(&json, || match (&report.deadline, args.dry_run) {
        (_, true) => format!("would run on {}:\n  {}", report.server, report.actions.join("\n  ")),
        (Some(deadline), false) => format!(
            "{} is paused ({}) and resumes by itself at {deadline}; `understudy resume {}` ends it sooner",
            report.server,
            report.channels.join(", "),
            report.server
        ),
        (None, false) => format!("already so: no SQL thread of {} runs", report.server),
    });
    Ok(())
}
