//! `snapshot mount ID DIR`.

use std::path::PathBuf;

use serde_json::json;

use crate::cli::Cli;
use crate::cli::failure::Failure;
use crate::cli::session::with_context;
use crate::cli::ui::Ui;
use crate::snapshot::keep::mounts;

/// Mount a snapshot on an empty directory, to look into it
///
/// Read-only unless --writable is given: then it is a clone, and what is written to it goes with
/// `unmount`. Nothing on it can be executed. While it is mounted the snapshot can't be deleted.
/// Several volumes become directories in DIR.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An id, an unambiguous prefix of one, or latest:SERVER
    id: String,

    /// An empty directory
    dir: PathBuf,

    /// A clone that can be written to
    #[arg(long)]
    writable: bool,

    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(cli: &Cli, ui: &Ui, args: &Args) -> Result<(), Failure> {
    let (record, changed) = with_context(cli, ui, |ctx| {
        Ok(mounts::mount(
            ctx,
            &args.id,
            &args.dir,
            args.writable,
            args.dry_run,
        )?)
    })?;
    let json = json!({"mount": record, "changed": changed, "dry_run": args.dry_run});
    ui.result(&json, || {
        let words = match (changed, args.dry_run) {
            (false, _) => "already so: ",
            (true, true) => "would mount ",
            (true, false) => "mounted ",
        };
        let data = record.data_dir.as_ref().map_or(String::new(), |path| {
            format!("; the data directory is {}", path.display())
        });
        let how = if record.writable {
            "as a writable clone"
        } else {
            "read-only"
        };
        format!(
            "{words}{} on {} {how}{data}",
            record.snapshot,
            record.directory.display()
        )
    });
    Ok(())
}
