//! `snapshot unmount ID`.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::snapshot::keep::mounts;

/// Unmount a snapshot
///
/// Of a writable clone, all that was written to it is thrown away, which is asked before.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,

    /// Only what is mounted here
    dir: Option<PathBuf>,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let records = with_context(cli, ui, |ctx| {
        let planned = mounts::unmount(ctx, &args.id, args.dir.as_deref(), true)?;
        if args.dry_run || planned.is_empty() {
            return Ok(planned);
        }
        if let Some(clone) = planned.iter().find(|record| record.writable) {
            let place = clone.directory.display();
            ui.confirm(&format!("throw away what was written to {place}?"))?;
        }
        Ok(mounts::unmount(ctx, &args.id, args.dir.as_deref(), false)?)
    })?;
    let json = json!({"unmounted": records, "dry_run": args.dry_run});
    ui.result(&json, || match records.as_slice() {
        [] => format!("already so: {} isn't mounted", args.id),
        records => {
            let word = if args.dry_run {
                "would unmount"
            } else {
                "unmounted"
            };
            let lines: Vec<String> = records
                .iter()
                .map(|record| {
                    format!(
                        "{word} {} from {}",
                        record.snapshot,
                        record.directory.display()
                    )
                })
                .collect();
            lines.join("\n")
        }
    });
    Ok(())
}
