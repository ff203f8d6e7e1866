//! `snapshot show ID`.

use serde_json::json;

use super::render;
use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::snapshot::keep::catalog;

/// Show everything about one snapshot
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let manifest = with_context(cli, ui, |ctx| {
        let snapshots = catalog::list(&ctx.config, &ctx.state, None)?;
        Ok(catalog::resolve(&snapshots, &args.id)?)
    })?;
    ui.result(&json!({"snapshot": manifest}), || render::show(&manifest));
    Ok(())
}
