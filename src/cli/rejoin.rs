//! `rejoin SERVER`.

use serde_json::json;

use super::Cli;
use super::failure::Failure;
use super::page::Page;
use super::roles::steps;
use super::session::with_context;
use super::ui::Ui;
use crate::failover::rejoin::{self, Report, Request, Way};
use crate::replication::plan::Provision;

/// Make a former source a replica again, after a failover
///
/// It is closed for writers first, whatever comes then. When it has nothing that the new source lacks,
/// it follows the new source by GTID. When it has more, that is exported as SQL with its GTIDs, beside
/// the receipts, and told; then it goes back to a snapshot of before (--rollback), or gets the new
/// source's data (--provision). Without either it is refused, and stays closed: nothing is skipped or
/// thrown away.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("way"))]
pub struct Args {
    /// The server that comes back
    server: String,

    /// Has it more: back to its newest snapshot that fits the new source; asks first. Its state before
    /// is kept as a snapshot, held
    #[arg(long, group = "way")]
    rollback: bool,

    /// Has it more: all data from the new source, as setup does it; asks first
    #[arg(long, group = "way", value_name = "clone|dump", value_parser = parse_provision)]
    provision: Option<Provision>,

    /// Only check, and say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

fn parse_provision(word: &str) -> Result<Provision, String> {
    match word {
        "clone" => Ok(Provision::Clone),
        "dump" => Ok(Provision::Dump),
        _ => Err("it is clone or dump".to_owned()),
    }
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let request = Request {
        server: args.server.clone(),
        way: match (&args.provision, args.rollback) {
            (Some(provision), _) => Way::Provision(provision.clone()),
            (None, true) => Way::Rollback,
            (None, false) => Way::Refuse,
        },
    };
    let report = with_context(cli, ui, |ctx| {
        if args.dry_run {
            return Ok(rejoin::look(ctx, &request)?);
        }
        let mut ask = |question: &str| ui.confirm(question).is_ok();
        Ok(rejoin::perform(ctx, &request, &mut ask)?)
    })?;
    ui.result(&json!({"rejoin": report}), || {
        text(&report, &Page::of_stdout())
    });
    Ok(())
}

fn text(report: &Report, page: &Page) -> String {
    let word = if report.dry_run {
        "would follow"
    } else {
        "follows"
    };
    let head = format!("{} {word} {}:", report.server, report.source);
    let mut lines = vec![head];
    lines.extend(steps(&report.steps, page));
    if let Some(lost) = &report.surplus {
        lines.push(format!(
            "  what it alone had is in {}: {} transactions, {}",
            lost.export.as_deref().unwrap_or_default(),
            lost.transactions.unwrap_or_default(),
            lost.gtid
        ));
    }
    if let Some(undo) = &report.undo {
        lines.push(format!("  its state before is kept as {undo}, held"));
    }
    for warning in &report.warnings {
        lines.extend(page.hanging("  warning: ", 4, warning));
    }
    lines.join("\n")
}
