//! `repoint SERVER --to SOURCE`.

use serde_json::json;

use super::Cli;
use super::failure::Failure;
use super::page::Page;
use super::roles::steps;
use super::session::with_context;
use super::ui::Ui;
use crate::failover::repoint::{self, Request};

/// Make a replica follow another server of its pair, by GTID
///
/// Only the host and port of its link change; account, encryption, delay and filters stay. It is
/// refused when the replica has transactions that the other server hasn't. When it doesn't come to
/// replicate there, it follows its old source again.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The replica
    server: String,

    /// Whom it is to follow
    #[arg(long, value_name = "SERVER")]
    to: String,

    /// Only check, and say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let request = Request {
        server: args.server.clone(),
        to: args.to.clone(),
    };
    let report = with_context(cli, ui, |ctx| {
        Ok(match args.dry_run {
            true => repoint::look(ctx, &request)?,
            false => repoint::perform(ctx, &request)?,
        })
    })?;
    ui.result(&json!({"repoint": report}), || {
        let word = if report.dry_run {
            "would follow"
        } else {
            "follows"
        };
        let head = format!("{} {word} {}:", report.server, report.to);
        let mut lines = vec![head];
        lines.extend(steps(&report.steps, &Page::of_stdout()));
        lines.join("\n")
    });
    Ok(())
}
