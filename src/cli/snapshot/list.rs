//! `snapshot list [SERVER]`.

use serde_json::json;

use super::render;
use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::page::Page;
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::snapshot::keep::{catalog, present};

/// List snapshots, newest first, as their volumes are now
///
/// Of each it is said whether it fits its pair's present source, which is asked for two seconds at
/// most: a snapshot of before a failover may be ahead of it, with transactions that the failover lost.
///
/// Volumes of ours whose manifest is lost are shown as orphans, with what the volume itself knows.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this server's
    server: Option<String>,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let (snapshots, fits) = with_context(cli, ui, |ctx| {
        let snapshots = catalog::list(&ctx.config, &ctx.state, args.server.as_deref())?;
        let fits = present::fits(ctx, &snapshots);
        Ok((snapshots, fits))
    })?;
    let document = || {
        let each = snapshots.iter().zip(&fits);
        let each: Vec<_> = each
            .map(|(manifest, fit)| render::document(manifest, fit.as_ref()))
            .collect();
        json!({"snapshots": each})
    };
    ui.either(document, || {
        if snapshots.is_empty() {
            "no snapshots yet; `understudy snapshot create SERVER` takes one".to_owned()
        } else {
            render::list(&snapshots, &fits, &Page::of_stdout())
        }
    });
    Ok(())
}
