//! `snapshot list [SERVER]`.

use serde_json::json;

use super::render;
use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::snapshot::keep::catalog;

/// List snapshots, newest first, as their volumes are now
///
/// Volumes of ours whose manifest is lost are shown as orphans, with what the volume itself knows.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this server's
    server: Option<String>,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let snapshots = with_context(cli, ui, |ctx| {
        Ok(catalog::list(
            &ctx.config,
            &ctx.state,
            args.server.as_deref(),
        )?)
    })?;
    let document = || json!({"snapshots": snapshots});
    ui.either(document, || {
        if snapshots.is_empty() {
            "no snapshots yet; `understudy snapshot create SERVER` takes one".to_owned()
        } else {
            render::list(&snapshots)
        }
    });
    Ok(())
}
