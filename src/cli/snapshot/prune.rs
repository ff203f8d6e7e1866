//! `snapshot prune [SERVER]`.

use serde_json::json;

use crate::cli::Cli;
use crate::cli::failure::{Failure, Kind};
use crate::cli::page::{Cell, Page, prose_table};
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::snapshot::keep::lifecycle::{self, Pruned};

/// Delete what no retention rule keeps
///
/// Held snapshots and the only good one are never deleted. --dry-run shows each one with the
/// reasons that keep it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this server's
    server: Option<String>,

    /// Only say what would be kept and what deleted, with the reasons
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let server = args.server.as_deref();
    let pruned = with_context(cli, ui, |ctx| {
        let planned = lifecycle::prune(ctx, server, true)?;
        let surplus = planned.iter().filter(|p| !p.keep).count();
        if args.dry_run || surplus == 0 {
            return Ok(planned);
        }
        ui.confirm(&format!("delete {surplus} of {} snapshots?", planned.len()))?;
        Ok(lifecycle::prune(ctx, server, false)?)
    })?;
    let json = json!({"pruned": pruned, "dry_run": args.dry_run});
    ui.result(&json, || render(&pruned, args.dry_run, &Page::of_stdout()));
    let failed: Vec<&str> = pruned.iter().filter_map(|p| p.error.as_deref()).collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(Kind::Failed, failed.join("; ")))
    }
}

fn render(pruned: &[Pruned], dry_run: bool, page: &Page) -> String {
    if pruned.is_empty() {
        return "no snapshots to prune".to_owned();
    }
    let rows: Vec<Vec<Cell>> = pruned
        .iter()
        .map(|p| {
            let what = match (p.keep, dry_run, &p.error) {
                (true, _, _) => "keep",
                (false, true, _) => "would delete",
                (false, false, None) => "deleted",
                (false, false, Some(_)) => "failed",
            };
            let reasons = p.error.clone().unwrap_or_else(|| p.reasons.join(", "));
            vec![what.into(), p.id.as_str().into(), reasons.into()]
        })
        .collect();
    prose_table(page, 0, &rows).join("\n")
}
