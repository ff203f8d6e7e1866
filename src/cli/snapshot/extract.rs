//! `snapshot extract ID`.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::failure::{Failure, Kind};
use crate::cli::session::with_context;
use crate::cli::ui::{self, Ui};
use crate::cli::{Cli, Output};
use crate::server::client::Existing;
use crate::snapshot::restore::extract::{self, Destination, Options};

/// Get tables back as they were: "undo my delete"
///
/// A private server comes up on a clone of the snapshot, and the client's dump program writes the
/// tables as SQL, under their own schema names: to standard output, into a new file, or straight
/// into a server that can be written to. Where a table exists already, loading fails unless
/// --replace or --missing-rows says what to do.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,

    /// A table; may be given several times
    #[arg(long = "table", value_name = "SCHEMA.TABLE", group = "what")]
    tables: Vec<String>,

    /// A whole schema with its routines and events; may be given several times
    #[arg(long = "schema", value_name = "SCHEMA", group = "what")]
    schemas: Vec<String>,

    /// A new file for the SQL
    #[arg(long, value_name = "FILE", conflicts_with = "into")]
    to: Option<PathBuf>,

    /// Load it into this server of the configuration
    #[arg(long, value_name = "SERVER")]
    into: Option<String>,

    /// Drop tables that are there first
    #[arg(long, conflicts_with = "missing_rows")]
    replace: bool,

    /// Leave tables that are there, and add only rows whose keys are missing
    #[arg(long)]
    missing_rows: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let destination = match (&args.to, &args.into) {
        (Some(path), _) => {
            Destination::File(std::path::absolute(path).unwrap_or_else(|_| path.clone()))
        }
        (None, Some(server)) => Destination::Server(server.clone()),
        (None, None) if cli.output == Output::Json => {
            return Err(Failure::new(
                Kind::Usage,
                "with JSON on stdout the SQL needs another place",
            )
            .hint("Give --to FILE or --into SERVER."));
        }
        (None, None) => Destination::Output,
    };
    let existing = match (args.replace, args.missing_rows) {
        (true, _) => Existing::Replace,
        (false, true) => Existing::AddRows,
        (false, false) => Existing::Fail,
    };
    let options = Options {
        tables: args.tables.clone(),
        schemas: args.schemas.clone(),
        destination,
        existing,
    };
    let extracted = with_context(cli, ui, |ctx| {
        if let Destination::Server(server) = &options.destination {
            let how = match existing {
                Existing::Replace => ", dropping tables of these names there",
                Existing::Fail | Existing::AddRows => "",
            };
            ui.confirm(&format!("load the tables into {server}{how}?"))?;
        }
        Ok(extract::extract(ctx, &args.id, &options)?)
    })?;
    if options.destination == Destination::Output {
        return Ok(());
    }
    ui.result(&json!({"extract": extracted}), || {
        let mut what = extracted.tables.clone();
        what.extend(
            extracted
                .schemas
                .iter()
                .map(|schema| format!("schema {schema}")),
        );
        let place = match (&extracted.to, &extracted.into) {
            (Some(path), _) => format!("to {}", path.display()),
            (None, Some(server)) => format!("into {server}"),
            (None, None) => String::new(),
        };
        format!(
            "extracted {} of {} {place} ({} of SQL)",
            what.join(", "),
            extracted.snapshot,
            ui::bytes(extracted.bytes)
        )
    });
    Ok(())
}
