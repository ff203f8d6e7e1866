//! `rejoin SERVER`.

use serde_json::json;

use super::Cli;
use super::failure::Failure;
use super::roles::steps;
use super::session::with_context;
use super::ui::Ui;
use crate::failover::rejoin;

/// Make a former source a replica again, after a failover
///
/// It is closed for writers first, whatever comes then. When it has nothing that the new source lacks,
/// it follows the new source by GTID. When it has more, that is told and refused: nothing is skipped
/// or thrown away.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server that comes back
    server: String,

    /// Only check, and say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let report = with_context(cli, ui, |ctx| {
        Ok(match args.dry_run {
            true => rejoin::look(ctx, &args.server)?,
            false => rejoin::perform(ctx, &args.server)?,
        })
    })?;
    ui.result(&json!({"rejoin": report}), || {
        let word = if report.dry_run {
            "would follow"
        } else {
            "follows"
        };
        let head = format!("{} {word} {}:", report.server, report.source);
        let mut lines = vec![head, steps(&report.steps)];
        for warning in &report.warnings {
            lines.push(format!("  warning: {warning}"));
        }
        lines.join("\n")
    });
    Ok(())
}
