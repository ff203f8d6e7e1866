//! `snapshot show ID`.

use serde_json::json;

use super::render;
use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::page::Page;
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::snapshot::keep::{catalog, present};

/// Show everything about one snapshot
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let (manifest, fit) = with_context(cli, ui, |ctx| {
        let manifest = catalog::find(ctx, &args.id)?;
        let fit = present::fits(ctx, std::slice::from_ref(&manifest)).pop();
        Ok((manifest, fit.flatten()))
    })?;
    let document = json!({"snapshot": render::document(&manifest, fit.as_ref())});
    ui.result(&document, || {
        render::show(&manifest, fit.as_ref(), &Page::of_stdout())
    });
    Ok(())
}
