//! `snapshot extract ID`.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::failure::{Failure, Kind};
use crate::cli::page::{Column, Page, Table};
use crate::cli::session::with_context;
use crate::cli::ui::{self, Ui};
use crate::cli::{Cli, Output};
use crate::server::client::Existing;
use crate::snapshot::restore::extract::wanted::{Destination, Lineage, Options};
use crate::snapshot::restore::extract::{self, Extracted, expression};

/// Get tables or rows back as they were: "undo my delete"
///
/// A private server comes up on a clone of the snapshot, and the client's dump program writes the
/// tables as SQL, under their own schema names: to standard output, into a new file, or straight
/// into a server that can be written to. Where a table exists already, loading fails unless
/// --replace or --missing-rows says what to do.
///
/// With --where, --with-parents or --with-children it is a lineage: rows of one table, and what hangs
/// on them by foreign keys, in other schemas too, in an order that loads with foreign keys checked.
/// Rows of DataJoint's parts come together with those of their master. With --missing-rows all of
/// them are loaded in one transaction, or none.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
#[command(group = clap::ArgGroup::new("lineage").multiple(true))]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,

    /// A table; may be given several times
    #[arg(long = "table", value_name = "SCHEMA.TABLE", group = "what")]
    tables: Vec<String>,

    /// A whole schema with its routines and events; may be given several times
    #[arg(
        long = "schema",
        value_name = "SCHEMA",
        group = "what",
        conflicts_with = "lineage"
    )]
    schemas: Vec<String>,

    /// Only rows of the table that are so, as after WHERE in SQL
    #[arg(long = "where", value_name = "EXPR", group = "lineage")]
    condition: Option<String>,

    /// And all rows that chosen rows refer to
    #[arg(long, group = "lineage")]
    with_parents: bool,

    /// And all rows that refer to chosen rows: what DataJoint deletes along with them
    #[arg(long, group = "lineage")]
    with_children: bool,

    /// A new file for the SQL
    #[arg(long, value_name = "FILE", conflicts_with = "into")]
    to: Option<PathBuf>,

    /// Load it into this server of the configuration
    #[arg(long, value_name = "SERVER")]
    into: Option<String>,

    /// Drop tables that are there first
    #[arg(long, conflicts_with_all = ["missing_rows", "lineage"])]
    replace: bool,

    /// Leave tables that are there, and add only rows whose keys are missing
    #[arg(long)]
    missing_rows: bool,

    /// Only count the rows of each table
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let options = Options {
        tables: args.tables.clone(),
        schemas: args.schemas.clone(),
        lineage: lineage(args)?,
        destination: destination(cli, args)?,
        existing: match (args.replace, args.missing_rows) {
            (true, _) => Existing::Replace,
            (false, true) => Existing::AddRows,
            (false, false) => Existing::Fail,
        },
    };
    let extracted = with_context(cli, ui, |ctx| {
        if let Destination::Server(server) = &options.destination {
            let what = match &options.lineage {
                Some(_) => "rows",
                None => "tables",
            };
            let how = match options.existing {
                Existing::Replace => ", dropping tables of these names there",
                Existing::Fail | Existing::AddRows => "",
            };
            ui.confirm(&format!("load the {what} into {server}{how}?"))?;
        }
        Ok(extract::extract(ctx, &args.id, &options)?)
    })?;
    if options.destination == Destination::Output {
        return Ok(());
    }
    let json = json!({"extract": extracted, "dry_run": args.dry_run});
    ui.result(&json, || {
        words(&extracted, args.dry_run, &Page::of_stdout())
    });
    Ok(())
}

fn destination(cli: &Cli, args: &Args) -> Result<Destination, Failure> {
    Ok(match (&args.to, &args.into) {
        _ if args.dry_run => Destination::Nowhere,
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
    })
}

/// What is wrong with it, as far as that shows before there is a server.
fn lineage(args: &Args) -> Result<Option<Lineage>, Failure> {
    let lineage = Lineage {
        condition: args.condition.clone(),
        with_parents: args.with_parents,
        with_children: args.with_children,
    };
    if lineage.condition.is_none() && !lineage.with_parents && !lineage.with_children {
        return Ok(None);
    }
    if args.tables.len() != 1 {
        return Err(Failure::new(
            Kind::Usage,
            "a lineage begins with the rows of one table, and several are named",
        )
        .hint("Extract one after the other, or whole tables without --where and --with-…"));
    }
    if let Some(Err(wrong)) = args.condition.as_deref().map(expression::check) {
        let condition = args.condition.as_deref().unwrap_or_default();
        return Err(Failure::new(
            Kind::Usage,
            format!("--where {condition:?} is no expression: {wrong}"),
        )
        .hint("Give one condition, as it stands after WHERE: --where \"subject_id = 5\"."));
    }
    Ok(Some(lineage))
}

const COLUMNS: [Column; 3] = [
    Column::new("TABLE"),
    Column::new("ROWS"),
    Column::new("ABOUT"),
];

fn words(extracted: &Extracted, is_dry: bool, page: &Page) -> String {
    let place = match (&extracted.to, &extracted.into) {
        (Some(path), _) => format!(" to {}", path.display()),
        (None, Some(server)) => format!(" into {server}"),
        (None, None) => String::new(),
    };
    let snapshot = &extracted.snapshot;
    let sql = match is_dry {
        true => String::new(),
        false => format!(" ({} of SQL)", ui::bytes(extracted.bytes)),
    };
    let verb = ["extracted", "would extract"][usize::from(is_dry)];
    let Some(rows) = &extracted.rows else {
        let schemas = extracted.schemas.iter();
        let mut what = extracted.tables.clone();
        what.extend(schemas.map(|schema| format!("schema {schema}")));
        return format!("{verb} {} of {snapshot}{place}{sql}", what.join(", "));
    };
    let all: u64 = rows.iter().map(|row| row.rows).sum();
    let tables = rows.len();
    let mut lines = vec![format!(
        "{verb} {all} rows of {tables} tables of {snapshot}{place}{sql}:"
    )];
    let mut table = Table::new(&COLUMNS);
    for row in rows {
        table.row(vec![
            row.table.as_str().into(),
            row.rows.to_string().into(),
            ui::bytes(row.bytes_estimated).into(),
        ]);
    }
    lines.extend(table.render(page, 2));
    if let Some(there) = extracted.there_already.filter(|there| *there > 0) {
        lines.push(format!(
            "{there} of them were left out: their keys are there"
        ));
    }
    if !extracted.triggers.is_empty() {
        lines.push(format!(
            "triggers fire where rows are added: {}",
            extracted.triggers.join(", ")
        ));
    }
    lines.join("\n")
}
