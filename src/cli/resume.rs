//! `resume SERVER`.

use serde_json::json;

use super::Cli;
use super::failure::Failure;
use super::session::with_context;
use super::ui::Ui;
use crate::snapshot::take::manual;

/// End a pause: start exactly the SQL threads that it stopped
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The replica, as the configuration names it
    server: String,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let report = with_context(cli, ui, |ctx| {
        Ok(manual::resume(ctx, &args.server, args.dry_run)?)
    })?;
    let json = json!({"resume": report, "dry_run": args.dry_run});
    ui.result(&json, || {
        if args.dry_run && !report.actions.is_empty() {
            format!(
                "would do on {}:\n  {}",
                report.server,
                report.actions.join("\n  ")
            )
        } else if report.changed {
            format!(
                "{} applies again ({})",
                report.server,
                report.channels.join(", ")
            )
        } else {
            format!("already so: {} isn't paused by understudy", report.server)
        }
    });
    Ok(())
}
