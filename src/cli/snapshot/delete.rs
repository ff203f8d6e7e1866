//! `snapshot delete ID`.

use serde_json::json;

use super::render;
use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::snapshot::keep::lifecycle;

/// Delete one snapshot: its volumes and its manifest
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,

    /// Only say what would be deleted
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let manifest = with_context(cli, ui, |ctx| {
        let manifest = lifecycle::delete(ctx, &args.id, true)?;
        if args.dry_run {
            return Ok(manifest);
        }
        ui.confirm(&format!("delete {}?", manifest.id))?;
        Ok(lifecycle::delete(ctx, &manifest.id, false)?)
    })?;
    let json = json!({"snapshot": render::document(&manifest, None), "deleted": !args.dry_run, "dry_run": args.dry_run});
    ui.result(&json, || {
        let volumes: Vec<&str> = manifest.volumes.iter().map(|v| v.name.as_str()).collect();
        let would = if args.dry_run {
            "would delete"
        } else {
            "deleted"
        };
        format!("{would} {} ({})", manifest.id, volumes.join(", "))
    });
    Ok(())
}
