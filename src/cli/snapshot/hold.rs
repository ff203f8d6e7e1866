//! `snapshot hold ID` and `snapshot release ID`.

use serde_json::json;

use super::render;
use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::snapshot::keep::lifecycle;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args, held: bool) -> Result<(), Failure> {
    let (manifest, changed) = with_context(cli, ui, |ctx| {
        Ok(lifecycle::set_held(ctx, &args.id, held, args.dry_run)?)
    })?;
    let json = json!({"snapshot": render::document(&manifest, None), "changed": changed, "dry_run": args.dry_run});
    ui.result(&json, || {
        let word = if held { "held" } else { "not held" };
        match (changed, args.dry_run) {
            (false, _) => format!("already so: {} is {word}", manifest.id),
            (true, true) => format!("{} would be {word}", manifest.id),
            (true, false) => format!("{} is {word} now", manifest.id),
        }
    });
    Ok(())
}
