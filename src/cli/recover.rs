//! `recover [SERVER]`.

use serde_json::json;

use super::Cli;
use super::aftermath;
use super::failure::{Failure, Kind};
use super::session::with_context;
use super::ui::Ui;
use crate::snapshot::keep::lifecycle;

/// Finish or undo what interrupted operations left
///
/// Thaws, unlocks, resumes replication as it was, and removes half-made snapshots. Run it by hand,
/// and at boot; every command that changes a server runs it first for that server.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this server; else all that the configuration names
    server: Option<String>,

    /// Only say what is left over
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let recovered = with_context(cli, ui, |ctx| {
        let server = args.server.as_deref();
        Ok(if args.dry_run {
            lifecycle::left_over(ctx, server)?
        } else {
            let recovered = lifecycle::recover_servers(ctx, server);
            // Whatever came of that: who has to hear of the run has to hear of it.
            aftermath::settle_all(ctx, server);
            recovered?
        })
    })?;
    let json = json!({"recovered": recovered, "dry_run": args.dry_run});
    let left: Vec<&str> = recovered
        .iter()
        .flat_map(|operation| operation.left.iter().map(String::as_str))
        .collect();
    if !left.is_empty() {
        return Err(Failure::new(Kind::NeedsOperator, left.join("; ")).with(json));
    }
    ui.result(&json, || {
        if recovered.is_empty() {
            return "nothing was left over".to_owned();
        }
        let lines: Vec<String> = recovered
            .iter()
            .map(|operation| {
                let actions = match operation.actions.as_slice() {
                    [] => "nothing to put back".to_owned(),
                    actions => actions.join("; "),
                };
                format!("{} of {}: {actions}", operation.operation, operation.server)
            })
            .collect();
        lines.join("\n")
    });
    Ok(())
}
