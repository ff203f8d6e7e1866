//! `snapshot restore ID (--to DIR | --in-place)`.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::session::with_context;
use crate::cli::ui::{self, Ui};
use crate::snapshot::restore::directory::{self, Restored};
use crate::snapshot::restore::in_place::{self, Options, RolledBack};

/// Restore a snapshot: as an independent copy, or in place of the server's data
///
/// --to DIR: the copy shares nothing with the snapshot and boots as it is: a private server has come
/// up on it, recovered it, forgotten what it replicated from, and ended cleanly. The statements that
/// make a replica of it are printed. Interrupted, the same command goes on where it was.
///
/// --in-place: the present state is kept as a snapshot first (the undo), the server stopped, its
/// data made the snapshot's, the server started, and replication seen to catch up. Killed while the
/// data changes, `recover` carries it through. Restoring the undo snapshot in place goes back.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("how").required(true))]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,

    /// An empty directory with room for all of it
    #[arg(long, value_name = "DIR", group = "how")]
    to: Option<PathBuf>,

    /// In place of the server's data; asks first
    #[arg(long, group = "how")]
    in_place: bool,

    /// Go on although something is on this server alone; it stays in the undo snapshot
    #[arg(long, requires = "in_place")]
    accept_loss: bool,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let Some(to) = &args.to else {
        return in_place(cli, ui, args);
    };
    let restored = with_context(cli, ui, |ctx| {
        Ok(directory::restore_to(ctx, &args.id, to, args.dry_run)?)
    })?;
    let json = json!({"restore": restored, "dry_run": args.dry_run});
    ui.result(&json, || words(&restored, args.dry_run));
    Ok(())
}

fn words(restored: &Restored, dry_run: bool) -> String {
    if dry_run {
        let how = if restored.resumed {
            "go on restoring"
        } else {
            "restore"
        };
        return format!(
            "would {how} {} to {} and start {} on it, without network",
            restored.snapshot,
            restored.directory.display(),
            restored.server_binary.display()
        );
    }
    let took = |ms| ui::duration(Duration::from_millis(ms));
    let mut lines = vec![format!(
        "restored {} to {}: {} in {}, a server came up on it and ended cleanly in {}",
        restored.snapshot,
        restored.directory.display(),
        ui::bytes(restored.bytes),
        took(restored.copy_ms),
        took(restored.boot_ms)
    )];
    lines.push(format!(
        "  to start it:  {} --defaults-file={}",
        restored.server_binary.display(),
        restored.option_file.display()
    ));
    if !restored.statements.is_empty() {
        lines.push("  to make a replica of it, with a server_id of its own:".to_owned());
        lines.extend(
            restored
                .statements
                .iter()
                .map(|line| format!("    {line};")),
        );
    }
    lines.join("\n")
}

fn in_place(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let options = Options {
        accept_loss: args.accept_loss,
        rejoins: false,
    };
    let (plan, done) = with_context(cli, ui, |ctx| {
        let plan = in_place::plan(ctx, &args.id, options)?;
        if args.dry_run {
            return Ok((plan, None));
        }
        ui.confirm(&format!(
            "stop {} and make its data what it was at {}?",
            plan.server.name,
            plan.manifest.created_at()
        ))?;
        let done = in_place::restore(ctx, &plan.manifest.id, options)?;
        Ok((plan, Some(done)))
    })?;
    let json = match &done {
        Some(done) => json!({"restore": done, "dry_run": false}),
        None => json!({"dry_run": true, "plan": {
            "snapshot": plan.manifest.id,
            "server": plan.server.name,
            "steps": plan.steps,
            "warnings": plan.unknown_fit.iter().collect::<Vec<_>>(),
        }}),
    };
    ui.result(&json, || match &done {
        Some(done) => in_place_words(done),
        None => {
            let mut lines = vec![format!(
                "would restore {} in place of {}'s data:",
                plan.manifest.id, plan.server.name
            )];
            lines.extend(plan.steps.iter().map(|step| format!("  {step}")));
            let unknown = plan.unknown_fit.iter();
            lines.extend(unknown.map(|words| format!("  warning: {words}")));
            lines.join("\n")
        }
    });
    Ok(())
}

fn in_place_words(done: &RolledBack) -> String {
    let caught_up = match done.caught_up {
        None => String::new(),
        Some(true) => ", and has caught up".to_owned(),
        Some(false) => ", and is still catching up".to_owned(),
    };
    format!(
        "{} runs on {} after {} down, at GTID {}{caught_up}\n  the state before is kept as {}; to \
         go back: understudy snapshot restore {} --in-place",
        done.server,
        done.snapshot,
        ui::duration(Duration::from_millis(done.stopped_ms)),
        done.gtid,
        done.undo,
        done.undo
    )
}
